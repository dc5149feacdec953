/* tools/packaged_write.c: packages written: see packaged.h. */
#include "tools/kept.h"
#include "tools/packaged.h"
#include "tools/sizes.h"

#include <stdlib.h>
#include <string.h>

#if PLINTH_LLVM
#include "tools/driver_objects.h"
#endif

/* A program to be compiled: its entries at some sizes. */
typedef struct Job {
	const char *entry[16];
	u32 nentry;
	const char *sizes;
	i64 capacity;
} Job;

typedef struct Writer {
	Lm *lm;
	Arena *arena;
	const PackagedOptions *o;
	Cache *cache;
	PackageFile file;
	VEC(PackageVariant) variant;
} Writer;

static DriverOptions options(const Writer *w, const Job *job)
{
	return (DriverOptions){ .entry = job->entry, .nentry = job->nentry, .sizes = job->sizes, .precision = w->file.precision,
				.decode_along = job->capacity ? "T" : NULL, .capacity = job->capacity,
				.accumulate = w->lm->model->accumulate > 1, .threads = w->o->threads };
}

static Status plan(Writer *w, const DriverOptions *d, Compiled *out)
{
	TRY(driver_plan(w->arena, w->lm->model->program, d, out));
	return out->plan ? OK : FAIL(STATUS_INPUT, "%s cannot be compiled", w->lm->operand.source);
}

/* As the variant says them. */
static const char *sizes_of(Writer *w, const Job *job)
{
	return job->capacity ? arena_printf(w->arena, "%s%scapacity=%lld", job->sizes, *job->sizes ? "," : "", (long long)job->capacity) :
			       job->sizes;
}

/* ---- processors ---- */

#if PLINTH_LLVM
static Status add_cpu(Writer *w, const Job *job, const char *cpu)
{
	DriverOptions d = options(w, job);
	d.device = "cpu";
	d.cpu = cpu;
	Kept kept = kept_of(w->arena, &w->lm->source, &d, w->cache);
	PackageVariant v;
	if (!kept_find(w->arena, &kept, &v)) {
		Compiled c;
		TRY(plan(w, &d, &c));
		TRY(driver_variant(w->arena, &d, w->cache, &c, &v));
		kept_put(w->arena, &kept, &v);
	}
	v.sizes = sizes_of(w, job);
	VEC_PUSH(w->arena, &w->variant, v);
	return OK;
}
#else
static Status add_cpu(Writer *w, const Job *job, const char *cpu)
{
	Compiled c;
	DriverOptions d = options(w, job);
	d.device = "cpu";
	d.cpu = cpu;
	return plan(w, &d, &c); /* says that this build cannot */
}
#endif

static Status add_cuda(Writer *w, const Job *job, const char *arch)
{
	DriverOptions d = options(w, job);
	Compiled c;
	d.device = "cuda";
	d.arch = arch;
	TRY(plan(w, &d, &c));
	TRY(c.backend->code(w->arena, &d, w->cache, &c));
	VEC_PUSH(w->arena, &w->variant, (PackageVariant){ .machine = arch, .cpu = "", .features = "", .sizes = sizes_of(w, job),
							  .package = *c.package });
	if (c.code)
		c.backend->close(c.code);
	return OK;
}

typedef Status Add(Writer *w, const Job *job, const char *name);

/* For each of the names between commas, behind which features may stand: "a,+f,b". */
static Status each(Writer *w, const Job *job, const char *list, Add *add)
{
	for (const char *at = list; *at;) {
		size_t n = strcspn(at, ",");
		while (at[n] == ',' && (at[n + 1] == '+' || at[n + 1] == '-'))
			n += 1 + strcspn(at + n + 1, ",");
		if (n)
			TRY(add(w, job, arena_printf(w->arena, "%.*s", (int)n, at)));
		at += n + (at[n] == ',');
	}
	return OK;
}

static Status add_program(Writer *w, const Job *job)
{
	const PackagedOptions *o = w->o;
	bool cpu = !strcmp(o->device, "cpu"), cuda = !strcmp(o->device, "cuda"), both = !strcmp(o->device, "cpu,cuda");
	if (!cpu && !cuda && !both)
		return FAIL(STATUS_INPUT, "--device %s: cpu, cuda, or cpu,cuda", o->device);
	TRY(driver_device_options(o->device, o->cpu, o->arch, NULL));
	if (cuda || both)
		TRY(each(w, job, o->arch ? o->arch : "sm_90a", add_cuda));
	return cpu || both ? each(w, job, o->cpu ? o->cpu : "host", add_cpu) : OK;
}

/* ---- what is in it ---- */

static void add_entry(Job *job, const char *name)
{
	assert(job->nentry < COUNT(job->entry));
	job->entry[job->nentry++] = name;
}

static Status training(Writer *w, const char *sizes)
{
	Job step = { .sizes = sizes };
	const char *eval[LM_EVALS];
	u64 samples;
	add_entry(&step, "init");
	add_entry(&step, "micro");
	add_entry(&step, "update");
	for (u32 i = 0, n = lm_evals(w->lm, eval); i < n; i++)
		add_entry(&step, eval[i]);
	TRY(add_program(w, &step));
	TRY(lm_count(w->lm, "train.sample.every", 0, 0, &samples));
	if (!samples)
		return OK;
	Job sample = { 0 };
	add_entry(&sample, "forward");
	TRY(lm_sizes(w->lm, 1, 0, &sample.sizes));
	return add_program(w, &sample);
}

