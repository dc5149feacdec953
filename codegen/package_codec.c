/* codegen/package_codec.c: a package as bytes, and back; see package.h.
 *
 * One function says what a structure consists of, and both writes and reads it, so that the two cannot differ.
 * Whole numbers are LEB128, signed ones with the sign in the lowest bit; a text is its length, its bytes and a
 * zero, a list its length and its elements. Reading stops at the first thing that cannot be. */
#include "codegen/package.h"

#include <string.h>

typedef struct Codec {
	Arena *arena;
	bool reading;
	const u8 *at, *end; /* reading */
	u8 *to;             /* writing */
	size_t n, room;
	const char *why;    /* reading: what is wrong, or NULL */
} Codec;

static void wrong(Codec *c, const char *why)
{
	if (!c->why)
		c->why = why;
	c->at = c->end;
}

/* ---- numbers and texts ---- */

static void put(Codec *c, const void *bytes, size_t n)
{
	if (c->n + n > c->room) {
		size_t room = MAX(2 * c->room, c->n + n + 4096);
		u8 *more = arena_push(c->arena, 1, room, 16);
		if (c->n)
			memcpy(more, c->to, c->n);
		c->to = more;
		c->room = room;
	}
	if (n)
		memcpy(c->to + c->n, bytes, n);
	c->n += n;
}

static const u8 *get(Codec *c, u64 n)
{
	if (n > (u64)(c->end - c->at)) {
		wrong(c, "it ends too early");
		return NULL;
	}
	const u8 *p = c->at;
	c->at += n;
	return p;
}

static void put_number(Codec *c, u64 x)
{
	u8 byte[10];
	u32 n = 0;
	do {
		byte[n++] = (u8)((x & 127) | (x > 127 ? 128 : 0));
		x >>= 7;
	} while (x);
	put(c, byte, n);
}

static u64 get_number(Codec *c)
{
	u64 x = 0;
	for (u32 shift = 0; shift < 64; shift += 7) {
		const u8 *byte = get(c, 1);
		if (!byte)
			return 0;
		x |= (u64)(*byte & 127) << shift;
		if (!(*byte & 128))
			return x;
	}
	wrong(c, "a number has no end");
	return 0;
}

/* A number that is at most `most`. */
static u64 number(Codec *c, u64 x, u64 most)
{
	if (!c->reading) {
		put_number(c, x);
		return x;
	}
	x = get_number(c);
	if (x > most) {
		wrong(c, "a number is out of its range");
		return 0;
	}
	return x;
}

#define U8(field, most)   ((field) = (u8)number(c, (u64)(field), (most)))
#define U32(field, most)  ((field) = (u32)number(c, (u64)(field), (most)))
#define U64(field, most)  ((field) = number(c, (field), (most)))
#define BOOL(field)       ((field) = number(c, (field), 1) != 0)
#define ENUM(field, type, most) ((field) = (type)number(c, (u64)(field), (most)))

static void code_i64(Codec *c, i64 *x)
{
	u64 folded = (u64)*x << 1 ^ (*x < 0 ? ~(u64)0 : 0);
	folded = number(c, folded, UINT64_MAX);
	*x = (i64)(folded >> 1 ^ (~(folded & 1) + 1));
}

static void code_f64(Codec *c, f64 *x)
{
	if (!c->reading) {
		put(c, x, sizeof *x);
		return;
	}
	const u8 *p = get(c, sizeof *x);
	if (p)
		memcpy(x, p, sizeof *x);
	if (!p || !(*x >= 0 && *x < 1e300))
		wrong(c, "a count is no number");
}

static void code_text(Codec *c, const char **text)
{
	if (!c->reading) {
		size_t n = strlen(*text);
		put_number(c, n);
		put(c, *text, n + 1);
		return;
	}
	*text = "";
	u64 n = number(c, 0, 1u << 20);
	const u8 *p = get(c, n + 1);
	if (!p)
		return;
	for (u64 i = 0; i < n; i++)
		if (p[i] < 32 || p[i] == 127) {
			wrong(c, "a name has control characters in it");
			return;
		}
	if (p[n])
		wrong(c, "a text has no end");
	else
		*text = (const char *)p;
}

static void code_bytes(Codec *c, const void **bytes, size_t *n)
{
	*n = (size_t)number(c, *n, UINT64_MAX);
	if (!c->reading)
		put(c, *bytes, *n);
	else
		*bytes = get(c, *n);
}

