/* tools/verb_compile.c: `plinth compile MODEL -o model.plx`: the whole program, which other verbs then run (packaged.h).
 * `plinth compile MODEL -o FOLDER`: the code of a model's kernels as files: CUDA C, PTX and machine
 * code for any GPU architecture, or LLVM's text and objects for a CPU. Needs no GPU. An index says which kernel, layer
 * and source line is in which file, and what the machine code takes. */
#include "codegen/cuda/target.h"
#include "support/io.h"
#include "tools/packaged.h"
#include "tools/sizes.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#if PLINTH_LLVM
#include "codegen/cpu/target.h"
#endif

static SourceOptions source;
static const char *emit, *arch, *cpu, *output, *sizes, *precision, *device;
static TextList entry;
static i64 threads, capacity;
static bool forward;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "output", 'o', OPTION_TEXT, &output, "FILE.plx", "the package; or a folder where files of code go, made if missing" },
	{ "device", 0, OPTION_TEXT, &device, "NAME", "of a package cpu, the default, cuda, or cpu,cuda; of files cuda, the default, or cpu" },
	{ "forward", 0, OPTION_FLAG, &forward, NULL, "of a package: the model alone, where its source has a train block" },
	{ "capacity", 0, OPTION_COUNT, &capacity, "N", "of a package of a language model: what `plinth generate` runs, keeping N positions" },
	{ "emit", 0, OPTION_TEXT, &emit, "KINDS", "of files: cuda,ptx,cubin, all by default; for the CPU llvm,object" },
	{ "arch", 0, OPTION_TEXT, &arch, "NAMES", "GPU architectures: sm_80,sm_90a,sm_100; sm_90a by default" },
	{ "cpu", 0, OPTION_TEXT, &cpu, "NAME", "the processor, as LLVM calls it; this machine's by default; for a package several: x86-64-v3,x86-64-v4" },
	{ "sizes", 'z', OPTION_TEXT, &sizes, "B=8,T=256",
	  "numbers for sizes, over those of the train block's batch; of a package, T<=256 is for every T up to that" },
	{ "entry", 'e', OPTION_LIST, &entry, "NAME", "this entry only: init, forward, eval, micro, update" },
	{ "precision", 0, OPTION_TEXT, &precision, "TYPE", "what matrix multiplies take: f32, bf16, autocast, fp8; else as the file says" },
	{ "threads", 't', OPTION_COUNT, &threads, "N", "that compile; one per core by default" },
};

static const OptionRule rules[] = {
	{ RULE_EXCLUDE, "capacity entry forward", NULL, NULL },
};

static const Command command = {
	.name = "compile",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "With -o FILE.plx, compiles a model ahead of time: the training step, or where the\n"
		 "source has no train block (or with --forward) the model alone, for the processors\n"
		 "and GPUs named, of which the best that is there runs. `plinth train`, `run`,\n"
		 "`bench`, `eval` and `generate` take the package in place of the source, and need neither LLVM\n"
		 "nor NVRTC.\n\n"
		 "With -o FOLDER, writes the code of its kernels, for GPUs that need not be here: in\n"
		 "FOLDER/ARCH/ a file of CUDA C, of PTX and of machine code (cubin) for each unit,\n"
		 "and FOLDER/ARCH/index.json, which lists kernels with layer, source line, launch\n"
		 "shape, registers, shared memory and spilled bytes. Equal kernels are one function.\n"
		 "Files appear whole or not at all.",
	.example = "  plinth compile models/bible.plinth --cpu x86-64-v3,x86-64-v4 -o bible.plx\n"
		   "  plinth compile models/gpt2.plinth --sizes 'B=1,T<=128' --capacity 1024 -o gpt2.plx\n"
		   "  plinth compile models/gpt2.plinth --preset small --arch sm_80,sm_90a -o code\n"
		   "  plinth compile models/llama.plinth --preset tiny --emit cuda --entry forward -o code\n"
		   "  plinth compile models/gpt2.plinth --device cpu --emit llvm -o code",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

/* Words between commas; one after the other. */
static bool next_word(const char **list, char *word, size_t room)
{
	const char *at = *list + strspn(*list, ", ");
	size_t n = strcspn(at, ", ");
	*list = at + n;
	snprintf(word, room, "%.*s", (int)MIN(n, room - 1), at);
	return n > 0;
}

static bool listed(const char *list, const char *wanted)
{
	char word[64];
	while (next_word(&list, word, sizeof word))
		if (!strcmp(word, wanted))
			return true;
	return false;
}

static Status check_kinds(const char *const *kind, u32 n)
{
	char word[64];
	if (emit && !*(emit + strspn(emit, ", ")))
		return FAIL(STATUS_INPUT, "--emit names nothing: for %s there are %s, %s%s%s", device, kind[0], kind[1], n > 2 ? " and " : "",
			    n > 2 ? kind[2] : "");
	for (const char *list = emit; list && next_word(&list, word, sizeof word);) {
		bool known = false;
		for (u32 i = 0; i < n; i++)
			known |= !strcmp(word, kind[i]);
		if (!known)
			return FAIL(STATUS_INPUT, "--emit %s: for %s there are %s, %s%s%s", word, device, kind[0], kind[1], n > 2 ? " and " : "",
				    n > 2 ? kind[2] : "");
	}
	return OK;
}

static bool wants(const char *kind)
{
	return !emit || listed(emit, kind);
}

/* The name of a unit's files: names of layers may have anything in them. */
static const char *file_name(Arena *a, u32 i, const char *unit)
{
	char *name = COPYN(a, char, unit, strlen(unit) + 1);
	for (char *c = name; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '.' || *c == '-'))
			*c = '_';
	return arena_printf(a, "%03u_%.100s", i, name);
}

