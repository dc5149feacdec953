/* passes/check_eval.c: see check_eval.h. An input's values follow from its name alone, so that both
 * programs get the same; integers are small and not negative, so that they serve as indices, and
 * floats of optimizer state are positive, so that roots of second moments are numbers.
 *
 * A partitioned program is evaluated on all devices of its mesh: each gets its part of the same whole values (of a
 * partial one, a share; what only pads a part is NaN, since nothing may depend on it), and what they give is put together again;
 * where devices disagree, it is NaN. */
#include "passes/check_eval.h"
#include "ir/eval.h"
#include "ir/sample.h"
#include "ir/shard.h"
#include "ir/step.h"

#include <math.h>
#include <string.h>

/* `turn`: 0, or other values of the same name. */
static void fill(Tensor *t, const char *name, u32 turn, bool positive)
{
	Random r = random_new(NULL, hash_bytes(HASH_SEED, name, strlen(name)) + turn);
	for (i64 i = 0; i < t->n; i++) {
		f64 x = random_unit(&r);
		switch (dtype_info[t->dtype].kind) {
		case KIND_B:
			x = x < 0.5;
			break;
		case KIND_U:
		case KIND_I:
			x = floor(x * 4);
			break;
		case KIND_F:
			x = positive ? x + 0.01 : x * 2 - 1;
			break;
		}
		t->data[i] = dtype_round(t->dtype, x);
	}
}

/* ---- wholes and parts ---- */

/* The whole of which `local` is a part. */
static Tensor whole_of(Arena *tmp, const Mesh *mesh, const Place *place, const Type *local)
{
	Tensor t = { .dtype = local->dtype, .rank = local->rank, .n = 1 };
	for (u32 d = 0; d < t.rank; d++) {
		t.dim[d] = type_extent(local, d);
		for (u32 m = 0; m < mesh->n; m++)
			if (place[m].kind == PLACE_SPLIT && place[m].dim == d)
				t.dim[d] = place[m].whole ? place[m].whole : t.dim[d] * mesh->axis[m].size;
		t.n *= t.dim[d];
	}
	t.data = NEWN(tmp, f64, t.n);
	return t;
}

/* A device's part, and the digits of each dimension from the outermost on: block `at` of `parts`, of `behind` each. */
typedef struct Part {
	const Mesh *mesh;
	const Place *place;
	const Tensor *whole, *part;
	u32 rank, n[MAX_RANK];
	struct {
		i64 outer, parts, at, behind;
	} digit[MAX_RANK][MESH_AXES];
} Part;

static Part part_new(const Mesh *mesh, const Place *place, const Tensor *whole, const Tensor *part, u32 rank)
{
	Part x = { .mesh = mesh, .place = place, .whole = whole, .part = part, .rank = rank };
	for (u32 m = 0; m < mesh->n; m++) {
		if (place[m].kind != PLACE_SPLIT)
			continue;
		u32 d = place[m].dim, at = x.n[d]++;
		for (; at > 0 && x.digit[d][at - 1].outer > place[m].outer; at--)
			x.digit[d][at] = x.digit[d][at - 1];
		x.digit[d][at].outer = place[m].outer;
		x.digit[d][at].parts = mesh->axis[m].size;
		x.digit[d][at].at = mesh_coordinate(mesh, rank, m);
	}
	for (u32 d = 0; d < part->rank; d++) {
		i64 later = 1; /* what digits behind this one will put in is not there yet */
		for (u32 k = x.n[d]; k-- > 0;) {
			i64 rest = whole->dim[d] / x.digit[d][k].outer; /* rounded up where it is padded */
			x.digit[d][k].behind = (rest + x.digit[d][k].parts - 1) / x.digit[d][k].parts / later;
			later *= x.digit[d][k].parts;
		}
	}
	return x;
}

/* -1: it is padding. */
static i64 whole_index(const Part *x, i64 at)
{
	i64 index = 0, stride = 1;
	for (u32 d = x->part->rank; d-- > 0;) {
		i64 i = at % x->part->dim[d], extent = x->whole->dim[d];
		at /= x->part->dim[d];
		for (u32 k = 0; k < x->n[d]; k++) {
			i64 behind = x->digit[d][k].behind;
			i = (i / behind * x->digit[d][k].parts + x->digit[d][k].at) * behind + i % behind;
		}
		if (i >= extent)
			return -1;
		index += i * stride;
		stride *= extent;
	}
	return index;
}

