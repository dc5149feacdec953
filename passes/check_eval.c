/* passes/check_eval.c: see check_eval.h. An input's values follow from its name alone, so that both
 * programs get the same; integers are small and not negative, so that they serve as indices, and
 * floats of optimizer state are positive, so that roots of second moments are numbers. */
#include "passes/check_eval.h"
#include "ir/eval.h"
#include "ir/sample.h"

#include <math.h>
#include <string.h>

static void fill(Tensor *t, const char *name, bool positive)
{
	Random r = random_new(NULL, hash_bytes(HASH_SEED, name, strlen(name)));
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

static Tensor *buffers_of(Arena *tmp, const Program *p)
{
	Tensor *t = NEWN(tmp, Tensor, p->buffer.n);
	for (u32 i = 0; i < p->buffer.n; i++) {
		t[i] = tensor_new(tmp, p->buffer.v[i].type);
		fill(&t[i], p->buffer.v[i].name, p->buffer.v[i].kind == BUFFER_STATE);
	}
	return t;
}

static Tensor *results_of(Arena *tmp, const Program *p, const Graph *g)
{
	u32 n = graph_sources(g, NULL), ninput = 0;
	const Node **source = NEWN(tmp, const Node *, n);
	graph_sources(g, source);
	Tensor *input = NEWN(tmp, Tensor, n), *result = NEWN(tmp, Tensor, g->result.n);
	for (u32 i = 0; i < n; i++) {
		if (source[i]->op != OP_input)
			continue;
		input[ninput] = tensor_new(tmp, val_type(g, source[i]->out));
		fill(&input[ninput++], ATTR(source[i], input)->name, false);
	}
	eval_entry(tmp, p, g, input, buffers_of(tmp, p), result, (EvalOptions){ .round = false });
	return result;
}

/* Relative to the largest magnitude of the tensor. The evaluator rounds floats where a cast says so
 * and nowhere else; a constant that was folded has been rounded to its type. */
static f64 tolerance(const Graph *g, DType result)
{
	f64 most = result == DT_f64 ? 1e-9 : 1e-5;
	for (u32 i = 1; i < g->value.n; i++) {
		DType d = g->value.v[i].type->dtype;
		if (d == DT_bf16 || d == DT_f16)
			most = 0.05;
		else if (d == DT_f32)
			most = MAX(most, 1e-5);
	}
	return dtype_is_float(result) ? most : 0;
}

static bool agree(const Tensor *a, const Tensor *b, f64 within, i64 *at)
{
	f64 scale = 0;
	for (i64 i = 0; i < a->n; i++)
		if (isfinite(a->data[i]))
			scale = fmax(scale, fabs(a->data[i]));
	for (*at = 0; *at < a->n; ++*at) {
		f64 x = a->data[*at], y = b->data[*at];
		if (x == y || (isnan(x) && isnan(y)))
			continue;
		if (!(fabs(x - y) <= within * scale)) /* NaN is not within */
			return false;
	}
	return true;
}

static bool entries_agree(Arena *tmp, const Program *before, const Program *after, u32 entry,
			  const char *pass, Diag *d)
{
	const Graph *x = before->entry.v[entry];
	const Graph *y = program_find_entry(after, str_of(x->name));
	if (!y)
		return diag_error(d, E0716, (Loc){ 0 }, "%s: the entry %s is gone", pass, x->name);
	const Tensor *rx = results_of(tmp, before, x), *ry = results_of(tmp, after, y);
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
				MAX(tolerance(x, rx[i].dtype), tolerance(y, rx[i].dtype)), &at))
			fine = diag_error(
				d, E0716, val_node(x, r->value)->loc,
				"%s: element %lld of the result %s of %s was %.17g and is %.17g",
				pass, (long long)at, r->name, x->name, rx[i].data[at],
				ry[k].data[at]);
	}
	return fine;
}

bool programs_agree(Arena *tmp, const Program *before, const Program *after, const SymbolValues *sizes,
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
	for (u32 i = 0; i < both[0]->entry.n; i++)
		fine &= entries_agree(tmp, both[0], both[1], i, pass, d);
	return fine;
}
