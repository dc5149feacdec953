/* Units of runtime/data/shard: what is written comes back, by the layout in shard.h; and anything
 * that has been changed is told with the file's name and the byte. */
#include "runtime/data/shard.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <cmocka.h>

static Arena arena;
static const char *folder;

static void good(Status s)
{
	if (s)
		fail_msg("%s", s->text);
}

static void bad(Status s, const char *part)
{
	assert_non_null(s);
	assert_int_equal(s->code, STATUS_INPUT);
	if (!strstr(s->text, part))
		fail_msg("'%s' does not say '%s'", s->text, part);
}

static const char *path_of(const char *name)
{
	return arena_printf(&arena, "%s/%s", folder, name);
}

static int make_folder(void **state)
{
	(void)state;
	folder = arena_printf(&arena, "/tmp/plinth-shard-%ld", (long)getpid());
	return io_make_folder(folder) != OK;
}

static int remove_folder(void **state)
{
	(void)state;
	int failed = system(arena_printf(&arena, "rm -rf '%s'", folder));
	arena_free(&arena);
	return failed;
}

/* `n` ids that go through the vocabulary in no plain order. */
static u32 *some_ids(u32 n, u32 vocabulary)
{
	u32 *id = NEWN(&arena, u32, n);
	for (u32 i = 0; i < n; i++)
		id[i] = (u32)(((u64)i * 2654435761u + i / 7) % vocabulary);
	return id;
}

/* A set under `name` of these ids, by the byte tokenizer with an end. */
static const char *write_set(const char *name, const u32 *id, u32 n, u64 per_shard)
{
	Tokenizer *t;
	ShardWriter *w;
	const char *prefix = path_of(name);
	good(tokenizer_byte(&arena, true, &t));
	good(tokenizer_save(t, path_of("byte.json")));
	good(shard_writer_open(&arena, prefix, t, "byte.json", per_shard, &w));
	for (u32 i = 0; i < n; i += 1000)
		good(shard_writer_add(w, id + i, MIN(n - i, 1000)));
	assert_int_equal(shard_writer_count(w), n);
	shard_writer_document(w);
	good(shard_writer_finish(w));
	return prefix;
}

static Str contents(const char *path)
{
	Str text;
	good(io_read(&arena, path, &text));
	return text;
}

static void put(const char *path, Str text)
{
	good(io_write(path, (Blob){ (const u8 *)text.s, text.n }));
}

/* Opens the set and reads all of it. */
static Status read_all(const char *prefix)
{
	Shards s;
	TRY(shards_open(&arena, prefix, &s));
	i32 *out = NEWN(&arena, i32, s.count + 1);
	Status wrong = shards_read(&s, 0, s.count, out);
	shards_close(&s);
	return wrong;
}

static void ids_come_back_across_shards(void **state)
{
	(void)state;
	u32 n = 150000, *id = some_ids(n, 257);
	const char *prefix = write_set("many", id, n, 70001);
	Shards s;
	good(shards_open(&arena, prefix, &s));
	assert_int_equal(s.n, 3);
	assert_int_equal(s.count, n);
	assert_int_equal(s.vocabulary, 257);
	assert_int_equal(s.end, 256);
	assert_int_equal(s.documents, 1);
	i32 *out = NEWN(&arena, i32, n);
	for (u32 at = 0; at < n;) {
		u32 part = MIN(1 + at % 977 * 13, n - at);
		good(shards_read(&s, at, part, out + at));
		at += part;
	}
	u64 bytes = 0, characters = 0;
	for (u32 i = 0; i < n; i++) {
		assert_int_equal(out[i], id[i]);
		bytes += id[i] < 256;
		characters += id[i] < 128 || (id[i] >= 192 && id[i] < 256);
	}
	assert_int_equal(s.text_bytes, bytes);
	assert_int_equal(s.text_characters, characters);
	good(shards_read(&s, 69999, 5, out));
	for (u32 i = 0; i < 5; i++)
		assert_int_equal(out[i], id[69999 + i]);
	Tokenizer *t;
	good(shards_tokenizer(&arena, &s, &t));
	assert_string_equal(t->kind->name, "byte");
	shards_close(&s);
	/* the first file's path will do, too */
	good(shards_open(&arena, arena_printf(&arena, "%s.000.tok", prefix), &s));
	assert_int_equal(s.count, n);
	shards_close(&s);
}

