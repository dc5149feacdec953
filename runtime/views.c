/* runtime/views.c: see views.h. */
#include "runtime/views.h"
#include "support/half.h"

#include <string.h>

SafeDtype safe_dtype_of(PackageDtype dtype)
{
	static const SafeDtype of[] = {
		[PACKAGE_B1] = SAFE_BOOL, [PACKAGE_U8] = SAFE_U8,     [PACKAGE_U32] = SAFE_U32, [PACKAGE_I8] = SAFE_I8,
		[PACKAGE_I32] = SAFE_I32, [PACKAGE_I64] = SAFE_I64,   [PACKAGE_F16] = SAFE_F16, [PACKAGE_BF16] = SAFE_BF16,
		[PACKAGE_F32] = SAFE_F32, [PACKAGE_F64] = SAFE_F64,
	};
	assert(dtype < COUNT(of));
	return of[dtype];
}

BufferViews buffer_views(Arena *a, const Executor *x, u32 kinds)
{
	const Package *p = x->package;
	BufferViews out = { .v = NEWN(a, NamedBuffer, p->nbuffer + 1) };
	for (u32 i = 0; i < p->nbuffer; i++) {
		const PackageBuffer *b = &p->buffer[i];
		if (kinds >> b->kind & 1)
			out.v[out.n++] = (NamedBuffer){ .name = b->tensor.name,
							.dtype = safe_dtype_of(b->tensor.dtype),
							.rank = b->tensor.rank,
							.dim = b->tensor.dim,
							.data = x->arena.base + b->tensor.offset };
	}
	return out;
}

Status token_inputs(const Executor *x, const char *name, TokenInputs *out)
{
	const PackageEntry *e = package_entry(x->package, name);
	if (!e)
		return FAIL(STATUS_INPUT, "the program has no entry '%s': its source needs a train block with a loss", name);
	*out = (TokenInputs){ .entry = e };
	const PackageTensor *first = NULL;
	for (u32 i = 0; i < e->ninput; i++) {
		const PackageTensor *t = &e->input[i];
		bool tokens = !strcmp(t->name, "tokens"), targets = !strcmp(t->name, "targets");
		if (!tokens && !targets)
			return FAIL(STATUS_INPUT,
				    "the input '%s' of entry '%s' has no source: token shards give 'tokens' and 'targets'",
				    t->name, name);
		if (t->dtype != PACKAGE_I32 || t->rank != 2 ||
		    (first && (t->dim[0] != first->dim[0] || t->dim[1] != first->dim[1])))
			return FAIL(STATUS_INPUT, "the input '%s' of entry '%s' must be i32[B, T], as token shards give it",
				    t->name, name);
		first = t;
		*(tokens ? &out->tokens : &out->targets) = executor_input(x, e, t->name, NULL);
	}
	if (!out->tokens)
		return FAIL(STATUS_INPUT, "the entry '%s' has no input 'tokens'", name);
	out->batch = (u32)first->dim[0];
	out->window = (u32)first->dim[1];
	return OK;
}

static f64 number(const void *at, u8 dtype)
{
	f32 x;
	f64 wide;
	u16 half;
	switch (dtype) {
	case PACKAGE_F32: memcpy(&x, at, sizeof x); return x;
	case PACKAGE_F64: memcpy(&wide, at, sizeof wide); return wide;
	case PACKAGE_BF16: memcpy(&half, at, sizeof half); return f32_from_bf16(half);
	default: NEVER("a scalar of another type");
	}
}

f64 scalar_result(const Executor *x, const PackageEntry *entry, const char *name, f64 otherwise)
{
	const PackageTensor *t;
	const void *at = executor_result(x, entry, name, &t);
	return at ? number(at, t->dtype) : otherwise;
}

f64 scalar_buffer(const Executor *x, const char *name, f64 otherwise)
{
	const PackageBuffer *b;
	const void *at = executor_buffer(x, name, &b);
	return at ? number(at, b->tensor.dtype) : otherwise;
}
