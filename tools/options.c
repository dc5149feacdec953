/* tools/options.c: the command line as a table. See options.h. */
#include "tools/options.h"
#include "support/io.h"
#include "support/str.h"
#include "tools/verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const Option help_option = { "help", 'h', OPTION_FLAG, NULL, NULL, "print this and stop" };

static const Option *by_name(const Command *c, Str name)
{
	for (u32 i = 0; i < c->noption; i++)
		if (str_equal(str_of(c->option[i].name), name))
			return &c->option[i];
	return str_equal(name, STR("help")) ? &help_option : NULL;
}

static const Option *by_letter(const Command *c, char letter)
{
	for (u32 i = 0; i < c->noption; i++)
		if (c->option[i].letter == letter)
			return &c->option[i];
	return letter == help_option.letter ? &help_option : NULL;
}

/* The nearest option's name, or NULL when none is near enough to be what was meant. */
static const char *nearest(const Command *c, Str name)
{
	const char *best = NULL;
	u32 least = (u32)MAX(name.n / 3, (size_t)1) + 1;
	for (u32 i = 0; i <= c->noption; i++) {
		const char *known = i < c->noption ? c->option[i].name : help_option.name;
		u32 d = edit_distance(name, str_of(known));
		if (d < least) {
			least = d;
			best = known;
		}
	}
	return best;
}

/* Digits with single underscores between them, as in the language. */
static bool read_int(const char *text, i64 *out)
{
	char digits[32];
	size_t n = 0;
	for (const char *p = text; *p; p++) {
		if (*p == '_' && p > text && p[-1] != '_' && p[1])
			continue;
		if (n + 1 == sizeof digits)
			return false;
		digits[n++] = *p;
	}
	digits[n] = 0;
	char *end;
	errno = 0;
	*out = strtoll(digits, &end, 10);
	return n && !*end && !errno && strchr("+-0123456789", digits[0]);
}

static bool read_real(const char *text, f64 *out)
{
	char *end;
	errno = 0;
	*out = strtod(text, &end);
	return *text && !*end && !(errno && *out != 0) && !strchr(" \t\n", text[0]);
}

u64 options_memory(const char *text)
{
	size_t digits = strspn(text, "0123456789._"), n = 0;
	if (text[digits] == 'e' || text[digits] == 'E')
		digits += 1 + strspn(text + digits + 1, "+0123456789");
	char number[64];
	for (size_t i = 0; i < digits && n + 1 < sizeof number; i++)
		if (text[i] != '_')
			number[n++] = text[i];
	number[n] = 0;
	const char *unit = text + digits + strspn(text + digits, " ");
	f64 bytes = strtod(number, NULL) * (*unit ? (f64)unit_bytes(str_of(unit)) : 1);
	return text[0] >= '0' && text[0] <= '9' && bytes >= 1 && bytes < 0x1p62 ? (u64)bytes : 0;
}

/* What an option of kind OPTION_OPEN has: the word behind it, if there is one that begins as its argument does. */
static bool belongs(const Option *o, const char *word)
{
	size_t n = strcspn(o->argument, "=") + 1;
	return word && !strncmp(word, o->argument, n);
}

/* A whole number from `least` to `most`; false, with a message, where the text is none. */
static bool store_int(const Command *c, const Option *o, const char *value, i64 least, i64 most)
{
	i64 n;
	if (read_int(value, &n) && n >= least && n <= most) {
		*(i64 *)o->to = n;
		return true;
	}
	if (most == INT64_MAX)
		verb_misused(c->name, "--%s takes a whole number from %lld on, not '%s'", o->name, (long long)least, value);
	else
		verb_misused(c->name, "--%s takes a whole number from %lld to %lld, not '%s'", o->name, (long long)least, (long long)most, value);
	return false;
}

