/* tools/summary.c: see summary.h. */
#include "tools/summary.h"
#include "ir/cost.h"
#include "ir/step.h"
#include "tools/lm.h"

#include <string.h>

/* ---- the tree of modules ---- */

typedef struct Summarizer {
	Arena *arena;
	Ir *ir;
	Summary *s;
	Map part; /* path -> SummaryPart */
} Summarizer;

static SummaryPart *part_at(Summarizer *x, const char *path)
{
	path = intern_z(&x->ir->names, path);
	u64 *found = map_get(&x->part, MAP_KEY(path));
	if (found)
		return (SummaryPart *)(uintptr_t)*found;
	SummaryPart *p = NEW(x->arena, SummaryPart);
	const char *dot = strrchr(path, '.');
	p->name = dot ? dot + 1 : path;
	map_put(&x->part, MAP_KEY(path), MAP_KEY(p));
	if (*path) {
		SummaryPart *above = part_at(x, dot ? arena_printf(x->arena, "%.*s", (int)(dot - path), path) : "");
		VEC_PUSH(x->arena, &above->part, p);
	}
	return p;
}

static void add(SummaryNumbers *to, const SummaryNumbers *more)
{
	to->parameters += more->parameters;
	to->trained += more->trained;
	to->forward += more->forward;
	to->training += more->training;
	to->kept += more->kept;
}

static void total(SummaryPart *p)
{
	p->all = p->own;
	for (u32 i = 0; i < p->part.n; i++) {
		total(p->part.v[i]);
		add(&p->all, &p->part.v[i]->all);
	}
}

/* ---- counting ---- */

static void count_parameters(Summarizer *x, const Program *program)
{
	for (u32 i = 0; i < program->buffer.n; i++) {
		const Buffer *b = &program->buffer.v[i];
		if (b->kind != BUFFER_PARAMETER)
			continue;
		const char *scope = b->scope ? b->scope : "";
		SummaryPart *p = part_at(x, scope);
		f64 n = (f64)type_elements(b->type);
		p->own.parameters += n;
		if (!b->frozen)
			p->own.trained += n;
		x->s->parameter_bytes += (f64)type_bytes(b->type);
		size_t skip = *scope && str_starts(str_of(b->name), str_of(scope)) ? strlen(scope) + 1 : 0;
		VEC_PUSH(x->arena, &p->parameter, b->name + skip);
	}
}

static void count_flops(Summarizer *x, const Graph *g, bool training)
{
	const NodeCost *cost = node_costs(x->arena, g);
	for (u32 i = 0; i < g->node.n; i++) {
		if (cost[i].flops == 0)
			continue;
		SummaryNumbers *n = &part_at(x, g->node.v[i].scope)->own;
		*(training ? &n->training : &n->forward) += cost[i].flops;
	}
}

/* Bytes that steps of the forward half make (those that the loss needs) and steps of the backward half read. */
static void count_kept(Summarizer *x, const Plan *plan, const EntryPlan *e)
{
	u32 nstep = e->step.n, nbuffer = e->buffer.n;
	bool *forward = NEWN(x->arena, bool, nstep + 1), *needed = NEWN(x->arena, bool, nbuffer + 1);
	bool *made = NEWN(x->arena, bool, nbuffer + 1), *kept = NEWN(x->arena, bool, nbuffer + 1);
	for (u32 i = 0; i < nbuffer; i++) {
		const PlanBuffer *b = &e->buffer.v[i];
		needed[i] = !strcmp(b->name, "loss_sum") || !strcmp(b->name, "loss_count");
	}
	for (u32 i = nstep; i-- > 0;) {
		const Step *s = &e->step.v[i];
		const Kernel *k = plan->kernel.v[s->kernel];
		for (u32 n = 0; n < k->slot.n; n++)
			forward[i] |= k->slot.v[n].written && needed[s->slot[n]];
		for (u32 n = 0; n < k->slot.n && forward[i]; n++) {
			needed[s->slot[n]] = true;
			made[s->slot[n]] |= k->slot.v[n].written;
		}
	}
	for (u32 i = 0; i < nstep; i++) {
		const Step *s = &e->step.v[i];
		const Kernel *k = plan->kernel.v[s->kernel];
		for (u32 n = 0; n < k->slot.n && !forward[i]; n++)
			kept[s->slot[n]] |= k->slot.v[n].read && made[s->slot[n]];
	}
	for (u32 i = 0; i < nbuffer; i++) {
		const PlanBuffer *b = &e->buffer.v[i];
		if (kept[i] && b->kind != MEMORY_PERSISTENT && b->kind != MEMORY_INPUT)
			part_at(x, b->scope)->own.kept += (f64)b->bytes;
	}
}

