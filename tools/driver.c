/* tools/driver.c: see driver.h. */
#include "tools/driver.h"
#include "ir/cost.h"
#include "ir/shard.h"
#include "ir/step.h"
#include "passes/graph/bucket.h"
#include "passes/graph/bind.h"
#include "passes/plan/plan.h"
#include "runtime/cpu/threads.h"
#include "support/clock.h"

#include <stdlib.h>
#include <string.h>

/* ---- the entries asked for, and the buffers that they touch ---- */

static bool wanted(const DriverOptions *o, const char *name)
{
	for (u32 i = 0; i < o->nentry; i++)
		if (!strcmp(o->entry[i], name))
			return true;
	return !o->entry;
}

static void mark_buffers(const Program *p, const Graph *g, bool *used)
{
	for (u32 i = 0; i < g->node.n; i++)
		if (g->node.v[i].op == OP_read)
			used[program_find_buffer(p, ATTR(&g->node.v[i], read)->buffer)] = true;
	for (u32 i = 0; i < g->result.n; i++)
		if (g->result.v[i].buffer != NONE)
			used[g->result.v[i].buffer] = true;
}

/* Entry `init` gives values to buffers that nobody else may want: those go with it. */
static Program *select_entries(Arena *arena, const Program *in, const DriverOptions *o)
{
	bool *used = NEWN(arena, bool, in->buffer.n + 1);
	for (u32 i = 0; i < in->entry.n; i++)
		if (wanted(o, in->entry.v[i]->name) && strcmp(in->entry.v[i]->name, "init"))
			mark_buffers(in, in->entry.v[i], used);
	bool training = false;
	for (u32 i = 0; i < in->entry.n; i++)
		training |= !strcmp(in->entry.v[i]->name, "micro") && wanted(o, "micro");
	/* the backward half, which comes later, writes gradients and counters */
	for (u32 i = 0; i < in->buffer.n && training; i++)
		used[i] |= in->buffer.v[i].kind == BUFFER_GRADIENT || in->buffer.v[i].kind == BUFFER_COUNTER;
	/* asked for alone, it gives values to all */
	bool alone = o->nentry == 1 && !strcmp(o->entry[0], "init");
	for (u32 i = 0; i < in->buffer.n; i++)
		used[i] |= alone;
	Program *p = program_new(arena, in->ir, in->name);
	p->facts = in->facts;
	p->mesh = in->mesh;
	u32 *map = NEWN(arena, u32, in->buffer.n + 1);
	for (u32 i = 0; i < in->buffer.n; i++)
		map[i] = used[i] ? program_buffer(p, in->buffer.v[i]) : NONE;
	for (u32 i = 0; i < p->buffer.n; i++)
		if (p->buffer.v[i].of != NONE)
			p->buffer.v[i].of = map[p->buffer.v[i].of];
	for (u32 i = 0; i < in->entry.n; i++) {
		if (!wanted(o, in->entry.v[i]->name))
			continue;
		Graph *g = NEW(arena, Graph); /* the nodes are shared: passes only read them */
		*g = *in->entry.v[i];
		g->result.v = NULL;
		g->result.n = g->result.cap = 0;
		for (u32 k = 0; k < in->entry.v[i]->result.n; k++) {
			Result r = in->entry.v[i]->result.v[k];
			if (r.buffer != NONE && (r.buffer = map[r.buffer]) == NONE)
				continue;
			VEC_PUSH(arena, &g->result, r);
		}
		VEC_PUSH(arena, &p->entry, g);
	}
	return p;
}

/* ---- FLOPs as the field counts them ---- */

static EntryFlops entry_flops(Arena *tmp, const Graph *g)
{
	EntryFlops f = { 0 };
	bool *live = NEWN(tmp, bool, g->node.n + 1);
	for (u32 i = 0; i < g->result.n; i++)
		live[g->value.v[g->result.v[i].value.i].node] = true;
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *n = &g->node.v[i];
		if (!live[i])
			continue;
		for (u32 k = 0; k < n->nin; k++)
			live[g->value.v[n->in[k].i].node] = true;
		f64 flops = node_cost(g, n).flops, full = flops;
		if (n->op == OP_attention || n->op == OP_attention_grad) {
			attention_attr square = *(const attention_attr *)n->attr; /* both ops' attributes */
			square.causal = false;
			square.window = 0;
			Node whole = *n;
			whole.attr = &square;
			full = node_cost(g, &whole).flops;
		}
		f.model += flops;
		f.model_full += full;
	}
	return f;
}

