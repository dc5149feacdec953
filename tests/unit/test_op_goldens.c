/* Ops and their gradients against PyTorch's: the cases of tests/golden/ops.safetensors (README.md
 * there says how they are named), evaluated in f64. */
#include "ir/eval.h"
#include "passes/graph/grad.h"
#include "runtime/checkpoint/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MOST = 8 };

/* One case: its inputs as nodes of a graph, what it gives, and what the file says. */
typedef struct Case {
	const char *name;
	const json_t *attributes;
	Arena *arena;
	const Safetensors *file;
	Ir *ir;
	Builder b;
	u32 nin, nout, ngrad;
	const char *input[MOST];
	Val in[MOST], out[MOST];
	Tensor source[2 * MOST]; /* in, then the cotangents */
	u32 nsource;
} Case;

static const SafeTensor *stored(const Case *c, const char *what, u32 i)
{
	return safetensors_find(c->file, arena_printf(c->arena, "%s/%s%u", c->name, what, i));
}

static Tensor tensor_of(Arena *a, const SafeTensor *s)
{
	Tensor t = { .rank = s->rank, .n = 1 };
	for (u32 d = 0; d < s->rank; d++) {
		t.dim[d] = s->dim[d];
		t.n *= s->dim[d];
	}
	t.data = NEWN(a, f64, t.n);
	for (i64 i = 0; i < t.n; i++) {
		f64 x;
		i32 whole;
		switch (s->dtype) {
		case SAFE_F64:
			memcpy(&x, s->data.p + 8 * i, 8);
			t.dtype = DT_f64;
			break;
		case SAFE_I32:
			memcpy(&whole, s->data.p + 4 * i, 4);
			x = whole;
			t.dtype = DT_i32;
			break;
		case SAFE_BOOL:
			x = s->data.p[i];
			t.dtype = DT_b1;
			break;
		default: fail_msg("%s is of a type that no golden has", s->name);
		}
		t.data[i] = x;
	}
	return t;
}

/* An input node that is given these values. */
static Val given(Case *c, const Tensor *t, DType dtype)
{
	Dim dim[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++)
		dim[d] = dim_number(c->ir, t->dim[d]);
	c->source[c->nsource] = *t;
	return BS(&c->b, input, .name = intern_printf(&c->ir->names, "x%u", c->nsource++),
		  .dtype = dtype, .shape = { t->rank, dim });
}

/* ---- attributes ---- */

static f64 number(const Case *c, const char *name, f64 missing)
{
	const json_t *j = json_object_get(c->attributes, name);
	return json_is_number(j) ? json_number_value(j) : json_is_boolean(j) ? json_is_true(j) : missing;
}

static bool is_text(const Case *c, const char *name, const char *text)
{
	const json_t *j = json_object_get(c->attributes, name);
	return json_is_string(j) && strcmp(json_string_value(j), text) == 0;
}

/* A number for both, or a list (height, width). */
static ints pair(Case *c, const char *name, i64 missing)
{
	const json_t *j = json_object_get(c->attributes, name);
	if (json_is_array(j))
		return INTS(&c->b, json_integer_value(json_array_get(j, 0)),
			    json_integer_value(json_array_get(j, 1)));
	i64 both = j ? json_integer_value(j) : missing;
	return INTS(&c->b, both, both);
}

static bool has_input(const Case *c, const char *name)
{
	for (u32 i = 0; i < c->nin; i++)
		if (strcmp(c->input[i], name) == 0)
			return true;
	return false;
}

static i64 axis_of(const Case *c, Val v)
{
	i64 axis = (i64)number(c, "axis", 0);
	return axis < 0 ? axis + val_type(c->b.g, v)->rank : axis;
}

/* ---- one function per op of the file that takes more than its operands ---- */

static Val make_attention(Case *c)
{
	return build(&c->b, OP_attention, c->in, c->nin, 2,
		     &(attention_attr){ .causal = number(c, "causal", 0) != 0,
					.mask = has_input(c, "mask"),
					.bias = has_input(c, "bias"),
					.window = (i64)number(c, "window", 0),
					.scale = number(c, "scale", 0) });
}

