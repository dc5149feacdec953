/* Units of runtime/data/corpus and tokenize: which documents there are, on which side of a split
 * they fall, and that the shards hold the text. */
#include "runtime/data/tokenize.h"
#include "tests/unit/folder.h"

static const char *file(const char *name, const char *text)
{
	good(io_write(path_of(name), (Blob){ (const u8 *)text, strlen(text) }));
	return path_of(name);
}

/* What a set stands for, with the names of special tokens. */
static Str text_of(const char *prefix)
{
	Shards s;
	Tokenizer *t;
	Buf b = { .arena = &arena };
	good(shards_open(&arena, prefix, &s));
	good(shards_tokenizer(&arena, &s, &t));
	i32 *id = NEWN(&arena, i32, s.count);
	good(shards_read(&s, 0, s.count, id));
	buf_put(&b, STR(""));
	for (u64 i = 0; i < s.count; i++)
		buf_put(&b, t->piece[id[i]]);
	tokenizer_close(t);
	shards_close(&s);
	return buf_str(&b);
}

static void text_is(const char *prefix, const char *want)
{
	Str have = text_of(prefix);
	if (!str_equal(have, str_of(want)))
		fail_msg("'%.*s', not '%s'", STR_ARG(have), want);
}

static void documents_are_files_and_records(void **state)
{
	(void)state;
	const char *path[] = {
		file("a.txt", "first\n"),
		file("empty.txt", ""),
		file("b.jsonl", "{\"text\": \"one\", \"x\": 1}\n\n  \r\n{\"text\": \"\"}\n"
				"{\"text\": \"tw\\u00f6\\n\\u0000!\"}"),
		file("c.txt", "last"),
	};
	static const struct {
		const char *text;
		size_t n;
		u64 line, at, size;
	} want[] = { { "first\n", 6, 0, 0, 6 },
		     { "one", 3, 1, 6, 24 },
		     { "tw\xc3\xb6\n\0!", 7, 5, 6 + 24 + 1 + 4 + 13, 29 },
		     { "last", 4, 0, 6 + 24 + 1 + 4 + 13 + 29, 4 } };
	Corpus c;
	Document d;
	bool more;
	good(corpus_open(&arena, path, COUNT(path), NULL, &c));
	assert_true(c.records);
	CorpusWalk w = corpus_walk(&c);
	for (size_t i = 0; i < COUNT(want); i++) {
		good(corpus_next(&w, &d, &more));
		assert_true(more);
		assert_int_equal(d.text.n, want[i].n);
		assert_memory_equal(d.text.s, want[i].text, d.text.n);
		assert_int_equal(d.line, want[i].line);
		assert_int_equal(d.at, want[i].at);
		assert_int_equal(d.size, want[i].size);
	}
	assert_int_equal(d.at + d.size, c.bytes);
	good(corpus_next(&w, &d, &more));
	assert_false(more);
	corpus_walk_end(&w);
	corpus_close(&c);
}

static void wrong_records_are_told_by_line(void **state)
{
	(void)state;
	static const struct {
		const char *text, *says;
	} c[] = {
		{ "{\"body\": \"x\"}\n{\"body\": }\n", "bad.json:2:10: not a JSON record" },
		{ "{\"body\": \"x\"}\n\n[1]\n", "bad.json:3: the record is not a JSON object" },
		{ "{\"text\": \"x\", \"id\": 3}\n",
		  "bad.json:1: the record has no field 'body'; it has: text, id" },
		{ "{\"body\": 5}", "bad.json:1: the field 'body' is not a string" },
		{ "{\"body\": \"\\ud800\"}", "bad.json:1:" },
	};
	for (size_t i = 0; i < COUNT(c); i++) {
		const char *path = file("bad.json", c[i].text);
		Corpus corpus;
		Document d;
		bool more = true;
		Status s = OK;
		good(corpus_open(&arena, &path, 1, "body", &corpus));
		CorpusWalk w = corpus_walk(&corpus);
		while (!s && more)
			s = corpus_next(&w, &d, &more);
		refused(s, c[i].says);
		corpus_walk_end(&w);
		corpus_close(&corpus);
	}
	const char *none = path_of("none.txt");
	Corpus corpus;
	Status s = corpus_open(&arena, &none, 1, NULL, &corpus);
	assert_non_null(s);
	assert_int_equal(s->code, STATUS_IO);
}

