/* Ops against PyTorch: every case of tests/golden/ops.safetensors, outputs and input gradients, in f64; and a linear layer with
 * operands of 8 bits against NumPy and ml_dtypes, float8.safetensors.
 * tests/golden/README.md says what the file holds. */
#include "bench.h"
#include "runtime/checkpoint/safetensors.h"

#include <jansson.h>

typedef struct Golden {
	Safetensors file;
	const char *name; /* of the case */
	json_t *meta;
	bool exact; /* nothing is rounded to f32 */
	Bench *t;
	Val in[8];
	u32 nin;
	Val out[4]; /* set by the case; out[i] is compared with its out<i> where set */
} Golden;

/* ---- attributes, under the names that the file uses ---- */

static json_t *attribute(const Golden *c, const char *key)
{
	return json_object_get(json_object_get(c->meta, "attributes"), key);
}

static f64 number(const Golden *c, const char *key, f64 otherwise)
{
	json_t *v = attribute(c, key);
	return v ? json_number_value(v) : otherwise;
}

static i64 integer(const Golden *c, const char *key, i64 otherwise)
{
	return (i64)number(c, key, (f64)otherwise);
}

static bool flag(const Golden *c, const char *key)
{
	return json_is_true(attribute(c, key));
}

/* One number or a list. */
static ints list(const Golden *c, const char *key)
{
	json_t *v = attribute(c, key);
	i64 n[4];
	u32 count = 0;
	if (json_is_array(v))
		for (; count < json_array_size(v) && count < COUNT(n); count++)
			n[count] = json_integer_value(json_array_get(v, count));
	else if (v)
		n[count++] = json_integer_value(v);
	return ints_of(&c->t->b, n, count);
}

static i64 axis_of(const Golden *c)
{
	i64 axis = integer(c, "axis", -1);
	return axis < 0 ? axis + val_type(c->t->g, c->in[0])->rank : axis;
}

static void results(Golden *c, Val first, u32 n)
{
	for (u32 i = 0; i < n; i++)
		c->out[i] = (Val){ first.i + i };
}

/* ---- one function per op ---- */

static void do_layer_norm(Golden *c, Builder *b)
{
	results(c, BA(b, layer_norm, (c->in[0], c->in[1], c->in[2]), .eps = number(c, "eps", 0)), 1);
}

static void do_rms_norm(Golden *c, Builder *b)
{
	results(c, BA(b, rms_norm, (c->in[0], c->in[1]), .eps = number(c, "eps", 0)), 1);
}

static void do_group_norm(Golden *c, Builder *b)
{
	results(c, BA(b, group_norm, (c->in[0], c->in[1], c->in[2]), .groups = integer(c, "groups", 0),
		      .eps = number(c, "eps", 0)), 1);
}

static void do_softmax(Golden *c, Builder *b)
{
	results(c, BA(b, softmax, (c->in[0]), .axis = axis_of(c)), 1);
}

static void do_log_softmax(Golden *c, Builder *b)
{
	results(c, BA(b, log_softmax, (c->in[0]), .axis = axis_of(c)), 1);
}

static void do_gelu(Golden *c, Builder *b)
{
	bool tanh = strcmp(json_string_value(attribute(c, "approximate")), "tanh") == 0;
	results(c, BA(b, gelu, (c->in[0]), .approximate = tanh), 1);
}

static void do_silu(Golden *c, Builder *b)
{
	results(c, B(b, silu, c->in[0]), 1);
}

static void do_attention(Golden *c, Builder *b)
{
	attention_attr a = { .causal = flag(c, "causal"), .window = integer(c, "window", 0),
			     .scale = number(c, "scale", 0), .softcap = number(c, "softcap", 0) };
	for (u32 i = 3; i < c->nin; i++) {
		if (val_type(c->t->g, c->in[i])->dtype == DT_b1)
			a.mask = true;
		else
			a.bias = true;
	}
	results(c, build(b, OP_attention, c->in, c->nin, 0, &a), 1);
}

static void do_rope(Golden *c, Builder *b)
{
	const Type *x = val_type(c->t->g, c->in[0]);
	Val at = c->nin > 1 ? c->in[1]
			    : BS(b, iota, .axis = 0, .dtype = DT_i32,
				 .shape = dims_of(b, x->dim + x->rank - 2, 1));
	results(c, BA(b, rope, (c->in[0], at), .base = number(c, "theta", 0),
		      .interleaved = flag(c, "interleaved")), 1);
}

/* PyTorch's adds a bias. */
static void do_conv2d(Golden *c, Builder *b)
{
	Val y = BA(b, conv2d, (c->in[0], c->in[1]), .stride = list(c, "stride"),
		   .padding = list(c, "padding"), .dilation = list(c, "dilation"),
		   .groups = integer(c, "groups", 1));
	Val bias = BA(b, broadcast, (c->in[2]), .shape = dims_of_type(b, val_type(c->t->g, y)),
		      .dims = INTS(b, 1));
	results(c, B(b, add, y, bias), 1);
}

