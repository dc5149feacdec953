/* tools/run_inputs.c: see run_inputs.h. What is given by name goes to the input of that name: an array (NAME=x.npy), or
 * a text (NAME=words). A safetensors file gives each of its tensors to the input of its name. All else is text, for
 * `tokens` or `source`. Beside a text's ids, `keep` says where they are and `types` of which text each is. */
#include "tools/run_inputs.h"
#include "passes/graph/bind.h"
#include "runtime/checkpoint/weights.h"
#include "runtime/data/npy.h"
#include "runtime/views.h"

#include "support/float8.h"

#include <libgen.h>
#include <math.h>
#include <sys/stat.h>
#include <string.h>

/* ---- what the entry takes ---- */

/* With symbols for what follows from sizes; NULL: nothing does. */
static const Type *sized_type(const RunInputs *r, const PackageTensor *t)
{
	const Package *p = &r->lm->file->variant[0].package;
	Ir *ir = ir_new(r->arena, &r->lm->source.diag);
	Dim dim[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++) {
		dim[d] = t->formula[d] ? dim_parse(ir, str_of(p->formula[t->formula[d] - 1].text)) : dim_number(ir, t->dim[d]);
		if (!dim[d])
			return NULL;
	}
	return p->naxis ? type_make(ir, (DType)t->dtype, t->rank, dim) : NULL;
}

static Status of_package(RunInputs *r, const char *name)
{
	const PackageEntry *e = package_entry(&r->lm->file->variant[0].package, name);
	if (!e)
		return FAIL(STATUS_INPUT, "the package has no entry '%s'", name);
	r->input = NEWN(r->arena, EntryInput, e->ninput + 1);
	for (; r->ninput < e->ninput; r->ninput++) {
		const PackageTensor *t = &e->input[r->ninput];
		r->input[r->ninput] = (EntryInput){ t->name, (PackageDtype)t->dtype, t->rank, sized_type(r, t), t->dim };
	}
	return OK;
}

static Status of_source(RunInputs *r, const char *name)
{
	const Program *p = r->lm->model->program;
	const Graph *g = program_find_entry(p, str_of(name));
	if (!g) {
		Buf all = { .arena = r->arena };
		for (u32 i = 0; i < p->entry.n; i++)
			buf_printf(&all, "%s%s", i ? ", " : "", p->entry.v[i]->name);
		return FAIL(STATUS_INPUT, "the model has no entry '%s'; it has %s", name, all.n ? all.text : "none");
	}
	r->input = NEWN(r->arena, EntryInput, g->node.n + 1);
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		if (n->op != OP_input)
			continue;
		const Type *t = val_type(g, n->out);
		r->input[r->ninput++] = (EntryInput){ ATTR(n, input)->name, (PackageDtype)t->dtype, t->rank, t, NULL };
	}
	return OK;
}

static const EntryInput *input_named(const RunInputs *r, Str name)
{
	for (u32 i = 0; i < r->ninput; i++)
		if (str_equal(str_of(r->input[i].name), name))
			return &r->input[i];
	return NULL;
}

static const char *input_text(const RunInputs *r, const EntryInput *in)
{
	Buf b = { .arena = r->arena };
	if (in->type)
		type_print(&b, in->type);
	else
		buf_put(&b, str_of(safe_type_text(r->arena, safe_dtype_of(in->dtype), in->rank, in->dim)));
	return arena_printf(r->arena, "%s: %s", in->name, b.text);
}

static const char *all_inputs(const RunInputs *r)
{
	Buf b = { .arena = r->arena };
	for (u32 i = 0; i < r->ninput; i++)
		buf_printf(&b, "%s%s", i ? ", " : "", input_text(r, &r->input[i]));
	return b.n ? b.text : "nothing";
}

/* ---- what is given ---- */

static GivenInput *given_for(RunInputs *r, const EntryInput *in)
{
	for (u32 i = 0; i < r->given.n; i++)
		if (r->given.v[i].input == in)
			return &r->given.v[i];
	return NULL;
}

static Status add_tensor(RunInputs *r, const EntryInput *in, SafeDtype dtype, u32 rank, const i64 *dim, const u8 *data)
{
	if (given_for(r, in))
		return FAIL(STATUS_INPUT, "the input '%s' is given twice", in->name);
	if (rank != in->rank)
		return FAIL(STATUS_INPUT, "the input %s, and what is given is %s", input_text(r, in),
			    safe_type_text(r->arena, dtype, rank, dim));
	GivenInput g = { .input = in, .dtype = dtype, .rank = rank, .dim = COPYN(r->arena, i64, dim, rank), .data = data };
	VEC_PUSH(r->arena, &r->given, g);
	return OK;
}

