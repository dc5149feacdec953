/* tools/lm.c: see lm.h. */
#include "tools/lm.h"
#include "runtime/evaluate.h"
#include "runtime/signals.h"
#include "runtime/views.h"
#include "support/clock.h"
#include "tools/kept.h"
#include "tools/packaged.h"
#include "tools/sizes.h"
#include "tools/verbs.h"

#include <libgen.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- source ---- */

static Status model_wrong(const Lm *lm)
{
	return FAIL(STATUS_INPUT, "%s: %u error%s", lm->operand.source, lm->source.diag.nerror,
		    lm->source.diag.nerror == 1 ? "" : "s");
}

Status lm_open(const char *operand, const SourceOptions *given, Lm *out)
{
	*out = (Lm){ .arena = ARENA("lm") };
	if (packaged(operand))
		return packaged_open(operand, given, out);
	TRY(model_operand(&out->arena, operand, given, &out->operand));
	TRY(source_open(out->operand.source, &out->operand.options, &out->source));
	if (out->source.diag.nerror || !out->source.model)
		return model_wrong(out);
	out->model = out->source.model;
	return OK;
}

Status lm_open_source(const char *operand, const SourceOptions *given, Lm *out)
{
	*out = (Lm){ .arena = ARENA("lm") };
	TRY(source_uncompiled(operand));
	return lm_open(operand, given, out);
}

void lm_close(Lm *lm)
{
	source_close(&lm->source);
	io_unmap(&lm->mapping);
	arena_free(&lm->arena);
}

int lm_failed(const char *verb, const Lm *lm, Status why)
{
	int told = verb_report(&lm->source.diag, false);
	return told ? told : verb_failed(verb, why);
}

void lm_warnings(Lm *lm)
{
	Diag *d = &lm->source.diag;
	verb_report(d, false);
	d->first = d->last = NULL;
}

int lm_run(const char *verb, Lm *lm, Status opened, Status (*run)(Lm *lm))
{
	Status s = opened;
	if (!s)
		s = signals_install();
	if (!s)
		s = run(lm);
	int status = s ? lm_failed(verb, lm, s) : signals_requested() ? 128 + signals_requested() : 0;
	lm_close(lm);
	return status;
}

/* ---- sizes and settings ---- */

i64 lm_size(const Lm *lm, const char *symbol)
{
	for (u32 i = 0; i < lm->model->symbol.n; i++)
		if (!strcmp(lm->model->symbol.v[i], symbol))
			return lm->model->symbol_value.v[i];
	return 0;
}

Status lm_sizes(Lm *lm, i64 batch, i64 window, const char **out)
{
	return lm_sizes_with(lm, batch, window, NULL, 0, out);
}

Status lm_sizes_with(Lm *lm, i64 batch, i64 window, const char *also, i64 size, const char **out)
{
	Buf b = { .arena = &lm->arena };
	const char **symbol;
	u32 n = sizes_symbols(&lm->arena, lm->model, &symbol);
	for (u32 i = 0; i < n; i++) {
		i64 given = also && !strcmp(symbol[i], also) ? size :
			    !strcmp(symbol[i], "B")	     ? batch :
			    !strcmp(symbol[i], "T")	     ? window :
							       0;
		i64 value = given ? given : lm_size(lm, symbol[i]);
		if (!value)
			return FAIL(STATUS_INPUT, "how large is %s? Nothing gives it a value: batch = { ..., %s = 8 } in the train block",
				    symbol[i], symbol[i]);
		buf_printf(&b, "%s%s=%lld", b.n ? "," : "", symbol[i], (long long)value);
	}
	*out = b.n ? b.text : "";
	return OK;
}

Status lm_real(const Lm *lm, const char *key, f64 otherwise, f64 *out)
{
	const Setting *s = model_setting(lm->model, key);
	*out = otherwise;
	if (!s)
		return OK;
	if (!s->is_number)
		return FAIL(STATUS_INPUT, "%s must be a number, not %s", key, s->text);
	*out = s->number;
	return OK;
}

