/* The pass `stage`: the stages of a pipeline, run by the evaluator as their schedule says, give what the model gives that is
 * not cut: every parameter, optimizer state, loss and gradient, after each of some steps; alone and with division over data and
 * tensor axes. */
#include "frontend/elaborate.h"
#include "ir/eval.h"
#include "ir/sample.h"
#include "ir/shard.h"
#include "passes/pass.h"
#include "passes/plan/schedule.h"
#include "tests/unit/find_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct Case {
	const char *model, *preset, *sizes;
	const char *set[8];
	const char *partition; /* rules of the other axes; NULL: none */
	u32 stages, axis;      /* axis: where the pipeline stands in the mesh */
	PipeKind kind;
	u32 chunks, micros;
} Case;

enum { STEPS = 2 };

typedef struct Run {
	const Case *c;
	Arena arena, tmp;
	Diag diag;
	Ir *ir;
	const Program *whole;    /* partitioned, in one stage */
	const Program **program; /* [stage] */
	u32 ranks;
	Tensor **have;           /* [rank][buffer] of `whole` */
	Tensor ***buffer;        /* [stage][rank][buffer] */
} Run;

/* ---- programs ---- */

static Program *passes(Run *r, const Program *p, const char *text)
{
	Status status;
	PassCx cx = { .out = &r->arena, .tmp = &r->tmp, .ir = r->ir, .diag = &r->diag };
	Program *out = pipeline_run(str_of(text), &cx, p, &status);
	diag_print(&r->diag, stderr, false);
	assert_non_null(out);
	return out;
}

static const Program *read_model(Run *r)
{
	const char *path;
	Str text;
	u32 nset = 0;
	while (nset < COUNT(r->c->set) && r->c->set[nset])
		nset++;
	assert_true(find_model(NULL, &r->arena, r->c->model, &path, &text));
	const Ast *ast = parse_source(&r->arena, &r->ir->names, &r->diag, path, text);
	ElaborateOptions e = { .preset = r->c->preset, .find = find_model, .set = r->c->set, .nset = nset };
	Model *model = ast ? elaborate(&r->arena, r->ir, ast, &e) : NULL;
	diag_print(&r->diag, stderr, false);
	assert_non_null(model);
	return model->program;
}

static void make_programs(Run *r)
{
	const Case *c = r->c;
	r->whole = passes(r, read_model(r), arena_printf(&r->arena, "bind{%s},simplify,train,expand,simplify", c->sizes));
	if (c->partition)
		r->whole = passes(r, r->whole, arena_printf(&r->arena, "partition{%s},simplify", c->partition));
	r->ranks = mesh_devices(&r->whole->mesh);
	r->program = NEWN(&r->arena, const Program *, c->stages);
	for (u32 s = 0; s < c->stages; s++)
		r->program[s] = passes(r, r->whole, arena_printf(&r->arena, "stage{over=pipe:%u,axis=%u,at=%u,schedule=%s,interleave=%u,micro=%u},simplify",
								 c->stages, c->axis, s, pipe_kind_name[c->kind], c->chunks, c->micros));
}

/* ---- memory ---- */

static Tensor *new_buffers(Run *r, const Program *p, u32 rank)
{
	Tensor *t = NEWN(&r->arena, Tensor, p->buffer.n);
	for (u32 i = 0; i < p->buffer.n; i++) {
		t[i] = tensor_new(&r->arena, p->buffer.v[i].type);
		for (u32 m = 0; m < r->whole->mesh.n; m++)
			if (p->buffer.v[i].kind == BUFFER_MESH && p->buffer.v[i].name == mesh_buffer(r->ir, r->whole->mesh.axis[m].name))
				t[i].data[0] = mesh_coordinate(&r->whole->mesh, rank, m);
	}
	return t;
}

