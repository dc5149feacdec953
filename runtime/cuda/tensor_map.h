/* runtime/cuda/tensor_map.h: a package's tensor map as the driver encodes it, for kernels that read by the bulk copy engine. For the runtime and for
 * exported libraries. */
#ifndef PL_CUDA_TENSOR_MAP_H
#define PL_CUDA_TENSOR_MAP_H
#include "codegen/package.h"
#include "runtime/cuda/driver.h"

/* The map of a tensor that begins at `address`; the driver's code, 0 where all is well. */
static inline int cuda_map_encode(const CudaDriver *d, const PackageTensorMap *m, CudaAddress address, CudaMap *out)
{
	/* values of cuda.h: CUtensorMapDataType (floats of 8 bits are moved as bytes), CUtensorMapSwizzle, CUtensorMapL2promotion */
	enum { RANK = 5, UINT8 = 0, FLOAT16 = 6, FLOAT32 = 7, BFLOAT16 = 9, L2_128 = 2 };
	int dtype = m->dtype == PACKAGE_F16 ? FLOAT16 : m->dtype == PACKAGE_F32 ? FLOAT32 : m->dtype == PACKAGE_BF16 ? BFLOAT16 : UINT8;
	int swizzle = m->swizzle == 128 ? 3 : m->swizzle == 64 ? 2 : m->swizzle == 32 ? 1 : 0;
	u64 size = dtype == UINT8 ? 1 : dtype == FLOAT32 ? 4 : 2, extent[RANK], stride[RANK];
	u32 box[RANK], one[RANK];
	for (u32 i = 0; i < m->rank; i++) {
		extent[i] = m->extent[i];
		box[i] = m->box[i];
		one[i] = 1;
		if (i)
			stride[i - 1] = m->stride[i] * size;
	}
	return d->map_encode(out, dtype, m->rank, (void *)(uintptr_t)address, extent, stride, box, one, 0, swizzle, L2_128, 0);
}

#endif