/* ---- the way down ---- */

static bool has_entry(const Program *p, const char *name)
{
	return program_find_entry(p, str_of(name)) != NULL;
}

/* With these parts of a step alone (bits by StepPart), and all buffers. */
static Program *with_parts(Arena *arena, const Program *in, u32 parts)
{
	Program *p = NEW(arena, Program);
	*p = *in;
	p->entry.v = NULL;
	p->entry.n = p->entry.cap = 0;
	for (u32 i = 0; i < in->entry.n; i++)
		if (parts >> step_name(in->entry.v[i]->name).part & 1)
			VEC_PUSH(arena, &p->entry, in->entry.v[i]);
	return p;
}

static const DriverBackend *const backends[] = {
#if PLINTH_LLVM
	&driver_cpu,
#endif
	&driver_cuda,
	&driver_null,
};

const char *driver_default_device(void)
{
	return backends[0]->name;
}

/* One of the devices between commas is of this backend: "cuda:1" is of "cuda". */
static bool names_backend(const char *list, const char *backend)
{
	for (const char *at = list; *at; at += *at == ',') {
		if (strcspn(at, ":,") == strlen(backend) && !strncmp(at, backend, strlen(backend)))
			return true;
		at += strcspn(at, ",");
	}
	return false;
}

Status driver_device_options(const char *device, const char *cpu, const char *arch, const char *matmul)
{
	const char *on = device ? device : driver_default_device();
	if (cpu && names_backend(on, "cuda") && !names_backend(on, "cpu"))
		return FAIL(STATUS_INPUT, "--cpu %s is of a processor, and the device is %s: --arch names a GPU's architecture", cpu, on);
	if ((arch || matmul) && names_backend(on, "cpu") && !names_backend(on, "cuda"))
		return FAIL(STATUS_INPUT, "--%s %s is of GPUs, and the device is %s: it goes with --device cuda", arch ? "arch" : "matmul",
			    arch ? arch : matmul, on);
	return OK;
}

static Status find_backend(const DriverOptions *o, const DriverBackend **out)
{
	TRY(driver_device_options(o->device, o->cpu, o->arch, NULL));
	const char *name = o->device ? o->device : driver_default_device();
	size_t n = strcspn(name, ":");
	for (u32 i = 0; i < COUNT(backends); i++)
		if (strlen(backends[i]->name) == n && !memcmp(backends[i]->name, name, n)) {
			*out = backends[i];
			return OK;
		}
	if (!strcmp(name, "cpu"))
		return FAIL(STATUS_UNSUPPORTED, "this plinth was built without LLVM and makes no code for CPUs: --device cuda, or a "
						"build with LLVM");
	return FAIL(STATUS_INPUT, "there is no device '%s': cpu, cuda, cuda:1 (the second GPU), null", name);
}

/* Entries prefill and decode beside those that there are; NULL where the model cannot be decoded so. */
static const Program *derive_decoding(PassCx *cx, const Program *in, const DriverOptions *o, Status *status)
{
	static const char *const forward[] = { "forward" };
	const Program *alone = select_entries(cx->out, in, &(DriverOptions){ .entry = forward, .nentry = 1 });
	const char **symbol;
	u32 n = program_symbols(cx->tmp, alone, &symbol), i = 0;
	while (i < n && strcmp(symbol[i], o->decode_along))
		i++;
	if (i == n) {
		*status = FAIL(STATUS_INPUT, "the model reads no texts: none of its inputs has positions %s, which decoding goes along and --capacity counts",
			       o->decode_along);
		return NULL;
	}
	/* as many positions as are kept are as many as a text may have: tables of positions have them, which `bind` looks at */
	const char *most = arena_printf(cx->tmp, "bind{%s=%lld}", o->decode_along, (long long)o->capacity);
	if (o->capacity > 0 && !pipeline_run(str_of(most), cx, alone, status))
		return NULL;
	const char *text = arena_printf(cx->out, "simplify,absorb,simplify,incremental{axis=%s}", o->decode_along);
	return pipeline_run(str_of(text), cx, alone, status);
}

