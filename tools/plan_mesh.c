/* tools/plan_mesh.c: `plinth plan MODEL --mesh data=8,tensor=8`: the program that each device of the mesh would run is made
 * and planned, once, for all devices run the same; nothing is compiled. Each collective is told with its place in the
 * source, its bytes and why it is there; memory is that of the plan, to the byte.
 *
 * Bytes are those that leave a device, by the algorithms of runtime/comm, which are the least there is: of n devices
 * and b bytes (of the whole), all_gather and reduce_scatter (n - 1) / n b, all_reduce twice that, all_to_all
 * (n - 1) / n of a device's own, send all of it. In a pipeline there is a program for each stage: each is told. */
#include "tools/plan_mesh.h"

#include <jansson.h>
#include <string.h>

/* Collectives that are alike: of one line of the source, over one axis. */
typedef struct Row {
	const char *entry, *op, *over, *why;
	const Type *type;
	Loc loc;
	u32 group, calls;   /* calls of an entry */
	i64 times;          /* that the entry runs in a step */
	f64 bytes;          /* sent by a device in a step */
	f64 messages;       /* of a step: a tensor that is sent with n - 1 others counts 1 / n */
	const char *tensor;
	u32 tensors;
} Row;

typedef struct Report {
	Arena *arena;
	VEC(Row) row;
} Report;

static f64 bytes_sent(const Graph *g, const Node *n, u32 i)
{
	f64 parts = (f64)ATTR(n, all_reduce)->parts, bytes = (f64)type_bytes(val_type(g, n->in[i]));
	switch (n->op) {
	case OP_all_reduce: return 2 * (parts - 1) / parts * bytes;
	case OP_all_gather: return (parts - 1) * bytes;
	case OP_permute:
	case OP_send: return bytes;
	case OP_receive: return 0;
	case OP_reduce_among: parts = (f64)ATTR(n, reduce_among)->members.n; return 2 * (parts - 1) / parts * bytes;
	default: return (parts - 1) / parts * bytes;
	}
}

/* The buffer that a value is read from, through casts; or NULL. */
static const Buffer *buffer_of(const Program *p, const Graph *g, Val v)
{
	const Node *n = val_node(g, v);
	while (n->op == OP_cast || n->op == OP_all_gather || n->op == OP_reshape || n->op == OP_pad)
		n = val_node(g, n->in[0]);
	u32 at = n->op == OP_read ? program_find_buffer(p, ATTR(n, read)->buffer) : NONE;
	return at == NONE ? NULL : &p->buffer.v[at];
}

/* The buffer that a value ends up in, perhaps without its padding, or NULL. */
static const Buffer *written_to(const Program *p, const Graph *g, Val v)
{
	for (u32 i = 0; i < g->result.n; i++) {
		const Result *r = &g->result.v[i];
		const Node *n = val_node(g, r->value);
		if (r->buffer != NONE && (r->value.i == v.i || (n->op == OP_slice && n->in[0].i == v.i)))
			return &p->buffer.v[r->buffer];
	}
	return NULL;
}

static const char *why(const Program *p, const Graph *g, const Node *n, u32 i)
{
	const Buffer *from = buffer_of(p, g, n->in[i]), *to = written_to(p, g, (Val){ n->out.i + i });
	const Node *maker = val_node(g, n->in[i]);
	if (n->op == OP_send || n->op == OP_receive)
		return "another stage needs it";
	if (n->op == OP_reduce_among)
		return from ? "several stages have the parameter" : "each stage has its own terms";
	if (from && from->kind == BUFFER_PARAMETER)
		return ATTR(n, all_gather)->again && n->op == OP_all_gather ? "a divided parameter is needed whole again, backwards" :
									      "a divided parameter is needed whole";
	if (from && from->kind == BUFFER_GRADIENT)
		return "each device has the gradient of its own rows";
	if (to && to->kind == BUFFER_GRADIENT && n->op == OP_all_reduce)
		return "each device has the gradient of its own rows";
	if (to && to->kind == BUFFER_GRADIENT)
		return "each device has the gradient of its own rows, and keeps its part of the sum";
	if (to && to->kind == BUFFER_PARAMETER)
		return "each device has updated its part of the parameter";
	if (n->op == OP_all_reduce || n->op == OP_reduce_scatter) {
		switch (maker->op) {
		case OP_dot: return "the inner axis of the product is divided";
		case OP_where: return "rows of the table are divided: each device has looked up its own";
		case OP_sum:
		case OP_reduce_max:
		case OP_reduce_min: return "the axis that is reduced is divided";
		default: return "each device has a part of the sum";
		}
	}
	return n->op == OP_all_gather ? "what was divided is needed whole" : "it is divided along one axis, and needed along another";
}

