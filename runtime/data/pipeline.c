/* runtime/data/pipeline.c: from text to ids by the steps of a published tokenizer; see pipeline.h. */
#include "runtime/data/pipeline.h"
#include "runtime/data/split.h"
#include "runtime/data/utf8.h"

/* ---- added tokens ---- */

static bool word_at(Str text, size_t at)
{
	u32 code;
	return at < text.n && utf8_read((Str){ text.s + at, text.n - at }, &code) && unicode_word(code);
}

/* The beginning of the character that ends before `at`. */
static size_t back(Str text, size_t at)
{
	while (at && ((u8)text.s[--at] & 0xc0) == 0x80)
		;
	return at;
}

static bool space_at(Str text, size_t at)
{
	u32 code;
	return utf8_read((Str){ text.s + at, text.n - at }, &code) && unicode_space(code);
}

/* The longest token that stands at a place; NULL: none. */
static const AddedToken *added_at(const Pipeline *p, Str text, size_t at, bool normalized, bool specials)
{
	const AddedToken *best = NULL;
	for (u32 i = 0; i < p->added.n; i++) {
		const AddedToken *one = &p->added.v[i];
		if (one->normalized != normalized || (one->special && !specials) || (best && best->text.n >= one->text.n) ||
		    one->text.n > text.n - at || memcmp(one->text.s, text.s + at, one->text.n))
			continue;
		best = one;
	}
	return best;
}

static void text_part(Arena *a, const Part *from, size_t begin, size_t end, Parts *out)
{
	if (begin < end)
		VEC_PUSH(a, out, (Part){ { from->text.s + begin, end - begin }, TOKEN_NONE, from->first && !begin });
}

/* Takes tokens out of a text: the longest that stand from the left, and on behind each. Whitespace that one takes along is
 * looked at again all the same, as in Hugging Face's tokenizers. */
static void take_added(Arena *a, const Pipeline *p, const Part *from, bool normalized, bool specials, Parts *out)
{
	Str text = from->text;
	size_t last = 0;
	const bool *begins = p->begins[specials];
	for (size_t at = 0; at < text.n;) {
		const AddedToken *one = begins[(u8)text.s[at]] ? added_at(p, text, at, normalized, specials) : NULL;
		if (!one) {
			at++;
			continue;
		}
		size_t begin = at, end = at + one->text.n;
		at = end;
		if (one->single_word && ((begin && word_at(text, back(text, begin))) || word_at(text, end)))
			continue;
		while (one->left && begin > last && space_at(text, back(text, begin)))
			begin = back(text, begin);
		while (one->right && end < text.n && space_at(text, end)) {
			u32 code;
			end += utf8_read((Str){ text.s + end, text.n - end }, &code);
		}
		text_part(a, from, last, begin, out);
		VEC_PUSH(a, out, (Part){ .id = one->id });
		last = end;
	}
	text_part(a, from, last, text.n, out);
}

/* ---- the steps ---- */

static Status normalized(Arena *a, const Pipeline *p, Parts *parts)
{
	for (u32 i = 0; i < parts->n; i++)
		for (u32 k = 0; k < p->normalizer.n && parts->v[i].id == TOKEN_NONE; k++)
			TRY(normalizer_apply(a, &p->normalizer.v[k], parts->v[i].text, &parts->v[i].text));
	return OK;
}

static Status split(Arena *a, const Pipeline *p, Parts *parts)
{
	for (u32 k = 0; k < p->pretokenizer.n; k++) {
		Parts now = { 0 };
		for (u32 i = 0; i < parts->n; i++) {
			if (parts->v[i].id != TOKEN_NONE)
				VEC_PUSH(a, &now, parts->v[i]);
			else if (parts->v[i].text.n)
				TRY(pretokenizer_apply(a, &p->pretokenizer.v[k], p->splitter, &parts->v[i], &now));
		}
		*parts = now;
	}
	return OK;
}

static Status encode_in(Arena *a, Tokenizer *t, Str text, bool specials, Tokens *out)
{
	const Pipeline *p = t->pipeline;
	Parts raw = { 0 }, parts = { 0 };
	take_added(a, p, &(Part){ .text = text, .id = TOKEN_NONE, .first = true }, false, specials, &raw);
	TRY(normalized(a, p, &raw));
	for (u32 i = 0; i < raw.n; i++)
		if (raw.v[i].id != TOKEN_NONE)
			VEC_PUSH(a, &parts, raw.v[i]);
		else
			take_added(a, p, &raw.v[i], true, specials, &parts);
	TRY(split(a, p, &parts));
	for (u32 i = 0; i < parts.n; i++)
		if (parts.v[i].id != TOKEN_NONE)
			tokens_push(out, parts.v[i].id);
		else if (parts.v[i].text.n)
			TRY(cached_encode(t, parts.v[i].text, subword_encode, out));
	return OK;
}

