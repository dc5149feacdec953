/* Units of ir/shard and the passes shard and partition: random programs and rules, whose parts on all devices of a
 * mesh give together what the whole gives; sharding rules of every op; placements as text; what is chosen for a few
 * programs whose best placement is known. A failure prints its seed and rules. PLINTH_SHARD=N runs N random programs,
 * PLINTH_SHARD=A..B those of seeds A to B. */
#include "ir/eval.h"
#include "ir/sample.h"
#include "passes/check_eval.h"
#include "passes/graph/shard.h"
#include "passes/plan/plan.h"
#include "tools/random_program.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct Case {
	Arena arena, tmp;
	Diag diag;
	Ir *ir;
} Case;

static void case_begin(Case *c)
{
	*c = (Case){ .arena = ARENA("case"), .tmp = ARENA("tmp") };
	c->diag.arena = &c->arena;
	c->ir = ir_new(&c->arena, &c->diag);
}

static void case_end(Case *c)
{
	arena_free(&c->tmp);
	arena_free(&c->arena);
}

static Program *run_passes(Case *c, const Program *p, const char *passes)
{
	Status status;
	PassCx cx = { .out = &c->arena, .tmp = &c->tmp, .ir = c->ir, .diag = &c->diag };
	return pipeline_run(str_of(passes), &cx, p, &status);
}

/* ---- random programs, random rules ---- */

/* A mesh of 2 to 12 devices with one to three axes, and where some names go; 3 divide little, so that parameters are padded. */
static const char *random_rules(Case *c, Random *r, u32 *devices)
{
	static const char *const name[] = { "B", "T", "H" }, *const mesh[] = { "x", "y", "z" };
	u32 n = (u32)random_int(r, 1, 3);
	Buf b = { .arena = &c->arena };
	*devices = 1;
	u32 odd = random_chance(r, 0.25) ? (u32)random_int(r, 0, n - 1) : NONE;
	for (u32 m = 0; m < n; m++) {
		u32 size = m == odd ? 3 : n == 1 && random_chance(r, 0.4) ? 4 : 2;
		*devices *= size;
		buf_printf(&b, "%smesh=%s:%u", m ? "," : "", mesh[m], size);
	}
	for (u32 m = 0; m < n; m++)
		for (u32 i = 0; i < COUNT(name); i++)
			if (random_chance(r, 0.4))
				buf_printf(&b, ",%s=%s", name[i], mesh[m]);
	static const char *const more[] = { "parameters", "gradients", "optimizer_state", "sequence" };
	for (u32 i = 0; i < COUNT(more); i++)
		if (random_chance(r, 0.3) || (!i && odd != NONE))
			buf_printf(&b, ",%s=%s", more[i], mesh[!i && odd != NONE ? odd : random_int(r, 0, n - 1)]);
	if (random_chance(r, 0.3))
		buf_printf(&b, ",attention_heads=%s", mesh[random_int(r, 0, n - 1)]);
	return b.text;
}

/* Names of what does not divide over all devices are taken away. */
static void forget_odd_axes(Ir *ir, u32 devices)
{
	for (u32 i = 1; i < ir->axis.n; i++) {
		i64 size;
		if (dim_is_number(ir->axis.v[i].size, &size) && size % devices) {
			ir->axis.v[i].names.n = 0;
			ir->axis.v[i].name = NULL;
		}
	}
}

static u32 collectives(const Program *p)
{
	u32 n = 0;
	for (u32 e = 0; e < p->entry.n; e++)
		for (u32 i = 0; i < p->entry.v[e]->node.n; i++)
			n += (op_info[p->entry.v[e]->node.v[i].op].traits & T_COLLECTIVE) != 0;
	return n;
}

/* Buffers that do not divide. */
static u32 padded(const Program *p)
{
	u32 n = 0;
	for (u32 i = 0; i < p->buffer.n; i++)
		n += p->buffer.v[i].split && strstr(p->buffer.v[i].split, " of ");
	return n;
}

/* What is divided when a device is given it, and what it takes its part of itself, which its coordinates tell. */
static u32 splits(const Program *p)
{
	u32 n = 0;
	for (u32 e = 0; e < p->entry.n; e++)
		for (u32 i = 0; i < p->entry.v[e]->node.n; i++)
			n += p->entry.v[e]->node.v[i].op == OP_input && ATTR(&p->entry.v[e]->node.v[i], input)->split;
	for (u32 i = 0; i < p->buffer.n; i++)
		n += p->buffer.v[i].split != NULL || p->buffer.v[i].kind == BUFFER_MESH;
	return n;
}

