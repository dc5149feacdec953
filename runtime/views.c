/* runtime/views.c: see views.h. */
#include "runtime/views.h"
#include "runtime/checkpoint/stacked.h"
#include "runtime/comm/comm.h"
#include "support/vec.h"

#include <string.h>

SafeDtype safe_dtype_of(PackageDtype dtype)
{
	static const SafeDtype of[] = {
		[PACKAGE_B1] = SAFE_BOOL, [PACKAGE_U8] = SAFE_U8,     [PACKAGE_U32] = SAFE_U32, [PACKAGE_I8] = SAFE_I8,
		[PACKAGE_I32] = SAFE_I32, [PACKAGE_I64] = SAFE_I64,
		[PACKAGE_F8E4M3] = SAFE_F8_E4M3, [PACKAGE_F8E5M2] = SAFE_F8_E5M2, [PACKAGE_F16] = SAFE_F16, [PACKAGE_BF16] = SAFE_BF16,
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

/* Where index i of a part's dimension d is in the whole, for coordinates of this rank; digits are those of d, from the
 * outermost on. */
static i64 whole_index(const Executor *x, const PackageDigit *digit, u32 n, i64 whole, i64 i)
{
	i64 behind[6], later = 1;
	for (u32 k = n; k-- > 0;) {
		i64 parts = x->package->mesh.axis[digit[k].mesh].size;
		behind[k] = whole / (digit[k].outer * parts) / later;
		later *= parts;
	}
	for (u32 k = 0; k < n; k++)
		i = (i / behind[k] * x->package->mesh.axis[digit[k].mesh].size + comm_coordinate(x->comm, digit[k].mesh)) * behind[k] +
		    i % behind[k];
	return i;
}

/* Of a dimension that is padded to be divided, what there is behind the padding of those before; possibly nothing. */
static PartAxis padded_axis_here(Arena *a, const Executor *x, const PackageTensor *t, const PackageDigit *digit)
{
	i64 here = t->dim[digit->dim], from = here * comm_coordinate(x->comm, digit->mesh);
	PartRun *run = NEW(a, PartRun);
	*run = (PartRun){ from, MAX(0, MIN(here, digit->whole - from)) };
	return (PartAxis){ digit->whole, run, run->n > 0 };
}

static PartAxis axis_here(Arena *a, const Executor *x, const PackageTensor *t, u32 d, i64 whole)
{
	PackageDigit digit[6];
	u32 n = 0;
	for (u32 k = 0; k < t->ndigit; k++) {
		if (t->digit[k].dim != d)
			continue;
		if (t->digit[k].whole)
			return padded_axis_here(a, x, t, &t->digit[k]);
		u32 at = n++;
		for (; at > 0 && digit[at - 1].outer > t->digit[k].outer; at--)
			digit[at] = digit[at - 1];
		digit[at] = t->digit[k];
	}
	VEC(PartRun) run = { 0 };
	for (i64 i = 0; i < t->dim[d]; i++) {
		i64 at = whole_index(x, digit, n, whole, i);
		if (run.n && run.v[run.n - 1].from + run.v[run.n - 1].n == at)
			run.v[run.n - 1].n++;
		else
			VEC_PUSH(a, &run, ((PartRun){ at, 1 }));
	}
	return (PartAxis){ whole, run.v, run.n };
}

/* Of a buffer, what this rank has; NULL: all. */
static const TensorPart *part_here(Arena *a, const Executor *x, const PackageBuffer *b)
{
	const PackageTensor *t = &b->tensor;
	if (!x->comm || (!t->ndigit && !b->away))
		return NULL;
	TensorPart *p = NEW(a, TensorPart);
	i64 whole[PART_RANK];
	comm_whole_dims(x->comm, t, whole);
	p->rank = t->rank;
	p->none = b->away;
	for (u32 d = 0; d < t->rank; d++) {
		p->axis[d] = axis_here(a, x, t, d, whole[d]);
		p->none |= !p->axis[d].nrun;
	}
	return p;
}

/* ---- padding ---- */

/* A part that has padding in memory, seen without. */
typedef struct Padded {
	Executor *x;
	const PackageTensor *t;
	i64 dim[PART_RANK]; /* without */
	u32 last;           /* dimension that is padded */
} Padded;

static bool is_padded(const PackageTensor *t)
{
	bool padded = false;
	for (u32 k = 0; k < t->ndigit; k++)
		padded |= t->digit[k].whole != 0;
	return padded;
}

/* Where byte `at` of what is there without padding lies in the arena, and how many bytes from there on lie side by side in both. */
static u64 place_of(const Padded *p, u64 at, u64 *bytes)
{
	const PackageTensor *t = p->t;
	u64 each = safe_dtype_size(safe_dtype_of(t->dtype));
	for (u32 d = p->last + 1; d < t->rank; d++)
		each *= (u64)t->dim[d];
	u64 run = each * (u64)p->dim[p->last], row = at / run, stride = each * (u64)t->dim[p->last], place = at % run;
	*bytes = run - place;
	for (u32 d = p->last; d-- > 0;) {
		place += row % (u64)p->dim[d] * stride;
		row /= (u64)p->dim[d];
		stride *= (u64)t->dim[d];
	}
	return t->offset + place;
}

static Status read_padded(void *cx, u64 at, void *to, u64 bytes)
{
	const Padded *p = cx;
	for (u64 done = 0, n; done < bytes; done += n) {
		u64 from = place_of(p, at + done, &n);
		n = MIN(n, bytes - done);
		TRY(executor_read_at(p->x, from, (u8 *)to + done, n));
	}
	return OK;
}

static Status write_padded(void *cx, u64 at, const void *from, u64 bytes)
{
	const Padded *p = cx;
	for (u64 done = 0, n; done < bytes; done += n) {
		u64 to = place_of(p, at + done, &n);
		n = MIN(n, bytes - done);
		TRY(executor_write_at(p->x, to, (const u8 *)from + done, n));
	}
	return OK;
}

static NamedBuffer padded_view(Arena *a, Executor *x, const PackageTensor *t, const TensorPart *part)
{
	Padded *p = NEW(a, Padded);
	FarMemory *far = NEW(a, FarMemory);
	*p = (Padded){ .x = x, .t = t };
	*far = (FarMemory){ read_padded, write_padded, p };
	for (u32 d = 0; d < t->rank; d++) {
		p->dim[d] = part_extent(part, d);
		p->last = p->dim[d] < t->dim[d] ? d : p->last;
	}
	return (NamedBuffer){ .name = t->name, .dtype = safe_dtype_of(t->dtype), .rank = t->rank, .dim = p->dim, .far = far, .part = part };
}

static NamedBuffer view(Arena *a, Executor *x, const PackageBuffer *b, const FarMemory *far)
{
	const PackageTensor *t = &b->tensor;
	const TensorPart *part = part_here(a, x, b);
	if (part && is_padded(t))
		return padded_view(a, x, t, part);
	return (NamedBuffer){ .name = t->name, .dtype = safe_dtype_of(t->dtype), .rank = t->rank, .dim = t->dim,
			      .data = b->away ? NULL : executor_memory(x, t), .far = far, .at = t->offset, .part = part };
}

static const FarMemory *far_memory(Arena *a, Executor *x)
{
	FarMemory *far = NEW(a, FarMemory);
	*far = (FarMemory){ read_far, write_far, x };
	return far;
}

Status input_given(Arena *tmp, const Safetensors *file, const PackageTensor *t, const char *who, const void **out)
{
	const SafeTensor *g = file ? safetensors_find(file, t->name) : NULL;
	SafeDtype dtype = safe_dtype_of(t->dtype);
	const char *want = safe_type_text(tmp, dtype, t->rank, t->dim);
	if (!g)
		return FAIL(STATUS_INPUT, "%s needs %s, %s: --inputs FILE gives it, a safetensors file that has it", who, t->name, want);
	if (g->dtype != dtype || g->rank != t->rank || memcmp(g->dim, t->dim, t->rank * sizeof *t->dim) != 0)
		return FAIL(STATUS_INPUT, "%s needs %s, %s, and it is given as %s", who, t->name, want,
			    safe_type_text(tmp, g->dtype, g->rank, g->dim));
	*out = g->data.p;
	return OK;
}

BufferViews buffer_views(Arena *a, Executor *x, u32 kinds)
{
	const Package *p = x->package;
	const FarMemory *far = far_memory(a, x);
	NamedBuffer *all = NEWN(a, NamedBuffer, p->nbuffer + 1);
	u32 n = 0;
	for (u32 i = 0; i < p->nbuffer; i++)
		if (is_viewed(&p->buffer[i], kinds))
			all[n++] = view(a, x, &p->buffer[i], far);
	return stacked_views(a, all, n);
}

/* ---- who writes what ---- */

/* Ranks that agree in this have the same part of the tensor. */
static u32 same_part(const Executor *x, const PackageTensor *t, u32 rank)
{
	u32 id = 0;
	for (u32 k = 0; k < t->ndigit; k++)
		id = id * x->package->mesh.axis[t->digit[k].mesh].size + comm_coordinate_of(x->comm, rank, t->digit[k].mesh);
	return id;
}

static bool has_part(const Executor *x, const PackageBuffer *b, u32 rank)
{
	return !b->stages || b->stages >> comm_coordinate_of(x->comm, rank, x->package->pipe.mesh) & 1;
}

/* Of those that have a part, the one that has least to write so far. */
static bool writes_here(const Executor *x, const PackageBuffer *b, u64 *load, u32 *writer)
{
	u32 ranks = comm_ranks(x->comm), me = comm_rank(x->comm);
	for (u32 r = 0; r < ranks; r++)
		writer[r] = UINT32_MAX;
	for (u32 r = 0; r < ranks; r++) {
		u32 *w = &writer[same_part(x, &b->tensor, r)];
		if (has_part(x, b, r) && (*w == UINT32_MAX || load[r] < load[*w]))
			*w = r;
	}
	bool mine = false;
	for (u32 r = 0; r < ranks; r++) {
		if (writer[r] == UINT32_MAX)
			continue;
		load[writer[r]] += b->tensor.bytes;
		mine |= writer[r] == me;
	}
	return mine;
}

BufferViews saved_views(Arena *a, Executor *x, u32 kinds)
{
	const Package *p = x->package;
	const FarMemory *far = far_memory(a, x);
	NamedBuffer *all = NEWN(a, NamedBuffer, p->nbuffer + 1);
	u64 *load = NEWN(a, u64, comm_ranks(x->comm));
	u32 *writer = NEWN(a, u32, comm_ranks(x->comm)), n = 0;
	for (u32 i = 0; i < p->nbuffer; i++)
		if (is_viewed(&p->buffer[i], kinds) && writes_here(x, &p->buffer[i], load, writer))
			all[n++] = view(a, x, &p->buffer[i], far);
	BufferViews every = stacked_views(a, all, n), out = { every.v, 0 };
	for (u32 i = 0; i < every.n; i++) {
		NamedBuffer b = every.v[i];
		if (b.part && b.part->none)
			continue;
		if (b.part)
			b.name = part_name(a, b.name, b.part);
		out.v[out.n++] = b;
	}
	return out;
}

/* ---- batches ---- */

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