static bool is_among(const char *const *symbol, u32 n, Str name)
{
	for (u32 i = 0; i < n; i++)
		if (str_equal(str_of(symbol[i]), name))
			return true;
	return false;
}

/* The sizes given but for those that only entries of `whole` have that were left out of `p`, and the capacity where
 * anything is kept. */
static const char *all_sizes(Arena *arena, const Program *whole, const Program *p, const DriverOptions *o)
{
	const char **symbol, **known;
	u32 n = program_symbols(arena, p, &symbol), nknown = program_symbols(arena, whole, &known);
	Buf sizes = { .arena = arena };
	for (const char *at = o->sizes ? o->sizes : ""; n && *at; at += *at == ',') {
		Str name = { at, strcspn(at, "=,") };
		size_t length = strcspn(at, ",");
		if (is_among(symbol, n, name) || !is_among(known, nknown, name))
			buf_printf(&sizes, "%s%.*s", sizes.n ? "," : "", (int)length, at);
		at += length;
	}
	if (o->decode_along && is_among(symbol, n, STR("capacity")))
		buf_printf(&sizes, "%scapacity=%lld", sizes.n ? "," : "", (long long)o->capacity);
	return sizes.text ? sizes.text : "";
}

/* Whether the plan keeps to the budget, and if not, what it would take and what makes it so much. */
static Status check_budget(Arena *arena, const Plan *p, u64 memory, u64 beside)
{
	if (p->arena_bytes + beside <= memory)
		return OK;
	const EntryPlan *most = p->entry.v[0];
	for (u32 i = 1; i < p->entry.n; i++)
		most = p->entry.v[i]->transient_bytes > most->transient_bytes ? p->entry.v[i] : most;
	u32 at = 0, largest = NONE;
	u64 peak = 0;
	for (u32 s = 0; s < most->step.n; s++) {
		u64 now = 0;
		for (u32 b = 0; b < most->buffer.n; b++) {
			const PlanBuffer *x = &most->buffer.v[b];
			now += x->kind != MEMORY_PERSISTENT && x->first <= s && s <= x->last ? x->bytes : 0;
		}
		at = now > peak ? s : at;
		peak = MAX(peak, now);
	}
	for (u32 b = 0; b < most->buffer.n; b++) {
		const PlanBuffer *x = &most->buffer.v[b];
		bool there = x->kind != MEMORY_PERSISTENT && x->first <= at && at <= x->last;
		if (there && (largest == NONE || x->bytes > most->buffer.v[largest].bytes))
			largest = b;
	}
	const char *what = largest == NONE ? "" :
		arena_printf(arena, ", most at %s, where %s is %llu of them", p->kernel.v[most->step.v[at].kernel]->name,
			     most->buffer.v[largest].name, (unsigned long long)most->buffer.v[largest].bytes);
	return FAIL(STATUS_CONTRACT,
		    "a budget of %llu bytes of memory cannot be kept: the least that was found is %llu. %llu of them are parameters and "
		    "what belongs to them, %llu the values of %s%s",
		    (unsigned long long)memory, (unsigned long long)(p->arena_bytes + beside), (unsigned long long)p->persistent_bytes,
		    (unsigned long long)most->transient_bytes, most->name, what);
}

/* The plan within the budget, of which threads' own memory, known only then, is a part. */
static Status plan_limited(Arena *arena, Arena *tmp, const Program *p, const DriverOptions *o, Compiled *out)
{
	PlanLimits limits = { .memory = o->memory, .curve = o->curve, .machine = o->machine, .like = o->like, .unplaced = o->unplaced,
			      .look = o->look, .look_cx = o->look_cx };
	out->plan = plan_within(arena, tmp, p, out->target, &limits, p->ir->diag);
	if (!out->plan || !o->memory)
		return OK;
	u64 beside = ALIGN_UP(out->plan->thread_scratch, 4096) * (o->threads ? o->threads : threads_usable());
	if (out->plan->arena_bytes + beside > o->memory && out->plan->arena_bytes <= o->memory && beside) {
		limits.memory = MAX(o->memory, beside + 1) - beside;
		out->plan = plan_within(arena, tmp, p, out->target, &limits, p->ir->diag);
	}
	return out->plan ? check_budget(arena, out->plan, o->memory, beside) : OK;
}

