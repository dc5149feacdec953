/* codegen/cuda/body.c: see body.h. What each instruction computes is in spell.c. */
#include "codegen/cuda/body.h"
#include "codegen/cuda/spell.h"

#include <string.h>

CudaBody cuda_body(CudaText *t, const Kernel *k)
{
	CudaBody b = { .t = t, .k = k, .vector_dim = NONE, .width = 1, .vector_align = 1 };
	b.name = NEWN(t->arena, const char *, k->inst.n + 1);
	b.vector = NEWN(t->arena, bool, k->inst.n + 1);
	for (u32 d = 0; d < KERNEL_DIMS; d++)
		b.coord[d] = "0";
	t->preamble |= PREAMBLE_BASE;
	b.sized = t->arch && t->arch->sized;
	if (b.sized)
		t->preamble |= PREAMBLE_ATTENTION | PREAMBLE_ATTENTION_PLAIN | PREAMBLE_SIZED;
	return b;
}

/* ---- text ---- */

static void indent(CudaBody *b)
{
	for (u32 i = 0; i < b->indent; i++)
		buf_char(&b->t->out, '\t');
}

void cuda_line(CudaBody *b, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	const char *text = arena_vprintf(b->t->arena, format, args);
	va_end(args);
	indent(b);
	buf_printf(&b->t->out, "%s\n", text);
}

void cuda_open(CudaBody *b, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	const char *text = arena_vprintf(b->t->arena, format, args);
	va_end(args);
	cuda_line(b, *text ? "%s {" : "%s{", text);
	b->indent++;
}

void cuda_close(CudaBody *b)
{
	assert(b->indent);
	b->indent--;
	cuda_line(b, "}");
}

/* May another slot be the same memory, and change while this one is read? */
static bool changes(const Kernel *k, u32 slot)
{
	if (k->slot.v[slot].written)
		return true;
	for (u32 i = 0; i < k->slot.n; i++)
		if (k->slot.v[i].written && (k->slot.v[i].may_alias >> slot & 1))
			return true;
	return false;
}

void cuda_begin(CudaBody *b, const char *name, u32 phase, u32 threads, u32 blocks, const CudaNeeds *needs)
{
	Arena *a = b->t->arena;
	const Kernel *k = b->k;
	Buf p = { .arena = a };
	for (u32 i = 0; i < k->slot.n; i++)
		buf_printf(&p, "%s%s%s *%ss%u", i ? ", " : "", changes(k, i) ? "" : "const ",
			   cuda_memory_type(k->slot.v[i].dtype), changes(k, i) ? "" : "__restrict__ ", i);
	if (needs->workspace || b->t->workspace)
		buf_printf(&p, "%su8 *workspace", p.n ? ", " : "");
	u32 keys = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_random)
			buf_printf(&p, "%su64 key%u", p.n ? ", " : "", keys++);
	for (u32 i = 0; i < needs->nmap; i++)
		buf_printf(&p, "%sconst __grid_constant__ TensorMap map%u", p.n ? ", " : "", i);
	if (b->sized)
		buf_printf(&p, "%sconst __grid_constant__ Numbers<%u> numbers", p.n ? ", " : "", kernel_numbers(k, NULL));
	const char *more = blocks ? arena_printf(a, ", %u", blocks) : "";
	cuda_line(b, "extern \"C\" __global__ void __launch_bounds__(%u%s) %s_p%u(%.*s)", threads, more, name, b->t->phases + phase,
		  STR_ARG(buf_str(&p)));
	cuda_open(b, "%s", "");
}

void cuda_end(CudaBody *b)
{
	cuda_close(b);
	assert(!b->indent);
	cuda_release(b, 0);
}

/* ---- what is known ---- */

bool cuda_varies(const CudaBody *b, KVal v)
{
	return b->width > 1 && (b->k->inst.v[v.i].depends >> b->vector_dim & 1);
}

