/* The pass `incremental`: prefill in pieces, then one position after another, gives what the model gives for all
 * positions at once, by the reference evaluator in f64: for the library's models and for attention as users write it
 * by hand. What is not causal is refused, with the op and its line. */
#include "find_model.h"
#include "frontend/elaborate.h"
#include "ir/eval.h"
#include "ir/sample.h"
#include "passes/graph/bind.h"
#include "passes/pass.h"
#include "support/io.h"

#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 2, POSITIONS = 13, PIECE = 5, VOCABULARY = 11 };

typedef struct Run {
	Arena arena, tmp;
	Diag diag;
	Ir *ir;
	const Program *source, *now; /* as elaborated; what the next pipeline begins with */
	Tensor *parameter;           /* by index of the source's buffers */
} Run;

static void open_run(Run *r, const char *text)
{
	*r = (Run){ .arena = ARENA("incremental"), .tmp = ARENA("tmp") };
	r->diag.arena = &r->arena;
	r->ir = ir_new(&r->arena, &r->diag);
	const Ast *ast = parse_source(&r->arena, &r->ir->names, &r->diag, "test.plinth", str_of(text));
	ElaborateOptions o = { .find = find_model, .preset = strstr(text, "preset p") ? "p" : NULL };
	Model *m = ast ? elaborate(&r->arena, r->ir, ast, &o) : NULL;
	diag_print(&r->diag, stderr, false);
	assert_non_null(m);
	assert_int_equal(r->diag.nerror, 0);
	r->source = r->now = m->program;
	r->parameter = NEWN(&r->arena, Tensor, r->source->buffer.n);
	Random random = random_new(&r->arena, 7);
	for (u32 i = 0; i < r->source->buffer.n; i++) {
		const Buffer *b = &r->source->buffer.v[i];
		if (b->kind != BUFFER_PARAMETER)
			continue;
		Tensor *t = &r->parameter[i];
		*t = tensor_new(&r->arena, b->type);
		for (i64 k = 0; k < t->n; k++)
			t->data[k] = 0.8 * (random_unit(&random) - 0.5) + (b->type->rank == 1);
	}
}

static void close_run(Run *r)
{
	arena_free(&r->tmp);
	arena_free(&r->arena);
}

static const Program *pipeline(Run *r, const char *text)
{
	PassCx cx = { .out = &r->arena, .tmp = &r->tmp, .ir = r->ir, .diag = &r->diag };
	Status dumped = OK;
	const Program *p = pipeline_run(str_of(text), &cx, r->now, &dumped);
	assert_null(dumped);
	return p;
}

/* Token t of text b, and what is behind the text. */
static i32 token(i64 b, i64 t)
{
	return (i32)((7 * t * t + 3 * t + 5 * b + 1) % VOCABULARY);
}

typedef struct State {
	const Program *p;
	Tensor *buffer;
} State;

static State begin(Run *r, const Program *p)
{
	State s = { p, NEWN(&r->arena, Tensor, p->buffer.n + 1) };
	for (u32 i = 0; i < p->buffer.n; i++) {
		u32 from = program_find_buffer(r->source, p->buffer.v[i].name);
		s.buffer[i] = from != NONE && r->parameter[from].data ? r->parameter[from] : tensor_new(&r->arena, p->buffer.v[i].type);
	}
	return s;
}

/* Runs an entry over tokens from position `past` on; its first result. */
static Tensor run(Run *r, State *s, const char *name, i64 past, i64 last)
{
	const Graph *g = program_find_entry(s->p, str_of(name));
	assert_non_null(g);
	u32 n = graph_sources(g, NULL), ninput = 0;
	const Node **source = NEWN(&r->arena, const Node *, n + 1);
	graph_sources(g, source);
	Tensor *input = NEWN(&r->arena, Tensor, n + 1), *result = NEWN(&r->arena, Tensor, g->result.n + 1);
	for (u32 i = 0; i < n; i++) {
		if (source[i]->op != OP_input)
			continue;
		const char *is = ATTR(source[i], input)->name;
		Tensor *t = &input[ninput++];
		*t = tensor_new(&r->arena, val_type(g, source[i]->out));
		if (!strcmp(is, "past") || !strcmp(is, "last"))
			t->data[0] = (f64)(*is == 'p' ? past : last);
		else if (!strcmp(is, "memory") || !strcmp(is, "mel"))
			for (i64 k = 0; k < t->n; k++)
				t->data[k] = cos((f64)k);
		else if (!strcmp(is, "keep"))
			for (i64 k = 0; k < t->n; k++)
				t->data[k] = k != 2;
		else
			for (i64 k = 0; k < t->n; k++)
				t->data[k] = token(k / t->dim[1], (strcmp(is, "source") ? past : 0) + k % t->dim[1]);
	}
	eval_entry(&r->arena, s->p, g, input, s->buffer, result, (EvalOptions){ 0 });
	for (u32 i = 0; i < g->result.n; i++)
		if (g->result.v[i].buffer == NONE)
			return result[i];
	fail_msg("%s has no result", name);
	return (Tensor){ 0 };
}

