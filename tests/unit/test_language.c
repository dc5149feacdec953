/* What the language's expressions mean: small programs, elaborated and evaluated, against NumPy's and einops' values of the
 * expression in the comment (of x = arange(6).reshape(2, 3) - 2, y = arange(24).reshape(2, 3, 4), i = [1, 0], k = x > 0);
 * what the blocks of a file become; and that a mistake in a preset, a setting or a used file is one message. */
#include "frontend/elaborate.h"
#include "ir/eval.h"

#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

typedef struct Made {
	Arena arena;
	Diag diag;
	Ir *ir;
	Model *model;
} Made;

/* Text of a file that a test's program uses; NULL: none. */
typedef struct Used {
	const char *name, *text;
} Used;

static bool find(void *cx, Arena *arena, const char *name, const char **path, Str *text)
{
	const Used *u = cx;
	for (; u && u->name; u++)
		if (!strcmp(u->name, name)) {
			*path = arena_printf(arena, "%s.plinth", name);
			*text = str_of(u->text);
			return true;
		}
	return false;
}

static void make_with(Made *m, const char *source, const char *preset, const char *const *set, u32 nset, Used *used)
{
	*m = (Made){ .arena = ARENA("language") };
	m->diag.arena = &m->arena;
	m->ir = ir_new(&m->arena, &m->diag);
	const Ast *ast = parse_source(&m->arena, &m->ir->names, &m->diag, "test.plinth", str_of(source));
	ElaborateOptions o = { .preset = preset, .set = set, .nset = nset, .find = find, .find_cx = used };
	m->model = ast && !m->diag.nerror ? elaborate(&m->arena, m->ir, ast, &o) : NULL;
}

static void make(Made *m, const char *source)
{
	make_with(m, source, NULL, NULL, 0, NULL);
	if (!m->model)
		diag_print(&m->diag, stderr, false);
	assert_non_null(m->model);
	assert_true(program_verify(m->model->program, &m->diag));
}

static void unmake(Made *m)
{
	arena_free(&m->arena);
}

