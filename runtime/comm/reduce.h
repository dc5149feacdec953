/* runtime/comm/reduce.h: what a collective that reduces does to elements. */
#ifndef PL_COMM_REDUCE_H
#define PL_COMM_REDUCE_H
#include "codegen/package.h"

/* to[i] = to[i] (+) from[i], rounded to their type each time; the two do not overlap. */
void reduce_into(PackageReduce how, u8 dtype, void *to, const void *from, u64 n);

#endif
