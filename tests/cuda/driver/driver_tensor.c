/* driver_tensor.c: cuTensorMapEncodeTiled: the rules that the driver enforces, and a description for the
 * stand-in's bulk copies. */
#include "driver.h"
#include "tensor_map.h"

enum { SWIZZLE_NONE, SWIZZLE_32, SWIZZLE_64, SWIZZLE_128 };

static u32 element_bytes(int type)
{
	static const u8 bytes[] = { 1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4 };
	return type >= 0 && (u32)type < COUNT(bytes) ? bytes[type] : 0;
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, int type, u32 rank, void *base, const u64 *size, const u64 *stride,
				const u32 *box, const u32 *step, int interleave, int swizzle, int promotion, int fill)
{
	(void)promotion;
	u32 element = element_bytes(type);
	u64 address = (u64)(uintptr_t)base;
	TensorMap t = { .magic = TENSOR_MAP_MAGIC, .base = address, .rank = (u8)rank, .element = (u8)element, .fill = (u8)fill };
	if ((uintptr_t)map % 64 || address % 16 || !element || rank < 1 || rank > 5)
		return driver_fail(CUDA_ERROR_INVALID_VALUE, "cuTensorMapEncodeTiled: map, address, type or rank");
	if (interleave)
		return driver_fail(CUDA_ERROR_NOT_SUPPORTED, "cuTensorMapEncodeTiled: interleaved layouts are not known");
	if (swizzle < SWIZZLE_NONE || swizzle > SWIZZLE_128)
		return driver_fail(CUDA_ERROR_NOT_SUPPORTED, "cuTensorMapEncodeTiled: swizzle %d is not known", swizzle);
	t.swizzle = (u8)(swizzle == SWIZZLE_NONE ? 0 : 16 << swizzle);
	for (u32 i = 0; i < rank; i++) {
		if (!size[i] || size[i] > (u64)1 << 32 || !box[i] || box[i] > 256 || (step && step[i] != 1))
			return driver_fail(CUDA_ERROR_INVALID_VALUE, "cuTensorMapEncodeTiled: dimension %u: size %llu, box %u", i,
					   (unsigned long long)size[i], box[i]);
		t.size[i] = (u32)MIN(size[i], 0xffffffffu);
		t.box[i] = (u16)box[i];
		if (i && (stride[i - 1] % 16 || stride[i - 1] >= (u64)1 << 40))
			return driver_fail(CUDA_ERROR_INVALID_VALUE, "cuTensorMapEncodeTiled: stride %llu", (unsigned long long)stride[i - 1]);
		if (i)
			t.stride[i - 1] = stride[i - 1];
	}
	if (box[0] * element % 16 || (t.swizzle && box[0] * element > t.swizzle))
		return driver_fail(CUDA_ERROR_INVALID_VALUE, "cuTensorMapEncodeTiled: a box of %u bytes in the first dimension", box[0] * element);
	memset(map, 0, sizeof *map);
	memcpy(map, &t, sizeof t);
	return CUDA_SUCCESS;
}
