/* tools/verb_show.c: `plinth show FILE`: what a model is made of; or, with --stage, its program at a level on the way
 * down, as text. */
#include "passes/fuse.h"
#include "passes/plan/plan.h"
#include "support/io.h"
#include "tools/sizes.h"
#include "tools/source.h"
#include "tools/summary.h"
#include "tools/verbs.h"

#include <stdlib.h>
#include <string.h>

static SourceOptions source;
static const char *stage, *sizes, *precision, *device, *cpu, *arch;
static TextList entry;
static bool json;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "sizes", 'z', OPTION_TEXT, &sizes, "B=8,T=256", "numbers for sizes, over those of the train block's batch" },
	{ "stage", 't', OPTION_TEXT, &stage, "STAGE", "print the program there: ast, graph, fused, kernels or plan" },
	{ "entry", 'e', OPTION_LIST, &entry, "NAME", "of --stage=fused or kernels, only this entry: forward, micro_first, update, ..." },
	{ "precision", 0, OPTION_TEXT, &precision, "TYPE", "what matrix multiplies take: f32, bf16, autocast, fp8; else as the file says" },
	{ "device", 0, OPTION_TEXT, &device, "NAME", "what the plan is for: cpu, cuda" },
	{ "cpu", 0, OPTION_TEXT, &cpu, "NAME", "the processor that it is for, as LLVM calls it; this one if not given" },
	{ "arch", 0, OPTION_TEXT, &arch, "NAME", "the GPU architecture that it is for: sm_90a" },
	{ "json", 'j', OPTION_FLAG, &json, NULL, "the summary, and messages, as JSON" },
};

static const Command command = {
	.name = "show",
	.operands = "FILE",
	.least = 1,
	.most = 1,
	.about = "Shows a model as a tree of modules: parameters, FLOPs per token of the forward\n"
		 "pass and of training (forward and backward), bytes of activations kept for the\n"
		 "backward half; layers that repeat are one row. Everything is counted on the\n"
		 "program itself, after differentiation and fusion, for the sizes of the train\n"
		 "block's batch or of --sizes. A token is an element of the first input, where\n"
		 "that is of integers; else numbers are per sample.\n"
		 "\n"
		 "With --stage, prints the program instead, at one level on the way down:\n"
		 "  ast      what was written, as an S-expression\n"
		 "  graph    what `check --graph` prints: IR text that `plinth opt` reads\n"
		 "  fused    groups of nodes that become one kernel each: what they compute, read and\n"
		 "           store, bytes and FLOPs, and why each ends where it does\n"
		 "  kernels  loops and bodies, as every target gets them\n"
		 "  plan     steps in order, buffers with their offsets and lifetimes",
	.example = "  plinth show models/gpt2.plinth\n"
		   "  plinth show models/llama.plinth --preset llama32_1b --sizes B=1,T=2048\n"
		   "  plinth show models/gpt2.plinth --set layers=1 --stage=graph | plinth opt --passes=prepare -\n"
		   "  plinth show models/gpt2.plinth --set layers=1 --stage=fused --entry=micro_first\n"
		   "  plinth show models/gpt2.plinth --json",
	.option = options,
	.noption = COUNT(options),
};

static bool wanted_entry(const char *name)
{
	bool wanted = !entry.n;
	for (int i = 0; i < entry.n; i++)
		wanted |= !strcmp(entry.v[i], name);
	return wanted;
}

/* ---- stages ---- */

static void show_fused(const Program *p, const TargetInfo *target)
{
	Arena tmp = ARENA("show");
	for (u32 i = 0; i < p->entry.n; i++) {
		if (!wanted_entry(p->entry.v[i]->name))
			continue;
		printf("entry %s\n", p->entry.v[i]->name);
		grouping_print(fuse_graph(&tmp, &tmp, p->entry.v[i], target, NULL), stdout);
	}
	arena_free(&tmp);
}

static void show_kernels(const Plan *p)
{
	for (u32 i = 0; i < p->entry.n; i++) {
		const EntryPlan *e = p->entry.v[i];
		if (!wanted_entry(e->name))
			continue;
		printf("entry %s\n", e->name);
		for (u32 k = 0; k < e->step.n; k++)
			kernel_print(p->kernel.v[e->step.v[k].kernel], stdout);
	}
}

/* What the plan has stored past the caches (passes/plan/stream.c). */
static void show_streamed(const Plan *p)
{
	for (u32 i = 0; i < p->entry.n; i++)
		for (u32 n = 0; n < p->entry.v[i]->step.n; n++) {
			const EntryPlan *e = p->entry.v[i];
			const Kernel *k = p->kernel.v[e->step.v[n].kernel];
			for (u32 s = 0; s < k->slot.n; s++)
				if (k->slot.v[s].streamed)
					printf("streamed past the caches: %s of %s in %s, %llu bytes\n", k->slot.v[s].name, k->name, e->name,
					       (unsigned long long)e->buffer.v[e->step.v[n].slot[s]].bytes);
		}
}

/* ---- the verb ---- */

static const char *const stages[] = { "ast", "graph", "fused", "kernels", "plan" };

