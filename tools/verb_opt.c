/* tools/verb_opt.c: `plinth opt`: runs passes over a program as IR text (.plg), and prints what
 * comes out: each pass reachable alone, every dump the input of the next step. Also lists passes
 * and ops. */
#include "ir/op.h"
#include "passes/pass.h"
#include "support/io.h"
#include "tools/verbs.h"

#include <stdlib.h>
#include <string.h>

static const char *passes = "", *sizes, *stop_after, *dump_folder, *save_folder, *output;
static bool check_eval, verify_each, show_time, trace, list_passes, list_ops, markdown, json;
static i64 limit, check_steps;
static TextList dump_before, dump_after;

static const Option options[] = {
	{ "passes", 'p', OPTION_TEXT, &passes, "PASSES",
	  "what to run: simplify,bind{B=4,T=64},expand; see --list-passes" },
	{ "output", 'o', OPTION_FILE, &output, "FILE",
	  "where the program goes, instead of standard output" },
	{ "check-eval", 0, OPTION_FLAG, &check_eval, NULL,
	  "evaluate before and after each pass, and compare" },
	{ "check-steps", 0, OPTION_COUNT, &check_steps, "N",
	  "so many steps of training too" },
	{ "sizes", 0, OPTION_TEXT, &sizes, "B=4,T=64",
	  "numbers for symbols when evaluating (4 where none is given)" },
	{ "verify-each", 0, OPTION_FLAG, &verify_each, NULL,
	  "verify after each pass, in a build without assertions too" },
	{ "time", 0, OPTION_FLAG, &show_time, NULL,
	  "say for each pass how long it took and what it left" },
	{ "trace", 0, OPTION_FLAG, &trace, NULL, "let passes say what they decided" },
	{ "dump-before", 0, OPTION_LIST, &dump_before, "PASS",
	  "print the program before this pass; '*' is every pass" },
	{ "dump-after", 0, OPTION_LIST, &dump_after, "PASS",
	  "print the program after this pass, or that it is unchanged" },
	{ "dump-dir", 0, OPTION_FOLDER, &dump_folder, "FOLDER",
	  "dumps go to files in here, instead of standard error; made if missing" },
	{ "save-dir", 0, OPTION_FOLDER, &save_folder, "FOLDER",
	  "where the program before a failing pass is saved (here)" },
	{ "pass-limit", 0, OPTION_COUNT, &limit, "N", "run only the first N passes" },
	{ "stop-after", 0, OPTION_TEXT, &stop_after, "PASS",
	  "stop after the first run of this pass" },
	{ "list-passes", 0, OPTION_FLAG, &list_passes, NULL,
	  "list passes, named pipelines and facts" },
	{ "list-ops", 0, OPTION_FLAG, &list_ops, NULL, "list ops with their attributes" },
	{ "markdown", 0, OPTION_FLAG, &markdown, NULL, "list ops as docs/ir.md does" },
	{ "json", 0, OPTION_FLAG, &json, NULL, "errors as one JSON object a line" },
};

static const OptionRule rules[] = {
	{ RULE_NEEDS, "sizes check-steps", "check-eval", NULL },
	{ RULE_NEEDS, "dump-dir", "dump-before dump-after", NULL },
	{ RULE_NEEDS, "markdown", "list-ops", NULL },
	{ RULE_EXCLUDE, "list-passes list-ops", "passes output", "nothing is run" },
};

