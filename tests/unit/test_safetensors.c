/* Units of the safetensors reader and writer. What is right comes from a file that the reference
 * library made (tests/golden/safetensors_reference.py), which also reads what the writer makes. */
#include "runtime/checkpoint/safetensors.h"
#include "support/half.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[] = "/tmp/plinth-safetensors-XXXXXX";

static const char *in_folder(Arena *a, const char *name)
{
	return arena_printf(a, "%s/%s", folder, name);
}

/* The tensors of safetensors_reference.py, by its formulas. */
enum { REFERENCE = 13 };

static void reference(Arena *a, NamedBuffer out[REFERENCE])
{
	static const i64 n24[] = { 24 }, d234[] = { 2, 3, 4 }, d46[] = { 4, 6 }, d212[] = { 2, 12 },
			 d38[] = { 3, 8 }, d03[] = { 0, 3 }, n1[] = { 1 };
	f64 *x64 = NEWN(a, f64, 24);
	f32 *x32 = NEWN(a, f32, 24), *scalar = NEW(a, f32), *one = NEW(a, f32);
	u16 *x16 = NEWN(a, u16, 24), *xb16 = NEWN(a, u16, 24);
	i64 *y64 = NEWN(a, i64, 24);
	i32 *y32 = NEWN(a, i32, 24);
	i16 *y16 = NEWN(a, i16, 24);
	i8 *y8 = NEWN(a, i8, 24);
	u8 *u = NEWN(a, u8, 24), *truth = NEWN(a, u8, 24);
	for (i32 i = 0; i < 24; i++) {
		x64[i] = (i - 8) / 4.0;
		x32[i] = (f32)x64[i];
		x16[i] = f16_from_f32(x32[i]);
		xb16[i] = bf16_from_f32(x32[i]);
		y64[i] = (i - 8) * 3;
		y32[i] = i - 8;
		y16[i] = (i16)(i - 8);
		y8[i] = (i8)(i - 8);
		u[i] = (u8)i;
		truth[i] = i % 2 == 0;
	}
	*scalar = 2.5f;
	*one = 1;
	NamedBuffer b[REFERENCE] = {
		{ "f64", SAFE_F64, 3, d234, x64, NULL, 0, false, NULL, NULL },    { "f32", SAFE_F32, 2, d46, x32, NULL, 0, false, NULL, NULL },
		{ "f16", SAFE_F16, 1, n24, x16, NULL, 0, false, NULL, NULL },     { "bf16", SAFE_BF16, 2, d212, xb16, NULL, 0, false, NULL, NULL },
		{ "i64", SAFE_I64, 1, n24, y64, NULL, 0, false, NULL, NULL },     { "i32", SAFE_I32, 2, d38, y32, NULL, 0, false, NULL, NULL },
		{ "i16", SAFE_I16, 1, n24, y16, NULL, 0, false, NULL, NULL },     { "i8", SAFE_I8, 1, n24, y8, NULL, 0, false, NULL, NULL },
		{ "u8", SAFE_U8, 1, n24, u, NULL, 0, false, NULL, NULL },	      { "bool", SAFE_BOOL, 1, n24, truth, NULL, 0, false, NULL, NULL },
		{ "scalar", SAFE_F32, 0, NULL, scalar, NULL, 0, false, NULL, NULL }, { "empty", SAFE_F32, 2, d03, NULL, NULL, 0, false, NULL, NULL },
		{ "na\xC3\xAFve \"name\"", SAFE_F32, 1, n1, one, NULL, 0, false, NULL, NULL },
	};
	memcpy(out, b, sizeof b);
}

static void assert_reference(Arena *a, const Safetensors *s)
{
	NamedBuffer want[REFERENCE];
	reference(a, want);
	assert_int_equal(s->ntensor, REFERENCE);
	for (u32 i = 0; i < REFERENCE; i++) {
		const SafeTensor *t = safetensors_find(s, want[i].name);
		assert_non_null(t);
		assert_string_equal(safe_type_text(a, t->dtype, t->rank, t->dim),
				    safe_type_text(a, want[i].dtype, want[i].rank, want[i].dim));
		assert_int_equal(t->data.n, safe_buffer_bytes(&want[i]));
		if (t->data.n)
			assert_memory_equal(t->data.p, want[i].data, t->data.n);
	}
	assert_null(safetensors_find(s, "f3"));
	assert_string_equal(safetensors_meta(s, "note"), "a reference");
}