static int show_ast(const char *path)
{
	Arena a = ARENA("show");
	Diag d = { .arena = &a };
	Interner names = { .arena = &a };
	Str text;
	Status s = io_read(&a, path, &text);
	if (s) {
		arena_free(&a);
		return verb_failed("show", s);
	}
	const Ast *ast = parse_source(&a, &names, &d, path, text);
	int status = verb_report(&d, json);
	if (!status)
		ast_dump(ast, stdout);
	arena_free(&a);
	return status;
}

/* Down to the plan; the exit status, 0 where there is one. */
static int plan_model(SourceFile *f, const char *bound, Compiled *out)
{
	/* of training, `micro` stands for both halves of a micro-step */
	static const char *const all[] = { "forward", "micro", "update", "eval" };
	const char *some[COUNT(all)];
	u32 n = 0;
	for (u32 i = 0; i < COUNT(all); i++)
		if (program_find_entry(f->model->program, str_of(all[i])) && (i < 3 || stage))
			some[n++] = all[i];
	DriverOptions o = { .entry = some, .nentry = n, .sizes = bound, .device = device, .cpu = cpu, .arch = arch, .accumulate = f->model->accumulate > 1,
			    .precision = precision ? precision : f->model->precision,
			    .trace = stage && !strcmp(stage, "fused") ? stdout : NULL };
	Status s = driver_plan(&f->arena, f->model->program, &o, out);
	if (s)
		return verb_failed("show", s);
	return out->plan ? 0 : verb_report(&f->diag, json);
}

static int show_model(SourceFile *f)
{
	if (!f->model->program->entry.n || !*f->model->name)
		return verb_misused("show", "the file declares no model: there is nothing to count. --stage=ast shows what it says");
	Status unknown = sizes_check(&f->arena, f->model, "--sizes", sizes, false);
	if (unknown)
		return verb_misused("show", "%s", unknown->text);
	const char *missing, *bound = sizes_all(&f->arena, f->model, sizes, &missing);
	Compiled compiled = { 0 };
	if (missing && stage)
		return verb_misused("show", "which sizes? --sizes %s", missing);
	int status = missing ? 0 : plan_model(f, bound, &compiled);
	if (status)
		return status;
	Status s = source_entries(&f->arena, compiled.program ? compiled.program : f->model->program, entry.v, (u32)entry.n);
	if (s)
		return verb_failed("show", s);
	if (stage && !strcmp(stage, "fused")) {
		show_fused(compiled.program, compiled.target);
		show_streamed(compiled.plan);
	} else if (stage && !strcmp(stage, "kernels")) {
		show_kernels(compiled.plan);
	} else if (stage) {
		plan_print(compiled.plan, stdout);
	} else {
		const Summary *s = summarize(&f->arena, f->model->program, missing ? NULL : &compiled);
		if (json) {
			summary_print_json(s, stdout);
			return 0;
		}
		if (*bound && !missing)
			printf("%s with %s, %s\n\n", f->model->name, bound, precision ? precision : f->model->precision);
		summary_print(s, stdout);
		if (missing)
			printf("\nFLOPs and memory depend on sizes: --sizes %s\n", missing);
	}
	return 0;
}

/* What a stage has nothing of: the file as it is written, and its program before sizes and devices. NULL: all that is given. */
static const char *of_later_stages(void)
{
	bool tree = !strcmp(stage, "ast"), early = tree || !strcmp(stage, "graph");
	const struct {
		bool given;
		const char *name;
	} of[] = { { tree && source.preset, "preset" }, { tree && source.config, "hf-config" }, { tree && source.set.n, "set" }, { early && sizes, "sizes" },
		   { early && precision, "precision" }, { early && device, "device" }, { early && cpu, "cpu" }, { early && arch, "arch" } };
	for (u32 i = 0; i < COUNT(of); i++)
		if (of[i].given)
			return of[i].name;
	return NULL;
}

int verb_show(int argc, char **argv)
{
	char **file;
	int n, status;
	if (!options_parse(&command, argc, argv, &file, &n, &status))
		return status;
	bool known = !stage;
	for (u32 i = 0; i < COUNT(stages); i++)
		known |= stage && !strcmp(stages[i], stage);
	if (!known)
		return verb_misused("show", "there is no stage '%s': ast, graph, fused, kernels, plan", stage);
	const char *later = stage ? of_later_stages() : NULL;
	if (later)
		return verb_misused("show", "--stage=%s is of %s, which --%s says nothing of", stage,
				    strcmp(stage, "ast") ? "the program before its sizes are numbers" : "the file as it is written", later);
	if (stage && !strcmp(stage, "ast"))
		return show_ast(file[0]);
	bool by_entry = stage && (!strcmp(stage, "fused") || !strcmp(stage, "kernels"));
	if (entry.n && !by_entry)
		return verb_misused("show", "--entry is of --stage=fused and --stage=kernels");
	SourceFile f;
	Status s = source_open(file[0], &source, &f);
	status = s ? verb_failed("show", s) : verb_report(&f.diag, json);
	if (!s && !status && f.model) {
		if (stage && !strcmp(stage, "graph"))
			program_print(f.model->program, stdout);
		else
			status = show_model(&f);
	}
	source_close(&f);
	return status;
}