static const Command command = {
	.name = "opt",
	.operands = "[FILE.plg]",
	.most = 1,
	.about =
		"Reads a program as IR text (`-` is standard input), checks it, runs passes over "
		"it\n"
		"in the order given, and prints the program that they leave. Without --passes, it\n"
		"checks the program and prints it in the form that every program is printed in.",
	.example =
		"  plinth opt --passes=simplify,expand gpt2.plg\n"
		"  plinth opt --passes='bind{B=2,T=8},grad{of=loss}' --check-eval gpt2.plg\n"
		"  plinth show --stage=graph gpt2.plinth | plinth opt --passes=prepare --time -\n"
		"  plinth opt --list-ops",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

/* ---- lists ---- */

static const char *count_text(u8 n, char text[8])
{
	if (n == VARN)
		return "any";
	snprintf(text, 8, "%u", n);
	return text;
}

static const char *const attr_kind_name[] = {
	[ATTR_i64] = "i64", [ATTR_f64] = "f64",   [ATTR_bool] = "bool", [ATTR_dtype] = "dtype",
	[ATTR_str] = "str", [ATTR_ints] = "ints", [ATTR_dims] = "dims",
};
static const char *const op_kind_name[] = {
	[EW] = "elementwise", [PRIM] = "primitive", [COMP] = "composite"
};

static void print_attributes(const OpInfo *op)
{
	u32 n;
	const AttrField *f = op->fields(&n);
	for (u32 i = 0; i < n; i++)
		printf("%s%s: %s", i ? ", " : "", f[i].name, attr_kind_name[f[i].kind]);
}

/* A bar would end a cell. */
static void print_cell(const char *text)
{
	for (; *text; text++)
		printf(*text == '|' ? "\\|" : "%c", *text);
}

static void print_ops(void)
{
	char in[8], out[8];
	for (u32 kind = EW; markdown && kind <= COMP; kind++) {
		printf("%s### %c%s ops\n\n| op | operands | results | attributes | what it gives "
		       "|\n"
		       "| --- | --- | --- | --- | --- |\n",
		       kind ? "\n" : "", op_kind_name[kind][0] - 32, op_kind_name[kind] + 1);
		for (u32 i = 0; i < OPS; i++) {
			const OpInfo *op = &op_info[i];
			if (op->kind != kind)
				continue;
			printf("| `%s` | %s | %s | ", op->name, count_text(op->nin, in),
			       count_text(op->nout, out));
			print_attributes(op);
			printf(" | ");
			print_cell(op->doc);
			printf(" |\n");
		}
	}
	for (u32 i = 0; !markdown && i < OPS; i++) {
		const OpInfo *op = &op_info[i];
		const OpDef *d = op->def;
		printf("%-20s %-11s %3s -> %-3s {", op->name, op_kind_name[op->kind],
		       count_text(op->nin, in), count_text(op->nout, out));
		print_attributes(op);
		printf("}\n    %s\n", op->doc);
		/* a missing function is a fact about the op */
		printf("    has: infer%s%s%s%s%s%s%s%s\n", d->fold ? " fold" : "",
		       d->expand ? " expand" : "", d->vjp ? " vjp" : "", d->cost ? " cost" : "",
		       d->eval ? " eval" : "", d->along ? " along" : "", d->sample ? " sample" : "",
		       op->traits & T_WHOLE ? " (a target may lower it whole)" : "");
	}
}

static void print_facts(const char *word, u32 facts)
{
	for (u32 i = 0, n = 0; i < FACTS; i++)
		if (facts & 1u << i)
			printf("%s%s", n++ ? ", " : word, fact_info[i].name);
}

static void print_passes(void)
{
	puts("passes:");
	for (u32 i = 0; i < PASSES; i++) {
		const Pass *p = &pass_info[i];
		bool takes = p->arguments[0];
		printf("  %s%s%s%s", p->name, takes ? "{" : "", p->arguments, takes ? "}" : "");
		print_facts("; needs ", p->needs);
		print_facts("; gives ", p->gives);
		print_facts("; drops ", p->drops);
		printf("\n      %s\n", p->help);
	}
	puts("\npipelines:");
	for (u32 i = 0; i < PIPELINES; i++)
		printf("  %s = %s\n      %s\n", pipeline_info[i].name, pipeline_info[i].text,
		       pipeline_info[i].help);
	puts("\nfacts:");
	for (u32 i = 0; i < FACTS; i++)
		printf("  %s: %s\n", fact_info[i].name, fact_info[i].text);
}

/* ---- running ---- */

static bool known_pass(const char *name)
{
	bool known = strcmp(name, "*") == 0;
	for (u32 i = 0; i < PASSES; i++)
		known |= strcmp(name, pass_info[i].name) == 0;
	return known;
}

static int check_names(void)
{
	for (int i = 0; i < dump_before.n + dump_after.n; i++) {
		const char *name =
			i < dump_before.n ? dump_before.v[i] : dump_after.v[i - dump_before.n];
		if (!known_pass(name))
			return verb_misused("opt", "there is no pass '%s' to dump", name);
	}
	if (stop_after && !known_pass(stop_after))
		return verb_misused("opt", "there is no pass '%s' to stop after", stop_after);
	return 0;
}

static void print_times(const PassCx *cx)
{
	for (u32 i = 0; i < cx->time.n; i++) {
		const PassTime *t = &cx->time.v[i];
		fprintf(stderr, "%-12s %9.3f ms %8u -> %u nodes, %zu bytes%s\n", t->pass,
			1e3 * t->seconds, t->nodes_before, t->nodes_after, t->bytes,
			t->unchanged ? ", unchanged" : "");
	}
}

static Status write_result(const Program *p)
{
	if (!output) {
		program_print(p, stdout);
		return OK;
	}
	AtomicFile f;
	TRY(io_create(output, &f));
	program_print(p, f.file);
	return io_commit(&f);
}

static int run(Arena *a, const char *path)
{
	Diag d = { .arena = a };
	Str text;
	Status status = io_read(a, strcmp(path, "-") == 0 ? "/dev/stdin" : path, &text);
	if (status)
		return verb_failed("opt", status);
	Ir *ir = ir_new(a, &d);
	Program *in = program_parse(a, ir, text, diag_source(&d, path, text));
	if (!in)
		return verb_report(&d, json);
	PipelineOptions o = {
		.verify_each = verify_each,
		.compare = show_time,
		.check_eval = check_eval,
		.check_steps = (u32)check_steps,
		.sizes = sizes,
		.stop_after = stop_after,
		.limit = limit,
		.dump_before = dump_before.v,
		.dump_after = dump_after.v,
		.ndump_before = (u32)dump_before.n,
		.ndump_after = (u32)dump_after.n,
		.dump_folder = dump_folder,
		.dump = stderr,
		.save_folder = save_folder,
	};
	PassCx cx = {
		.out = a, .ir = ir, .diag = &d, .trace = trace ? stderr : NULL, .options = &o, .written = true
	};
	Program *out = pipeline_run(str_of(passes), &cx, in, &status);
	int code = verb_report(&d, json);
	if (show_time)
		print_times(&cx);
	if (cx.broken)
		abort(); /* as any assertion of ours would */
	if (out && !status)
		status = write_result(out);
	return status ? verb_failed("opt", status) : code;
}

int verb_opt(int argc, char **argv)
{
	char **file;
	int n, status;
	if (!options_parse(&command, argc, argv, &file, &n, &status))
		return status;
	if (list_passes)
		print_passes();
	if (list_ops)
		print_ops();
	if (list_passes || list_ops)
		return 0;
	if (n == 0)
		return verb_misused("opt",
				    "which program? Give a .plg file, or - for standard input");
	status = check_names();
	if (status)
		return status;
	Arena a = ARENA("opt");
	status = run(&a, file[0]);
	arena_free(&a);
	return status;
}