static const struct {
	const char *body;
	u32 rank;
	i64 shape[4];
	f64 value[200];
} rows[] = {
	/* x + 1 */
	{ "return x + 1", 2, { 2, 3 },
	  { -1, 0, 1, 2, 3, 4 } },
	/* 2 ** x */
	{ "return 2 ** x", 2, { 2, 3 },
	  { 0.25, 0.5, 1, 2, 4, 8 } },
	/* x / 2 - x // 2 * 2 + x % 2 */
	{ "return x / 2 - x // 2 * 2 + x % 2", 2, { 2, 3 },
	  { 1, 2.5, 0, 1.5, -1, 0.5 } },
	/* -x ** 2 */
	{ "return -x ** 2", 2, { 2, 3 },
	  { -4, -1, 0, -1, -4, -9 } },
	/* i / 2 */
	{ "return i / 2", 1, { 2 },
	  { 0.5, 0 } },
	/* i // 2 + i * 3 */
	{ "return i // 2 + i * 3", 1, { 2 },
	  { 3, 0 } },
	/* i + 0.5 */
	{ "return i + 0.5", 1, { 2 },
	  { 1.5, 0.5 } },
	/* (x < 1) | (x == 3) */
	{ "return cast(x < 1 or x == 3, f32)", 2, { 2, 3 },
	  { 1, 1, 1, 0, 0, 1 } },
	/* ~k & (x >= -1) */
	{ "return cast(not k and x >= -1, f32)", 2, { 2, 3 },
	  { 0, 1, 1, 0, 0, 0 } },
	/* np.where(k, x, 10) */
	{ "return where(k, x, 10)", 2, { 2, 3 },
	  { 10, 10, 10, 1, 2, 3 } },
	/* np.where(x > y[0, :2, :3], x, -1) */
	{ "return where(x > y[0, :2, :3], x, -1)", 2, { 2, 3 },
	  { -1, -1, -1, -1, -1, -1 } },
	/* np.clip(x, -1, 1) + np.maximum(x, 0) + np.minimum(x, 2) */
	{ "return clamp(x, -1, 1) + max(x, 0) + min(x, 2)", 2, { 2, 3 },
	  { -3, -2, 0, 3, 5, 6 } },
	/* x[:, None] * x[None] */
	{ "return x[:, none] * x[none]", 3, { 2, 2, 3 },
	  { 4, 1, 0, -2, -2, 0, -2, -2, 0, 1, 4, 9 } },
	/* y[1] */
	{ "return y[1]", 2, { 3, 4 },
	  { 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23 } },
	/* y[-1, 0] */
	{ "return y[-1, 0]", 1, { 4 },
	  { 12, 13, 14, 15 } },
	/* y[:, 1:, ::2] */
	{ "return y[:, 1:, ::2]", 3, { 2, 2, 2 },
	  { 4, 6, 8, 10, 16, 18, 20, 22 } },
	/* y[..., ::-1] */
	{ "return y[..., ::-1]", 3, { 2, 3, 4 },
	  { 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16, 23, 22, 21, 20 } },
	/* y[:, -2:, 1:-1] */
	{ "return y[:, -2:, 1:-1]", 3, { 2, 2, 2 },
	  { 5, 6, 9, 10, 17, 18, 21, 22 } },
	/* y[0, ..., None, 3] */
	{ "return y[0, ..., none, 3]", 2, { 3, 1 },
	  { 3, 7, 11 } },
	/* y[:, :, 3:0:-2] */
	{ "return y[:, :, 3:0:-2]", 3, { 2, 3, 2 },
	  { 3, 1, 7, 5, 11, 9, 15, 13, 19, 17, 23, 21 } },
	/* x[i] */
	{ "return x[i]", 2, { 2, 3 },
	  { 1, 2, 3, -2, -1, 0 } },
	/* y[:, i] */
	{ "return y[:, i]", 3, { 2, 2, 4 },
	  { 4, 5, 6, 7, 0, 1, 2, 3, 16, 17, 18, 19, 12, 13, 14, 15 } },
	/* y[1, :, 1:100] */
	{ "return y[1, :, 1:100]", 2, { 3, 3 },
	  { 13, 14, 15, 17, 18, 19, 21, 22, 23 } },
	/* x[:, i + 1] */
	{ "return x[:, i + 1]", 2, { 2, 2 },
	  { 0, -1, 3, 2 } },
	/* x[0] * 10 + x[1] */
	{ "a, b = x\n  return a * 10 + b", 1, { 3 },
	  { -19, -8, 3 } },
	/* rearrange(y, "a b c -> c (a b)") */
	{ "return rearrange(y, \"a b c -> c (a b)\")", 2, { 4, 6 },
	  { 0, 4, 8, 12, 16, 20, 1, 5, 9, 13, 17, 21, 2, 6, 10, 14, 18, 22, 3, 7, 11, 15, 19, 23 } },
	/* rearrange(y, "a b (c d) -> (d a) b c", d=2) */
	{ "return rearrange(y, \"a b (c d) -> (d a) b c\", d = 2)", 3, { 4, 3, 2 },
	  { 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23 } },
	/* rearrange(y, "... c -> c ...") */
	{ "return rearrange(y, \"... c -> c ...\")", 3, { 4, 2, 3 },
	  { 0, 4, 8, 12, 16, 20, 1, 5, 9, 13, 17, 21, 2, 6, 10, 14, 18, 22, 3, 7, 11, 15, 19, 23 } },
	/* rearrange(x, "a b -> a 1 b") */
	{ "return rearrange(x, \"a b -> a 1 b\")", 3, { 2, 1, 3 },
	  { -2, -1, 0, 1, 2, 3 } },
	/* y[..., :2] * y[..., 2:] */
	{ "q, r = rearrange(y, \"a b (two c) -> two a b c\", two = 2)\n  return q * r", 3, { 2, 3, 2 },
	  { 0, 3, 24, 35, 80, 99, 168, 195, 288, 323, 440, 483 } },
	/* reduce(y, "a b (c two) -> a c", "mean", two=2) */
	{ "return reduce(y, \"a b (c two) -> a c\", \"mean\", two = 2)", 2, { 2, 2 },
	  { 4.5, 6.5, 16.5, 18.5 } },
	/* reduce(y, "a b c -> c", "max") */
	{ "return reduce(y, \"a b c -> c\", \"max\")", 1, { 4 },
	  { 20, 21, 22, 23 } },
	/* reduce(x, "a b -> ", "min") */
	{ "return reduce(x, \"a b -> \", \"min\")", 0, { 0 },
	  { -2 } },
	/* einsum("ab,abc->ac", x, y) */
	{ "return einsum(\"a b, a b c -> a c\", x, y)", 2, { 2, 4 },
	  { -4, -7, -10, -13, 104, 110, 116, 122 } },
	/* einsum("ab,cb->ac", x, x) */
	{ "return einsum(\"ab,cb->ac\", x, x)", 2, { 2, 2 },
	  { 5, -4, -4, 14 } },
	/* einsum("abc,ab,ac->b", y, x, y[:, 0]) */
	{ "return einsum(\"a b, a b c, a c -> b\", x, y, y[:, 0])", 1, { 3 },
	  { 706, 1862, 3498 } },
	/* x.T */
	{ "return einsum(\"a b -> b a\", x)", 2, { 3, 2 },
	  { -2, 1, -1, 2, 0, 3 } },
	/* einsum("abc->b", y) */
	{ "return einsum(\"a b c -> b\", y)", 1, { 3 },
	  { 60, 92, 124 } },
	/* x @ x.T */
	{ "return x @ transpose(x)", 2, { 2, 2 },
	  { 5, -4, -4, 14 } },
	/* np.swapaxes(y, 1, 2) @ x[:, :, None] */
	{ "return transpose(y) @ x[:, :, none]", 3, { 2, 4, 1 },
	  { -4, -7, -10, -13, 104, 110, 116, 122 } },
	/* x[:, None] @ y */
	{ "return x[:, none] @ y", 3, { 2, 1, 4 },
	  { -4, -7, -10, -13, 104, 110, 116, 122 } },
	/* x @ x[0] */
	{ "return x @ x[0]", 1, { 2 },
	  { 5, -4 } },
	/* y[0] @ np.ones((4, 2)) */
	{ "return y[0] @ ones([4, 2])", 2, { 3, 2 },
	  { 6, 6, 22, 22, 38, 38 } },
	/* x.sum() + y.mean((0, 2)) */
	{ "return sum(x) + mean(y, axis = [0, 2])", 1, { 3 },
	  { 10.5, 14.5, 18.5 } },
	/* y.max(-1) - y.min(2) */
	{ "return max(y, axis = -1) - min(y, axis = 2, keep = true)[..., 0]", 2, { 2, 3 },
	  { 3, 3, 3, 3, 3, 3 } },
	/* (x + 3).prod(1) */
	{ "return prod(x + 3, axis = 1)", 1, { 2 },
	  { 6, 120 } },
	/* x.cumsum(0) */
	{ "return cumsum(x, axis = 0)", 2, { 2, 3 },
	  { -2, -1, 0, -1, 1, 3 } },
	/* x[:, ::-1].cumsum(1)[:, ::-1] - x */
	{ "return cumsum(x, reverse = true, exclusive = true)", 2, { 2, 3 },
	  { -1, 0, 0, 5, 3, 0 } },
	/* np.argmax(-x, 1) + np.argmax(x, 0)[0] */
	{ "return argmax(-x, axis = 1) + argmax(x, axis = 0)[0]", 1, { 2 },
	  { 1, 1 } },
	/* -np.sort(-x * x, 1) * 10 + np.argsort(-x * x, 1, kind='stable') */
	{ "v, p = sort(x * x, axis = 1, descending = true)\n  return v * 10 + p", 2, { 2, 3 },
	  { 40, 11, 2, 92, 41, 10 } },
	/* -np.sort(-x, 1)[:, :2] * 10 + np.argsort(-x, 1)[:, :2] */
	{ "v, p = top_k(x, k = 2)\n  return v * 10 + p", 2, { 2, 2 },
	  { 2, -9, 32, 21 } },
	/* softmax(x) + np.log(softmax(x)) - np.log(np.exp(x).sum(1))[:, None] */
	{ "return softmax(x) + log_softmax(x) - logsumexp(x)[:, none]", 2, { 2, 3 },
	  { -2.725181355718, -1.570483457834, -0.149970973114, -5.725181355718, -4.570483457834,
	    -3.149970973114 } },
	/* np.concatenate([x, x * 2], 0) */
	{ "return concat(x, x * 2, axis = 0)", 2, { 4, 3 },
	  { -2, -1, 0, 1, 2, 3, -4, -2, 0, 2, 4, 6 } },
	/* np.concatenate([x, y[..., 0]], -1) */
	{ "return concat([x, y[..., 0]])", 2, { 2, 6 },
	  { -2, -1, 0, 0, 4, 8, 1, 2, 3, 12, 16, 20 } },
	/* y[..., :2] - y[..., 2:] */
	{ "a, b = split(y, 2)\n  return a - b", 3, { 2, 3, 2 },
	  { -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2 } },
	/* y[:, :1] * y[:, 1:] */
	{ "a, b = split(y, [1, 2], axis = 1)\n  return a * b", 3, { 2, 2, 4 },
	  { 0, 5, 12, 21, 0, 9, 20, 33, 192, 221, 252, 285, 240, 273, 308, 345 } },
	/* np.pad(x, ((1, 0), (0, 0)), constant_values=7) */
	{ "return pad(x, axis = 0, low = 1, value = 7)", 2, { 3, 3 },
	  { 7, 7, 7, -2, -1, 0, 1, 2, 3 } },
	/* np.pad(x, ((0, 0), (1, 2))) */
	{ "return pad(x, axis = 1, low = 1, high = 2)", 2, { 2, 6 },
	  { 0, -2, -1, 0, 0, 0, 0, 1, 2, 3, 0, 0 } },
	/* y.reshape(4, 6) */
	{ "return reshape(y, [4, 6])", 2, { 4, 6 },
	  { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23 } },
	/* np.swapaxes(y, 0, 2) */
	{ "return transpose(y, 0, 2)", 3, { 4, 3, 2 },
	  { 0, 12, 4, 16, 8, 20, 1, 13, 5, 17, 9, 21, 2, 14, 6, 18, 10, 22, 3, 15, 7, 19, 11, 23 } },
	/* np.broadcast_to(x[0], (2, 3)) + np.arange(3) */
	{ "return broadcast(x[0], [2, 3]) + iota(3)", 2, { 2, 3 },
	  { -2, 0, 2, -2, 0, 2 } },
	/* np.array([x[1], x[0], x[0] * 0]) */
	{ "return scatter_add(x, [1, 1][0] * i, n = 3)", 2, { 3, 3 },
	  { 1, 2, 3, -2, -1, 0, 0, 0, 0 } },
	/* np.take_along_axis(x, np.argmax(x, 1)[:, None], 1) */
	{ "return take_along(x, argmax(x, axis = 1)[:, none], axis = 1)", 2, { 2, 1 },
	  { 0, 3 } },
	/* np.full(2, 1.5) */
	{ "return full(0.5, [2]) + ones([2]) + zeros([2])", 1, { 2 },
	  { 1.5, 1.5 } },
	/* x * 0 + 3124 */
	{ "s = [3, 1, 2]\n  t = 0\n  for n in s + [4] { t = t * 10 + n }\n  return x * 0 + t", 2, { 2, 3 },
	  { 3124, 3124, 3124, 3124, 3124, 3124 } },
	/* x * 3 + x * 2 + 3 */
	{ "s = [x, x * 2, x * 3]\n  return s[-1] + s[1:][0] + len(s)", 2, { 2, 3 },
	  { -7, -2, 3, 8, 13, 18 } },
	/* x * 2 */
	{ "if size(x, 1) == 3 and not training { x = x * 2 } else { x = x * 5 }\n  return x", 2, { 2, 3 },
	  { -4, -2, 0, 2, 4, 6 } },
	/* x * 0 + 35 */
	{ "n = 7 // 2 * 10 + 7 % 4 + (1 if 2 > 3 else 2)\n  return x * 0 + n", 2, { 2, 3 },
	  { 35, 35, 35, 35, 35, 35 } },
	/* x * 2 + 3 */
	{ "r = { a = 2, b = { c = 3 } }\n  return x * r.a + r.b.c", 2, { 2, 3 },
	  { -1, 1, 3, 5, 7, 9 } },
	/* x + x[0, 0] * 2 + x[0, 1] */
	{ "t = 0.0\n  for j in 0..3 { for m in 0..j { t = t + x[0, m] } }\n  return x + t", 2, { 2, 3 },
	  { -7, -6, -5, -4, -3, -2 } },
	/* x + y[0, 0, :3] */
	{ "return x + y[0, 0, :3]", 2, { 2, 3 },
	  { -2, 0, 2, 1, 3, 5 } },
	/* k.sum(1) */
	{ "return sum(cast(k, i32), axis = 1)", 1, { 2 },
	  { 0, 3 } },
	/* 0.5 */
	{ "return mean(i)", 0, { 0 },
	  { 0.5 } },
	/* 3 * x + 2 */
	{ "return size(y, 1) * x + size(x, 0)", 2, { 2, 3 },
	  { -4, -1, 2, 5, 8, 11 } },
	/* (x * x).mean() */
	{ "return mse(x, x * 2)[0] / mse(x, x * 2)[1]", 0, { 0 },
	  { 3.166666666667 } },
	/* np.concatenate([y[:, :1, :2] * np.cos([0, .5]) - y[:, :1, 2:] * np.sin([0, .5]), y[:, :1, 2:]
	 * * np.cos([0, .5]) + y[:, :1, :2] * np.sin([0, .5])], -1) */
	{ "return rotate(y[:, :1], iota(2) * 0.5)", 3, { 2, 1, 4 },
	  { 0, -0.560694053922, 2, 3.112173224275, 12, 4.217190225512, 14, 19.39627043021 } },
	/* two texts of six tokens that choose (0,1) (2,0) (1,2) (0,1) (2,0) (1,2): each expert is chosen four times, by two
	 * tokens first and by two second, and keeps three; 3 stands for none */
	{ "return within_capacity(cast(reshape(y, [12, 2]), i32) % 3, texts = 2, groups = 3, most = 3)", 2, { 12, 2 },
	  { 0, 1, 2, 0, 1, 2, 0, 3, 2, 3, 1, 3, 0, 1, 2, 0, 1, 2, 0, 3, 2, 3, 1, 3 } },
	/* diffusers.DDIMScheduler's with Stable Diffusion's settings and alphas_cumprod in f64: step(y[:, :, 1], t, x).prev_sample of 50
	 * steps, to four places, because constants are f32; the first and the last of its timesteps */
	{ "return round(1e4 * ddim_step(x, y[:, :, 1], ddim_times(steps = 50)[0], steps = 50))", 2, { 2, 3 },
	  { -23690, -17391, -11093, -4794, 1504, 7803 } },
	{ "return round(1e4 * ddim_step(x, y[:, :, 1], ddim_times(steps = 50)[-1], steps = 50))", 2, { 2, 3 },
	  { -20130, -10611, -1093, 8426, 17944, 27463 } },
	{ "return ddim_times(steps = 50)[::49]", 1, { 2 }, { 981, 1 } },
	/* and those that chose none stand behind the last expert's rows */
	{ "rows, offsets, back, slot = group_by(reshape(y, [12, 2]), within_capacity(cast(reshape(y, [12, 2]), i32) % 3, texts = 2, "
	  "groups = 3, most = 3), groups = 3)\n  return concat(offsets, back[:2], slot[-1:])",
	  1, { 7 }, { 0, 6, 12, 18, 0, 1, 23 } },
};