static void the_last_part_is_held_out(void **state)
{
	(void)state;
	/* 100 lines of 10 bytes; learnt, split, and in many files */
	Buf b = { .arena = &arena };
	for (u32 i = 0; i < 100; i++)
		buf_printf(&b, "line %03u.\n", i);
	const char *path = file("lines.txt", b.text);
	static const char *const kinds[] = { "byte", "char", "bpe" };
	for (size_t k = 0; k < COUNT(kinds); k++) {
		TokenizeReport r;
		TokenizeConfig c = { .input = &path,
				     .ninput = 1,
				     .tokenizer = kinds[k],
				     .vocabulary = 300,
				     .split = VALIDATION_LAST,
				     .validation = k ? 0.102 : 0.1,
				     .output = path_of("lines"),
				     .ids_per_shard = 100 };
		good(tokenize(&arena, &c, &r));
		assert_string_equal(r.kind, kinds[k]);
		assert_int_equal(r.parts, 2);
		assert_false(r.ends);
		/* 100 bytes from the end is where line 90 begins, 102 is within line 89 */
		text_is(path_of("lines.train"), arena_strn(&arena, (Str){ b.text, 900 }));
		text_is(path_of("lines.val"), b.text + 900);
		assert_int_equal(r.part[0].bytes, 900);
		assert_int_equal(r.part[1].characters, 100);
		assert_int_equal(r.part[0].documents, 1);
		if (k < 2) {
			assert_int_equal(r.part[0].tokens, 900);
			assert_int_equal(r.part[0].shards, 9);
		} else
			assert_true(r.part[0].tokens < 500);
	}
	/* one long line is cut between characters */
	Buf e = { .arena = &arena };
	for (u32 i = 0; i < 500; i++)
		buf_put(&e, STR("€"));
	path = file("line.txt", e.text);
	TokenizeReport r;
	good(tokenize(&arena,
		      &(TokenizeConfig){ .input = &path,
					 .ninput = 1,
					 .tokenizer = "char",
					 .split = VALIDATION_LAST,
					 .validation = 0.1,
					 .output = path_of("deep/er/line") },
		      &r));
	assert_int_equal(r.part[0].tokens + r.part[1].tokens, 500);
	assert_int_equal(r.part[1].tokens, 50);
	assert_int_equal(r.part[1].bytes, 150);
}

static void pairs_are_learnt_from_the_training_part(void **state)
{
	(void)state;
	Buf b = { .arena = &arena };
	for (u32 i = 0; i < 100; i++)
		buf_put(&b, i < 80 ? STR("ab ab abc\n") : STR("xy xy xyz\n"));
	const char *path = file("two.txt", b.text);
	TokenizeReport r;
	Tokenizer *t;
	good(tokenize(&arena,
		      &(TokenizeConfig){ .input = &path,
					 .ninput = 1,
					 .tokenizer = "bpe",
					 .vocabulary = 300,
					 .split = VALIDATION_LAST,
					 .validation = 0.2,
					 .output = path_of("two") },
		      &r));
	good(tokenizer_load(&arena, r.tokenizer_path, &t));
	assert_non_null(words_find(&t->ids, STR(" abc")));
	assert_null(words_find(&t->ids, STR("xy")));
	tokenizer_close(t);
}

static void documents_end_with_a_token(void **state)
{
	(void)state;
	const char *path =
		file("docs.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"ba\"}\n{\"text\": \"aa\"}\n");
	TokenizeReport r;
	TokenizeConfig c = {
		.input = &path, .ninput = 1, .tokenizer = "char", .output = path_of("docs")
	};
	good(tokenize(&arena, &c, &r));
	assert_true(r.ends);
	assert_int_equal(r.vocabulary, 3);
	assert_int_equal(r.parts, 1);
	assert_int_equal(r.part[0].documents, 3);
	assert_int_equal(r.part[0].tokens, 9);
	assert_int_equal(r.part[0].bytes, 6);
	text_is(path_of("docs.train"), "ab<|endoftext|>ba<|endoftext|>aa<|endoftext|>");
	c.ends = ENDS_NONE;
	good(tokenize(&arena, &c, &r));
	assert_int_equal(r.vocabulary, 2);
	text_is(path_of("docs.train"), "abbaaa");
	/* a tokenizer that was saved, with and without such a token */
	c.tokenizer = path_of("docs.tokenizer.json");
	c.output = path_of("again");
	good(tokenize(&arena, &c, &r));
	text_is(path_of("again.train"), "abbaaa");
	c.ends = ENDS_AUTO;
	refused(tokenize(&arena, &c, &r), "no token that ends a document");
	/* a character that the saved one has not */
	path = file("other.txt", "abca");
	refused(tokenize(&arena, &c, &r), "other.txt: the character 'c' (U+0063) at byte 2");
	c.tokenizer = "gpt2";
	refused(tokenize(&arena, &c, &r), "needs its two files");
	c.tokenizer = "gpt4";
	refused(tokenize(&arena, &c, &r), "there is no tokenizer 'gpt4'");
}

