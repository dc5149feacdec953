/* runtime/views.c: see views.h. */
#include "runtime/views.h"
#include "runtime/checkpoint/stacked.h"
#include "runtime/comm/comm.h"

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

static Status read_far(void *cx, u64 at, void *to, u64 bytes)
{
	return executor_read_at(cx, at, to, bytes);
}

static Status write_far(void *cx, u64 at, const void *from, u64 bytes)
{
	return executor_write_at(cx, at, from, bytes);
}

/* Is the buffer of one of these kinds? */
static bool is_viewed(const PackageBuffer *b, u32 kinds)
{
	return kinds >> b->kind & 1 && !(b->frozen && (kinds & VIEW_TRAINED) == VIEW_TRAINED);
}

/* As files have them: stacked ones in parts. */
static BufferViews stacked_views(Arena *a, const NamedBuffer *b, u32 n)
{
	u32 parts = 0;
	for (u32 i = 0; i < n; i++)
		parts += stacked_count(&b[i]);
	BufferViews out = { .v = NEWN(a, NamedBuffer, parts + 1) };
	for (u32 i = 0; i < n; i++) {
		stacked_parts(a, &b[i], out.v + out.n);
		out.n += stacked_count(&b[i]);
	}
	return out;
}

BufferViews buffer_views(Arena *a, Executor *x, u32 kinds)
{
	const Package *p = x->package;
	FarMemory *far = NEW(a, FarMemory);
	*far = (FarMemory){ read_far, write_far, x };
	NamedBuffer *all = NEWN(a, NamedBuffer, p->nbuffer + 1);
	u32 n = 0;
	for (u32 i = 0; i < p->nbuffer; i++) {
		const PackageTensor *t = &p->buffer[i].tensor;
		if (is_viewed(&p->buffer[i], kinds) && !p->buffer[i].away)
			all[n++] = (NamedBuffer){ .name = t->name, .dtype = safe_dtype_of(t->dtype), .rank = t->rank, .dim = t->dim,
						  .data = executor_memory(x, t), .far = far, .at = t->offset };
	}
	return stacked_views(a, all, n);
}

/* Rows are divided in consecutive blocks, of all inputs alike; anything else no data source gives. */
static Status part_of_batch(const Executor *x, BatchInputs *in)
{
	for (u32 i = 0; i < in->input.n; i++) {
		const PackageTensor *t = &in->input.input[i];
		i64 whole[10], covered = 1, rank = 0;
		comm_whole_dims(x->comm, t, whole);
		for (u32 k = 0; k < t->ndigit; k++) {
			if (t->digit[k].dim != 0)
				return FAIL(STATUS_UNSUPPORTED, "the input '%s' is divided along its dimension %u: only batches can be, by B -> ...",
					    t->name, t->digit[k].dim);
			i64 parts = x->package->mesh.axis[t->digit[k].mesh].size;
			rank += comm_coordinate(x->comm, t->digit[k].mesh) * (whole[0] / (t->digit[k].outer * parts)) / t->dim[0];
			covered *= parts;
		}
		if (i && ((u32)rank != in->rank || (u32)covered != in->ranks))
			return FAIL(STATUS_UNSUPPORTED, "the inputs '%s' and '%s' are divided differently", in->input.input[0].name, t->name);
		in->rank = (u32)rank;
		in->ranks = (u32)covered;
	}
	return OK;
}

/* ---- wholes ---- */

BufferViews whole_views(Arena *a, Executor *x, u32 kinds)
{
	const Package *p = x->package;
	NamedBuffer *all = NEWN(a, NamedBuffer, p->nbuffer + 1);
	WholeBuffer *whole = NEWN(a, WholeBuffer, p->nbuffer + 1);
	u32 n = 0;
	for (u32 i = 0; i < p->nbuffer; i++) {
		const PackageTensor *t = &p->buffer[i].tensor;
		if (!is_viewed(&p->buffer[i], kinds))
			continue;
		i64 *dim = NEWN(a, i64, t->rank + 1);
		comm_whole_dims(x->comm, t, dim);
		all[n] = (NamedBuffer){ .name = t->name, .dtype = safe_dtype_of(t->dtype), .rank = t->rank, .dim = dim };
		all[n].data = arena_push(a, 1, safe_buffer_bytes(&all[n]) + 1, 64);
		whole[n] = (WholeBuffer){ &p->buffer[i], all[n].data };
		n++;
	}
	BufferViews out = stacked_views(a, all, n);
	out.whole = whole;
	out.nwhole = n;
	return out;
}

Status views_gather(Executor *x, BufferViews views)
{
	Arena tmp = ARENA("gather");
	Status s = OK;
	for (u32 i = 0; i < views.nwhole && !s; i++) {
		const PackageBuffer *b = views.whole[i].part;
		void *part = arena_push(&tmp, 1, b->tensor.bytes + 1, 64);
		s = b->away ? OK : executor_read(x, &b->tensor, part);
		if (!s)
			s = comm_whole(x->comm, &b->tensor, (CommHolders){ x->package->pipe.mesh, b->stages }, part,
				       comm_rank(x->comm) ? NULL : views.whole[i].data);
	}
	arena_free(&tmp);
	return s;
}

Status views_scatter(Executor *x, BufferViews views)
{
	Arena tmp = ARENA("scatter");
	Status s = OK;
	for (u32 i = 0; i < views.nwhole && !s; i++) {
		const PackageBuffer *b = views.whole[i].part;
		if (b->away)
			continue;
		void *part = arena_push(&tmp, 1, b->tensor.bytes + 1, 64);
		comm_part(x->comm, &b->tensor, views.whole[i].data, part);
		s = executor_write(x, &b->tensor, part);
	}
	arena_free(&tmp);
	return s;
}

/* ---- batches ---- */

Status batch_inputs(const Executor *x, const char *name, BatchInputs *out)
{
	const PackageEntry *e = package_entry(x->package, name);
	if (!e)
		return FAIL(STATUS_INPUT, "the program has no entry '%s': its source needs a train block with a loss", name);
	if (!e->ninput || !e->input[0].rank)
		return FAIL(STATUS_INPUT, "the entry '%s' takes no batches: its train block declares no input", name);
	*out = (BatchInputs){ e, { e->input, e->ninput }, (u32)e->input[0].dim[0], 0, 1 };
	return x->comm ? part_of_batch(x, out) : OK;
}

u8 **batch_room(Arena *a, const BatchInputs *in)
{
	u8 **batch = NEWN(a, u8 *, in->input.n);
	for (u32 i = 0; i < in->input.n; i++)
		batch[i] = arena_push(a, 1, in->input.input[i].bytes + 1, 16);
	return batch;
}

Status batch_run(Executor *x, const BatchInputs *in, u8 *const *batch, StepHook *hook, void *cx)
{
	for (u32 i = 0; i < in->input.n; i++)
		TRY(executor_write(x, &in->input.input[i], batch[i]));
	return executor_run(x, in->entry, hook, cx);
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
		*(tokens ? &out->tokens : &out->targets) = t;
	}
	if (!out->tokens)
		return FAIL(STATUS_INPUT, "the entry '%s' has no input 'tokens'", name);
	out->batch = (u32)first->dim[0];
	out->window = (u32)first->dim[1];
	return OK;
}

Status token_run(Executor *x, const TokenInputs *in, const i32 *tokens, const i32 *targets, StepHook *hook, void *cx)
{
	TRY(executor_write(x, in->tokens, tokens));
	if (in->targets)
		TRY(executor_write(x, in->targets, targets));
	return executor_run(x, in->entry, hook, cx);
}
