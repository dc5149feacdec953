/* What one device does, told by layers (passes/plan/work.c), how long it takes (walk.c), the step of a cluster put together
 * from that, and a machine fitted to steps (tools/fit_machine.c): of a program small enough for a pencil.
 *
 * Two layers between an embedding and a loss. A kernel takes as many seconds as it touches bytes; x0, x1, x2 and their
 * derivatives are 100 bytes, weights rounded for products (c0, c1) 12. */
#include "passes/graph/bucket.h"
#include "passes/plan/alike.h"
#include "passes/plan/cluster.h"
#include "tools/fit_machine.h"
#include "tools/plan_bounds.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WTE, W0, W1, G0, GE, TOKENS, X0, C0, X1, C1, X2, LOSS, D2, D1, D0, R0, R1, CE, BUFFERS };
enum { EMBED, CAST0, LAYER0, CAST1, LAYER1, HEAD, DHEAD, DLAYER1, DLAYER0, DEMBED };
static const char data_axis[] = "data";

typedef struct Made {
	Arena arena;
	Plan plan;
	Program program;
	EntryPlan micro, update;
} Made;

static void close_to(f64 got, f64 want)
{
	if (!(fabs(got - want) <= 1e-12 * fabs(want)))
		fail_msg("%.17g, should be %.17g", got, want);
}

/* A launch that reads `in` and writes `out` (buffers, ended by NONE), and touches so many bytes. */
static Kernel *launch(Made *m, EntryPlan *e, const char *scope, f64 bytes, const u32 *in, const u32 *out)
{
	Kernel *k = NEW(&m->arena, Kernel);
	*k = (Kernel){ .arena = &m->arena, .class = KERNEL_MAP, .name = scope, .scope = scope, .bytes_written = bytes };
	u32 *slot = NEWN(&m->arena, u32, 8), n = 0;
	for (; *in != NONE; in++, slot[n++] = in[-1])
		VEC_PUSH(&m->arena, &k->slot, ((KSlot){ .read = true }));
	for (; *out != NONE; out++, slot[n++] = out[-1])
		VEC_PUSH(&m->arena, &k->slot, ((KSlot){ .written = true }));
	VEC_PUSH(&m->arena, &e->step, ((Step){ .kernel = m->plan.kernel.n, .slot = slot, .workspace = NONE }));
	VEC_PUSH(&m->arena, &m->plan.kernel, k);
	return k;
}
#define LIST(...) (const u32[]){ __VA_ARGS__, NONE }

/* A launch of its own becomes a message of 4 bytes from each of two devices. */
static void as_message(Made *m, Kernel *k, Op op, const void *attr)
{
	const Type **type = NEW(&m->arena, const Type *);
	*type = type_scalar(m->plan.ir, DT_f32);
	KCollective *c = NEW(&m->arena, KCollective);
	*c = (KCollective){ op, attr, 1, type };
	k->class = KERNEL_COLLECTIVE;
	k->collective = c;
}

static void add_buffers(Made *m, EntryPlan *e)
{
	static const struct {
		MemoryKind kind;
		const char *name;
		u32 persistent;
		u64 bytes;
	} buffer[BUFFERS] = {
		[WTE] = { MEMORY_PERSISTENT, "wte", 0, 40 },    [W0] = { MEMORY_PERSISTENT, "h.0.w", 1, 24 },
		[W1] = { MEMORY_PERSISTENT, "h.1.w", 2, 24 },   [G0] = { MEMORY_PERSISTENT, "grad h.0.w", 3, 24 },
		[GE] = { MEMORY_PERSISTENT, "grad wte", 4, 40 }, [TOKENS] = { MEMORY_INPUT, "tokens", NONE, 8 },
		[X0] = { MEMORY_TRANSIENT, "x0", NONE, 100 },   [C0] = { MEMORY_TRANSIENT, "c0", NONE, 12 },
		[X1] = { MEMORY_TRANSIENT, "x1", NONE, 100 },   [C1] = { MEMORY_TRANSIENT, "c1", NONE, 12 },
		[X2] = { MEMORY_TRANSIENT, "x2", NONE, 100 },   [LOSS] = { MEMORY_RESULT, "loss_sum", NONE, 4 },
		[D2] = { MEMORY_TRANSIENT, "d2", NONE, 100 },   [D1] = { MEMORY_TRANSIENT, "d1", NONE, 100 },
		[D0] = { MEMORY_TRANSIENT, "d0", NONE, 100 },   [R0] = { MEMORY_TRANSIENT, "r0", NONE, 12 },
		[R1] = { MEMORY_TRANSIENT, "r1", NONE, 12 },    [CE] = { MEMORY_TRANSIENT, "ce", NONE, 20 },
	};
	for (u32 i = 0; i < BUFFERS; i++)
		VEC_PUSH(&m->arena, &e->buffer, ((PlanBuffer){ .kind = buffer[i].kind, .name = buffer[i].name, .persistent = buffer[i].persistent,
							       .bytes = buffer[i].bytes, .root = NONE }));
}

