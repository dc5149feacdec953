/* passes/graph/shard.c: see shard.h: rules, where names put tensors, and the order in which entries are placed. The pass `shard` itself
 * changes nothing: it prints the placements to the trace. */
#include "passes/graph/shard_search.h"
#include "passes/rewrite.h"
#include "ir/step.h"

#include <stdlib.h>
#include <string.h>

/* ---- arguments ---- */

static bool read_mesh(PassCx *cx, ShardRules *r, const PassArg *a)
{
	const char *colon = memchr(a->value.s, ':', a->value.n);
	char digits[16] = "", *end = digits;
	size_t n = colon ? (size_t)(a->value.s + a->value.n - colon - 1) : 0;
	if (n && n < sizeof digits)
		memcpy(digits, colon + 1, n);
	long size = strtol(digits, &end, 10);
	if (!colon || !n || *end || size < 1 || size > 1 << 20)
		return diag_error(cx->diag, E0714, a->loc, "a mesh axis is written mesh=NAME:SIZE");
	if (r->mesh.n == MESH_AXES)
		return diag_error(cx->diag, E0714, a->loc, "a mesh has at most %d axes", MESH_AXES);
	const char *name = intern(&cx->ir->names, (Str){ a->value.s, (size_t)(colon - a->value.s) });
	if (mesh_find(&r->mesh, name) != NONE)
		return diag_error(cx->diag, E0714, a->loc, "the mesh has two axes '%s'", name);
	r->mesh.axis[r->mesh.n++] = (MeshAxis){ name, (u32)size };
	return true;
}

static bool read_rule(PassCx *cx, ShardRules *r, const PassArg *a)
{
	u32 m = mesh_find(&r->mesh, intern(&cx->ir->names, a->value));
	if (m == NONE)
		return diag_error(cx->diag, E0714, a->loc, "the mesh has no axis '%.*s' (mesh axes come first)", STR_ARG(a->value));
	AxisRule rule = { intern(&cx->ir->names, a->name), m, false, a->loc };
	switch (rule_of(a->name)) {
	case RULE_OF_PARAMETERS: r->parameters |= 1u << m; return true;
	case RULE_OF_GRADIENTS: r->gradients |= 1u << m; return true;
	case RULE_OF_OPTIMIZER_STATE: r->states |= 1u << m; return true;
	case RULE_OF_ATTENTION_HEADS: r->heads |= 1u << m; return true;
	case RULE_OF_SEQUENCE:
		rule.axis = "T";
		rule.secondary = true;
		break;
	case RULE_OF_LAYERS: return diag_error(cx->diag, E0714, a->loc, "layers are divided by the pass stage: stage{over=%.*s:%u, ...}", STR_ARG(a->value), r->mesh.axis[m].size);
	case RULE_OF_AXIS: r->tokens |= str_equal(a->name, STR("B")) || str_equal(a->name, STR("T")) ? 1u << m : 0; break;
	}
	VEC_PUSH(cx->out, &r->axis, rule);
	return true;
}

static bool read_messages(PassCx *cx, ShardRules *r, const PassArg *a)
{
	r->messages = dtype_named(a->value);
	if (r->messages != DTYPES && dtype_is_float(r->messages))
		return true;
	return diag_error(cx->diag, E0714, a->loc, "messages=bf16, f16 or f32, not %.*s", STR_ARG(a->value));
}

/* layers=1+78+1: of the whole model's layers, for how many each of the program's stands. */
static bool read_layers(PassCx *cx, ShardRules *r, const PassArg *a)
{
	const char *text = arena_printf(cx->out, "%.*s", STR_ARG(a->value)), *at = text;
	if (*at < '0' || *at > '9')
		return read_rule(cx, r, a); /* an axis of that name */
	for (bool more = true; more; at++) {
		char *end;
		unsigned long n = strtoul(at, &end, 10);
		at = end;
		VEC_PUSH(cx->out, &r->stands, (u32)n);
		more = *at == '+' && at[1] >= '0' && at[1] <= '9';
		if (!n || (*at && !more))
			return diag_error(cx->diag, E0714, a->loc, "layers=1+78+1: for how many layers each stands, not %s", text);
	}
	return true;
}