/* The length of a list, an element of which takes at least a byte: what memory is had for is bounded by the bytes. */
static u32 length(Codec *c, u32 n, u64 most)
{
	return (u32)number(c, n, c->reading ? MIN(most, (u64)(c->end - c->at)) : most);
}

/* Reads or writes `n` and the elements of `list`, a pointer to `type`, each with `f(c, element)`. */
#define LIST(list, n, type, most, f)                                               \
	do {                                                                       \
		(n) = length(c, (n), (most));                                      \
		type *v_ = c->reading ? NEWN(c->arena, type, (n) + 1) : (type *)(uintptr_t)(list); \
		for (u32 i_ = 0; i_ < (n) && !c->why; i_++)                        \
			f(c, &v_[i_]);                                             \
		(list) = v_;                                                       \
	} while (0)

/* ---- the structures ---- */

static const u8 dtype_bytes[] = { [PACKAGE_B1] = 1, [PACKAGE_U8] = 1, [PACKAGE_U32] = 4, [PACKAGE_I8] = 1, [PACKAGE_I32] = 4,
				  [PACKAGE_I64] = 8, [PACKAGE_F8E4M3] = 1, [PACKAGE_F8E5M2] = 1, [PACKAGE_F16] = 2, [PACKAGE_BF16] = 2, [PACKAGE_F32] = 4, [PACKAGE_F64] = 8 };

static void code_tensor(Codec *c, PackageTensor *t)
{
	code_text(c, &t->name);
	U8(t->dtype, PACKAGE_F64);
	U8(t->rank, COUNT(t->dim));
	u64 bytes = dtype_bytes[t->dtype];
	for (u32 d = 0; d < t->rank; d++) {
		u64 dim = number(c, (u64)t->dim[d], (u64)1 << 48);
		t->dim[d] = (i64)dim;
		U32(t->formula[d], UINT32_MAX);
		if (__builtin_mul_overflow(bytes, dim, &bytes) || bytes > (u64)1 << 60)
			wrong(c, "a tensor is larger than any memory");
	}
	U64(t->offset, UINT64_MAX);
	t->bytes = bytes;
}

static void code_buffer(Codec *c, PackageBuffer *b)
{
	code_tensor(c, &b->tensor);
	ENUM(b->kind, PackageBufferKind, PACKAGE_CACHE);
	BOOL(b->frozen);
}

static void code_slot(Codec *c, PackageSlot *s)
{
	U8(s->place, PACKAGE_PLACES - 1);
	U32(s->which, UINT32_MAX);
	U64(s->elements, (u64)1 << 56);
	U32(s->formula, UINT32_MAX);
	U64(s->row, (u64)1 << 56);
	U64(s->pitch, (u64)1 << 56);
	U8(s->dtype, PACKAGE_F64);
	BOOL(s->read);
	BOOL(s->written);
	code_text(c, &s->name);
	code_text(c, &s->file);
	U32(s->line, UINT32_MAX);
}

static void code_grid(Codec *c, PackageGrid *g)
{
	U32(g->image, UINT32_MAX);
	code_text(c, &g->symbol);
	for (u32 d = 0; d < 3; d++) {
		U32(g->grid[d], INT32_MAX);
		U32(g->block[d], 1024);
	}
	U32(g->shared, 1u << 20);
	U32(g->cluster, 16);
}

static void code_map(Codec *c, PackageTensorMap *m)
{
	U32(m->slot, UINT32_MAX);
	U64(m->offset, UINT64_MAX);
	U8(m->dtype, PACKAGE_F64);
	U8(m->rank, COUNT(m->extent));
	for (u32 d = 0; d < m->rank; d++) {
		U64(m->extent[d], (u64)1 << 40);
		U64(m->stride[d], (u64)1 << 40);
		U32(m->box[d], 256);
	}
	U32(m->swizzle, 128);
}

static void code_matrix(Codec *c, PackageMatrix *m)
{
	U64(m->offset, UINT64_MAX);
	U8(m->dtype, PACKAGE_F64);
	code_i64(c, &m->row);
	code_i64(c, &m->column);
	code_i64(c, &m->batch);
}