static Made *make_empty(void)
{
	Made *m = calloc(1, sizeof *m);
	assert_non_null(m);
	m->arena = ARENA("work");
	Arena *a = &m->arena;
	Diag *d = NEW(a, Diag);
	d->arena = a;
	m->plan = (Plan){ .arena = a, .ir = ir_new(a, d), .program = &m->program };
	const Type *scalar = type_scalar(m->plan.ir, DT_f32);
	const BufferKind kind[] = { BUFFER_PARAMETER, BUFFER_PARAMETER, BUFFER_PARAMETER, BUFFER_GRADIENT, BUFFER_GRADIENT };
	const char *const name[] = { "wte", "h.0.w", "h.1.w", "grad h.0.w", "grad wte" };
	for (u32 i = 0; i < COUNT(kind); i++)
		VEC_PUSH(a, &m->program.buffer, ((Buffer){ .name = name[i], .kind = kind[i], .type = scalar, .of = i == 3 ? 1 : i == 4 ? 0 : NONE }));
	EntryPlan *e = &m->micro;
	e->name = "micro_first";
	add_buffers(m, e);
	m->update.name = "update";
	add_buffers(m, &m->update);
	VEC_PUSH(a, &m->plan.entry, &m->micro);
	VEC_PUSH(a, &m->plan.entry, &m->update);
	return m;
}

/* What both programs below begin with. */
static Made *make_embedding(void)
{
	Made *m = make_empty();
	EntryPlan *e = &m->micro;
	launch(m, e, "wte", 100, LIST(TOKENS, WTE), LIST(X0));
	launch(m, &m->update, "h.0", 50, LIST(G0), LIST(W0));
	return m;
}

/* `sums`: weights lie divided over two devices, are gathered instead of rounded, and their gradient is summed, so many times one behind the other. */
static Made *make_sums(u32 sums)
{
	bool gathered = sums > 0;
	Made *m = make_embedding();
	EntryPlan *e = &m->micro;
	Kernel *c0 = launch(m, e, "h.0", 12, LIST(W0), LIST(C0));
	launch(m, e, "h.0", 100, LIST(X0, C0), LIST(X1));
	Kernel *c1 = launch(m, e, "h.1", 12, LIST(W1), LIST(C1));
	launch(m, e, "h.1", 100, LIST(X1, C1), LIST(X2));
	launch(m, e, "", 4, LIST(X2), LIST(LOSS));
	launch(m, e, "", 100, LIST(X2), LIST(D2));
	launch(m, e, "h.1", 100, LIST(X1, C1, D2), LIST(D1));
	launch(m, e, "h.0", 124, LIST(X0, C0, D1), LIST(D0, G0));
	if (gathered) {
		static const all_gather_attr gather = { .over = data_axis, .parts = 2 };
		static const all_reduce_attr reduce = { .over = data_axis, .parts = 2 };
		m->program.mesh = (Mesh){ 1, { { data_axis, 2 } } };
		as_message(m, c0, OP_all_gather, &gather);
		as_message(m, c1, OP_all_gather, &gather);
		for (u32 i = 0; i < sums; i++)
			as_message(m, launch(m, e, "h.0", 24, LIST(G0), LIST(G0)), OP_all_reduce, &reduce);
	}
	launch(m, e, "wte", 40, LIST(D0, TOKENS), LIST(GE));
	return m;
}

static Made *make(bool gathered)
{
	return make_sums(gathered);
}

/* Layers gather what they take along a divided axis, and gather it again for their derivatives. */
enum { S_GATHER0 = 1, S_LAYER0, S_GATHER1, S_LAYER1, S_HEAD, S_DHEAD, S_AGAIN1, S_DLAYER1, S_AGAIN0, S_DLAYER0, S_DEMBED, S_STEPS };
static Made *make_sequence(void)
{
	static const all_gather_attr first = { .over = data_axis, .parts = 2 }, again = { .over = data_axis, .parts = 2, .again = 1 };
	Made *m = make_embedding();
	EntryPlan *e = &m->micro;
	m->program.mesh = (Mesh){ 1, { { data_axis, 2 } } };
	as_message(m, launch(m, e, "h.0", 12, LIST(X0), LIST(C0)), OP_all_gather, &first);
	launch(m, e, "h.0", 100, LIST(C0, W0), LIST(X1));
	as_message(m, launch(m, e, "h.1", 12, LIST(X1), LIST(C1)), OP_all_gather, &first);
	launch(m, e, "h.1", 100, LIST(C1, W1), LIST(X2));
	launch(m, e, "", 4, LIST(X2), LIST(LOSS));
	launch(m, e, "", 100, LIST(X2), LIST(D2));
	as_message(m, launch(m, e, "h.1", 12, LIST(X1), LIST(R1)), OP_all_gather, &again);
	launch(m, e, "h.1", 100, LIST(R1, D2), LIST(D1));
	as_message(m, launch(m, e, "h.0", 12, LIST(X0), LIST(R0)), OP_all_gather, &again);
	launch(m, e, "h.0", 124, LIST(R0, D1), LIST(D0, G0));
	launch(m, e, "wte", 40, LIST(D0, TOKENS), LIST(GE));
	return m;
}

