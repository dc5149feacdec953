/* runtime/cuda/cuda.h: a package on a GPU, as the files of this folder share it. One stream runs everything in
 * order; one beside it is for collectives, which the first waits for by events where the plan says so; another uploads, so that
 * the next batch is on its way while a step runs. Each entry is captured once into a graph and replayed, in parts where stages of a
 * pipeline speak to one another. Nothing is compiled or measured after `open`. */
#ifndef PL_CUDA_H
#define PL_CUDA_H
#include "runtime/cuda/cublaslt.h"
#include "runtime/cuda/driver.h"
#include "runtime/cuda/nccl.h"
#include "runtime/device.h"
#include "support/str.h"

/* Who does a step: generated code; the library; or, of a product with a sum beside it, the library the product and generated code
 * the sum. */
typedef enum CudaWay { CUDA_BY_CODE, CUDA_BY_LIBRARY, CUDA_BY_BOTH, CUDA_WAYS } CudaWay;

/* A step, ready: `function` with `parameter`, or a matrix product of the library's. */
typedef struct CudaStep {
	const PackageStep *step;
	CudaFunction **function; /* [nphase]; NULL where only the library can */
	void **parameter;        /* of each phase */
	CublasMatmul *matmul[CUDA_WAYS]; /* the library's part; NULL: it has none, or cannot */
	CudaWay way;             /* which of them runs */
	const char *key;         /* of a step that a library could do: the same for equal products; else NULL */
	u32 number;              /* of a collective: which it is, of all in the package */
} CudaStep;

/* Steps of an entry that are captured together, or one message between stages. */
typedef struct CudaPart {
	u32 from, to;        /* steps */
	CudaGraphRun *graph; /* NULL: not captured yet */
	bool message;
	bool says;           /* has collectives */
	bool said;           /* and has run: NCCL has made its connections */
} CudaPart;

typedef struct CudaEntry {
	const PackageEntry *entry;
	CudaStep *step;
	CudaPart *part;
	u32 npart;
} CudaEntry;

/* What one value, or a sum among some stages, goes through; see stages.c. */
typedef struct CudaChannel {
	u32 mesh, first, tag; /* axis; the sender's coordinate, or the first member's; which value */
	u64 members;          /* coordinates, bits; one: a stage tells itself */
	u32 entries[2];       /* of a step: that receive, that send */
	NcclComm *comm;
	CudaStream *stream;
	CudaEvent *made;      /* what the next message reads, or what is before it where that goes */
	CudaEvent **done;     /* [places] what was sent from there; of who receives, [1] */
	CudaAddress place;    /* of who sends: [places] of `bytes`, aligned */
	u64 bytes;
	u32 places, sent, received;
} CudaChannel;

enum { CUDA_SCRATCH_ALIGN = 256 };

/* What ranks say to one another in the middle of a step. */
typedef struct CudaMesh {
	const Nccl *nccl;
	NcclComm *group[6];   /* of each mesh axis */
	CudaAddress scratch;  /* for tensors that are not cut along their first axis */
	u64 scratch_bytes, places_bytes;
	CudaChannel *channel; /* between stages */
	u32 nchannel;
	const PackageStep **step; /* [nstep] the package's collectives */
	u32 nstep;
	CudaStream *stream;   /* of collectives, one behind the other */
	CudaEvent *made;      /* what the next one reads */
	CudaEvent **done;     /* [nstep] */
	CudaAddress numbers;  /* on the device: 0, 1, 2, ..., to be copied */
	u32 *now;             /* pinned: which collective has begun last; nstep: none */
} CudaMesh;

/* A place in pinned memory and its twin on the device, through which everything is uploaded. */
typedef struct CudaSlot {
	u8 *host;
	CudaAddress device;
	CudaEvent *uploaded, *free;
} CudaSlot;

enum { CUDA_SLOTS = 32 };