/* The first element of each input; they count up from there. */
static void fill(Arena *a, const Node *n, const Graph *g, Tensor *t)
{
	*t = tensor_new(a, val_type(g, n->out));
	const char *name = ATTR(n, input)->name;
	for (i64 j = 0; j < t->n; j++)
		t->data[j] = *name == 'x' ? (f64)j - 2 : *name == 'y' ? (f64)j : *name == 'i' ? 1 - (f64)j : j - 2 > 0;
}

static void expressions_have_numpys_values(void **state)
{
	(void)state;
	for (size_t r = 0; r < COUNT(rows); r++) {
		Made m;
		Arena tmp = ARENA("source");
		make(&m, arena_printf(&tmp, "use std.nn\nuse std.diffusion\nmodel m(x: [2, 3], y: [2, 3, 4], i: i32[2], k: bool[2, 3]) {\n  %s\n}\n",
				      rows[r].body));
		const Graph *g = program_find_entry(m.model->program, STR("forward"));
		const Node *node[8];
		Tensor source[8], result;
		assert_int_equal(g->result.n, 1);
		u32 n = graph_sources(g, node);
		assert_true(n <= COUNT(source));
		for (u32 i = 0; i < n; i++)
			fill(&m.arena, node[i], g, &source[i]);
		eval_graph(&m.arena, g, source, &result, (EvalOptions){ 0 });
		const Type *t = val_type(g, g->result.v[0].value);
		bool good = t->rank == rows[r].rank;
		for (u32 d = 0; good && d < t->rank; d++)
			good = type_extent(t, d) == rows[r].shape[d];
		for (i64 j = 0; good && j < result.n; j++)
			good = fabs(result.data[j] - rows[r].value[j]) <= 1e-9 * (1 + fabs(rows[r].value[j]));
		if (!good) {
			print_message("%s\n gives a tensor of rank %u:", rows[r].body, t->rank);
			for (i64 j = 0; j < result.n && j < 30; j++)
				print_message(" %g", result.data[j]);
			print_message("\n");
		}
		assert_true(good);
		unmake(&m);
		arena_free(&tmp);
	}
}