static void reads_what_the_reference_library_writes(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Safetensors s;
	assert_null(safetensors_open(
		&a, SOURCE_DIR "/tests/golden/safetensors_reference.safetensors", &s));
	assert_reference(&a, &s);
	assert_string_equal(safetensors_meta(&s, "format"), "pt");
	safetensors_close(&s);
	arena_free(&a);
}

static const TextPair note[] = { { "note", "a reference" } };

static void reads_back_what_it_writes(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	NamedBuffer b[REFERENCE];
	reference(&a, b);
	const char *out = getenv("PLINTH_REFERENCE_OUT"), *path = out ? out : in_folder(&a, "all.safetensors");
	SafeWritten written;
	assert_null(safetensors_write(path, b, REFERENCE, note, 1, &written));
	Safetensors s;
	assert_null(safetensors_open(&a, path, &s));
	assert_reference(&a, &s);
	assert_int_equal(written.bytes, s.file[0].bytes.n);
	assert_int_equal(s.file[0].header % 8, 0);
	char hash[SAFE_HASH_TEXT];
	safe_hash((Blob){ s.file[0].bytes.p, s.file[0].header }, hash);
	assert_string_equal(hash, written.header_hash);
	for (u32 i = 0; i < s.ntensor; i++) {
		assert_int_equal(s.tensor[i].begin % safe_dtype_size(s.tensor[i].dtype), 0);
		safe_hash(s.tensor[i].data, hash);
		assert_string_equal(hash, s.tensor[i].hash);
	}
	safetensors_close(&s);
	arena_free(&a);
}

/* The published test vector of XXH3-128 for no input. */
static void hash_is_xxh3(void **state)
{
	(void)state;
	char hash[SAFE_HASH_TEXT];
	safe_hash((Blob){ 0 }, hash);
	assert_string_equal(hash, "99aa06d3014798d86001c324468d497f");
}

static void equal_contents_make_equal_files(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	NamedBuffer b[REFERENCE], reversed[REFERENCE];
	reference(&a, b);
	for (u32 i = 0; i < REFERENCE; i++)
		reversed[i] = b[REFERENCE - 1 - i];
	const char *one = in_folder(&a, "one"), *two = in_folder(&a, "two"), *three = in_folder(&a, "three");
	assert_null(safetensors_write(one, b, REFERENCE, note, 1, NULL));
	assert_null(safetensors_write(two, reversed, REFERENCE, note, 1, NULL));
	SafeWriter w; /* and in small pieces */
	assert_null(safetensors_create(&a, three, b, REFERENCE, note, 1, &w));
	for (u32 k = 0; k < REFERENCE; k++) {
		const NamedBuffer *now = &b[w.order[k]];
		for (u64 at = 0, n = safe_buffer_bytes(now); at < n; at += 5)
			assert_null(safetensors_put(&w, (const u8 *)now->data + at, MIN(5, n - at)));
	}
	assert_false(io_exists(three));
	assert_null(safetensors_commit(&w, NULL));
	Str x, y, z;
	assert_null(io_read(&a, one, &x));
	assert_null(io_read(&a, two, &y));
	assert_null(io_read(&a, three, &z));
	assert_true(str_equal(x, y));
	assert_true(str_equal(x, z));
	arena_free(&a);
}

static void writer_refuses_bad_names(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	static const char *const bad[] = { "x", "__metadata__", "\xFF\xFE" };
	const char *path = in_folder(&a, "refused");
	for (u32 i = 0; i < COUNT(bad); i++) {
		f32 v = 0;
		NamedBuffer b[] = { { "x", SAFE_F32, 0, NULL, &v, NULL, 0, false, NULL, NULL }, { bad[i], SAFE_F32, 0, NULL, &v, NULL, 0, false, NULL, NULL } };
		Status s = safetensors_write(path, b, 2, NULL, 0, NULL);
		assert_non_null(s);
		assert_non_null(strstr(s->text, path));
		assert_false(io_exists(path));
		assert_false(io_exists(arena_printf(&a, "%s.tmp.%ld", path, (long)getpid())));
	}
	arena_free(&a);
}

/* ---- hostile files ---- */

typedef struct Hostile {
	const char *header;
	u32 data;           /* bytes after the header */
	const char *expect; /* in the message; NULL when the file is sound */
} Hostile;

#define T(name, dtype, shape, range) \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}"