static void drop(Made *m)
{
	arena_free(&m->arena);
	free(m);
}

/* A byte takes a second; links carry `rate` bytes a second. */
static Machine machine(f64 rate)
{
	Machine m = { .bandwidth = 1, .arithmetic = 1, .domain = 8, .link = { .bandwidth = rate } };
	m.peak[DT_f32] = 1e30;
	return m;
}

static Work *work_here(Made *m)
{
	return work_of(&m->arena, &m->arena, &m->plan, &m->micro);
}

static void pieces_by_layer(void **state)
{
	(void)state;
	Made *m = make(false);
	Work *w = work_here(m);
	assert_int_equal(w->layers, 2);
	assert_int_equal(w->units, 4);
	static const u32 rank[] = { 0, 1, 1, 2, 2, 3, 4, 5, 6, 7 };
	assert_int_equal(w->npiece, COUNT(rank));
	for (u32 i = 0; i < COUNT(rank); i++) {
		assert_int_equal(w->piece[i].rank, rank[i]);
		assert_int_equal(w->piece[i].constant, i == CAST0 || i == CAST1);
	}
	assert_int_equal(w->piece[DLAYER1].nafter, 3);
	assert_int_equal(w->piece[DLAYER1].after[0], LAYER0);
	assert_int_equal(w->piece[DLAYER1].after[1], CAST1);
	assert_int_equal(w->piece[DLAYER1].after[2], DHEAD);
	drop(m);
}

/* Weights are rounded before all else, the last layer's first, and the table, which has no scope, is read rounded by the embedding and the head. */
static void weights_first(void **state)
{
	(void)state;
	Made *m = make_empty();
	EntryPlan *e = &m->micro;
	launch(m, e, "h.1", 12, LIST(W1), LIST(C1));
	launch(m, e, "h.0", 12, LIST(W0), LIST(C0));
	launch(m, e, "", 20, LIST(WTE), LIST(CE));
	launch(m, e, "", 100, LIST(TOKENS, CE), LIST(X0));
	launch(m, e, "h.0", 100, LIST(X0, C0), LIST(X1));
	launch(m, e, "h.1", 100, LIST(X1, C1), LIST(X2));
	launch(m, e, "", 4, LIST(X2, CE), LIST(LOSS));
	launch(m, e, "", 100, LIST(X2, CE), LIST(D2));
	launch(m, e, "h.1", 100, LIST(X1, C1, D2), LIST(D1));
	launch(m, e, "h.0", 124, LIST(X0, C0, D1), LIST(D0, G0));
	launch(m, e, "", 40, LIST(D0, TOKENS), LIST(GE));
	Work *w = work_here(m);
	assert_int_equal(w->layers, 2);
	static const u32 rank[] = { 2, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7 };
	assert_int_equal(w->npiece, COUNT(rank));
	for (u32 i = 0; i < COUNT(rank); i++)
		assert_int_equal(w->piece[i].rank, rank[i]);
	drop(m);
}

/* A product of the head for a tied table's gradient stands last of all, and is of the head; what follows from a layer is not. */
static void gradients_of_the_head(void **state)
{
	(void)state;
	Made *m = make(false);
	launch(m, &m->micro, "", 10, LIST(D2), LIST(GE));
	launch(m, &m->micro, "", 10, LIST(D1), LIST(GE));
	Work *w = work_here(m);
	assert_int_equal(w->piece[DEMBED + 1].rank, work_rank(w, 3, true));
	assert_int_equal(w->piece[DEMBED + 2].rank, work_rank(w, 0, true));
	drop(m);
}

