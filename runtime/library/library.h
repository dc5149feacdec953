/* runtime/library/library.h: what an exported library consists of besides its kernels: one object, compiled from
 * these sources when Plinth is built and linked into every library. Depends on the C library and threads alone.
 *
 * The functions that a user calls are made for each model by the exporter (codegen/cpu/library.c) under the model's
 * name, and documented in its header; each calls the one here of the same name. A model does not change after it
 * was created, so that any number of threads may run it at once, each with a workspace of its own. */
#ifndef PL_LIBRARY_H
#define PL_LIBRARY_H
#include "codegen/package.h"

/* Code for one kind of processor. ORDER of fields: codegen/cpu/library.c makes these structures. */
typedef struct LibraryVariant {
	const char *cpu, *features;      /* "x86-64-v3", "avx2,fma": see cpu_lacks */
	const void *package;             /* package_encode */
	u64 package_bytes;
	KernelFunction *const *function; /* by PackageStep.code */
	u64 nfunction;
} LibraryVariant;

typedef struct LibraryModel {
	const char *name;
	const LibraryVariant *variant; /* the last that runs here is used */
	u64 nvariant;
	const void *weights;           /* a safetensors file; NULL: given to create */
	u64 weights_bytes;
} LibraryModel;

/* ORDER of fields: the exported header has these structures too (tools/export_header.c). */
typedef struct LibraryTensor {
	const char *name, *dtype; /* "f32" */
	int rank;
	i64 dim[10];
	size_t bytes;
	const char *shape; /* "B, T, 768" */
} LibraryTensor;

typedef struct LibraryAxis {
	const char *name;
	i64 most;
} LibraryAxis;

typedef struct LibraryEntry {
	const char *name;
	int ninput, nresult;
	const LibraryTensor *input, *result;
	double flops; /* of one run */
} LibraryEntry;

typedef struct LibraryInfo {
	const char *model, *plinth, *cpu;
	int nentry;
	const LibraryEntry *entry;
	size_t weights_bytes, state_bytes;
	int naxis;
	const LibraryAxis *axis;
} LibraryInfo;

typedef enum LibraryError {
	LIBRARY_OK,
	LIBRARY_ARGUMENT,
	LIBRARY_FILE,
	LIBRARY_MEMORY,
	LIBRARY_UNSUPPORTED,
	LIBRARY_DEVICE,
	LIBRARY_SIZE,
	LIBRARY_ERRORS
} LibraryError;

typedef struct Library Library;
typedef struct LibraryCuda LibraryCuda;
typedef struct Threads LibraryThreads;

/* Names that no other library in a program has by chance; versions of Plinth do not meet. */
#define library_create           plinth_library_1_create
#define library_verify           plinth_library_1_verify
#define library_destroy          plinth_library_1_destroy
#define library_describe         plinth_library_1_describe
#define library_workspace_bytes  plinth_library_1_workspace_bytes
#define library_state_bytes      plinth_library_1_state_bytes
#define library_run              plinth_library_1_run
#define library_threads_create   plinth_library_1_threads_create
#define library_threads_destroy  plinth_library_1_threads_destroy
#define library_error            plinth_library_1_error
#define library_cuda_create          plinth_library_1_cuda_create
#define library_cuda_destroy         plinth_library_1_cuda_destroy
#define library_cuda_workspace_bytes plinth_library_1_cuda_workspace_bytes
#define library_cuda_run             plinth_library_1_cuda_run
#define library_cuda_memory          plinth_library_1_cuda_memory
#define library_cuda_release         plinth_library_1_cuda_release
#define library_cuda_upload          plinth_library_1_cuda_upload
#define library_cuda_download        plinth_library_1_cuda_download

int library_create(const LibraryModel *model, const char *weights, Library **out, char *error, size_t error_bytes);
int library_verify(const LibraryModel *model, const char *weights, char *error, size_t error_bytes);
void library_destroy(Library *l);
const LibraryInfo *library_describe(const Library *l);
/* size: of each axis of the package; NULL where it has none. */
size_t library_workspace_bytes(const Library *l, const i64 *size, unsigned threads);
size_t library_state_bytes(const Library *l);
int library_run(const Library *l, unsigned entry, const i64 *size, const void *const *input, void *const *result, void *state,
		void *workspace, size_t workspace_bytes, LibraryThreads *threads);
int library_threads_create(unsigned count, LibraryThreads **out);
void library_threads_destroy(LibraryThreads *t);
const char *library_error(int code);

/* On a GPU: tensors, state and workspace are its memory, aligned to 64, the workspace to 256; `stream` is a CUstream. */
int library_cuda_create(const LibraryModel *model, const char *weights, int device, LibraryCuda **out, char *error,
			size_t error_bytes);
void library_cuda_destroy(LibraryCuda *c);
size_t library_cuda_workspace_bytes(const LibraryCuda *c, const i64 *size);
int library_cuda_run(const LibraryCuda *c, unsigned entry, const i64 *size, const void *const *input, void *const *result, void *state,
		     void *workspace, size_t workspace_bytes, void *stream);
int library_cuda_memory(const LibraryCuda *c, size_t bytes, void **out);
void library_cuda_release(const LibraryCuda *c, void *p);
int library_cuda_upload(const LibraryCuda *c, void *to, const void *from, size_t bytes, void *stream);
int library_cuda_download(const LibraryCuda *c, void *to, const void *from, size_t bytes, void *stream);

/* ---- inside: what libraries for CPUs and GPUs share ---- */

typedef struct LibraryBase {
	Package package;
	LibraryInfo info;
	u64 *kept;      /* [package.nbuffer] of what is kept between runs: its place in the caller's state */
	u64 state;      /* bytes */
	u32 most_slots, most_numbers; /* of a step */
	Arena arena;
} LibraryBase;

/* Reads the variant's package, and describes it. */
PL_MUST_USE Status library_base_open(LibraryBase *b, const LibraryVariant *v);
/* The failure's code, its text in `error`. */
int library_failed(Status s, char *error, size_t error_bytes);

/* ---- inside: weights.c ---- */

typedef struct LibraryWeights {
	Blob bytes;  /* of the file */
	bool mapped; /* by library_weights_map */
} LibraryWeights;

/* Those of the file, or embedded; nothing where the package reads none. */
PL_MUST_USE Status library_weights_open(const LibraryBase *b, const LibraryModel *model, const char *path, LibraryWeights *out);
PL_MUST_USE Status library_weights_map(const char *path, LibraryWeights *out);
/* Compares all tensors of a file with the hashes that it states; that it states none of one is a failure too. */
PL_MUST_USE Status library_weights_verify(const char *path, Blob file);
void library_weights_unmap(LibraryWeights *w);
/* Where each parameter of the package is in the file; what does not lie at a multiple of its element's size is copied to
 * the arena. All must be there with dtype and shape of the package; other tensors are left alone. */
PL_MUST_USE Status library_weights_find(Arena *arena, const char *path, const LibraryWeights *w, const Package *p, const u8 **at);

#endif