/* False, with a message, when the text is not what the option takes. */
static bool store(const Command *c, const Option *o, const char *value, int argc)
{
	TextList *list = o->to;
	switch (o->kind) {
	case OPTION_FLAG:
		*(bool *)o->to = true;
		return true;
	case OPTION_OPEN:
	case OPTION_TEXT:
		*(const char **)o->to = value;
		return true;
	case OPTION_LIST:
		if (!list->v) {
			list->v = calloc((size_t)argc, sizeof *list->v);
			if (!list->v)
				NEVER("no memory for the command line");
		}
		list->v[list->n++] = value;
		return true;
	case OPTION_FILE:
	case OPTION_FOLDER:
		*(const char **)o->to = value;
		if (*value)
			return true;
		verb_misused(c->name, "--%s names no %s", o->name, o->kind == OPTION_FILE ? "file" : "folder");
		return false;
	case OPTION_INT: return store_int(c, o, value, 0, INT64_MAX);
	case OPTION_SIZE: return store_int(c, o, value, 0, INT32_MAX);
	case OPTION_COUNT: return store_int(c, o, value, 1, INT32_MAX);
	case OPTION_REAL:
		if (read_real(value, o->to))
			return true;
		verb_misused(c->name, "--%s takes a number, not '%s'", o->name, value);
		return false;
	case OPTION_MEMORY:
		*(const char **)o->to = value;
		if (options_memory(value))
			return true;
		verb_misused(c->name, "--%s takes an amount of memory, such as 8GiB, 1.5GB or 512MiB, not '%s'", o->name, value);
		return false;
	}
	NEVER("an option of no kind");
}

/* ---- what holds between options ---- */

typedef u64 Given; /* of each of a command's options, a bit */

static bool is_given(const Command *c, Given given, Str name)
{
	const Option *o = by_name(c, name);
	assert(o && o != &help_option);
	return given >> (o - c->option) & 1;
}

/* The next word of names with spaces between; n = 0: there is none. */
static Str next_name(const char **names)
{
	const char *from = *names + strspn(*names, " ");
	size_t n = strcspn(from, " ");
	*names = from + n;
	return (Str){ from, n };
}

/* The first of the names, without `but`, that is given; n = 0: none is. */
static Str first_given(const Command *c, Given given, const char *names, Str but)
{
	Str found = { "", 0 };
	for (Str name; (name = next_name(&names)).n;)
		if (is_given(c, given, name) && !found.n && !str_equal(name, but))
			found = name;
	return found;
}

/* "--a, --b and --c" */
static const char *listed(const char *names, const char *last, char text[256])
{
	size_t n = 0;
	text[0] = 0;
	for (Str name = next_name(&names); name.n;) {
		Str next = next_name(&names);
		n += (size_t)snprintf(text + n, 256 - n, "--%.*s", STR_ARG(name));
		if (next.n) {
			const char *rest = names;
			n += (size_t)snprintf(text + n, 256 - n, "%s", next_name(&rest).n ? ", " : last);
		}
		name = next;
	}
	assert(n < 256);
	return text;
}

static bool follows(const Command *c, Given given, const OptionRule *r)
{
	char text[256];
	const char *why = r->why ? r->why : "", *colon = r->why ? ": " : "";
	Str none = { "", 0 }, one = first_given(c, given, r->option, none);
	if (r->kind == RULE_NEEDS) {
		if (!one.n || first_given(c, given, r->other, none).n)
			return true;
		verb_misused(c->name, "--%.*s is of %s%s%s", STR_ARG(one), listed(r->other, " or ", text), colon, why);
		return false;
	}
	Str two = first_given(c, given, r->other ? r->other : r->option, one);
	if (!one.n || !two.n)
		return true;
	verb_misused(c->name, "--%.*s and --%.*s exclude each other%s%s", STR_ARG(one), STR_ARG(two), colon, why);
	return false;
}

/* Can what was given be written where it says? */
static Status writable(const Command *c, Given given)
{
	for (u32 i = 0; i < c->noption; i++) {
		const Option *o = &c->option[i];
		if (!(given >> i & 1))
			continue;
		if (o->kind == OPTION_FILE)
			TRY(io_writable(*(const char **)o->to));
		if (o->kind == OPTION_FOLDER)
			TRY(io_folder_writable(*(const char **)o->to));
	}
	return OK;
}

