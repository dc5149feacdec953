/* runtime/data/pipeline_file.c: Hugging Face's tokenizer.json, read into the steps of pipeline.h. What a file asks for
 * that is not known here is refused by its name: nothing is left out in silence. The file may be anybody's: every id,
 * size and reference is checked, and what is accepted encodes any text without reading past its tables. */
#include "runtime/data/pipeline.h"
#include "runtime/data/split.h"
#include "runtime/data/utf8.h"
#include "support/io.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct Reader {
	Arena *a;    /* of the tokenizer */
	Arena *tmp;
	Pipeline *p;
	Tokenizer *t;
	Str *raw;    /* by id: as the vocabulary has it */
	bool *own;   /* by id: of the model's vocabulary, not only added */
	Words ids;   /* from the text to the id, + 1 */
	u32 vocabulary;
} Reader;

/* ---- JSON ---- */

static Str text_of(const json_t *v)
{
	return (Str){ json_string_value(v), json_string_length(v) };
}

static Str get_text(const json_t *object, const char *key)
{
	const json_t *v = json_object_get(object, key);
	return json_is_string(v) ? text_of(v) : (Str){ NULL, 0 };
}

static bool get_flag(const json_t *object, const char *key, bool otherwise)
{
	const json_t *v = json_object_get(object, key);
	return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static bool is(const json_t *object, const char *key, const char *text)
{
	Str have = get_text(object, key);
	return have.s && str_equal(have, str_of(text));
}

static Str keep(Arena *a, Str s)
{
	return (Str){ arena_strn(a, s), s.n };
}

static Status unknown_type(const json_t *step, const char *what)
{
	Str type = get_text(step, "type");
	return FAIL(STATUS_INPUT, "its %s '%.*s' is not supported", what, (int)MIN(type.n, (size_t)80), type.s ? type.s : "");
}

/* Calls `read` with a step, or with each step of a Sequence, whose list is called `list`. */
static Status each_step(Reader *r, const json_t *step, const char *list, Status (*read)(Reader *r, const json_t *step), u32 depth)
{
	enum { DEEPEST = 8 };
	if (!step || json_is_null(step))
		return OK;
	if (!json_is_object(step) || depth > DEEPEST)
		return FAIL(STATUS_INPUT, "a step that is no object with a type, or lies too deep");
	if (!is(step, "type", "Sequence"))
		return read(r, step);
	size_t i;
	const json_t *one;
	json_array_foreach(json_object_get(step, list), i, one)
		TRY(each_step(r, one, list, read, depth + 1));
	return OK;
}

/* {"String": " "} or {"Regex": "\\s+"} */
static Status read_pattern(Reader *r, const json_t *step, Pattern **out)
{
	const json_t *v = json_object_get(step, "pattern");
	Str literal = get_text(v, "String"), expression = get_text(v, "Regex");
	if (!literal.s && !expression.s)
		return FAIL(STATUS_INPUT, "a step of it has no pattern");
	return pattern_make(r->a, literal.s ? literal : expression, literal.s != NULL, out);
}

/* ---- normalizers ---- */

static Status base64(Arena *a, Str text, Str *out)
{
	u8 *to = NEWN(a, u8, text.n / 4 * 3 + 3);
	size_t n = 0;
	u32 bits = 0, have = 0;
	for (size_t i = 0; i < text.n && text.s[i] != '='; i++) {
		char c = text.s[i];
		u32 six = c >= 'A' && c <= 'Z' ? (u32)(c - 'A') : c >= 'a' && c <= 'z' ? (u32)(c - 'a') + 26 :
			  c >= '0' && c <= '9' ? (u32)(c - '0') + 52 : c == '+' ? 62 : c == '/' ? 63 : 64;
		if (six == 64)
			return FAIL(STATUS_INPUT, "its table of characters is not base64");
		bits = bits << 6 | six;
		have += 6;
		if (have >= 8) {
			have -= 8;
			to[n++] = (u8)(bits >> have);
		}
	}
	*out = (Str){ (const char *)to, n };
	return OK;
}

static Status read_normalizer(Reader *r, const json_t *step)
{
	static const struct {
		const char *name;
		NormalizerKind kind;
		NormalForm form;
	} row[] = { { "NFC", NORMALIZE_FORM, NORMAL_NFC },
		    { "NFD", NORMALIZE_FORM, NORMAL_NFD },
		    { "NFKC", NORMALIZE_FORM, NORMAL_NFKC },
		    { "NFKD", NORMALIZE_FORM, NORMAL_NFKD },
		    { "Lowercase", NORMALIZE_LOWERCASE, 0 },
		    { "Strip", NORMALIZE_STRIP, 0 },
		    { "StripAccents", NORMALIZE_STRIP_ACCENTS, 0 },
		    { "BertNormalizer", NORMALIZE_BERT, 0 },
		    { "Prepend", NORMALIZE_PREPEND, 0 },
		    { "Replace", NORMALIZE_REPLACE, 0 },
		    { "Nmt", NORMALIZE_NMT, 0 },
		    { "Precompiled", NORMALIZE_PRECOMPILED, 0 } };
	u32 i = 0;
	while (i < COUNT(row) && !is(step, "type", row[i].name))
		i++;
	if (i == COUNT(row))
		return unknown_type(step, "normalizer");
	Normalizer n = { .kind = row[i].kind, .form = row[i].form };
	n.left = get_flag(step, "strip_left", true);
	n.right = get_flag(step, "strip_right", true);
	n.clean = get_flag(step, "clean_text", true);
	n.ideographs = get_flag(step, "handle_chinese_chars", true);
	n.lowercase = get_flag(step, "lowercase", true);
	n.strip_accents = get_flag(step, "strip_accents", n.lowercase);
	Str text = get_text(step, n.kind == NORMALIZE_PREPEND ? "prepend" : "content");
	n.text = text.s ? keep(r->a, text) : STR("");
	if (n.kind == NORMALIZE_REPLACE)
		TRY(read_pattern(r, step, &n.pattern));
	if (n.kind == NORMALIZE_PRECOMPILED) {
		Str bytes = STR(""), map = get_text(step, "precompiled_charsmap");
		if (map.s)
			TRY(base64(r->tmp, map, &bytes));
		TRY(chars_map_read(r->a, bytes, &n.map));
	}
	VEC_PUSH(r->a, &r->p->normalizer, n);
	return OK;
}

/* ---- pre-tokenizers ---- */

static Status read_behaviour(const json_t *step, SplitBehaviour otherwise, SplitBehaviour *out)
{
	static const char *const name[] = { [SPLIT_REMOVED] = "Removed",
					    [SPLIT_ISOLATED] = "Isolated",
					    [SPLIT_WITH_PREVIOUS] = "MergedWithPrevious",
					    [SPLIT_WITH_NEXT] = "MergedWithNext",
					    [SPLIT_CONTIGUOUS] = "Contiguous" };
	*out = otherwise;
	if (!json_object_get(step, "behavior"))
		return OK;
	for (u32 i = 0; i < COUNT(name); i++)
		if (is(step, "behavior", name[i])) {
			*out = (SplitBehaviour)i;
			return OK;
		}
	return FAIL(STATUS_INPUT, "a pre-tokenizer's behaviour '%.*s' is not known", 80, get_text(step, "behavior").s);
}

static Status read_metaspace(Reader *r, const json_t *step, Pretokenizer *p)
{
	Str mark = get_text(step, "replacement");
	p->mark = mark.n ? keep(r->a, mark) : STR("\xe2\x96\x81");
	p->split = get_flag(step, "split", true);
	p->scheme = get_flag(step, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
	if (is(step, "prepend_scheme", "always"))
		p->scheme = PREPEND_ALWAYS;
	else if (is(step, "prepend_scheme", "first"))
		p->scheme = PREPEND_FIRST;
	else if (is(step, "prepend_scheme", "never"))
		p->scheme = PREPEND_NEVER;
	return OK;
}

static Status read_pretokenizer(Reader *r, const json_t *step)
{
	static const struct {
		const char *name;
		PretokenizerKind kind;
	} row[] = { { "ByteLevel", PRETOKENIZE_BYTE_LEVEL }, { "Split", PRETOKENIZE_PATTERN },
		    { "CharDelimiterSplit", PRETOKENIZE_PATTERN }, { "Whitespace", PRETOKENIZE_WORDS },
		    { "WhitespaceSplit", PRETOKENIZE_WHITESPACE }, { "BertPreTokenizer", PRETOKENIZE_BERT },
		    { "Punctuation", PRETOKENIZE_PUNCTUATION }, { "Digits", PRETOKENIZE_DIGITS },
		    { "Metaspace", PRETOKENIZE_METASPACE } };
	u32 i = 0;
	while (i < COUNT(row) && !is(step, "type", row[i].name))
		i++;
	if (i == COUNT(row))
		return unknown_type(step, "pre-tokenizer");
	Pretokenizer p = { .kind = row[i].kind };
	p.individual = get_flag(step, "individual_digits", false);
	p.invert = get_flag(step, "invert", false);
	TRY(read_behaviour(step, SPLIT_ISOLATED, &p.behaviour));
	if (is(step, "type", "CharDelimiterSplit")) {
		p.behaviour = SPLIT_REMOVED;
		TRY(pattern_make(r->a, get_text(step, "delimiter"), true, &p.pattern));
	} else if (p.kind == PRETOKENIZE_PATTERN) {
		TRY(read_pattern(r, step, &p.pattern));
	} else if (p.kind == PRETOKENIZE_METASPACE) {
		TRY(read_metaspace(r, step, &p));
	} else if (p.kind == PRETOKENIZE_BYTE_LEVEL) {
		p.prefix = get_flag(step, "add_prefix_space", true);
		p.split = get_flag(step, "use_regex", true);
		r->p->model.bytes = true;
		if (p.split && !r->p->splitter)
			TRY(splitter_make(r->a, &r->p->splitter));
	}
	VEC_PUSH(r->a, &r->p->pretokenizer, p);
	return OK;
}

/* ---- the vocabulary ---- */

/* How many ids there are: one more than the largest. */
static Status count_ids(const json_t *vocabulary, const json_t *added, u32 *out)
{
	json_int_t most = -1, id;
	size_t i, count = 0;
	const char *key;
	const json_t *v;
	if (json_is_array(vocabulary)) {
		count = json_array_size(vocabulary);
		most = (json_int_t)count - 1;
	} else {
		json_object_foreach((json_t *)(uintptr_t)vocabulary, key, v) {
			id = json_is_integer(v) ? json_integer_value(v) : -1;
			if (id < 0)
				return FAIL(STATUS_INPUT, "the token '%.80s' has no number as its id", key);
			most = MAX(most, id);
			count++;
		}
	}
	json_array_foreach(added, i, v) {
		id = json_is_integer(json_object_get(v, "id")) ? json_integer_value(json_object_get(v, "id")) : -1;
		if (id < 0)
			return FAIL(STATUS_INPUT, "added token %zu has no number as its id", i);
		most = MAX(most, id);
		count++;
	}
	/* gaps there may be, but not of any size */
	if (most < 0 || most >= TOKENIZER_VOCAB_MAX || (u64)most > 4 * (u64)count + 65536)
		return FAIL(STATUS_INPUT, "%zu tokens, and the largest id is %lld", count, (long long)most);
	*out = (u32)most + 1;
	return OK;
}

static Status set_raw(Reader *r, json_int_t id, Str piece)
{
	if (r->raw[id].s)
		return FAIL(STATUS_INPUT, "token id %lld is given twice", (long long)id);
	r->raw[id] = keep(r->a, piece);
	Word *w = words_add(&r->ids, piece);
	if (w->value)
		return FAIL(STATUS_INPUT, "the token '%.*s' has two ids", (int)MIN(piece.n, (size_t)80), piece.s);
	w->value = (u64)id + 1;
	return OK;
}

/* The id of a token as the vocabulary has it. */
static u32 id_of(const Reader *r, Str piece)
{
	const Word *w = piece.s ? words_find(&r->ids, piece) : NULL;
	return w ? (u32)w->value - 1 : TOKEN_NONE;
}

/* The number that Hugging Face's library reads where a file has the shortest text of x: its digits as a whole number, rounded,
 * times or by a power of ten, which rounds again. A bit of the last place decides between ways whose scores add up to the same. */
static f64 as_published(f64 x)
{
	char text[40];
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*e", digits - 1, fabs(x));
		if (strtod(text, NULL) == fabs(x))
			break;
	}
	char *exponent = strchr(text, 'e'), power[16];
	int places = 0, scale = atoi(exponent + 1);
	u64 whole = 0;
	for (const char *p = text; p < exponent; p++)
		if (*p != '.') {
			whole = whole * 10 + (u64)(*p - '0');
			places++;
		}
	for (; whole && whole % 10 == 0; whole /= 10)
		places--;
	scale -= places - 1;
	if (!whole || abs(scale) > 300)
		return x;
	snprintf(power, sizeof power, "1e%d", abs(scale));
	f64 by = strtod(power, NULL), y = scale < 0 ? (f64)whole / by : (f64)whole * by;
	return x < 0 ? -y : y;
}

static Status read_vocabulary(Reader *r, const json_t *vocabulary)
{
	const char *key;
	size_t length, i;
	json_t *v;
	json_object_keylen_foreach((json_t *)(uintptr_t)vocabulary, key, length, v) {
		TRY(set_raw(r, json_integer_value(v), (Str){ key, length }));
		r->own[json_integer_value(v)] = true;
	}
	Subword *m = &r->p->model;
	if (!json_is_array(vocabulary))
		return OK;
	m->score = NEWN(r->a, f64, r->vocabulary);
	f64 least = 0;
	json_array_foreach(vocabulary, i, v) {
		const json_t *piece = json_array_get(v, 0), *score = json_array_get(v, 1);
		if (!json_is_string(piece) || !json_is_number(score))
			return FAIL(STATUS_INPUT, "piece %zu is not a text and a number", i);
		m->score[i] = as_published(json_number_value(score));
		least = i ? MIN(least, m->score[i]) : m->score[i];
		/* a text that comes twice is the later one, as in a map that is filled in order */
		Word *w = words_add(&r->ids, text_of(piece));
		w->value = i + 1;
		r->raw[i] = keep(r->a, text_of(piece));
		r->own[i] = true;
	}
	m->unknown_score = least - 10; /* SentencePiece's penalty */
	return OK;
}

static Status normalize_added(Reader *r, AddedToken *one)
{
	for (u32 k = 0; k < r->p->normalizer.n; k++)
		TRY(normalizer_apply(r->a, &r->p->normalizer.v[k], one->text, &one->text));
	return OK;
}

static Status read_added(Reader *r, const json_t *added)
{
	size_t i;
	const json_t *v;
	json_array_foreach(added, i, v) {
		Str content = get_text(v, "content");
		u32 id = (u32)json_integer_value(json_object_get(v, "id"));
		if (!content.n)
			return FAIL(STATUS_INPUT, "added token %zu has no content", i);
		if (!r->raw[id].s)
			TRY(set_raw(r, id, content));
		else if (!str_equal(r->raw[id], content))
			return FAIL(STATUS_INPUT, "the added token '%.*s' has the id of another one", (int)MIN(content.n, (size_t)80), content.s);
		AddedToken one = { .text = r->raw[id], .id = id };
		one.special = get_flag(v, "special", false);
		one.normalized = get_flag(v, "normalized", !one.special);
		one.single_word = get_flag(v, "single_word", false);
		one.left = get_flag(v, "lstrip", false);
		one.right = get_flag(v, "rstrip", false);
		r->t->special[id] = one.special;
		if (one.normalized)
			TRY(normalize_added(r, &one));
		if (!one.text.n)
			continue; /* nothing of it is left to look for */
		VEC_PUSH(r->a, &r->p->added, one);
		r->p->begins[1][(u8)one.text.s[0]] = true;
		r->p->begins[0][(u8)one.text.s[0]] |= !one.special;
	}
	return OK;
}

/* ---- the model ---- */

/* What the model looks up: bytes, where the vocabulary is one of bytes. */
static void index_pieces(Reader *r)
{
	ByteCodes codes;
	byte_codes(&codes);
	for (u32 id = 0; id < r->vocabulary; id++) {
		Str piece = r->raw[id];
		if (!piece.n || !r->own[id] || r->t->special[id] || (r->p->model.bytes && !bytes_of_piece(r->tmp, &codes, piece, &piece)))
			continue;
		words_add(&r->p->known, piece)->value = id;
	}
}

static Status read_merges(Reader *r, const json_t *merges)
{
	const Subword *m = &r->p->model;
	Tokenizer *t = r->t;
	t->merge = NEWN(r->a, Merge, json_array_size(merges) + 1);
	Buf b = { .arena = r->tmp };
	size_t i;
	const json_t *v;
	json_array_foreach(merges, i, v) {
		Str left = { NULL, 0 }, right = { NULL, 0 };
		if (json_is_string(v)) {
			Str line = text_of(v);
			const char *gap = line.n ? memchr(line.s, ' ', line.n) : NULL;
			if (gap) {
				left = (Str){ line.s, (size_t)(gap - line.s) };
				right = (Str){ gap + 1, line.n - left.n - 1 };
			}
		} else if (json_array_size(v) == 2 && json_is_string(json_array_get(v, 0)) && json_is_string(json_array_get(v, 1))) {
			left = text_of(json_array_get(v, 0));
			right = text_of(json_array_get(v, 1));
		}
		if (!left.n || !right.n)
			return FAIL(STATUS_INPUT, "merge %zu is not two tokens", i + 1);
		bool goes_on = m->prefix.n && str_starts(right, m->prefix);
		b.n = 0;
		buf_put(&b, left);
		buf_put(&b, goes_on ? (Str){ right.s + m->prefix.n, right.n - m->prefix.n } : right);
		u32 l = id_of(r, left), k = id_of(r, right), both = id_of(r, buf_str(&b));
		if (l == TOKEN_NONE || k == TOKEN_NONE || both == TOKEN_NONE)
			return FAIL(STATUS_INPUT, "merge %zu, '%.*s %.*s': %s is not in the vocabulary", i + 1,
				    (int)MIN(left.n, (size_t)80), left.s, (int)MIN(right.n, (size_t)80), right.s,
				    l == TOKEN_NONE ? "the first" : k == TOKEN_NONE ? "the second" : "what they make");
		t->merge[t->nmerge++] = (Merge){ l, k, both };
	}
	return bpe_pairs(t);
}

static Status read_model_kind(const json_t *model, SubwordKind *out)
{
	static const char *const name[] = { [SUBWORD_BPE] = "BPE",
					    [SUBWORD_WORDPIECE] = "WordPiece",
					    [SUBWORD_UNIGRAM] = "Unigram",
					    [SUBWORD_WORDS] = "WordLevel" };
	for (u32 i = 0; i < COUNT(name); i++)
		if (is(model, "type", name[i])) {
			*out = (SubwordKind)i;
			return OK;
		}
	/* old files do not say */
	if (!json_object_get(model, "type")) {
		*out = json_object_get(model, "merges") ? SUBWORD_BPE : json_is_array(json_object_get(model, "vocab")) ? SUBWORD_UNIGRAM :
										       SUBWORD_WORDPIECE;
		return OK;
	}
	return unknown_type(model, "model");
}

static Status read_model(Reader *r, const json_t *model)
{
	Subword *m = &r->p->model;
	Str prefix = get_text(model, "continuing_subword_prefix"), suffix = get_text(model, "end_of_word_suffix");
	const json_t *dropout = json_object_get(model, "dropout"), *longest = json_object_get(model, "max_input_chars_per_word");
	if (json_is_number(dropout) && json_number_value(dropout) != 0)
		return FAIL(STATUS_INPUT, "its model drops merges at random ('dropout'), which is not supported");
	m->prefix = prefix.s ? keep(r->a, prefix) : m->kind == SUBWORD_WORDPIECE ? STR("##") : STR("");
	m->suffix = suffix.s ? keep(r->a, suffix) : STR("");
	m->longest = json_is_integer(longest) && json_integer_value(longest) >= 0 ? (u32)MIN(json_integer_value(longest), UINT32_MAX) : 100;
	m->byte_fallback = get_flag(model, "byte_fallback", false);
	m->fuse_unknown = m->kind == SUBWORD_UNIGRAM || get_flag(model, "fuse_unk", false);
	m->whole_words = get_flag(model, "ignore_merges", false);
	m->unknown = id_of(r, get_text(model, "unk_token"));
	const json_t *unknown = json_object_get(model, "unk_id");
	if (json_is_integer(unknown) && json_integer_value(unknown) >= 0 && json_integer_value(unknown) < r->vocabulary)
		m->unknown = (u32)json_integer_value(unknown);
	for (u32 i = 0; i < 256; i++) {
		char name[8];
		snprintf(name, sizeof name, "<0x%02X>", i);
		m->fallback[i] = id_of(r, str_of(name));
	}
	index_pieces(r);
	if (m->kind == SUBWORD_UNIGRAM)
		subword_ready(r->t, r->raw, r->own);
	return m->kind == SUBWORD_BPE ? read_merges(r, json_object_get(model, "merges")) : OK;
}

/* ---- the template ---- */

static Status read_template_list(Reader *r, const json_t *list, const json_t *specials, Template *out)
{
	size_t i, k;
	const json_t *v, *id;
	json_array_foreach(list, i, v) {
		const json_t *sequence = json_object_get(v, "Sequence"), *special = json_object_get(v, "SpecialToken");
		const json_t *of = sequence ? sequence : special, *type = json_object_get(of, "type_id");
		TemplatePiece p = { .id = TOKEN_NONE, .type = json_is_integer(type) ? (u32)json_integer_value(type) : 0 };
		if (sequence) {
			p.sequence = is(sequence, "id", "B");
			VEC_PUSH(r->a, out, p);
			continue;
		}
		Str name = get_text(special, "id");
		const json_t *ids = json_object_get(name.s ? json_object_get(specials, name.s) : NULL, "ids");
		if (!json_array_size(ids))
			return FAIL(STATUS_INPUT, "its template names a token '%.*s' that has no ids", (int)MIN(name.n, (size_t)80),
				    name.s ? name.s : "");
		json_array_foreach(ids, k, id) {
			if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= r->vocabulary)
				return FAIL(STATUS_INPUT, "its template has an id that is not in the vocabulary");
			p.id = (u32)json_integer_value(id);
			VEC_PUSH(r->a, out, p);
		}
	}
	return OK;
}

