/* tools/random_program.c: see random_program.h. */
#include "tools/random_program.h"
#include "ir/sample.h"

typedef struct Maker {
	Random *r;
	Builder *b;
	Graph *g;
	Program *p;
} Maker;

static Val any_value(Maker *m)
{
	return (Val){ (u32)random_int(m->r, 1, m->g->value.n - 1) };
}

/* A value of this type, or {0}. */
static Val another_of(Maker *m, const Type *t)
{
	u32 n = m->g->value.n, start = (u32)random_int(m->r, 1, n - 1);
	for (u32 i = 0; i < n; i++) {
		u32 at = 1 + (start + i) % (n - 1);
		if (m->g->value.v[at].type == t)
			return (Val){ at };
	}
	return (Val){ 0 };
}

static void add_scalar_op(Maker *m)
{
	Op op;
	do
		op = (Op)random_int(m->r, 0, OPS - 1);
	while (op_info[op].kind != EW);
	Val in[3] = { any_value(m) };
	const Type *t = val_type(m->g, in[0]);
	for (u32 i = 1; i < op_info[op].nin; i++) {
		i64 low = dtype_is_float(t->dtype) ? -1 : 0, high = low ? 2 : 1;
		in[i] = random_chance(m->r, 0.3)
				? make_full_like(m->b, in[0], (f64)random_int(m->r, low, high))
				: another_of(m, t);
	}
	Arena tmp = ARENA("why");
	Buf why = { .arena = &tmp };
	/* where wants a condition, and, or, not want booleans: those that do not fit are not built
	 */
	build_checked(m->b, op, in, op_info[op].nin, 0, &(none_attr){ 0 }, &why);
	arena_free(&tmp);
}

static void add_transpose(Maker *m, Val v)
{
	i64 perm[MAX_RANK];
	u32 rank = val_type(m->g, v)->rank;
	for (u32 d = 0; d < rank; d++) {
		i64 k = random_int(m->r, 0, d);
		perm[d] = perm[k];
		perm[k] = d;
	}
	BA(m->b, transpose, (v), .perm = { rank, perm });
}

static void add_view(Maker *m)
{
	Val v = any_value(m);
	const Type *t = val_type(m->g, v);
	Dim dim[MAX_RANK];
	i64 map[MAX_RANK];
	switch (random_int(m->r, 0, 3)) {
	case 0:
		add_transpose(m, v);
		break;
	case 1:
		if (t->rank + 1 >= MAX_RANK)
			break;
		dim[0] = random_extent(m->r, m->b);
		for (u32 d = 0; d < t->rank; d++) {
			dim[d + 1] = t->dim[d];
			map[d] = d + 1;
		}
		BA(m->b, broadcast, (v), .shape = { t->rank + 1, dim }, .dims = { t->rank, map });
		break;
	case 2: {
		Dim all = type_count(m->g->ir, t);
		BA(m->b, reshape, (v), .shape = { 1, &all });
		break;
	}
	default:
		if (t->rank && t->dtype != DT_b1)
			BA(m->b, sum, (v), .axes = INTS(m->b, random_int(m->r, 0, t->rank - 1)));
	}
}

/* Of a float value with itself, transposed or repeated now and then. */
static void add_dot(Maker *m)
{
	Val v = any_value(m);
	const Type *t = val_type(m->g, v);
	i64 perm[] = { 1, 0 }, map[] = { 1, 2 };
	if (!dtype_is_float(t->dtype) || t->rank != 2)
		return;
	const char *spec = "ik,jk->ij";
	Val x = v, y = v;
	if (random_chance(m->r, 0.5)) {
		y = BA(m->b, transpose, (v), .perm = { 2, perm });
		spec = "ik,kj->ij";
	} else if (random_chance(m->r, 0.5)) {
		Dim dim[] = { random_extent(m->r, m->b), t->dim[0], t->dim[1] };
		x = BA(m->b, broadcast, (v), .shape = { 3, dim }, .dims = { 2, map });
		y = BA(m->b, broadcast, (v), .shape = { 3, dim }, .dims = { 2, map });
		spec = "bik,bjk->bij";
	}
	Val z = BA(m->b, dot, (x, y), .spec = intern_z(&m->g->ir->names, spec));
	if (random_chance(m->r, 0.5))
		add_transpose(m, z);
}

