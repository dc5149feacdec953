/* runtime/data/pretokenize.c: the pre-tokenizers of published tokenizers: how a text is cut into the words that a model
 * works within, as Hugging Face's tokenizers do it; see pipeline.h. */
#include "runtime/data/pipeline.h"
#include "runtime/data/split.h"
#include "runtime/data/utf8.h"

/* A stretch of the text, and whether the pattern matched it. */
typedef struct Span {
	size_t begin, end;
	bool match;
} Span;
typedef VEC(Span) Spans;

static void emit(Arena *a, const Part *part, size_t begin, size_t end, Parts *out)
{
	if (begin == end)
		return;
	Part p = { .text = { part->text.s + begin, end - begin }, .id = TOKEN_NONE, .first = part->first && !begin };
	VEC_PUSH(a, out, p);
}

/* Puts matches and what is between them together as the behaviour says. */
static void gather(Arena *a, const Part *part, const Spans *s, SplitBehaviour how, Parts *out)
{
	bool before = false;
	switch (how) {
	case SPLIT_REMOVED:
	case SPLIT_ISOLATED:
		for (u32 i = 0; i < s->n; i++)
			if (how == SPLIT_ISOLATED || !s->v[i].match)
				emit(a, part, s->v[i].begin, s->v[i].end, out);
		return;
	case SPLIT_CONTIGUOUS:
	case SPLIT_WITH_PREVIOUS:
		for (u32 i = 0; i < s->n;) {
			size_t begin = s->v[i].begin, end = s->v[i].end;
			before = s->v[i++].match;
			while (i < s->n && (how == SPLIT_CONTIGUOUS ? s->v[i].match == before : s->v[i].match && !before)) {
				end = s->v[i].end;
				before = s->v[i++].match;
			}
			emit(a, part, begin, end, out);
		}
		return;
	case SPLIT_WITH_NEXT:
		/* a match goes to what follows it, unless that is a match too */
		for (u32 i = 0; i < s->n; i++) {
			bool joins = s->v[i].match && i + 1 < s->n && !s->v[i + 1].match;
			emit(a, part, s->v[i].begin, s->v[i + joins].end, out);
			i += joins;
		}
		return;
	}
}

static void span(Arena *a, Spans *s, size_t begin, size_t end, bool match)
{
	if (begin < end)
		VEC_PUSH(a, s, (Span){ begin, end, match });
}

static void by_class(Arena *a, const Part *part, bool (*is)(u32 code), SplitBehaviour how, Parts *out)
{
	Spans s = { 0 };
	size_t last = 0;
	u32 code, n;
	for (size_t at = 0; at < part->text.n; at += n) {
		n = utf8_read((Str){ part->text.s + at, part->text.n - at }, &code);
		if (!is(code))
			continue;
		span(a, &s, last, at, false);
		span(a, &s, at, at + n, true);
		last = at + n;
	}
	span(a, &s, last, part->text.n, false);
	gather(a, part, &s, how, out);
}

static Status by_pattern(Arena *a, const Part *part, const Pattern *p, bool invert, SplitBehaviour how, Parts *out)
{
	Spans s = { 0 };
	size_t last = 0, begin, end;
	bool found;
	Str seen = pattern_sees(a, p, part->text);
	for (;;) {
		TRY(pattern_find(p, seen, last, &begin, &end, &found));
		if (!found)
			break;
		span(a, &s, last, begin, invert);
		span(a, &s, begin, end, !invert);
		last = end;
	}
	span(a, &s, last, part->text.n, invert);
	gather(a, part, &s, how, out);
	return OK;
}

/* \w+|[^\w\s]+ */
static void words(Arena *a, const Part *part, Parts *out)
{
	size_t begin = 0;
	u32 kind = 0, code, n; /* 0: whitespace, 1: of words, 2: other */
	for (size_t at = 0; at < part->text.n; at += n) {
		n = utf8_read((Str){ part->text.s + at, part->text.n - at }, &code);
		u32 now = unicode_word(code) ? 1 : unicode_space(code) ? 0 : 2;
		if (now == kind)
			continue;
		if (kind)
			emit(a, part, begin, at, out);
		begin = at;
		kind = now;
	}
	if (kind)
		emit(a, part, begin, part->text.n, out);
}

static Str with_prefix(Arena *a, Str prefix, Str text)
{
	Buf b = { .arena = a };
	buf_put(&b, prefix);
	buf_put(&b, text);
	return buf_str(&b);
}

static Status byte_level(Arena *a, const Pretokenizer *p, Splitter *splitter, Part part, Parts *out)
{
	if (p->prefix && part.text.s[0] != ' ')
		part.text = with_prefix(a, STR(" "), part.text);
	if (!p->split) {
		VEC_PUSH(a, out, part);
		return OK;
	}
	Split split = { .splitter = splitter, .text = part.text };
	for (;;) {
		Str word;
		TRY(split_next(&split, &word));
		if (!word.n)
			return OK;
		size_t at = (size_t)(word.s - part.text.s);
		emit(a, &part, at, at + word.n, out);
	}
}

static void metaspace(Arena *a, const Pretokenizer *p, Part part, Parts *out)
{
	Buf b = { .arena = a };
	bool prepend = p->scheme == PREPEND_ALWAYS || (p->scheme == PREPEND_FIRST && part.first);
	if (prepend && part.text.s[0] != ' ' && !str_starts(part.text, p->mark))
		buf_put(&b, p->mark);
	for (size_t at = 0, next; at < part.text.n; at = next + 1) {
		const char *space = memchr(part.text.s + at, ' ', part.text.n - at);
		next = space ? (size_t)(space - part.text.s) : part.text.n;
		buf_put(&b, (Str){ part.text.s + at, next - at });
		if (space)
			buf_put(&b, p->mark);
	}
	part.text = buf_str(&b);
	size_t begin = 0;
	for (size_t at = 0; p->split && at < part.text.n;) {
		const char *mark = memmem(part.text.s + at, part.text.n - at, p->mark.s, p->mark.n);
		if (!mark)
			break;
		size_t found = (size_t)(mark - part.text.s);
		/* a mark goes to what follows; of several, the last does */
		if (found > begin)
			emit(a, &part, begin, found, out);
		begin = found;
		at = found + p->mark.n;
	}
	emit(a, &part, begin, part.text.n, out);
}

Status pretokenizer_apply(Arena *a, const Pretokenizer *p, Splitter *splitter, const Part *part, Parts *out)
{
	switch (p->kind) {
	case PRETOKENIZE_BYTE_LEVEL: return byte_level(a, p, splitter, *part, out);
	case PRETOKENIZE_PATTERN: return by_pattern(a, part, p->pattern, p->invert, p->behaviour, out);
	case PRETOKENIZE_WORDS: words(a, part, out); return OK;
	case PRETOKENIZE_WHITESPACE: by_class(a, part, unicode_space, SPLIT_REMOVED, out); return OK;
	case PRETOKENIZE_PUNCTUATION: by_class(a, part, unicode_punctuation, p->behaviour, out); return OK;
	case PRETOKENIZE_DIGITS:
		by_class(a, part, unicode_numeric, p->individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, out);
		return OK;
	case PRETOKENIZE_METASPACE: metaspace(a, p, *part, out); return OK;
	case PRETOKENIZE_BERT: {
		Parts between = { 0 };
		by_class(a, part, unicode_space, SPLIT_REMOVED, &between);
		for (u32 i = 0; i < between.n; i++)
			by_class(a, &between.v[i], unicode_punctuation, SPLIT_ISOLATED, out);
		return OK;
	}
	}
	NEVER("a pre-tokenizer of another kind");
}