static void code_matmul(Codec *c, PackageMatmul *m)
{
	code_i64(c, &m->m);
	code_i64(c, &m->n);
	code_i64(c, &m->k);
	code_i64(c, &m->batch);
	code_matrix(c, &m->a);
	code_matrix(c, &m->b);
	code_matrix(c, &m->c);
	code_matrix(c, &m->d);
	code_matrix(c, &m->aux);
	BOOL(m->has_c);
	BOOL(m->has_bias);
	BOOL(m->has_aux);
	U64(m->bias, UINT64_MAX);
	U8(m->bias_dtype, PACKAGE_F64);
	U8(m->compute, PACKAGE_F64);
	U8(m->nscale, COUNT(m->scale));
	for (u32 i = 0; i < COUNT(m->scale); i++)
		U64(m->scale[i], UINT64_MAX);
	U8(m->epilogue, PACKAGE_EPILOGUE_DGELU);
	U8(m->sum_of, PACKAGE_SUM_B);
	U8(m->sum_phase, PACKAGE_PHASES);
	U64(m->sum, UINT64_MAX);
}

static void code_u64(Codec *c, u64 *x)
{
	U64(*x, UINT64_MAX);
}

static void code_tasks(Codec *c, i64 *x)
{
	*x = (i64)number(c, (u64)*x, INT64_MAX);
}

enum { PHASES = PACKAGE_PHASES, SLOTS = 65536, MOST = 1 << 24, BLOCKS = 1 << 20 };

static void code_varying(Codec *c, PackageVarying *v)
{
	U32(v->at, UINT32_MAX);
	U32(v->formula, UINT32_MAX);
}

static void code_axis(Codec *c, PackageAxis *a)
{
	u64 most = (u64)a->most;
	code_text(c, &a->name);
	a->most = (i64)U64(most, (u64)1 << 40);
}

static void code_term(Codec *c, PackageTerm *t)
{
	code_i64(c, &t->coefficient);
	for (u32 a = 0; a < PACKAGE_AXES; a++)
		U8(t->power[a], 8);
}

static void code_formula(Codec *c, PackageFormula *f)
{
	u64 over = (u64)f->over;
	code_text(c, &f->text);
	f->over = (i64)U64(over, (u64)1 << 40);
	LIST(f->term, f->nterm, PackageTerm, SLOTS, code_term);
}

static void code_step(Codec *c, PackageStep *s)
{
	U32(s->code, UINT32_MAX);
	LIST(s->slot, s->nslot, u64, SLOTS, code_u64);
	u32 n = s->nslot;
	LIST(s->slot_info, n, PackageSlot, SLOTS, code_slot);
	if (n != s->nslot)
		wrong(c, "a step has slots that nothing is known of");
	LIST(s->number, s->nnumber, i64, MOST, code_i64);
	LIST(s->varying, s->nvarying, PackageVarying, MOST, code_varying);
	U32(s->needs_code, UINT32_MAX);
	U64(s->workspace, UINT64_MAX);
	BOOL(s->has_workspace);
	LIST(s->tasks, s->nphase, i64, PHASES, code_tasks);
	bool has_grid = s->grid != NULL, has_matmul = s->matmul != NULL;
	BOOL(has_grid);
	if (has_grid) {
		u32 phases = s->nphase;
		LIST(s->grid, phases, PackageGrid, PHASES, code_grid);
		s->nphase = phases;
	}
	BOOL(has_matmul);
	if (has_matmul) {
		u32 one = 1;
		LIST(s->matmul, one, PackageMatmul, 1, code_matmul);
		if (one != 1)
			wrong(c, "a matrix product is missing");
	}
	if (has_matmul && s->matmul->sum_phase > (has_grid ? s->nphase : 0))
		wrong(c, "a sum beside a matrix product has phases that are not there");
	LIST(s->key, s->nkey, u64, MOST, code_u64);
	LIST(s->map, s->nmap, PackageTensorMap, SLOTS, code_map);
	code_text(c, &s->name);
	code_text(c, &s->layer);
	code_text(c, &s->class);
	code_text(c, &s->shape);
	U8(s->compute, PACKAGE_F64);
	code_text(c, &s->file);
	U32(s->line, UINT32_MAX);
	code_f64(c, &s->flops);
	code_f64(c, &s->bytes);
}