static void bytes_by_layer(void **state)
{
	(void)state;
	Made *m = make(false);
	Work *w = work_here(m);
	/* x0 and the tokens; x1; x2; rounded weights are the same for every micro-batch */
	static const u64 kept[] = { 108, 100, 100, 0 }, same[] = { 0, 12, 12, 0 }, handed[] = { 100, 100, 100, 0 };
	/* the loss; d2; d2 and d1; d1 and d0; d0 */
	static const u64 working[] = { 0, 0, 0, 4, 100, 200, 200, 100 };
	for (u32 u = 0; u < 4; u++) {
		assert_int_equal(w->kept[u], kept[u]);
		assert_int_equal(w->same[u], same[u]);
		assert_int_equal(w->handed[u], handed[u]);
	}
	for (u32 r = 0; r < 8; r++)
		assert_int_equal(w->working[r], working[r]);
	UnitBytes tied;
	UnitBytes *b = work_persistent(&m->arena, w, &tied);
	assert_int_equal(tied.parameters + tied.gradients + tied.optimizer + tied.other, 0);
	assert_int_equal(b[0].parameters, 4);
	assert_int_equal(b[0].gradients, 4);
	assert_int_equal(b[1].parameters, 4);
	assert_int_equal(b[1].gradients, 4);
	assert_int_equal(b[2].parameters, 4);
	assert_int_equal(b[2].gradients, 0);
	drop(m);
}

static void layers_compute_again(void **state)
{
	(void)state;
	Made *m = make(false);
	Work *w = work_here(m);
	assert_ptr_equal(work_again(&m->arena, &m->arena, w, RECOMPUTE_NONE), w);
	/* whole: both pieces of a layer before its backward half */
	const Work *whole = work_again(&m->arena, &m->arena, w, RECOMPUTE_WHOLE);
	static const u32 rank[] = { 0, 1, 1, 2, 2, 3, 4, 5, 5, 5, 6, 6, 6, 7 };
	assert_int_equal(whole->npiece, COUNT(rank));
	for (u32 i = 0; i < COUNT(rank); i++) {
		assert_int_equal(whole->piece[i].rank, rank[i]);
		assert_int_equal(whole->piece[i].again, i == 7 || i == 8 || i == 10 || i == 11);
	}
	/* the derivative of layer 1 reads what was rounded again */
	assert_int_equal(whole->piece[9].after[1], 7);
	for (u32 u = 0; u < 4; u++) {
		assert_int_equal(whole->kept[u], w->kept[u]);
		assert_int_equal(whole->same[u], 0);
	}
	/* needed: what the backward half reads of its layer, which are the rounded weights */
	const Work *needed = work_again(&m->arena, &m->arena, w, RECOMPUTE_NEEDED);
	assert_int_equal(needed->npiece, 12);
	assert_true(needed->piece[7].again && needed->piece[9].again);
	drop(m);
}

/* Layer 1 makes r1 on its way to x2. Its derivative d1 takes r1's memory over, that of the head, d2, takes x2's. */
static void derivatives_in_place(void **state)
{
	(void)state;
	Made *m = make_embedding();
	EntryPlan *e = &m->micro;
	launch(m, e, "h.0", 100, LIST(X0), LIST(X1));
	launch(m, e, "h.1", 100, LIST(X1), LIST(R1));
	launch(m, e, "h.1", 100, LIST(R1), LIST(X2));
	launch(m, e, "", 4, LIST(X2), LIST(LOSS));
	launch(m, e, "", 100, LIST(X2), LIST(D2));
	launch(m, e, "h.1", 100, LIST(R1, D2), LIST(D1));
	launch(m, e, "h.0", 124, LIST(X0, D1), LIST(D0, G0));
	launch(m, e, "wte", 40, LIST(D0, TOKENS), LIST(GE));
	e->buffer.v[D1].root = R1;
	e->buffer.v[D2].root = X2;
	const Work *w = work_here(m), *whole = work_again(&m->arena, &m->arena, w, RECOMPUTE_WHOLE);
	assert_int_equal(w->kept[2], 100 + 12);
	/* d1 lies where r1 is made again: of the forward half only x0, x1 and x2 stay, though layer 0 reads d1 */
	static const u64 kept[] = { 108, 100, 100, 0 };
	for (u32 u = 0; u < COUNT(kept); u++)
		assert_int_equal(whole->kept[u], kept[u]);
	/* d2 was made before x2 is made again: it lies where x2 was at first. Pieces: x0, x1, r1, x2, loss, d2, r1 and x2 again, d1 */
	bool first = false, again = false;
	for (u32 i = 0; i < whole->nvalue; i++) {
		const WorkValue *v = &whole->value[i];
		first |= v->bytes == 100 && v->maker == 3 && v->last == 8;
		again |= v->bytes == 100 && v->maker == 7 && v->last == 7;
	}
	assert_true(first && again);
	drop(m);
}

static void kernels_one_behind_the_other(void **state)
{
	(void)state;
	Made *m = make(false);
	Machine machine_ = machine(1);
	Walk w = walk(&m->arena, &machine_, work_here(m), BUCKET_BYTES);
	static const f64 seconds[] = { 100, 112, 112, 4, 100, 100, 124, 40 };
	f64 sum = 0;
	for (u32 r = 0; r < 8; r++) {
		close_to(w.rank[r].seconds, seconds[r]);
		close_to(w.rank[r].waiting, 0);
		sum += seconds[r];
	}
	close_to(w.seconds, sum);
	drop(m);
}