/* ["[SEP]", 102] */
static Status read_named_id(const Reader *r, const json_t *v, u32 *out)
{
	const json_t *id = json_array_get(v, 1);
	if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= r->vocabulary)
		return FAIL(STATUS_INPUT, "its post-processor has an id that is not in the vocabulary");
	*out = (u32)json_integer_value(id);
	return OK;
}

static Status read_post_processor(Reader *r, const json_t *step)
{
	Pipeline *p = r->p;
	if (is(step, "type", "ByteLevel"))
		return OK; /* it trims offsets alone */
	if (is(step, "type", "TemplateProcessing")) {
		const json_t *specials = json_object_get(step, "special_tokens");
		TRY(read_template_list(r, json_object_get(step, "single"), specials, &p->single));
		return read_template_list(r, json_object_get(step, "pair"), specials, &p->pair);
	}
	bool roberta = is(step, "type", "RobertaProcessing");
	if (!roberta && !is(step, "type", "BertProcessing"))
		return unknown_type(step, "post-processor");
	u32 begin = 0, end = 0;
	TRY(read_named_id(r, json_object_get(step, "cls"), &begin));
	TRY(read_named_id(r, json_object_get(step, "sep"), &end));
	const TemplatePiece one[] = { { begin, 0, 0 }, { TOKEN_NONE, 0, 0 }, { end, 0, 0 } };
	const TemplatePiece more[] = { { end, 0, 0 }, { TOKEN_NONE, 1, !roberta }, { end, 0, !roberta } };
	for (u32 i = 0; i < COUNT(one); i++) {
		VEC_PUSH(r->a, &p->single, one[i]);
		VEC_PUSH(r->a, &p->pair, one[i]);
	}
	for (u32 i = !roberta; i < COUNT(more); i++)
		VEC_PUSH(r->a, &p->pair, more[i]);
	return OK;
}