static void the_layout_is_the_documented_one(void **state)
{
	(void)state;
	u32 id[] = { 'h', 'i', 256, 0, 255 };
	Str file = contents(arena_printf(&arena, "%s.000.tok", write_set("layout", id, 5, 0)));
	/* 4096, 10 bytes of ids, 6 of zeroes, one hash */
	assert_int_equal(file.n, 4096 + 16 + 8);
	assert_memory_equal(file.s, "PLTOKENS\1\0\0\0\2\0\0\0\5\0\0\0\0\0\0\0\1\1\0\0\0\1\0\0", 32);
	assert_memory_equal(file.s + 4096, "h\0i\0\0\1\0\0\377\0\0\0\0\0\0\0", 16);
	u64 hash = XXH3_64bits(file.s + 4096, 10), stored;
	memcpy(&stored, file.s + 4112, 8);
	assert_true(hash == stored);
	memcpy(&stored, file.s + 4088, 8);
	assert_true(XXH3_64bits(file.s, 4088) == stored);
}

static void wide_ids_for_large_vocabularies(void **state)
{
	(void)state;
	/* a vocabulary of 70000 characters, which nothing reads as text here */
	Trainer *tr;
	Tokenizer *t;
	ShardWriter *w;
	Shards s;
	Buf text = { .arena = &arena };
	for (u32 c = 0x10000; c < 0x10000 + 70000; c++)
		buf_printf(&text, "%c%c%c%c", (char)(0xf0 | c >> 18), (char)(0x80 | (c >> 12 & 63)),
			   (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63)));
	good(trainer_char(&arena, false, &tr));
	good(trainer_add(tr, buf_str(&text)));
	good(trainer_finish(tr, &t));
	assert_int_equal(t->vocabulary, 70000);
	u32 id[] = { 69999, 0, 65536, 65535 };
	good(shard_writer_open(&arena, path_of("wide"), t, "wide.json", 0, &w));
	good(shard_writer_add(w, id, 4));
	good(shard_writer_finish(w));
	good(shards_open(&arena, path_of("wide"), &s));
	i32 out[4];
	good(shards_read(&s, 0, 4, out));
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(out[i], id[i]);
	assert_int_equal(s.text_bytes, 16);
	assert_int_equal(s.text_characters, 4);
	assert_int_equal(s.shard[0].header->width, 4);
	shards_close(&s);
}

static void every_changed_byte_is_noticed(void **state)
{
	(void)state;
	u32 n = 11, *id = some_ids(n, 257);
	const char *prefix = write_set("change", id, n, 0);
	const char *path = arena_printf(&arena, "%s.000.tok", prefix);
	Str was = contents(path);
	for (size_t at = 0; at < was.n; at++) {
		ArenaMark mark = arena_mark(&arena);
		char *changed = arena_copy(&arena, was.s, 1, was.n, 8);
		changed[at] ^= (char)(1 << at % 8);
		Shards s = { .count = n };
		Shard *shard = NEW(&arena, Shard);
		Status wrong = shard_parse(&arena, path, (Blob){ (u8 *)changed, was.n }, shard);
		s.shard = shard;
		s.n = 1;
		i32 out[11];
		if (!wrong)
			wrong = shards_read(&s, 0, n, out);
		if (!wrong)
			fail_msg("byte %zu", at);
		bad(wrong, path);
		bad(wrong, "byte ");
		arena_release(&arena, mark);
	}
}

