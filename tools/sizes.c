/* tools/sizes.c: see sizes.h. */
#include "tools/sizes.h"
#include "passes/graph/bind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

u32 sizes_symbols(Arena *a, const Model *m, const char ***symbol)
{
	if (m->program)
		return program_symbols(a, m->program, symbol);
	*symbol = m->symbol.v; /* of a package, which records them so */
	return m->symbol.n;
}

Status sizes_check(Arena *a, const Model *m, const char *option, const char *given, bool bounds)
{
	const char **symbol;
	u32 n = sizes_symbols(a, m, &symbol);
	bool *seen = NEWN(a, bool, n + 1);
	for (const char *at = given; at && *at;) {
		size_t length = strcspn(at, ","), name = strcspn(at, "<=,"), number = name + strspn(at + name, "<=");
		bool bound = number == name + 2 && at[name] == '<' && at[name + 1] == '=';
		char *end = NULL;
		u32 known = 0;
		while (known < n && (strlen(symbol[known]) != name || strncmp(symbol[known], at, name)))
			known++;
		errno = 0;
		bool stated = bound ? bounds : number == name + 1 && at[name] == '=';
		if (known == n || !stated || strtoll(at + number, &end, 10) < 1 || errno || end != at + length) {
			Buf all = { .arena = a };
			for (u32 i = 0; i < n; i++)
				buf_printf(&all, "%s%s", i ? ", " : "", symbol[i]);
			return FAIL(STATUS_INPUT, "%s %.*s: a size is NAME=NUMBER%s, and the model has %s", option, (int)length, at,
				    bounds ? " or NAME<=NUMBER" : "", n ? all.text : "none that is not a number already");
		}
		if (seen[known])
			return FAIL(STATUS_INPUT, "%s %s gives %s twice", option, given, symbol[known]);
		seen[known] = true;
		at += length + (at[length] == ',');
	}
	return OK;
}

/* The number that `given` or the recipe gives a symbol, "=8" or "<=8"; NULL: none does. */
static const char *size_of(Arena *a, const Model *m, const char *given, const char *symbol)
{
	for (const char *at = given; at && *at;) {
		size_t length = strcspn(at, ","), name = strcspn(at, "<=,");
		if (name < length && !strncmp(at, symbol, name) && !symbol[name])
			return arena_strn(a, (Str){ at + name, length - name });
		at += length + (at[length] == ',');
	}
	for (u32 i = 0; i < m->symbol.n; i++)
		if (!strcmp(m->symbol.v[i], symbol))
			return arena_printf(a, "=%lld", (long long)m->symbol_value.v[i]);
	return NULL;
}

const char *sizes_dynamic(Arena *a, const Model *m, const char *given)
{
	static const char prefix[] = "export.dynamic.";
	const char **symbol;
	u32 n = sizes_symbols(a, m, &symbol);
	Buf all = { .arena = a };
	buf_put(&all, str_of(given ? given : ""));
	for (u32 i = 0; i < m->setting.n; i++) {
		const Setting *s = &m->setting.v[i];
		const char *size = str_starts(str_of(s->key), STR(prefix)) ? s->key + strlen(prefix) : NULL;
		bool known = false, named = false;
		for (u32 k = 0; size && k < n; k++)
			known |= !strcmp(symbol[k], size);
		for (const char *at = given; known && at && *at; at += *at == ',') {
			named |= strcspn(at, "<=,") == strlen(size) && !strncmp(at, size, strlen(size));
			at += strcspn(at, ",");
		}
		if (known && !named)
			buf_printf(&all, "%s%s<=%lld", all.n ? "," : "", size, (long long)s->number);
	}
	return all.n ? all.text : given;
}

const char *sizes_all(Arena *a, const Model *m, const char *given, const char **missing)
{
	Buf have = { .arena = a }, lack = { .arena = a };
	const char **symbol;
	u32 n = sizes_symbols(a, m, &symbol);
	for (u32 i = 0; i < n; i++) {
		const char *value = size_of(a, m, given, symbol[i]);
		if (value)
			buf_printf(&have, "%s%s%s", have.n ? "," : "", symbol[i], value);
		else
			buf_printf(&lack, "%s%s=..", lack.n ? "," : "", symbol[i]);
	}
	*missing = lack.n ? lack.text : NULL;
	return have.n ? have.text : "";
}

Status sizes_numbers(Arena *a, const Model *m, const char *given, const char **out)
{
	const char *missing;
	*out = sizes_all(a, m, given, &missing);
	return missing ? FAIL(STATUS_INPUT, "which sizes? --sizes %s", missing) : OK;
}