/* ---- the index ---- */

/* What ptxas -v said of a function; -1: nothing. */
typedef struct Used {
	i64 registers, stack, spill_stores, spill_loads, shared;
} Used;

static i64 number_before(const char *line, const char *words)
{
	const char *at = strstr(line, words);
	if (!at)
		return -1;
	while (at > line && (at[-1] == ' ' || (at[-1] >= '0' && at[-1] <= '9')))
		at--;
	return strtoll(at, NULL, 10);
}

static Used used_by(const char *log, const char *symbol)
{
	Used u = { -1, -1, -1, -1, 0 };
	char start[256];
	snprintf(start, sizeof start, "Compiling entry function '%s'", symbol);
	const char *from = strstr(log, start);
	if (!from)
		return u;
	const char *end = strstr(from + 1, "Compiling entry function");
	Arena tmp = ARENA("log");
	const char *text = arena_strn(&tmp, (Str){ from, end ? (size_t)(end - from) : strlen(from) });
	const char *registers = strstr(text, "Used ");
	u.registers = registers ? strtoll(registers + 5, NULL, 10) : -1;
	u.stack = number_before(text, " bytes stack frame");
	u.spill_stores = number_before(text, " bytes spill stores");
	u.spill_loads = number_before(text, " bytes spill loads");
	u.shared = MAX(number_before(text, " bytes smem"), (i64)0);
	arena_free(&tmp);
	return u;
}

static json_t *three(const u32 *v)
{
	return json_pack("[i,i,i]", (int)v[0], (int)v[1], (int)v[2]);
}

static json_t *phase_json(const CudaLaunch *l, const char *symbol, const char *log)
{
	Used u = used_by(log, symbol);
	json_t *o = json_pack("{s:s, s:o, s:o, s:I}", "symbol", symbol, "grid", three(l->grid), "block", three(l->block), "dynamic_shared",
			      (json_int_t)l->shared);
	if (l->cluster > 1)
		json_object_set_new(o, "cluster", json_integer(l->cluster));
	if (u.registers < 0)
		return o;
	json_object_set_new(o, "registers", json_integer(u.registers));
	json_object_set_new(o, "static_shared", json_integer(u.shared));
	json_object_set_new(o, "stack_bytes", json_integer(u.stack));
	json_object_set_new(o, "spilled_bytes", json_integer(u.spill_stores + u.spill_loads));
	return o;
}

static const char *path_of(const Ir *ir, Loc loc)
{
	return loc.line && loc.file < ir->diag->nsource ? ir->diag->source[loc.file].path : "";
}

static json_t *kernel_json(const Plan *p, const CudaArch *a, const CudaCode *code, u32 i, const char *const *file)
{
	const Kernel *k = p->kernel.v[i];
	CudaNeeds needs = cuda_class(a, k)->needs(a, k);
	json_t *phases = json_array();
	Arena tmp = ARENA("kernel");
	for (u32 n = 0; n < needs.nphase; n++)
		json_array_append_new(phases, phase_json(&needs.launch[n], arena_printf(&tmp, "%s_p%u", code->symbol[i], n),
							 code->unit[code->unit_of[i]].log));
	arena_free(&tmp);
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:f, s:f, s:f, s:o}", "name", k->name, "class", kernel_class_name[k->class],
			 "layer", k->scope ? k->scope : "", "file", path_of(p->ir, k->loc), "line", (int)k->loc.line, "unit",
			 file[code->unit_of[i]], "flops", k->flops, "bytes_read", k->bytes_read, "bytes_written", k->bytes_written, "phases",
			 phases);
}