Status lm_count(const Lm *lm, const char *key, u64 least, u64 otherwise, u64 *out)
{
	f64 x;
	TRY(lm_real(lm, key, (f64)otherwise, &x));
	if (!(x >= (f64)least && x < 0x1p53 && x == floor(x)))
		return FAIL(STATUS_INPUT, "%s must be a whole number, at least %llu, not %g", key, (unsigned long long)least, x);
	*out = (u64)x;
	return OK;
}

Status lm_memory(const Lm *lm, u64 *out)
{
	*out = 0;
	const Setting *s = model_setting(lm->model, "train.memory");
	if (s && (!s->is_number || !(s->number >= 1 && s->number < 0x1p62)))
		return FAIL(STATUS_INPUT, "train.memory is an amount of memory, such as 8 GiB, not %s", s->text);
	if (s)
		*out = (u64)s->number;
	return OK;
}

const char *lm_text(const Lm *lm, const char *key, const char *otherwise)
{
	const Setting *s = model_setting(lm->model, key);
	return s ? s->text : otherwise;
}

/* ---- data ---- */

/* The settings of a source but for its path and kind: data.train.rate, ... */
static u32 source_options(Lm *lm, const char *key, DataOption **out)
{
	const char *prefix = arena_printf(&lm->arena, "%s.", key);
	u32 n = 0;
	*out = NEWN(&lm->arena, DataOption, lm->model->setting.n + 1);
	for (u32 i = 0; i < lm->model->setting.n; i++) {
		const Setting *s = &lm->model->setting.v[i];
		if (str_starts(str_of(s->key), str_of(prefix)) && strcmp(s->key + strlen(prefix), "kind"))
			(*out)[n++] = (DataOption){ s->key + strlen(prefix), s->text, s->is_number ? s->number : NAN };
	}
	return n;
}

/* Where the source of training, or of evaluation, is: *path NULL where none is named. */
static void find_source(Lm *lm, const char *prefix, bool training, const char **path, const char **kind)
{
	const char *key = training ? "data.train" : "data.validation";
	*kind = lm_text(lm, arena_printf(&lm->arena, "%s.kind", key), lm_text(lm, "data.train.kind", "tokens"));
	*path = prefix ? dataset_kind(*kind)->find(&lm->arena, prefix, training) : lm_text(lm, key, NULL);
}

static Status open_source(Lm *lm, bool training, const char *path, const char *kind, Dataset *out)
{
	DataOption *option;
	u32 n = source_options(lm, training ? "data.train" : "data.validation", &option);
	return dataset_open(&lm->arena, kind, path, option, n, out);
}

static Status no_source(const char *prefix, const char *kind)
{
	if (!prefix)
		return FAIL(STATUS_INPUT, "which data? --data PREFIX names it, or the source's data block");
	if (!strcmp(kind, "tokens") || !strcmp(kind, "masked"))
		return FAIL(STATUS_INPUT, "%s: there are no token shards %s.train.000.tok; `plinth data tokenize` makes them from text",
			    prefix, prefix);
	return FAIL(STATUS_INPUT, "%s: there is no data of the kind that the source's data block names, %s", prefix, kind);
}

Status lm_data(Lm *lm, const char *prefix, Dataset *train, Dataset *validation)
{
	const char *path, *kind, *of_validation, *kind_of_validation;
	if (!prefix)
		prefix = lm->operand.data;
	lm->operand.data = prefix;
	find_source(lm, prefix, true, &path, &kind);
	find_source(lm, prefix, false, &of_validation, &kind_of_validation);
	if (!path)
		return no_source(prefix, kind);
	TRY(open_source(lm, true, path, kind, train));
	if (!of_validation)
		return OK;
	TRY(open_source(lm, false, of_validation, kind_of_validation, validation));
	if (train->tokenizer != validation->tokenizer)
		return FAIL(STATUS_INPUT, "%s and %s were made with different tokenizers", path, of_validation);
	return OK;
}