/* Ranks that share a part of an input are given the same. */
static Tensor input_of(Run *r, const Graph *g, const Node *n, u32 micro, u32 rank)
{
	const input_attr *a = ATTR(n, input);
	Tensor t = tensor_new(&r->arena, val_type(g, n->out));
	Place place[MESH_AXES];
	assert_true(places_read(&r->whole->mesh, a->split, place));
	u64 seed = hash_bytes(HASH_SEED, a->name, strlen(a->name)) + micro * 1000;
	for (u32 m = 0; m < r->whole->mesh.n; m++)
		if (place[m].kind == PLACE_SPLIT)
			seed = seed * 7 + mesh_coordinate(&r->whole->mesh, rank, m);
	Random random = random_new(&r->tmp, seed);
	for (i64 i = 0; i < t.n; i++)
		t.data[i] = t.dtype == DT_b1 ? random_chance(&random, 0.8) :
			    dtype_is_float(t.dtype) ? (f64)random_int(&random, -1000, 1000) / 500 : (f64)random_int(&random, 0, 7);
	return t;
}

static const Tensor **inputs_of(Run *r, const Graph *g, u32 micro)
{
	const Tensor **input = NEWN(&r->arena, const Tensor *, r->ranks);
	for (u32 rank = 0; rank < r->ranks; rank++) {
		Tensor *t = NEWN(&r->arena, Tensor, g->node.n + 1);
		u32 n = 0;
		for (u32 i = 0; i < g->node.n; i++)
			if (g->node.v[i].op == OP_input)
				t[n++] = input_of(r, g, &g->node.v[i], micro, rank);
		input[rank] = t;
	}
	return input;
}

static Tensor **results_for(Run *r, const Graph *g)
{
	Tensor **t = NEWN(&r->arena, Tensor *, r->ranks);
	for (u32 k = 0; k < r->ranks; k++)
		t[k] = NEWN(&r->arena, Tensor, g->result.n + 1);
	return t;
}

/* ---- the model in one piece ---- */

static void run_whole(Run *r, const char *name, u32 micro, Tensor ***result)
{
	const Graph *g = program_find_entry(r->whole, str_of(name));
	assert_non_null(g);
	Tensor **out = results_for(r, g);
	eval_mesh_entry(&r->arena, r->whole, g, inputs_of(r, g, micro), r->have, out, (EvalOptions){ 0 });
	if (result)
		*result = out;
}

/* ---- stages ---- */

/* The entry of all stages (only == NONE), or of one. */
static void run_stages(Run *r, EvalMail *mail, const char *name, u32 micro, u32 only, Tensor ***result)
{
	u32 p = r->c->stages;
	const Graph **entry = NEWN(&r->arena, const Graph *, p);
	const Tensor *const **input = NEWN(&r->arena, const Tensor *const *, p);
	Tensor *const **buffer = NEWN(&r->arena, Tensor *const *, p), *const **out = NEWN(&r->arena, Tensor *const *, p);
	for (u32 s = 0; s < p; s++) {
		if (only != NONE && s != only)
			continue;
		entry[s] = program_find_entry(r->program[s], str_of(name));
		assert_non_null(entry[s]);
		input[s] = inputs_of(r, entry[s], micro);
		buffer[s] = r->buffer[s];
		Tensor **results = results_for(r, entry[s]);
		if (result)
			result[s] = results;
		out[s] = results;
	}
	eval_stage_entries(&r->arena, mail, p, r->program, entry, input, buffer, out, (EvalOptions){ 0 });
}

typedef struct Turn {
	f64 begin;
	u32 stage, task;
} Turn;

