/* tools/bench_measure.c: see bench.h. */
#include "runtime/cpu/memory.h"
#include "runtime/data/loader.h"
#include "runtime/views.h"
#include "support/clock.h"
#include "tools/bench.h"
#include "tools/peak.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	BATCHES = 4, /* of random inputs, which steps take in turn */
	FETCHES = 4  /* of a step: the loss's sum and count, the gradient's norm, the rate */
};

/* All that a measurement holds while it is under way. */
typedef struct Meter {
	Bench *b;
	Arena *arena;
	Executor *x;
	Loader *loader;
	BatchInputs inputs[BENCH_ENTRIES];  /* with a loader */
	u8 *random[BENCH_ENTRIES][BATCHES]; /* all inputs of an entry, one behind the other */
	u64 count;                          /* of entries run: which batch is next */
	u8 **batch;                         /* of the loader */
	const PackageTensor *loss_sum, *loss_count;
	Fetch pending[FETCHES]; /* of the step before: the device is given a step while it does the last */
	bool has_pending;
	f64 *peak[OPERANDS], *sustained, *moved[DEVICE_MOVES]; /* [runs] */
	GpuWatch *watch; /* or NULL */
	/* of the profile under way */
	f64 *least; /* of an entry's steps */
	BenchEntry *at;
	u32 round; /* how many were done */
} Meter;

static const PackageDtype probed[OPERANDS] = { PACKAGE_F32, PACKAGE_BF16, PACKAGE_F8E4M3 };

/* The narrowest that its products take. */
static Operands narrowest(const Bench *b)
{
	const char *precision = b->options.precision;
	return !precision || !strcmp(precision, "f32") ? OPERANDS_32 : strcmp(precision, "fp8") ? OPERANDS_16 : OPERANDS_8;
}

static Operands operands_of(u8 compute)
{
	return compute == PACKAGE_F8E4M3 ? OPERANDS_8 : compute == PACKAGE_BF16 || compute == PACKAGE_F16 ? OPERANDS_16 : OPERANDS_32;
}

/* ---- compiling ---- */

static Status compile(Meter *m)
{
	Bench *b = m->b;
	static const char *const training[] = { "init", "micro", "update" }, *const forward[] = { "init", "forward" };
	LmCompile how = { .entry = b->options.forward ? forward : training,
			  .nentry = b->options.forward ? COUNT(forward) : COUNT(training),
			  .sizes = b->point.sizes,
			  .memory = b->point.memory,
			  .stream_beyond = b->point.stream_beyond,
			  .precision = b->options.precision,
			  .accumulate = b->accumulate > 1,
			  .run = b->options.run,
			  .no_cache = b->options.cold };
	return lm_compile(b->lm, &how, &b->run);
}

/* Running a kernel once more must not change what it reads as a place in memory: an index that was overwritten with
 * something else would lead anywhere. */
static bool repeatable(const PackageStep *s)
{
	static const u8 integer[] = {
		[PACKAGE_U8] = 1, [PACKAGE_U32] = 1, [PACKAGE_I8] = 1, [PACKAGE_I32] = 1, [PACKAGE_I64] = 1
	};
	for (u32 r = 0; r < s->nslot; r++) {
		const PackageSlot *in = &s->slot_info[r];
		if (!in->read || in->dtype >= COUNT(integer) || !integer[in->dtype])
			continue;
		for (u32 w = 0; w < s->nslot; w++)
			if (s->slot_info[w].written && s->slot[w] == s->slot[r])
				return false;
	}
	return true;
}

static PackageEntry with_repeats(Arena *a, const PackageEntry *e, u32 repeat, u32 **of)
{
	PackageEntry r = *e;
	r.name = arena_printf(a, "%s, %u times", e->name, repeat);
	r.step = NEWN(a, PackageStep, (size_t)e->nstep * repeat + 1);
	*of = NEWN(a, u32, (size_t)e->nstep * repeat + 1);
	r.nstep = 0;
	for (u32 i = 0; i < e->nstep; i++)
		for (u32 k = 0; k < (repeatable(&e->step[i]) ? repeat : 1); k++) {
			(*of)[r.nstep] = i;
			r.step[r.nstep++] = e->step[i];
		}
	return r;
}