static Status add_npy(RunInputs *r, const EntryInput *in, const char *path)
{
	Str bytes;
	NpyArray x;
	TRY(io_read(r->arena, path, &bytes));
	TRY(npy_parse(path, (Blob){ (const u8 *)bytes.s, bytes.n }, &x));
	return add_tensor(r, in, x.dtype, x.rank, x.dim, x.data.p);
}

static Status add_safetensors(RunInputs *r, const char *path)
{
	Str bytes;
	Safetensors s;
	TRY(io_read(r->arena, path, &bytes));
	TRY(safetensors_parse(r->arena, path, (Blob){ (const u8 *)bytes.s, bytes.n }, &s));
	Status why = OK;
	for (u32 i = 0; i < s.ntensor && !why; i++) {
		const SafeTensor *t = &s.tensor[i];
		const EntryInput *in = input_named(r, str_of(t->name));
		why = in ? add_tensor(r, in, t->dtype, t->rank, t->dim, t->data.p) :
			   FAIL(STATUS_INPUT, "%s has a tensor '%s', and the entry takes %s", path, t->name, all_inputs(r));
	}
	safetensors_close(&s);
	return why;
}

/* The input that text without a name is for. */
static const EntryInput *text_input(const RunInputs *r)
{
	static const char *const usual[] = { "tokens", "source" };
	for (u32 i = 0; i < COUNT(usual); i++) {
		const EntryInput *in = input_named(r, str_of(usual[i]));
		if (in && in->dtype == PACKAGE_I32 && in->rank == 2)
			return in;
	}
	return NULL;
}

static Status add_text(RunInputs *r, Tokenizer *t, const EntryInput *in, Str text)
{
	if (in->dtype != PACKAGE_I32 || in->rank != 2)
		return FAIL(STATUS_INPUT, "a text cannot be given for the input %s", input_text(r, in));
	GivenInput *g = given_for(r, in);
	if (g && g->data)
		return FAIL(STATUS_INPUT, "the input '%s' is given twice", in->name);
	if (!g) {
		VEC_PUSH(r->arena, &r->given, (GivenInput){ .input = in, .rank = 2 });
		g = &r->given.v[r->given.n - 1];
		g->dim = NEWN(r->arena, i64, 2);
	}
	i64 *dim = (i64 *)(uintptr_t)g->dim;
	u32 n = (u32)dim[0]++;
	Tokens *ids = NEWN(r->arena, Tokens, n + 1), *types = NEWN(r->arena, Tokens, n + 1);
	if (n) {
		memcpy(ids, g->ids, n * sizeof *ids);
		memcpy(types, g->types, n * sizeof *types);
	}
	ids[n].arena = types[n].arena = r->arena;
	TRY(tokenizer_input(t, text, NULL, &ids[n], &types[n]));
	if (!ids[n].n)
		return FAIL(STATUS_INPUT, "the text '%.*s' has no tokens", (int)MIN(text.n, (size_t)60), text.s);
	g->ids = ids;
	g->types = types;
	g->longest = (u32)MAX(g->longest, ids[n].n);
	dim[1] = g->longest;
	return OK;
}

/* ---- texts ---- */

static u32 pad_of(const Tokenizer *t)
{
	static const char *const name[] = { "[PAD]", "<pad>" };
	for (u32 k = 0; k < COUNT(name); k++) {
		u32 id = tokenizer_special(t, name[k]);
		if (id != TOKEN_NONE)
			return id;
	}
	return 0;
}

/* ---- sizes ---- */

typedef struct Sizes {
	VEC(const char *) name;
	VEC(i64) value;
} Sizes;

static Status size_of(RunInputs *r, Sizes *s, const EntryInput *in, u32 d, i64 have)
{
	i64 n;
	bool fixed = in->type ? dim_is_number(in->type->dim[d], &n) : (n = in->dim[d], true);
	Buf b = { .arena = r->arena };
	if (fixed && n == have)
		return OK;
	if (!fixed) {
		dim_print(&b, in->type->dim[d]);
		for (u32 i = 0; i < s->name.n; i++)
			if (!strcmp(s->name.v[i], b.text)) {
				if (s->value.v[i] == have)
					return OK;
				return FAIL(STATUS_INPUT, "the input %s: %s is %lld by another input, and %lld here", input_text(r, in), b.text,
					    (long long)s->value.v[i], (long long)have);
			}
		for (const char *c = b.text; *c; c++)
			if (strchr("+-*/ ", *c))
				return OK; /* follows from other sizes: checked when these are known */
		VEC_PUSH(r->arena, &s->name, b.text);
		VEC_PUSH(r->arena, &s->value, have);
		return OK;
	}
	/* texts may be fewer and shorter than a package is made for */
	const GivenInput *g = given_for(r, in);
	if (!in->type && g && !g->data && have <= n)
		return OK;
	return FAIL(STATUS_INPUT, "the input %s: dimension %u is %lld", input_text(r, in), d, (long long)have);
}