static Val make_rope(Case *c)
{
	const Type *t = val_type(c->b.g, c->in[0]);
	Val at = c->nin == 2 ? c->in[1]
			     : BS(&c->b, iota, .axis = 0, .dtype = DT_i32,
				  .shape = { 1, &t->dim[t->rank - 2] });
	return BA(&c->b, rope, (c->in[0], at), .base = number(c, "theta", 0),
		  .interleaved = number(c, "interleaved", 0) != 0);
}

static Val make_conv2d(Case *c)
{
	Val y = BA(&c->b, conv2d, (c->in[0], c->in[1]), .stride = pair(c, "stride", 1),
		   .padding = pair(c, "padding", 0), .dilation = pair(c, "dilation", 1),
		   .groups = (i64)number(c, "groups", 1));
	const Type *t = val_type(c->b.g, y);
	Val bias = BA(&c->b, broadcast, (c->in[2]), .shape = { t->rank, t->dim },
		      .dims = INTS(&c->b, 1));
	return B(&c->b, add, y, bias);
}

static Val make_scatter_add(Case *c)
{
	Dim size = dim_number(c->ir, (i64)number(c, "size", 0));
	return BA(&c->b, scatter_add, (c->in[0], c->in[1]), .axis = 0, .size = { 1, &size });
}

static Val make_top_k(Case *c)
{
	Val x = c->in[0];
	if (is_text(c, "of", "softmax(x)"))
		x = BA(&c->b, softmax, (x), .axis = val_type(c->b.g, x)->rank - 1);
	return BA(&c->b, top_k, (x), .k = (i64)number(c, "k", 0));
}

/* Result 0 of the case, or {0} for what Plinth has no op for. */
static Val make(Case *c, const char *op)
{
	Builder *b = &c->b;
	Val x = c->in[0], y = c->in[1], z = c->in[2];
	f64 eps = number(c, "eps", 0);
	i64 axis = axis_of(c, x);
#define IS(name) if (strcmp(op, name) == 0)
	IS("layer_norm") return BA(b, layer_norm, (x, y, z), .eps = eps);
	IS("rms_norm") return BA(b, rms_norm, (x, y), .eps = eps);
	IS("group_norm") return BA(b, group_norm, (x, y, z), .eps = eps,
				   .groups = (i64)number(c, "groups", 0));
	IS("softmax") return BA(b, softmax, (x), .axis = axis);
	IS("log_softmax") return BA(b, log_softmax, (x), .axis = axis);
	IS("gelu") return BA(b, gelu, (x), .approximate = is_text(c, "approximate", "tanh"));
	IS("silu") return B(b, silu, x);
	IS("attention") return make_attention(c);
	IS("rope") return make_rope(c);
	IS("conv2d") return make_conv2d(c);
	IS("max_pool2d") return BA(b, max_pool2d, (x), .size = pair(c, "kernel_size", 0),
				   .stride = pair(c, "stride", 0), .padding = pair(c, "padding", 0));
	IS("avg_pool2d") return number(c, "count_include_pad", 1) == 0
					? (Val){ 0 }
					: BA(b, avg_pool2d, (x), .size = pair(c, "kernel_size", 0),
					     .stride = pair(c, "stride", 0),
					     .padding = pair(c, "padding", 0));
	IS("upsample_nearest") return BA(b, upsample2d, (x), .factor = (i64)number(c, "scale", 0));
	IS("cross_entropy") return BA(b, cross_entropy, (x, y), .ignore = (i64)number(c, "ignore", 0));
	IS("embedding") return BA(b, gather, (x, y), .axis = 0);
	IS("scatter_add") return make_scatter_add(c);
	IS("cumsum") return BA(b, cumsum, (x), .axis = axis);
	IS("top_k") return make_top_k(c);
	IS("sort") return BA(b, sort, (x), .axis = axis,
			     .descending = number(c, "descending", 0) != 0);
#undef IS
	fail_msg("%s: no case is made of op %s", c->name, op);
	return (Val){ 0 };
}