static void know(CudaBody *b, u32 i, const char *name, bool vector)
{
	assert(!b->name[i]);
	b->name[i] = name;
	b->vector[i] = vector;
	VEC_PUSH(b->t->arena, &b->known, i);
}

void cuda_set(CudaBody *b, KVal v, const char *name, bool vector)
{
	know(b, v.i, name, vector && b->width > 1);
}

u32 cuda_mark(const CudaBody *b)
{
	return b->known.n;
}

void cuda_release(CudaBody *b, u32 mark)
{
	while (b->known.n > mark)
		b->name[b->known.v[--b->known.n]] = NULL;
}

static void make(CudaBody *b, KVal v);

/* Element `j` (a C expression) of a value that is written. */
static const char *element(CudaBody *b, KVal v, const char *j)
{
	assert(b->name[v.i]);
	return b->vector[v.i] ? arena_printf(b->t->arena, "%s[%s]", b->name[v.i], j) : b->name[v.i];
}

const char *cuda_known_element(CudaBody *b, KVal v, const char *j)
{
	return element(b, v, j);
}

const char *cuda_element(CudaBody *b, KVal v, u32 j)
{
	make(b, v);
	return element(b, v, arena_printf(b->t->arena, "%u", j));
}

const char *cuda_scalar(CudaBody *b, KVal v)
{
	make(b, v);
	assert(!b->vector[v.i] && "a value that varies along the vector was asked for as one");
	return b->name[v.i];
}

/* ---- places ---- */

static u32 chunk_of(const CudaBody *b)
{
	return b->chunk ? b->chunk : b->width;
}

/* How far element `j` (a C expression) is from element 0 along the vector's dimension. */
static const char *element_offset(const CudaBody *b, const char *j)
{
	u32 chunk = chunk_of(b);
	if (chunk == b->width || !strcmp(j, "0"))
		return j;
	if (chunk == 1)
		return arena_printf(b->t->arena, "%s * %lld", j, (long long)b->chunk_stride);
	return arena_printf(b->t->arena, "%s / %u * %lld + %s %% %u", j, chunk, (long long)b->chunk_stride, j, chunk);
}

i64 cuda_stride(const Kernel *k, const Access *a, u32 d)
{
	return k->dim[d].extent == 1 ? 0 : a->stride[d];
}

static bool dynamic_varies(const CudaBody *b, const Access *a)
{
	for (u32 i = 0; i < a->ndynamic; i++)
		if (cuda_varies(b, a->dynamic[i].index))
			return true;
	return false;
}

static bool contiguous(const CudaBody *b, const Access *a)
{
	return b->width > 1 && cuda_stride(b->k, a, b->vector_dim) == 1 && !dynamic_varies(b, a);
}

/* Is the access's index the point's row-major index in the domain, but for an offset? */
static bool row_major(const Kernel *k, const Access *a)
{
	i64 stride = 1;
	for (u32 d = k->ndim; d-- > 0; stride *= k->dim[d].extent)
		if (k->dim[d].extent != 1 && a->stride[d] != stride)
			return false;
	return !a->ndynamic;
}

/* The largest power of two, up to `most`, that divides the index of the access at element 0 of a vector. */
static u32 index_align(const CudaBody *b, const Access *a, u32 most)
{
	u64 low = (u64)a->offset | (u64)most;
	if (b->flat_align && row_major(b->k, a)) {
		low |= b->flat_align;
		return (u32)(low & -low);
	}
	for (u32 d = 0; d < b->k->ndim; d++)
		low |= (u64)cuda_stride(b->k, a, d) * (d == b->vector_dim ? b->vector_align : 1);
	if (chunk_of(b) < b->width)
		low |= (u64)(cuda_stride(b->k, a, b->vector_dim) * b->chunk_stride);
	for (u32 i = 0; i < a->ndynamic; i++)
		low |= (u64)a->dynamic[i].stride;
	return (u32)(low & -low);
}