/* Devices that meet wait for whoever is late; one alone for nobody. */
static void kernels_of_devices_that_meet(void **state)
{
	(void)state;
	Machine machine_ = machine(1);
	machine_.uneven = 0.25;
	Made *m = make(false);
	close_to(walk(&m->arena, &machine_, work_here(m), BUCKET_BYTES).seconds, 692);
	drop(m);
	m = make(true);
	close_to(walk(&m->arena, &machine_, work_here(m), BUCKET_BYTES).seconds, 1.25 * 668);
	drop(m);
}

static void messages_beside_work(void **state)
{
	(void)state;
	Made *m = make(true);
	Work *work = work_here(m);
	assert_true(work->piece[CAST0].early && work->piece[CAST1].early);
	assert_true(work->piece[DEMBED].late && work->piece[DEMBED].message); /* the sum stands before the last kernel */
	/* 4 bytes at 1/6 of a byte a second: each takes 24 s, behind kernels of 100 */
	Machine fast = machine(1 / 6.0), slow = machine(1 / 60.0);
	Walk w = walk(&m->arena, &fast, work, BUCKET_BYTES);
	close_to(w.seconds, 668);
	close_to(w.begin[CAST1], 100); /* one layer ahead: when layer 0 begins */
	for (u32 r = 0; r < 8; r++)
		close_to(w.rank[r].waiting, 0);
	close_to(w.rank[1].messages, 24);
	/* 240 s: weights of layer 0 come at 240, those of layer 1 at 480; the sum of gradients takes 200 s more than what hides it */
	w = walk(&m->arena, &slow, work, BUCKET_BYTES);
	close_to(w.rank[1].waiting, 140);
	close_to(w.rank[2].waiting, 140);
	close_to(w.begin[LAYER1], 480);
	close_to(w.seconds, 668 + 140 + 140 + 200);
	/* messages that the device is busy with hide behind no kernel, and those of half their time by half; on the link that they take alone */
	fast.network.occupies = slow.network.occupies = 1;
	close_to(walk(&m->arena, &fast, work, BUCKET_BYTES).seconds, 668);
	fast.link.occupies = slow.link.occupies = 1;
	w = walk(&m->arena, &fast, work, BUCKET_BYTES);
	close_to(w.seconds, 668 + 3 * 24);
	f64 sum = 0, waiting = 0;
	for (u32 r = 0; r < 8; r++) {
		sum += w.rank[r].seconds;
		waiting += w.rank[r].waiting;
	}
	close_to(sum, w.seconds);
	close_to(waiting, 3 * 24);
	close_to(walk(&m->arena, &slow, work, BUCKET_BYTES).seconds, 668 + 3 * 240);
	fast.link.occupies = 0.5;
	close_to(walk(&m->arena, &fast, work, BUCKET_BYTES).seconds, 668 + 3 * 12);
	drop(m);
}

static void gathered_again(void **state)
{
	(void)state;
	Made *m = make_sequence();
	Work *w = work_here(m);
	/* x0 and the tokens, x1, x2: what was gathered is not kept */
	static const u64 kept[] = { 108, 100, 100, 0 };
	for (u32 u = 0; u < 4; u++)
		assert_int_equal(w->kept[u] + w->same[u], kept[u]);
	assert_int_equal(w->working[work_rank(w, 1, false)], 12);
	assert_int_equal(w->working[work_rank(w, 1, true)], 212); /* d1, d0, r0 */
	assert_int_equal(w->piece[S_AGAIN1].rank, work_rank(w, 2, true));
	assert_false(w->piece[S_AGAIN1].early);
	/* 24 s each: forward they are waited for; back they go beside the kernel before, and not as soon as x1 and x0 are there */
	Machine fast = machine(1 / 6.0), slow = machine(1 / 60.0);
	Walk t = walk(&m->arena, &fast, w, BUCKET_BYTES);
	close_to(t.begin[S_AGAIN1], t.begin[S_DHEAD]);
	close_to(t.begin[S_AGAIN0], t.begin[S_DLAYER1]);
	close_to(t.seconds, 768 - 100 + 48);
	t = walk(&m->arena, &slow, w, BUCKET_BYTES);
	close_to(t.seconds, 668 + 2 * 240 + 2 * 140);
	/* a layer that is computed again gathers for both at once */
	const Work *whole = work_again(&m->arena, &m->arena, w, RECOMPUTE_WHOLE);
	static const u32 rank[] = { 0, 1, 1, 2, 2, 3, 4, 5, 5, 5, 6, 6, 6, 7 };
	assert_int_equal(whole->npiece, COUNT(rank));
	u32 gathers = 0;
	for (u32 i = 0; i < COUNT(rank); i++) {
		assert_int_equal(whole->piece[i].rank, rank[i]);
		gathers += whole->piece[i].message;
	}
	assert_int_equal(gathers, 4);
	assert_int_equal(whole->piece[9].after[0], 7);
	assert_int_equal(whole->working[work_rank(w, 1, true)], 212); /* d1, d0 or x1 again, and what was gathered, once */
	drop(m);
}