/* Of the largest element that is expected, so that a gradient of zero may be a little off. */
static void expect_equal(const Case *c, const char *what, u32 i, const Tensor *got,
			 const SafeTensor *stored)
{
	Tensor want = tensor_of(c->arena, stored);
	f64 largest = 1e-3;
	assert_int_equal(got->n, want.n);
	for (i64 k = 0; k < want.n; k++)
		largest = fmax(largest, fabs(want.data[k]));
	for (i64 k = 0; k < want.n; k++)
		if (!(fabs(got->data[k] - want.data[k]) <= 1e-10 * largest))
			fail_msg("%s: %s%u is %.15g at %lld, not %.15g", c->name, what, i, got->data[k],
				 (long long)k, want.data[k]);
}

static bool run_case(Case *c, const char *op)
{
	const SafeTensor *s;
	for (; (s = stored(c, "in", c->nin)); c->nin++) {
		Tensor t = tensor_of(c->arena, s);
		c->in[c->nin] = given(c, &t, t.dtype);
	}
	Val first = make(c, op);
	if (!first.i)
		return false;
	Val dout[MOST] = { { 0 } }, din[MOST];
	bool has_gradient = false;
	for (; (s = stored(c, "out", c->nout)); c->nout++) {
		Val v = c->out[c->nout] = (Val){ first.i + c->nout };
		const SafeTensor *d = stored(c, "dout", c->nout);
		if (!d)
			continue;
		Tensor t = tensor_of(c->arena, d);
		dout[c->nout] = given(c, &t, val_type(c->b.g, v)->dtype);
		has_gradient = true;
	}
	assert_true(c->nout > 0);
	Tensor got[MOST];
	eval_values(c->arena, c->b.g, c->source, c->out, c->nout, got, (EvalOptions){ 0 });
	for (u32 i = 0; i < c->nout; i++)
		expect_equal(c, "out", i, &got[i], stored(c, "out", i));
	if (!has_gradient)
		return true;
	if (!grad_append_vjp(&c->b, c->out, dout, c->nout, c->in, c->nin, din))
		fail_msg("%s: %s", c->name, c->ir->diag->first->text);
	for (u32 i = 0; i < c->nin; i++) {
		if (!(s = stored(c, "din", i)))
			continue;
		if (!din[i].i)
			fail_msg("%s: input %u has no gradient", c->name, i);
		eval_values(c->arena, c->b.g, c->source, &din[i], 1, got, (EvalOptions){ 0 });
		expect_equal(c, "din", i, got, s);
	}
	return true;
}

static void pytorch_agrees(void **state)
{
	(void)state;
	Arena file_arena = ARENA("goldens");
	Safetensors file;
	assert_null(safetensors_open(&file_arena, SOURCE_DIR "/tests/golden/ops.safetensors", &file));
	u32 done = 0, left_out = 0;
	for (u32 i = 0; i < file.file[0].nmeta; i++) {
		const TextPair *meta = &file.file[0].meta[i];
		json_t *j = json_loads(meta->value, 0, NULL);
		if (!json_is_object(j) || !json_object_get(j, "op")) {
			json_decref(j);
			continue;
		}
		Arena arena = ARENA("case");
		Diag diag = { .arena = &arena };
		Case c = { .name = meta->key, .attributes = json_object_get(j, "attributes"),
			   .arena = &arena, .file = &file, .ir = ir_new(&arena, &diag) };
		c.b = builder_new(graph_new(&arena, c.ir, "case"));
		const json_t *inputs = json_object_get(j, "inputs");
		assert_true(json_array_size(inputs) <= MOST);
		for (u32 k = 0; k < json_array_size(inputs); k++)
			c.input[k] = json_string_value(json_array_get(inputs, k));
		for (u32 k = (u32)json_array_size(inputs); k < MOST; k++)
			c.input[k] = "";
		if (run_case(&c, json_string_value(json_object_get(j, "op"))))
			done++;
		else
			left_out++;
		builder_done(&c.b);
		arena_free(&arena);
		json_decref(j);
	}
	/* averages that leave the padding out are no op of ours */
	assert_int_equal(left_out, 1);
	assert_true(done >= 60);
	safetensors_close(&file);
	arena_free(&file_arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(pytorch_agrees) };
	return cmocka_run_group_tests_name("op goldens", tests, NULL, NULL);
}