/* ---- the decoder: the bytes that each id stands for ---- */

static void replace_in(Arena *a, Str *text, Str from, Str to)
{
	Buf b = { .arena = a };
	size_t at = 0;
	for (;;) {
		const char *found = text->n - at >= from.n ? memmem(text->s + at, text->n - at, from.s, from.n) : NULL;
		if (!found)
			break;
		size_t begin = (size_t)(found - text->s);
		buf_put(&b, (Str){ text->s + at, begin - at });
		buf_put(&b, to);
		at = begin + from.n;
	}
	buf_put(&b, (Str){ text->s + at, text->n - at });
	*text = b.n ? buf_str(&b) : STR("");
}

static Str with_space(Arena *a, Str text, bool before)
{
	const char *made = before ? arena_printf(a, " %.*s", STR_ARG(text)) : arena_printf(a, "%.*s ", STR_ARG(text));
	return (Str){ made, text.n + 1 };
}

static bool is_byte(Str piece, u32 *byte)
{
	char end;
	char text[8] = { 0 };
	if (piece.n != 6)
		return false;
	memcpy(text, piece.s, 6);
	return sscanf(text, "<0x%2x>%c", byte, &end) == 1 && text[5] == '>';
}

static Status read_decoder(Reader *r, const json_t *step)
{
	Tokenizer *t = r->t;
	ByteCodes codes;
	byte_codes(&codes);
	Str prefix = get_text(step, "prefix"), suffix = get_text(step, "suffix"), mark = get_text(step, "replacement");
	Str from = get_text(json_object_get(step, "pattern"), "String"), to = get_text(step, "content");
	bool bytes = is(step, "type", "ByteLevel"), pieces = is(step, "type", "WordPiece"), meta = is(step, "type", "Metaspace"),
	     replace = is(step, "type", "Replace"), fallback = is(step, "type", "ByteFallback"), ends = is(step, "type", "BPEDecoder");
	if (is(step, "type", "Fuse"))
		return OK;
	if (is(step, "type", "Strip")) {
		r->p->strip_start = is(step, "content", " ") && json_integer_value(json_object_get(step, "start")) > 0;
		return OK;
	}
	if (!bytes && !pieces && !meta && !replace && !fallback && !ends)
		return unknown_type(step, "decoder");
	r->p->strip_start |= pieces || (meta && !is(step, "prepend_scheme", "never") && get_flag(step, "add_prefix_space", true));
	for (u32 id = 0; id < t->vocabulary; id++) {
		Str *piece = &t->piece[id];
		u32 byte;
		if (!piece->n || t->special[id])
			continue;
		if (bytes)
			bytes_of_piece(r->a, &codes, *piece, piece);
		else if (pieces && prefix.n && str_starts(*piece, prefix))
			*piece = (Str){ piece->s + prefix.n, piece->n - prefix.n };
		else if (pieces)
			*piece = with_space(r->a, *piece, true);
		else if (meta)
			replace_in(r->a, piece, mark.n ? mark : STR("\xe2\x96\x81"), STR(" "));
		else if (replace && from.n && to.s)
			replace_in(r->a, piece, from, to);
		else if (fallback && is_byte(*piece, &byte))
			*piece = keep(r->a, (Str){ &(char){ (char)(u8)byte }, 1 });
		else if (ends && suffix.n && str_ends(*piece, suffix))
			*piece = with_space(r->a, (Str){ piece->s, piece->n - suffix.n }, false);
	}
	return OK;
}

