/* tools/verb_explain.c: `plinth explain [CODE]`: the rows of support/errors.def; and the language's functions. */
#include "frontend/functions.h"
#include "support/str.h"
#include "tools/verbs.h"

#include <string.h>
#include <strings.h>

static bool functions, markdown;

static const Option options[] = {
	{ "functions", 'f', OPTION_FLAG, &functions, NULL, "list the language's built-in functions" },
	{ "markdown", 0, OPTION_FLAG, &markdown, NULL, "list them as docs/language.md does" },
};

static const Command command = {
	.name = "explain",
	.operands = "[CODE|FUNCTION...]",
	.most = -1,
	.about = "Says what an error code means and what to do about it, or what a built-in\n"
		 "function of the language takes and gives. Without a word, lists all codes.\n"
		 "Codes are stable: a log of an older version can be looked up.",
	.example = "  plinth explain E0101        what this code means\n"
		   "  plinth explain attention    what this function takes and gives\n"
		   "  plinth explain              every code with its title\n"
		   "  plinth explain --functions  every function",
	.option = options,
	.noption = COUNT(options),
};

/* Words of `text`, in lines of at most 78 columns. */
static void wrapped(const char *text)
{
	size_t column = 0;
	while (*text) {
		size_t n = strcspn(text, " ");
		if (column && column + 1 + n > 78) {
			putchar('\n');
			column = 0;
		}
		column += (size_t)printf("%s%.*s", column ? " " : "", (int)n, text);
		text += n;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static int explain(const char *code)
{
	const char *near = NULL;
	u32 least = 2;
	for (u32 i = 0; i < ERROR_CODES; i++) {
		const ErrorInfo *e = &error_info[i];
		if (!strcasecmp(e->code, code)) {
			printf("%s: %s\n\n", e->code, e->title);
			wrapped(e->text);
			return 0;
		}
		u32 d = edit_distance(str_of(code), str_of(e->code));
		if (d < least) {
			least = d;
			near = e->code;
		}
	}
	if (function_print(code, stdout))
		return 0;
	return verb_misused("explain", "there is no code '%s'%s%s%s", code,
			    near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

int verb_explain(int argc, char **argv)
{
	char **code;
	int n, status;
	if (!options_parse(&command, argc, argv, &code, &n, &status))
		return status;
	if (n && (functions || markdown))
		return verb_misused("explain", "what is '%s' for? --%s lists functions", code[0], functions ? "functions" : "markdown");
	if (functions || markdown) {
		functions_print(markdown, stdout);
		return 0;
	}
	for (u32 i = 0; n == 0 && i < ERROR_CODES; i++)
		printf("%s  %s\n", error_info[i].code, error_info[i].title);
	for (int i = 0; i < n; i++) {
		if (i)
			putchar('\n');
		status |= explain(code[i]);
	}
	return status;
}