static const Hostile hostile[] = {
	{ "{}", 0, NULL },
	{ "{}        ", 0, NULL },
	{ "{" T("a", "F32", "[2,2]", "[0,16]") "}", 16, NULL },
	{ "{" T("b", "U8", "[3]", "[4,7]") "," T("a", "F32", "[]", "[0,4]") "}", 7, NULL },
	{ "{" T("a", "F32", "[0]", "[0,0]") "," T("b", "F32", "[0,9]", "[0,0]") "}", 0, NULL },
	{ "{\"a\":{\"shape\":[],\"dtype\":\"U8\",\"data_offsets\":[0,1],\"more\":1}}", 1, NULL },
	{ "", 0, "the header is no JSON" },
	{ "{", 0, "the header is no JSON" },
	{ "[]", 0, "not a JSON object" },
	{ "{} x", 0, "the header is no JSON" },
	{ "{\"a\\u0000b\":1}", 0, "the header is no JSON" },
	{ "{" T("a", "U8", "[]", "[0,1]") "," T("a", "U8", "[]", "[0,1]") "}", 1, "duplicate object key" },
	{ "{" T("a\\n", "U8", "[]", "[0,1]") "}", 1, "tensor \"a\\x0a\" has a control character" },
	{ "{\"a\":1}", 0, "entry for tensor \"a\" is not an object" },
	{ "{\"a\":{}}", 0, "tensor \"a\" has no \"dtype\"" },
	{ "{\"a\":{\"dtype\":1,\"shape\":[],\"data_offsets\":[0,1]}}", 1, "no \"dtype\" that is a string" },
	{ "{" T("a", "F33", "[]", "[0,1]") "}", 1, "tensor \"a\" has dtype \"F33\", which is not known" },
	{ "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no \"shape\" that is a list" },
	{ "{" T("a", "U8", "3", "[0,3]") "}", 3, "no \"shape\" that is a list" },
	{ "{" T("a", "U8", "[-1]", "[0,1]") "}", 1, "dimension 0 of its shape is no size" },
	{ "{" T("a", "U8", "[1,1.5]", "[0,1]") "}", 1, "dimension 1 of its shape is no size" },
	{ "{" T("a", "U8", "[\"1\"]", "[0,1]") "}", 1, "dimension 0 of its shape is no size" },
	{ "{" T("a", "U8", "[99999999999999999999]", "[0,1]") "}", 1, "too big integer" },
	{ "{" T("a", "U8", "[4294967296,4294967296]", "[0,0]") "}", 0, "too large for 64 bits" },
	{ "{" T("a", "F64", "[2305843009213693952]", "[0,0]") "}", 0, "too large for 64 bits" },
	{ "{" T("a", "U8", "[9223372036854775807,3]", "[0,1]") "}", 1, "too large for 64 bits" },
	{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 1, "no \"data_offsets\"" },
	{ "{" T("a", "U8", "[]", "[0]") "}", 1, "no \"data_offsets\"" },
	{ "{" T("a", "U8", "[]", "[0,1,2]") "}", 1, "no \"data_offsets\"" },
	{ "{" T("a", "U8", "[]", "[0,1.0]") "}", 1, "no \"data_offsets\"" },
	{ "{" T("a", "U8", "[]", "{\"0\":0}") "}", 1, "no \"data_offsets\"" },
	{ "{" T("a", "U8", "[]", "[-1,0]") "}", 1, "[-1, 0] are no range" },
	{ "{" T("a", "U8", "[]", "[1,0]") "}", 1, "[1, 0] are no range" },
	{ "{" T("a", "U8", "[2]", "[0,2]") "}", 1, "reach beyond the file's 1 bytes of data" },
	{ "{" T("a", "U8", "[1]", "[9223372036854775806,9223372036854775807]") "}", 1, "reach beyond" },
	{ "{" T("a", "F32", "[2,3]", "[0,20]") "}", 20,
	  "F32[2, 3] takes 24 bytes, but its data_offsets [0, 20] hold 20" },
	{ "{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[1,3]") "}", 3,
	  "\"a\" and \"b\" overlap (at byte 1" },
	{ "{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[0,2]") "}", 2, "overlap" },
	{ "{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[1]", "[3,4]") "}", 4,
	  "bytes 2 to 3 of the data, before tensor \"b\"" },
	{ "{" T("a", "U8", "[1]", "[1,2]") "}", 2, "bytes 0 to 1" },
	{ "{" T("a", "U8", "[1]", "[0,1]") "}", 4, "the last 3 bytes belong to no tensor" },
	{ "{\"__metadata__\":1}", 0, "__metadata__ is not an object" },
	{ "{\"__metadata__\":{\"a\":1}}", 0, "entry \"a\" of __metadata__ is not a string" },
	{ "{\"__metadata__\":{\"xxh3-128:a\":\"00\"}}", 0, "has a hash of tensor \"a\", but no such" },
};