bool shard_rules_read(PassCx *cx, ShardRules *out)
{
	*out = (ShardRules){ .messages = DT_f32 };
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);)
		error |= !(str_equal(a.name, STR("mesh"))	? read_mesh(cx, out, &a) :
			   str_equal(a.name, STR("messages"))	? read_messages(cx, out, &a) :
			   str_equal(a.name, STR("layers"))	? read_layers(cx, out, &a) :
								  read_rule(cx, out, &a));
	/* what is divided carries its optimizer's share with it */
	out->gradients |= out->parameters;
	out->states |= out->gradients;
	return !error;
}

/* ---- names ---- */

static bool named(const AxisClass *c, const char *name, bool exactly)
{
	for (u32 i = 0; i < c->names.n; i++) {
		const char *dot = strrchr(c->names.v[i], '.');
		if (!strcmp(c->names.v[i], name) || (!exactly && dot && !strcmp(dot + 1, name)))
			return true;
	}
	return false;
}

/* Classes of positions of which attention is causal. */
static void find_striped(Search *s)
{
	s->striped = NEWN(s->cx->tmp, bool, s->nclass + 1);
	for (u32 e = 0; e < s->p->entry.n; e++)
		for (u32 i = 0; i < s->p->entry.v[e]->node.n; i++) {
			const Graph *g = s->p->entry.v[e];
			const Node *n = &g->node.v[i];
			ShardRule r;
			if (n->op != OP_attention)
				continue;
			shard_rule(s->cx->tmp, g, n, &r);
			for (u32 l = 0; l < r.label.n; l++)
				for (u32 k = 0; r.label.v[l].stripes && k < n->nin; k++)
					if (r.label.v[l].at[k].dim >= 0)
						s->striped[axis_find(s->cx->ir, val_axis(g, n->in[k])[r.label.v[l].at[k].dim]).id] = true;
		}
}

/* Devices that divide the class before a rule of this priority does: from inside by stripes, from outside by all else. */
static i64 devices_before(const Search *s, u32 class, const AxisRule *r)
{
	i64 before = 1;
	for (u32 m = 0; m < s->mesh->n; m++) {
		u8 priority = s->mapped[class * MESH_AXES + m];
		if (priority && m != r->mesh && (!s->striped[class] || (priority == 1) == r->secondary))
			before = MAX(before, s->prefix[class * MESH_AXES + m] * s->mesh->axis[m].size);
	}
	return before;
}

/* Which classes each rule means: those that have just its name, or, if there is none, those of a module that have. */
static void map_classes(Search *s)
{
	const Ir *ir = s->cx->ir;
	s->nclass = ir->axis.n;
	find_striped(s);
	s->mapped = NEWN(s->cx->tmp, u8, s->nclass * MESH_AXES + 1);
	s->prefix = NEWN(s->cx->tmp, i64, s->nclass * MESH_AXES + 1);
	s->told = NEWN(s->cx->tmp, bool, s->nclass + 1);
	for (u32 k = 0; k < s->rules->axis.n; k++) {
		const AxisRule *r = &s->rules->axis.v[k];
		bool exactly = false;
		for (u32 i = 1; i < s->nclass; i++)
			exactly |= !ir->axis.v[i].alias && named(&ir->axis.v[i], r->axis, true);
		for (u32 i = 1; i < s->nclass; i++) {
			if (ir->axis.v[i].alias || !named(&ir->axis.v[i], r->axis, exactly))
				continue;
			u8 *to = &s->mapped[i * MESH_AXES + r->mesh], priority = r->secondary ? 1 : 2;
			if (!*to || (s->striped[i] && priority > *to))
				s->prefix[i * MESH_AXES + r->mesh] = devices_before(s, i, r);
			*to = MAX(*to, priority);
		}
	}
}

