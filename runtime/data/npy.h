/* runtime/data/npy.h: NumPy's format for one array (NEP 1): read, with every size checked against the file. */
#ifndef PL_DATA_NPY_H
#define PL_DATA_NPY_H
#include "runtime/checkpoint/safetensors.h"

typedef struct NpyArray {
	SafeDtype dtype;
	u32 rank;
	i64 dim[10];
	Blob data; /* row-major, in the file's bytes */
} NpyArray;

/* `path` is for messages; `bytes` must outlive `out`. Little-endian numbers and booleans in C order, which is what
 * numpy.save writes. */
PL_MUST_USE Status npy_parse(const char *path, Blob bytes, NpyArray *out);

#endif