static const char *tensor_name(Report *r, const Program *p, const Graph *g, const Node *n, u32 i)
{
	if (n->op == OP_receive)
		return arena_printf(r->arena, "%s%sfrom stage %lld", n->scope, *n->scope ? " " : "", (long long)ATTR(n, receive)->from);
	const Buffer *b = buffer_of(p, g, n->in[i]);
	if (!b)
		b = written_to(p, g, (Val){ n->out.i + i });
	if (b)
		return b->name;
	const Node *maker = val_node(g, n->in[i]);
	return arena_printf(r->arena, "%s%s%s", maker->scope, *maker->scope ? "." : "", op_info[maker->op].name);
}

static void add(Report *r, Row new)
{
	for (u32 i = 0; i < r->row.n; i++) {
		Row *x = &r->row.v[i];
		if (strcmp(x->entry, new.entry) != 0 || strcmp(x->op, new.op) != 0 || strcmp(x->over, new.over) != 0 ||
		    strcmp(x->why, new.why) != 0 || x->loc.line != new.loc.line || x->loc.file != new.loc.file || x->type != new.type)
			continue;
		x->calls++;
		x->tensors++;
		x->bytes += new.bytes;
		x->messages += new.messages;
		return;
	}
	VEC_PUSH(r->arena, &r->row, new);
}

static void look_at(Report *r, const Program *p, const Graph *g, i64 times)
{
	for (u32 k = 0; k < g->node.n; k++) {
		const Node *n = &g->node.v[k];
		if (!(op_info[n->op].traits & T_COLLECTIVE))
			continue;
		for (u32 i = 0; i < n->nin; i++)
			add(r, (Row){ .entry = g->name, .op = op_info[n->op].name, .over = ATTR(n, all_reduce)->over, .why = why(p, g, n, i),
				      .type = val_type(g, n->op == OP_receive ? n->out : n->in[i]), .loc = n->loc, .group = (u32)ATTR(n, all_reduce)->parts, .calls = 1,
				      .times = times, .bytes = (f64)times * bytes_sent(g, n, i), .messages = (f64)times / n->nin, .tensor = tensor_name(r, p, g, n, i),
				      .tensors = 1 });
	}
}

static const char *place_of(Report *r, const Diag *d, Loc loc)
{
	if (!loc.line || loc.file >= d->nsource)
		return "-";
	const char *path = d->source[loc.file].path, *slash = strrchr(path, '/');
	return arena_printf(r->arena, "%s:%u", slash ? slash + 1 : path, loc.line);
}

static void print_rows(Report *r, const Diag *d)
{
	int width = 11;
	for (u32 i = 0; i < r->row.n; i++)
		width = MAX(width, (int)strlen(r->row.v[i].entry));
	printf("\n%-*s %-14s %-8s %6s %6s %5s %15s  %-18s %-34s %s\n", width, "entry", "collective", "over", "group", "calls", "times",
	       "bytes sent/step", "source", "tensor", "why");
	for (u32 i = 0; i < r->row.n; i++) {
		const Row *x = &r->row.v[i];
		Buf t = { .arena = r->arena };
		type_print(&t, x->type);
		const char *tensor = arena_printf(r->arena, "%s %s%s", x->tensor, t.text,
						  x->tensors > 1 ? arena_printf(r->arena, " and %u more", x->tensors - 1) : "");
		printf("%-*s %-14s %-8s %6u %6u %5lld %15.0f  %-18s %-34s %s\n", width, x->entry, x->op, x->over, x->group, x->calls,
		       (long long)x->times, x->bytes, place_of(r, d, x->loc), tensor, x->why);
	}
}

static void print_totals(const Report *r, const Mesh *mesh)
{
	for (u32 m = 0; m < mesh->n; m++) {
		f64 bytes = 0, messages = 0;
		u64 calls = 0;
		for (u32 i = 0; i < r->row.n; i++)
			if (!strcmp(r->row.v[i].over, mesh->axis[m].name)) {
				bytes += r->row.v[i].bytes;
				calls += r->row.v[i].calls * (u64)r->row.v[i].times;
				messages += r->row.v[i].messages;
			}
		printf("%s over %s (%u): %.0f bytes sent by each device in a step, %llu tensors in %.0f collectives\n",
		       m ? "         " : "\ntotal    ", mesh->axis[m].name, mesh->axis[m].size, bytes, (unsigned long long)calls, messages);
	}
}