static void code_entry(Codec *c, PackageEntry *e)
{
	code_text(c, &e->name);
	LIST(e->input, e->ninput, PackageTensor, SLOTS, code_tensor);
	LIST(e->result, e->nresult, PackageTensor, SLOTS, code_tensor);
	LIST(e->step, e->nstep, PackageStep, MOST, code_step);
	code_f64(c, &e->model_flops);
	code_f64(c, &e->model_flops_full);
	code_f64(c, &e->hardware_flops);
}

static void code_symbol(Codec *c, const char **s)
{
	code_text(c, s);
}

static void code_image(Codec *c, PackageImage *i)
{
	code_text(c, &i->name);
	code_bytes(c, &i->data, &i->size);
	number(c, 0, 0); /* PTX is a text, and ends with a zero */
}

static void code_package(Codec *c, Package *p)
{
	code_text(c, &p->name);
	code_text(c, &p->device);
	LIST(p->axis, p->naxis, PackageAxis, PACKAGE_AXES, code_axis);
	LIST(p->formula, p->nformula, PackageFormula, MOST, code_formula);
	LIST(p->buffer, p->nbuffer, PackageBuffer, MOST, code_buffer);
	LIST(p->entry, p->nentry, PackageEntry, SLOTS, code_entry);
	LIST(p->symbol, p->nsymbol, const char *, MOST, code_symbol);
	LIST(p->image, p->nimage, PackageImage, SLOTS, code_image);
	U64(p->arena_bytes, (u64)1 << 56);
	U64(p->persistent_bytes, (u64)1 << 56);
	U64(p->thread_scratch, (u64)1 << 40);
	U64(p->fingerprint, UINT64_MAX);
	bool given = c->reading && !c->why && p->naxis && !strcmp(p->device, "cuda");
	for (u32 i = 0; given && i < p->nentry; i++)
		for (u32 s = 0; s < p->entry[i].nstep; s++)
			p->entry[i].step[s].takes_numbers = true;
}

/* ---- files ---- */

static void code_blob(Codec *c, Blob *b)
{
	const void *p = b->p;
	code_bytes(c, &p, &b->n);
	*b = (Blob){ p, p ? b->n : 0 };
}

static const char *check(const Package *p);

static void code_variant(Codec *c, PackageVariant *v)
{
	code_text(c, &v->machine);
	code_text(c, &v->cpu);
	code_text(c, &v->features);
	code_text(c, &v->sizes);
	code_package(c, &v->package);
	code_blob(c, &v->code);
	const char *why = c->reading && !c->why ? check(&v->package) : NULL;
	if (why)
		wrong(c, why);
}

static void code_setting(Codec *c, PackageSetting *s)
{
	u64 bits;
	memcpy(&bits, &s->number, sizeof bits);
	code_text(c, &s->key);
	code_text(c, &s->text);
	BOOL(s->is_number);
	U64(bits, UINT64_MAX);
	memcpy(&s->number, &bits, sizeof bits);
}

static void code_rename(Codec *c, PackageRename *r)
{
	code_text(c, &r->pattern);
	code_text(c, &r->replacement);
	BOOL(r->ignored);
}

static void code_size(Codec *c, PackageSize *s)
{
	code_text(c, &s->symbol);
	code_i64(c, &s->value);
}

static void code_source(Codec *c, PackageText *t)
{
	code_text(c, &t->name);
	code_blob(c, &t->text);
}

static void code_file(Codec *c, PackageFile *f)
{
	code_text(c, &f->model);
	code_text(c, &f->source);
	code_text(c, &f->preset);
	code_text(c, &f->precision);
	code_i64(c, &f->accumulate);
	code_i64(c, &f->logits);
	BOOL(f->has_train);
	LIST(f->setting, f->nsetting, PackageSetting, MOST, code_setting);
	LIST(f->rename, f->nrename, PackageRename, MOST, code_rename);
	LIST(f->size, f->nsize, PackageSize, SLOTS, code_size);
	LIST(f->set, f->nset, const char *, SLOTS, code_symbol);
	LIST(f->text, f->ntext, PackageText, SLOTS, code_source);
	LIST(f->variant, f->nvariant, PackageVariant, SLOTS, code_variant);
	if (c->reading && (f->accumulate < 1 || f->accumulate > UINT32_MAX || !f->ntext || !f->nvariant))
		wrong(c, "it has no program");
}

/* ---- what must hold between them ---- */

static bool within(const Package *p, u64 offset, u64 bytes)
{
	return offset <= p->arena_bytes && bytes <= p->arena_bytes - offset;
}