static void add_name(Search *s, Names *out, Axis class, u32 m, i64 before)
{
	u8 priority = class.id < s->nclass ? s->mapped[class.id * MESH_AXES + m] : 0;
	i64 size, prefix = priority ? s->prefix[class.id * MESH_AXES + m] : 1;
	const AxisClass *c = &s->cx->ir->axis.v[class.id];
	if (!priority || out->n == COUNT(out->outer) || !dim_is_number(c->size, &size))
		return;
	if (size % (prefix * s->mesh->axis[m].size)) {
		if (priority == 2 && !s->told[class.id]) {
			s->told[class.id] = true;
			const char *after = prefix > 1 ? arena_printf(s->cx->tmp, " (after division by %lld)", (long long)prefix) : "";
			i64 step = prefix * s->mesh->axis[m].size, below = size / step * step;
			const char *smaller = below ? arena_printf(s->cx->tmp, "%lld or ", (long long)below) : "";
			diag_error(s->cx->diag, E0725, c->loc, "axis %s = %lld does not divide over %s = %u%s: %s%lld would", c->name,
				   (long long)size, s->mesh->axis[m].name, s->mesh->axis[m].size, after, smaller, (long long)(below + step));
		}
		return;
	}
	out->priority[out->n] = priority;
	out->outer[out->n++] = before * (s->striped[class.id] && priority == 2 ? size / (prefix * s->mesh->axis[m].size) : prefix);
}

void shard_names(Search *s, Names *out, Axis class, u32 m, i64 before)
{
	const Ir *ir = s->cx->ir;
	class = axis_find(ir, class);
	if (!class.id)
		return;
	add_name(s, out, class, m, before);
	const AxisClass *c = &ir->axis.v[class.id];
	for (u32 i = 0; i < c->nfactor; i++) {
		i64 size;
		shard_names(s, out, c->factor[i], m, before);
		if (!dim_is_number(ir->axis.v[axis_find(ir, c->factor[i]).id].size, &size))
			return;
		before *= size;
	}
}

/* ---- what a choice means ---- */

Place choice_result(const EntryPlacement *e, u32 node, u32 index, u32 m)
{
	const Choice *c = &e->choice[node][m];
	const ShardRule *r = &e->rule[node];
	if (c->kind == CHOICE_GIVEN)
		return e->given[node].at[m];
	if (c->kind == CHOICE_LINEAR)
		return (Place){ .kind = PLACE_PARTIAL, .reduce = SHARD_SUM };
	if (c->kind != CHOICE_LABEL)
		return (Place){ 0 };
	const ShardLabel *l = &r->label.v[c->which];
	ShardPoint at = l->at[e->g->node.v[node].nin + index];
	if (at.dim >= 0)
		return (Place){ .kind = PLACE_SPLIT, .dim = (u8)at.dim, .outer = at.outer * c->outer };
	return l->reduce ? (Place){ .kind = PLACE_PARTIAL, .reduce = (u8)l->reduce } : (Place){ 0 };
}

Place choice_operand(const EntryPlacement *e, u32 node, u32 operand, u32 m)
{
	const Choice *c = &e->choice[node][m];
	const ShardRule *r = &e->rule[node];
	if (c->kind == CHOICE_LINEAR)
		return r->linear.v[c->which] >> operand & 1 ? (Place){ .kind = PLACE_PARTIAL, .reduce = SHARD_SUM } : (Place){ 0 };
	if (c->kind != CHOICE_LABEL)
		return (Place){ 0 };
	ShardPoint at = r->label.v[c->which].at[operand];
	return at.dim < 0 ? (Place){ 0 } : (Place){ .kind = PLACE_SPLIT, .dim = (u8)at.dim, .outer = at.outer * c->outer };
}

Places value_places(const EntryPlacement *e, const Mesh *mesh, Val v)
{
	Places p = { 0 };
	const Value *value = &e->g->value.v[v.i];
	for (u32 m = 0; m < mesh->n; m++)
		p.at[m] = choice_result(e, value->node, value->index, m);
	return p;
}

/* ---- buffers, inputs, results ---- */

/* Where names alone put a tensor. */
static Places named_places(Search *s, const Type *t, const Axis *axis)
{
	Places p = { 0 };
	for (u32 m = 0; m < s->mesh->n; m++)
		for (u32 d = 0; d < t->rank && p.at[m].kind == PLACE_WHOLE; d++) {
			Names names = { 0 };
			shard_names(s, &names, axis[d], m, 1);
			for (u32 i = 0; i < names.n && p.at[m].kind == PLACE_WHOLE; i++) {
				if (names.priority[i] < 2)
					continue;
				p.at[m] = (Place){ .kind = PLACE_SPLIT, .dim = (u8)d, .outer = names.outer[i] };
				if (!places_fit(s->mesh, p.at, d, type_extent(t, d)))
					p.at[m] = (Place){ 0 };
			}
		}
	return p;
}

