/* tensor_map.h: what cuTensorMapEncodeTiled writes into the 128 opaque bytes, and bulk copies read. */
#ifndef STANDIN_TENSOR_MAP_H
#define STANDIN_TENSOR_MAP_H
#include "support/base.h"

#define TENSOR_MAP_MAGIC 0x70616d2d72736e74u

typedef struct TensorMap {
	u64 magic;
	u64 base;
	u8 rank, element, swizzle, fill; /* swizzle: 0, or 32, 64, 128; fill 1: NaN */
	u32 size[5];
	u16 box[5];
	u64 stride[4];                   /* bytes, from the second dimension on */
} TensorMap;

_Static_assert(sizeof(TensorMap) <= 128, "a tensor map has 128 bytes");

/* Where a byte of a swizzled tile lies: bits of the row go into the place of its 16-byte chunk. */
static inline u32 swizzled(u32 address, u32 span)
{
	return span ? address ^ (address >> 7 & (span / 16 - 1)) << 4 : address;
}
#endif
