/* tools/packaged.c: packages read: see packaged.h. */
#include "tools/packaged.h"
#include "runtime/evaluate.h"
#include "support/cpu_features.h"

#include <stdlib.h>
#include <string.h>

bool packaged(const char *operand)
{
	return str_ends(str_of(operand), STR(".plx"));
}

/* ---- opening ---- */

/* What the code does not depend on. */
static bool is_for_the_run(const char *key)
{
	static const char *const prefix[] = { "train.steps", "train.seed", "train.evaluate.", "train.checkpoint.", "train.sample.",
					      "train.log.", "generate.", "data." };
	for (u32 i = 0; i < COUNT(prefix); i++)
		if (str_starts(str_of(key), str_of(prefix[i])))
			return true;
	return false;
}

static Status set(Lm *lm, Model *m, const char *text)
{
	size_t n = strcspn(text, "=");
	Setting s = { .key = arena_printf(&lm->arena, "%.*s", (int)n, text) };
	if (!text[n] || !is_for_the_run(s.key))
		return FAIL(STATUS_INPUT, "--set %s: the code of %s is made; what can be set is train.steps, train.seed, train.evaluate, "
			    "train.checkpoint, train.sample and train.log", text, lm->operand.source);
	Str value = str_of(text + n + 1);
	if (value.n > 1 && value.s[0] == '"' && value.s[value.n - 1] == '"')
		value = (Str){ value.s + 1, value.n - 2 };
	s.text = arena_strn(&lm->arena, value);
	char *end;
	s.number = strtod(s.text, &end);
	s.is_number = *s.text && !*end;
	for (u32 i = 0; i < m->setting.n; i++)
		if (!strcmp(m->setting.v[i].key, s.key)) {
			m->setting.v[i] = s;
			return OK;
		}
	VEC_PUSH(&lm->arena, &m->setting, s);
	return OK;
}

/* As elaboration leaves it, but for the program. */
static Model *model_of(Lm *lm, const PackageFile *f)
{
	Arena *a = &lm->arena;
	Model *m = NEW(a, Model);
	m->name = f->model;
	m->accumulate = f->accumulate;
	m->precision = *f->precision ? f->precision : NULL;
	m->has_train = f->has_train;
	for (u32 i = 0; i < f->nsetting; i++)
		VEC_PUSH(a, &m->setting, (Setting){ .key = f->setting[i].key, .text = f->setting[i].text,
						    .number = f->setting[i].number, .is_number = f->setting[i].is_number });
	for (u32 i = 0; i < f->nrename; i++)
		VEC_PUSH(a, &m->weight, (WeightsLine){ f->rename[i].pattern, f->rename[i].ignored ? NULL : f->rename[i].replacement });
	for (u32 i = 0; i < f->nsize; i++) {
		VEC_PUSH(a, &m->symbol, f->size[i].symbol);
		VEC_PUSH(a, &m->symbol_value, f->size[i].value);
	}
	return m;
}

/* The source, for the run's folder. */
static void keep_source(Lm *lm, const PackageFile *f)
{
	SourceFile *s = &lm->source;
	s->text = (Str){ (const char *)f->text[0].text.p, f->text[0].text.n };
	for (u32 i = 1; i < f->ntext; i++)
		VEC_PUSH(&s->arena, &s->use, (SourceUse){ f->text[i].name, { (const char *)f->text[i].text.p, f->text[i].text.n } });
	lm->operand.options.preset = *f->preset ? f->preset : NULL;
	lm->operand.options.set.v = f->set;
	lm->operand.options.set.n = (int)f->nset;
}

