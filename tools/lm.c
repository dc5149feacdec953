/* tools/lm.c: see lm.h. */
#include "tools/lm.h"
#include "passes/graph/bind.h"
#include "runtime/views.h"
#include "tools/verbs.h"

#include <math.h>
#include <string.h>

/* ---- source ---- */

static Status model_wrong(const Lm *lm)
{
	return FAIL(STATUS_INPUT, "%s: %u error%s", lm->operand.source, lm->source.diag.nerror,
		    lm->source.diag.nerror == 1 ? "" : "s");
}

Status lm_open(const char *operand, const SourceOptions *given, Lm *out)
{
	*out = (Lm){ .arena = ARENA("lm") };
	TRY(model_operand(&out->arena, operand, given, &out->operand));
	TRY(source_open(out->operand.source, &out->operand.options, &out->source));
	if (out->source.diag.nerror || !out->source.model)
		return model_wrong(out);
	out->model = out->source.model;
	return OK;
}

void lm_close(Lm *lm)
{
	source_close(&lm->source);
	arena_free(&lm->arena);
}

int lm_failed(const char *verb, const Lm *lm, Status why)
{
	int told = verb_report(&lm->source.diag, false);
	return told ? told : verb_failed(verb, why);
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
	Buf b = { .arena = &lm->arena };
	const char **symbol;
	u32 n = program_symbols(&lm->arena, lm->model->program, &symbol);
	for (u32 i = 0; i < n; i++) {
		i64 given = !strcmp(symbol[i], "B") ? batch : !strcmp(symbol[i], "T") ? window : 0;
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

const char *lm_text(const Lm *lm, const char *key, const char *otherwise)
{
	const Setting *s = model_setting(lm->model, key);
	return s ? s->text : otherwise;
}

/* ---- data ---- */

static Status open_pair(Lm *lm, const char *train, const char *validation, Shards *t, Shards *v, bool *has)
{
	TRY(shards_open(&lm->arena, train, t));
	*has = validation != NULL;
	if (!validation)
		return OK;
	TRY(shards_open(&lm->arena, validation, v));
	if (t->tokenizer != v->tokenizer)
		return FAIL(STATUS_INPUT, "%s and %s were made with different tokenizers", train, validation);
	return OK;
}

Status lm_data(Lm *lm, const char *prefix, Shards *train, Shards *validation, bool *has_validation)
{
	Arena *a = &lm->arena;
	if (!prefix)
		prefix = lm->operand.data;
	if (prefix) {
		lm->operand.data = prefix;
		const char *t = arena_printf(a, "%s.train", prefix), *v = arena_printf(a, "%s.val", prefix);
		if (shards_exist(t))
			return open_pair(lm, t, shards_exist(v) ? v : NULL, train, validation, has_validation);
		if (shards_exist(prefix))
			return open_pair(lm, prefix, NULL, train, validation, has_validation);
		return FAIL(STATUS_INPUT, "%s: there are no token shards %s.000.tok; `plinth data tokenize` makes them from text",
			    prefix, t);
	}
	const char *t = lm_text(lm, "data.train", NULL), *v = lm_text(lm, "data.validation", NULL);
	if (!t)
		return FAIL(STATUS_INPUT, "which data? --data PREFIX names token shards, as `plinth data tokenize -o PREFIX` made them");
	if (!shards_exist(t))
		return FAIL(STATUS_INPUT, "the data block names %s, and there are no token shards %s.000.tok; --data PREFIX names others",
			    t, t);
	return open_pair(lm, t, v, train, validation, has_validation);
}

Status lm_held_out(Lm *lm, const char *prefix, Shards *out)
{
	if (!prefix)
		prefix = lm->operand.data;
	const char *v = prefix ? arena_printf(&lm->arena, "%s.val", prefix) : lm_text(lm, "data.validation", NULL);
	if (!v)
		return FAIL(STATUS_INPUT, "which data? --data PREFIX names token shards: PREFIX.val, or PREFIX itself");
	if (!prefix || shards_exist(v))
		return shards_open(&lm->arena, v, out);
	return shards_open(&lm->arena, prefix, out);
}

Status lm_check_vocabulary(const Lm *lm, u64 tokens, const char *whose)
{
	const Graph *forward = program_find_entry(lm->model->program, STR("forward"));
	i64 logits;
	if (!forward || !forward->result.n)
		return OK;
	const Type *t = val_type(forward, forward->result.v[0].value);
	if (!t->rank || !dim_is_number(t->dim[t->rank - 1], &logits) || (u64)logits >= tokens)
		return OK;
	return FAIL(STATUS_INPUT,
		    "%s has %llu tokens, and the model only %lld logits; --set vocab=%llu makes it large enough, where its config "
		    "calls that so",
		    whose, (unsigned long long)tokens, (long long)logits, (unsigned long long)tokens);
}

/* ---- running ---- */

Status run_options(const RunOptions *o, DeviceOptions *out)
{
	*out = (DeviceOptions){ .threads = (u32)o->threads };
	if (o->threads < 0 || o->threads > UINT16_MAX)
		return FAIL(STATUS_INPUT, "--threads is at least 1");
	const Device *device;
	if (o->device)
		TRY(device_parse(o->device, &device, &out->index));
	return o->matmul ? device_matmul_parse(o->matmul, &out->matmul) : OK;
}

Status lm_compile(Lm *lm, const LmCompile *how, LmRun *out)
{
	*out = (LmRun){ 0 };
	DriverOptions o = { .entry = how->entry, .nentry = how->nentry, .sizes = how->sizes, .precision = how->precision,
			    .accumulate = how->accumulate, .device = how->run->device, .cpu = how->run->cpu, .arch = how->run->arch,
			    .threads = (u32)how->run->threads };
	DeviceOptions checked;
	TRY(run_options(how->run, &checked));
	TRY(driver_compile(&lm->source.arena, lm->model->program, &o, &out->compiled));
	out->package = out->compiled.package;
	return out->package ? OK : model_wrong(lm);
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
	*run = (LmRun){ 0 };
}

Status lm_weights(Lm *lm, const LmRun *run, const char *path)
{
	u32 n = lm->model->weight.n;
	WeightRule *rule = NEWN(&lm->arena, WeightRule, n + 1);
	for (u32 i = 0; i < n; i++)
		rule[i] = (WeightRule){ lm->model->weight.v[i].pattern, lm->model->weight.v[i].replacement };
	BufferViews p = buffer_views(&lm->arena, run->executor, VIEW_PARAMETERS);
	return weights_load(&lm->arena, path, rule, n, p.v, p.n, &lm->source.diag);
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