static void do_max_pool2d(Golden *c, Builder *b)
{
	results(c, BA(b, max_pool2d, (c->in[0]), .size = list(c, "kernel_size"),
		      .stride = list(c, "stride"), .padding = list(c, "padding")), 1);
}

/* Without padding counted: divided by the mean of ones, which is the share of the window inside. */
static void do_avg_pool2d(Golden *c, Builder *b)
{
	ints size = list(c, "kernel_size"), stride = list(c, "stride"), padding = list(c, "padding");
	Val y = BA(b, avg_pool2d, (c->in[0]), .size = size, .stride = stride, .padding = padding);
	if (!flag(c, "count_include_pad")) {
		Val ones = make_full_like(b, c->in[0], 1);
		Val share = BA(b, avg_pool2d, (ones), .size = size, .stride = stride,
			       .padding = padding);
		y = B(b, div, y, share);
	}
	results(c, y, 1);
}

static void do_upsample_nearest(Golden *c, Builder *b)
{
	results(c, BA(b, upsample2d, (c->in[0]), .factor = integer(c, "scale", 0)), 1);
}

static void do_cross_entropy(Golden *c, Builder *b)
{
	results(c, BA(b, cross_entropy, (c->in[0], c->in[1]), .ignore = integer(c, "ignore", 0)), 2);
}

static void do_embedding(Golden *c, Builder *b)
{
	results(c, BA(b, gather, (c->in[0], c->in[1]), .axis = 0), 1);
}

static void do_scatter_add(Golden *c, Builder *b)
{
	Dim size = dim_number(c->t->ir, integer(c, "size", 0));
	results(c, BA(b, scatter_add, (c->in[0], c->in[1]), .axis = 0, .size = { 1, &size }), 1);
}

static void do_cumsum(Golden *c, Builder *b)
{
	results(c, BA(b, cumsum, (c->in[0]), .axis = axis_of(c)), 1);
}

static void do_top_k(Golden *c, Builder *b)
{
	Val x = c->in[0];
	if (attribute(c, "of")) {
		assert_string_equal(json_string_value(attribute(c, "of")), "softmax(x)");
		x = BA(b, softmax, (x), .axis = val_type(c->t->g, x)->rank - 1);
	}
	results(c, BA(b, top_k, (x), .k = integer(c, "k", 0)), 2);
}

static void do_sort(Golden *c, Builder *b)
{
	results(c, BA(b, sort, (c->in[0]), .axis = axis_of(c), .descending = flag(c, "descending")), 2);
}

static void do_scaled_dot(Golden *c, Builder *b)
{
	const char *spec = intern_z(&c->t->g->ir->names, json_string_value(attribute(c, "spec")));
	results(c, BA(b, scaled_dot, (c->in[0], c->in[1]), .spec = spec, .left = DT_f8e4m3, .right = DT_f8e4m3), 1);
}

static const struct {
	const char *op;
	void (*make)(Golden *c, Builder *b);
} makers[] = {
	{ "layer_norm", do_layer_norm },
	{ "rms_norm", do_rms_norm },
	{ "group_norm", do_group_norm },
	{ "softmax", do_softmax },
	{ "log_softmax", do_log_softmax },
	{ "gelu", do_gelu },
	{ "silu", do_silu },
	{ "attention", do_attention },
	{ "rope", do_rope },
	{ "conv2d", do_conv2d },
	{ "max_pool2d", do_max_pool2d },
	{ "avg_pool2d", do_avg_pool2d },
	{ "upsample_nearest", do_upsample_nearest },
	{ "cross_entropy", do_cross_entropy },
	{ "embedding", do_embedding },
	{ "scatter_add", do_scatter_add },
	{ "cumsum", do_cumsum },
	{ "top_k", do_top_k },
	{ "sort", do_sort },
	{ "scaled_dot", do_scaled_dot },
};

/* ---- comparison ---- */

static const SafeTensor *golden_tensor(const Golden *c, const char *what, u32 i)
{
	return safetensors_find(&c->file, arena_printf(&c->t->arena, "%s/%s%u", c->name, what, i));
}

static void read_tensor(const SafeTensor *from, Tensor *to)
{
	i64 n = 1;
	assert_int_equal(from->rank, to->rank);
	for (u32 d = 0; d < from->rank; d++) {
		assert_int_equal(from->dim[d], to->dim[d]);
		n *= from->dim[d];
	}
	assert_int_equal(from->data.n, (size_t)n * safe_dtype_size(from->dtype));
	for (i64 i = 0; i < n; i++) {
		const u8 *p = from->data.p + (size_t)i * safe_dtype_size(from->dtype);
		f64 x = 0;
		i32 k = 0;
		if (from->dtype == SAFE_F64)
			memcpy(&x, p, sizeof x);
		else if (from->dtype == SAFE_I32)
			memcpy(&k, p, sizeof k);
		else
			k = *p;
		to->data[i] = from->dtype == SAFE_F64 ? x : k;
	}
}