static const char *check_tensors(const Package *p, const PackageTensor *t, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		if (!within(p, t[i].offset, t[i].bytes))
			return "an input or result is outside the arena";
		for (u32 d = 0; d < t[i].rank; d++)
			if (t[i].formula[d] > p->nformula)
				return "a dimension follows from nothing";
	}
	return NULL;
}

/* Formulas stay within 62 bits at all sizes. */
static const char *check_sizes(const Package *p)
{
	for (u32 a = 0; a < p->naxis; a++)
		if (p->axis[a].most < 1)
			return "a size has no range";
	for (u32 i = 0; i < p->nformula; i++) {
		const PackageFormula *f = &p->formula[i];
		u64 sum = 0;
		for (u32 t = 0; t < f->nterm; t++) {
			i64 most = f->term[t].coefficient;
			u64 x = most < 0 ? ~(u64)most + 1 : (u64)most;
			bool over = false;
			for (u32 a = 0; a < PACKAGE_AXES; a++)
				for (u32 n = f->term[t].power[a]; n > 0; n--)
					over |= a >= p->naxis || __builtin_mul_overflow(x, (u64)p->axis[a].most, &x);
			if (over || x > (u64)1 << 62 || (sum += x) > (u64)1 << 62)
				return "a number that follows from sizes is too large";
		}
		if (f->over < 1)
			return "a number that follows from sizes is none";
	}
	return NULL;
}

static u64 slot_bytes(const PackageSlot *s)
{
	u64 rows = s->row ? (s->elements + s->row - 1) / s->row : 0, elements = s->elements, padded;
	if (s->row && !__builtin_mul_overflow(rows, s->pitch, &padded))
		elements = MAX(elements, padded - (rows && s->pitch > s->row ? s->pitch - s->row : 0));
	u64 bytes;
	return __builtin_mul_overflow(elements, (u64)dtype_bytes[s->dtype], &bytes) ? UINT64_MAX : bytes;
}

static const char *check_slot(const Package *p, const PackageEntry *e, const PackageStep *s, u32 i)
{
	const PackageSlot *info = &s->slot_info[i];
	static const PackageTensor none;
	const PackageTensor *of = info->place == PACKAGE_PERSISTENT && info->which < p->nbuffer ? &p->buffer[info->which].tensor :
				  info->place == PACKAGE_INPUT && info->which < e->ninput	? &e->input[info->which] :
				  info->place == PACKAGE_RESULT && info->which < e->nresult	? &e->result[info->which] :
												  &none;
	if (info->formula > p->nformula)
		return "a slot's size follows from nothing";
	if (!within(p, s->slot[i], slot_bytes(info)))
		return "a step works outside the arena";
	if (info->place == PACKAGE_TRANSIENT)
		return s->slot[i] < p->persistent_bytes || info->which > BLOCKS ? "a step works on a buffer without a name" : NULL;
	if (of == &none || of->offset != s->slot[i] || slot_bytes(info) > of->bytes)
		return "a step works on more than a tensor's bytes";
	return NULL;
}

static bool matrix_within(const Package *p, const PackageMatmul *m, const PackageMatrix *x, i64 rows, i64 columns)
{
	const i64 n[] = { rows, columns, m->batch }, stride[] = { x->row, x->column, x->batch };
	i64 last = 0;
	for (u32 i = 0; i < COUNT(n); i++) {
		i64 far;
		if (n[i] < 1 || stride[i] < 0 || __builtin_mul_overflow(n[i] - 1, stride[i], &far) || __builtin_add_overflow(last, far, &last))
			return false;
	}
	return last < INT64_MAX / 8 && within(p, x->offset, ((u64)last + 1) * (u64)dtype_bytes[x->dtype]);
}

static bool vector_within(const Package *p, u64 offset, i64 n, u8 dtype)
{
	return n < INT64_MAX / 8 && within(p, offset, (u64)n * (u64)dtype_bytes[dtype]);
}