static void count_units(Summary *s, const Graph *g)
{
	for (u32 i = 0; i < g->node.n; i++) {
		const Type *t = val_type(g, g->node.v[i].out);
		if (g->node.v[i].op != OP_input || !t->rank)
			continue;
		bool token = dtype_info[t->dtype].kind == KIND_I;
		s->unit = token ? "token" : "sample";
		s->units = (f64)(token ? type_elements(t) : type_extent(t, 0));
		return;
	}
	s->unit = "run";
	s->units = 1;
}

Summary *summarize(Arena *arena, const Program *program, const Compiled *planned)
{
	Summary *s = NEW(arena, Summary);
	*s = (Summary){ .model = program->name, .unit = "token", .units = 1 };
	Summarizer x = { .arena = arena, .ir = program->ir, .s = s, .part = { .arena = arena } };
	s->root = part_at(&x, "");
	s->root->name = program->name;
	count_parameters(&x, program);
	for (u32 i = 0; planned && i < planned->model->entry.n; i++) {
		const Graph *g = planned->model->entry.v[i];
		bool forward = !strcmp(g->name, "forward"), training = step_is(g->name, STEP_FIRST);
		if (step_is(g->name, STEP_UPDATE))
			s->update = planned->flops[i];
		if (!forward && !training)
			continue;
		*(forward ? &s->has_forward : &s->has_training) = true;
		*(forward ? &s->forward : &s->training) = planned->flops[i];
		if (training || !s->has_training)
			count_units(s, g);
		count_flops(&x, g, training);
	}
	for (u32 i = 0; planned && planned->plan && i < planned->plan->entry.n; i++)
		if (step_is(planned->plan->entry.v[i]->name, STEP_FIRST))
			count_kept(&x, planned->plan, planned->plan->entry.v[i]);
	if (planned && planned->plan) {
		s->arena_bytes = planned->plan->arena_bytes;
		s->persistent_bytes = planned->plan->persistent_bytes;
	}
	total(s->root);
	return s;
}

/* ---- rows that repeat ---- */

static bool is_index(const char *name)
{
	return *name && strspn(name, "0123456789") == strlen(name);
}

/* Of one form: the same modules with as many parameters. */
static bool same_form(const SummaryPart *a, const SummaryPart *b)
{
	if (a->part.n != b->part.n || a->own.parameters != b->own.parameters || a->parameter.n != b->parameter.n)
		return false;
	for (u32 i = 0; i < a->part.n; i++)
		if (strcmp(a->part.v[i]->name, b->part.v[i]->name) || !same_form(a->part.v[i], b->part.v[i]))
			return false;
	return true;
}

static SummaryPart *merged(Arena *arena, SummaryPart *const *part, u32 n, const char *name)
{
	SummaryPart *m = NEW(arena, SummaryPart);
	m->name = name;
	for (u32 i = 0; i < part[0]->parameter.n; i++)
		VEC_PUSH(arena, &m->parameter, part[0]->parameter.v[i]);
	for (u32 i = 0; i < n; i++) {
		add(&m->own, &part[i]->own);
		add(&m->all, &part[i]->all);
	}
	SummaryPart **below = NEWN(arena, SummaryPart *, n);
	for (u32 k = 0; k < part[0]->part.n; k++) {
		for (u32 i = 0; i < n; i++)
			below[i] = part[i]->part.v[k];
		VEC_PUSH(arena, &m->part, merged(arena, below, n, below[0]->name));
	}
	return m;
}