/* What an entry is given are rows of a batch, consecutive ones and each whole: a device takes its part of a row itself. */
static Places rows_alone(const Search *s, Places p)
{
	for (u32 m = 0; m < s->mesh->n; m++)
		if (p.at[m].kind == PLACE_SPLIT && (p.at[m].dim || place_local_outer(s->mesh, p.at, m) != 1))
			p.at[m] = (Place){ 0 };
	return p;
}

/* Where a digit begins behind those that split the dimension. */
static i64 behind_others(const Mesh *mesh, const Places *p, u32 d)
{
	i64 behind = 1;
	for (u32 k = 0; k < mesh->n; k++)
		if (p->at[k].kind == PLACE_SPLIT && p->at[k].dim == d)
			behind = MAX(behind, p->at[k].outer * mesh->axis[k].size);
	return behind;
}

/* Mesh axis m splits dimension d, if that divides. */
static bool try_digit(const Mesh *mesh, Places *p, const Type *t, u32 m, u32 d)
{
	Places with = *p;
	with.at[m] = (Place){ .kind = PLACE_SPLIT, .dim = (u8)d, .outer = behind_others(mesh, p, d) };
	if (!places_fit(mesh, with.at, d, type_extent(t, d)))
		return false;
	*p = with;
	return true;
}

/* Mesh axis m splits the dimension that is padded least to be divided, of those that nobody splits. */
static void divide_padded(const Mesh *mesh, Places *p, const Type *t, u32 m)
{
	Places best = *p;
	f64 least = 0;
	for (u32 d = 0; d < t->rank; d++) {
		Places with = *p;
		i64 extent = type_extent(t, d);
		with.at[m] = (Place){ .kind = PLACE_SPLIT, .dim = (u8)d, .outer = 1 };
		if (behind_others(mesh, p, d) > 1 || !places_fit_padded(mesh, with.at, d, extent))
			continue;
		f64 share = (f64)place_extent(mesh, with.at, d, extent) / (f64)extent;
		if (!least || share < least) {
			least = share;
			best = with;
		}
	}
	*p = best;
}

/* Divides over the mesh axes in `over` that do not yet: the first dimension that nobody splits and that divides, else
 * the first where a digit fits behind the others, else one that is padded. What has fewer positions than there are devices
 * along each dimension that is free stays whole (tools/plan_mesh.c tells of it). */
static void divide_more(Search *s, Places *p, const Type *t, u32 over)
{
	for (u32 m = 0; m < s->mesh->n; m++) {
		bool done = !(over >> m & 1) || p->at[m].kind == PLACE_SPLIT;
		for (u32 behind = 0; behind < 2; behind++)
			for (u32 d = 0; d < t->rank && !done; d++)
				if ((behind_others(s->mesh, p, d) > 1) == behind)
					done = try_digit(s->mesh, p, t, m, d);
		if (!done)
			divide_padded(s->mesh, p, t, m);
	}
}

static void place_buffers(Search *s)
{
	const Program *p = s->p;
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i];
		const Buffer *of = b->of != NONE ? &p->buffer.v[b->of] : b;
		if (type_with_dtype(s->cx->ir, of->type, b->type->dtype) != b->type)
			of = b; /* a state of another shape than its parameter's */
		Places *to = &s->out->buffer[i];
		*to = named_places(s, of->type, of->axis);
		if (b->kind == BUFFER_PARAMETER)
			divide_more(s, to, b->type, s->rules->parameters);
		else if (b->kind == BUFFER_GRADIENT)
			divide_more(s, to, b->type, s->rules->gradients);
		else if (b->kind == BUFFER_STATE)
			divide_more(s, to, b->type, s->rules->states);
	}
}

/* Dimensions whose class got lost on the way have that of another tensor at the same label: what is repeated along the
 * vocabulary, to be compared with logits. */
