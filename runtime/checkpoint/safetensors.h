/* runtime/checkpoint/safetensors.h: the safetensors file format, read and written.
 *
 * A file is a u64 header length (little endian), a JSON header that gives each tensor's dtype, shape
 * and byte range, and the tensors' bytes, which cover the rest with no gap and no overlap. The
 * reader trusts nothing: what does not hold is a STATUS_INPUT failure that names the file, the
 * tensor and what is wrong, and the bytes it hands out lie in the mapping. (A file that another
 * process cuts short while it is mapped still ends this process: that is how mappings are.)
 *
 * The writer orders tensors by element size, largest first, then by name, so that each is aligned to
 * its elements and equal contents make equal files. It adds one metadata entry per tensor,
 * "xxh3-128:<name>", with the hash of its bytes.
 * Format: github.com/huggingface/safetensors, README. */
#ifndef PL_SAFETENSORS_H
#define PL_SAFETENSORS_H
#include "support/io.h"

/* name in the file, bytes per element */
#define SAFE_DTYPES(X) \
	X(F64, 8)      \
	X(F32, 4)      \
	X(F16, 2)      \
	X(BF16, 2)     \
	X(F8_E4M3, 1)  \
	X(F8_E5M2, 1)  \
	X(F8_E8M0, 1)  \
	X(C64, 8)      \
	X(I64, 8)      \
	X(I32, 4)      \
	X(I16, 2)      \
	X(I8, 1)       \
	X(U64, 8)      \
	X(U32, 4)      \
	X(U16, 2)      \
	X(U8, 1)       \
	X(BOOL, 1)

typedef enum SafeDtype {
#define X(name, size) SAFE_##name,
	SAFE_DTYPES(X)
#undef X
	SAFE_DTYPE_COUNT
} SafeDtype;

const char *safe_dtype_name(SafeDtype dtype);
u32 safe_dtype_size(SafeDtype dtype);

/* Memory that the host cannot address: a device's. */
typedef struct FarMemory {
	Status (*read)(void *cx, u64 at, void *to, u64 bytes);
	Status (*write)(void *cx, u64 at, const void *from, u64 bytes);
	void *cx;
} FarMemory;

/* A tensor that a program holds: where to save from and load to. Names are unique within a list. It has
 * safe_buffer_bytes(b) bytes, row major, without gaps: at `data`, or from byte `at` of `far` on. */
typedef struct NamedBuffer {
	const char *name;
	SafeDtype dtype;
	u32 rank;
	const i64 *dim;
	void *data;
	const FarMemory *far; /* where `data` is NULL */
	u64 at;
	bool optional; /* files to load from may lack it: all that are so, or none */
	bool *kept;    /* not NULL: they may lack it by itself, or have it in another shape. Then it keeps what it has, as this says */
	const struct TensorPart *part; /* of a larger tensor, which `name` names (part.h); NULL: it is all of it */
} NamedBuffer;

u64 safe_buffer_bytes(const NamedBuffer *b);
/* `bytes` of it from its byte `from` on. */
PL_MUST_USE Status safe_buffer_read(const NamedBuffer *b, u64 from, void *to, u64 bytes);
PL_MUST_USE Status safe_buffer_write(const NamedBuffer *b, u64 to, const void *from, u64 bytes);

typedef struct TextPair {
	const char *key, *value;
} TextPair;

/* ---- reading ---- */

enum { SAFE_HASH_TEXT = 33 }; /* 32 hexadecimal digits and a zero */

typedef struct SafeTensor {
	const char *name; /* no control characters */
	SafeDtype dtype;
	u32 rank;
	const i64 *dim;
	Blob data;        /* in the mapping */
	u64 begin;        /* of the data, in bytes from the start of the file */
	u32 file;         /* index into Safetensors.file */
	const char *hash; /* the one its file's metadata states, or NULL */
	const struct SafePart *part; /* [npart] where it is there in parts, and has no data of its own (part.h) */
	u32 npart;
} SafeTensor;