static void every_truncation_is_noticed(void **state)
{
	(void)state;
	u32 n = 11, *id = some_ids(n, 257);
	const char *prefix = write_set("short", id, n, 0);
	const char *path = arena_printf(&arena, "%s.000.tok", prefix);
	Str was = contents(path);
	for (size_t size = 0; size < was.n; size += size < 40 || size > 4080 ? 1 : 97) {
		put(path, (Str){ was.s, size });
		Status s = read_all(prefix);
		bad(s, path);
		bad(s,
		    size < 8 ? "byte 0: " : arena_printf(&arena, "byte %zu: the file ends", size));
	}
	Buf longer = { .arena = &arena };
	buf_put(&longer, was);
	buf_char(&longer, 0);
	put(path, buf_str(&longer));
	bad(read_all(prefix), arena_printf(&arena, "byte %zu: the shard ends here", was.n));
	put(path, was);
	good(read_all(prefix));
}

/* Changes 4 bytes of the header and gives it its right hash again: a file made wrong on purpose. */
static void forge(const char *path, Str was, size_t at, u32 value)
{
	char *changed = COPYN(&arena, char, was.s, was.n);
	memcpy(changed + at, &value, 4);
	u64 hash = XXH3_64bits(changed, 4088);
	memcpy(changed + 4088, &hash, 8);
	put(path, (Str){ changed, was.n });
}

static void a_header_that_makes_no_sense_is_refused(void **state)
{
	(void)state;
	u32 n = 70000, *id = some_ids(n, 257);
	const char *prefix = write_set("forged", id, n, 0);
	const char *path = arena_printf(&arena, "%s.000.tok", prefix);
	Str was = contents(path);
	static const struct {
		size_t at;
		u32 value;
		const char *says;
	} c[] = {
		{ offsetof(ShardHeader, version), 2, "byte 8: version 2" },
		{ offsetof(ShardHeader, width), 3, "byte 12: 3 bytes per id" },
		{ offsetof(ShardHeader, width), 4, "truncated" },
		{ offsetof(ShardHeader, count), 69000, "the shard ends here" },
		{ offsetof(ShardHeader, count), 69999, "a byte that fills up is not zero" },
		{ offsetof(ShardHeader, count) + 4, 0xffffffff, "byte 16: " },
		{ offsetof(ShardHeader, count) + 4, 0x00ffffff, "truncated" },
		{ offsetof(ShardHeader, vocabulary), 0, "byte 24: a vocabulary of 0" },
		{ offsetof(ShardHeader, vocabulary), 70000, "byte 24: a vocabulary of 70000" },
		{ offsetof(ShardHeader, end), 257, "byte 28: documents end with id 257" },
		{ offsetof(ShardHeader, index), 1, "byte 48: this was shard 1" },
		{ offsetof(ShardHeader, before), 1, "byte 40: this shard does not belong" },
		{ offsetof(ShardHeader, last), 7, "byte 52: " },
		{ offsetof(ShardHeader, last), 0, ".001.tok is missing" },
		{ offsetof(ShardHeader, block), 1, "byte 80: blocks of 1" },
		{ offsetof(ShardHeader, tokenizer_file), 0, "byte 96: the tokenizer's file" },
		{ offsetof(ShardHeader, tokenizer_file), 0x2f2e2e2f,
		  "byte 96: the tokenizer's file" },
	};
	for (size_t i = 0; i < COUNT(c); i++) {
		forge(path, was, c[i].at, c[i].value);
		Status s = read_all(prefix);
		bad(s, c[i].says);
		bad(s, path);
	}
	/* an id outside the vocabulary, with every hash right */
	u32 least = 200;
	Shards s;
	forge(path, was, offsetof(ShardHeader, vocabulary), least);
	Str again = contents(path);
	forge(path, again, offsetof(ShardHeader, end), TOKEN_NONE);
	good(shards_open(&arena, prefix, &s));
	u32 first = 0;
	while (id[first] < least)
		first++;
	i32 out[1];
	bad(shards_read(&s, 0, 1, out),
	    arena_printf(&arena, "byte %u: token id %u in a vocabulary of 200", 4096 + 2 * first,
			 id[first]));
	shards_close(&s);
}