/* The entries of a step, and a package that has their profiled forms too. */
static Status find_entries(Meter *m)
{
	Bench *b = m->b;
	static const char *const training[] = { "micro_first", "micro", "update" }, *const forward[] = { "forward" };
	const char *const *name = b->options.forward ? forward : training;
	u32 n = b->options.forward ? COUNT(forward) : COUNT(training);
	const Package *from = b->run.package;
	Package *p = COPYN(m->arena, Package, from, 1);
	p->entry = NEWN(m->arena, PackageEntry, from->nentry + n);
	memcpy(p->entry, from->entry, from->nentry * sizeof *p->entry);
	for (u32 i = 0; i < n; i++) {
		const PackageEntry *e = package_entry(p, name[i]);
		if (!e && !strcmp(name[i], "micro"))
			continue;
		if (!e)
			return FAIL(STATUS_INPUT, "the program has no entry '%s'", name[i]);
		BenchEntry *to = &b->entry[b->nentry++];
		*to = (BenchEntry){ .entry = e, .profiled = e };
		to->times = !strcmp(name[i], "micro") ? b->accumulate - 1 : 1;
		u32 repeat = MAX(b->options.repeat, 1u);
		PackageEntry profiled = with_repeats(m->arena, e, repeat, &to->of);
		if (repeat > 1) {
			p->entry[p->nentry] = profiled;
			to->profiled = &p->entry[p->nentry++];
		}
		to->seconds = NEWN(m->arena, f64, (size_t)e->nstep * b->options.runs + 1);
		b->flops += e->model_flops * to->times;
		b->flops_full += e->model_flops_full * to->times;
		b->kernel_flops += e->hardware_flops * to->times;
		if (e->ninput && e->input[0].rank)
			b->tokens += (f64)e->input[0].dim[0] * (e->input[0].rank > 1 ? (f64)e->input[0].dim[1] : 1) *
				     to->times;
	}
	b->run.package = p;
	return OK;
}

/* ---- inputs ---- */

static u64 next_random(u64 *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
	return *state >> 33;
}

/* Ids below which every integer input is taken to be: the model's classes; or 2, which no table or count of classes is
 * below, where the first result's last axis is of a batch (CLIP's texts). */
static u64 classes(const Lm *lm)
{
	i64 logits;
	return lm_logits(lm, &logits) ? (u64)logits : 2;
}

static Status fill(const PackageTensor *t, u64 below, u64 *state, u8 *to)
{
	static const u8 width[] = { [PACKAGE_B1] = 1,  [PACKAGE_U8] = 1,  [PACKAGE_U32] = 4, [PACKAGE_I8] = 1,
				    [PACKAGE_I32] = 4, [PACKAGE_I64] = 8, [PACKAGE_F32] = 4, [PACKAGE_F64] = 8 };
	u32 bytes = t->dtype < COUNT(width) ? width[t->dtype] : 0;
	if (!bytes)
		return FAIL(STATUS_UNSUPPORTED, "the input '%s' is of a type that no random values are made for",
			    t->name);
	for (u64 i = 0; i < t->bytes / bytes; i++) {
		u64 n = next_random(state);
		i64 id = (i64)(t->dtype == PACKAGE_B1 ? n & 1 : n % MIN(below, bytes == 1 ? 127u : UINT32_MAX));
		f64 real = (f64)n * 0x1p-30 - 1; /* -1 to 1 */
		f32 single = (f32)real;
		const void *from = t->dtype == PACKAGE_F32   ? (const void *)&single
				   : t->dtype == PACKAGE_F64 ? (const void *)&real
							     : &id;
		memcpy(to + i * bytes, from, bytes);
	}
	return OK;
}