/* ---- blocks ---- */

#define MODEL                                                                                                     \
	"use std.nn\nuse std.train\n"                                                                             \
	"config { width = 8 from \"n_embd\", layers = 2, text { width = 4 } }\n"                                  \
	"preset small { width = 4, text { width = 2 } }\n"                                                        \
	"model m(tokens: i32[B, T]) -> [B, T, 16] {\n"                                                            \
	"  x = Embedding(tokens, rows = 16, width = width) as wte\n"                                              \
	"  for i in 0..layers { x = x + Linear(x, out = width) as \"h.{i}\" }\n"                                 \
	"  return Linear(x, out = 16) as head\n}\n"
#define TRAIN                                                                                                     \
	"train {\n  input tokens: i32[B, T]\n  input targets: i32[B, T]\n"                                        \
	"  loss = cross_entropy(m(tokens), targets)\n  batch = { B = 4, T = 8, accumulate = 3 }\n"                 \
	"  optimizer = adamw(lr = cosine(peak = 1e-3, total = 10))\n  clip = 1.0\n  precision = bf16\n"           \
	"  evaluate = 5\n  memory = 2 GiB\n}\n"

static const Buffer *buffer_named(const Made *m, const char *name)
{
	u32 i = program_find_buffer(m->model->program, intern_z(&m->ir->names, name));
	return i == NONE ? NULL : &m->model->program->buffer.v[i];
}