static void learn_classes(Search *s, u32 node)
{
	const Node *n = &s->g->node.v[node];
	const ShardRule *r = &s->e->rule[node];
	u32 tensors = n->nin + n->nout;
	for (u32 l = 0; l < r->label.n; l++) {
		const ShardLabel *label = &r->label.v[l];
		Axis found = { 0 };
		for (u32 fill = 0; fill < 2; fill++)
			for (u32 i = 0; i < tensors; i++) {
				Val v = i < n->nin ? n->in[i] : (Val){ n->out.i + i - n->nin };
				i8 d = label->at[i].dim;
				if (d < 0 || type_extent(val_type(s->g, v), (u32)d) != label->extent)
					continue;
				Axis *class = &s->class[v.i][d];
				if (!fill && !found.id)
					found = *class;
				else if (fill && !class->id)
					*class = found;
			}
	}
}

static void place_classes(Search *s)
{
	const Graph *g = s->g;
	s->class = arena_push(s->cx->tmp, sizeof *s->class, g->value.n, _Alignof(Axis));
	memset(s->class, 0, g->value.n * sizeof *s->class);
	for (u32 i = 1; i < g->value.n; i++)
		memcpy(s->class[i], g->value.v[i].axis, g->value.v[i].type->rank * sizeof(Axis));
	for (u32 i = g->node.n; i-- > 0;)
		learn_classes(s, i);
	for (u32 i = 0; i < g->node.n; i++)
		learn_classes(s, i);
}

/* Of each attention, once: what a rule says of its heads must divide. */
static void check_heads(Search *s, u32 node)
{
	const Node *n = &s->g->node.v[node];
	for (u32 m = 0; m < s->mesh->n && (n->op == OP_attention || n->op == OP_attention_grad); m++) {
		i64 outer;
		if (!(s->rules->heads >> m & 1) || s->told_heads || shard_heads(s, node, m, &outer) != NONE)
			continue;
		const Type *q = val_type(s->g, n->in[0]), *k = val_type(s->g, n->in[1]);
		s->told_heads = true;
		diag_error(s->cx->diag, E0725, n->loc,
			   "attention of %lld heads in %lld groups of keys does not divide over %s = %u, as attention_heads says: %s",
			   (long long)type_extent(q, q->rank - 3u), (long long)type_extent(k, k->rank - 3u), s->mesh->axis[m].name,
			   s->mesh->axis[m].size, "fewer devices along it, or without that rule keys and values go round (T alone)");
	}
}

/* Of a product over groups of rows, once: which rows are whose is known when they are there. */
static void warn_of_rows(Search *s, u32 node)
{
	const Node *n = &s->g->node.v[node];
	const ShardRule *r = &s->e->rule[node];
	bool groups = false;
	for (u32 l = 0; l < r->label.n; l++)
		groups |= r->label.v[l].fix == SHARD_GROUPS;
	if (!groups || s->told_rows || !s->rules->tokens || !step_is(s->g->name, STEP_FIRST))
		return;
	Buf over = { .arena = s->cx->tmp };
	for (u32 m = 0; m < s->mesh->n; m++)
		if (s->rules->tokens >> m & 1)
			buf_printf(&over, "%s%s", over.n ? ", " : "", s->mesh->axis[m].name);
	s->told_rows = true;
	diag_warning(s->cx->diag, W0009, n->loc, "how many rows a group has depends on the data, so every device has room for those of all tokens: here they are not divided over %s",
		     over.text);
	diag_note(s->cx->diag, (Loc){ 0 }, "with a capacity, an expert has as many rows of each text, and they go to its devices alone: to_slots and from_slots of std.nn; "
					  "--set capacity=1.25 of models/mixtral.plinth");
}

/* For who builds the entry: what each value is needed as. */
static void note_wanted(Search *s)
{
	EntryPlacement *e = s->e;
	e->wanted = arena_push(s->cx->out, sizeof *e->wanted, s->g->value.n, _Alignof(void *));
	memset(e->wanted, 0, s->g->value.n * sizeof *e->wanted);
	for (u32 v = 1; v < s->g->value.n; v++)
		for (u32 m = 0; m < s->mesh->n; m++)
			for (u32 i = 0; i < s->user[v].n; i++) {
				Place want;
				bool known = !shard_wanted(s, &s->user[v].v[i], m, &want);
				for (u32 k = 0; k < e->wanted[v][m].n && !known; k++)
					known = place_equal(e->wanted[v][m].v[k], want);
				if (!known)
					VEC_PUSH(s->cx->out, &e->wanted[v][m], want);
			}
}