static void damage_is_told_when_it_is_read(void **state)
{
	(void)state;
	u32 n = 200000, *id = some_ids(n, 257);
	const char *prefix = write_set("damage", id, n, 0);
	const char *path = arena_printf(&arena, "%s.000.tok", prefix);
	Str was = contents(path);
	char *changed = COPYN(&arena, char, was.s, was.n);
	changed[4096 + 2 * 70000] ^= 1; /* in the second block */
	put(path, (Str){ changed, was.n });
	Shards s;
	i32 out[2];
	good(shards_open(&arena, prefix, &s));
	good(shards_read(&s, 0, 2, out));
	good(shards_read(&s, 140000, 2, out));
	const char *at =
		arena_printf(&arena, "%s: byte %d: the 131072 bytes", path, 4096 + 2 * 65536);
	bad(shards_read(&s, 65535, 2, out), at);
	bad(shard_verify(&s.shard[0]), at);
	shards_close(&s);
}

static void sets_are_not_mixed(void **state)
{
	(void)state;
	u32 n = 3000, *id = some_ids(n, 257);
	const char *one = write_set("one", id, n, 1000),
		   *other = write_set("other", id + 1, n - 1, 1000);
	good(read_all(one));
	Str foreign = contents(arena_printf(&arena, "%s.001.tok", other));
	const char *second = arena_printf(&arena, "%s.001.tok", one);
	put(second, foreign);
	bad(read_all(one), arena_printf(&arena, "%s: byte 40: this shard does not belong", second));
	assert_int_equal(unlink(second), 0);
	bad(read_all(one), arena_printf(&arena, "%s is missing", second));
	/* a shorter set of the same name takes the place of all of it */
	good(read_all(write_set("one", id, 1500, 1000)));
	assert_false(io_exists(path_of("one.002.tok")));
	bad(read_all(path_of("none")), "there are no token shards");
	/* another tokenizer in the place of the right one */
	Tokenizer *t;
	Shards s;
	good(tokenizer_byte(&arena, false, &t));
	good(tokenizer_save(t, path_of("byte.json")));
	good(shards_open(&arena, one, &s));
	bad(shards_tokenizer(&arena, &s, &t), "is not the tokenizer that made");
	shards_close(&s);
}

static void what_is_given_up_leaves_nothing(void **state)
{
	(void)state;
	Tokenizer *t;
	ShardWriter *w;
	u32 *id = some_ids(10, 257);
	good(tokenizer_byte(&arena, true, &t));
	good(io_make_folder(path_of("left")));
	good(shard_writer_open(&arena, path_of("left/never"), t, "byte.json", 0, &w));
	good(shard_writer_add(w, id, 10));
	shard_writer_abandon(w);
	assert_int_equal(rmdir(path_of("left")), 0);
	Status s = shard_writer_open(&arena, path_of("nowhere/x"), t, "byte.json", 0, &w);
	assert_non_null(s);
	assert_int_equal(s->code, STATUS_IO);
}

int main(void)
{
	arena = ARENA("test");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_come_back_across_shards),
		cmocka_unit_test(the_layout_is_the_documented_one),
		cmocka_unit_test(wide_ids_for_large_vocabularies),
		cmocka_unit_test(every_changed_byte_is_noticed),
		cmocka_unit_test(every_truncation_is_noticed),
		cmocka_unit_test(a_header_that_makes_no_sense_is_refused),
		cmocka_unit_test(damage_is_told_when_it_is_read),
		cmocka_unit_test(sets_are_not_mixed),
		cmocka_unit_test(what_is_given_up_leaves_nothing),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