static Val golden_input(Golden *c, const SafeTensor *from)
{
	DType dtype = DTYPES;
	switch (from->dtype) {
	case SAFE_F64: dtype = DT_f64; break;
	case SAFE_I32: dtype = DT_i32; break;
	case SAFE_BOOL: dtype = DT_b1; break;
	default: fail_msg("%s: an element type this test does not read", from->name);
	}
	Val v = bench_input(c->t, dtype, from->rank, from->dim, NULL);
	read_tensor(from, &c->t->input.v[c->t->input.n - 1].tensor);
	return v;
}

/* To 1e-12 of the largest element: both sides are f64. */
static void expect(const Golden *c, const char *what, u32 i, Val got, const SafeTensor *want)
{
	const Tensor *g = bench_eval_as(c->t, &c->t->arena, got, !c->exact);
	Tensor w = { .rank = g->rank, .n = g->n };
	memcpy(w.dim, g->dim, sizeof w.dim);
	w.data = NEWN(&c->t->arena, f64, w.n + 1);
	read_tensor(want, &w);
	f64 largest = 1;
	for (i64 k = 0; k < w.n; k++)
		largest = fmax(largest, fabs(w.data[k]));
	for (i64 k = 0; k < w.n; k++)
		if (!(fabs(g->data[k] - w.data[k]) <= 1e-12 * largest))
			fail_msg("%s/%s%u: element %lld is %.17g, not %.17g", c->name, what, i,
				 (long long)k, g->data[k], w.data[k]);
}

static void run_case(Golden *c)
{
	Builder *b = &c->t->b;
	const SafeTensor *from;
	for (; (from = golden_tensor(c, "in", c->nin)); c->nin++) {
		assert_true(c->nin < COUNT(c->in));
		c->in[c->nin] = golden_input(c, from);
	}
	const char *op = json_string_value(json_object_get(c->meta, "op"));
	u32 m = 0;
	while (m < COUNT(makers) && strcmp(makers[m].op, op) != 0)
		m++;
	if (m == COUNT(makers))
		fail_msg("%s: no way to make '%s'", c->name, op);
	makers[m].make(c, b);
	Val dout[4] = { { 0 } }, din[8];
	u32 nout = 0, with_gradient = 0;
	for (; (from = golden_tensor(c, "out", nout)); nout++) {
		assert_true(nout < COUNT(c->out) && c->out[nout].i);
		expect(c, "out", nout, c->out[nout], from);
		if ((from = golden_tensor(c, "dout", nout))) {
			dout[nout] = golden_input(c, from);
			with_gradient++;
		}
	}
	assert_true(nout > 0);
	if (!with_gradient)
		return;
	assert_true(grad_append_vjp(b, c->out, dout, nout, c->in, c->nin, din));
	for (u32 i = 0; i < c->nin; i++) {
		if (!(from = golden_tensor(c, "din", i)))
			continue;
		if (!din[i].i)
			fail_msg("%s: no gradient of input %u", c->name, i);
		expect(c, "din", i, din[i], from);
	}
}

static void every_case(const char *path, u32 least, bool exact)
{
	Arena arena = ARENA("golden");
	Golden c = { 0 };
	Status s = safetensors_open(&arena, path, &c.file);
	if (s)
		fail_msg("%s", s->text);
	u32 cases = 0;
	for (u32 i = 0; i < c.file.file[0].nmeta; i++) {
		const TextPair *entry = &c.file.file[0].meta[i];
		json_t *meta = json_loads(entry->value, 0, NULL);
		if (meta && json_object_get(meta, "op")) {
			Golden one = { .file = c.file, .name = entry->key, .meta = meta, .exact = exact,
				       .t = bench_new() };
			run_case(&one);
			bench_free(one.t);
			cases++;
		}
		json_decref(meta);
	}
	print_message("%u cases\n", cases);
	assert_true(cases >= least);
	safetensors_close(&c.file);
	arena_free(&arena);
}

static void every_op(void **state)
{
	(void)state;
	every_case(SOURCE_DIR "/tests/golden/ops.safetensors", 60, false);
}

static void linear_layers_of_8_bits(void **state)
{
	(void)state;
	every_case(SOURCE_DIR "/tests/golden/float8.safetensors", 5, true); /* sums of f32, there in f64 */
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_op), cmocka_unit_test(linear_layers_of_8_bits) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