u32 cuda_piece(const CudaBody *b, const Access *a)
{
	u32 most = MIN(chunk_of(b), 16u / dtype_info[b->k->slot.v[a->slot].dtype].bytes);
	return contiguous(b, a) ? index_align(b, a, most) : 1;
}

u32 cuda_vector_width(const Kernel *k, u32 d, CudaCut cut)
{
	Arena tmp = ARENA("width");
	CudaText t = { .arena = &tmp, .out = { .arena = &tmp } };
	CudaBody b = cuda_body(&t, k);
	u32 widest = 1, most = 0;
	i64 n = k->dim[d].extent;
	/* what moves with fewer dimensions is read again and again, and comes from a cache */
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if ((in->op != K_load && in->op != K_store) || cuda_stride(k, in->access, d) != 1)
			continue;
		u32 dims = (u32)__builtin_popcount(in->depends), bytes = dtype_info[in->dtype].bytes;
		widest = dims > most ? bytes : dims == most ? MAX(widest, bytes) : widest;
		most = MAX(most, dims);
	}
	b.vector_dim = d;
	for (b.width = MIN(16 / widest, 8); b.width > 1; b.width /= 2) {
		bool helps = false;
		b.vector_align = cut == CUDA_FLAT ? 1 : b.width;
		b.flat_align = cut == CUDA_FLAT ? b.width : 0;
		for (u32 i = 1; i < k->inst.n; i++) {
			const KInst *in = &k->inst.v[i];
			helps |= (in->op == K_load || in->op == K_store) &&
				 (u32)__builtin_popcount(in->depends) == most &&
				 cuda_piece(&b, in->access) == MIN(b.width, 16u / dtype_info[in->dtype].bytes);
		}
		if (helps && (n % b.width == 0 || (cut != CUDA_WHOLE && n > 2 * b.width)))
			break;
	}
	arena_free(&tmp);
	return b.width;
}

/* Do 32 bits hold every part of the index? Otherwise 64 do. */
static bool is_wide(const CudaBody *b, const Access *a)
{
	f64 most = (f64)(a->offset < 0 ? -a->offset : a->offset);
	if (b->sized)
		return true;
	for (u32 d = 0; d < b->k->ndim; d++) {
		f64 span = (f64)a->stride[d] * (f64)MAX(b->k->dim[d].extent - 1, 0);
		most += span < 0 ? -span : span;
	}
	if (a->ndynamic) /* what is added stays in the slot */
		most += a->slot < b->k->slot.n ? (f64)b->k->slot.v[a->slot].elements : 0x1p31;
	return most >= 0x1p31 - 64;
}