static const char *config_text(const Made *m, const char *path)
{
	for (u32 i = 0; i < m->model->config.n; i++)
		if (!strcmp(m->model->config.v[i].path, path))
			return m->model->config.v[i].text;
	return "";
}

static void settings_have_an_order(void **state)
{
	(void)state;
	Made m;
	make(&m, MODEL TRAIN);
	assert_string_equal(config_text(&m, "width"), "8");
	assert_string_equal(config_text(&m, "text.width"), "4");
	assert_string_equal(m.model->config.v[0].key, "n_embd");
	assert_int_equal(type_extent(buffer_named(&m, "wte.weight")->type, 1), 8);
	assert_non_null(buffer_named(&m, "h.1.bias"));
	assert_null(buffer_named(&m, "h.2.bias"));
	assert_int_equal(m.model->accumulate, 3);
	assert_string_equal(m.model->precision, "bf16");
	assert_true(model_setting(m.model, "train.evaluate.every")->number == 5);
	assert_true(model_setting(m.model, "train.memory")->number == 0x1p31);
	assert_null(model_setting(m.model, "train.steps"));
	unmake(&m);
	const char *const set[] = { "layers=3", "text.width=6", "train.batch.B=2", "train.evaluate.every=7", "train.steps=9",
				    "train.precision=f32" };
	make_with(&m, MODEL TRAIN, "small", set, COUNT(set), NULL);
	assert_non_null(m.model);
	assert_string_equal(config_text(&m, "width"), "4");
	assert_string_equal(config_text(&m, "text.width"), "6");
	assert_non_null(buffer_named(&m, "h.2.bias"));
	assert_string_equal(m.model->precision, "f32");
	assert_true(model_setting(m.model, "train.batch.B")->number == 2);
	assert_true(model_setting(m.model, "train.evaluate.every")->number == 7);
	assert_true(model_setting(m.model, "train.steps")->number == 9);
	assert_int_equal(m.model->symbol_value.v[0], 2);
	unmake(&m);
}