/* Logits of position `t` as `forward` gives them, against those of one position. */
static void expect_row(const Tensor *all, const Tensor *one, i64 t)
{
	assert_int_equal(one->dim[1], 1);
	i64 width = all->dim[2];
	for (i64 b = 0; b < BATCH; b++)
		for (i64 k = 0; k < width; k++) {
			f64 want = all->data[(b * all->dim[1] + t) * width + k], got = one->data[b * width + k];
			if (!(fabs(got - want) <= 1e-10 * (1 + fabs(want))))
				fail_msg("text %lld, position %lld, logit %lld is %.17g, not %.17g", (long long)b, (long long)t,
					 (long long)k, got, want);
		}
}

static void agrees(const char *text)
{
	Run r;
	open_run(&r, text);
	const char *sizes = strstr(text, "memory") || strstr(text, "use t5") ? ",S=3" : "";
	State whole = begin(&r, pipeline(&r, arena_printf(&r.arena, "bind{B=%d,T=%d%s}", BATCH, POSITIONS, sizes)));
	const char **symbol, *room = "";
	r.now = pipeline(&r, "simplify,absorb,simplify,incremental{axis=T}");
	for (u32 i = r.now ? program_symbols(&r.arena, r.now, &symbol) : 0; i > 0; i--)
		if (!strcmp(symbol[i - 1], "capacity"))
			room = ",capacity=16";
	const Program *p = r.now ? pipeline(&r, arena_printf(&r.arena, "bind{B=%d,T=%d%s%s}", BATCH, PIECE, room, sizes)) : NULL;
	diag_print(&r.diag, stderr, false);
	assert_non_null(p);
	State s = begin(&r, p);
	Tensor all = run(&r, &whole, "forward", 0, 0), one;
	one = run(&r, &s, "prefill", 0, 4);
	expect_row(&all, &one, 4);
	/* a piece whose end is no text */
	one = run(&r, &s, "prefill", 5, 2);
	expect_row(&all, &one, 7);
	for (i64 t = 8; t < POSITIONS; t++) {
		one = run(&r, &s, "decode", t, 0);
		expect_row(&all, &one, t);
	}
	/* and back to an earlier place, as when a guess is taken back */
	if (!strstr(text, "cumsum")) {
		one = run(&r, &s, "decode", 9, 0);
		expect_row(&all, &one, 9);
	}
	close_run(&r);
}

#define HEAD "use std.nn\n"
#define EMBED "param e: [11, 12] = normal(std = 1)\n param pos: [16, 12] = normal(std = 1)\n x = e[tokens] + pos[iota(T)]\n"
#define SPLIT(ATTEND)                                                                                               \
	HEAD "module Attend(x: [B, T, D]) -> [B, T, D] {\n"                                                        \
	     " qkv = Linear(x, out = 3 * D) as qkv\n"                                                              \
	     " q, k, v = rearrange(qkv, \"B T (three H K) -> three B H T K\", three = 3, H = 3)\n" ATTEND "\n"     \
	     " return Linear(rearrange(y, \"B H T K -> B T (H K)\"), out = D) as proj\n}\n"                        \
	     "model m(tokens: i32[B, T]) -> [B, T, 11] {\n " EMBED                                                 \
	     " for i in 0..2 { x = x + Attend(LayerNorm(x)) }\n return x @ transpose(e)\n}\n"

