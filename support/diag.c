/* support/diag.c: collecting and printing messages. */
#include "support/diag.h"

#include <stdlib.h>
#include <string.h>

const ErrorInfo error_info[ERROR_CODES] = {
#define ERROR(code, title, text) [code] = { #code, title, text },
#include "support/errors.def"
#undef ERROR
};

u16 diag_source(Diag *d, const char *path, Str text)
{
	if (d->nsource == d->source_cap) {
		u16 cap = d->source_cap ? (u16)(d->source_cap * 2) : 8;
		Source *more = NEWN(d->arena, Source, cap);
		if (d->nsource)
			memcpy(more, d->source, d->nsource * sizeof *more);
		d->source = more;
		d->source_cap = cap;
	}
	d->source[d->nsource] = (Source){ path, text };
	return d->nsource++;
}

static bool same_place(Loc a, Loc b)
{
	return a.file == b.file && a.line == b.line && a.column == b.column;
}

static bool repeated(const Diag *d, Severity severity, ErrorCode code, Loc loc)
{
	for (const Message *m = d->first; m && loc.line; m = m->next)
		if (m->severity == severity && m->code == code && same_place(m->loc, loc))
			return true;
	return false;
}

static void add(Diag *d, Severity severity, ErrorCode code, Loc loc, const char *format,
		va_list args)
{
	if (severity != SEV_NOTE) {
		d->dropped = repeated(d, severity, code, loc);
		if (!d->dropped && severity == SEV_ERROR)
			d->dropped = ++d->nerror > (d->limit ? d->limit : 100);
		else if (!d->dropped)
			d->nwarning++;
	}
	if (d->dropped)
		return;
	Message *m = NEW(d->arena, Message);
	m->severity = severity;
	m->code = code;
	m->loc = loc;
	m->text = arena_vprintf(d->arena, format, args);
	if (d->last)
		d->last->next = m;
	else
		d->first = m;
	d->last = m;
}

bool diag_error(Diag *d, ErrorCode code, Loc loc, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	add(d, SEV_ERROR, code, loc, format, args);
	va_end(args);
	return false;
}

bool diag_warning(Diag *d, ErrorCode code, Loc loc, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	add(d, SEV_WARNING, code, loc, format, args);
	va_end(args);
	return false;
}

bool diag_note(Diag *d, Loc loc, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	add(d, SEV_NOTE, E0000, loc, format, args);
	va_end(args);
	return false;
}

/* A message that is no note, with the position it came in, so that sorting is stable. */
typedef struct Head {
	const Message *m;
	u32 order;
} Head;

static int by_place(const void *pa, const void *pb)
{
	const Head *a = pa, *b = pb;
	const Loc *x = &a->m->loc, *y = &b->m->loc;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	if (x->column != y->column)
		return x->column < y->column ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static Head *sorted(const Diag *d, Arena *tmp, u32 *n)
{
	*n = 0;
	for (const Message *m = d->first; m; m = m->next)
		*n += m->severity != SEV_NOTE;
	Head *head = NEWN(tmp, Head, *n + 1);
	u32 i = 0;
	for (const Message *m = d->first; m; m = m->next)
		if (m->severity != SEV_NOTE) {
			head[i] = (Head){ m, i };
			i++;
		}
	if (*n)
		qsort(head, *n, sizeof *head, by_place);
	return head;
}

static Str line_of(const Source *s, u32 line)
{
	const char *p = s->text.s, *end = s->text.s + s->text.n;
	for (u32 i = 1; i < line && p < end; i++) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		p = nl ? nl + 1 : end;
	}
	const char *nl = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
	return (Str){ p, (size_t)((nl ? nl : end) - p) };
}

static const char *const severity_name[] = { "note", "warning", "error" };

