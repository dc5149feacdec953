/* tools/verb_export.c: `plinth export MODEL --weights FILE -o FOLDER`: a model as a library that runs without Plinth. */
#include "runtime/views.h"
#include "support/cpu_features.h"
#include "support/io.h"
#include "tools/export.h"
#include "tools/export_shrink.h"
#include "tools/sizes.h"
#include "tools/verbs.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static SourceOptions source;
static const char *weights, *output, *cpu, *sizes, *precision, *name, *target, *device, *arch, *store, *data;
static TextList entry, kernel, module;
static i64 threads, capacity, group, usual_group, batches;
static Shrink shrink;
static bool embed;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "output", 'o', OPTION_FOLDER, &output, "FOLDER", "where files go; made if missing" },
	{ "weights", 'w', OPTION_TEXT, &weights, "FILE", "parameters: a checkpoint, a run's folder, safetensors; several, with commas" },
	{ "embed", 0, OPTION_FLAG, &embed, NULL, "weights become part of the library" },
	{ "name", 0, OPTION_TEXT, &name, "NAME", "of the library and its functions; the model's by default" },
	{ "sizes", 'z', OPTION_TEXT, &sizes, "B=1,T<=256",
	  "numbers for sizes, over those of the train block's batch; with <=, runs are given the size, from 1 to that" },
	{ "entry", 'e', OPTION_LIST, &entry, "NAME", "an entry to export, may be repeated: forward by default" },
	{ "capacity", 0, OPTION_COUNT, &capacity, "N",
	  "of a language model: functions prefill and step, which keep what later tokens need of up to N" },
	{ "store", 0, OPTION_TEXT, &store, "TYPE", "how matrices are stored: f32, bf16, f16, int8, int4; what that costs is measured" },
	{ "group", 0, OPTION_COUNT, &group, "N", "weights that share a factor, with int8 and int4: 32 by default" },
	{ "data", 'd', OPTION_TEXT, &data, "PREFIX", "with --store: token shards to measure on; a run's folder has its own" },
	{ "batches", 0, OPTION_COUNT, &batches, "N", "of them at most; all by default" },
	{ "module", 0, OPTION_LIST, &module, "PATH", "a module alone, by its path (h.0.attn), may be repeated" },
	{ "kernel", 0, OPTION_LIST, &kernel, "NAME", "a kernel alone, by its name or a pattern (h.0.**), may be repeated" },
	{ "precision", 0, OPTION_TEXT, &precision, "TYPE", "what matrix multiplies take: f32, bf16, autocast; else as the file says" },
	{ "device", 0, OPTION_TEXT, &device, "NAME", "cpu, or cuda: a library for NVIDIA GPUs, which needs their driver alone" },
	{ "arch", 0, OPTION_TEXT, &arch, "NAMES", "GPU architectures, of which that of the GPU runs: sm_80,sm_90a; sm_90a by default" },
	{ "target", 0, OPTION_TEXT, &target, "MACHINE", "x86_64-linux-gnu or aarch64-linux-gnu; this one by default" },
	{ "cpu", 0, OPTION_TEXT, &cpu, "NAMES",
	  "processors to compile for, as LLVM calls them, of which the best that is there runs: x86-64-v3,x86-64-v4; this "
	  "machine's by default" },
	{ "threads", 't', OPTION_COUNT, &threads, "N", "that compile; one per core by default" },
};

static const OptionRule rules[] = {
	{ RULE_EXCLUDE, "module kernel entry capacity", NULL, NULL },
};