static const char *const model[] = {
	/* the library's */
	"use gpt2\npreset p { vocab = 11, context = 32, layers = 2, heads = 3, width = 12 }\n",
	"use llama\npreset p { vocab = 11, layers = 2, width = 16, hidden = 20, heads = 4, groups = 2 }\n",
	"use llama\npreset p { vocab = 11, layers = 1, width = 16, hidden = 20, heads = 4, groups = 1, tied = true\n"
	" scaling { factor = 8.0, context = 16 } }\n",
	"use bible\npreset p { vocab = 11, layers = 2, heads = 2, width = 12 }\n",
	"use t5\npreset p { vocab = 11, layers = 2, heads = 2, head = 4, width = 12, hidden = 20, buckets = 6, furthest = 8 }\n",
	"use whisper\npreset p { vocab = 11, mels = 3, layers = 1, decoders = 2, heads = 2, width = 12, heard = 4, context = 16 }\n",
	"use mixtral\npreset p { vocab = 11, layers = 2, width = 16, hidden = 20, heads = 4, groups = 2, experts = 3 }\n",
	"use moe\npreset p { vocab = 11, layers = 2, width = 16, hidden = 20, heads = 4, groups = 2, experts = 5, chosen = 3, shared = 12 }\n",
	"use moe\npreset p { vocab = 11, layers = 2, width = 16, hidden = 20, heads = 4, groups = 2, experts = 5, chosen = 3, family = \"olmoe\" }\n",
	"use deepseek\npreset p { vocab = 11, layers = 2, width = 16, inner = 20, heads = 3, query_latent = 10, latent = 9, head = 4, turned = 6,\n"
	" value = 5, family = \"deepseek_v3\", experts = 6, chosen = 3, hidden = 12, shared = 1, parts = 3, open = 2 }\n",
	"use deepseek\npreset p { vocab = 11, layers = 2, width = 16, inner = 20, heads = 3, latent = 9, head = 4, turned = 6, value = 5,\n"
	" experts = 5, chosen = 3, hidden = 12, shared = 2, scaling { kind = \"yarn\", factor = 4.0 } }\n",
	"use gemma\npreset p { vocab = 11, layers = 3, width = 16, hidden = 20, heads = 4, groups = 2, head = 6, window = 4, score_cap = 1.5,\n"
	" logit_cap = 3.0 }\n",
	"use gemma\npreset p { vocab = 11, layers = 3, width = 16, hidden = 20, heads = 4, groups = 2, head = 6, window = 4, period = 3,\n"
	" family = \"gemma3_text\", base = 1e6, turning = \"linear\", slower = 8.0 }\n",
	/* the attention function's ways of being causal */
	SPLIT(" y = attention(q, k, v, causal = true, window = 4)"),
	SPLIT(" y = attention(q, k, v, mask = iota(T)[none, :] <= iota(T)[:, none])"),
	SPLIT(" y = attention(q, k, v, bias = where(iota(T)[none, :] <= iota(T)[:, none], 0.0, -1e9))"),
	SPLIT(" rel = iota(T)[none, :] - iota(T)[:, none]\n y = attention(q, k, v, causal = true, bias = f32(rel) * 0.25)"),
	/* by hand */
	SPLIT(" s = einsum(\"B H Q K, B H T K -> B H Q T\", q, k) / sqrt(4)\n"
	      " s = where(iota(T)[none, :] <= iota(T)[:, none], s, -1e30)\n"
	      " y = einsum(\"B H Q T, B H T K -> B H Q K\", softmax(s), v)"),
	SPLIT(" s = 1.5 * tanh(einsum(\"B H Q K, B H T K -> B H Q T\", q, k) / 3)\n"
	      " s = where(iota(T)[none, :] <= iota(T)[:, none], s, -1e30)\n y = softmax(s) @ v"),
	SPLIT(" rel = iota(T)[:, none] - iota(T)[none, :]\n"
	      " s = where(rel >= 0 and rel < 3, q @ transpose(k), -1e30)\n"
	      " p = exp(s - max(s, axis = -1, keep = true))\n"
	      " y = (p / sum(p, axis = -1, keep = true)) @ v"),
	/* linear attention: no softmax at all */
	SPLIT(" s = (q @ transpose(k)) * f32(iota(T)[none, :] <= iota(T)[:, none])\n y = s @ v / f32(1 + iota(T))[:, none]"),
	/* rows of a table, running means, the token before */
	HEAD "model m(tokens: i32[B, T]) -> [B, T, 11] {\n param e: [11, 12] = normal(std = 1)\n param pos: [16, 12] = normal(std = 1)\n"
	     " x = e[tokens] + pos[0:T]\n x = x + cumsum(x, axis = 1) / f32(1 + iota(T))[:, none]\n"
	     " x = x + cumsum(tanh(x), axis = 1, exclusive = true)\n return x @ transpose(e)\n}\n",
	HEAD "model m(tokens: i32[B, T]) -> [B, T, 11] {\n" EMBED
	     " before = x[:, iota(T) - 1]\n return (x + 0.5 * before) @ transpose(e)\n}\n",
	/* attention to something without positions of the text, and padding of the text itself */
	HEAD "model m(tokens: i32[B, T], memory: f32[B, S, 12]) -> [B, T, 11] {\n" EMBED
	     " m = gelu(Linear(memory, out = 12))\n"
	     " x = x + reshape(attention(x[:, none], m[:, none], tanh(m)[:, none]), [B, T, 12])\n"
	     " x = x + reshape(attention(x[:, none], x[:, none], x[:, none], causal = true, mask = (tokens != 3)[:, none, none, :]), [B, T, 12])\n"
	     " return x @ transpose(e)\n}\n",
	/* keys and values that are pieces of others, and pieces of these */
	HEAD "model m(tokens: i32[B, T]) -> [B, T, 11] {\n" EMBED
	     " t = tanh(x)\n inner = concat(t, gelu(x), axis = 2)\n all = concat(inner, x / 2, axis = 2)\n"
	     " y = attention(all[:, none], all[:, none], inner[:, none], causal = true)\n"
	     " z = attention(inner[:, none], inner[:, none], t[:, none], causal = true)\n"
	     " x = x + reshape(z, [B, T, 12]) + Linear(reshape(y, [B, T, 24]), out = 12)\n return x @ transpose(e)\n}\n",
	/* tokens of all texts in one dimension */
	HEAD "model m(tokens: i32[B, T]) -> [B, T, 11] {\n" EMBED
	     " y = reshape(x, [B * T, 12])\n y = gelu(Linear(y, out = 12)) * rms_norm(y, ones([12]))\n"
	     " x = x + reshape(y, [B, T, 12])\n return x @ transpose(e)\n}\n",
};