Status lm_held_out(Lm *lm, const char *prefix, Dataset *out)
{
	const char *path, *kind;
	if (!prefix)
		prefix = lm->operand.data;
	find_source(lm, prefix, false, &path, &kind);
	if (!path && prefix) /* a set by itself */
		path = dataset_kind(kind)->find(&lm->arena, prefix, true);
	return path ? open_source(lm, false, path, kind, out) : no_source(prefix, kind);
}

u32 lm_evals(const Lm *lm, const char **entry)
{
	const Program *p = lm->model->program;
	u32 n = 0;
	entry[n++] = "eval";
	if (lm->file)
		return packaged_evals(lm, entry, n, LM_EVALS);
	for (u32 i = 0; i < p->entry.n && n < LM_EVALS; i++)
		if (str_starts(str_of(p->entry.v[i]->name), STR(EVALUATE_NAMED)))
			entry[n++] = p->entry.v[i]->name;
	return n;
}

bool lm_logits(const Lm *lm, i64 *out)
{
	if (lm->file) {
		*out = lm->file->logits;
		return *out > 0;
	}
	const Graph *forward = program_find_entry(lm->model->program, STR("forward"));
	if (!forward || !forward->result.n)
		return false;
	const Type *t = val_type(forward, forward->result.v[0].value);
	return t->rank && dim_is_number(t->dim[t->rank - 1], out);
}

const char *lm_source_size(Lm *lm)
{
	const Graph *g = lm->model->program ? program_find_entry(lm->model->program, STR("forward")) : NULL;
	for (u32 i = 0; g && i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		const Type *t = n->op == OP_input ? val_type(g, n->out) : NULL;
		if (!t || strcmp(ATTR(n, input)->name, "source") != 0 || t->rank != 2)
			continue;
		Buf b = { .arena = &lm->arena };
		dim_print(&b, t->dim[1]);
		return b.text;
	}
	return NULL;
}

Status lm_begin(const Lm *lm, const Tokenizer *t, u32 *out)
{
	const char *name = lm_text(lm, "data.train.begin", NULL);
	*out = pairs_begin(t, name);
	if (*out != TOKEN_NONE)
		return OK;
	return name ? FAIL(STATUS_INPUT, "the tokenizer has no special token '%s', which begins a text", name) :
		      FAIL(STATUS_INPUT, "the tokenizer has no token that begins a text: pairs(..., begin = \"NAME\") in the data block");
}

const char *lm_beside(Lm *lm, const char *weights, const char *const *name, u32 n)
{
	const char *folder = lm->operand.run;
	if (!folder && weights) {
		struct stat st;
		u32 paths;
		weights = weights_paths(&lm->arena, weights, &paths)[0];
		char *copy = (char *)(uintptr_t)arena_printf(&lm->arena, "%s", weights);
		folder = run_folder_around(&lm->arena, stat(weights, &st) == 0 && S_ISDIR(st.st_mode) ? weights : dirname(copy));
	}
	for (u32 i = 0; folder && i < n; i++) {
		const char *path = arena_printf(&lm->arena, "%s/%s", folder, name[i]);
		if (io_exists(path))
			return path;
	}
	return NULL;
}

Status lm_tokenizer(Lm *lm, const char *file, const char *weights, Tokenizer **out)
{
	static const char *const name[] = { RUN_TOKENIZER, "vocab.txt", "spiece.model", "tokenizer.model" };
	file = file ? file : lm_beside(lm, weights, name, COUNT(name));
	*out = NULL;
	return file ? tokenizer_load(&lm->arena, file, out) : OK;
}

Status lm_check_vocabulary(const Lm *lm, u64 tokens, const char *whose)
{
	i64 logits;
	if (!lm_logits(lm, &logits) || (u64)logits >= tokens)
		return OK;
	return FAIL(STATUS_INPUT,
		    "%s has %llu tokens, and the model only %lld logits; --set vocab=%llu makes it large enough, where its config "
		    "calls that so",
		    whose, (unsigned long long)tokens, (long long)logits, (unsigned long long)tokens);
}