static Blob make_file(Arena *a, const char *header, u64 stated, u32 data)
{
	size_t n = strlen(header);
	u8 *p = NEWN(a, u8, 8 + n + data);
	for (u32 i = 0; i < 8; i++)
		p[i] = (u8)(stated >> (8 * i));
	memcpy(p + 8, header, n);
	return (Blob){ p, 8 + n + data };
}

static void hostile_headers_are_refused(void **state)
{
	(void)state;
	for (u32 i = 0; i < COUNT(hostile); i++) {
		Arena a = ARENA("test");
		Safetensors s;
		const Hostile *h = &hostile[i];
		Blob b = make_file(&a, h->header, strlen(h->header), h->data);
		Status why = safetensors_parse(&a, "dir/file.st", b, &s);
		if (!h->expect) {
			assert_null(why);
		} else {
			if (!why || !strstr(why->text, h->expect))
				fail_msg("%s: expected '%s', got '%s'", h->header, h->expect,
					 why ? why->text : "nothing");
			assert_int_equal(why->code, STATUS_INPUT);
			assert_true(str_starts(str_of(why->text), STR("dir/file.st: ")));
		}
		arena_free(&a);
	}
}

static void hostile_lengths_are_refused(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	static const u64 length[] = { 3, 1000, 1ull << 32, 1ull << 63, UINT64_MAX, UINT64_MAX - 7 };
	Safetensors s;
	for (u32 i = 0; i < COUNT(length); i++) {
		Status why = safetensors_parse(&a, "f", make_file(&a, "{}", length[i], 0), &s);
		assert_non_null(why);
		assert_non_null(strstr(why->text, "too short to hold it"));
	}
	for (u32 n = 0; n < 8; n++) {
		Status why = safetensors_parse(&a, "f", (Blob){ (const u8 *)"\0\0\0\0\0\0\0", n }, &s);
		assert_non_null(why);
		assert_non_null(strstr(why->text, "8 bytes"));
	}
	Status why = safetensors_parse(&a, "f", (Blob){ (const u8 *)"PK\3\4\0\0\0\0\0\0", 10 }, &s);
	assert_non_null(why);
	assert_non_null(strstr(why->text, "torch.save"));
	arena_free(&a);
}

/* Any single changed byte of a header gives a failure or a file whose tensors lie within it. */
static void changed_bytes_do_no_harm(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Str whole;
	assert_null(io_read(&a, SOURCE_DIR "/tests/golden/safetensors_reference.safetensors", &whole));
	u8 *copy = COPYN(&a, u8, whole.s, whole.n);
	ArenaMark mark = arena_mark(&a);
	u32 refused = 0;
	for (size_t at = 0; at < whole.n; at++)
		for (u32 bit = 0; bit < 8; bit += 1) {
			copy[at] ^= (u8)(1 << bit);
			Safetensors s;
			if (safetensors_parse(&a, "f", (Blob){ copy, whole.n }, &s)) {
				refused++;
			} else {
				for (u32 i = 0; i < s.ntensor; i++)
					assert_true(s.tensor[i].begin + s.tensor[i].data.n <= whole.n);
			}
			copy[at] ^= (u8)(1 << bit);
			arena_release(&a, mark);
		}
	assert_true(refused > 1000);
	for (size_t n = 0; n < whole.n; n++) {
		Safetensors s;
		assert_non_null(safetensors_parse(&a, "f", (Blob){ copy, n }, &s));
		arena_release(&a, mark);
	}
	arena_free(&a);
}

/* ---- several files ---- */

static void write_text(const char *path, const char *text)
{
	assert_null(io_write(path, (Blob){ (const u8 *)text, strlen(text) }));
}

#define INDEX "model.safetensors.index.json"