static void decoding_agrees_with_all_positions_at_once(void **state)
{
	(void)state;
	for (u32 i = 0; i < COUNT(model); i++)
		agrees(model[i]);
}

static void refuses(const char *text, const char *part)
{
	Run r;
	open_run(&r, text);
	assert_null(pipeline(&r, "simplify,absorb,simplify,incremental{axis=T}"));
	assert_int_equal(r.diag.nerror, 1);
	assert_int_equal(r.diag.first->code, E0720);
	if (!strstr(r.diag.first->text, part) || !r.diag.first->loc.line)
		fail_msg("'%s', where '%s' was expected", r.diag.first->text, part);
	close_run(&r);
}

static void what_is_not_causal_is_refused(void **state)
{
	(void)state;
	refuses(SPLIT(" y = attention(q, k, v)"), "'attention' in attend_1 cannot be computed position by position along T: every position sees");
	refuses(SPLIT(" y = attention(q, k, v, mask = iota(T)[none, :] <= iota(T)[:, none] + 1)"), "'attention'");
	refuses(SPLIT(" y = attention(q, k, v, mask = iota(T)[none, :] >= iota(T)[:, none])"), "'attention'");
	refuses(SPLIT(" y = softmax(q @ transpose(k)) @ v"), "'dot'");
	/* the mask's side is wrong */
	refuses(SPLIT(" s = where(iota(T)[none, :] >= iota(T)[:, none], q @ transpose(k), -1e30)\n y = softmax(s) @ v"), "'dot'");
	/* masked with what is not low */
	refuses(SPLIT(" s = where(iota(T)[none, :] <= iota(T)[:, none], q @ transpose(k), -10.0)\n y = softmax(s) @ v"), "'dot'");
	refuses(SPLIT(" y = v - mean(v, axis = 2, keep = true)"), "'mean'");
	refuses(SPLIT(" y = v * softmax(v, axis = 2)"), "'softmax'");
	refuses(SPLIT(" y = cumsum(v, axis = 2, reverse = true)"), "'cumsum'");
	refuses(SPLIT(" y = sort(v, axis = 2)[0]"), "'sort'");
	refuses(SPLIT(" y = v[:, :, iota(T) + 1]"), "'gather'");
	/* rows that were sorted, and do not come home as group_by's do */
#define SORTED(use) \
	HEAD "model m(tokens: i32[B, T]) -> [B, T, 11] {\n" EMBED " h = reshape(x, [B * T, 12])\n order, slot = sort(argmax(h @ transpose(e), axis = -1))\n" \
	     use " return reshape(h, [B, T, 12]) @ transpose(e)\n}\n"
	refuses(SORTED(" h = h[slot]\n"), "'dot'");
	refuses(SORTED(" h = h + h[slot]\n"), "'add'");
	refuses(SORTED(" h = scatter_add(h[slot], slot // 2, B * T)\n"), "'scatter_add'");
	refuses(SORTED(" h = scatter_add(h, slot, B * T)\n"), "'scatter_add'");
	refuses(SORTED(" h = h * f32(order[0])\n"), "'slice'");
	refuses(SORTED(" h = scatter_add(h[slot] * f32(order[0]), slot, B * T)\n"), "'scatter_add'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decoding_agrees_with_all_positions_at_once),
		cmocka_unit_test(what_is_not_causal_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