Status packaged_open(const char *path, const SourceOptions *given, Lm *out)
{
	out->operand.source = path;
	out->source = (SourceFile){ .arena = ARENA("package") };
	out->source.diag.arena = &out->source.arena;
	TRY(io_map(path, &out->mapping));
	PackageFile *f = NEW(&out->arena, PackageFile);
	TRY(package_file_open(&out->arena, path, out->mapping.bytes, f));
	if (given->preset || given->config)
		return FAIL(STATUS_INPUT, "--%s: the code of %s is made; give it to `plinth compile`", given->preset ? "preset" : "config", path);
	out->file = f;
	Model *m = model_of(out, f);
	keep_source(out, f);
	for (int i = 0; i < given->set.n; i++)
		TRY(set(out, m, given->set.v[i]));
	out->model = m;
	return OK;
}

u32 packaged_evals(const Lm *lm, const char **entry, u32 n, u32 most)
{
	const Package *p = &lm->file->variant[0].package;
	for (u32 i = 0; i < p->nentry && n < most; i++)
		if (str_starts(str_of(p->entry[i].name), STR(EVALUATE_NAMED)))
			entry[n++] = p->entry[i].name;
	return n;
}

/* ---- choosing ---- */

/* A training step's forward and backward half is the entry micro_first, and with several micro-steps micro. */
static const char *missing_entry(const Package *p, const LmCompile *how)
{
	for (u32 i = 0; i < how->nentry; i++) {
		bool first = !strcmp(how->entry[i], "micro") && package_entry(p, "micro_first");
		if (!first && !package_entry(p, how->entry[i]))
			return how->entry[i];
	}
	return NULL;
}

/* Does the device at hand run code for this architecture? "sm_90a" is for 9.0 alone, "sm_80" for 8.x from 0 on. */
static Status check_arch(const RunOptions *run, const char *arch)
{
	const Device *device;
	u32 index = 0;
	DeviceInfo info;
	TRY(device_parse(run->device ? run->device : "cuda", &device, &index));
	TRY(device->info(index, &info));
	char *end;
	unsigned long number = strtoul(arch + strcspn(arch, "_") + (strchr(arch, '_') != NULL), &end, 10);
	bool fits = number / 10 == info.major && (*end ? number % 10 == info.minor : number % 10 <= info.minor);
	return fits ? OK : FAIL(STATUS_UNSUPPORTED, "its code is for %s, and %s has compute capability %u.%u", arch, info.name, info.major,
				info.minor);
}

/* Is "T=64" among "B=8,T=64"? */
static bool has_size(const char *sizes, Str one)
{
	for (const char *at = sizes; *at;) {
		size_t length = strcspn(at, ",");
		if (str_equal((Str){ at, length }, one))
			return true;
		at += length + (at[length] == ',');
	}
	return false;
}

/* The number of each axis in "B=1,T=7"; sizes that code has a number for must be that. */
static Status read_sizes(const PackageVariant *v, const char *sizes, i64 *size)
{
	const Package *p = &v->package;
	for (u32 a = 0; a < p->naxis; a++)
		size[a] = 0;
	for (const char *at = sizes ? sizes : ""; *at;) {
		size_t length = strcspn(at, ","), name = strcspn(at, "=,");
		bool known = false;
		for (u32 a = 0; a < p->naxis; a++)
			if (strlen(p->axis[a].name) == name && !strncmp(p->axis[a].name, at, name)) {
				size[a] = strtoll(at + name + 1, NULL, 10);
				known = true;
			}
		if (!known && !has_size(v->sizes, (Str){ at, length }))
			return FAIL(STATUS_INPUT, "it has code for sizes %s, not for %s", v->sizes, sizes);
		at += length + (at[length] == ',');
	}
	for (u32 a = 0; a < p->naxis; a++)
		if (!size[a])
			return FAIL(STATUS_INPUT, "it is for all %s: how large is %s?", v->sizes, p->axis[a].name);
	const char *why = package_refuses_sizes(p, size);
	return why ? FAIL(STATUS_INPUT, "it has code for sizes %s, not for %s: %s", v->sizes, sizes, why) : OK;
}

i64 packaged_capacity(const Lm *lm)
{
	for (u32 i = 0; i < lm->file->nvariant; i++) {
		const char *at = strstr(lm->file->variant[i].sizes, "capacity=");
		if (at)
			return strtoll(at + strlen("capacity="), NULL, 10);
	}
	return 0;
}