/* A setting sees the block's own names as they are where it stands, also those that are assigned again. */
static void settings_see_names_in_order(void **state)
{
	(void)state;
	Made m;
	make(&m, "model m(x: [B, 8]) -> [B, 8] { param u: [8, 8] = zeros\n return x @ u }\n"
		 "optimizer sgd(p, g, step; lr) { p <- p - lr * g }\n"
		 "train {\n input x: f32[B, 8]\n loss = sum(m(x))\n batch = { B = 2 }\n optimizer = sgd(lr = 1.0)\n"
		 " a = 2\n b = a\n a = a * 3\n clip = a\n a = a + 1\n steps = a\n evaluate = b\n}\n");
	assert_true(model_setting(m.model, "train.clip")->number == 6);
	assert_true(model_setting(m.model, "train.steps")->number == 7);
	assert_true(model_setting(m.model, "train.evaluate.every")->number == 2);
	unmake(&m);
}

/* Settings, optimizers of a group and rules of division in an `if`: those of the branch that the config chooses, and no others. */
static void branches_choose_lines(void **state)
{
	(void)state;
	static const char source[] = "config { wide = true }\n"
				     "module M(x: [B, D]) -> [B, D] { dim F = 4\n param w: [D, F] = zeros\n return x @ w @ transpose(w) }\n"
				     "model m(x: [B, 8]) -> [B, 8] { if wide { x = M(x) }\n param u: [8, 8] = zeros\n return x @ u }\n"
				     "optimizer sgd(p, g, step; lr) { p <- p - lr * g }\n"
				     "train {\n input x: f32[B, 8]\n loss = sum(m(x))\n batch = { B = 2 }\n optimizer = sgd(lr = 1.0)\n"
				     " if wide {\n  optimizer for \"m.w\" = frozen\n  clip = 0.5\n } else { precision = bf16 }\n}\n"
				     "shard { mesh = { data = 1, tensor = 1 }\n B -> data\n if wide { M.F -> tensor } }\n";
	Made m;
	make(&m, source);
	assert_int_equal(m.model->shard.n, 2);
	assert_string_equal(m.model->shard.v[1].axis, "M.F");
	assert_true(model_setting(m.model, "train.clip")->number == 0.5);
	assert_true(!m.model->precision || strcmp(m.model->precision, "bf16"));
	assert_true(buffer_named(&m, "m.w")->frozen && !buffer_named(&m, "u")->frozen);
	unmake(&m);
	const char *const set[] = { "wide=false" };
	make_with(&m, source, NULL, set, 1, NULL);
	assert_non_null(m.model);
	assert_int_equal(m.model->shard.n, 1);
	assert_null(model_setting(m.model, "train.clip"));
	assert_string_equal(m.model->precision, "bf16");
	unmake(&m);
}