/* Of each entry, on one of so many devices that share it. A stage's entries are its own. */
static EntryFlops *flops_of(Arena *arena, Arena *tmp, const Program *p, u32 devices)
{
	EntryFlops *flops = NEWN(arena, EntryFlops, p->entry.n + 1);
	for (u32 i = 0; i < p->entry.n; i++) {
		flops[i] = entry_flops(tmp, p->entry.v[i]);
		flops[i].model /= devices;
		flops[i].model_full /= devices;
	}
	return flops;
}

/* The same, of the entries of `p`, as the model has them; in micro_last is what is in micro. */
static EntryFlops *flops_as(Arena *arena, Arena *tmp, const Program *model, const Program *p)
{
	const EntryFlops *all = flops_of(arena, tmp, model, mesh_devices(&p->mesh));
	EntryFlops *flops = NEWN(arena, EntryFlops, p->entry.n + 1);
	for (u32 i = 0; i < p->entry.n; i++) {
		StepName at = step_name(p->entry.v[i]->name);
		const char *name = at.part == STEP_LAST ? step_named(tmp, STEP_MORE, at.half) : p->entry.v[i]->name;
		for (u32 k = 0; k < model->entry.n; k++)
			if (!strcmp(model->entry.v[k]->name, name))
				flops[i] = all[k];
	}
	return flops;
}

i64 driver_times(const Program *p, const char *entry, i64 accumulate)
{
	StepName at = step_name(entry);
	if (at.part != STEP_MORE)
		return 1;
	Arena tmp = ARENA("driver_times");
	bool last = has_entry(p, step_named(&tmp, STEP_LAST, at.half));
	arena_free(&tmp);
	return accumulate - 1 - last;
}

/* With operands of 8 bits in linear layers, or without. */
static bool is_fp8(const DriverOptions *o)
{
	return o->precision && !strcmp(o->precision, "fp8");
}

static bool is_autocast(const DriverOptions *o)
{
	return is_fp8(o) || (o->precision && !strcmp(o->precision, "autocast"));
}

/* What is behind "expand,simplify" in the pipeline `lower`, with one device's part in its midst. */
static const char *lowering(Arena *arena, const DriverOptions *o)
{
	Buf b = { .arena = arena };
	if (!o->shard && !o->pipe) /* how many chunks there are follows from sizes */
		return o->sized || o->unchunked ? "narrow,operands,canonical" : "chunk,narrow,operands,canonical";
	if (o->shard)
		buf_printf(&b, "partition{%s%s},simplify", o->shard, is_autocast(o) ? ",messages=bf16" : "");
	if (o->pipe)
		buf_printf(&b, "%sstage{over=%s:%u,axis=%u,at=%u,schedule=%s,interleave=%u,micro=%u},simplify", b.n ? "," : "", o->pipe->over, o->pipe->stages,
			   o->pipe->axis, o->pipe->at, pipe_kind_name[o->pipe->kind], o->pipe->chunks, o->pipe->micros);
	if (o->gradients)
		buf_printf(&b, ",masters{gradients=%s%s%s},simplify", o->gradients, o->parts ? ",parts=" : "", o->parts ? o->parts : "");
	if (o->shard && !o->late_sums)
		buf_printf(&b, ",sums,simplify");
	buf_printf(&b, "%s,narrow,bucket{bytes=%llu},operands,canonical", o->unchunked ? "" : ",chunk", (unsigned long long)(o->bucket ? o->bucket : BUCKET_BYTES));
	return b.text;
}