static void name_axes(Maker *m, Val v)
{
	static const char *const name[] = { "B", "T", "Attention.H", NULL, "odd name" };
	Axis axis[MAX_RANK];
	Ir *ir = m->g->ir;
	for (u32 d = 0; d < val_type(m->g, v)->rank; d++) {
		Dim size = val_type(m->g, v)->dim[d];
		axis[d] = (Axis){ 0 };
		for (u32 i = 1; i < ir->axis.n && !axis[d].id; i++)
			if (ir->axis.v[i].size == size && !ir->axis.v[i].alias &&
			    random_chance(m->r, 0.3))
				axis[d] = (Axis){ i };
		if (!axis[d].id && random_chance(m->r, 0.7))
			axis[d] = axis_new(ir, name[random_int(m->r, 0, 4)], size,
					   (Loc){ 3, 4, 5, 0 });
	}
	graph_set_axis(m->g, v, axis);
}

static void add_read(Maker *m)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(m->r, m->b, 0, 3, dim);
	const Type *t = type_make(m->g->ir, random_float(m->r), rank, dim);
	const char *name = intern_printf(&m->g->ir->names, "p.%u", m->p->buffer.n);
	Val v = BS(m->b, read, .buffer = name, .dtype = t->dtype, .shape = { rank, t->dim });
	name_axes(m, v);
	program_buffer(m->p, (Buffer){ .name = name,
				       .kind = BUFFER_PARAMETER,
				       .type = t,
				       .of = NONE,
				       .axis = COPYN(m->p->arena, Axis, val_axis(m->g, v), rank),
				       .frozen = random_chance(m->r, 0.2),
				       .loc = m->b->loc,
				       .scope = m->b->scope });
}

static void add_sample(Maker *m)
{
	Op op = (Op)random_int(m->r, 0, OPS - 1);
	if (op == OP_read) /* its sample knows no program */
		add_read(m);
	else
		op_info[op].def->sample(m->r, m->b);
}

static void add_any(Maker *m)
{
	static const char *const scope[] = { "", "h.0.attn", "an odd \"scope\"\n" };
	m->b->scope = intern_z(&m->g->ir->names, scope[random_int(m->r, 0, 2)]);
	m->b->loc = random_chance(m->r, 0.3)
			    ? (Loc){ 0 }
			    : (Loc){ (u32)random_int(m->r, 1, 99), (u16)random_int(m->r, 0, 80),
				     (u16)random_int(m->r, 0, 9), (u16)random_int(m->r, 0, 1) };
	u32 was = m->r->input.n;
	f64 what = random_unit(m->r);
	if (m->g->value.n < 2 || what < 0.2)
		add_sample(m);
	else if (what < 0.6)
		add_scalar_op(m);
	else if (what < 0.85)
		add_view(m);
	else
		add_dot(m);
	for (u32 i = was; i < m->r->input.n; i++)
		name_axes(m, m->r->input.v[i].value);
}

static Program *make_program(Arena *arena, Ir *ir, u64 seed, u32 steps, bool powers)
{
	Program *p = program_new(arena, ir, "random");
	Random r = random_new(arena, seed);
	r.powers = powers;
	Graph *g = program_entry(p, "entry");
	Builder b = builder_new(g);
	b.no_fold = true;
	Maker m = { &r, &b, g, p };
	for (u32 i = 0; i < steps; i++)
		add_any(&m);
	for (u32 i = 1; i < g->value.n; i++) {
		if (!random_chance(&r, 0.2))
			continue;
		const Value *v = &g->value.v[i];
		u32 buffer = NONE;
		const char *name =
			intern_printf(&ir->names, random_chance(&r, 0.1) ? "odd %u" : "r%u", i);
		if (random_chance(&r, 0.3)) {
			const BufferKind kind = (BufferKind)random_int(&r, 0, BUFFER_KINDS - 1);
			buffer = program_buffer(
				p, (Buffer){ .name = name,
					     .kind = kind,
					     .type = v->type,
					     .axis = COPYN(arena, Axis, v->axis, v->type->rank),
					     .of = NONE,
					     .loc = b.loc });
		}
		graph_result(g, name, buffer, (Val){ i });
	}
	builder_done(&b);
	return p;
}

Program *random_program(Arena *arena, Ir *ir, u64 seed, u32 steps)
{
	return make_program(arena, ir, seed, steps, false);
}

Program *random_even_program(Arena *arena, Ir *ir, u64 seed, u32 steps)
{
	return make_program(arena, ir, seed, steps, true);
}