/* The parts below `p`, those with numbers for names that follow each other and are of one form as one. */
static u32 rows_below(Arena *arena, const SummaryPart *p, SummaryPart ***out)
{
	SummaryPart **row = NEWN(arena, SummaryPart *, p->part.n + 1);
	u32 n = 0;
	for (u32 i = 0, end; i < p->part.n; i = end) {
		for (end = i + 1; end < p->part.n && is_index(p->part.v[i]->name) && is_index(p->part.v[end]->name) &&
				  same_form(p->part.v[i], p->part.v[end]);)
			end++;
		const char *name = arena_printf(arena, "{%s..%s}", p->part.v[i]->name, p->part.v[end - 1]->name);
		row[n++] = end == i + 1 ? p->part.v[i] : merged(arena, p->part.v + i, end - i, name);
	}
	*out = row;
	return n;
}

static bool nothing(const SummaryNumbers *n)
{
	return n->parameters == 0 && n->forward == 0 && n->training == 0 && n->kept == 0;
}

/* ---- printing ---- */

enum { NAME_COLUMN = 34 };

static void print_numbers(const Summary *s, Arena *tmp, const SummaryNumbers *n, FILE *to)
{
	fprintf(to, " %10s", lm_scaled(tmp, n->parameters));
	if (s->has_forward)
		fprintf(to, " %12s", lm_scaled(tmp, n->forward / s->units));
	if (s->has_training)
		fprintf(to, " %13s %14s", lm_scaled(tmp, n->training / s->units), lm_bytes(tmp, (u64)n->kept));
	fputc('\n', to);
}

static void print_name(const char *name, u32 depth, FILE *to)
{
	fprintf(to, "%*s%-*s", (int)(2 * depth), "", MAX(1, NAME_COLUMN - 2 * (int)depth), name);
}

/* "(its own: wte.weight, wpe.weight)" */
static const char *own_name(Arena *tmp, const SummaryPart *p, u32 width)
{
	Buf b = { .arena = tmp };
	buf_put(&b, STR("(its own"));
	for (u32 i = 0; i < p->parameter.n; i++) {
		if (b.n + strlen(p->parameter.v[i]) + strlen(", ...)") + 2 > width) {
			buf_put(&b, i ? STR(", ...") : STR(": ..."));
			break;
		}
		buf_printf(&b, "%s%s", i ? ", " : ": ", p->parameter.v[i]);
	}
	buf_char(&b, ')');
	return b.text;
}

static void print_part(const Summary *s, Arena *tmp, const SummaryPart *p, u32 depth, FILE *to)
{
	SummaryPart **row;
	u32 n = rows_below(tmp, p, &row);
	const char *name = p->name;
	while (depth && n == 1 && nothing(&p->own)) { /* a name that only leads to another */
		p = row[0];
		name = arena_printf(tmp, "%s.%s", name, p->name);
		n = rows_below(tmp, p, &row);
	}
	print_name(name, depth, to);
	print_numbers(s, tmp, &p->all, to);
	if (!n)
		return;
	if (!nothing(&p->own)) {
		print_name(own_name(tmp, p, NAME_COLUMN - 2 * MIN(depth + 1, 8u)), depth + 1, to);
		print_numbers(s, tmp, &p->own, to);
	}
	for (u32 i = 0; i < n; i++)
		print_part(s, tmp, row[i], depth + 1, to);
}

static const char *flop_text(Arena *tmp, f64 flops)
{
	return arena_printf(tmp, flops < 999.5 ? "%s FLOP" : "%sFLOP", lm_scaled(tmp, flops));
}

static void print_flops(Arena *tmp, const char *what, const EntryFlops *f, const Summary *s, FILE *to)
{
	fprintf(to, "%s %s, %s per %s", what, flop_text(tmp, f->model), flop_text(tmp, f->model / s->units), s->unit);
	if (f->model_full > f->model)
		fprintf(to, " (%s with attention's full square)", flop_text(tmp, f->model_full / s->units));
	fputc('\n', to);
}