static bool is_name(const char *text)
{
	for (; *text; text++)
		if (!(*text == '_' || (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') ||
		      (*text >= 'A' && *text <= 'Z')))
			return false;
	return true;
}

static void put_term(Buf *sum, const char *x, i64 stride, bool wide)
{
	const char *sign = !sum->n ? (stride < 0 ? "-" : "") : stride < 0 ? " - " : " + ";
	u64 size = stride < 0 ? 0 - (u64)stride : (u64)stride;
	const char *cast = wide ? "(i64)" : "", *open = is_name(x) ? "" : "(", *close = is_name(x) ? "" : ")";
	buf_printf(sum, "%s%s%s%s%s", sign, cast, open, x, close);
	if (size != 1)
		buf_printf(sum, " * %llu%s", (unsigned long long)size, wide ? "ll" : "");
}

/* Where strides and the offset are numbers that code is given. That a stride is 0 or 1 is known (kernel_shape_hash). */
static const char *sized_index(CudaBody *b, const Access *a)
{
	Buf sum = { .arena = b->t->arena };
	u32 at = kernel_access_number(b->k, a);
	buf_printf(&sum, "numbers.v[%u]", at);
	for (u32 d = 0; d < b->k->ndim; d++)
		if (a->stride[d] && strcmp(b->coord[d], "0") != 0)
			buf_printf(&sum, a->stride[d] == 1 ? " + (i64)%s" : " + (i64)%s * numbers.v[%u]", b->coord[d], at + 1 + d);
	for (u32 i = 0; i < a->ndynamic; i++)
		if (a->dynamic[i].stride) {
			make(b, a->dynamic[i].index);
			buf_printf(&sum, " + (i64)%s * numbers.v[%u]", element(b, a->dynamic[i].index, "0"), at + 1 + b->k->ndim + i);
		}
	return sum.text;
}

/* The index of element `j` of the vector. */
static const char *index_text(CudaBody *b, const Access *a, const char *j)
{
	if (b->sized)
		return sized_index(b, a);
	Buf sum = { .arena = b->t->arena };
	bool wide = is_wide(b, a);
	for (u32 d = 0; d < b->k->ndim; d++)
		if (cuda_stride(b->k, a, d) && strcmp(b->coord[d], "0") != 0)
			put_term(&sum, b->coord[d], a->stride[d], wide);
	if (b->width > 1 && strcmp(j, "0") != 0 && cuda_stride(b->k, a, b->vector_dim))
		put_term(&sum, element_offset(b, j), a->stride[b->vector_dim], wide);
	for (u32 i = 0; i < a->ndynamic; i++) {
		KVal v = a->dynamic[i].index;
		if (!a->dynamic[i].stride)
			continue;
		make(b, v);
		const char *x = element(b, v, j);
		if (b->k->inst.v[v.i].dtype != DT_i32 && !wide)
			x = arena_printf(b->t->arena, "(int)%s", x);
		put_term(&sum, x, a->dynamic[i].stride, wide);
	}
	if (a->offset || !sum.n)
		put_term(&sum, arena_printf(b->t->arena, "%llu", (unsigned long long)(a->offset < 0 ? -a->offset : a->offset)),
			 a->offset < 0 ? -1 : 1, wide);
	return sum.text;
}

const char *cuda_index(CudaBody *b, const Access *a)
{
	return index_text(b, a, "0");
}

/* ---- guards ---- */

/* A guard's text with %u replaced. */
static const char *guard_of(Arena *a, const char *guard, const char *number)
{
	Buf text = { .arena = a };
	for (const char *s = guard; *s; s++) {
		if (s[0] == '%' && s[1] == 'u') {
			buf_put(&text, str_of(number));
			s++;
		} else {
			buf_char(&text, *s);
		}
	}
	return text.text;
}

static void put_condition(Buf *text, const char *part)
{
	if (part)
		buf_printf(text, is_name(part) ? "%s%s" : "%s(%s)", text->n ? " && " : "", part);
}

const char *cuda_guard(CudaBody *b, const char *j)
{
	Arena *a = b->t->arena;
	Buf text = { .arena = a };
	if (b->guard_each)
		put_condition(&text, guard_of(a, b->guard_each, j));
	if (b->guard_chunk)
		put_condition(&text, guard_of(a, b->guard_chunk, chunk_of(b) == 1 ? j : arena_printf(a, "(%s / %u)", j, chunk_of(b))));
	return text.text;
}

/* The condition under which element `j` may be touched, as C; NULL: always. */
static const char *condition_of(CudaBody *b, KVal condition, const char *j)
{
	Buf text = { .arena = b->t->arena };
	put_condition(&text, b->guard);
	put_condition(&text, cuda_guard(b, j));
	put_condition(&text, condition.i ? element(b, condition, j) : NULL);
	return text.text;
}

/* The same for a chunk, `c` if there are several, whose elements have one condition. */
static const char *chunk_condition(CudaBody *b, KVal condition)
{
	Buf text = { .arena = b->t->arena };
	put_condition(&text, b->guard);
	put_condition(&text, b->guard_chunk ? guard_of(b->t->arena, b->guard_chunk, chunk_of(b) < b->width ? "c" : "0") :
				       NULL);
	put_condition(&text, condition.i ? element(b, condition, "0") : NULL);
	return text.text;
}

/* Does the condition differ between the elements of a vector? */
static bool condition_varies(const CudaBody *b, KVal condition)
{
	return b->guard_each || (condition.i && cuda_varies(b, condition));
}

/* ---- memory ---- */

/* What a statement for each chunk `c` begins with. */
static const char *each_chunk(CudaBody *b, const char *when)
{
	u32 chunk = chunk_of(b);
	const char *each = chunk < b->width ? arena_printf(b->t->arena, "CHUNKS(%u) ", b->width / chunk) : "";
	return when ? arena_printf(b->t->arena, "%sif (%s) ", each, when) : each;
}

/* Where chunk `c` begins in an array of values, and in memory. */
static const char *in_chunk(CudaBody *b, const char *array)
{
	u32 chunk = chunk_of(b);
	return chunk < b->width ? arena_printf(b->t->arena, "%s + c * %u", array, chunk) : array;
}

static const char *in_chunk_of(CudaBody *b, const Access *a)
{
	const char *at = index_text(b, a, "0");
	return chunk_of(b) < b->width ?
		       arena_printf(b->t->arena, "%s + c * %lld", at,
				    (long long)(b->chunk_stride * cuda_stride(b->k, a, b->vector_dim))) :
		       at;
}

static void load(CudaBody *b, KVal v)
{
	const KInst *in = &b->k->inst.v[v.i];
	const Access *a = in->access;
	DType d = (DType)in->dtype;
	Arena *arena = b->t->arena;
	const char *type = cuda_value_type(d), *name = arena_printf(arena, "v%u", v.i);
	KVal condition = in->in[0];
	if (condition.i)
		make(b, condition);
	bool vector = cuda_varies(b, v);
	const char *j = vector ? "j" : "0";
	const char *at = index_text(b, a, j), *when = condition_of(b, condition, j);
	const char *one = cuda_widen(arena, d, arena_printf(arena, "s%u[%s]", a->slot, at));
	if (when)
		one = arena_printf(arena, "%s ? %s : %s", when, one, cuda_literal(arena, 0, d));
	if (!vector) {
		cuda_line(b, "const %s %s = %s;", type, name, one);
	} else if (cuda_piece(b, a) == 1 || condition_varies(b, condition)) {
		cuda_line(b, "%s %s[%u]; EACH(%u) %s[j] = %s;", type, name, b->width, b->width, name, one);
	} else {
		when = chunk_condition(b, condition);
		cuda_line(b, "%s %s[%u]%s; %spl_load_%s<%u, %u>(%s, s%u + (%s));", type, name, b->width,
			  when ? " = {}" : "", each_chunk(b, when), dtype_info[d].name, chunk_of(b), cuda_piece(b, a),
			  in_chunk(b, name), a->slot, in_chunk_of(b, a));
	}
	know(b, v.i, name, vector);
}

/* A value that is cast to a narrow float only to be stored is rounded by the store. */
static KVal stored_value(const CudaBody *b, const KInst *in)
{
	KVal v = in->in[0];
	const KInst *x = &b->k->inst.v[v.i];
	if (x->op != K_cast || b->name[v.i] || !dtype_is_narrow_float((DType)x->dtype))
		return v;
	return b->k->inst.v[x->in[0].i].dtype == DT_f32 ? x->in[0] : v;
}

void cuda_store(CudaBody *b, u32 inst)
{
	const KInst *in = &b->k->inst.v[inst];
	const Access *a = in->access;
	DType d = (DType)in->dtype;
	Arena *arena = b->t->arena;
	KVal x = stored_value(b, in), condition = in->in[1];
	make(b, x);
	if (condition.i)
		make(b, condition);
	bool vector = b->width > 1 && (in->depends >> b->vector_dim & 1);
	const char *j = vector ? "j" : "0";
	const char *when = condition_of(b, condition, j);
	const char *test = when ? arena_printf(arena, "if (%s) ", when) : "";
	const char *at = index_text(b, a, j);
	u32 piece = cuda_piece(b, a), width = b->width;
	if (!vector || piece == 1 || condition_varies(b, condition)) {
		const char *each = vector ? arena_printf(arena, "EACH(%u) ", width) : "";
		cuda_line(b, "%s%ss%u[%s] = %s;", each, test, a->slot, at, cuda_narrow(arena, d, element(b, x, j)));
		return;
	}
	const char *from = b->name[x.i];
	if (!b->vector[x.i]) {
		const char *array = arena_printf(arena, "r%u", inst);
		cuda_line(b, "%s %s[%u]; EACH(%u) %s[j] = %s;", cuda_value_type(d), array, width, width, array, from);
		from = array;
	}
	cuda_line(b, "%spl_store_%s<%u, %u>(s%u + (%s), %s);", each_chunk(b, chunk_condition(b, condition)),
		  dtype_info[d].name, chunk_of(b), piece, a->slot, in_chunk_of(b, a), in_chunk(b, from));
}

/* ---- values ---- */

static u32 key_number(const Kernel *k, u32 inst)
{
	u32 n = 0;
	for (u32 i = 1; i < inst; i++)
		n += k->inst.v[i].op == K_random;
	return n;
}

static void random_draw(CudaBody *b, KVal v)
{
	const KInst *in = &b->k->inst.v[v.i];
	Arena *arena = b->t->arena;
	const char *seed = cuda_scalar(b, in->in[0]), *step = cuda_scalar(b, in->in[1]);
	const char *key = arena_printf(arena, "key%u ^ (u64)%s", key_number(b->k, v.i), seed);
	const char *name = arena_printf(arena, "v%u", v.i);
	bool vector = cuda_varies(b, v);
	u32 w = b->width;
	if (!vector)
		cuda_line(b, "const float %s = pl_uniform(%s, %s, %s);", name, key, step, index_text(b, in->access, "0"));
	else if (chunk_of(b) % 4 == 0 && contiguous(b, in->access) && index_align(b, in->access, 4) == 4)
		cuda_line(b, "float %s[%u]; %spl_uniforms<%u>(%s, %s, %s, %s);", name, w, each_chunk(b, NULL), chunk_of(b),
			  in_chunk(b, name), key, step, in_chunk_of(b, in->access));
	else
		cuda_line(b, "float %s[%u]; EACH(%u) %s[j] = pl_uniform(%s, %s, %s);", name, w, w, name, key, step,
			  index_text(b, in->access, "j"));
	know(b, v.i, name, vector);
}

static const char *expression(CudaBody *b, const KInst *in, const char *j)
{
	Arena *arena = b->t->arena;
	DType d = (DType)in->dtype;
	if (in->op == K_index) {
		DType of = is_wide(b, in->access) ? DT_i64 : DT_i32;
		return cuda_convert(arena, of, d, arena_printf(arena, "(%s)", index_text(b, in->access, j)));
	}
	const char *x[3] = { 0 };
	for (u32 i = 0; i < 3 && in->in[i].i; i++)
		x[i] = element(b, in->in[i], j);
	/* `where` computes in the type of what it chooses */
	DType of = (DType)b->k->inst.v[in->in[in->op == K_scalar && in->scalar == S_where].i].dtype;
	return in->op == K_cast ? cuda_convert(arena, of, d, x[0]) :
				  cuda_spell(arena, (Scalar)in->scalar, of, x[0], x[1], x[2]);
}

/* Writes the value, after what it needs. */
static void make(CudaBody *b, KVal v)
{
	if (b->name[v.i])
		return;
	const KInst *in = &b->k->inst.v[v.i];
	DType d = (DType)in->dtype;
	switch (in->op) {
	case K_const: know(b, v.i, cuda_literal(b->t->arena, in->imm, d), false); return;
	case K_load: load(b, v); return;
	case K_random: random_draw(b, v); return;
	case K_index:
	case K_cast:
	case K_scalar: break;
	case K_reduce: NEVER("a reduction was asked for before its loop");
	case K_acc: NEVER("an accumulator was asked for that the skeleton did not set");
	default: NEVER("a kernel instruction that the CUDA target does not know");
	}
	for (u32 i = 0; i < 3 && in->in[i].i; i++)
		make(b, in->in[i]);
	for (u32 i = 0; in->access && i < in->access->ndynamic; i++)
		make(b, in->access->dynamic[i].index);
	const char *name = arena_printf(b->t->arena, "v%u", v.i), *type = cuda_value_type(d);
	bool vector = cuda_varies(b, v);
	const char *x = expression(b, in, vector ? "j" : "0");
	if (vector)
		cuda_line(b, "%s %s[%u]; EACH(%u) %s[j] = %s;", type, name, b->width, b->width, name, x);
	else
		cuda_line(b, "const %s %s = %s;", type, name, x);
	know(b, v.i, name, vector);
}

static void want(const Kernel *k, bool *wanted, KVal v)
{
	if (!v.i || wanted[v.i])
		return;
	wanted[v.i] = true;
	const KInst *in = &k->inst.v[v.i];
	for (u32 i = 0; i < 3; i++)
		want(k, wanted, in->in[i]);
	for (u32 i = 0; in->access && i < in->access->ndynamic; i++)
		want(k, wanted, in->access->dynamic[i].index);
}

const bool *cuda_wanted(const CudaBody *b, const u32 *inst, u32 n)
{
	bool *wanted = NEWN(b->t->arena, bool, b->k->inst.n + 1);
	for (u32 i = 0; i < n; i++)
		want(b->k, wanted, (KVal){ inst[i] });
	return wanted;
}

void cuda_hoist(CudaBody *b, u32 dims, const bool *wanted)
{
	const Kernel *k = b->k;
	if (!wanted) {
		u32 *store = NEWN(b->t->arena, u32, k->inst.n + 1), n = 0;
		for (u32 i = 1; i < k->inst.n; i++)
			if (k->inst.v[i].op == K_store)
				store[n++] = i;
		wanted = cuda_wanted(b, store, n);
	}
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		bool ready = in->op != K_store && in->op != K_reduce && in->op != K_acc && !(in->depends & ~dims) &&
			     wanted[i];
		for (u32 j = 0; ready && j < 3; j++)
			ready = !in->in[j].i || b->name[in->in[j].i];
		for (u32 j = 0; ready && in->access && j < in->access->ndynamic; j++)
			ready = b->name[in->access->dynamic[j].index.i] != NULL;
		if (ready)
			make(b, (KVal){ i });
	}
}