static bool is_small(const Program *p)
{
	i64 elements = 0;
	for (u32 i = 1; i < p->entry.v[0]->value.n; i++)
		elements += type_elements(p->entry.v[0]->value.v[i].type);
	return elements < 20000;
}

/* How many programs of those that were tried are of something. */
typedef struct Tried {
	u32 spoken, split, padded;
} Tried;

static bool agrees(Case *c, const Program *p, const char *rules, Tried *tried)
{
	const Program *whole = run_passes(c, p, "expand,simplify");
	const Program *part = whole ? run_passes(c, whole, arena_printf(&c->arena, "partition{%s}", rules)) : NULL;
	if (!part) /* heads of some attention do not divide: told, not done */
		return whole && c->diag.last && c->diag.last->code == E0725 && strstr(c->diag.last->text, "attention_heads");
	tried->spoken += collectives(part) > 0;
	tried->split += splits(part) > 0;
	tried->padded += padded(part) > 0;
	/* its plan leaves alone what is on its way: plan_verify */
	const Program *low = run_passes(c, part, "lower");
	const Plan *plan = low ? plan_program(&c->arena, &c->tmp, low, NULL, &c->diag) : NULL;
	if (!plan || !plan_verify(plan, &c->diag))
		return false;
	return programs_agree(&c->tmp, whole, part, &(SymbolValues){ 0 }, 0, "partition", &c->diag);
}

/* Fails where the program of this seed and its parts do not agree. */
static void random_program_agrees(u64 seed, Tried *tried)
{
	Case c;
	case_begin(&c);
	Random r = random_new(&c.arena, seed * 977);
	Program *p = random_even_program(&c.arena, c.ir, seed, 4 + (u32)(seed % 22));
	p->facts |= F_BOUND;
	u32 devices;
	const char *rules = random_rules(&c, &r, &devices);
	forget_odd_axes(c.ir, devices);
	/* repeated views grow: the evaluator is slow */
	if (is_small(p) && !agrees(&c, p, rules, tried)) {
		diag_print(&c.diag, stderr, false);
		fail_msg("seed %llu, %s", (unsigned long long)seed, rules);
	}
	case_end(&c);
}

static void random_programs_agree(void **state)
{
	(void)state;
	const char *asked = getenv("PLINTH_SHARD");
	char *end = NULL;
	u64 first = 1, last = asked ? strtoull(asked, &end, 10) : 3000;
	if (asked && !strncmp(end, "..", 2)) {
		first = last;
		last = strtoull(end + 2, NULL, 10);
	}
	Tried tried = { 0 };
	for (u64 seed = first; seed <= last; seed++)
		random_program_agrees(seed, &tried);
	/* the test is of something: most programs are divided, and many need to speak */
	u64 seeds = last + 1 - first;
	if (seeds > 100 && (tried.split * 2 < seeds || tried.spoken * 5 < seeds || tried.padded * 20 < seeds))
		fail_msg("of %llu programs, %u are divided, %u speak and %u are padded", (unsigned long long)seeds, tried.split, tried.spoken,
			 tried.padded);
}

/* Kernels of experts' products behind reshapes, and a sum over columns of a repeated one. */
static void programs_that_were_refused_agree(void **state)
{
	(void)state;
	static const u64 seed[] = { 17151, 58136, 69454, 98864 };
	Tried tried = { 0 };
	for (u32 i = 0; i < COUNT(seed); i++)
		random_program_agrees(seed[i], &tried);
}

/* ---- rules of ops ---- */