/* The layer of a node, or of the buffer that it reads, as a key; 0: of none. */
static u64 layer_of(const Search *s, const Node *n)
{
	const char *scope = n->scope;
	if (n->op == OP_read && !scope_layer(scope))
		scope = s->p->buffer.v[program_find_buffer(s->p, ATTR(n, read)->buffer)].scope;
	size_t length = scope_layer(scope);
	return length ? hash_bytes(HASH_SEED, scope, length) : 0;
}

/* Layers are numbered as the entry comes to them. */
static void find_stands(Search *s)
{
	u32 n = s->g->node.n;
	s->stands = NEWN(s->cx->tmp, f64, n + 1);
	u64 *key = NEWN(s->cx->tmp, u64, n + 1), layers = 0;
	Map number = { .arena = s->cx->tmp };
	for (u32 i = 0; i < n; i++) {
		key[i] = layer_of(s, &s->g->node.v[i]);
		if (key[i] && !map_get(&number, key[i]))
			map_put(&number, key[i], ++layers);
	}
	bool few = s->rules->stands.n == layers;
	s->stood |= few;
	for (u32 i = 0; i < n; i++)
		s->stands[i] = key[i] && few ? s->rules->stands.v[*map_get(&number, key[i]) - 1] : 1;
}

static void place_entry(Search *s)
{
	const Graph *g = s->g;
	EntryPlacement *e = s->e;
	Arena *tmp = s->cx->tmp;
	e->g = g;
	e->rule = NEWN(s->cx->out, ShardRule, g->node.n + 1);
	e->choice = arena_push(s->cx->out, sizeof *e->choice, g->node.n + 1, _Alignof(Choice));
	memset(e->choice, 0, (g->node.n + 1) * sizeof *e->choice);
	e->given = NEWN(s->cx->out, Places, g->node.n + 1);
	e->result = NEWN(s->cx->out, Places, g->result.n + 1);
	s->user = arena_push(tmp, sizeof *s->user, g->value.n, _Alignof(void *));
	memset(s->user, 0, g->value.n * sizeof *s->user);
	s->work = NEWN(tmp, f64, g->node.n + 1);
	s->named = NEWN(tmp, NamedDigits, g->node.n * s->mesh->n + 1);
	s->stale = NEWN(tmp, u8, g->node.n + 1);
	s->free_result = NEWN(tmp, bool, g->result.n + 1);
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		shard_rule(s->cx->out, g, n, &e->rule[i]);
		s->work[i] = shard_work(g, n);
		for (u32 k = 0; k < n->nin; k++)
			VEC_PUSH(tmp, &s->user[n->in[k].i], ((User){ i, k }));
		if (n->op != OP_input && n->op != OP_read)
			continue;
		e->given[i] = n->op == OP_input ? rows_alone(s, named_places(s, val_type(g, n->out), val_axis(g, n->out))) :
						  s->out->buffer[program_find_buffer(s->p, ATTR(n, read)->buffer)];
		for (u32 m = 0; m < s->mesh->n; m++)
			e->choice[i][m].kind = CHOICE_GIVEN;
	}
	find_stands(s);
	place_classes(s);
	for (u32 i = 0; i < g->node.n; i++) {
		check_heads(s, i);
		warn_of_rows(s, i);
	}
	for (u32 i = 0; i < g->result.n; i++) {
		const Result *r = &g->result.v[i];
		VEC_PUSH(tmp, &s->user[r->value.i], ((User){ NONE, i }));
		if (r->buffer != NONE)
			e->result[i] = s->out->buffer[r->buffer];
	}
}

/* A gradient that comes as parts of a sum stays so in its buffer, where nothing divides it: what is added up over
 * micro-steps is summed over devices once, by whoever reads it. */
static void keep_partial(Search *s, u32 m)
{
	for (u32 i = 0; i < s->g->result.n; i++) {
		const Result *r = &s->g->result.v[i];
		if (r->buffer == NONE || s->p->buffer.v[r->buffer].kind != BUFFER_GRADIENT || !s->free_result[i])
			continue;
		const Value *v = &s->g->value.v[r->value.i];
		Place p = choice_result(s->e, v->node, v->index, m);
		Place *to = &s->out->buffer[r->buffer].at[m];
		if (p.kind == PLACE_PARTIAL && p.reduce == SHARD_SUM && to->kind == PLACE_WHOLE)
			*to = p;
	}
}