static bool has_entry(const Made *m, const char *name)
{
	return program_find_entry(m->model->program, str_of(name)) != NULL;
}

static void blocks_become_entries(void **state)
{
	(void)state;
	Made m;
	make(&m, MODEL TRAIN "eval { input tokens: i32[B, T]\n input labels: i32[B, T]\n"
			     " loss = cross_entropy(m(tokens), labels, ignore = 3) }\n"
			     "eval later { input tokens: i32[B, T]\n loss = mse(m(tokens), zeros([16])) }\n"
			     "generate { prompt = \"a\", tokens = 5 }\n"
			     "shard { mesh = { data = 1 }\n B -> data\n layers -> data(schedule = 1f1b, micro = 4) }\n");
	assert_true(has_entry(&m, "eval") && has_entry(&m, "eval.later") && has_entry(&m, "micro") && has_entry(&m, "update"));
	/* the evaluation is the eval block's: it ignores 3, and training does not */
	const Graph *g = program_find_entry(m.model->program, STR("eval"));
	i64 ignored = 0;
	for (u32 i = 0; i < g->node.n; i++)
		if (g->node.v[i].op == OP_cross_entropy)
			ignored = ATTR(&g->node.v[i], cross_entropy)->ignore;
	assert_int_equal(ignored, 3);
	assert_string_equal(model_setting(m.model, "generate.prompt")->text, "a");
	assert_true(model_setting(m.model, "generate.tokens")->number == 5);
	assert_string_equal(model_setting(m.model, "shard.layers.schedule")->text, "1f1b");
	assert_true(model_setting(m.model, "shard.layers.micro")->number == 4);
	assert_int_equal(m.model->shard.n, 2);
	unmake(&m);
}