bool cuda_costly(const KInst *in)
{
	return in->op == K_random || kernel_costly(in) || (in->op == K_scalar && in->dtype == DT_f64);
}

void cuda_hoist_uniform(CudaBody *b)
{
	const Kernel *k = b->k;
	Arena *a = b->t->arena;
	u32 *store = NEWN(a, u32, k->inst.n + 1), n = 0;
	bool *cheap = NEWN(a, bool, k->inst.n + 1), *shared = NEWN(a, bool, k->inst.n + 1), any = false;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store)
			store[n++] = i;
	const bool *wanted = cuda_wanted(b, store, n);
	/* what follows from a costly value, and what of it others use */
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		bool uniform = !in->depends && in->op != K_store && in->op != K_reduce && !in->sweep;
		cheap[i] = wanted[i] && !(uniform && cuda_costly(in));
		KVal from[5] = { in->in[0], in->in[1], in->in[2] };
		for (u32 j = 0; in->access && j < in->access->ndynamic; j++)
			from[3 + j] = in->access->dynamic[j].index;
		for (u32 j = 0; wanted[i] && j < 5; j++) {
			if (!from[j].i || cheap[from[j].i])
				continue;
			if (uniform)
				cheap[i] = false;
			else
				any = shared[from[j].i] = true;
		}
	}
	cuda_hoist(b, 0, any ? cheap : NULL);
	if (!any)
		return;
	for (u32 i = 1; i < k->inst.n; i++)
		if (shared[i])
			cuda_line(b, "__shared__ %s u%u;", cuda_value_type((DType)k->inst.v[i].dtype), i);
	u32 mark = cuda_mark(b);
	cuda_open(b, "if (threadIdx.x == 0)");
	for (u32 i = 1; i < k->inst.n; i++)
		if (shared[i])
			cuda_line(b, "u%u = %s;", i, cuda_scalar(b, (KVal){ i }));
	cuda_close(b);
	cuda_release(b, mark);
	cuda_line(b, "__syncthreads();");
	for (u32 i = 1; i < k->inst.n; i++)
		if (shared[i]) {
			const char *name = arena_printf(a, "v%u", i);
			cuda_line(b, "const %s %s = u%u;", cuda_value_type((DType)k->inst.v[i].dtype), name, i);
			cuda_set(b, (KVal){ i }, name, false);
		}
}