static Status random_inputs(Meter *m)
{
	u64 below = classes(m->b->lm), state = 1;
	for (u32 e = 0; e < m->b->nentry; e++) {
		const PackageEntry *entry = m->b->entry[e].entry;
		for (u32 k = 0; k < BATCHES; k++) {
			u64 at = 0;
			for (u32 i = 0; i < entry->ninput; i++)
				at += entry->input[i].bytes;
			m->random[e][k] = NEWN(m->arena, u8, at + 1);
			at = 0;
			for (u32 i = 0; i < entry->ninput; at += entry->input[i++].bytes)
				TRY(fill(&entry->input[i], below, &state, m->random[e][k] + at));
		}
	}
	return OK;
}

static Status open_data(Meter *m)
{
	if (!m->b->options.data)
		return random_inputs(m);
	for (u32 e = 0; e < m->b->nentry; e++)
		if (m->b->entry[e].entry->ninput)
			TRY(batch_inputs(m->x, m->b->entry[e].entry->name, &m->inputs[e]));
	const BatchInputs *t = &m->inputs[0];
	m->batch = batch_room(m->arena, t);
	LoaderConfig c = { .order = LOADER_SHUFFLE, .input = t->input, .batch = t->rows, .ahead = 4 };
	return loader_open(m->arena, m->b->options.data, c, &m->loader);
}

static Status give_inputs(Meter *m, u32 e)
{
	const PackageEntry *entry = m->b->entry[e].entry;
	if (!entry->ninput)
		return OK;
	if (m->loader) {
		u32 rows;
		bool more;
		TRY(loader_next(m->loader, m->batch, &rows, &more));
		for (u32 i = 0; i < entry->ninput; i++)
			TRY(executor_write(m->x, &entry->input[i], m->batch[i]));
		return OK;
	}
	const u8 *from = m->random[e][m->count++ % BATCHES];
	for (u32 i = 0; i < entry->ninput; from += entry->input[i++].bytes)
		TRY(executor_write(m->x, &entry->input[i], from));
	return OK;
}

/* ---- steps ---- */

static bool on_kernel(void *cx, const PackageEntry *entry, u32 step, f64 seconds)
{
	Meter *m = cx;
	(void)entry;
	const u32 *of = m->at->of;
	u32 o = of[step];
	bool first = !step || of[step - 1] != o, more = step + 1 < m->at->profiled->nstep && of[step + 1] == o;
	if (!first || !more) /* the first of several finds cold caches */
		m->least[o] = MIN(m->least[o], seconds);
	return true;
}

static Status profile_entry(Meter *m, BenchEntry *e, u32 profile)
{
	u32 n = e->entry->nstep;
	for (u32 i = 0; i < n; i++)
		m->least[i] = INFINITY;
	m->at = e;
	TRY(executor_run(m->x, e->profiled, on_kernel, m));
	for (u32 i = 0; i < n; i++)
		e->seconds[(size_t)profile * n + i] += m->least[i];
	return OK;
}

/* The numbers of the step that is under way, once it is done. */
static Status settle(Meter *m, f64 *loss)
{
	f64 value[FETCHES];
	if (!m->has_pending)
		return OK;
	m->has_pending = false;
	for (u32 i = 0; i < FETCHES; i++)
		TRY(executor_fetched(m->x, m->pending[i], NAN, &value[i]));
	*loss = value[0] / value[1];
	return OK;
}

/* As the training loop does it: a step is given to the device before the last one's numbers are awaited. `profile`
 * NONE: none. `loss` becomes that of the step before. */
static Status one_step(Meter *m, u32 profile, f64 *loss)
{
	Bench *b = m->b;
	Fetch now[FETCHES] = { { 0 } };
	for (u32 e = 0; e < b->nentry; e++) {
		BenchEntry *at = &b->entry[e];
		bool update = !strcmp(at->entry->name, "update");
		if (update) {
			TRY(executor_fetch(m->x, m->loss_sum, &now[0]));
			TRY(executor_fetch(m->x, m->loss_count, &now[1]));
		}
		for (u32 t = 0; t < at->times; t++) {
			TRY(give_inputs(m, e));
			if (profile == NONE)
				TRY(executor_run(m->x, at->entry, NULL, NULL));
			else
				TRY(profile_entry(m, at, profile));
		}
		if (update) {
			TRY(executor_fetch(m->x, executor_result(at->entry, "grad_norm"), &now[2]));
			TRY(executor_fetch(m->x, executor_result(at->entry, "lr"), &now[3]));
		}
	}
	TRY(settle(m, loss));
	memcpy(m->pending, now, sizeof now);
	m->has_pending = true;
	return OK;
}