static Status find_sizes(RunInputs *r)
{
	Sizes s = { 0 };
	Buf b = { .arena = r->arena };
	for (u32 i = 0; i < r->given.n; i++)
		for (u32 d = 0; d < r->given.v[i].rank; d++)
			TRY(size_of(r, &s, r->given.v[i].input, d, r->given.v[i].dim[d]));
	for (u32 i = 0; i < s.name.n; i++)
		buf_printf(&b, "%s%s=%lld", i ? "," : "", s.name.v[i], (long long)s.value.v[i]);
	r->sizes = b.n ? b.text : "";
	return OK;
}

/* `keep` and `types` go with the texts. */
static bool goes_along(const RunInputs *r, const EntryInput *in)
{
	bool keep = !strcmp(in->name, "keep") && in->dtype == PACKAGE_B1, types = !strcmp(in->name, "types") && in->dtype == PACKAGE_I32;
	return r->texts && in->rank == 2 && (keep || types);
}

static Status check_all(RunInputs *r)
{
	Buf lacks = { .arena = r->arena };
	for (u32 i = 0; i < r->ninput; i++)
		if (!given_for(r, &r->input[i]) && !goes_along(r, &r->input[i]))
			buf_printf(&lacks, "%s%s", lacks.n ? ", " : "", input_text(r, &r->input[i]));
	if (lacks.n)
		return FAIL(STATUS_INPUT, "nothing is given for %s: --input NAME=x.npy, or NAME=a text", lacks.text);
	bool keep = false;
	for (u32 i = 0; i < r->ninput; i++)
		keep |= goes_along(r, &r->input[i]) && r->input[i].dtype == PACKAGE_B1;
	for (u32 i = 0; i < r->given.n; i++)
		for (i64 k = 0; !r->given.v[i].data && !keep && k < r->given.v[i].dim[0]; k++)
			if (r->given.v[i].ids[k].n != r->given.v[i].longest)
				return FAIL(STATUS_INPUT,
					    "the texts have %zu and %u tokens, and the model takes no `keep` that says which are filled up: "
					    "give them one by one",
					    r->given.v[i].ids[k].n, r->given.v[i].longest);
	return OK;
}

static Status read_lines(RunInputs *r, Tokenizer *t, const char *path)
{
	Str text;
	TRY(io_read(r->arena, strcmp(path, "-") ? path : "/dev/stdin", &text));
	for (size_t at = 0; at < text.n;) {
		const char *end = memchr(text.s + at, '\n', text.n - at);
		Str line = { text.s + at, end ? (size_t)(end - text.s) - at : text.n - at };
		TRY(add_text(r, t, text_input(r), line));
		at += line.n + 1;
	}
	return OK;
}

Status run_inputs(Lm *lm, const char *entry, const TextList *inputs, const char *lines, const char *tokenizer, const char *weights,
		  RunInputs *r)
{
	*r = (RunInputs){ .arena = &lm->arena, .lm = lm };
	TRY(lm->file ? of_package(r, entry) : of_source(r, entry));
	Tokenizer *t = NULL;
	for (int i = 0; i < inputs->n + (lines != NULL); i++) {
		Str arg = str_of(i < inputs->n ? inputs->v[i] : ""), value = arg;
		const char *equals = arg.n ? memchr(arg.s, '=', arg.n) : NULL;
		const EntryInput *in = equals ? input_named(r, (Str){ arg.s, (size_t)(equals - arg.s) }) : NULL;
		if (in)
			value = str_of(equals + 1);
		if (in && str_ends(value, STR(".npy"))) {
			TRY(add_npy(r, in, value.s));
			continue;
		}
		if (!in && str_ends(arg, STR(".safetensors"))) {
			TRY(add_safetensors(r, arg.s));
			continue;
		}
		if (!in)
			in = text_input(r);
		if (!in)
			return FAIL(STATUS_INPUT, "the entry '%s' takes no text; it takes %s: --input NAME=x.npy", entry, all_inputs(r));
		if (!t)
			TRY(lm_tokenizer(lm, tokenizer, weights, &t));
		if (!t)
			return FAIL(STATUS_INPUT, "which tokenizer? --tokenizer FILE names one; there is none beside the weights");
		r->pad = pad_of(t);
		Status s = i < inputs->n ? add_text(r, t, in, value) : read_lines(r, t, lines);
		if (s) {
			tokenizer_close(t);
			return s;
		}
	}
	tokenizer_close(t);
	const EntryInput *main = text_input(r);
	r->texts = main ? given_for(r, main) : NULL;
	if (r->texts && r->texts->data)
		r->texts = NULL;
	for (u32 i = 0; i < r->given.n; i++)
		if (!r->given.v[i].data)
			r->rows = (u32)r->given.v[i].dim[0];
	TRY(check_all(r));
	return find_sizes(r);
}