/* What a step of the stage runs, in order. */
static void set_tasks(Arena *arena, const DriverPipe *pipe, Package *p)
{
	PipeSchedule s = pipe_schedule(arena, pipe->kind, pipe->stages, pipe->chunks, pipe->micros);
	p->pipe = (PackagePipe){ .mesh = pipe->axis, .stages = pipe->stages, .ntask = s.ntask, .task = NEWN(arena, PackageTask, s.ntask + 1) };
	for (u32 i = 0; i < s.ntask; i++) {
		PipeTask t = pipe_tasks(&s, pipe->at)[i];
		u32 held = t.micro % pipe_held(&s, pipe->at, t.chunk);
		const char *half = arena_printf(arena, ".%s.%u", t.backward ? "backward" : "forward", t.chunk);
		const char *last = t.micro && t.micro + 1 == pipe->micros ? step_named(arena, STEP_LAST, half) : NULL;
		half = last && package_entry(p, last) ? last : step_named(arena, t.micro ? STEP_MORE : STEP_FIRST, half);
		const PackageEntry *e = held ? package_entry(p, arena_printf(arena, "%s@%u", half, held)) : NULL;
		e = e ? e : package_entry(p, half); /* one that keeps nothing is there once */
		p->pipe.task[i] = (PackageTask){ (u32)(e - p->entry), t.micro };
	}
}

static Status check_precision(const DriverOptions *o)
{
	static const char *const known[] = { "f32", "bf16", "f16", "autocast", "fp8" };
	for (u32 i = 0; o->precision && i < COUNT(known); i++)
		if (!strcmp(o->precision, known[i]))
			return OK;
	return o->precision ? FAIL(STATUS_INPUT, "--precision is f32, bf16, f16, autocast or fp8, not %s", o->precision) : OK;
}

/* From the source to what is divided over devices: a training step, composites expanded. `model`: before these are. */
static const Program *prepare(Arena *arena, PassCx *cx, const Program *program, const DriverOptions *o, const Program **model, Status *status)
{
	*status = check_precision(o);
	const Program *p = *status ? NULL : o->decode_along ? derive_decoding(cx, program, o, status) : program;
	if (!p || *status)
		return NULL;
	p = select_entries(arena, p, o);
	const char *sizes = all_sizes(cx->tmp, program, p, o);
	bool training = has_entry(p, "micro"), sized = *sizes;
	const char *results = !is_autocast(o) ? "" : o->parameters ? ",results=bf16,sums=bf16" : ",results=bf16";
	const char *text = arena_printf(arena, "bind%s%s%s,simplify,precision{compute=%s%s%s},%s%s%s", sized ? "{" : "", sizes,
					sized ? "}" : "", is_autocast(o) ? "bf16" : o->precision ? o->precision : "f32", results,
					is_fp8(o) ? ",linear=f8e4m3" : "",
					o->scores ? "scores,simplify," : "", training ? "train" : "forward",
					o->parameters ? arena_printf(arena, ",masters{parameters=%s}", o->parameters) : "");
	p = pipeline_run(str_of(text), cx, p, status);
	if (!p || *status)
		return NULL;
	if (training && !o->accumulate) /* a step is one micro-batch: none adds to gradients */
		p = with_parts(arena, p, ~(1u << STEP_MORE));
	*model = p;
	cx->trace = o->trace;
	return pipeline_run(STR("expand,simplify"), cx, p, status);
}

/* The same, from what was made for an earlier plan where there is such. */
static const Program *prepare_once(PassCx *cx, const Program *program, const DriverOptions *o, const Program **model, Status *status)
{
	DriverPrepared *all = o->prepared;
	for (u32 i = 0; i < DRIVER_PREPARED; i++)
		if (all->of[i].program && all->of[i].accumulate == o->accumulate && !strcmp(all->of[i].sizes, o->sizes)) {
			*model = all->of[i].model;
			axis_restore(program->ir, &all->of[i].axes);
			return all->of[i].program;
		}
	if (!all->begun.n) {
		all->arena = ARENA("prepared");
		all->begun = axis_state(program->ir, &all->arena);
	}
	axis_restore(program->ir, &all->begun);
	u32 at = all->next++ % DRIVER_PREPARED;
	arena_free(&all->of[at].arena);
	all->of[at].arena = ARENA("prepared");
	all->of[at].program = NULL;
	PassCx own = *cx;
	own.out = &all->of[at].arena;
	const Program *p = prepare(own.out, &own, program, o, model, status);
	cx->time = own.time;
	if (p && !*status) {
		all->of[at].sizes = arena_printf(own.out, "%s", o->sizes);
		all->of[at].accumulate = o->accumulate;
		all->of[at].model = *model;
		all->of[at].axes = axis_state(program->ir, own.out);
		all->of[at].program = p;
	}
	return p;
}