void summary_print(const Summary *s, FILE *to)
{
	Arena tmp = ARENA("summary");
	const SummaryNumbers *all = &s->root->all;
	fprintf(to, "%-*s %10s", NAME_COLUMN, "module", "parameters");
	const char *per = arena_printf(&tmp, "/%s", s->unit);
	if (s->has_forward)
		fprintf(to, " %12s", arena_printf(&tmp, "FLOP%s", per));
	if (s->has_training)
		fprintf(to, " %13s %14s", arena_printf(&tmp, "trained%s", per), "kept, backward");
	fputc('\n', to);
	print_part(s, &tmp, s->root, 0, to);
	fprintf(to, "\nparameters  %.0f, %s", all->parameters, lm_bytes(&tmp, (u64)s->parameter_bytes));
	if (all->trained < all->parameters)
		fprintf(to, "; %.0f of them are trained", all->trained);
	fputc('\n', to);
	if (s->has_forward)
		print_flops(&tmp, "forward    ", &s->forward, s, to);
	if (s->has_training) {
		print_flops(&tmp, "micro-step ", &s->training, s, to);
		fprintf(to, "update      %s\n", flop_text(&tmp, s->update.model));
		fprintf(to, "kept        %.0f bytes (%s) of activations from forward to backward, %s per %s\n", all->kept,
			lm_bytes(&tmp, (u64)all->kept), lm_bytes(&tmp, (u64)(all->kept / s->units)), s->unit);
	}
	if (s->arena_bytes)
		fprintf(to, "memory      %llu bytes (%s), %s of them parameters, optimizer, gradients\n",
			(unsigned long long)s->arena_bytes, lm_bytes(&tmp, s->arena_bytes), lm_bytes(&tmp, s->persistent_bytes));
	arena_free(&tmp);
}

/* ---- JSON ---- */

static void json_numbers(const Summary *s, const SummaryNumbers *n, FILE *to)
{
	fprintf(to, "\"parameters\": %.0f, \"trained_parameters\": %.0f", n->parameters, n->trained);
	if (s->has_forward)
		fprintf(to, ", \"forward_flops\": %.17g", n->forward);
	if (s->has_training)
		fprintf(to, ", \"training_flops\": %.17g, \"kept_bytes\": %.0f", n->training, n->kept);
}

static void json_part(const Summary *s, Arena *tmp, const SummaryPart *p, const char *path, bool *first, FILE *to)
{
	fprintf(to, "%s{\"path\": \"%s\", ", *first ? "" : ", ", path);
	*first = false;
	json_numbers(s, &p->all, to);
	fputs(", \"own\": {", to);
	json_numbers(s, &p->own, to);
	fputs("}}", to);
	for (u32 i = 0; i < p->part.n; i++)
		json_part(s, tmp, p->part.v[i], *path ? arena_printf(tmp, "%s.%s", path, p->part.v[i]->name) : p->part.v[i]->name, first, to);
}

void summary_print_json(const Summary *s, FILE *to)
{
	Arena tmp = ARENA("summary");
	bool first = true;
	fprintf(to, "{\"model\": \"%s\", ", s->model);
	json_numbers(s, &s->root->all, to);
	fprintf(to, ", \"parameter_bytes\": %.0f", s->parameter_bytes);
	if (s->has_forward || s->has_training)
		fprintf(to, ", \"unit\": \"%s\", \"units\": %.0f", s->unit, s->units);
	if (s->has_forward)
		fprintf(to, ", \"forward_flops_full_square\": %.17g", s->forward.model_full);
	if (s->has_training)
		fprintf(to, ", \"training_flops_full_square\": %.17g, \"update_flops\": %.17g", s->training.model_full, s->update.model);
	if (s->arena_bytes)
		fprintf(to, ", \"memory_bytes\": %llu, \"persistent_bytes\": %llu", (unsigned long long)s->arena_bytes,
			(unsigned long long)s->persistent_bytes);
	fputs(", \"modules\": [", to);
	json_part(s, &tmp, s->root, "", &first, to);
	fputs("]}\n", to);
	arena_free(&tmp);
}