typedef struct Cuda {
	const Package *package;
	const CudaDriver *d;
	DeviceOptions options;
	DeviceInfo info;
	Arena memory;
	int device;
	CudaContext *context;
	CudaStream *stream, *copies;
	CudaEvent *from, *to; /* of a timed step */
	CudaAddress arena;
	CudaModule **module;  /* [nimage] */
	CudaEntry *entry;     /* [nentry] */
	/* transfers */
	CudaSlot slot[CUDA_SLOTS];
	u64 slot_bytes;
	u32 next_slot;
	u8 *pinned;           /* the slots' and fetches' host memory */
	CudaAddress staging;  /* the slots' device memory */
	u64 staging_bytes;
	CudaEvent *fetched[DEVICE_FETCHES];
	/* matrix products by the library */
	Cublas *cublas;       /* NULL: no step wants it */
	CudaAddress workspace;
	u64 workspace_bytes;
	bool ran;             /* choices are settled */
	CudaMesh *mesh;       /* NULL: there is nobody else */
} Cuda;

/* load.c: images, functions, parameters. */
PL_MUST_USE Status cuda_load(Cuda *c);
void cuda_unload(Cuda *c);

/* launch.c */
PL_MUST_USE Status cuda_launch(Cuda *c, const CudaStep *s);
PL_MUST_USE Status cuda_run(Cuda *c, const PackageEntry *entry, StepHook *hook, void *cx);
void cuda_drop_graphs(Cuda *c);

/* collective.c; between some of the ranks along an axis, stages.c */
PL_MUST_USE Status cuda_mesh_open(Cuda *c);
void cuda_mesh_close(Cuda *c);
/* Ends what is under way, after a failure. */
void cuda_mesh_abort(Cuda *c);
/* A collective on a stream, or on that of collectives, behind what has been given to the step's: until cuda_hear, which makes what
 * is given to the step's stream from then on wait for it. */
PL_MUST_USE Status cuda_say(Cuda *c, const CudaStep *s, CudaStream *stream);
PL_MUST_USE Status cuda_say_beside(Cuda *c, const CudaStep *s);
PL_MUST_USE Status cuda_hear(Cuda *c, const CudaStep *s);
/* For whoever waits: this collective is the one under way. */
PL_MUST_USE Status cuda_tell_now(Cuda *c, const CudaStep *s, CudaStream *stream);
/* For the event, or (NULL) for all that was given to the stream; fails where another rank is gone. */
PL_MUST_USE Status cuda_wait(Cuda *c, CudaEvent *event);
/* Which GPU is a rank's that is so many on its host. */
PL_MUST_USE Status cuda_rank_device(const CudaDriver *d, u32 local_rank, u32 *index);

/* stages.c: whether it is a message between stages, which cuda_message puts where it belongs in the order of the step's stream. */
bool cuda_between_stages(const PackageCollective *w);
PL_MUST_USE Status cuda_message(Cuda *c, const CudaStep *s);
/* Who takes part in a collective. */
NcclComm *cuda_members(const Cuda *c, const PackageCollective *w);
/* After the mesh is there; every rank calls. */
PL_MUST_USE Status cuda_channels_open(Cuda *c);
void cuda_channels_close(Cuda *c);
void cuda_channels_abort(Cuda *c);

/* transfer.c */
PL_MUST_USE Status cuda_transfer_open(Cuda *c);
void cuda_transfer_close(Cuda *c);
PL_MUST_USE Status cuda_write(Cuda *c, u64 offset, const void *from, u64 bytes);
PL_MUST_USE Status cuda_read(Cuda *c, u64 offset, void *to, u64 bytes);
PL_MUST_USE Status cuda_fetch(Cuda *c, u64 offset, u32 bytes, u32 slot);
PL_MUST_USE Status cuda_fetched(Cuda *c, u32 slot, u32 bytes, void *to);

/* matmul.c: which of generated code and library runs each matrix product. */
PL_MUST_USE Status cuda_matmuls_open(Cuda *c);
u32 cuda_matmuls_choices(const Cuda *c, Arena *a, const DeviceChoice **out);
PL_MUST_USE Status cuda_matmuls_choose(Cuda *c, const DeviceChoice *choice, u32 n);
f64 cuda_matmuls_peak(Cuda *c, PackageDtype dtype);

/* datasheet.c: dense peak of products of bf16, or of f8e4m3, FLOPs a second; 0: not in the table, or it has none. */
f64 cuda_datasheet(const char *device, PackageDtype products);

#endif