static bool matmul_within(const Package *p, const PackageMatmul *m)
{
	bool all = matrix_within(p, m, &m->a, m->m, m->k) && matrix_within(p, m, &m->b, m->k, m->n) && matrix_within(p, m, &m->d, m->m, m->n) &&
		   (!m->has_c || matrix_within(p, m, &m->c, m->m, m->n)) && (!m->has_aux || matrix_within(p, m, &m->aux, m->m, m->n)) &&
		   (!m->has_bias || vector_within(p, m->bias, m->n, m->bias_dtype)) &&
		   (!m->sum_of || vector_within(p, m->sum, m->sum_of == PACKAGE_SUM_A ? m->m : m->n, m->d.dtype));
	for (u32 i = 0; i < m->nscale; i++)
		all &= vector_within(p, m->scale[i], 1, PACKAGE_F32);
	return all;
}

static const char *check_step(const Package *p, const PackageEntry *e, const PackageStep *s)
{
	for (u32 i = 0; i < s->nslot; i++) {
		const char *why = check_slot(p, e, s, i);
		if (why)
			return why;
	}
	if (s->has_workspace && !within(p, s->workspace, 1))
		return "a step's workspace is outside the arena";
	if (!strcmp(p->device, "cpu") && (s->code >= p->nsymbol || (p->naxis && s->needs_code >= p->nsymbol)))
		return "a step has no code";
	if (p->naxis && !strcmp(p->device, "cuda") && (!s->grid || s->has_workspace || s->nmap))
		return "a step has no code for sizes that are known only when it runs";
	for (u32 i = 0; i < s->nvarying; i++)
		if (s->varying[i].at >= s->nnumber || s->varying[i].formula >= p->nformula)
			return "a number follows from nothing";
	for (u32 i = 0; s->grid && i < s->nphase; i++)
		if (s->grid[i].image >= p->nimage)
			return "a step has no code";
	for (u32 i = 0; i < s->nmap; i++)
		if (!within(p, s->map[i].offset, 1) || (s->map[i].slot >= s->nslot && (s->map[i].slot != UINT32_MAX || !s->has_workspace)))
			return "a step copies from outside the arena";
	if (s->matmul && !matmul_within(p, s->matmul))
		return "a product reaches outside the arena";
	return !strcmp(p->device, "cuda") && !s->grid && !s->matmul ? "a step has no code" : NULL;
}

static const char *check(const Package *p)
{
	if (strcmp(p->device, "cpu") != 0 && strcmp(p->device, "cuda") != 0 && strcmp(p->device, "null") != 0)
		return "it is for a device that this version does not have";
	if (p->persistent_bytes > p->arena_bytes)
		return "its buffers are larger than its memory";
	const char *sizes = check_sizes(p);
	if (sizes)
		return sizes;
	u64 end = 0;
	for (u32 i = 0; i < p->nbuffer; i++) {
		const PackageTensor *t = &p->buffer[i].tensor;
		if (t->offset < end || t->offset > p->persistent_bytes || t->bytes > p->persistent_bytes - t->offset)
			return "its buffers do not lie one behind the other";
		end = t->offset + t->bytes;
	}
	for (u32 i = 0; i < p->nentry; i++) {
		const PackageEntry *e = &p->entry[i];
		const char *why = check_tensors(p, e->input, e->ninput);
		why = why ? why : check_tensors(p, e->result, e->nresult);
		for (u32 s = 0; s < e->nstep && !why; s++)
			why = check_step(p, e, &e->step[s]);
		if (why)
			return why;
	}
	return NULL;
}

Blob package_encode(Arena *arena, const Package *p)
{
	Codec c = { .arena = arena };
	Package copy = *p; /* fields are written through, and come back as they were */
	code_package(&c, &copy);
	return (Blob){ c.to, c.n };
}

const char *package_decode(Arena *arena, Blob bytes, Package *out)
{
	Codec c = { .arena = arena, .reading = true, .at = bytes.p, .end = bytes.p + bytes.n };
	*out = (Package){ 0 };
	code_package(&c, out);
	if (!c.why && c.at != c.end)
		return "it has bytes behind its end";
	return c.why ? c.why : check(out);
}

Blob package_encode_file(Arena *arena, const PackageFile *f)
{
	Codec c = { .arena = arena };
	PackageFile copy = *f;
	code_file(&c, &copy);
	return (Blob){ c.to, c.n };
}

const char *package_decode_file(Arena *arena, Blob bytes, PackageFile *out)
{
	Codec c = { .arena = arena, .reading = true, .at = bytes.p, .end = bytes.p + bytes.n };
	*out = (PackageFile){ 0 };
	code_file(&c, out);
	return c.why || c.at == c.end ? c.why : "it has bytes behind its end";
}