static void shard_entry(Search *s, u32 entry)
{
	ArenaMark mark = arena_mark(s->cx->tmp);
	s->e = &s->out->entry[entry];
	s->g = s->p->entry.v[entry];
	bool first = step_is(s->g->name, STEP_FIRST);
	s->forced = !step_is(s->g->name, STEP_UPDATE) && !step_is(s->g->name, STEP_INIT);
	place_entry(s);
	for (u32 i = 0; i < s->g->result.n && first; i++) {
		u32 b = s->g->result.v[i].buffer;
		s->free_result[i] = b != NONE && s->p->buffer.v[b].kind == BUFFER_GRADIENT;
	}
	shard_search(s);
	if (first) { /* along axes that do divide gradients, what is wanted is known: again, with that */
		for (u32 m = 0; m < s->mesh->n; m++)
			keep_partial(s, m);
		for (u32 i = 0; i < s->g->result.n; i++) {
			if (s->g->result.v[i].buffer != NONE)
				s->e->result[i] = s->out->buffer[s->g->result.v[i].buffer];
			s->free_result[i] = false;
		}
		shard_search(s);
	}
	note_wanted(s);
	s->out->seconds += shard_cost(s);
	arena_release(s->cx->tmp, mark);
}

Placement *shard_program(PassCx *cx, const Program *in, const ShardRules *rules)
{
	u32 errors = cx->diag->nerror;
	Placement *out = NEW(cx->out, Placement);
	*out = (Placement){ .p = in, .rules = rules, .buffer = NEWN(cx->out, Places, in->buffer.n + 1),
			    .entry = NEWN(cx->out, EntryPlacement, in->entry.n + 1) };
	Search s = { .cx = cx, .p = in, .rules = rules, .mesh = &rules->mesh, .out = out };
	map_classes(&s);
	place_buffers(&s);
	/* what a step's first micro-batch gives says how gradients lie */
	for (u32 first = 2; first-- > 0;)
		for (u32 i = 0; i < in->entry.n; i++)
			if (step_is(in->entry.v[i]->name, STEP_FIRST) == first)
				shard_entry(&s, i);
	if (rules->stands.n && !s.stood)
		diag_error(cx->diag, E0714, (Loc){ 0 }, "layers= is of %u layers, and no entry has so many", rules->stands.n);
	return cx->diag->nerror == errors ? out : NULL;
}

/* ---- the pass ---- */

static void trace_entry(PassCx *cx, const Placement *at, u32 entry)
{
	const EntryPlacement *e = &at->entry[entry];
	fprintf(cx->trace, "%s\n", e->g->name);
	for (u32 i = 0; i < e->g->node.n; i++)
		for (u32 k = 0; k < e->g->node.v[i].nout; k++) {
			Places p = value_places(e, &at->rules->mesh, (Val){ e->g->node.v[i].out.i + k });
			places_note_padded(&at->rules->mesh, p.at, val_type(e->g, (Val){ e->g->node.v[i].out.i + k }));
			const char *text = places_text(cx->ir, &at->rules->mesh, p.at);
			fprintf(cx->trace, "  %%%u %s: %s\n", e->g->node.v[i].out.i + k, op_info[e->g->node.v[i].op].name,
				text ? text : "whole");
		}
}

Program *pass_shard(PassCx *cx, const Program *in)
{
	ShardRules *rules = NEW(cx->out, ShardRules);
	if (!shard_rules_read(cx, rules))
		return NULL;
	Placement *at = shard_program(cx, in, rules);
	if (!at)
		return NULL;
	for (u32 i = 0; cx->trace && i < in->buffer.n; i++) {
		places_note_padded(&rules->mesh, at->buffer[i].at, in->buffer.v[i].type);
		const char *text = places_text(cx->ir, &rules->mesh, at->buffer[i].at);
		fprintf(cx->trace, "@%s: %s\n", in->buffer.v[i].name, text ? text : "whole");
	}
	for (u32 i = 0; cx->trace && i < in->entry.n; i++)
		trace_entry(cx, at, i);
	return rewrite_program(cx->out, cx->tmp, in, NULL, NULL, true);
}