/* ---------------------------------------------------------------------------------------------- */

static Status read_all(Reader *r, const json_t *root)
{
	const json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
	const json_t *vocabulary = json_object_get(model, "vocab");
	Arena *a = r->a;
	if (!json_is_object(vocabulary) && !json_is_array(vocabulary))
		return FAIL(STATUS_INPUT, "not a tokenizer.json: there is no model with a vocab");
	SubwordKind kind = SUBWORD_BPE;
	TRY(read_model_kind(model, &kind));
	if ((kind == SUBWORD_UNIGRAM) != (json_is_array(vocabulary) != 0))
		return FAIL(STATUS_INPUT, "its vocabulary is not of the form that its model has");
	TRY(count_ids(vocabulary, added, &r->vocabulary));
	r->t = tokenizer_new(a, &tokenizer_kind_pipeline, r->vocabulary);
	r->t->pipeline = r->p;
	r->p->known.arena = a;
	r->p->model.kind = kind;
	r->raw = NEWN(a, Str, r->vocabulary);
	r->own = NEWN(r->tmp, bool, r->vocabulary);
	TRY(each_step(r, json_object_get(root, "normalizer"), "normalizers", read_normalizer, 0));
	TRY(each_step(r, json_object_get(root, "pre_tokenizer"), "pretokenizers", read_pretokenizer, 0));
	TRY(read_vocabulary(r, vocabulary));
	TRY(read_added(r, added));
	TRY(read_model(r, model));
	TRY(each_step(r, json_object_get(root, "post_processor"), "processors", read_post_processor, 0));
	for (u32 id = 0; id < r->vocabulary; id++) {
		r->t->piece[id] = r->raw[id].s ? r->raw[id] : STR("");
		r->t->special[id] |= !r->raw[id].n; /* an id that nothing has */
	}
	const json_t *decoder = json_object_get(root, "decoder");
	TRY(each_step(r, decoder, "decoders", read_decoder, 0));
	for (u32 id = 0; id < r->vocabulary && !json_is_object(decoder); id++) /* without one, pieces are words */
		if (!r->t->special[id] && r->t->piece[id].n)
			r->t->piece[id] = with_space(r->a, r->t->piece[id], true);
	r->p->strip_start |= !json_is_object(decoder);
	r->t->end = end_of_documents(r->t);
	return OK;
}

Status pipeline_read(Arena *a, const char *path, Str text, Tokenizer **out)
{
	json_error_t e;
	json_t *root = json_loadb(text.s ? text.s : "", text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
	if (!root)
		return FAIL(STATUS_INPUT, "%s:%d:%d: not a JSON file: %s", path, e.line, e.column, e.text);
	Arena tmp = ARENA("tokenizer.json");
	Reader r = { .a = a, .tmp = &tmp, .p = NEW(a, Pipeline), .ids = { .arena = &tmp } };
	Status s = read_all(&r, root);
	if (!s) {
		r.p->source = keep(a, text);
		r.p->source_hash = XXH3_64bits(text.s, text.n);
		*out = r.t;
	} else {
		pipeline_close(r.p);
	}
	json_decref(root);
	arena_free(&tmp);
	return s ? status_context(s, "%s", path) : OK;
}