/* A device's share of a partial value: the first has what the others lack. */
static f64 share(const Part *x, f64 value)
{
	for (u32 m = 0; m < x->mesh->n; m++) {
		if (x->place[m].kind != PLACE_PARTIAL)
			continue;
		u32 c = mesh_coordinate(x->mesh, x->rank, m), n = x->mesh->axis[m].size;
		value = c ? value * 0.5 * c : value * (1 - 0.25 * (n - 1) * n);
	}
	return value;
}

static Tensor part_of(Arena *tmp, const Mesh *mesh, const Place *place, const Type *local, const Tensor *whole, u32 rank)
{
	if (!mesh->n)
		return *whole;
	Tensor t = tensor_new(tmp, local);
	Part x = part_new(mesh, place, whole, &t, rank);
	for (i64 i = 0; i < t.n; i++) {
		i64 at = whole_index(&x, i);
		t.data[i] = at < 0 ? NAN : share(&x, whole->data[at]);
	}
	return t;
}

/* The whole again: parts of a sum are added, copies must be equal. */
static Tensor assembled(Arena *tmp, const Mesh *mesh, const Place *place, const Type *local, const Tensor *const *part)
{
	if (!mesh->n)
		return *part[0];
	Tensor t = whole_of(tmp, mesh, place, local);
	for (u32 r = 0; r < mesh_devices(mesh); r++) {
		Part x = part_new(mesh, place, &t, part[r], r);
		bool copy = false;
		for (u32 m = 0; m < mesh->n; m++)
			copy |= place[m].kind == PLACE_WHOLE && mesh_coordinate(mesh, r, m);
		for (i64 i = 0; i < part[r]->n && !copy; i++) {
			i64 at = whole_index(&x, i);
			if (at >= 0)
				t.data[at] += part[r]->data[i];
		}
	}
	for (u32 r = 0; r < mesh_devices(mesh); r++) {
		bool partial = false;
		for (u32 m = 0; m < mesh->n; m++)
			partial |= place[m].kind == PLACE_PARTIAL;
		Part x = part_new(mesh, place, &t, part[r], r);
		for (i64 i = 0; i < part[r]->n && !partial; i++) {
			i64 at = whole_index(&x, i);
			f64 from = part[r]->data[i];
			if (at >= 0 && t.data[at] != from && !(isnan(t.data[at]) && isnan(from)))
				t.data[at] = NAN;
		}
	}
	return t;
}

static void places_of(const Program *p, const char *split, Place place[MESH_AXES])
{
	if (!places_read(&p->mesh, split, place))
		NEVER("a program's split that cannot be read");
}

/* How a buffer lies when the entry is done that gives it, or (`read`) begins. */
static void buffer_places(const Program *p, const Buffer *b, const char *entry, bool read, Place place[MESH_AXES])
{
	places_of(p, b->split, place);
	bool whole = b->summed && step_name(entry).part == (read ? STEP_UPDATE : STEP_LAST);
	for (u32 m = 0; m < p->mesh.n && whole; m++)
		if (place[m].kind == PLACE_PARTIAL)
			place[m] = (Place){ 0 };
}

/* Device `rank`'s buffers, for this entry. */
static Tensor *buffers_of(Arena *tmp, const Program *p, const char *entry, u32 rank)
{
	Tensor *t = NEWN(tmp, Tensor, p->buffer.n);
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i];
		Place place[MESH_AXES];
		buffer_places(p, b, entry, true, place);
		Tensor whole = whole_of(tmp, &p->mesh, place, b->type);
		fill(&whole, b->name, 0, b->kind == BUFFER_STATE);
		t[i] = part_of(tmp, &p->mesh, place, b->type, &whole, rank);
		for (u32 m = 0; m < p->mesh.n && b->kind == BUFFER_MESH; m++)
			if (mesh_buffer(p->ir, p->mesh.axis[m].name) == b->name)
				t[i].data[0] = mesh_coordinate(&p->mesh, rank, m);
	}
	return t;
}