static const Command command = {
	.name = "export",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Writes a model as a library for C, C++ and whatever calls C, which needs the C\n"
		 "library and nothing else: libNAME.so, libNAME.a, NAME.h, weights.safetensors, which\n"
		 "is mapped when it is used, manifest.json, ir/ with LLVM's text of each kernel, and\n"
		 "example.c with its build line. No compiler or linker is needed here. What is not given\n"
		 "here is taken from the source's block `export { store = int8 }`, if it has one.",
	.example = "  plinth export models/gpt2.plinth --weights gpt2.safetensors --sizes B=1,T=64 -o out\n"
		   "  plinth export models/gpt2.plinth --weights gpt2.safetensors --sizes B=1,T=64 --capacity 1024 -o out\n"
		   "  plinth export models/gpt2.plinth -w gpt2.safetensors --sizes B=1,T=64 --module h.0.attn -o out\n"
		   "  plinth export models/gpt2.plinth --sizes B=1,T=64 --kernel h.0.mlp.c_fc.dot -o out\n"
		   "  plinth export runs/bible --store int4 --data book -o out\n"
		   "  plinth export runs/bible --device cuda --arch sm_80,sm_90a -o out\n"
		   "  plinth export runs/bible --target aarch64-linux-gnu --cpu generic,neoverse-n1 -o out\n"
		   "  plinth export runs/bible --embed --cpu x86-64-v3,x86-64-v4 -o out",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

Status export_write(const Export *x, const char *file, Blob bytes)
{
	return io_write(arena_printf(x->arena, "%s/%s", x->folder, file), bytes);
}

const char *export_type(const Export *x, const char *of, const char *what, bool input)
{
	const Graph *g = program_find_entry(x->program, str_of(of));
	const Type *t = NULL;
	for (u32 i = 0; g && input && i < g->node.n; i++)
		if (g->node.v[i].op == OP_input && !strcmp(ATTR(&g->node.v[i], input)->name, what))
			t = val_type(g, g->node.v[i].out);
	for (u32 i = 0; g && !input && i < g->result.n; i++)
		if (g->result.v[i].buffer == NONE && !strcmp(g->result.v[i].name, what))
			t = val_type(g, g->result.v[i].value);
	if (!t)
		return NULL;
	Buf b = { .arena = x->arena };
	type_print(&b, t);
	return b.text;
}

const char *export_entry_name(const char *of)
{
	return !strcmp(of, "decode") ? "step" : of;
}

/* ---- names ---- */

static bool is_identifier(const char *s)
{
	bool fine = isalpha((unsigned char)*s) || *s == '_';
	for (; *s; s++)
		fine &= isalnum((unsigned char)*s) || *s == '_';
	return fine;
}

static Status set_name(Export *x)
{
	if (name && !is_identifier(name))
		return FAIL(STATUS_INPUT, "--name %s: letters, digits and _, as a name in C", name);
	const char *from = name ? name : *x->model ? x->model : "model";
	char *lower = COPYN(x->arena, char, from, strlen(from) + 1), *upper = COPYN(x->arena, char, from, strlen(from) + 1);
	for (u32 i = 0; lower[i]; i++) {
		if (!isalnum((unsigned char)lower[i]))
			lower[i] = upper[i] = '_';
		upper[i] = (char)toupper((unsigned char)upper[i]);
	}
	x->name = lower;
	x->upper = upper;
	return OK;
}

/* ---- weights ---- */

/* Writes those that the library reads. */
static Status put_weights(Lm *lm, Export *x, const Program *shrunk)
{
	const Package *p = x->variant[0].package;
	NamedBuffer *all = NULL, *b = NEWN(x->arena, NamedBuffer, p->nbuffer + 1);
	u32 nall = 0, n = 0;
	bool reads = false;
	for (u32 i = 0; i < p->nbuffer; i++) {
		reads |= p->buffer[i].kind != PACKAGE_CACHE;
		x->has_state |= p->buffer[i].kind == PACKAGE_CACHE;
	}
	if (!reads)
		return OK;
	const char *from = weights ? weights : lm->operand.checkpoint;
	if (!from)
		return FAIL(STATUS_INPUT, "which parameters? --weights FILE, or a run's folder in place of the source");
	TRY(shrink_read(lm, from, &all, &nall));
	f64 error[2] = { 0 };
	for (u32 i = 0; i < p->nbuffer; i++) {
		const PackageTensor *t = &p->buffer[i].tensor;
		if (p->buffer[i].kind == PACKAGE_CACHE)
			continue;
		b[n] = (NamedBuffer){ .name = t->name, .dtype = safe_dtype_of((PackageDtype)t->dtype), .rank = t->rank, .dim = t->dim };
		if (!shrink_values(x->arena, &shrink, all, nall, &b[n++], error))
			return FAIL(STATUS_INPUT, "no weights file has %s, which the model reads", t->name);
	}
	if (shrink.kind && error[1] > 0)
		printf("stored as   %s; weights are off by %.3g%% (root of mean squares)\n", store, 100 * sqrt(error[0] / error[1]));
	if (shrink.kind && (data || lm->operand.data || lm->operand.run))
		TRY(shrink_measure(lm, &shrink, shrunk, all, nall, x->precision, data, (u64)batches));
	else if (shrink.kind)
		printf("perplexity  not measured: --data PREFIX names text\n");
	for (u32 i = 0; i < p->nbuffer; i++)
		if (p->buffer[i].kind != PACKAGE_CACHE && p->buffer[i].kind != PACKAGE_PARAMETER)
			return FAIL(STATUS_INPUT, "the model reads %s, which is no parameter: no weights file has it", p->buffer[i].tensor.name);
	const char *path = arena_printf(x->arena, "%s/weights.safetensors", x->folder);
	SafeWritten written;
	TRY(safetensors_write(path, b, n, NULL, 0, &written));
	x->weights_bytes = written.bytes;
	if (!x->embedded)
		return OK;
	Str text;
	TRY(io_read(x->arena, path, &text));
	x->weights = (Blob){ (const u8 *)text.s, text.n };
	return remove(path) ? io_cannot("remove", path) : OK;
}

/* ---- the verb ---- */

static bool changes_weights(const Program *p, const Result *r)
{
	return r->buffer != NONE && p->buffer.v[r->buffer].kind != BUFFER_CACHE;
}

static Status check_entries(const Export *x)
{
	const Program *p = x->variant[0].compiled.program;
	for (u32 i = 0; i < p->entry.n; i++)
		for (u32 k = 0; k < p->entry.v[i]->result.n; k++)
			if (changes_weights(p, &p->entry.v[i]->result.v[k]))
				return FAIL(STATUS_INPUT, "entry %s changes %s: a library only reads its weights", p->entry.v[i]->name,
					    p->buffer.v[p->entry.v[i]->result.v[k].buffer].name);
	return OK;
}

/* What the command line does not give. */
static Status settings(Lm *lm)
{
	static const struct {
		const char **option;
		const char *key, *otherwise;
	} text[] = { { &name, "name", NULL }, { &store, "store", "f32" }, { &precision, "precision", NULL }, { &device, "device", "cpu" },
		     { &arch, "arch", NULL }, { &target, "target", NULL }, { &cpu, "cpu", NULL } };
	for (u32 i = 0; i < COUNT(text); i++)
		if (!*text[i].option)
			*text[i].option = lm_text(lm, arena_printf(&lm->arena, "export.%s", text[i].key), text[i].otherwise);
	u64 n;
	TRY(lm_count(lm, "export.group", 1, 32, &n));
	usual_group = (i64)n;
	/* functions of a language model, unless others are asked for */
	if (!capacity && !entry.n && !module.n && !kernel.n) {
		TRY(lm_count(lm, "export.capacity", 0, 0, &n));
		capacity = (i64)n;
	}
	embed |= !strcmp(lm_text(lm, "export.embed", "false"), "true");
	return OK;
}

static Status run(Lm *lm)
{
	static const char *const forward[] = { "forward" }, *const parts[] = { "prefill", "decode" };
	TRY(driver_device_options(device ? device : lm_text(lm, "export.device", "cpu"), cpu, arch, NULL));
	TRY(settings(lm));
	if (!lm->model->program->entry.n || !*lm->model->name)
		return FAIL(STATUS_INPUT, "%s declares no model: there is nothing to export", lm->operand.source);
	TRY(source_entries(&lm->arena, lm->model->program, entry.v, (u32)entry.n));
	const char *const *usual = capacity ? parts : forward;
	Export x = { .arena = &lm->source.arena, .program = lm->model->program, .folder = output, .model = lm->model->name,
		     .source = lm->operand.source, .embedded = embed, .machine = target ? target : cpu_machine_name(),
		     .precision = precision ? precision : lm->model->precision };
	DriverOptions o = { .entry = entry.n ? entry.v : usual, .nentry = entry.n ? (u32)entry.n : capacity ? 2 : 1, .sizes = sizes,
			    .decode_along = capacity ? "T" : NULL, .capacity = capacity,
			    .precision = x.precision, .device = device, .threads = (u32)threads };
	TRY(sizes_check(x.arena, lm->model, "--sizes", sizes, true));
	TRY(sizes_numbers(x.arena, lm->model, sizes_dynamic(x.arena, lm->model, sizes), &o.sizes));
	TRY(shrink_parse(store, group, usual_group, &shrink));
	if (!shrink.kind && (data || batches))
		return FAIL(STATUS_INPUT, "--%s is for measuring what --store costs, and matrices are stored as they are", data ? "data" : "batches");
	const Program *shrunk = NULL;
	if (shrink.kind)
		x.program = shrunk = shrink_program(x.arena, x.program, &shrink);
	const char *named[16];
	if (module.n > (int)COUNT(named))
		return FAIL(STATUS_INPUT, "--module: at most %zu", COUNT(named));
	if (module.n) {
		TRY(export_modules(x.arena, x.program, module.v, (u32)module.n, &x.program));
		for (int i = 0; i < module.n; i++)
			named[i] = export_identifier(x.arena, module.v[i]);
		o.entry = named;
		o.nentry = (u32)module.n;
	}
	x.kernel = kernel.v;
	x.nkernel = (u32)kernel.n;
	x.sizes = o.sizes;
	x.capacity = capacity;
	TRY(set_name(&x));
	x.cuda = !strcmp(device, "cuda");
	if (!x.cuda && strcmp(device, "cpu") != 0)
		return FAIL(STATUS_INPUT, "--device %s: cpu or cuda", device);
	if (x.cuda && strcmp(x.machine, cpu_machine_name()))
		return FAIL(STATUS_INPUT, "--target %s: a library for GPUs is for this machine, %s", x.machine, cpu_machine_name());
	TRY(export_plan(&x, &o, x.cuda ? arch : cpu));
	TRY(check_entries(&x));
	TRY(io_make_folder(output));
	/* what it reads is known from the plan; a kernel alone is given its parameters */
	x.variant[0].package = package_link(x.arena, x.variant[0].compiled.plan, x.variant[0].compiled.flops, STR(""));
	if (!x.nkernel)
		TRY(put_weights(lm, &x, shrunk));
	TRY(export_build(&x, &o));
	TRY(export_header(&x));
	TRY(export_example(&x));
	TRY(export_manifest(&x));
	printf("%s/lib%s.so  %s, code for", output, x.name, lm_bytes(x.arena, x.library_bytes));
	for (u32 i = 0; i < x.nvariant; i++)
		printf("%s %s", i ? "," : "", x.variant[i].cpu);
	printf("\n%s/%s.h, lib%s.a, example.c, manifest.json, %s/\n", output, x.name, x.name, x.cuda ? "cuda" : "ir");
	if (!embed && x.weights_bytes)
		printf("%s/weights.safetensors  %s\n", output, lm_bytes(x.arena, x.weights_bytes));
	return OK;
}

int verb_export(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	if (!output)
		return verb_misused("export", "where to? -o FOLDER");
	Lm lm;
	Status s = lm_open_source(operand[0], &source, &lm);
	if (!s)
		s = run(&lm);
	status = s ? lm_failed("export", &lm, s) : 0;
	lm_close(&lm);
	return status;
}