static void print_memory(const Program *p, const Plan *plan, const char *rules, Arena *a)
{
	MeshWhole whole_over[3 * MESH_AXES];
	u32 nwhole = mesh_whole(p, rules, whole_over);
	u64 bytes[BUFFER_KINDS] = { 0 }, whole = 0;
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i];
		bytes[b->kind] += buffer_away(p, b) ? 0 : MAX(b->slots, 1u) * (u64)type_bytes(b->type);
	}
	for (u32 k = 0; k < BUFFER_KINDS; k++)
		whole += bytes[k];
	printf("memory    %llu bytes (%s) on each device\n", (unsigned long long)plan->arena_bytes, lm_bytes(a, plan->arena_bytes));
	const char *const name[BUFFER_KINDS] = { [BUFFER_PARAMETER] = "parameters", [BUFFER_STATE] = "optimizer state",
						 [BUFFER_GRADIENT] = "gradients", [BUFFER_COUNTER] = "counters",
						 [BUFFER_CACHE] = "caches", [BUFFER_MESH] = "coordinates",
						 [BUFFER_STASH] = "activations of micro-batches that are under way" };
	for (u32 k = 0; k < BUFFER_KINDS; k++) {
		if (bytes[k])
			printf("          %15llu  %s\n", (unsigned long long)bytes[k], name[k]);
		for (u32 i = 0; i < nwhole; i++) {
			const MeshWhole *w = &whole_over[i];
			if (w->kind == (BufferKind)k)
				printf("          %15llu  of these stay whole over %s: %u of %u tensors, that have no dimension to divide\n",
				       (unsigned long long)w->bytes, w->over, w->tensors, w->of);
		}
	}
	printf("          %15llu  alignment of these\n", (unsigned long long)(plan->persistent_bytes - whole));
	printf("          %15llu  activations and buffers of the entry that has most\n", (unsigned long long)(plan->arena_bytes - plan->persistent_bytes));
}

/* Collectives of a step's entries, and those of them beside which kernels run. */
static void count_beside(const Plan *plan, u32 *all, u32 *beside)
{
	*all = *beside = 0;
	for (u32 i = 0; i < plan->entry.n; i++) {
		const EntryPlan *e = plan->entry.v[i];
		if (!str_starts(str_of(e->name), STR("micro")) && strcmp(e->name, "update") != 0)
			continue;
		for (u32 s = 0; s < e->step.n; s++) {
			bool works = false;
			for (u32 k = s + 1; plan->kernel.v[e->step.v[s].kernel]->collective && k < e->step.v[s].until; k++)
				works |= !plan->kernel.v[e->step.v[k].kernel]->collective;
			*all += plan->kernel.v[e->step.v[s].kernel]->collective != NULL;
			*beside += works;
		}
	}
}

static void print_beside(const Plan *plan)
{
	u32 all, beside;
	count_beside(plan, &all, &beside);
	if (all)
		printf("overlap   %u of %u collectives of the entries of a step are on their way while kernels run\n", beside, all);
}

/* The schedule, with stages that take equally long and backward halves of twice the forward's. */
static void print_pipe(Arena *a, const DriverPipe *pipe)
{
	u32 n = pipe->stages * pipe->chunks;
	PipeSchedule s = pipe_schedule(a, pipe->kind, pipe->stages, pipe->chunks, pipe->micros);
	f64 *forward = NEWN(a, f64, n), *backward = NEWN(a, f64, n);
	for (u32 i = 0; i < n; i++) {
		forward[i] = 1;
		backward[i] = 2;
	}
	PipeTimeline l = pipe_timeline(a, &s, &(PipeTimes){ forward, backward, NULL, false });
	printf("pipeline  %u stages%s over %s, %s, %u micro-batches: bubble %.1f%% where stages take equally long\n", pipe->stages,
	       pipe->chunks > 1 ? arena_printf(a, " of %u chunks", pipe->chunks) : "", pipe->over, pipe_kind_name[pipe->kind], pipe->micros,
	       100 * l.bubble);
}

/* ---- as JSON ---- */

static json_t *row_json(Report *r, const Diag *d, const Row *x)
{
	Buf t = { .arena = r->arena };
	type_print(&t, x->type);
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:I, s:f, s:s, s:s, s:s, s:i, s:s}", "entry", x->entry, "collective", x->op, "over", x->over,
			 "group", (int)x->group, "calls", (int)x->calls, "times", (json_int_t)x->times, "bytes_sent", x->bytes, "source",
			 place_of(r, d, x->loc), "tensor", x->tensor, "type", t.text, "tensors", (int)x->tensors, "why", x->why);
}

static json_t *memory_json(const Program *p, const Plan *plan)
{
	json_t *m = json_pack("{s:I, s:I}", "total", (json_int_t)plan->arena_bytes, "transient",
			      (json_int_t)(plan->arena_bytes - plan->persistent_bytes));
	for (u32 k = 0; k < BUFFER_KINDS; k++) {
		u64 bytes = 0;
		for (u32 i = 0; i < p->buffer.n; i++)
			bytes += p->buffer.v[i].kind == (BufferKind)k ? plan_buffer_bytes(p, &p->buffer.v[i]) : 0;
		json_object_set_new(m, buffer_kind_name[k], json_integer((json_int_t)bytes));
	}
	return m;
}

