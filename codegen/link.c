/* codegen/link.c: see link.h. */
#include "codegen/link.h"
#include "ir/shard.h"
#include "support/map.h"

#include <string.h>

_Static_assert((int)PACKAGE_PARAMETER == (int)BUFFER_PARAMETER && (int)PACKAGE_STASH == (int)BUFFER_STASH,
	       "PackageBufferKind has the order of BufferKind");
_Static_assert((int)PACKAGE_B1 == (int)DT_b1 && (int)PACKAGE_I64 == (int)DT_i64 && (int)PACKAGE_BF16 == (int)DT_bf16 &&
		       (int)PACKAGE_F64 == (int)DT_f64 && (int)PACKAGE_F64 + 1 == (int)DTYPES,
	       "PackageDtype has the order of DType");

static PackageTensor tensor(const char *name, const Type *t, u64 offset)
{
	PackageTensor p = { .name = name, .dtype = (u8)t->dtype, .rank = t->rank, .offset = offset,
			    .bytes = (u64)type_bytes(t) };
	for (u32 d = 0; d < t->rank; d++)
		p.dim[d] = type_extent(t, d);
	return p;
}

/* How the whole of a tensor lies over the mesh; parts of sums are nobody's to read. */
static void set_digits(Arena *arena, const Mesh *mesh, const char *split, PackageTensor *t)
{
	Place place[MESH_AXES];
	PackageDigit digit[MESH_AXES];
	if (!places_read(mesh, split, place))
		NEVER("a split that cannot be read");
	for (u32 m = 0; m < mesh->n; m++)
		if (place[m].kind == PLACE_SPLIT)
			digit[t->ndigit++] = (PackageDigit){ (u8)m, place[m].dim, place[m].outer, place[m].whole };
	t->digit = COPYN(arena, PackageDigit, digit, t->ndigit);
}

static PackageCollective *collective(Arena *arena, const Mesh *mesh, const KCollective *from)
{
	const all_reduce_attr *a = from->attr; /* all begin with over and parts */
	PackageCollective *c = NEW(arena, PackageCollective);
	PackageCollectiveTensor *t = NEWN(arena, PackageCollectiveTensor, from->n);
	*c = (PackageCollective){ .kind = (PackageCollectiveKind)(from->op - OP_all_reduce), .mesh = mesh_find(mesh, a->over),
				  .n = from->n, .tensor = t };
	const char *reduce = from->op == OP_all_reduce ? a->reduce :
			     from->op == OP_reduce_scatter ? ((const reduce_scatter_attr *)from->attr)->reduce : "sum";
	c->reduce = (PackageReduce)(shard_reduce_named(reduce) - SHARD_SUM);
	c->shift = from->op == OP_permute ? ((const permute_attr *)from->attr)->shift : 0;
	if (from->op == OP_send) {
		c->peer = (u32)((const send_attr *)from->attr)->to;
		c->tag = (u32)((const send_attr *)from->attr)->tag;
	} else if (from->op == OP_receive) {
		c->peer = (u32)((const receive_attr *)from->attr)->from;
		c->tag = (u32)((const receive_attr *)from->attr)->tag;
	} else if (from->op == OP_reduce_among) {
		const ints members = ((const reduce_among_attr *)from->attr)->members;
		c->tag = (u32)((const reduce_among_attr *)from->attr)->tag;
		for (u32 i = 0; i < members.n; i++)
			c->members |= 1ull << members.v[i];
	}
	for (u32 i = 0; i < from->n; i++) {
		const Type *type = from->type[i];
		t[i] = (PackageCollectiveTensor){ .dtype = (u8)type->dtype, .rank = type->rank, .outer = 1, .to_outer = 1 };
		for (u32 d = 0; d < type->rank; d++)
			t[i].dim[d] = type_extent(type, d);
		if (from->op == OP_all_gather) {
			const all_gather_attr *g = from->attr;
			t[i].axis = (u8)g->axes.v[i];
			t[i].outer = g->outer.v[i];
		} else if (from->op == OP_reduce_scatter) {
			const reduce_scatter_attr *g = from->attr;
			t[i].axis = (u8)g->axes.v[i];
			t[i].outer = g->outer.v[i];
		} else if (from->op == OP_all_to_all) {
			const all_to_all_attr *g = from->attr;
			t[i].axis = (u8)g->axes.v[i];
			t[i].outer = g->outer.v[i];
			t[i].to = (u8)g->to.v[i];
			t[i].to_outer = g->to_outer.v[i];
		}
	}
	return c;
}
_Static_assert(OP_all_gather == OP_all_reduce + 1 && OP_reduce_scatter == OP_all_reduce + 2 &&
		       OP_all_to_all == OP_all_reduce + 3 && OP_permute == OP_all_reduce + 4 && OP_send == OP_all_reduce + 5 &&
		       OP_receive == OP_all_reduce + 6 && OP_reduce_among == OP_all_reduce + 7,
	       "PackageCollectiveKind has the order of the op table");

