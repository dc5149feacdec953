/* tools/verb_check.c: `plinth check FILE...`: everything that is wrong with a model, before anything is
 * compiled. */
#include "tools/source.h"
#include "tools/verbs.h"

static SourceOptions source;
static bool json, graph;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "json", 'j', OPTION_FLAG, &json, NULL, "messages as JSON, one a line" },
	{ "graph", 'g', OPTION_FLAG, &graph, NULL, "print the program as IR text (.plg)" },
};

static const OptionRule rules[] = {
	{ RULE_EXCLUDE, "json graph", NULL, NULL },
};

static const Command command = {
	.name = "check",
	.operands = "FILE...",
	.least = 1,
	.most = -1,
	.about = "Checks models: syntax, names, shapes, types, parameters, recipes. Every\n"
		 "independent error is reported with its place; `plinth explain CODE` says more\n"
		 "about one. Sizes that are not numbers yet (B, T) are checked for all values.",
	.example = "  plinth check models/gpt2.plinth\n"
		   "  plinth check models/gpt2.plinth --preset xl --set heads=20",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

static int check(const char *path)
{
	SourceFile file;
	Status s = source_open(path, &source, &file);
	int status = s ? verb_failed("check", s) : verb_report(&file.diag, json);
	if (!s && !status && graph && file.model)
		program_print(file.model->program, stdout);
	source_close(&file);
	return status;
}

int verb_check(int argc, char **argv)
{
	char **file;
	int n, status;
	if (!options_parse(&command, argc, argv, &file, &n, &status))
		return status;
	for (int i = 0; i < n; i++) {
		int one = check(file[i]);
		status = one > status ? one : status;
	}
	return status;
}