static int by_begin(const void *a, const void *b)
{
	const Turn *x = a, *y = b;
	return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* The buffers of the stash, each of which is there once for the evaluator: those of micro-batch `micro` come and go. */
static void swap_stash(Run *r, u32 stage, u32 micro, bool out, Tensor *kept)
{
	const Program *p = r->program[stage];
	for (u32 rank = 0; rank < r->ranks; rank++)
		for (u32 i = 0; i < p->buffer.n; i++) {
			Tensor *t = &kept[((size_t)micro * r->ranks + rank) * p->buffer.n + i];
			if (p->buffer.v[i].kind != BUFFER_STASH)
				continue;
			if (out)
				*t = r->buffer[stage][rank][i];
			else if (t->data)
				r->buffer[stage][rank][i] = *t;
		}
}

static void run_micros(Run *r, EvalMail *mail)
{
	const Case *c = r->c;
	PipeSchedule s = pipe_schedule(&r->arena, c->kind, c->stages, c->chunks, c->micros);
	f64 *one = NEWN(&r->arena, f64, c->stages * c->chunks);
	for (u32 i = 0; i < c->stages * c->chunks; i++)
		one[i] = 1;
	PipeTimeline l = pipe_timeline(&r->arena, &s, &(PipeTimes){ one, one, NULL, false });
	Turn *turn = NEWN(&r->arena, Turn, c->stages * s.ntask);
	Tensor **kept = NEWN(&r->arena, Tensor *, c->stages);
	for (u32 k = 0; k < c->stages; k++) {
		kept[k] = NEWN(&r->arena, Tensor, (size_t)c->micros * r->ranks * r->program[k]->buffer.n);
		for (u32 i = 0; i < s.ntask; i++)
			turn[k * s.ntask + i] = (Turn){ l.begin[k * s.ntask + i], k, i };
	}
	qsort(turn, c->stages * s.ntask, sizeof *turn, by_begin);
	for (u32 i = 0; i < c->stages * s.ntask; i++) {
		PipeTask t = pipe_tasks(&s, turn[i].stage)[turn[i].task];
		swap_stash(r, turn[i].stage, t.micro, false, kept[turn[i].stage]);
		run_stages(r, mail, arena_printf(&r->arena, "%s.%s.%u", t.micro ? "micro" : "micro_first", t.backward ? "backward" : "forward", t.chunk),
			   t.micro, turn[i].stage, NULL);
		swap_stash(r, turn[i].stage, t.micro, true, kept[turn[i].stage]);
	}
}

/* ---- comparing ---- */

static void compare(const Run *r, const char *what, const Tensor *a, const Tensor *b)
{
	f64 scale = 0;
	for (i64 i = 0; i < a->n; i++)
		scale = fmax(scale, fabs(a->data[i]));
	assert_int_equal(a->n, b->n);
	/* everything is f64: what differs is the order of some sums, but for constants that were rounded to f32 where they were folded */
	for (i64 i = 0; i < a->n; i++)
		if (!(fabs(a->data[i] - b->data[i]) <= 1e-9 * scale + 1e-12))
			fail_msg("%s, %s: element %lld is %.17g, should be %.17g", r->c->model, what, (long long)i, b->data[i], a->data[i]);
}

static void compare_buffers(const Run *r, u32 step)
{
	u32 seen = 0;
	for (u32 s = 0; s < r->c->stages; s++)
		for (u32 i = 0; i < r->whole->buffer.n; i++) {
			const Buffer *b = &r->program[s]->buffer.v[i];
			assert_string_equal(b->name, r->whole->buffer.v[i].name);
			/* a gradient that several stages add to is whole in none */
			if (buffer_away(r->program[s], b) || (b->kind == BUFFER_GRADIENT && b->stages & (b->stages - 1)))
				continue;
			seen += b->kind == BUFFER_PARAMETER;
			for (u32 rank = 0; rank < r->ranks; rank++)
				compare(r, arena_printf((Arena *)&r->arena, "step %u, stage %u, rank %u: %s", step, s, rank, b->name), &r->have[rank][i],
					&r->buffer[s][rank][i]);
		}
	assert_true(seen >= r->c->stages);
}

static void compare_results(const Run *r, const char *entry, u32 stage, Tensor *const *whole, Tensor *const *part)
{
	const Graph *a = program_find_entry(r->whole, str_of(entry)), *b = program_find_entry(r->program[stage], str_of(entry));
	for (u32 i = 0; i < a->result.n; i++) {
		if (a->result.v[i].buffer != NONE)
			continue;
		u32 k = 0;
		while (k < b->result.n && b->result.v[k].name != a->result.v[i].name)
			k++;
		if (k == b->result.n)
			fail_msg("%s, stage %u: %s does not give %s", r->c->model, stage, entry, a->result.v[i].name);
		for (u32 rank = 0; rank < r->ranks; rank++)
			compare(r, arena_printf((Arena *)&r->arena, "stage %u: result %s of %s", stage, a->result.v[i].name, entry), &whole[rank][i], &part[rank][k]);
	}
}

static void train_both(Run *r)
{
	const Case *c = r->c;
	EvalMail *mail = eval_mail_new(&r->arena);
	Tensor **whole, ***part = NEWN(&r->arena, Tensor **, c->stages);
	run_whole(r, "init", 0, NULL);
	run_stages(r, mail, "init", 0, NONE, NULL);
	compare_buffers(r, 0);
	for (u32 step = 1; step <= STEPS; step++) {
		for (u32 micro = 0; micro < c->micros; micro++)
			run_whole(r, micro ? "micro" : "micro_first", micro, NULL);
		run_micros(r, mail);
		assert_int_equal(eval_mail_left(mail), 0);
		compare_buffers(r, step);
		run_whole(r, "update", 0, &whole);
		run_stages(r, mail, "update", 0, NONE, part);
		for (u32 s = 0; s < c->stages; s++)
			compare_results(r, "update", s, whole, part[s]);
		compare_buffers(r, step);
	}
	run_whole(r, "eval", 9, &whole);
	run_stages(r, mail, "eval", 9, NONE, part);
	for (u32 s = 0; s < c->stages; s++)
		compare_results(r, "eval", s, whole, part[s]);
	assert_int_equal(eval_mail_left(mail), 0);
}

/* Messages of training: each boundary is crossed once by the value that layers hand on, and once by its gradient. */
static u32 messages(const Run *r, u32 stage, const char *entry, Op op)
{
	const Graph *g = program_find_entry(r->program[stage], str_of(entry));
	u32 n = 0;
	for (u32 i = 0; i < g->node.n; i++)
		n += g->node.v[i].op == op;
	return n;
}

static void begin(Run *r, const Case *c)
{
	*r = (Run){ .c = c, .arena = ARENA("run"), .tmp = ARENA("tmp") };
	r->diag.arena = &r->arena;
	r->ir = ir_new(&r->arena, &r->diag);
	make_programs(r);
	r->have = NEWN(&r->arena, Tensor *, r->ranks);
	for (u32 k = 0; k < r->ranks; k++)
		r->have[k] = new_buffers(r, r->whole, k);
	r->buffer = NEWN(&r->arena, Tensor **, c->stages);
	for (u32 s = 0; s < c->stages; s++) {
		r->buffer[s] = NEWN(&r->arena, Tensor *, r->ranks);
		for (u32 k = 0; k < r->ranks; k++)
			r->buffer[s][k] = new_buffers(r, r->program[s], k);
	}
}

static void end(Run *r)
{
	arena_free(&r->tmp);
	arena_free(&r->arena);
}

static void check(const Case *c)
{
	Run r;
	begin(&r, c);
	train_both(&r);
	end(&r);
}

#define GPT "gpt2", NULL, "B=4,T=8", { "width=16", "heads=2", "vocab=32", "context=16", "layers=4" }
#define GPT_3 "gpt2", NULL, "B=3,T=8", { "width=16", "heads=2", "vocab=32", "context=16", "layers=4" } /* 3 devices divide the batch alone */
#define TENSOR "Attention.H=tensor,Attention.G=tensor,Mlp.F=tensor,vocab=tensor"

static void schedules(void **state)
{
	(void)state;
	check(&(Case){ GPT, NULL, 2, 0, PIPE_GPIPE, 1, 3 });
	check(&(Case){ GPT, NULL, 2, 0, PIPE_1F1B, 1, 3 });
	check(&(Case){ GPT, NULL, 4, 0, PIPE_1F1B, 1, 5 });
	check(&(Case){ GPT, NULL, 2, 0, PIPE_INTERLEAVED, 2, 4 });
	check(&(Case){ GPT, NULL, 2, 0, PIPE_1F1B, 1, 1 });
}

static void messages_are_few(void **state)
{
	(void)state;
	Run r;
	begin(&r, &(Case){ GPT, NULL, 4, 0, PIPE_1F1B, 1, 4 });
	for (u32 s = 0; s < 4; s++) {
		assert_int_equal(messages(&r, s, "micro.forward.0", OP_send), s < 3);
		assert_int_equal(messages(&r, s, "micro.forward.0", OP_receive), s > 0);
		assert_int_equal(messages(&r, s, "micro.backward.0", OP_send), s > 0);
		assert_int_equal(messages(&r, s, "micro.backward.0", OP_receive), s < 3);
		/* the embedding is the head: its gradient is summed over the first and the last stage alone; all sum the loss, its count
		 * and what is under the gradient's norm */
		assert_int_equal(messages(&r, s, "update", OP_reduce_among), 3 + (s == 0 || s == 3));
		for (u32 i = 0; i < r.program[s]->buffer.n; i++) {
			const Buffer *b = &r.program[s]->buffer.v[i];
			if (b->kind == BUFFER_STASH)
				assert_int_equal(b->slots, 4 - s);
		}
	}
	end(&r);
}

static void with_other_axes(void **state)
{
	(void)state;
	check(&(Case){ GPT, "mesh=data:2,B=data", 2, 1, PIPE_1F1B, 1, 2 });
	check(&(Case){ GPT, "mesh=data:2,B=data,optimizer_state=data", 2, 0, PIPE_1F1B, 1, 2 });
	check(&(Case){ GPT, "mesh=data:2,B=data,parameters=data", 2, 1, PIPE_1F1B, 1, 3 });
	check(&(Case){ GPT_3, "mesh=data:3,B=data,optimizer_state=data", 2, 0, PIPE_1F1B, 1, 2 });
	check(&(Case){ GPT_3, "mesh=data:3,B=data,parameters=data", 2, 1, PIPE_1F1B, 1, 3 });
	check(&(Case){ GPT, "mesh=tensor:2," TENSOR, 2, 1, PIPE_1F1B, 1, 2 });
	check(&(Case){ GPT, "mesh=tensor:2," TENSOR ",sequence=tensor", 2, 0, PIPE_1F1B, 1, 2 });
	check(&(Case){ GPT, "mesh=data:2,mesh=tensor:2,B=data,gradients=data," TENSOR, 2, 1, PIPE_INTERLEAVED, 2, 2 });
}

static void families(void **state)
{
	(void)state;
	static const Case all[] = {
		{ "llama", "test", "B=2,T=8", { "width=16", "hidden=24", "vocab=32", "heads=4", "groups=2" }, NULL, 2, 0, PIPE_1F1B, 1, 3 },
		{ "lora", "test", "B=2,T=8", { "width=16", "hidden=24", "vocab=32", "heads=4", "groups=2" }, NULL, 2, 0, PIPE_1F1B, 1, 3 },
		{ "gemma", "test", "B=2,T=8", { "width=16", "hidden=24", "vocab=32", "heads=4", "groups=2" }, NULL, 2, 0, PIPE_1F1B, 1, 3 },
		{ "mixtral", "test", "B=2,T=8", { "width=16", "hidden=24", "vocab=32", "heads=4", "groups=2" }, NULL, 2, 0, PIPE_1F1B, 1, 3 },
		{ "bert", "test", "B=2,T=8", { "width=16", "hidden=24", "vocab=32", "heads=2", "drop=0.1" }, NULL, 2, 0, PIPE_1F1B, 1, 3 },
		{ "vit", "test", "B=2", { "width=16", "hidden=24" }, NULL, 2, 0, PIPE_1F1B, 1, 3 },
		{ "t5", "test", "B=2,S=8,T=8", { "width=16", "hidden=24", "vocab=32", "head=8" }, NULL, 4, 0, PIPE_1F1B, 1, 4 },
		{ "t5", "test", "B=2,S=8,T=8", { "width=16", "hidden=24", "vocab=32", "head=8", "tied=true" }, NULL, 2, 0, PIPE_INTERLEAVED, 2, 4 },
		{ "clip", "test", "B=2,N=2,T=8", { "text.width=16", "text.hidden=24", "text.vocab=32", "vision.width=16", "vision.hidden=24" }, NULL,
		  2, 0, PIPE_1F1B, 1, 3 },
		{ "unet", "test", "B=2,h=8,w=8,S=5", { NULL }, NULL, 2, 0, PIPE_1F1B, 1, 2 },
	};
	const char *only = getenv("PLINTH_STAGE");
	for (u32 i = 0; i < COUNT(all); i++)
		if (!only || !strcmp(only, all[i].model))
			check(&all[i]);
}

static void dropout(void **state)
{
	(void)state;
	check(&(Case){ "gpt2", NULL, "B=2,T=8", { "width=16", "heads=2", "vocab=32", "context=16", "layers=4", "drop=0.25" }, NULL, 2, 0,
		       PIPE_INTERLEAVED, 2, 4 });
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(schedules), cmocka_unit_test(messages_are_few), cmocka_unit_test(dropout),
					    cmocka_unit_test(with_other_axes), cmocka_unit_test(families) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