/* ---- what follows from sizes ---- */

typedef struct Formulas {
	Arena *arena;
	const PlanSizes *sizes; /* NULL: nothing does */
	Map known;              /* Dim -> one more than its formula */
	VEC(PackageFormula) v;
} Formulas;

static u8 power_of(const Monomial *m, const char *symbol)
{
	u8 n = 0;
	for (u32 i = 0; i < m->n; i++)
		n += !strcmp(m->symbol[i], symbol);
	return n;
}

static u32 formula(Formulas *f, Dim d)
{
	const u64 *seen = map_get(&f->known, MAP_KEY(d));
	if (seen)
		return (u32)*seen - 1;
	i64 over = 1; /* the least common multiple of small numbers */
	for (u32 i = 0; i < d->n; i++)
		for (i64 step = over; over % d->term[i].den;)
			over += step;
	PackageTerm *term = NEWN(f->arena, PackageTerm, d->n + 1);
	for (u32 i = 0; i < d->n; i++) {
		term[i].coefficient = d->term[i].num * (over / d->term[i].den);
		for (u32 a = 0; a < f->sizes->naxis; a++)
			term[i].power[a] = power_of(&d->term[i], f->sizes->axis[a].symbol);
	}
	Buf text = { .arena = f->arena };
	dim_print(&text, d);
	VEC_PUSH(f->arena, &f->v, (PackageFormula){ text.text, over, term, d->n });
	map_put(&f->known, MAP_KEY(d), f->v.n);
	return f->v.n - 1;
}

static void set_varying(Formulas *f, const Plan *plan, u32 kernel, PackageStep *to)
{
	PackageVarying *v = NEWN(f->arena, PackageVarying, to->nnumber + 1);
	for (u32 i = 0; i < to->nnumber; i++)
		if (plan->sizes->number[kernel][i])
			v[to->nvarying++] = (PackageVarying){ i, formula(f, plan->sizes->number[kernel][i]) };
	to->varying = v;
	PackageSlot *slot = (PackageSlot *)(uintptr_t)to->slot_info;
	for (u32 i = 0; i < to->nslot; i++)
		if (plan->sizes->elements[kernel][i])
			slot[i].formula = formula(f, plan->sizes->elements[kernel][i]) + 1;
}

static PackageTensor *tensors(Formulas *f, const EntryPlan *e, const u32 *which, u32 n)
{
	PackageTensor *t = NEWN(f->arena, PackageTensor, n + 1);
	for (u32 i = 0; i < n; i++) {
		const PlanBuffer *b = &e->buffer.v[which[i]];
		i64 fixed;
		t[i] = tensor(b->name, b->type, b->offset);
		for (u32 d = 0; b->sized && d < b->sized->rank; d++)
			if (!dim_is_number(b->sized->dim[d], &fixed))
				t[i].formula[d] = formula(f, b->sized->dim[d]) + 1;
	}
	return t;
}

/* The source that a place is in, "" for nowhere. */
static const char *file_of(const Diag *d, Loc loc)
{
	return loc.line && loc.file < d->nsource ? d->source[loc.file].path : "";
}

static void set_place(PackageSlot *to, const EntryPlan *e, u32 buffer)
{
	const PlanBuffer *b = &e->buffer.v[buffer];
	u32 root = buffer; /* what is computed in place shares memory */
	while (e->buffer.v[root].root != NONE)
		root = e->buffer.v[root].root;
	to->which = root;
	if (b->kind == MEMORY_PERSISTENT) {
		to->place = PACKAGE_PERSISTENT;
		to->which = b->persistent;
	}
	for (u32 i = 0; i < e->input.n; i++)
		if (e->input.v[i] == buffer) {
			to->place = PACKAGE_INPUT;
			to->which = i;
		}
	for (u32 i = 0; i < e->result.n; i++)
		if (e->result.v[i] == buffer) {
			to->place = PACKAGE_RESULT;
			to->which = i;
		}
}

