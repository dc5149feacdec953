/* runtime/cuda/nccl.h: NVIDIA's library of collectives, libnccl.so.2, loaded when ranks with GPUs have something to say: by
 * a list of symbols, with prototypes of our own, as driver.h has. */
#ifndef PL_CUDA_NCCL_H
#define PL_CUDA_NCCL_H
#include "codegen/package.h"
#include "runtime/cuda/driver.h"

typedef struct NcclComm NcclComm;

/* ncclUniqueId: what the members of a communicator have in common before they meet; passed by value. */
typedef struct NcclId {
	char bytes[128];
} NcclId;

/* Values of nccl.h that are used. */
enum { NCCL_IN_PROGRESS = 7, NCCL_BYTES = 1 /* ncclUint8 */ };

#define NCCL_FUNCTIONS(F)                                                                                                        \
	F(version, "ncclGetVersion", (int *out))                                                                                 \
	F(unique_id, "ncclGetUniqueId", (NcclId *out))                                                                           \
	F(join, "ncclCommInitRank", (NcclComm **out, int ranks, NcclId id, int rank))                                            \
	F(leave, "ncclCommDestroy", (NcclComm *c))                                                                               \
	F(abort, "ncclCommAbort", (NcclComm *c))                                                                                 \
	F(async_error, "ncclCommGetAsyncError", (NcclComm *c, int *out))                                                         \
	F(group_start, "ncclGroupStart", (void))                                                                                 \
	F(group_end, "ncclGroupEnd", (void))                                                                                     \
	F(all_reduce, "ncclAllReduce", (CudaAddress from, CudaAddress to, size_t n, int dtype, int op, NcclComm *c, CudaStream *s)) \
	F(all_gather, "ncclAllGather", (CudaAddress from, CudaAddress to, size_t n, int dtype, NcclComm *c, CudaStream *s))      \
	F(reduce_scatter, "ncclReduceScatter",                                                                                   \
	  (CudaAddress from, CudaAddress to, size_t n, int dtype, int op, NcclComm *c, CudaStream *s))                           \
	F(send, "ncclSend", (CudaAddress from, size_t n, int dtype, int peer, NcclComm *c, CudaStream *s))                       \
	F(receive, "ncclRecv", (CudaAddress to, size_t n, int dtype, int peer, NcclComm *c, CudaStream *s))

typedef struct Nccl {
	int number;       /* 22809 is 2.28.9 */
	const char *path; /* what was loaded */
	const char *(*error_text)(int code);
#define F(field, name, arguments) int(*field) arguments;
	NCCL_FUNCTIONS(F)
#undef F
} Nccl;

/* Loads it, once in a process: libnccl.so.2, or the file that PLINTH_LIBNCCL names. */
PL_MUST_USE Status nccl_library(const Nccl **out);
/* What `code` means, after "cannot <what>". */
PL_MUST_USE Status nccl_failed(const Nccl *n, int code, const char *what);
/* ncclDataType_t of what can be added, and ncclRedOp_t. */
int nccl_dtype(PackageDtype dtype);
int nccl_reduce(PackageReduce how);

/* TRY for its calls: NC(n, "send", n->send(...)). */
#define NC(n, what, call)                                          \
	do {                                                       \
		int code_ = (call);                                \
		if (code_ && code_ != NCCL_IN_PROGRESS)            \
			return nccl_failed((n), code_, (what));    \
	} while (0)

#endif