static Tensor *inputs_of(Arena *tmp, const Program *p, const Graph *g, u32 rank, u32 turn)
{
	u32 n = graph_sources(g, NULL), ninput = 0;
	const Node **source = NEWN(tmp, const Node *, n);
	graph_sources(g, source);
	Tensor *input = NEWN(tmp, Tensor, n);
	for (u32 i = 0; i < n; i++) {
		if (source[i]->op != OP_input)
			continue;
		const Type *t = val_type(g, source[i]->out);
		Place place[MESH_AXES];
		places_of(p, ATTR(source[i], input)->split, place);
		Tensor whole = whole_of(tmp, &p->mesh, place, t);
		fill(&whole, ATTR(source[i], input)->name, turn, false);
		input[ninput++] = part_of(tmp, &p->mesh, place, t, &whole, rank);
	}
	return input;
}

/* Every device's. */
static Tensor **all_buffers(Arena *tmp, const Program *p, const char *entry)
{
	Tensor **buffer = NEWN(tmp, Tensor *, mesh_devices(&p->mesh));
	for (u32 r = 0; r < mesh_devices(&p->mesh); r++)
		buffer[r] = buffers_of(tmp, p, entry, r);
	return buffer;
}

/* The entry's results, whole; buffers are what they are then. */
static Tensor *results_of(Arena *tmp, const Program *p, const Graph *g, Tensor **buffer, u32 turn)
{
	u32 ranks = mesh_devices(&p->mesh);
	const Tensor **input = NEWN(tmp, const Tensor *, ranks), **part = NEWN(tmp, const Tensor *, ranks);
	Tensor **result = NEWN(tmp, Tensor *, ranks);
	for (u32 r = 0; r < ranks; r++) {
		input[r] = inputs_of(tmp, p, g, r, turn);
		result[r] = NEWN(tmp, Tensor, g->result.n + 1);
	}
	eval_mesh_entry(tmp, p, g, input, buffer, result, (EvalOptions){ .round = false });
	Tensor *whole = NEWN(tmp, Tensor, g->result.n + 1);
	for (u32 i = 0; i < g->result.n; i++) {
		const Result *r = &g->result.v[i];
		Place place[MESH_AXES];
		if (r->buffer == NONE)
			places_of(p, NULL, place);
		else
			buffer_places(p, &p->buffer.v[r->buffer], g->name, false, place);
		for (u32 k = 0; k < ranks; k++)
			part[k] = &result[k][i];
		whole[i] = assembled(tmp, &p->mesh, place, val_type(g, r->value), part);
	}
	return whole;
}

/* ---- comparing ---- */

/* Relative to the largest magnitude of the tensor. The evaluator rounds floats where a cast says so
 * and nowhere else; a constant that was folded has been rounded to its type. */
static f64 tolerance(const Graph *g, DType result)
{
	f64 most = result == DT_f64 ? 1e-9 : 1e-5;
	for (u32 i = 1; i < g->value.n; i++) {
		DType d = g->value.v[i].type->dtype;
		if (dtype_is_narrow_float(d))
			most = 0.05;
		else if (d == DT_f32)
			most = MAX(most, 1e-5);
	}
	return dtype_is_float(result) ? most : 0;
}

/* `parts`: one of them is made of parts, where what is infinite may be NaN: zero for what others have, times infinity. */
static bool agree(const Tensor *a, const Tensor *b, f64 within, bool parts, i64 *at)
{
	f64 scale = 0;
	for (i64 i = 0; i < a->n; i++)
		if (isfinite(a->data[i]))
			scale = fmax(scale, fabs(a->data[i]));
	for (*at = 0; *at < a->n; ++*at) {
		f64 x = a->data[*at], y = b->data[*at];
		if (x == y || (isnan(x) && isnan(y)) || (parts && !isfinite(x) && !isfinite(y)))
			continue;
		/* sums in another order may cancel to the rounding of their terms; NaN is not within */
		if (!(fabs(x - y) <= within * scale + 1e-13))
			return false;
	}
	return true;
}

/* Buffers of each device, of the program before and after, as they are when the entry runs; that `turn`'s inputs. */
typedef struct Both {
	const Program *before, *after;
	Tensor **buffer[2];
	u32 turn;
} Both;