Status pipeline_encode(Tokenizer *t, Str text, bool specials, Tokens *out)
{
	size_t valid = utf8_valid(text);
	if (valid < text.n)
		return FAIL(STATUS_INPUT, "byte %zu (0x%02x) is not UTF-8, which the tokenizer takes only", valid, (u8)text.s[valid]);
	Arena tmp = ARENA("text to ids");
	Status s = encode_in(&tmp, t, text, specials, out);
	arena_free(&tmp);
	return s;
}

static Status encode(Tokenizer *t, Str text, Tokens *out)
{
	return pipeline_encode(t, text, false, out);
}

const TokenizerKind tokenizer_kind_pipeline = { "published", encode, false };

void pipeline_close(Pipeline *p)
{
	if (!p)
		return;
	splitter_free(p->splitter);
	for (u32 i = 0; i < p->normalizer.n; i++)
		pattern_free(p->normalizer.v[i].pattern);
	for (u32 i = 0; i < p->pretokenizer.n; i++)
		pattern_free(p->pretokenizer.v[i].pattern);
}

/* ---- what a model is given ---- */

static void push_typed(Tokens *ids, Tokens *types, u32 id, u32 type)
{
	tokens_push(ids, id);
	if (types)
		tokens_push(types, type);
}

/* The first place in `text` at which a special token is named, the longest of those that are there; text.n where none is. */
static size_t named_at(const Tokenizer *t, const Tokens *special, Str text, u32 *id)
{
	for (size_t at = 0; at < text.n; at++) {
		*id = TOKEN_NONE;
		for (size_t k = 0; k < special->n; k++) {
			u32 one = special->v[k];
			if (str_starts((Str){ text.s + at, text.n - at }, t->piece[one]) && (*id == TOKEN_NONE || t->piece[one].n > t->piece[*id].n))
				*id = one;
		}
		if (*id != TOKEN_NONE)
			return at;
	}
	return text.n;
}

/* The ids of `text` with the special tokens that it names. */
static Status encode_named(Tokenizer *t, Str text, Tokens *out)
{
	if (t->pipeline)
		return pipeline_encode(t, text, true, out);
	Arena tmp = ARENA("special");
	Tokens special = { .arena = &tmp };
	for (u32 k = 0; k < t->vocabulary; k++)
		if (t->special[k] && t->piece[k].n)
			tokens_push(&special, k);
	Status s;
	do {
		u32 id = TOKEN_NONE;
		size_t at = named_at(t, &special, text, &id);
		s = tokenizer_encode(t, (Str){ text.s, at }, out);
		if (s || id == TOKEN_NONE)
			break;
		tokens_push(out, id);
		at += t->piece[id].n;
		text = (Str){ text.s + at, text.n - at };
	} while (text.n);
	arena_free(&tmp);
	return s;
}

Status tokenizer_prompt(Tokenizer *t, Str text, bool front, Tokens *ids)
{
	Arena tmp = ARENA("prompt");
	Tokens own = { .arena = &tmp };
	Status s = encode_named(t, text, &own);
	const Template *of = t->pipeline ? &t->pipeline->single : NULL;
	u32 n = 0;
	bool there = true; /* named by the text itself */
	for (; !s && front && of && n < of->n && of->v[n].id != TOKEN_NONE; n++)
		there &= n < own.n && own.v[n] == of->v[n].id;
	for (u32 i = 0; i < n && !there; i++)
		tokens_push(ids, of->v[i].id);
	for (size_t i = 0; i < own.n && !s; i++)
		tokens_push(ids, own.v[i]);
	arena_free(&tmp);
	return s;
}

Status tokenizer_input(Tokenizer *t, Str text, const Str *second, Tokens *ids, Tokens *types)
{
	Arena tmp = ARENA("input");
	Tokens part[2] = { { .arena = &tmp }, { .arena = &tmp } };
	const Pipeline *p = t->pipeline;
	Status s = OK;
	for (u32 i = 0; i < 1 + (second != NULL) && !s; i++)
		s = encode_named(t, i ? *second : text, &part[i]);
	static TemplatePiece plain[] = { { TOKEN_NONE, 0, 0 }, { TOKEN_NONE, 1, 1 } };
	Template of = { .v = plain, .n = 1 + (second != NULL) };
	if (p && (second ? p->pair : p->single).n)
		of = second ? p->pair : p->single;
	for (u32 i = 0; i < of.n && !s; i++) {
		const TemplatePiece *piece = &of.v[i];
		if (piece->id != TOKEN_NONE)
			push_typed(ids, types, piece->id, piece->type);
		for (size_t k = 0; piece->id == TOKEN_NONE && k < part[piece->sequence].n; k++)
			push_typed(ids, types, part[piece->sequence].v[k], piece->type);
	}
	arena_free(&tmp);
	return s;
}
