/* cublaslt_abi.h: the part of cuBLASLt's binary interface that the stand-in offers, with the values of
 * CUDA 13's cublasLt.h, cublas_api.h and library_types.h. */
#ifndef STANDIN_CUBLASLT_ABI_H
#define STANDIN_CUBLASLT_ABI_H
#include "cuda_abi.h"

typedef struct Handle Handle;
typedef struct MatmulDesc MatmulDesc;
typedef struct MatrixLayout MatrixLayout;
typedef struct Preference Preference;

enum { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14, R_8F_E4M3 = 28, R_8F_E5M2 = 29 };
enum { COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_FAST_16F = 74, COMPUTE_FAST_16BF = 75, COMPUTE_FAST_TF32 = 77 };
enum { EPILOGUE_RELU = 2, EPILOGUE_BIAS = 4, EPILOGUE_BGRAD = 16, EPILOGUE_GELU = 32, EPILOGUE_DGELU = 64,
       EPILOGUE_AUX = 128, EPILOGUE_BGRADA = 256, EPILOGUE_BGRADB = 512 };
/* Attributes. */
enum { DESC_TRANSA = 3, DESC_TRANSB = 4, DESC_EPILOGUE = 7, DESC_BIAS_POINTER = 8, DESC_AUX_POINTER = 11, DESC_AUX_LD = 12,
       DESC_AUX_BATCH_STRIDE = 13, DESC_A_SCALE_POINTER = 17, DESC_B_SCALE_POINTER = 18, DESC_AUX_TYPE = 22, DESC_FAST_ACCUM = 25,
       DESC_BIAS_TYPE = 26 };
enum { LAYOUT_ORDER = 1, LAYOUT_BATCH = 5, LAYOUT_BATCH_STRIDE = 6 };
enum { PREFERENCE_WORKSPACE = 1 };

typedef struct Heuristic {
	u64 algorithm[8];
	size_t workspace;
	int state;
	f32 waves;
	int reserved[4];
} Heuristic;

API int cublasLtCreate(Handle **out);
API int cublasLtDestroy(Handle *h);
API size_t cublasLtGetVersion(void);
API const char *cublasLtGetStatusName(int status);
API const char *cublasLtGetStatusString(int status);
API int cublasLtMatmulDescCreate(MatmulDesc **out, int compute, int scale);
API int cublasLtMatmulDescDestroy(MatmulDesc *d);
API int cublasLtMatmulDescSetAttribute(MatmulDesc *d, int what, const void *value, size_t bytes);
API int cublasLtMatrixLayoutCreate(MatrixLayout **out, int type, u64 rows, u64 columns, i64 ld);
API int cublasLtMatrixLayoutDestroy(MatrixLayout *l);
API int cublasLtMatrixLayoutSetAttribute(MatrixLayout *l, int what, const void *value, size_t bytes);
API int cublasLtMatmulPreferenceCreate(Preference **out);
API int cublasLtMatmulPreferenceDestroy(Preference *p);
API int cublasLtMatmulPreferenceSetAttribute(Preference *p, int what, const void *value, size_t bytes);
API int cublasLtMatmulAlgoGetHeuristic(Handle *h, MatmulDesc *d, MatrixLayout *a, MatrixLayout *b, MatrixLayout *c,
				       MatrixLayout *out, Preference *p, int most, Heuristic *results, int *n);
API int cublasLtMatmul(Handle *h, MatmulDesc *d, const void *alpha, u64 a, MatrixLayout *la, u64 b, MatrixLayout *lb,
		       const void *beta, u64 c, MatrixLayout *lc, u64 out, MatrixLayout *ld, const u64 *algorithm,
		       u64 workspace, size_t workspace_bytes, CUstream stream);
#endif