static Status programs(Writer *w, const char *sizes)
{
	const PackagedOptions *o = w->o;
	if (o->nentry) {
		Job given = { .sizes = sizes };
		if (o->nentry > COUNT(given.entry))
			return FAIL(STATUS_INPUT, "--entry: at most %zu", COUNT(given.entry));
		for (u32 i = 0; i < o->nentry; i++)
			add_entry(&given, o->entry[i]);
		return add_program(w, &given);
	}
	if (o->capacity) {
		Job decode = { .sizes = sizes, .capacity = o->capacity };
		add_entry(&decode, "prefill");
		add_entry(&decode, "decode");
		return add_program(w, &decode);
	}
	if (w->lm->model->has_train && !o->forward)
		return training(w, sizes);
	Job forward = { .sizes = sizes };
	add_entry(&forward, "init");
	add_entry(&forward, "forward");
	return add_program(w, &forward);
}

static void add_source(Writer *w)
{
	const SourceFile *s = &w->lm->source;
	PackageFile *f = &w->file;
	f->text = NEWN(w->arena, PackageText, s->use.n + 1);
	f->text[f->ntext++] = (PackageText){ "model.plinth", { (const u8 *)s->text.s, s->text.n } };
	for (u32 i = 0; i < s->use.n; i++)
		f->text[f->ntext++] = (PackageText){ s->use.v[i].name, { (const u8 *)s->use.v[i].text.s, s->use.v[i].text.n } };
	f->nset = (u32)w->lm->operand.options.set.n;
	f->set = w->lm->operand.options.set.v;
}

static void add_model(Writer *w)
{
	const Model *m = w->lm->model;
	PackageFile *f = &w->file;
	const SourceOptions *given = &w->lm->operand.options;
	f->model = m->name;
	f->source = w->lm->operand.source;
	f->preset = given->preset ? given->preset : "";
	f->accumulate = MAX(m->accumulate, 1);
	f->has_train = m->has_train;
	if (!lm_logits(w->lm, &f->logits))
		f->logits = 0;
	f->setting = NEWN(w->arena, PackageSetting, m->setting.n + 1);
	for (u32 i = 0; i < m->setting.n; i++)
		f->setting[f->nsetting++] = (PackageSetting){ m->setting.v[i].key, m->setting.v[i].text, m->setting.v[i].is_number,
							      m->setting.v[i].number };
	f->rename = NEWN(w->arena, PackageRename, m->weight.n + 1);
	for (u32 i = 0; i < m->weight.n; i++) {
		const char *to = m->weight.v[i].replacement;
		f->rename[f->nrename++] = (PackageRename){ m->weight.v[i].pattern, to ? to : "", !to };
	}
}

/* The numbers of `sizes`, "B=8,T=256", by which those who run it ask for them. */
static Status add_sizes(Writer *w, const char *sizes)
{
	const char **symbol;
	PackageFile *f = &w->file;
	u32 n = sizes_symbols(w->arena, w->lm->model, &symbol);
	f->size = NEWN(w->arena, PackageSize, n + 1);
	for (u32 i = 0; i < n; i++) {
		const char *at = sizes;
		size_t length = strlen(symbol[i]);
		while (at && (strncmp(at, symbol[i], length) != 0 || (at[length] != '=' && at[length] != '<'))) {
			at = strchr(at, ',');
			at += at != NULL;
		}
		if (!at)
			return FAIL(STATUS_INPUT, "how large is %s? --sizes %s=..", symbol[i], symbol[i]);
		f->size[f->nsize++] = (PackageSize){ symbol[i], strtoll(at + length + strspn(at + length, "<="), NULL, 10) };
	}
	return OK;
}

Status packaged_write(Lm *lm, const PackagedOptions *o)
{
	Writer w = { .lm = lm, .arena = &lm->source.arena, .o = o };
	const char *precision = o->precision ? o->precision : lm->model->precision, *sizes;
	w.file.precision = precision ? precision : "f32";
	TRY(sizes_check(w.arena, lm->model, "--sizes", o->sizes, true));
	bool trains = lm->model->has_train && !o->forward && !o->capacity;
	const char *given = trains ? o->sizes : sizes_dynamic(w.arena, lm->model, o->sizes);
	TRY(sizes_numbers(w.arena, lm->model, given, &sizes));
	add_model(&w);
	add_source(&w);
	TRY(add_sizes(&w, sizes));
	w.cache = driver_cache(w.arena, &(DriverOptions){ .no_cache = false });
	TRY(programs(&w, sizes));
	w.file.variant = w.variant.v;
	w.file.nvariant = w.variant.n;
	if (!w.variant.n)
		return FAIL(STATUS_INPUT, "--cpu and --arch name no machine");
	Blob bytes = package_file_bytes(w.arena, &w.file);
	TRY(io_write(o->path, bytes));
	printf("%s: %s, %s: ", o->path, lm->model->name, lm_bytes(w.arena, bytes.n));
	for (u32 i = 0; i < w.variant.n; i++) {
		const PackageVariant *v = &w.variant.v[i];
		u32 kernels = 0;
		for (u32 e = 0; e < v->package.nentry; e++)
			kernels += v->package.entry[e].nstep;
		printf("%s%s for %s (%s), %u kernels", i ? "; " : "", v->package.entry[v->package.nentry - 1].name,
		       *v->cpu ? v->cpu : v->machine, v->sizes, kernels);
	}
	putchar('\n');
	return OK;
}