/* Entry x before, and what stands for it after: its namesake, or (`as` not NULL) another one. */
static bool entries_agree(Arena *tmp, Both *b, const Graph *x, const Graph *as, const char *pass, Diag *d)
{
	const Program *before = b->before, *after = b->after;
	const Graph *y = as ? as : program_find_entry(after, str_of(x->name));
	if (!y)
		return diag_error(d, E0716, (Loc){ 0 }, "%s: the entry %s is gone", pass, x->name);
	const Tensor *rx = results_of(tmp, before, x, b->buffer[0], b->turn), *ry = results_of(tmp, after, y, b->buffer[1], b->turn);
	bool fine = true;
	for (u32 i = 0; i < x->result.n; i++) {
		const Result *r = &x->result.v[i];
		u32 k = 0;
		while (k < y->result.n && (y->result.v[k].name != r->name ||
					   (y->result.v[k].buffer == NONE) != (r->buffer == NONE)))
			k++;
		i64 at;
		if (k == y->result.n)
			fine = diag_error(d, E0716, val_node(x, r->value)->loc,
					  "%s: %s no longer gives %s", pass, x->name, r->name);
		else if (rx[i].n != ry[k].n || rx[i].dtype != ry[k].dtype)
			fine = diag_error(d, E0716, val_node(x, r->value)->loc,
					  "%s: the result %s of %s has another type", pass, r->name,
					  x->name);
		else if (!agree(&rx[i], &ry[k],
				MAX(tolerance(x, rx[i].dtype), tolerance(y, rx[i].dtype)), before->mesh.n != after->mesh.n,
				&at))
			fine = diag_error(
				d, E0716, val_node(x, r->value)->loc,
				"%s: element %lld of the result %s of %s was %.17g and is %.17g",
				pass, (long long)at, r->name, x->name, rx[i].data[at],
				ry[k].data[at]);
	}
	return fine;
}

/* An entry of a step of two micro-batches, of which the second is its last. */
static const Graph *entry_of_two(const Program *p, const char *name)
{
	const Graph *last = strcmp(name, "micro") ? NULL : program_find_entry(p, STR("micro_last"));
	return last ? last : program_find_entry(p, str_of(name));
}

/* Steps of training one behind the other, each with two micro-batches, from what `init` makes on: buffers stay. */
static bool steps_agree(Arena *tmp, const Program *before, const Program *after, u32 steps, const char *pass, Diag *d)
{
	static const char *const entry[] = { "init", "micro_first", "micro", "update" };
	Both b = { before, after, { all_buffers(tmp, before, ""), all_buffers(tmp, after, "") }, 0 };
	for (u32 step = 0; step < steps; step++)
		for (u32 i = step ? 1 : 0; i < COUNT(entry); i++) {
			const Graph *g = entry_of_two(before, entry[i]);
			b.turn++;
			if (g && !entries_agree(tmp, &b, g, entry_of_two(after, entry[i]), arena_printf(tmp, "%s, in step %u of training", pass, step + 1), d))
				return false;
		}
	return true;
}

bool programs_agree(Arena *tmp, const Program *before, const Program *after, const SymbolValues *sizes, u32 steps,
		    const char *pass, Diag *d)
{
	const Program *both[2] = { before, after };
	for (u32 i = 0; i < 2; i++) {
		const char **symbol;
		u32 n = program_symbols(tmp, both[i], &symbol);
		if (n == 0)
			continue;
		i64 *value = NEWN(tmp, i64, n);
		for (u32 k = 0; k < n; k++) {
			value[k] = 4;
			for (u32 s = 0; s < sizes->n; s++)
				if (sizes->symbol[s] == symbol[k])
					value[k] = sizes->value[s];
		}
		both[i] = bind_program(tmp, tmp, both[i], &(SymbolValues){ n, symbol, value });
		if (!both[i])
			return false;
	}
	bool fine = true;
	for (u32 i = 0; i < both[0]->entry.n; i++) {
		ArenaMark mark = arena_mark(tmp);
		const char *name = both[0]->entry.v[i]->name;
		Both b = { both[0], both[1], { all_buffers(tmp, both[0], name), all_buffers(tmp, both[1], name) }, 0 };
		fine &= entries_agree(tmp, &b, both[0]->entry.v[i], NULL, pass, d);
		arena_release(tmp, mark);
	}
	return fine && steps_agree(tmp, both[0], both[1], steps, pass, d);
}