/* An update sums gradients over devices, and changes parameters when the norm of all is known. */
static void sums_until_the_norm(void **state)
{
	(void)state;
	static const all_reduce_attr reduce = { .over = data_axis, .parts = 2 };
	Made *m = make(false);
	EntryPlan *e = &m->update;
	m->program.mesh = (Mesh){ 1, { { data_axis, 2 } } };
	as_message(m, launch(m, e, "h.0", 12, LIST(G0), LIST(C0)), OP_all_reduce, &reduce);
	as_message(m, launch(m, e, "h.1", 12, LIST(GE), LIST(C1)), OP_all_reduce, &reduce);
	launch(m, e, "", 4, LIST(C0, C1), LIST(D2));
	launch(m, e, "h.0", 50, LIST(C0, D2), LIST(D0));
	launch(m, e, "h.0", 50, LIST(D0), LIST(W0));
	launch(m, e, "h.1", 50, LIST(C1, D2), LIST(W1));
	Work *w = work_of(&m->arena, &m->arena, &m->plan, e);
	static const u64 kept[] = { 0, 12, 12, 100 }, summed[] = { 0, 12, 12, 0 }, working[] = { 0, 100, 0, 0 };
	for (u32 u = 0; u < 4; u++) {
		assert_int_equal(w->kept[u] + w->same[u], kept[u]);
		assert_int_equal(w->summed[u], summed[u]);
		assert_int_equal(w->working[u], working[u]);
	}
	/* of six layers, with micro-batches that take nothing: what they sum up, the norm, and what one of them makes; or no sums, where these lie
	 * in place of gradients */
	ClusterWork *c = cluster_work(&m->arena, &m->plan, RECOMPUTE_NONE, 0);
	for (u32 u = 0; u < c->first->units; u++)
		((u64 *)c->first->kept)[u] = 0;
	for (u32 r = 0; r < 2 * c->first->units; r++)
		((u64 *)c->first->working)[r] = 0;
	Machine fast = machine(1e30);
	ClusterShape shape = { .pipe = 1, .chunks = 1, .schedule = PIPE_1F1B, .micros = 1, .layers = 6 };
	ClusterStep s = cluster_step(&m->arena, &fast, c, &shape);
	assert_int_equal(s.stage[0].kept + s.stage[0].working, 6 * 12 + 100 + 100);
	c->in_place = true;
	s = cluster_step(&m->arena, &fast, c, &shape);
	assert_int_equal(s.stage[0].kept + s.stage[0].working, 100 + 100);
	drop(m);
}

/* By letters: layers of a model, the first so many that tell them, and for each the planned one that it is like. */
static void layers_tell_others(void **state)
{
	(void)state;
	static const struct {
		const char *all;
		u32 few;
		u32 stand[12];
	} of[] = {
		{ "aaaaaaaa", 3, { 1, 2, 2, 2, 2, 2, 2, 3 } },
		{ "fmmmmml", 3, { 1, 2, 2, 2, 2, 2, 3 } },                       /* the last one is so for being the last */
		{ "dddeeeee", 5, { 1, 2, 3, 4, 4, 4, 4, 5 } },
		{ "lglglglg", 4, { 1, 2, 3, 2, 3, 2, 3, 4 } },
		{ "llgllgllgl", 4, { 1, 2, 3, 2, 2, 3, 2, 2, 3, 4 } },
		{ "abcdef", 6, { 1, 2, 3, 4, 5, 6 } },
		{ "aab", 3, { 1, 2, 3 } },
	};
	Arena a = ARENA("test");
	for (u32 i = 0; i < COUNT(of); i++) {
		LayerKinds all = { .n = (u32)strlen(of[i].all) }, few;
		all.kind = NEWN(&a, u64, all.n);
		for (u32 k = 0; k < all.n; k++)
			all.kind[k] = (u64)of[i].all[k];
		few = all;
		few.n = layers_that_tell(&all);
		assert_int_equal(few.n, of[i].few);
		few.kind = COPYN(&a, u64, all.kind, few.n);
		few.kind[few.n - 1] = all.kind[all.n - 1]; /* as a model of so few has it */
		const u32 *stand = layers_stand(&a, &few, &all);
		assert_non_null(stand);
		for (u32 k = 0; k < all.n; k++)
			assert_int_equal(stand[k], of[i].stand[k]);
		few.kind[0] = 0;
		assert_null(layers_stand(&a, &few, &all));
	}
	/* the middle one alone is another: of six layers it is where the whole model has one of the rest, so that the fifth would stand for none */
	u64 all[] = { 'a', 'a', 'a', 'a', 's', 'a', 'a', 'a', 'a' }, few[] = { 'a', 'a', 'a', 's', 'a', 'a' };
	assert_null(layers_stand(&a, &(LayerKinds){ few, COUNT(few) }, &(LayerKinds){ all, COUNT(all) }));
	arena_free(&a);
}