Status lm_check_data(const Lm *lm, const Dataset *d)
{
	if (!d->kind) /* none */
		return OK;
	if (d->kind->text)
		return lm_check_vocabulary(lm, d->vocabulary, "the data's tokenizer");
	for (u32 i = 0; i < lm->model->config.n; i++) {
		const ConfigValue *v = &lm->model->config.v[i];
		bool vocabulary = v->key && (!strcmp(v->key, "vocab_size") || str_ends(str_of(v->key), STR(".vocab_size")));
		if (vocabulary && strtoull(v->text, NULL, 10) < d->vocabulary)
			return FAIL(STATUS_INPUT, "the data's tokenizer has %u tokens, and the model %s: --set %s=%u makes it large enough",
				    d->vocabulary, v->text, v->path, d->vocabulary);
	}
	return OK;
}

/* ---- running ---- */

Status run_options(const RunOptions *o, DeviceOptions *out)
{
	*out = (DeviceOptions){ .threads = (u32)o->threads, .comm = o->comm };
	if (o->threads > UINT16_MAX)
		return FAIL(STATUS_INPUT, "--threads is at most %d", UINT16_MAX);
	TRY(driver_device_options(o->device, o->cpu, o->arch, o->matmul));
	const Device *device;
	if (o->device)
		TRY(device_parse(o->device, &device, &out->index));
	return o->matmul ? device_matmul_parse(o->matmul, &out->matmul) : OK;
}

/* What was compiled before and kept as a whole, or what the driver makes now. */
static Status compile_source(Lm *lm, const Program *program, DriverOptions *o, LmRun *out)
{
	Arena *a = &lm->source.arena;
	f64 begun = clock_seconds();
	o->cache = driver_cache(a, o);
	o->no_cache = !o->cache;
	Kept kept = kept_of(a, &lm->source, o, o->cache);
	PackageVariant *v = NEW(a, PackageVariant);
	if (kept_find(a, &kept, v)) {
		TRY(cpu_code_load(lm->operand.source, v, &out->code));
		out->compiled.machine = v->cpu;
		out->package = &v->package;
		out->compiled.times.kept = true;
		out->compiled.times.total = out->compiled.times.code = clock_seconds() - begun;
		return OK;
	}
	TRY(driver_compile(a, program, o, &out->compiled));
	out->package = out->compiled.package;
	if (out->compiled.variant)
		kept_put(a, &kept, out->compiled.variant);
	return out->package ? OK : model_wrong(lm);
}

Status lm_compile(Lm *lm, const LmCompile *how, LmRun *out)
{
	*out = (LmRun){ 0 };
	DriverOptions o = { .entry = how->entry, .nentry = how->nentry, .sizes = how->sizes, .precision = how->precision,
			    .accumulate = how->accumulate, .store = how->store, .decode_along = how->decode_along, .capacity = how->capacity, .device = how->run->device,
			    .cpu = how->run->cpu, .arch = how->run->arch, .threads = (u32)how->run->threads, .no_cache = how->no_cache,
			    .shard = how->run->shard, .bucket = how->run->bucket, .pipe = how->run->pipe };
	for (u32 i = 0; i < how->nentry; i++)
		if (!strcmp(how->entry[i], "micro"))
			TRY(lm_memory(lm, &o.memory));
	o.memory = how->memory ? how->memory : o.memory;
	o.stream_beyond = how->stream_beyond;
	DeviceOptions checked;
	TRY(run_options(how->run, &checked));
	if (lm->file && how->memory)
		return FAIL(STATUS_INPUT, "%s is compiled: how much memory it takes is planned; the model's source can be given a budget",
			    lm->operand.source);
	if (lm->file)
		return packaged_load(lm, how, out);
	return compile_source(lm, how->program ? how->program : lm->model->program, &o, out);
}

Status lm_executor(LmRun *run, const RunOptions *options)
{
	DeviceOptions o;
	TRY(run_options(options, &o));
	return executor_create(run->package, &o, &run->executor);
}

void lm_run_close(LmRun *run)
{
	if (run->executor)
		executor_destroy(run->executor);
	driver_close(&run->compiled);
	cpu_code_unload(run->code);
	*run = (LmRun){ 0 };
}

bool lm_saves_trained(const Lm *lm)
{
	return !strcmp(lm_text(lm, "adapt.save", "all"), "trainable");
}