/* ---- the domain ---- */

i64 cuda_extent_product(const Kernel *k, u32 first, u32 last)
{
	i64 n = 1;
	for (u32 d = first; d < last; d++)
		n *= k->dim[d].extent;
	return n;
}

void cuda_unflatten_list(CudaBody *b, u32 n, const u32 *dim, const i64 *extent, const char *flat)
{
	Arena *a = b->t->arena;
	i64 rest = 1; /* the product of extents that are still in `flat` */
	for (u32 i = 0; i < n; i++) {
		b->coord[dim[i]] = "0";
		rest *= extent[i];
	}
	for (u32 i = n; i-- > 0;) {
		u32 d = dim[i];
		if (extent[i] == 1)
			continue;
		if (rest == extent[i]) {
			b->coord[d] = flat;
			return;
		}
		bool wide = rest >= 1ll << 31;
		const char *next = arena_printf(a, "%s_%u", flat, d);
		cuda_line(b, "const %s %s = %s%s / %lld%s, c%u = %s - %s * %lld;", wide ? "i64" : "int", next,
			  wide ? "" : "(u32)", flat, (long long)extent[i], wide ? "" : "u", d, flat, next,
			  (long long)extent[i]);
		b->coord[d] = arena_printf(a, "c%u", d);
		flat = next;
		rest /= extent[i];
	}
}