bool options_parse(const Command *c, int argc, char **argv, char ***operand, int *noperand,
		   int *status)
{
	int n = 0;
	bool only_operands = false;
	Given given = 0;
	assert(c->noption <= 64);
	*status = 1;
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *value = NULL;
		const Option *o;
		if (only_operands || word[0] != '-' || !word[1]) {
			argv[1 + n++] = argv[i];
			continue;
		}
		if (!strcmp(word, "--")) {
			only_operands = true;
			continue;
		}
		if (word[1] == '-') {
			const char *equals = strchr(word, '=');
			Str name = { word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2) };
			o = by_name(c, name);
			if (!o) {
				const char *near = nearest(c, name);
				verb_misused(c->name, "there is no option --%.*s%s%s%s", STR_ARG(name),
					     near ? "; did you mean --" : "", near ? near : "",
					     near ? "?" : "");
				return false;
			}
			value = equals ? equals + 1 : NULL;
		} else {
			o = by_letter(c, word[1]);
			if (!o) {
				verb_misused(c->name, "there is no option -%c", word[1]);
				return false;
			}
			value = word[2] ? word + 2 : NULL;
		}
		if (o == &help_option) {
			options_help(c, stdout);
			*status = 0;
			return false;
		}
		if (o->kind == OPTION_FLAG && value) {
			verb_misused(c->name, "--%s takes no value", o->name);
			return false;
		}
		if (o->kind == OPTION_OPEN && value && !belongs(o, value)) {
			verb_misused(c->name, "--%s takes nothing, or %s, not '%s'", o->name, o->argument, value);
			return false;
		}
		if (o->kind == OPTION_OPEN && !value)
			value = i + 1 < argc && belongs(o, argv[i + 1]) ? argv[++i] : "";
		if (o->kind != OPTION_FLAG && !value && ++i == argc) {
			verb_misused(c->name, "--%s needs a value: --%s %s", o->name, o->name,
				     o->argument);
			return false;
		}
		if (!store(c, o, o->kind == OPTION_FLAG || value ? value : argv[i], argc))
			return false;
		given |= (Given)1 << (o - c->option);
	}
	if (n < c->least || (c->most >= 0 && n > c->most)) {
		if (n < c->least)
			verb_misused(c->name, "too few arguments; usage: plinth %s %s", c->name,
				     c->operands);
		else
			verb_misused(c->name, "what is '%s' for? usage: plinth %s %s",
				     argv[1 + c->most], c->name, c->operands ? c->operands : "");
		return false;
	}
	for (u32 i = 0; i < c->nrule; i++)
		if (!follows(c, given, &c->rule[i]))
			return false;
	Status s = writable(c, given);
	*operand = argv + 1;
	*noperand = n;
	*status = s ? verb_failed(c->name, s) : 0;
	return !s;
}

static int head_width(const Option *o)
{
	return (int)(strlen(o->name) + (o->argument ? strlen(o->argument) + 1 : 0));
}

static void option_help(const Option *o, int width, FILE *to)
{
	if (o->letter)
		fprintf(to, "  -%c, ", o->letter);
	else
		fputs("      ", to);
	fprintf(to, "--%s%s%s%*s  %s\n", o->name, o->argument ? " " : "",
		o->argument ? o->argument : "", width - head_width(o), "", o->help);
}

/* The command's rules of one kind, in a paragraph. */
static void rules_help(const Command *c, RuleKind kind, const char *head, FILE *to)
{
	char text[256];
	const char *before = head;
	for (u32 i = 0; i < c->nrule; i++) {
		const OptionRule *r = &c->rule[i];
		if (r->kind != kind)
			continue;
		fprintf(to, "%s%s", before, listed(r->option, " and ", text));
		if (r->other)
			fprintf(to, "%s%s", kind == RULE_NEEDS ? " with " : " beside ", listed(r->other, " or ", text));
		before = "; ";
	}
	if (before != head)
		fputs("\n", to);
}

void options_help(const Command *c, FILE *to)
{
	fprintf(to, "usage: plinth %s [OPTION...]%s%s\n\n%s\n\noptions:\n", c->name,
		c->operands ? " " : "", c->operands ? c->operands : "", c->about);
	int width = head_width(&help_option);
	for (u32 i = 0; i < c->noption; i++)
		width = MAX(width, head_width(&c->option[i]));
	for (u32 i = 0; i < c->noption; i++)
		option_help(&c->option[i], width, to);
	option_help(&help_option, width, to);
	rules_help(c, RULE_NEEDS, "\nonly: ", to);
	rules_help(c, RULE_EXCLUDE, "\nnot together: ", to);
	fprintf(to, "\nexample:\n%s\n", c->example);
}