/* Where the memory of a slot is when the entry runs for the micro-batch that is kept in place `micro` of the stash. */
static u64 offset_of(const Plan *plan, const PlanBuffer *b, u32 micro)
{
	const Buffer *of = b->kind == MEMORY_PERSISTENT ? &plan->program->buffer.v[b->persistent] : NULL;
	return b->offset + (of && of->slots ? micro * ALIGN_UP((u64)type_bytes(of->type), MEMORY_ALIGN) : 0);
}

/* For how many places of the stash an entry is made. */
static u32 entry_slots(const Plan *plan, const EntryPlan *e)
{
	u32 slots = 1;
	for (u32 i = 0; i < e->buffer.n; i++)
		if (e->buffer.v[i].kind == MEMORY_PERSISTENT)
			slots = MAX(slots, plan->program->buffer.v[e->buffer.v[i].persistent].slots);
	return slots;
}

const EntryPlan *package_entry_plan(const Plan *plan, u32 entry)
{
	u32 i = 0;
	for (u32 n; entry >= (n = entry_slots(plan, plan->entry.v[i])); i++)
		entry -= n;
	return plan->entry.v[i];
}

static PackageStep step(Arena *arena, const Plan *plan, const EntryPlan *e, const Step *s, u32 micro)
{
	const Kernel *k = plan->kernel.v[s->kernel];
	LaunchNeeds needs = k->collective || plan->sizes ? (LaunchNeeds){ 0 } : plan->target->needs(plan->target, k);
	u64 *slot = NEWN(arena, u64, k->slot.n + 1);
	PackageSlot *info = NEWN(arena, PackageSlot, k->slot.n + 1);
	for (u32 i = 0; i < k->slot.n; i++) {
		const KSlot *of = &k->slot.v[i];
		const PlanBuffer *b = &e->buffer.v[s->slot[i]];
		slot[i] = offset_of(plan, b, micro);
		info[i] = (PackageSlot){ .elements = (u64)of->elements, .row = (u64)of->row,
					 .pitch = (u64)of->pitch, .dtype = (u8)of->dtype, .read = of->read,
					 .written = of->written, .name = of->name, .file = file_of(plan->ir->diag, b->loc),
					 .line = b->loc.line };
		set_place(&info[i], e, s->slot[i]);
	}
	i64 *number = NEWN(arena, i64, kernel_numbers(k, NULL) + 1);
	kernel_numbers(k, number);
	return (PackageStep){
		.collective = k->collective ? collective(arena, &plan->program->mesh, k->collective) : NULL,
		.until = s->until,
		.slot = slot,
		.slot_info = info,
		.nslot = k->slot.n,
		.number = number,
		.nnumber = kernel_numbers(k, NULL),
		.workspace = s->workspace == NONE ? 0 : e->buffer.v[s->workspace].offset,
		.has_workspace = s->workspace != NONE,
		.tasks = COPYN(arena, i64, needs.tasks, needs.nphase),
		.nphase = needs.nphase,
		.name = k->name,
		.layer = k->scope ? k->scope : "",
		.class = kernel_class_name[k->class],
		.shape = kernel_shape_text(arena, k),
		.compute = (u8)k->compute,
		.file = file_of(plan->ir->diag, k->loc),
		.line = k->loc.line,
		.flops = k->flops,
		.bytes = k->bytes_read + k->bytes_written,
	};
}

static void set_inputs(Arena *arena, const Program *p, const char *name, PackageEntry *to)
{
	const Graph *g = program_find_entry(p, str_of(name));
	for (u32 i = 0; i < g->node.n; i++)
		for (u32 k = 0; g->node.v[i].op == OP_input && k < to->ninput; k++)
			if (!strcmp(to->input[k].name, ATTR(&g->node.v[i], input)->name))
				set_digits(arena, &p->mesh, ATTR(&g->node.v[i], input)->split, &to->input[k]);
}