static void documents_are_split_by_what_they_say(void **state)
{
	(void)state;
	Buf b = { .arena = &arena };
	for (u32 i = 0; i < 2000; i++)
		buf_printf(&b, "{\"text\": \"document %u\"}\n", i / 2); /* each one twice */
	const char *path = file("many.jsonl", b.text);
	TokenizeReport r;
	TokenizeConfig c = { .input = &path,
			     .ninput = 1,
			     .tokenizer = "byte",
			     .split = VALIDATION_DOCUMENTS,
			     .validation = 0.1,
			     .output = path_of("many") };
	good(tokenize(&arena, &c, &r));
	assert_int_equal(r.part[0].documents + r.part[1].documents, 2000);
	/* 1000 draws of 0.1: within five standard deviations */
	assert_in_range(r.part[1].documents, 2 * (100 - 48), 2 * (100 + 48));
	Str held = text_of(path_of("many.val"));
	u32 pairs = 0;
	for (u32 i = 0; i < 1000; i++) {
		const char *twice = arena_printf(
			&arena, "document %u<|endoftext|>document %u<|endoftext|>", i, i);
		pairs += strstr(held.s, twice) != NULL;
	}
	assert_int_equal(2 * pairs, r.part[1].documents);
	/* one document cannot be on both sides */
	path = file("single.txt", "only one");
	refused(tokenize(&arena, &c, &r), "--validation-last");
	assert_false(shards_exist(path_of("single.train")));
	c.split = VALIDATION_LAST;
	c.validation = 1.5;
	refused(tokenize(&arena, &c, &r), "1.5, not between");
	c.split = VALIDATION_NONE;
	path = file("nothing.txt", "");
	refused(tokenize(&arena, &c, &r), "no text");
}

static void long_text_is_encoded_in_parts(void **state)
{
	(void)state;
	/* more than the 1 MiB that is encoded at once, as one word and with line ends; the ids must
	 * be those of the whole, encoded at once */
	size_t n = 3000000;
	char *text = NEWN(&arena, char, n + 1);
	srand(5);
	for (size_t i = 0; i < n; i++)
		text[i] = "etaoin  \n,h"[rand() % 11];
	memset(text + 900000, 'a', 400000);
	const char *path = file("long.txt", text);
	TokenizeReport r;
	TokenizeConfig c = { .input = &path,
			     .ninput = 1,
			     .tokenizer = "bpe",
			     .vocabulary = 280,
			     .output = path_of("long") };
	good(tokenize(&arena, &c, &r));
	Shards s;
	Tokenizer *t;
	good(shards_open(&arena, path_of("long.train"), &s));
	good(shards_tokenizer(&arena, &s, &t));
	Tokens want = { .arena = &arena };
	good(tokenizer_encode(t, (Str){ text, n }, &want));
	assert_int_equal(s.count, want.n);
	i32 *id = NEWN(&arena, i32, s.count);
	good(shards_read(&s, 0, s.count, id));
	assert_memory_equal(id, want.v, want.n * sizeof *id);
	tokenizer_close(t);
	shards_close(&s);
}

int main(void)
{
	arena = ARENA("test");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_are_files_and_records),
		cmocka_unit_test(wrong_records_are_told_by_line),
		cmocka_unit_test(the_last_part_is_held_out),
		cmocka_unit_test(pairs_are_learnt_from_the_training_part),
		cmocka_unit_test(documents_end_with_a_token),
		cmocka_unit_test(documents_are_split_by_what_they_say),
		cmocka_unit_test(long_text_is_encoded_in_parts),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