const char *cuda_size(const CudaBody *b, u32 first, u32 last)
{
	Buf product = { .arena = b->t->arena };
	if (!b->sized)
		return arena_printf(b->t->arena, "%lld", (long long)cuda_extent_product(b->k, first, last));
	for (u32 d = first; d < last; d++)
		buf_printf(&product, "%snumbers.v[%u]", product.n ? " * " : "", d);
	return product.n ? product.text : "1ll";
}

static void unflatten_sized(CudaBody *b, u32 first, u32 last, const char *flat)
{
	for (u32 d = last; d-- > first;) {
		b->coord[d] = flat;
		if (d == first)
			return;
		const char *next = arena_printf(b->t->arena, "%s_%u", flat, d);
		b->coord[d] = arena_printf(b->t->arena, "c%u", d);
		cuda_line(b, "const i64 %s = pl_divide(%s, numbers.v[%u]), %s = %s - %s * numbers.v[%u];", next, flat, d, b->coord[d], flat, next, d);
		flat = next;
	}
}

void cuda_unflatten(CudaBody *b, u32 first, u32 last, const char *flat)
{
	if (b->sized) {
		unflatten_sized(b, first, last, flat);
		return;
	}
	u32 dim[KERNEL_DIMS];
	i64 extent[KERNEL_DIMS];
	for (u32 d = first; d < last; d++) {
		dim[d - first] = d;
		extent[d - first] = b->k->dim[d].extent;
	}
	cuda_unflatten_list(b, last - first, dim, extent, flat);
}
