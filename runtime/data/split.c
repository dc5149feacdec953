/* runtime/data/split.c: GPT-2's pattern by PCRE2's just-in-time compiler. See split.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/data/split.h"
#include "runtime/data/pattern.h"
#include "runtime/data/unicode.h"
#include "runtime/data/utf8.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

static const char pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}++| ?\\p{N}++| ?[^" PATTERN_SPACE
			      "\\p{L}\\p{N}]++|[" PATTERN_SPACE "]+(?![^" PATTERN_SPACE "])|[" PATTERN_SPACE "]+";

struct Splitter {
	pcre2_code *code;
	pcre2_match_data *match;
	char *seen; /* the text of the walk as the pattern is to see it, where that differs */
	size_t room;
};

static Status says(const char *what, int why)
{
	PCRE2_UCHAR text[256];
	pcre2_get_error_message(why, text, sizeof text);
	return FAIL(STATUS_UNSUPPORTED, "%s: %s (PCRE2)", what, (const char *)text);
}

Status splitter_make(Arena *a, Splitter **out)
{
	int why;
	size_t where;
	Splitter *s = NEW(a, Splitter);
	s->code = pcre2_compile((PCRE2_SPTR)pattern, sizeof pattern - 1,
				PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &why, &where, NULL);
	if (!s->code)
		return says("cannot compile the pattern that splits text into words", why);
	/* Where memory may not be both written and run there is no such code, and PCRE2 interprets
	 * the pattern: slower, the same words. */
	pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE);
	s->match = pcre2_match_data_create_from_pattern(s->code, NULL);
	if (!s->match) {
		pcre2_code_free(s->code);
		return FAIL(STATUS_MEMORY, "no memory to split text into words");
	}
	*out = s;
	return OK;
}

void splitter_free(Splitter *s)
{
	if (!s)
		return;
	pcre2_match_data_free(s->match);
	pcre2_code_free(s->code);
	free(s->seen);
	*s = (Splitter){ 0 };
}

/* The text as the pattern is to see it (unicode_stand_in). */
static Status seen(Splitter *s, Str text, const char **out)
{
	*out = text.s;
	if (!unicode_newer(text))
		return OK;
	if (s->room < text.n) {
		char *larger = realloc(s->seen, text.n);
		if (!larger)
			return FAIL(STATUS_MEMORY, "no memory to split text into words");
		s->seen = larger;
		s->room = text.n;
	}
	memcpy(s->seen, text.s, text.n);
	unicode_stand_in(s->seen, text.n);
	*out = s->seen;
	return OK;
}

Status split_next(Split *s, Str *word)
{
	*word = (Str){ s->text.s + s->at, 0 };
	if (s->at == s->text.n)
		return OK;
	if (!s->seen)
		TRY(seen(s->splitter, s->text, &s->seen));
	if (s->at == s->valid) {
		Str rest = { s->text.s + s->at, s->text.n - s->at };
		s->valid += utf8_valid(rest);
		u32 code;
		while (s->at == s->valid && rest.n && !utf8_read(rest, &code)) {
			rest = (Str){ rest.s + 1, rest.n - 1 };
			s->at = ++s->valid;
			word->n++;
		}
		if (word->n)
			return OK;
	}
	int got = pcre2_match(s->splitter->code, (PCRE2_SPTR)s->seen, s->valid, s->at,
			      PCRE2_NO_UTF_CHECK, s->splitter->match, NULL);
	if (got < 0)
		return says("cannot split the text into words", got);
	word->n = pcre2_get_ovector_pointer(s->splitter->match)[1] - s->at;
	if (!word->n)
		NEVER("an empty word");
	s->at += word->n;
	return OK;
}