static Status write_json(Arena *a, const char *path, json_t *root)
{
	char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
	json_decref(root);
	assert(text);
	const char *whole = arena_printf(a, "%s\n", text);
	free(text);
	return io_write(path, (Blob){ (const u8 *)whole, strlen(whole) });
}

/* ---- GPUs ---- */

static const struct {
	const char *kind, *suffix;
	CudaOutput output;
} outputs[] = { { "cuda", "cu", CUDA_TEXT }, { "ptx", "ptx", CUDA_PTX }, { "cubin", "cubin", CUDA_CUBIN } };

static Status write_units(Arena *a, const char *folder, const char *const *file, u32 kind, const CudaCode *code, json_t *files)
{
	for (u32 i = 0; i < code->nunit; i++) {
		const CudaUnit *u = &code->unit[i];
		const char *name = arena_printf(a, "%s.%s", file[i], outputs[kind].suffix);
		Blob bytes = { outputs[kind].output == CUDA_TEXT ? (const u8 *)u->text : u->image,
			       outputs[kind].output == CUDA_TEXT ? strlen(u->text) : u->size };
		TRY(io_write(arena_printf(a, "%s/%s", folder, name), bytes));
		json_array_append_new(files, json_string(name));
	}
	return OK;
}

static Status compile_arch(Lm *lm, DriverOptions o, const char *name)
{
	Arena *a = &lm->source.arena;
	Compiled c;
	CudaArch target;
	TRY(cuda_arch(name, &target));
	o.device = "cuda";
	o.arch = name;
	TRY(driver_plan(a, lm->model->program, &o, &c));
	if (!c.plan)
		return FAIL(STATUS_INPUT, "%s cannot be compiled for %s", lm->operand.source, name);
	const char *folder = arena_printf(a, "%s/%s", output, name);
	TRY(io_make_folder(folder));
	json_t *files = json_array(), *kernels = json_array();
	CudaCode code = { 0 };
	const char **file = NULL;
	Status s = OK;
	for (u32 i = 0; i < COUNT(outputs) && !s; i++) {
		if (!wants(outputs[i].kind))
			continue;
		CudaOptions options = { .output = outputs[i].output, .threads = (u32)threads, .verbose = outputs[i].output == CUDA_CUBIN };
		s = cuda_code(&target, &options, c.plan->kernel.v, c.plan->kernel.n, a, &code);
		if (s)
			break;
		file = NEWN(a, const char *, code.nunit + 1);
		for (u32 n = 0; n < code.nunit; n++)
			file[n] = file_name(a, n, code.unit[n].name);
		s = write_units(a, folder, file, i, &code, files);
	}
	for (u32 i = 0; i < c.plan->kernel.n && !s; i++)
		json_array_append_new(kernels, kernel_json(c.plan, &target, &code, i, file));
	u32 nunit = code.nunit;
	json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "plinth", PLINTH_VERSION, "model", lm->model->name, "arch", name, "sizes",
				 o.sizes ? o.sizes : "", "files", files, "kernels", kernels);
	if (s) {
		json_decref(root);
		return s;
	}
	TRY(write_json(a, arena_printf(a, "%s/index.json", folder), root));
	printf("%s: %u kernels in %u units\n", folder, c.plan->kernel.n, nunit);
	return OK;
}

static Status compile_cuda(Lm *lm, DriverOptions o)
{
	static const char *const kind[] = { "cuda", "ptx", "cubin" };
	TRY(check_kinds(kind, COUNT(kind)));
	char name[64];
	CudaArch known; /* all of them are, before the first file is written */
	u32 n = 0;
	for (const char *list = arch; next_word(&list, name, sizeof name); n++)
		TRY(cuda_arch(name, &known));
	if (!n)
		return FAIL(STATUS_INPUT, "--arch names no GPU");
	for (const char *list = arch; next_word(&list, name, sizeof name);)
		TRY(compile_arch(lm, o, arena_printf(&lm->arena, "%s", name)));
	return OK;
}

/* ---- the CPU ---- */

#if PLINTH_LLVM
static Status write_llvm(CpuCompiler *c, const CpuUnit *unit, const char *path)
{
	AtomicFile f;
	TRY(io_create(path, &f));
	cpu_print(c, unit, CPU_IR_OPTIMIZED, f.file);
	return io_commit(&f);
}