/* Steps from beginning to end. */
static Status some_steps(Meter *m, u32 n, u32 profile, f64 *loss, f64 *seconds)
{
	f64 begun = clock_seconds();
	for (u32 i = 0; i < n; i++)
		TRY(one_step(m, profile, loss));
	TRY(settle(m, loss));
	TRY(executor_synchronize(m->x));
	*seconds = clock_seconds() - begun;
	return OK;
}

static Status probe(Meter *m, u32 r)
{
	Executor *x = m->x;
	f64 rate[DEVICE_MOVES] = { 0 };
	if (m->b->options.no_probes)
		return OK;
	for (u32 k = 0; k < OPERANDS; k++)
		m->peak[k][r] = x->device->peak(x->state, probed[k]);
	if (x->device->bandwidth)
		TRY(x->device->bandwidth(x->state, rate));
	for (int k = 0; k < DEVICE_MOVES; k++)
		m->moved[k][r] = rate[k];
	return OK;
}

/* The peak of what the step's products take, as it is kept up now: of narrowest operands that the device knows a peak of in this round. */
static f64 sustained(Meter *m, u32 r)
{
	Executor *x = m->x;
	if (m->b->options.no_probes)
		return 0;
	Operands at = narrowest(m->b);
	while (at > OPERANDS_32 && !(m->peak[at][r] > 0))
		at--;
	PackageDtype dtype = probed[at];
	return x->device->sustained ? x->device->sustained(x->state, dtype) : x->device->peak(x->state, dtype);
}

static Status first_steps(Meter *m)
{
	Bench *b = m->b;
	const PackageEntry *init = package_entry(b->run.package, "init");
	const PackageBuffer *sum = executor_buffer(m->x, "loss_sum"), *count = executor_buffer(m->x, "loss_count");
	m->loss_sum = sum ? &sum->tensor : NULL;
	m->loss_count = count ? &count->tensor : NULL;
	const PackageTensor *seed = init ? executor_input(init, "seed") : NULL;
	i64 zero = 0;
	if (seed)
		TRY(executor_write(m->x, seed, &zero));
	f64 begun = clock_seconds(), loss, took;
	if (init)
		TRY(executor_run(m->x, init, NULL, NULL));
	TRY(executor_synchronize(m->x));
	f64 ready = clock_seconds();
	b->start.values = ready - begun;
	b->start.launch = ready - b->options.started - b->start.memory - b->start.values;
	TRY(some_steps(m, 1, NONE, &b->loss[0], &took));
	b->start.step = clock_seconds() - b->options.started;
	TRY(some_steps(m, 2, NONE, &loss, &took));
	b->steps = b->options.steps ? b->options.steps : (u32)MIN(MAX(ceil(2 / MAX(took, 1e-6)), 1), 1000);
	return OK;
}

Status bench_round(Bench *b)
{
	Meter *m = b->meter;
	u32 r = m->round++;
	f64 loss, seconds;
	TRY(probe(m, r));
	f64 before = sustained(m, r);
	gpu_watch_begin(m->watch);
	Status s = some_steps(m, b->steps, NONE, &b->loss[1], &seconds);
	gpu_watch_end(m->watch);
	TRY(s);
	m->sustained[r] = (before + sustained(m, r)) / 2;
	b->run_seconds[r] = seconds / b->steps;
	return some_steps(m, 1, r, &loss, &seconds);
}

/* ---- what came out ---- */

static bool changes_buffer(const PackageStep *s)
{
	bool changes = false;
	for (u32 i = 0; i < s->nslot; i++)
		changes |= s->slot_info[i].written && s->slot_info[i].place == PACKAGE_PERSISTENT;
	return changes;
}

