/* runtime/data/corpus.c: see corpus.h. */
#include "runtime/data/corpus.h"
#include "runtime/data/unpack.h"

#include <jansson.h>
#include <string.h>

static bool names_records(Str path)
{
	if (str_ends(path, STR(".gz")))
		path.n -= 3;
	return str_ends(path, STR(".jsonl")) || str_ends(path, STR(".ndjson"));
}

static Status read_standard(Arena *a, CorpusInput *in)
{
	Blob bytes;
	TRY(io_read(a, "/dev/stdin", &in->text));
	TRY(unpack_bytes(in->path, (Blob){ (const u8 *)in->text.s, in->text.n }, &in->map, &bytes));
	in->text = (Str){ (const char *)bytes.p, bytes.n };
	return OK;
}

Status corpus_open(Arena *a, const char *const *path, u32 n, const char *field, Corpus *out)
{
	*out = (Corpus){ .input = NEWN(a, CorpusInput, n), .field = field ? field : "text" };
	for (u32 i = 0; i < n; i++) {
		CorpusInput *in = &out->input[i];
		bool standard = !strcmp(path[i], "-");
		in->path = standard ? "standard input" : path[i];
		in->records = field || names_records(str_of(path[i]));
		in->at = out->bytes;
		Status s = standard ? read_standard(a, in) : unpack_map(path[i], &in->map);
		if (s) {
			corpus_close(out);
			return s;
		}
		if (!standard)
			in->text = (Str){ (const char *)in->map.bytes.p, in->map.bytes.n };
		out->records |= in->records;
		out->bytes += in->text.n;
		out->n++;
	}
	return OK;
}

void corpus_close(Corpus *c)
{
	for (u32 i = 0; i < c->n; i++)
		io_unmap(&c->input[i].map);
	c->n = 0;
}

CorpusWalk corpus_walk(const Corpus *c)
{
	return (CorpusWalk){ .corpus = c };
}

void corpus_walk_end(CorpusWalk *w)
{
	json_decref(w->record);
	w->record = NULL;
}

const char *document_place(Arena *a, const Document *d)
{
	return d->line ? arena_printf(a, "%s:%llu", d->path, (unsigned long long)d->line) : d->path;
}

static bool blank(Str line)
{
	for (size_t i = 0; i < line.n; i++)
		if (!strchr(" \t\r", line.s[i]) || !line.s[i])
			return false;
	return true;
}

/* The fields that a record has, as far as they fit. */
static void fields_of(json_t *record, char *out, size_t size)
{
	const char *key;
	json_t *value;
	size_t n = 0;
	out[0] = 0;
	json_object_foreach(record, key, value)
	{
		if (n + strlen(key) + 3 > size)
			return;
		n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", key);
	}
}

/* The text of the record in `line`; w->record keeps it. */
static Status read_record(CorpusWalk *w, const CorpusInput *in, Str line, Str *text)
{
	json_error_t e;
	unsigned long long number = w->line;
	const char *field = w->corpus->field;
	json_t *record = json_loadb(line.s, line.n, JSON_ALLOW_NUL, &e);
	w->record = record;
	if (!record)
		return FAIL(STATUS_INPUT, "%s:%llu:%d: not a JSON record: %s", in->path, number,
			    e.column, e.text);
	if (!json_is_object(record))
		return FAIL(STATUS_INPUT, "%s:%llu: the record is not a JSON object", in->path,
			    number);
	json_t *value = json_object_get(record, field);
	if (!value) {
		char fields[200];
		fields_of(record, fields, sizeof fields);
		return FAIL(STATUS_INPUT, "%s:%llu: the record has no field '%s'; it has: %s",
			    in->path, number, field, fields);
	}
	if (!json_is_string(value))
		return FAIL(STATUS_INPUT, "%s:%llu: the field '%s' is not a string", in->path,
			    number, field);
	*text = (Str){ json_string_value(value), json_string_length(value) };
	return OK;
}

Status corpus_next(CorpusWalk *w, Document *out, bool *more)
{
	corpus_walk_end(w);
	*more = true;
	while (w->input < w->corpus->n) {
		const CorpusInput *in = &w->corpus->input[w->input];
		if (w->at == in->text.n) {
			w->input++;
			w->at = 0;
			w->line = 0;
			continue;
		}
		Str rest = { in->text.s + w->at, in->text.n - w->at };
		*out = (Document){
			.text = rest, .path = in->path, .at = in->at + w->at, .size = rest.n
		};
		if (!in->records) {
			w->at = in->text.n;
			return OK;
		}
		const char *end = memchr(rest.s, '\n', rest.n);
		Str line = { rest.s, end ? (size_t)(end - rest.s) : rest.n };
		out->size = line.n + (end != NULL);
		out->line = ++w->line;
		w->at += out->size;
		if (blank(line))
			continue;
		TRY(read_record(w, in, line, &out->text));
		if (out->text.n)
			return OK;
		corpus_walk_end(w);
	}
	*more = false;
	return OK;
}