/* Of a sequence, 1 second in each layer. Behind one way through the stages before it, each stage has all of its micro-batches' to do. */
static void products_in_pipelines(void **state)
{
	(void)state;
	Products one = { .layer = 1 };
	Choice c = { .tensor = 1, .context = 1, .expert = 1, .data = 1, .pipe = 4, .chunks = 1, .micro = 1, .micros = 4 };
	close_to(products_seconds(&one, &c, 4), 4 + 3);
	close_to(products_seconds(&one, &c, 8), 2 * (4 + 3));
	c.chunks = 2; /* the way is through first chunks alone */
	close_to(products_seconds(&one, &c, 8), 2 * 4 + 3);
	c.micro = 6;
	c.tensor = 2;
	close_to(products_seconds(&one, &c, 8), 3 * (2 * 4 + 3));
	c = (Choice){ .tensor = 1, .context = 1, .expert = 1, .data = 1, .pipe = 2, .chunks = 1, .micro = 1, .micros = 3 };
	one.behind = 5; /* the last stage has the most */
	close_to(products_seconds(&one, &c, 4), 3 * (2 + 5) + 2);
	one.before = 7; /* the first has more, and is on the way of the last */
	close_to(products_seconds(&one, &c, 4), 3 * (2 + 5) + 7 + 2);
	one.before = 70;
	close_to(products_seconds(&one, &c, 4), 3 * (70 + 2));
}

/* Four layers in two stages, three micro-batches. */
static void a_step_of_stages(void **state)
{
	(void)state;
	Made *m = make(false);
	ClusterWork *w = cluster_work(&m->arena, &m->plan, RECOMPUTE_NONE, 0);
	assert_non_null(w);
	Machine fast = machine(1e30);
	ClusterShape shape = { .pipe = 2, .chunks = 1, .schedule = PIPE_1F1B, .micros = 3, .layers = 4 };
	ClusterStep s = cluster_step(&m->arena, &fast, w, &shape);
	close_to(s.stage[0].forward, 100 + 2 * 112);
	close_to(s.stage[0].backward, 2 * 124 + 40);
	close_to(s.stage[1].forward, 2 * 112 + 4);
	close_to(s.stage[1].backward, 100 + 100 + 124);
	/* two micro-batches of x0, tokens and two x1, and two rounded weights once; one of x1 and x2, and two of these */
	assert_int_equal(s.stage[0].kept, 2 * (108 + 200) + 24);
	assert_int_equal(s.stage[1].kept, 200 + 24);
	/* stage 1 is done with the first at 324 + 228 + 324 = 876; stage 0 then goes backward with it (1164) and forward with the third
	 * (1488), later than stage 1 is free (1428); which goes through stage 1 and back */
	close_to(s.pipeline, 1488 + 228 + 324 + 288);
	drop(m);
}

/* 100 bytes go from stage to stage: whole, by each device of four that have the same tokens, or in four parts that are gathered behind the
 * network, where this takes less. Values that come and that go lie beside a stage's own. */
static void what_stages_hand_on(void **state)
{
	(void)state;
	Made *m = make(false);
	ClusterWork *w = cluster_work(&m->arena, &m->plan, RECOMPUTE_NONE, 0);
	w->within = 8; /* all of a domain: stages speak through the network */
	Machine a = machine(1000);
	a.link.latency = 0.5;
	a.network = (Link){ .bandwidth = 10, .latency = 2 };
	ClusterShape shape = { .pipe = 2, .chunks = 1, .schedule = PIPE_1F1B, .micros = 1, .layers = 4 };
	f64 whole = 100 / 10.0 + 2, parts = 25 / 10.0 + 2 + 0.75 * 100 / 1000 + 3 * 0.5, forward = 100 + 2 * 112, all = forward + 228 + 324 + 288;
	ClusterStep s = cluster_step(&m->arena, &a, w, &shape);
	close_to(s.sending, whole);
	close_to(s.pipeline, all + 2 * whole);
	close_to(s.timeline.begin[s.schedule.ntask], forward + whole); /* of stage 1 */
	shape.copies = 4;
	s = cluster_step(&m->arena, &a, w, &shape);
	close_to(s.sending, parts);
	close_to(s.pipeline, all + 2 * parts);
	a.link.latency = 5;
	close_to(cluster_step(&m->arena, &a, w, &shape).sending, whole);
	/* at work, a layer and the one behind it have 200 bytes of derivatives */
	assert_int_equal(s.stage[0].working, 200 + 2 * 100);
	assert_int_equal(s.stage[1].working, 200 + 2 * 100);
	drop(m);
}