static Status write_cpu(Lm *lm, CpuCompiler *compiler, const Plan *p, const char *sizes_of)
{
	Arena *a = &lm->source.arena;
	CpuCode code;
	TRY(cpu_code_units(compiler, p->kernel.v, p->kernel.n, a, &code));
	const char *machine = cpu_compiler_machine(compiler)->name, *folder = arena_printf(a, "%s/%s", output, machine);
	TRY(io_make_folder(folder));
	for (u32 i = 0; i < code.nunit; i++) {
		const CpuUnit *u = &code.unit[i];
		const char *path = arena_printf(a, "%s/%s", folder, file_name(a, i, u->name));
		if (wants("llvm"))
			TRY(write_llvm(compiler, u, arena_printf(a, "%s.ll", path)));
		if (wants("object"))
			TRY(io_write(arena_printf(a, "%s.o", path), u->object));
	}
	json_t *kernels = json_array();
	for (u32 i = 0; i < p->kernel.n; i++) {
		const Kernel *k = p->kernel.v[i];
		json_array_append_new(kernels, json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:f}", "name", k->name, "class",
							 kernel_class_name[k->class], "layer", k->scope ? k->scope : "", "file",
							 path_of(p->ir, k->loc), "line", (int)k->loc.line, "symbol", code.symbol[i], "flops",
							 k->flops));
	}
	TRY(write_json(a, arena_printf(a, "%s/index.json", folder),
		       json_pack("{s:s, s:s, s:s, s:s, s:o}", "plinth", PLINTH_VERSION, "model", lm->model->name, "cpu", machine, "sizes",
				 sizes_of ? sizes_of : "", "kernels", kernels)));
	printf("%s: %u kernels in %u units\n", folder, p->kernel.n, code.nunit);
	return OK;
}

static Status compile_cpu(Lm *lm, DriverOptions o)
{
	static const char *const kind[] = { "llvm", "object" };
	TRY(check_kinds(kind, COUNT(kind)));
	Compiled c;
	TRY(driver_plan(&lm->source.arena, lm->model->program, &o, &c));
	if (!c.plan)
		return FAIL(STATUS_INPUT, "%s cannot be compiled for this processor", lm->operand.source);
	CpuCompiler *compiler;
	CpuOptions options = { .cpu = cpu, .threads = (u32)threads };
	TRY(cpu_compiler_create(&options, &compiler));
	Status s = write_cpu(lm, compiler, c.plan, o.sizes);
	cpu_compiler_destroy(compiler);
	return s;
}
#else
static Status compile_cpu(Lm *lm, DriverOptions o)
{
	Compiled c;
	return driver_plan(&lm->source.arena, lm->model->program, &o, &c); /* says that this build cannot */
}
#endif

static Status run(Lm *lm)
{
	if (!lm->model->program->entry.n || !*lm->model->name)
		return FAIL(STATUS_INPUT, "%s declares no model: there is nothing to compile", lm->operand.source);
	TRY(source_entries(&lm->arena, lm->model->program, entry.v, (u32)entry.n));
	DriverOptions o = { .entry = entry.n ? entry.v : NULL, .nentry = (u32)entry.n, .sizes = sizes,
			    .precision = precision ? precision : lm->model->precision, .accumulate = lm->model->accumulate > 1,
			    .device = device, .cpu = cpu, .threads = (u32)threads };
	if (packaged(output)) {
		PackagedOptions p = { .path = output, .device = device ? device : "cpu", .cpu = cpu, .arch = arch, .entry = o.entry,
				      .nentry = o.nentry, .sizes = sizes, .precision = precision, .forward = forward, .capacity = capacity,
				      .threads = (u32)threads };
		if (emit)
			return FAIL(STATUS_INPUT, "--emit is of files, and %s is a package", output);
		return packaged_write(lm, &p);
	}
	if (forward || capacity)
		return FAIL(STATUS_INPUT, "--%s is of a package, -o FILE.plx, and %s is a folder%s", forward ? "forward" : "capacity", output,
			    forward ? ": --entry forward is the model alone" : "");
	if (!device)
		o.device = device = "cuda";
	TRY(driver_device_options(device, cpu, arch, NULL));
	if (cpu && strchr(cpu, ',') && !strchr("+-", strchr(cpu, ',')[1]))
		return FAIL(STATUS_INPUT, "--cpu %s: files are of one processor, a package (-o FILE.plx) may be of several", cpu);
	if (!arch)
		arch = "sm_90a";
	TRY(sizes_check(&lm->arena, lm->model, "--sizes", sizes, false));
	TRY(sizes_numbers(&lm->arena, lm->model, sizes, &o.sizes));
	if (!strcmp(device, "cpu"))
		return compile_cpu(lm, o);
	if (strcmp(device, "cuda"))
		return FAIL(STATUS_INPUT, "--device %s: cuda or cpu", device);
	return compile_cuda(lm, o);
}

int verb_compile(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	if (!output)
		return verb_misused("compile", "where to? -o FILE.plx, or -o FOLDER");
	Lm lm;
	Status s = lm_open_source(operand[0], &source, &lm);
	if (!s)
		s = run(&lm);
	status = s ? lm_failed("compile", &lm, s) : 0;
	lm_close(&lm);
	return status;
}