/* ---- writing ---- */

static f64 element(SafeDtype dtype, const u8 *p)
{
	f32 single;
	f64 wide;
	i64 i8byte;
	i32 i4;
	i16 i2;
	u32 u4;
	u16 half;
	switch (dtype) {
	case SAFE_F32: memcpy(&single, p, 4); return (f64)single;
	case SAFE_F64: memcpy(&wide, p, 8); return wide;
	case SAFE_F8_E4M3: return (f64)f32_from_f8e4m3(*p);
	case SAFE_F8_E5M2: return (f64)f32_from_f8e5m2(*p);
	case SAFE_F16: memcpy(&half, p, 2); return (f64)f32_from_f16(half);
	case SAFE_BF16: memcpy(&half, p, 2); return (f64)f32_from_bf16(half);
	case SAFE_I64: memcpy(&i8byte, p, 8); return (f64)i8byte;
	case SAFE_I32: memcpy(&i4, p, 4); return i4;
	case SAFE_I16: memcpy(&i2, p, 2); return i2;
	case SAFE_U32: memcpy(&u4, p, 4); return u4;
	case SAFE_I8: return *(const i8 *)p;
	case SAFE_U8:
	case SAFE_BOOL: return *p;
	default: return (f64)NAN;
	}
}

/* One element as the entry has it; false where it has no such value. */
static bool put_element(PackageDtype dtype, f64 x, u8 *to)
{
	f32 single = (f32)x;
	i32 whole = x >= INT32_MIN && x <= INT32_MAX ? (i32)x : 0;
	i64 wide = x >= -0x1p53 && x <= 0x1p53 ? (i64)x : 0;
	switch (dtype) {
	case PACKAGE_F32: memcpy(to, &single, 4); return true;
	case PACKAGE_F64: memcpy(to, &x, 8); return true;
	case PACKAGE_I32: memcpy(to, &whole, 4); return whole == x;
	case PACKAGE_I64: memcpy(to, &wide, 8); return (f64)wide == x;
	case PACKAGE_U8: *to = (u8)whole; return *to == x;
	case PACKAGE_B1: *to = whole != 0; return whole == x && whole >> 1 == 0;
	default: return false;
	}
}

static Status convert(const RunInputs *r, const GivenInput *g, const PackageTensor *t, u8 *to)
{
	u64 n = 1;
	for (u32 d = 0; d < g->rank; d++) {
		if (g->dim[d] != t->dim[d])
			return FAIL(STATUS_INPUT, "the input %s: dimension %u must be %lld, and is %lld", input_text(r, g->input), d,
				    (long long)t->dim[d], (long long)g->dim[d]);
		n *= (u64)g->dim[d];
	}
	u32 from = safe_dtype_size(g->dtype), size = safe_dtype_size(safe_dtype_of((PackageDtype)t->dtype));
	for (u64 i = 0; i < n; i++)
		if (!put_element((PackageDtype)t->dtype, element(g->dtype, g->data + i * from), to + i * size))
			return FAIL(STATUS_INPUT, "the input %s cannot be had from %s: element %llu is %g", input_text(r, g->input),
				    safe_dtype_name(g->dtype), (unsigned long long)i, element(g->dtype, g->data + i * from));
	return OK;
}

static void fill_texts(const RunInputs *r, const GivenInput *g, const PackageTensor *t, const char *what, u8 *to)
{
	for (u64 row = 0; row < (u64)t->dim[0]; row++)
		for (u64 i = 0; i < (u64)t->dim[1]; i++) {
			bool real = row < (u64)g->dim[0] && i < g->ids[row].n;
			u64 at = row * (u64)t->dim[1] + i;
			if (!strcmp(what, "keep"))
				to[at] = real;
			else
				((i32 *)(void *)to)[at] = !strcmp(what, "types") ? real ? (i32)g->types[row].v[i] : 0 :
							  real			? (i32)g->ids[row].v[i] :
										  (i32)r->pad;
		}
}

Status run_inputs_write(const RunInputs *r, Executor *x, const PackageEntry *entry)
{
	Arena tmp = ARENA("inputs");
	Status s = OK;
	for (u32 i = 0; i < entry->ninput && !s; i++) {
		const PackageTensor *t = &entry->input[i];
		const EntryInput *in = input_named(r, str_of(t->name));
		u8 *to = arena_push(&tmp, 1, t->bytes + 1, 16);
		const GivenInput *g = NULL;
		for (u32 k = 0; k < r->given.n; k++)
			g = r->given.v[k].input == in ? &r->given.v[k] : g;
		if (g && g->data)
			s = convert(r, g, t, to);
		else
			fill_texts(r, g ? g : r->texts, t, g ? "ids" : t->name, to);
		if (!s)
			s = executor_write(x, t, to);
	}
	arena_free(&tmp);
	return s;
}