static void index_reads_as_one(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	f32 x = 1, y = 2;
	NamedBuffer b[] = { { "x", SAFE_F32, 0, NULL, &x, NULL, 0, false, NULL, NULL }, { "y", SAFE_F32, 0, NULL, &y, NULL, 0, false, NULL, NULL } };
	const char *first = in_folder(&a, "m-1.safetensors"), *second = in_folder(&a, "m-2.safetensors");
	const char *index = in_folder(&a, INDEX);
	assert_null(safetensors_write(first, &b[0], 1, NULL, 0, NULL));
	assert_null(safetensors_write(second, &b[1], 1, NULL, 0, NULL));
	write_text(index, "{\"metadata\":{\"total_size\":8},\"weight_map\":"
			  "{\"x\":\"m-1.safetensors\",\"y\":\"m-2.safetensors\"}}");
	Safetensors s;
	assert_null(safetensors_open(&a, folder, &s)); /* the folder, by its index */
	assert_int_equal(s.nfile, 2);
	assert_int_equal(s.ntensor, 2);
	assert_memory_equal(safetensors_find(&s, "y")->data.p, &y, 4);
	assert_string_equal(s.file[safetensors_find(&s, "y")->file].path, second);
	safetensors_close(&s);

	static const struct {
		const char *text, *expect;
	} bad[] = {
		{ "{", ": no JSON" },
		{ "{}", "no \"weight_map\"" },
		{ "{\"weight_map\":{\"x\":\"../m-1.safetensors\"}}", "not mapped to a file in its folder" },
		{ "{\"weight_map\":{\"x\":\"/etc/passwd\"}}", "not mapped to a file in its folder" },
		{ "{\"weight_map\":{\"x\":\"..\"}}", "not mapped to a file in its folder" },
		{ "{\"weight_map\":{\"x\":7}}", "not mapped to a file in its folder" },
		{ "{\"weight_map\":{\"z\":\"m-1.safetensors\"}}", "tensor \"z\" is not in m-1.safetensors" },
		{ "{\"weight_map\":{\"y\":\"m-1.safetensors\",\"x\":\"m-2.safetensors\"}}", "is not in" },
		{ "{\"weight_map\":{\"x\":\"m-3.safetensors\"}}", "m-3.safetensors" },
	};
	for (u32 i = 0; i < COUNT(bad); i++) {
		write_text(index, bad[i].text);
		Status why = safetensors_open(&a, index, &s);
		assert_non_null(why);
		if (!strstr(why->text, bad[i].expect))
			fail_msg("%s: %s", bad[i].text, why->text);
	}
	NamedBuffer same = { "x", SAFE_F32, 0, NULL, &x, NULL, 0, false, NULL, NULL };
	assert_null(safetensors_write(second, &same, 1, NULL, 0, NULL));
	write_text(index, "{\"weight_map\":{\"x\":\"m-1.safetensors\",\"y\":\"m-2.safetensors\"}}");
	Status why = safetensors_open(&a, index, &s);
	assert_non_null(why);
	assert_non_null(strstr(why->text, "tensor \"x\" is in both"));
	arena_free(&a);
}

static void world_failures_name_the_file(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Safetensors s;
	Status why = safetensors_open(&a, in_folder(&a, "not-there"), &s);
	assert_int_equal(why->code, STATUS_IO);
	assert_non_null(strstr(why->text, "not-there"));
	why = safetensors_open(&a, "/usr", &s);
	assert_int_equal(why->code, STATUS_INPUT);
	assert_non_null(strstr(why->text, "/usr: has neither model.safetensors nor"));
	f32 x = 0;
	NamedBuffer b = { "x", SAFE_F32, 0, NULL, &x, NULL, 0, false, NULL, NULL };
	why = safetensors_write(in_folder(&a, "no/such/folder"), &b, 1, NULL, 0, NULL);
	assert_int_equal(why->code, STATUS_IO);
	assert_non_null(strstr(why->text, "no/such/folder"));
	arena_free(&a);
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return io_remove_folder(folder) ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_the_reference_library_writes),
		cmocka_unit_test(reads_back_what_it_writes),
		cmocka_unit_test(hash_is_xxh3),
		cmocka_unit_test(equal_contents_make_equal_files),
		cmocka_unit_test(writer_refuses_bad_names),
		cmocka_unit_test(hostile_headers_are_refused),
		cmocka_unit_test(hostile_lengths_are_refused),
		cmocka_unit_test(changed_bytes_do_no_harm),
		cmocka_unit_test(index_reads_as_one),
		cmocka_unit_test(world_failures_name_the_file),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