static void gather_limit(Meter *m)
{
	Bench *b = m->b;
	u32 n = b->options.runs;
	b->sustained = spread_of(m->sustained, n);
	if (!(b->sustained.least > 0) || !(b->limit.bandwidth > 0) || !(b->step_peak > 0))
		return;
	f64 memory = b->optimizer_bytes / b->limit.bandwidth, *limit = NEWN(m->arena, f64, n), *of = NEWN(m->arena, f64, n);
	f64 *best = NEWN(m->arena, f64, n);
	for (u32 r = 0; r < n; r++) {
		limit[r] = b->flops / m->sustained[r] + memory;
		of[r] = limit[r] / b->run_seconds[r];
		best[r] = (b->flops / b->step_peak + memory) / b->run_seconds[r];
	}
	b->limit_seconds = spread_of(limit, n);
	b->of_limit = spread_of(of, n);
	b->of_best_limit = spread_of(best, n);
}

static void gather_kernels(Meter *m)
{
	Bench *b = m->b;
	u32 n = 0, runs = b->options.runs;
	for (u32 e = 0; e < b->nentry; e++)
		n += b->entry[e].entry->nstep;
	b->kernel = NEWN(m->arena, KernelRun, n + 1);
	f64 *all = NEWN(m->arena, f64, runs + 1);
	for (u32 e = 0; e < b->nentry; e++) {
		const BenchEntry *at = &b->entry[e];
		for (u32 i = 0; i < at->entry->nstep; i++) {
			const PackageStep *s = &at->entry->step[i];
			f64 *seconds = NEWN(m->arena, f64, runs + 1);
			for (u32 r = 0; r < runs; r++) {
				seconds[r] = at->seconds[(size_t)r * at->entry->nstep + i];
				all[r] += seconds[r];
			}
			bool alone = b->options.repeat > 1;
			b->kernel[b->nkernel] = (KernelRun){
				/* both halves of a micro-step are one */
				.entry = !strncmp(at->entry->name, "micro", 5) ? "micro" : at->entry->name,
				.name = alone ? s->class : s->name,
				.class = s->class,
				.shape = s->shape,
				.file = s->file,
				.line = s->line,
				.times = at->times,
				.flops = s->flops,
				.bytes = s->bytes,
				.operands = operands_of(s->compute),
				.seconds = seconds,
			};
			const KernelRun *run = &b->kernel[b->nkernel++];
			f64 bound = roofline_bound(&b->limit, run->flops, run->bytes, run->operands).seconds * run->times;
			b->bound.seconds += bound;
			b->kernel_bytes += run->bytes * run->times;
			if (!strcmp(run->entry, "update") && changes_buffer(s))
				b->optimizer_bytes += run->bytes * run->times;
		}
	}
	b->kernels = spread_of(all, runs);
	b->ngroup = kernel_groups(m->arena, b->kernel, b->nkernel, runs, &b->limit, &b->group);
}

static f64 load_now(void)
{
	f64 load = 0;
	return getloadavg(&load, 1) == 1 ? load : NAN;
}

static Spread of_samples(Arena *a, const GpuSample *s, u32 n, size_t field)
{
	f64 *v = NEWN(a, f64, n + 1);
	for (u32 i = 0; i < n; i++)
		v[i] = *(const f64 *)(const void *)((const u8 *)&s[i] + field);
	return spread_of(v, n);
}

static void gather_clocks(Meter *m)
{
	Bench *b = m->b;
	const GpuSample *s;
	u32 n = m->watch ? gpu_watch_samples(m->watch, &s) : 0;
	if (!n)
		return;
	b->has_clocks = true;
	b->sm_mhz = of_samples(m->arena, s, n, offsetof(GpuSample, sm_mhz));
	b->memory_mhz = of_samples(m->arena, s, n, offsetof(GpuSample, memory_mhz));
	b->watts = of_samples(m->arena, s, n, offsetof(GpuSample, watts));
	b->celsius = of_samples(m->arena, s, n, offsetof(GpuSample, celsius));
	b->most_mhz = gpu_watch_most_mhz(m->watch);
	b->limit_watts = gpu_watch_limit_watts(m->watch);
	b->held = gpu_watch_reasons(m->watch);
}