i64 packaged_most(const Lm *lm, const char *size)
{
	const Package *p = &lm->file->variant[0].package;
	for (u32 a = 0; a < p->naxis; a++)
		if (!strcmp(p->axis[a].name, size))
			return p->axis[a].most;
	return 0;
}

/* The sizes asked for, as a variant says them. */
static const char *sizes_asked(Arena *a, const LmCompile *how)
{
	const char *sizes = how->sizes ? how->sizes : "";
	return how->capacity ? arena_printf(a, "%s%scapacity=%lld", sizes, *sizes ? "," : "", (long long)how->capacity) : sizes;
}

/* Why not this one; `rank`: how near it came. */
static Status refuse(Arena *a, const PackageVariant *v, const LmCompile *how, u32 *rank)
{
	const char *sizes = sizes_asked(a, how);
	const char *device = v->package.device, *wanted = how->run->device, *entry = missing_entry(&v->package, how);
	char lacking[64];
	*rank = 0;
	if (wanted && (strncmp(wanted, device, strlen(device)) != 0 || (wanted[strlen(device)] && wanted[strlen(device)] != ':')))
		return FAIL(STATUS_INPUT, "it has code for %s, not for %s", device, wanted);
	*rank = 1;
	if (entry)
		return FAIL(STATUS_INPUT, "it has no entry %s; `plinth compile` says what goes into a package", entry);
	*rank = 2;
	i64 size[PACKAGE_AXES];
	if (v->package.naxis)
		TRY(read_sizes(v, sizes, size));
	else if (*sizes && strcmp(sizes, v->sizes) != 0)
		return FAIL(STATUS_INPUT, "it has code for sizes %s, not for %s", v->sizes, sizes);
	*rank = 3;
	if (!strcmp(device, "cuda"))
		return check_arch(how->run, v->machine);
	if (strcmp(v->machine, cpu_machine_name()) != 0)
		return FAIL(STATUS_UNSUPPORTED, "it is for another machine: %s, and this is %s", v->machine, cpu_machine_name());
	if (cpu_lacks(v->features, lacking, sizeof lacking))
		return FAIL(STATUS_UNSUPPORTED, "it is for another machine: its code for %s needs %s, which this processor has not", v->cpu,
			    lacking);
	return OK;
}

/* The last that fits: they are in order from the least processor to the best. */
static Status choose(Lm *lm, const LmCompile *how, PackageVariant **out)
{
	PackageFile *f = lm->file;
	Status why = OK;
	u32 nearest = 0;
	if (how->precision && strcmp(how->precision, f->precision) != 0)
		return FAIL(STATUS_INPUT, "%s has code for %s, not for %s: --precision %s, or another package: plinth compile --precision %s",
			    lm->operand.source, f->precision, how->precision, f->precision, how->precision);
	for (u32 i = f->nvariant; i-- > 0;) {
		u32 rank;
		Status s = refuse(&lm->source.arena, &f->variant[i], how, &rank);
		if (!s) {
			*out = &f->variant[i];
			return OK;
		}
		if (!why || rank > nearest) {
			why = s;
			nearest = rank;
		}
	}
	return status_context(why, "%s", lm->operand.source);
}

Status packaged_load(Lm *lm, const LmCompile *how, LmRun *out)
{
	PackageVariant *v = NULL;
	TRY(choose(lm, how, &v));
	if (!strcmp(v->package.device, "cpu"))
		TRY(cpu_code_load(lm->operand.source, v, &out->code));
	out->compiled.machine = *v->cpu ? v->cpu : v->machine;
	out->package = &v->package;
	i64 size[PACKAGE_AXES];
	if (!v->package.naxis)
		return OK;
	TRY(read_sizes(v, sizes_asked(&lm->arena, how), size));
	out->package = package_at(&lm->arena, &v->package, size);
	return OK;
}