typedef struct SafePart {
	const struct TensorPart *part;
	const SafeTensor *tensor; /* that has it */
} SafePart;

typedef struct SafeFile {
	const char *path;
	Blob bytes;        /* the whole file */
	u64 header;        /* bytes in front of the data, the length field included */
	TextPair *meta;    /* __metadata__, hashes included, in the file's order */
	u32 nmeta;
	Mapping mapping;
} SafeFile;

typedef struct Safetensors {
	SafeFile *file;
	u32 nfile;
	SafeTensor *tensor; /* file by file, in the order of their bytes */
	u32 ntensor;
	u32 *by_name; /* indices into tensor, sorted */
} Safetensors;

/* Opens a file; an index ("*.json", as in model.safetensors.index.json) with the files it lists; or a
 * folder that holds model.safetensors or model.safetensors.index.json. On failure nothing is open. */
PL_MUST_USE Status safetensors_open(Arena *a, const char *path, Safetensors *out);
/* Several files, as one. */
PL_MUST_USE Status safetensors_open_all(Arena *a, const char *const *path, u32 n, Safetensors *out);
/* Open ones as one, which closes them; a name in two is an error, and then all of them are closed. */
PL_MUST_USE Status safetensors_join(Arena *a, const Safetensors *part, u32 n, Safetensors *out);
void safetensors_close(Safetensors *s);
/* One file that is in memory already; `path` is for messages. `bytes` must outlive `out`. */
PL_MUST_USE Status safetensors_parse(Arena *a, const char *path, Blob bytes, Safetensors *out);

const SafeTensor *safetensors_find(const Safetensors *s, const char *name);
/* The value of a metadata entry of the first file, or NULL. */
const char *safetensors_meta(const Safetensors *s, const char *key);

/* "F32[50257, 768]" */
const char *safe_type_text(Arena *a, SafeDtype dtype, u32 rank, const i64 *dim);
/* A string that came from a file, fit for a message: quoted, control characters escaped, cut short. */
const char *safe_quoted(Arena *a, Str text);
void safe_hash(Blob bytes, char out[SAFE_HASH_TEXT]);

/* ---- writing ---- */

typedef struct SafeWriter {
	Arena *arena;
	const NamedBuffer *buffer;
	u32 n;
	u32 *order; /* order[k] is the index of the buffer whose bytes come k-th */
	const TextPair *meta;
	u32 nmeta;
	u32 at;                       /* how many buffers are written whole */
	u64 left;                     /* bytes still missing of buffer order[at] */
	char (*hash)[SAFE_HASH_TEXT]; /* by place in the order; zeros until known */
	void *hashing;
	u64 header; /* bytes in front of the data */
	AtomicFile file;
} SafeWriter;

/* What commit made, for whoever records it. */
typedef struct SafeWritten {
	u64 bytes;
	char header_hash[SAFE_HASH_TEXT]; /* of all that stands in front of the data; as it holds each
					     tensor's hash, it stands for the whole file */
} SafeWritten;

/* Streams a file: create, then the bytes of the buffers in `order` in pieces of any size (the
 * buffers' `data` is not looked at), then commit, which makes the file appear under its name whole
 * and synced; or abandon. Lists and names must live until then. After a failed put, abandon. */
PL_MUST_USE Status safetensors_create(Arena *a, const char *path, const NamedBuffer *buffer, u32 n,
				      const TextPair *meta, u32 nmeta, SafeWriter *out);
PL_MUST_USE Status safetensors_put(SafeWriter *w, const void *bytes, size_t n);
PL_MUST_USE Status safetensors_commit(SafeWriter *w, SafeWritten *out);
void safetensors_abandon(SafeWriter *w);

/* The text of an index over files that are open: which tensor is in which. */
Str safetensors_index_text(Arena *a, const Safetensors *s);

/* All of it, from the buffers' data; `out` may be NULL. */
PL_MUST_USE Status safetensors_write(const char *path, const NamedBuffer *buffer, u32 n,
				     const TextPair *meta, u32 nmeta, SafeWritten *out);

#endif