/* Sums of layers' gradients take longer than the layers: what is left grows with their number, which the plan's two do not tell. */
static void sums_behind_many_layers(void **state)
{
	(void)state;
	Made *m = make(true);
	Machine slow = machine(1 / 60.0); /* a message takes 240 s, a layer 124 to go backward */
	ClusterWork *w = cluster_work(&m->arena, &m->plan, RECOMPUTE_NONE, 0);
	ClusterShape shape = { .pipe = 1, .chunks = 1, .schedule = PIPE_1F1B, .micros = 1, .layers = 4 };
	ClusterStep s = cluster_step(&m->arena, &slow, w, &shape);
	/* three layers as the first, which has a sum: 720 s from where the third-last is through, of which two layers and the embedding hide 288 */
	f64 once = 100 + 4 * 240 + 4 + 100 + 100 + 3 * 124 + 40, rest = 3 * 240 - (2 * 124 + 40);
	close_to(s.stage[0].sums, rest);
	close_to(s.pipeline, once + rest);
	close_to(s.stage[0].waiting, 4 * 140 + rest);
	close_to(s.bubble + 1, 1);
	/* nothing in this program keeps sums to the last micro-batch */
	shape.micros = 3;
	close_to(cluster_step(&m->arena, &slow, w, &shape).pipeline, 3 * (once + rest));
	shape.layers = 2; /* as planned */
	shape.micros = 1;
	close_to(cluster_step(&m->arena, &slow, w, &shape).pipeline, 668 + 140 + 140 + 200);
	drop(m);
	/* summed over one axis and then over another, they are on their way for twice as long, though the first waits for nothing but the second */
	m = make_sums(2);
	w = cluster_work(&m->arena, &m->plan, RECOMPUTE_NONE, 0);
	shape.layers = 4;
	s = cluster_step(&m->arena, &slow, w, &shape);
	close_to(s.stage[0].sums, rest + 3 * 240);
	close_to(s.pipeline, once + rest + 3 * 240);
	drop(m);
}

static void a_machine_from_steps(void **state)
{
	(void)state;
	enum { RUNS = 3 };
	static const CurvePoint half[] = { { 100, 0.5 } }, guess[] = { { 100, 0.8 } }, untold[] = { { 100, 0.3 } };
	Made *m = make(false);
	Machine truth = machine(1e30), fitted = truth;
	truth.stream = (Curve){ half, 1 };
	fitted.stream = (Curve){ guess, 1 };
	fitted.matmul = (Curve){ untold, 1 };
	MeasuredRun run[RUNS] = { 0 };
	for (u32 i = 0; i < RUNS; i++) {
		run[i].run.planned.work = cluster_work(&m->arena, &m->plan, RECOMPUTE_NONE, 0);
		run[i].run.shape = (ClusterShape){ .pipe = 1, .chunks = 1, .micros = i + 1, .layers = 2 + i };
		run[i].seconds = cluster_step(&m->arena, &truth, run[i].run.planned.work, &run[i].run.shape).seconds;
	}
	fit_machine(&m->arena, &fitted, run, RUNS);
	assert_true(fabs(fitted.stream.point[0].share / 0.5 - 1) < 0.01);
	assert_true(fabs(fitted.matmul.point[0].share / 0.3 - 1) < 1e-9); /* no run tells */
	close_to(guess[0].share, 0.8);
	drop(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_by_layer),
		cmocka_unit_test(weights_first),
		cmocka_unit_test(gradients_of_the_head),
		cmocka_unit_test(bytes_by_layer),
		cmocka_unit_test(layers_compute_again), cmocka_unit_test(derivatives_in_place),
		cmocka_unit_test(kernels_one_behind_the_other),
		cmocka_unit_test(kernels_of_devices_that_meet), cmocka_unit_test(messages_beside_work),
		cmocka_unit_test(gathered_again),
		cmocka_unit_test(sums_until_the_norm),
		cmocka_unit_test(a_step_of_stages),
		cmocka_unit_test(what_stages_hand_on),
		cmocka_unit_test(products_in_pipelines),
		cmocka_unit_test(layers_tell_others),
		cmocka_unit_test(sums_behind_many_layers),
		cmocka_unit_test(a_machine_from_steps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
