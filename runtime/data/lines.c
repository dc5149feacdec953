/* runtime/data/lines.c: see lines.h. */
#include "runtime/data/lines.h"
#include "runtime/data/unpack.h"

#include <string.h>
#include <xxhash.h>

const char *lines_find(Arena *a, const char *prefix, bool training)
{
	const char *part = arena_printf(a, "%s.%s.tsv", prefix, training ? "train" : "val");
	return io_exists(part) ? part : training && io_exists(prefix) ? prefix : NULL;
}

static const char *beside(Arena *a, const char *path)
{
	static const char *const part[] = { ".train.tsv", ".val.tsv", ".tsv" };
	for (u32 i = 0; i < COUNT(part); i++)
		if (str_ends(str_of(path), str_of(part[i])))
			return arena_printf(a, "%.*s.tokenizer.json", (int)(strlen(path) - strlen(part[i])), path);
	return arena_printf(a, "%s.tokenizer.json", path);
}

Status lines_tokenizer(Arena *a, Dataset *d, const DataOption *option, u32 n, Tokenizer **out)
{
	const DataOption *file = data_option(option, n, "tokenizer");
	d->tokenizer_path = file ? arena_strn(a, str_of(file->text)) : beside(a, d->path);
	if (!file && !io_exists(d->tokenizer_path))
		return FAIL(STATUS_INPUT, "%s: which tokenizer? There is no %s; %s(\"%s\", tokenizer = \"FILE\") names one", d->path,
			    d->tokenizer_path, d->kind->name, d->path);
	TRY(tokenizer_load(a, d->tokenizer_path, out));
	d->vocabulary = (*out)->vocabulary;
	d->tokenizer = tokenizer_hash(*out);
	return OK;
}

Status lines_hash(const Dataset *d, u64 *out)
{
	Mapping map;
	TRY(unpack_map(d->path, &map));
	*out = XXH3_64bits(map.bytes.p, map.bytes.n);
	io_unmap(&map);
	return OK;
}

static Status each(const Dataset *d, Str text, u32 least, u32 most, const char *what, LineRow *row, void *cx)
{
	u64 number = 0;
	while (text.n) {
		const char *end = memchr(text.s, '\n', text.n);
		Str line = { text.s, end ? (size_t)(end - text.s) : text.n }, column[LINES_COLUMNS + 1];
		text.s += MIN(line.n + 1, text.n);
		text.n -= MIN(line.n + 1, text.n);
		number++;
		if (line.n && line.s[line.n - 1] == '\r')
			line.n--;
		if (!line.n)
			continue;
		u32 n = 0;
		for (bool more = true; more && n <= most; n++) {
			const char *tab = memchr(line.s, '\t', line.n);
			more = tab != NULL;
			column[n] = (Str){ line.s, tab ? (size_t)(tab - line.s) : line.n };
			line.n -= tab ? column[n].n + 1 : column[n].n;
			line.s = tab ? tab + 1 : line.s + column[n].n;
		}
		if (n < least || n > most)
			return FAIL(STATUS_INPUT, "%s:%llu: a line is %s", d->path, (unsigned long long)number, what);
		Status s = row(cx, column, n);
		if (s)
			return status_context(s, "%s:%llu", d->path, (unsigned long long)number);
	}
	return OK;
}

Status lines_each(const Dataset *d, u32 least, u32 most, const char *what, LineRow *row, void *cx)
{
	Mapping map;
	TRY(unpack_map(d->path, &map));
	Status s = each(d, (Str){ (const char *)map.bytes.p, map.bytes.n }, least, most, what, row, cx);
	io_unmap(&map);
	return s;
}