void driver_prepared_free(DriverPrepared *all)
{
	for (u32 i = 0; i < DRIVER_PREPARED; i++)
		arena_free(&all->of[i].arena);
	arena_free(&all->arena);
}

/* Of what the target can do, what the machine that the plan is for has too. */
static const TargetInfo *on_machine(Arena *arena, const TargetInfo *target, const Machine *m)
{
	TargetInfo *t = COPYN(arena, TargetInfo, target, 1);
	t->products_f8 &= !m || machine_products_f8(m);
	return t;
}

static Status plan_at(Arena *arena, const Program *program, const DriverOptions *o, Compiled *out)
{
	*out = (Compiled){ 0 };
	f64 begun = clock_seconds();
	Arena tmp = ARENA("passes");
	TRY(find_backend(o, &out->backend));
	TRY(out->backend->target(arena, o, out));
	out->target = on_machine(arena, out->target, o->machine);
	const PipelineOptions many = { .verify_last = true };
	PassCx cx = { .out = arena, .tmp = &tmp, .ir = program->ir, .diag = program->ir->diag, .target = out->target, .options = o->prepared ? &many : NULL };
	Status status = OK;
	const Program *p = o->prepared ? prepare_once(&cx, program, o, &out->model, &status) :
					 prepare(arena, &cx, program, o, &out->model, &status);
	if (!p || status)
		goto done;
	cx.trace = o->trace;
	if (o->no_update)
		p = with_parts(arena, p, ~(1u << STEP_UPDATE));
	p = pipeline_run(str_of(lowering(arena, o)), &cx, p, &status);
	if (!p || status)
		goto done;
	out->flops = o->pipe ? flops_of(arena, &tmp, p, 1) : flops_as(arena, &tmp, out->model, p);
	out->times.passes = clock_seconds() - begun;
	begun = clock_seconds();
	out->program = p;
	status = plan_limited(arena, &tmp, p, o, out);
	if (out->plan && !o->sized && !driver_bounds(o->sizes))
		plan_stream((Plan *)(uintptr_t)out->plan, o->stream_beyond);
	if (out->plan) /* the same for every mesh: what resumes compare */
		((Plan *)(uintptr_t)out->plan)->identity = program_hash(out->model);
	out->times.plan = clock_seconds() - begun;
done:
	for (u32 i = 0; i < cx.time.n; i++)
		VEC_PUSH(arena, &out->times.pass, cx.time.v[i]);
	arena_free(&tmp);
	return status;
}

/* ---- sizes that are known only when it runs ---- */

bool driver_bounds(const char *sizes)
{
	return sizes && strstr(sizes, "<=");
}

const char *driver_largest(Arena *arena, const char *sizes)
{
	Buf b = { .arena = arena };
	for (const char *at = sizes ? sizes : ""; *at; at++)
		if (*at != '<')
			buf_char(&b, *at);
	return b.text ? b.text : "";
}

/* "B=4,T<=64": the numbers, and T. */
static Status read_bounds(Arena *arena, Ir *ir, const DriverOptions *o, Buf *numbers, PlanAxis *axis, u32 *naxis)
{
	const char *sizes = o->sizes;
	for (const char *at = sizes; *at; at += *at == ',') {
		size_t n = strcspn(at, ","), name = strcspn(at, "<=,");
		if (at[name] != '<') {
			buf_printf(numbers, "%s%.*s", numbers->n ? "," : "", (int)n, at);
		} else if (*naxis == PLAN_AXES) {
			return FAIL(STATUS_INPUT, "sizes %s: at most %d may have bounds", sizes, PLAN_AXES);
		} else {
			PlanAxis *a = &axis[*naxis];
			a->symbol = intern_z(&ir->names, arena_printf(arena, "%.*s", (int)name, at));
			a->most = strtoll(at + name + 2, NULL, 10);
			/* from call to call there are other numbers of new positions */
			a->steady = !o->decode_along || strcmp(a->symbol, o->decode_along) != 0;
			if (a->most < 1 || a->most > 1 << 24)
				return FAIL(STATUS_INPUT, "sizes %.*s: a bound is 1 to %d", (int)n, at, 1 << 24);
			++*naxis;
		}
		at += n;
	}
	return OK;
}