/* x of the sampler is 1 at first; each turn adds t; three turns over [5, 6, 7]; the end doubles. */
static void a_sampler_runs(void **state)
{
	(void)state;
	Made m;
	make(&m, "module Id(x: [2]) -> [2] { return x }\nmodel m(x: [2], t: i32[]) -> [2] { return Id(x) + cast(t, f32) }\n"
		 "sample {\n x = ones([2])\n scale = sum(x)\n for t in iota(3) + 5 { x = m(x, t) }\n write png(x * scale)\n}\n");
	const Program *p = m.model->program;
	Graph *first = program_find_entry(p, STR("sample")), *step = program_find_entry(p, STR("sample_step")),
	      *end = program_find_entry(p, STR("sample_end"));
	assert_true(first && step && end);
	Tensor got[3], now = { 0 }, over = { 0 }, scale = { 0 };
	assert_int_equal(first->result.n, 3);
	eval_graph(&m.arena, first, NULL, got, (EvalOptions){ 0 });
	for (u32 i = 0; i < 3; i++)
		*(!strcmp(first->result.v[i].name, "over") ? &over : !strcmp(first->result.v[i].name, "x") ? &now : &scale) = got[i];
	assert_int_equal(over.n, 3);
	for (i64 turn = 0; turn < over.n; turn++) {
		const Node *node[4];
		Tensor source[4];
		u32 n = graph_sources(step, node);
		assert_int_equal(n, 2);
		for (u32 i = 0; i < n; i++)
			if (!strcmp(ATTR(node[i], input)->name, "t")) {
				source[i] = tensor_new(&m.arena, val_type(step, node[i]->out));
				source[i].data[0] = over.data[turn];
			} else {
				source[i] = now;
			}
		eval_graph(&m.arena, step, source, &now, (EvalOptions){ 0 });
	}
	assert_true(now.data[0] == 19);
	const Node *node[4];
	Tensor source[4], png;
	u32 n = graph_sources(end, node);
	assert_int_equal(n, 2);
	for (u32 i = 0; i < n; i++)
		source[i] = !strcmp(ATTR(node[i], input)->name, "x") ? now : scale;
	eval_graph(&m.arena, end, source, &png, (EvalOptions){ 0 });
	assert_string_equal(end->result.v[0].name, "png");
	assert_true(png.data[0] == 38 && png.data[1] == 38);
	unmake(&m);
}

static void files_are_used(void **state)
{
	(void)state;
	Made m;
	Used used[] = { { "layers", "use std.nn\nconfig { width = 8, depth = 1 }\nmodule Twice(x: [B, D]) -> [B, D] { return x * 2 }\n" },
			{ "broken", "module Twice(x: [B, D]) -> [B, D] { return x x }\n" }, { 0 } };
	make_with(&m, "use layers\nconfig { width = 4 }\nmodel m(x: [B, width]) -> [B, width] { return Twice(x) * depth }\n", NULL, NULL, 0, used);
	assert_non_null(m.model);
	assert_string_equal(config_text(&m, "width"), "4");
	assert_string_equal(config_text(&m, "depth"), "1");
	unmake(&m);
	/* recipes of a file stand for those of files that it uses, at any distance */
	Used nested[] = { { "far", "config { a = 4 }\nmodel m(x: [B, a]) -> [B, a] { return x }\nshard { gone -> data }\n" },
			  { "near", "use far\nshard {\n  mesh = { data = 1 }\n  B -> data\n}\n" }, { 0 } };
	make_with(&m, "use near\n", NULL, NULL, 0, nested);
	assert_non_null(m.model);
	assert_int_equal(m.model->shard.n, 1);
	unmake(&m);
	make_with(&m, "use broken\nmodel m(x: [B, 4]) -> [B, 4] { return Thrice(x) }\n", NULL, NULL, 0, used);
	assert_null(m.model);
	assert_int_equal(m.diag.nerror, 1);
	assert_int_equal(m.diag.first->code, E0110);
	unmake(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expressions_have_numpys_values), cmocka_unit_test(settings_have_an_order), cmocka_unit_test(settings_see_names_in_order),
		cmocka_unit_test(branches_choose_lines),
		cmocka_unit_test(blocks_become_entries),	  cmocka_unit_test(a_sampler_runs),
		cmocka_unit_test(files_are_used),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