static json_t *whole_json(const Program *p, const char *rules)
{
	MeshWhole w[3 * MESH_AXES];
	json_t *whole = json_array();
	for (u32 i = 0, n = mesh_whole(p, rules, w); i < n; i++)
		json_array_append_new(whole, json_pack("{s:s, s:s, s:i, s:i, s:I}", "kind", buffer_kind_name[w[i].kind], "over", w[i].over, "tensors",
						       (int)w[i].tensors, "of", (int)w[i].of, "bytes", (json_int_t)w[i].bytes));
	return whole;
}

static json_t *devices_json(Report *r, const Program *p, const Plan *plan, const char *rules, u32 stage)
{
	json_t *rows = json_array(), *sent = json_object();
	for (u32 i = 0; i < r->row.n; i++)
		json_array_append_new(rows, row_json(r, p->ir->diag, &r->row.v[i]));
	for (u32 m = 0; m < p->mesh.n; m++) {
		f64 bytes = 0;
		for (u32 i = 0; i < r->row.n; i++)
			bytes += strcmp(r->row.v[i].over, p->mesh.axis[m].name) ? 0 : r->row.v[i].bytes;
		json_object_set_new(sent, p->mesh.axis[m].name, json_real(bytes));
	}
	u32 all, beside;
	count_beside(plan, &all, &beside);
	return json_pack("{s:i, s:o, s:o, s:o, s:o, s:i, s:i}", "stage", (int)stage, "memory", memory_json(p, plan), "stays_whole", whole_json(p, rules),
			 "bytes_sent", sent, "collectives", rows, "planned_collectives", (int)all, "beside_kernels", (int)beside);
}

/* ---- all of it ---- */

/* What devices of a stage, or all where there is no pipeline, hold and send: printed, or appended to `stages`. */
static Status tell_devices(Lm *lm, const MeshRun *run, const DriverOptions *o, json_t *stages)
{
	Compiled c;
	TRY(driver_plan(&lm->source.arena, lm->model->program, o, &c));
	if (!c.plan)
		return FAIL(STATUS_INPUT, "%s cannot be divided so", lm->operand.source);
	Report r = { .arena = &lm->arena };
	const Program *p = c.program;
	for (u32 i = 0; i < p->entry.n; i++)
		look_at(&r, p, p->entry.v[i], driver_times(p, p->entry.v[i]->name, lm->model->accumulate));
	if (stages) {
		json_array_append_new(stages, devices_json(&r, p, c.plan, run->rules, o->pipe ? o->pipe->at : 0));
		return OK;
	}
	if (run->pipe.stages)
		printf("\nstage %u\n", o->pipe->at);
	print_memory(p, c.plan, run->rules, r.arena);
	print_rows(&r, p->ir->diag);
	print_totals(&r, &p->mesh);
	print_beside(c.plan);
	return OK;
}

Status plan_mesh(Lm *lm, const char *mesh, const TextList *more, const char *schedule, const char *sizes, const char *precision,
		 bool json)
{
	static const char *const entry[] = { "micro", "update" };
	MeshRun run;
	TRY(mesh_rules(lm, mesh, more, schedule, &run));
	if (run.devices == 1)
		return FAIL(STATUS_INPUT, "a mesh of one device says nothing: --mesh data=8,tensor=8");
	DriverPipe pipe = run.pipe;
	DriverOptions o = { .entry = entry, .nentry = COUNT(entry), .sizes = sizes, .precision = precision,
			    .accumulate = lm->model->accumulate > 1, .shard = run.rules, .bucket = run.bucket, .pipe = pipe.stages ? &pipe : NULL };
	if (!json) {
		printf("model     %s (%s), %s, %s\n", lm->model->name, lm->operand.source, sizes, precision);
		printf("mesh      %u devices%s%s\n", run.devices, run.rules ? ": " : "", run.rules ? run.rules : "");
		if (pipe.stages)
			print_pipe(&lm->arena, &pipe);
	}
	json_t *stages = json ? json_array() : NULL;
	Status s = OK;
	for (; pipe.at < MAX(run.pipe.stages, 1u) && !s; pipe.at++)
		s = tell_devices(lm, &run, &o, stages);
	if (json && !s) {
		json_t *root = json_pack("{s:s, s:s, s:s, s:i, s:s, s:i, s:s, s:O}", "model", lm->model->name, "sizes", sizes, "precision", precision,
					 "devices", (int)run.devices, "rules", run.rules ? run.rules : "", "micro_batches",
					 (int)lm->model->accumulate, "schedule", run.pipe.stages ? pipe_kind_name[run.pipe.kind] : "", "stages", stages);
		json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
		putchar('\n');
		json_decref(root);
	}
	json_decref(stages);
	return s;
}
