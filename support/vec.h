/* support/vec.h: a growing array in an arena. Declare with VEC(T), push with VEC_PUSH; read the
 * fields directly. A push may move the elements: hold indices, not pointers. */
#ifndef PL_VEC_H
#define PL_VEC_H
#include "support/arena.h"
#include <string.h>

#define VEC(T)            \
	struct {          \
		T *v;     \
		u32 n, cap; \
	}

static inline void *vec_grow(Arena *a, const void *v, u32 n, u32 *cap, size_t size)
{
	u32 more = *cap ? *cap * 2 : 8;
	void *p = arena_push(a, size, more, 16);
	if (n)
		memcpy(p, v, size * n);
	*cap = more;
	return p;
}

#define VEC_PUSH(arena, vec, ...)                                                           \
	do {                                                                                \
		if ((vec)->n == (vec)->cap)                                                 \
			(vec)->v = vec_grow((arena), (vec)->v, (vec)->n, &(vec)->cap,       \
					    sizeof *(vec)->v);                              \
		(vec)->v[(vec)->n++] = (__VA_ARGS__);                                       \
	} while (0)

#endif