static bool is_added(const Model *m, const char *name)
{
	for (u32 i = 0; i < m->added.n; i++)
		if (!strcmp(m->added.v[i], name))
			return true;
	return false;
}

Status lm_weights(Lm *lm, const LmRun *run, const char *path)
{
	BufferViews p = buffer_views(&lm->arena, run->executor, VIEW_PARAMETERS);
	for (u32 i = 0; i < p.n; i++)
		p.v[i].optional = is_added(lm->model, p.v[i].name);
	return lm_weights_into(lm, p, path);
}

Status lm_first_weights(Lm *lm, const LmRun *run, const char *path)
{
	const WeightsLines *begun = &lm->model->begun;
	BufferViews p = buffer_views(&lm->arena, run->executor, VIEW_PARAMETERS);
	bool *kept = NEWN(&lm->arena, bool, p.n + 1);
	for (u32 i = 0; i < p.n; i++) {
		p.v[i].optional = is_added(lm->model, p.v[i].name);
		for (u32 k = 0; k < begun->n; k++)
			if (!weights_rename(&lm->arena, &(WeightRule){ begun->v[k].pattern, NULL }, 1, p.v[i].name))
				p.v[i].kept = &kept[i];
	}
	TRY(lm_weights_into(lm, p, path));
	Buf names = { .arena = &lm->arena };
	for (u32 i = 0; i < p.n; i++)
		if (kept[i])
			buf_printf(&names, "%s%s", names.n ? ", " : "", p.v[i].name);
	if (names.n)
		fprintf(stderr, "%s has no such %s: training begins anew there, with first values\n", path, buf_str(&names).s);
	return OK;
}

Status lm_weights_into(Lm *lm, BufferViews p, const char *path)
{
	u32 n = lm->model->weight.n;
	WeightRule *rule = NEWN(&lm->arena, WeightRule, n + 1);
	for (u32 i = 0; i < n; i++)
		rule[i] = (WeightRule){ lm->model->weight.v[i].pattern, lm->model->weight.v[i].replacement };
	return weights_load(&lm->arena, path, rule, n, p.v, p.n, &lm->source.diag);
}

Status lm_parameters_from(const Lm *lm, const char *given, const char **from)
{
	bool rest = lm->operand.run && lm_saves_trained(lm);
	*from = given ? given : rest ? lm->operand.weights : lm->operand.checkpoint;
	if (*from)
		return OK;
	if (rest)
		return FAIL(STATUS_INPUT, "%s has what training changed alone, and began without --weights: name the file that has the "
					  "frozen parameters with --weights FILE", lm->operand.run);
	return FAIL(STATUS_INPUT, "which parameters? --weights FILE, or a run's folder in place of the source");
}

Status lm_parameters(Lm *lm, const LmRun *run, const char *from)
{
	TRY(lm_weights(lm, run, from));
	if (!lm->operand.run || !lm_saves_trained(lm))
		return OK;
	BufferViews p = buffer_views(&lm->arena, run->executor, VIEW_TRAINED);
	return weights_load(&lm->arena, lm->operand.checkpoint, NULL, 0, p.v, p.n, &lm->source.diag);
}

/* ---- text ---- */

const char *lm_scaled(Arena *a, f64 x)
{
	static const char unit[] = " kMGTPE";
	u32 i = 0;
	for (; x >= 999.5 && i + 2 < sizeof unit; i++)
		x /= 1000;
	return arena_printf(a, i ? "%.3g %c" : "%.4g", x, unit[i]);
}

const char *lm_bytes(Arena *a, u64 bytes)
{
	f64 mib = (f64)bytes / 0x1p20;
	if (bytes && mib < 0.1)
		return bytes < 1024 ? arena_printf(a, "%llu B", (unsigned long long)bytes) : arena_printf(a, "%.1f KiB", mib * 1024);
	return mib >= 1024 ? arena_printf(a, "%.2f GiB", mib / 1024) : arena_printf(a, mib > 0 ? "%.1f MiB" : "%.0f", mib);
}