/* What every rule must keep: labels lie within their dimensions, and result extents are whole multiples. */
static void rules_fit(void **state)
{
	(void)state;
	for (u32 op = 0; op < OPS; op++)
		for (u64 seed = 1; seed <= 40; seed++) {
			Case c;
			case_begin(&c);
			Random r = random_new(&c.arena, seed * OPS + op);
			Builder b = builder_new(graph_new(&c.arena, c.ir, "use"));
			b.no_fold = true;
			Val v = op_info[op].def->sample(&r, &b);
			const Node n = *val_node(b.g, v);
			ShardRule rule;
			shard_rule(&c.arena, b.g, &n, &rule);
			for (u32 l = 0; l < rule.label.n; l++)
				for (u32 i = 0; i < n.nin + n.nout; i++) {
					ShardPoint at = rule.label.v[l].at[i];
					if (at.dim < 0)
						continue;
					const Type *t = val_type(b.g, i < n.nin ? n.in[i] : (Val){ n.out.i + i - n.nin });
					i64 extent = type_extent(t, (u32)at.dim), covered = at.outer * rule.label.v[l].extent;
					if (at.dim >= t->rank || (covered && extent % covered))
						fail_msg("%s, seed %llu: label %u does not fit", op_info[op].name,
							 (unsigned long long)seed, l);
				}
			for (u32 i = 0; i < rule.linear.n; i++)
				assert_true(n.nin >= 64 || rule.linear.v[i] >> n.nin == 0);
			builder_done(&b);
			case_end(&c);
		}
}

/* ---- placements ---- */

static void places_read_back(void **state)
{
	(void)state;
	Case c;
	case_begin(&c);
	Mesh mesh = { 3, { { "pod", 2 }, { "data", 4 }, { "tensor", 2 } } };
	Place p[MESH_AXES] = { { .kind = PLACE_SPLIT, .dim = 1, .outer = 3 }, { 0 }, { .kind = PLACE_PARTIAL, .reduce = SHARD_SUM } };
	const char *text = places_text(c.ir, &mesh, p);
	assert_string_equal(text, "pod 1 3, tensor +");
	Place back[MESH_AXES];
	assert_true(places_read(&mesh, text, back));
	for (u32 m = 0; m < 3; m++)
		assert_true(place_equal(p[m], back[m]));
	assert_false(places_read(&mesh, "rack 0 1", back));
	assert_false(places_read(&mesh, "data x", back));
	assert_null(places_text(c.ir, &mesh, (Place[MESH_AXES]){ { 0 } }));
	/* [three, pod, data, rest] of 48: digits beside one another, and not across */
	Place two[MESH_AXES] = { { .kind = PLACE_SPLIT, .outer = 3 }, { .kind = PLACE_SPLIT, .outer = 6 } };
	assert_true(places_fit(&mesh, two, 0, 48));
	assert_int_equal(place_extent(&mesh, two, 0, 48), 6);
	assert_int_equal(place_local_outer(&mesh, two, 1), 3);
	two[1].outer = 4;
	assert_false(places_fit(&mesh, two, 0, 48));
	/* 10 rows over 4 devices are 3 for each, and padding behind; not behind another digit, and not where one has none */
	Place padded[MESH_AXES] = { { 0 }, { .kind = PLACE_SPLIT, .outer = 1 } };
	assert_false(places_fit(&mesh, padded, 0, 10));
	assert_true(places_fit_padded(&mesh, padded, 0, 10));
	assert_int_equal(place_extent(&mesh, padded, 0, 10), 3);
	assert_false(places_fit_padded(&mesh, padded, 0, 3));
	places_note_padded(&mesh, padded, type_make(c.ir, DT_f32, 1, (Dim[]){ dim_number(c.ir, 10) }));
	text = places_text(c.ir, &mesh, padded);
	assert_string_equal(text, "data 0 1 of 10");
	assert_true(places_read(&mesh, text, back));
	assert_true(place_equal(padded[1], back[1]));
	assert_int_equal(back[1].whole, 10);
	assert_false(places_read(&mesh, "data 0 1 of", back));
	assert_false(places_read(&mesh, "data 0 1 of 0", back));
	padded[0] = (Place){ .kind = PLACE_SPLIT, .outer = 1 };
	padded[1].outer = 2;
	assert_false(places_fit_padded(&mesh, padded, 0, 10));
	u32 group[4];
	mesh_group(&mesh, 5, 1, group); /* pod 0, data 2, tensor 1 */
	assert_int_equal(group[0], 1);
	assert_int_equal(group[3], 7);
	assert_int_equal(mesh_coordinate(&mesh, 5, 1), 2);
	case_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places_read_back),
		cmocka_unit_test(rules_fit),
		cmocka_unit_test(random_programs_agree),
		cmocka_unit_test(programs_that_were_refused_agree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