void bench_finish(Bench *b, const Bench *first)
{
	Meter *m = b->meter;
	u32 runs = b->options.runs;
	if (first) {
		f64 *ratio = NEWN(m->arena, f64, runs);
		for (u32 r = 0; r < runs; r++)
			ratio[r] = b->run_seconds[r] / first->run_seconds[r];
		b->beside = spread_of(ratio, runs);
	}
	b->step = spread_of(b->run_seconds, runs);
	for (u32 k = 0; k < OPERANDS; k++) {
		b->peak[k] = spread_of(m->peak[k], runs);
		b->limit.flops[k] = b->peak[k].median;
	}
	for (int k = 0; k < DEVICE_MOVES; k++) {
		b->bandwidth[k] = spread_of(m->moved[k], runs);
		b->limit.bandwidth = MAX(b->limit.bandwidth, b->bandwidth[k].median);
	}
	b->step_peak = limit_flops(&b->limit, narrowest(b));
	b->load[1] = load_now();
	gather_clocks(m);
	gather_kernels(m);
	gather_limit(m);
}

static Status open(Meter *m)
{
	Bench *b = m->b;
	TRY(compile(m));
	TRY(find_entries(m));
	b->resident_before = host_memory_peak();
	u64 faults = host_page_faults();
	f64 begun = clock_seconds();
	TRY(lm_executor(&b->run, b->options.run));
	b->start.memory = clock_seconds() - begun;
	b->start.faults = host_page_faults() - faults;
	Executor *x = m->x = b->run.executor;
	DeviceInfo info;
	DeviceOptions o;
	TRY(run_options(b->options.run, &o));
	TRY(x->device->info(o.index, &info));
	b->device = x->device->name;
	b->machine = arena_printf(m->arena, "%s, %s", x->device->describe(x->state, m->arena), b->run.compiled.machine);
	b->datasheet = peak_published(&info, b->options.precision);
	/* where it cannot be had, there are no clocks to show */
	if (!strcmp(b->device, "cuda") && gpu_watch_open(o.index, info.name, &m->watch))
		m->watch = NULL;
	TRY(open_data(m));
	TRY(first_steps(m));
	b->held_bytes = executor_bytes(x);
	b->resident = host_memory_peak(); /* before probes take their own */
	u32 most = 1;
	for (u32 e = 0; e < b->nentry; e++)
		most = MAX(most, b->entry[e].entry->nstep);
	m->least = NEWN(m->arena, f64, most);
	return OK;
}

Status bench_open(Lm *lm, const BenchOptions *options, BenchPoint point, bool lenient, Bench *out)
{
	*out = (Bench){ .lm = lm, .options = *options, .point = point };
	out->accumulate = (u32)MAX(lm->model->accumulate, 1);
	out->options.runs = MAX(options->runs, 1u);
	out->load[0] = load_now();
	Meter *m = out->meter = NEW(&lm->arena, Meter);
	*m = (Meter){ .b = out, .arena = &lm->arena };
	u32 runs = out->options.runs;
	out->run_seconds = NEWN(m->arena, f64, runs);
	for (u32 k = 0; k < OPERANDS; k++)
		m->peak[k] = NEWN(m->arena, f64, runs);
	m->sustained = NEWN(m->arena, f64, runs);
	for (int k = 0; k < DEVICE_MOVES; k++)
		m->moved[k] = NEWN(m->arena, f64, runs);
	Status s = open(m);
	if (s && lenient && (s->code == STATUS_MEMORY || s->code == STATUS_UNSUPPORTED || s->code == STATUS_CONTRACT)) {
		out->failed = arena_printf(m->arena, "%s", s->text);
		s = OK;
	}
	return s;
}

void bench_release(Bench *b)
{
	if (b->meter) {
		loader_close(b->meter->loader);
		gpu_watch_close(b->meter->watch);
	}
	b->meter = NULL;
	if (b->run.executor)
		executor_destroy(b->run.executor);
	b->run.executor = NULL;
}

void bench_close(Bench *b)
{
	bench_release(b);
	lm_run_close(&b->run);
}