static void print_one(const Diag *d, const Message *m, FILE *to, bool colour)
{
	static const char *const paint[] = { "\033[1;36m", "\033[1;35m", "\033[1;31m" };
	bool placed = m->loc.line && m->loc.file < d->nsource;
	if (placed)
		fprintf(to, "%s:%u:%u: ", d->source[m->loc.file].path, m->loc.line, m->loc.column);
	fprintf(to, "%s%s%s", colour ? paint[m->severity] : "", severity_name[m->severity],
		colour ? "\033[0m" : "");
	if (m->severity != SEV_NOTE)
		fprintf(to, "[%s]", error_info[m->code].code);
	fprintf(to, ": %s\n", m->text);
	if (!placed || !d->source[m->loc.file].text.s)
		return; /* a source that is known by its path alone */
	Str line = line_of(&d->source[m->loc.file], m->loc.line);
	fprintf(to, "%5u | ", m->loc.line);
	for (size_t i = 0; i < line.n; i++)
		fputc((u8)line.s[i] < ' ' ? ' ' : line.s[i], to); /* a tab is one column here */
	fprintf(to, "\n      | ");
	for (u32 i = 1; i < m->loc.column; i++)
		/* a byte inside a UTF-8 character has no width of its own */
		if (i > line.n || ((u8)line.s[i - 1] & 0xC0) != 0x80)
			fputc(' ', to);
	fputs(colour ? "\033[1;32m^" : "^", to);
	for (u32 i = 1; i < m->loc.length && m->loc.column + i <= line.n; i++)
		if (((u8)line.s[m->loc.column + i - 1] & 0xC0) != 0x80)
			fputc('~', to);
	fputs(colour ? "\033[0m\n" : "\n", to);
}

void diag_print_place(const Diag *d, Loc loc, FILE *to)
{
	if (!loc.line)
		return;
	const char *path = loc.file < d->nsource ? d->source[loc.file].path : "";
	const char *slash = strrchr(path, '/');
	fprintf(to, "%s:%u", slash ? slash + 1 : path, loc.line);
}

void diag_print(const Diag *d, FILE *to, bool colour)
{
	Arena tmp = ARENA("diag_print");
	u32 n;
	const Head *head = sorted(d, &tmp, &n);
	for (u32 i = 0; i < n; i++) {
		print_one(d, head[i].m, to, colour);
		for (const Message *m = head[i].m->next; m && m->severity == SEV_NOTE; m = m->next)
			print_one(d, m, to, colour);
	}
	u32 kept = d->limit ? d->limit : 100;
	if (d->nerror > kept)
		fprintf(to, "note: %u more errors are not shown\n", d->nerror - kept);
	arena_free(&tmp);
}

static void json_text(FILE *to, const char *text)
{
	fputc('"', to);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(to, "\\%c", *text);
		else if ((u8)*text < ' ')
			fprintf(to, "\\u%04x", (u8)*text);
		else
			fputc(*text, to);
	}
	fputc('"', to);
}

static void json_one(const Diag *d, const Message *m, FILE *to)
{
	fprintf(to, "{\"severity\": \"%s\", \"code\": \"%s\"", severity_name[m->severity],
		m->severity == SEV_NOTE ? "" : error_info[m->code].code);
	if (m->loc.line && m->loc.file < d->nsource) {
		fputs(", \"file\": ", to);
		json_text(to, d->source[m->loc.file].path);
		fprintf(to, ", \"line\": %u, \"column\": %u, \"length\": %u", m->loc.line,
			m->loc.column, m->loc.length);
	}
	fputs(", \"text\": ", to);
	json_text(to, m->text);
	fputs("}\n", to);
}

void diag_print_json(const Diag *d, FILE *to)
{
	Arena tmp = ARENA("diag_print");
	u32 n;
	const Head *head = sorted(d, &tmp, &n);
	for (u32 i = 0; i < n; i++) {
		json_one(d, head[i].m, to);
		for (const Message *m = head[i].m->next; m && m->severity == SEV_NOTE; m = m->next)
			json_one(d, m, to);
	}
	arena_free(&tmp);
}