/* One program for all sizes in range: planned at some of them (passes/plan/dynamic.c). */
static Status plan_for_all(Arena *arena, const Program *program, const DriverOptions *o, Compiled *out)
{
	f64 begun = clock_seconds();
	PlanAxis *axis = NEWN(arena, PlanAxis, PLAN_AXES);
	u32 naxis = 0;
	Buf numbers = { .arena = arena };
	PlanAt *at;
	TRY(read_bounds(arena, program->ir, o, &numbers, axis, &naxis));
	u32 n = plan_points(arena, axis, naxis, &at);
	Compiled first = { 0 };
	const EntryFlops *flops = NULL; /* at most */
	Plan **plan = NEWN(arena, Plan *, n);
	/* the ends of the range first: whether the program is one there */
	for (u32 i = 0; i < n + 2; i++) {
		DriverOptions here = *o;
		Buf sizes = { .arena = arena };
		buf_put(&sizes, buf_str(&numbers));
		for (u32 a = 0; a < naxis; a++)
			buf_printf(&sizes, "%s%s=%lld", sizes.n ? "," : "", axis[a].symbol,
				   (long long)(i == 0 ? 1 : i == 1 ? axis[a].most : at[i - 2].size[a]));
		here.sizes = sizes.text;
		here.like = first.program;
		here.sized = true;
		TRY(plan_at(arena, program, &here, out));
		if (!out->plan)
			return OK;
		if (i == 1)
			flops = out->flops;
		else if (i == 2)
			first = *out;
		if (i >= 2)
			plan[i - 2] = (Plan *)(uintptr_t)out->plan;
	}
	*out = first;
	out->plan = NULL;
	out->flops = flops;
	if (!strcmp(out->backend->name, "null"))
		return FAIL(STATUS_UNSUPPORTED, "sizes with bounds (%s) are for CPUs and GPUs: give them numbers", o->sizes);
	Arena tmp = ARENA("sizes");
	out->plan = plan_for_sizes(&tmp, axis, naxis, at, plan, n, program->ir->diag);
	arena_free(&tmp);
	out->times.passes = clock_seconds() - begun;
	return OK;
}

static Status plan(Arena *arena, const Program *program, const DriverOptions *o, Compiled *out)
{
	return driver_bounds(o->sizes) ? plan_for_all(arena, program, o, out) : plan_at(arena, program, o, out);
}

Status driver_plan(Arena *arena, const Program *program, const DriverOptions *options, Compiled *out)
{
	return plan(arena, program, options, out);
}

Cache *driver_cache(Arena *arena, const DriverOptions *o)
{
	Cache *cache = o->cache;
	return o->no_cache || (!cache && cache_open(arena, NULL, 0, &cache)) ? NULL : cache;
}

Status driver_compile(Arena *arena, const Program *program, const DriverOptions *options, Compiled *out)
{
	f64 begun = clock_seconds();
	TRY(plan(arena, program, options, out));
	if (!out->plan)
		return OK;
	f64 at = clock_seconds();
	TRY(out->backend->code(arena, options, driver_cache(arena, options), out));
	if (options->pipe && has_entry(out->model, "micro_first"))
		set_tasks(arena, options->pipe, (Package *)(uintptr_t)out->package);
	out->times.code = clock_seconds() - at;
	out->times.total = clock_seconds() - begun;
	return OK;
}

void driver_close(Compiled *c)
{
	if (c->code)
		c->backend->close(c->code);
	c->code = NULL;
}