static PackageEntry entry(Formulas *f, const Plan *plan, const EntryPlan *e, u32 micro, const EntryFlops *flops)
{
	Arena *arena = f->arena;
	PackageEntry to = { .name = micro ? arena_printf(arena, "%s@%u", e->name, micro) : e->name, .ninput = e->input.n,
			    .input = tensors(f, e, e->input.v, e->input.n), .nresult = e->result.n,
			    .result = tensors(f, e, e->result.v, e->result.n), .nstep = e->step.n,
			    .step = NEWN(arena, PackageStep, e->step.n + 1), .model_flops = flops->model, .model_flops_full = flops->model_full };
	set_inputs(arena, plan->program, e->name, &to);
	for (u32 s = 0; s < e->step.n; s++) {
		to.step[s] = step(arena, plan, e, &e->step.v[s], micro);
		to.hardware_flops += to.step[s].flops;
		if (plan->sizes)
			set_varying(f, plan, e->step.v[s].kernel, &to.step[s]);
	}
	return to;
}

Package *package_link(Arena *arena, const Plan *plan, const EntryFlops *flops, Str machine)
{
	const Program *program = plan->program;
	Package *p = NEW(arena, Package);
	p->name = program->name;
	p->nbuffer = program->buffer.n;
	p->buffer = NEWN(arena, PackageBuffer, p->nbuffer + 1);
	for (u32 i = 0; i < p->nbuffer; i++) {
		const Buffer *b = &program->buffer.v[i];
		p->buffer[i] = (PackageBuffer){ tensor(b->name, b->type, plan->persistent_offset[i]),
						(PackageBufferKind)b->kind, b->frozen, b->stages, buffer_away(program, b) };
		set_digits(arena, &program->mesh, b->split, &p->buffer[i].tensor);
	}
	Formulas f = { .arena = arena, .sizes = plan->sizes, .known.arena = arena };
	for (u32 i = 0; i < plan->entry.n; i++)
		p->nentry += entry_slots(plan, plan->entry.v[i]);
	p->entry = NEWN(arena, PackageEntry, p->nentry + 1);
	for (u32 i = 0, at = 0; i < plan->entry.n; i++)
		for (u32 micro = 0; micro < entry_slots(plan, plan->entry.v[i]); micro++)
			p->entry[at++] = entry(&f, plan, plan->entry.v[i], micro, &flops[i]);
	p->formula = f.v.v;
	p->nformula = f.v.n;
	p->naxis = plan->sizes ? plan->sizes->naxis : 0;
	p->axis = NEWN(arena, PackageAxis, p->naxis + 1);
	for (u32 i = 0; i < p->naxis; i++)
		p->axis[i] = (PackageAxis){ plan->sizes->axis[i].symbol, plan->sizes->axis[i].most };
	p->device = plan->target->name;
	p->mesh.n = program->mesh.n;
	for (u32 m = 0; m < program->mesh.n; m++) {
		p->mesh.axis[m].name = program->mesh.axis[m].name;
		p->mesh.axis[m].size = program->mesh.axis[m].size;
	}
	p->arena_bytes = plan->arena_bytes;
	p->persistent_bytes = plan->persistent_bytes;
	p->thread_scratch = plan->thread_scratch;
	p->fingerprint = hash_bytes(plan->identity ? plan->identity : program_hash(program), machine.s, machine.n);
	return p;
}

typedef struct Symbols {
	Map seen;
	Interner names;
	Package *package;
} Symbols;

static u32 symbol_index(Symbols *x, const char *symbol)
{
	const char *name = intern_z(&x->names, symbol);
	const u64 *at = map_get(&x->seen, MAP_KEY(name));
	if (at)
		return (u32)*at;
	map_put(&x->seen, MAP_KEY(name), x->package->nsymbol);
	x->package->symbol[x->package->nsymbol] = name;
	return x->package->nsymbol++;
}

void package_name_code(Arena *arena, const Plan *plan, const char *const *symbol, const char *const *needs, Package *package)
{
	Symbols x = { .seen.arena = arena, .names.arena = arena, .package = package };
	package->symbol = NEWN(arena, const char *, 2 * plan->kernel.n + 1);
	package->nsymbol = 0;
	for (u32 e = 0; e < package->nentry; e++) {
		const EntryPlan *of = package_entry_plan(plan, e);
		for (u32 s = 0; s < of->step.n; s++) {
			u32 kernel = of->step.v[s].kernel;
			if (!symbol[kernel])
				continue; /* a collective */
			package->entry[e].step[s].code = symbol_index(&x, symbol[kernel]);
			if (plan->sizes)
				package->entry[e].step[s].needs_code = symbol_index(&x, needs[kernel]);
		}
	}
}
