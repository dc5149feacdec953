/* Units of runtime/data/dataset: idx images, masked tokens and pairs of texts, through the loader. Files are made here,
 * so that what a batch must hold is known. */
#include "runtime/data/loader.h"
#include "tests/unit/folder.h"

#include <zlib.h>

static PackageTensor tensor(const char *name, PackageDtype dtype, u32 rank, i64 a, i64 b, i64 c, i64 d)
{
	static const u8 size[] = { [PACKAGE_B1] = 1, [PACKAGE_U8] = 1, [PACKAGE_I32] = 4, [PACKAGE_F32] = 4 };
	PackageTensor t = { .name = name, .dtype = (u8)dtype, .rank = (u8)rank, .dim = { a, b, c, d } };
	t.bytes = size[dtype];
	for (u32 i = 0; i < rank; i++)
		t.bytes *= (u64)t.dim[i];
	return t;
}

static u8 **room(const PackageTensor *in, u32 n)
{
	u8 **batch = NEWN(&arena, u8 *, n);
	for (u32 i = 0; i < n; i++)
		batch[i] = arena_push(&arena, 1, in[i].bytes, 16);
	return batch;
}

static Status open_loader(const Dataset *d, LoaderOrder order, const PackageTensor *in, u32 n, Loader **out)
{
	LoaderConfig c = { .order = order, .input = { in, n }, .batch = (u32)in[0].dim[0], .seed = 3 };
	return loader_open(&arena, d, c, out);
}

/* ---- images ---- */

/* An idx file of unsigned bytes, its `cut` last bytes left out. */
static void write_idx(const char *name, const u32 *dim, u32 rank, const u8 *data, size_t n, size_t cut, bool compressed)
{
	u8 *bytes = NEWN(&arena, u8, 4 + 4 * rank + n);
	size_t size = 4 + 4 * (size_t)rank + n - cut;
	bytes[2] = 8;
	bytes[3] = (u8)rank;
	for (u32 i = 0; i < rank; i++)
		for (u32 k = 0; k < 4; k++)
			bytes[4 + 4 * i + k] = (u8)(dim[i] >> (24 - 8 * k));
	memcpy(bytes + 4 + 4 * rank, data, n);
	if (!compressed) {
		good(io_write(path_of(name), (Blob){ bytes, size }));
		return;
	}
	gzFile f = gzopen(path_of(name), "wb");
	assert_non_null(f);
	assert_int_equal(gzwrite(f, bytes, (unsigned)size), size);
	gzclose(f);
}

enum { IMAGES = 10, SIDE = 3, PIXELS = SIDE * SIDE };

/* Image i has the pixels 20 i + p, and the label 9 - i. */
static void write_set(const char *name, bool compressed)
{
	u8 pixel[IMAGES * PIXELS], label[IMAGES];
	for (u32 i = 0; i < IMAGES; i++) {
		label[i] = (u8)(9 - i);
		for (u32 p = 0; p < PIXELS; p++)
			pixel[i * PIXELS + p] = (u8)(20 * i + p);
	}
	const char *gz = compressed ? ".gz" : "";
	write_idx(arena_printf(&arena, "%s-images-idx3-ubyte%s", name, gz), (u32[]){ IMAGES, SIDE, SIDE }, 3, pixel, sizeof pixel, 0,
		  compressed);
	write_idx(arena_printf(&arena, "%s-labels-idx1-ubyte%s", name, gz), (u32[]){ IMAGES }, 1, label, sizeof label, 0, compressed);
}

static void images_come_with_their_labels(void **state)
{
	(void)state;
	for (u32 way = 0; way < 4; way++) {
		bool compressed = way & 1, real = way & 2;
		const char *name = arena_printf(&arena, "set%u", way);
		write_set(name, compressed);
		Dataset d;
		good(dataset_open(&arena, "images", path_of(name), NULL, 0, &d));
		assert_string_equal(d.kind->describe(&d, &arena), "10 images of 1 x 3 x 3 in 10 classes");
		PackageTensor in[] = { tensor("labels", PACKAGE_I32, 1, 4, 0, 0, 0),
				       tensor("images", real ? PACKAGE_F32 : PACKAGE_U8, 4, 4, 1, SIDE, SIDE) };
		u8 **batch = room(in, 2);
		Loader *l;
		u32 rows, seen = 0;
		bool more;
		/* shuffled: each image once, with its own label */
		good(open_loader(&d, LOADER_SHUFFLE, in, 2, &l));
		assert_int_equal(loader_units(l), 1);
		for (u32 k = 0; k < 5; k++) {
			good(loader_next(l, batch, &rows, &more));
			for (u32 r = 0; r < 4; r++) {
				i32 i = 9 - ((i32 *)(void *)batch[0])[r];
				seen += 1u << 2 * i;
				for (u32 p = 0; p < PIXELS; p++) {
					u32 at = r * PIXELS + p;
					f32 have = real ? ((f32 *)(void *)batch[1])[at] : batch[1][at];
					assert_true(have == (real ? (f32)(20 * i + (i32)p) / 255.0f : (f32)(20 * i + (i32)p)));
				}
			}
		}
		assert_int_equal(seen, 0xaaaaa); /* twice each: two epochs */
		loader_close(l);
		/* in order, with rows that do not count at the end */
		good(open_loader(&d, LOADER_SEQUENTIAL, in, 2, &l));
		for (u32 k = 0; k < 3; k++) {
			good(loader_next(l, batch, &rows, &more));
			assert_int_equal(rows, k < 2 ? 4 : 2);
			for (u32 r = 0; r < 4; r++)
				assert_int_equal(((i32 *)(void *)batch[0])[r], r < rows ? 9 - (i32)(4 * k + r) : DATA_IGNORE);
		}
		good(loader_next(l, batch, &rows, &more));
		assert_false(more);
		loader_close(l);
		dataset_close(&d);
	}
}

static void damaged_idx_files_are_refused(void **state)
{
	(void)state;
	Dataset d;
	u8 pixel[IMAGES * PIXELS] = { 0 }, label[IMAGES] = { 0 };
	refused(dataset_open(&arena, "images", path_of("none"), NULL, 0, &d), "there is no");
	for (u32 z = 0; z < 2; z++) {
		const char *gz = z ? ".gz" : "";
		const char *name = arena_printf(&arena, "bad%u", z), *images = arena_printf(&arena, "%s-images-idx3-ubyte%s", name, gz);
		write_idx(arena_printf(&arena, "%s-labels-idx1-ubyte%s", name, gz), (u32[]){ IMAGES }, 1, label, IMAGES, 0, z);
		write_idx(images, (u32[]){ IMAGES, SIDE, SIDE }, 3, pixel, sizeof pixel, 1, z);
		refused(dataset_open(&arena, "images", path_of(name), NULL, 0, &d), "89 bytes follow its header");
		write_idx(images, (u32[]){ 1u << 31, 1u << 31, 1u << 31 }, 3, pixel, sizeof pixel, 0, z);
		refused(dataset_open(&arena, "images", path_of(name), NULL, 0, &d), "does not fit the file's length");
		write_idx(images, (u32[]){ IMAGES, 0, SIDE }, 3, pixel, 0, 0, z);
		refused(dataset_open(&arena, "images", path_of(name), NULL, 0, &d), "dimension 1 is 0");
		write_idx(images, (u32[]){ 5, SIDE, SIDE }, 3, pixel, 5 * PIXELS, 0, z);
		refused(dataset_open(&arena, "images", path_of(name), NULL, 0, &d), "has 10 labels");
		good(io_write(path_of(images), (Blob){ (const u8 *)"hello world", 11 }));
		refused(dataset_open(&arena, "images", path_of(name), NULL, 0, &d), "not an idx file");
		good(io_write(path_of(images), (Blob){ (const u8 *)"\0\0\x0d\3", 4 }));
		refused(dataset_open(&arena, "images", path_of(name), NULL, 0, &d), "of type 0x0d");
	}
	good(io_write(path_of("bad1-images-idx3-ubyte.gz"), (Blob){ (const u8 *)"\x1f\x8b\x08\0damage in it", 16 }));
	assert_non_null(dataset_open(&arena, "images", path_of("bad1"), NULL, 0, &d));
}

/* Every bit of what is compressed is covered by the checksum at its end, which must be there. */
static void damaged_compressed_images_are_refused(void **state)
{
	(void)state;
	Dataset d;
	Str good_bytes;
	u8 pixel[IMAGES * PIXELS];
	u32 taken = 0;
	for (u32 i = 0; i < sizeof pixel; i++)
		pixel[i] = (u8)(i * 37 + i / 7);
	write_set("packed", true);
	const char *images = "packed-images-idx3-ubyte.gz";
	write_idx(images, (u32[]){ IMAGES, SIDE, SIDE }, 3, pixel, sizeof pixel, 0, true);
	good(dataset_open(&arena, "images", path_of("packed"), NULL, 0, &d));
	dataset_close(&d);
	good(io_read(&arena, path_of(images), &good_bytes));
	u8 *bytes = NEWN(&arena, u8, good_bytes.n);
	memcpy(bytes, good_bytes.s, good_bytes.n);
	for (size_t bit = 80; bit < 8 * good_bytes.n; bit++) { /* behind gzip's own header */
		bytes[bit / 8] ^= (u8)(1 << bit % 8);
		good(io_write(path_of(images), (Blob){ bytes, good_bytes.n }));
		bytes[bit / 8] ^= (u8)(1 << bit % 8);
		if (!dataset_open(&arena, "images", path_of("packed"), NULL, 0, &d)) {
			taken++;
			dataset_close(&d);
		}
	}
	/* bits behind the end of the last block, up to a whole byte, mean nothing */
	assert_true(taken < 8);
	for (size_t n = 10; n < good_bytes.n; n++) {
		good(io_write(path_of(images), (Blob){ bytes, n }));
		assert_non_null(dataset_open(&arena, "images", path_of("packed"), NULL, 0, &d));
	}
	u8 more[sizeof pixel + 1] = { 0 };
	write_idx(images, (u32[]){ IMAGES, SIDE, SIDE }, 3, more, sizeof more, 0, true);
	refused(dataset_open(&arena, "images", path_of("packed"), NULL, 0, &d), "91 bytes follow its header, which says 90");
}

static void inputs_that_images_do_not_give_are_refused(void **state)
{
	(void)state;
	write_set("fit", false);
	Dataset d;
	Loader *l;
	good(dataset_open(&arena, "images", path_of("fit"), NULL, 0, &d));
	PackageTensor wide = tensor("images", PACKAGE_F32, 4, 4, 1, SIDE, 5), ids = tensor("tokens", PACKAGE_I32, 2, 4, 7, 0, 0);
	PackageTensor label = tensor("labels", PACKAGE_F32, 1, 4, 0, 0, 0);
	refused(open_loader(&d, LOADER_SHUFFLE, &wide, 1, &l), "must be f32 or u8 [B, 1, 3, 3], as the images are; images(");
	refused(open_loader(&d, LOADER_SHUFFLE, &ids, 1, &l), "'tokens' has no source; images(");
	PackageTensor both[] = { tensor("images", PACKAGE_U8, 4, 4, 1, SIDE, SIDE), label };
	refused(open_loader(&d, LOADER_SHUFFLE, both, 2, &l), "'labels' must be i32[B]");
	dataset_close(&d);
	refused(dataset_open(&arena, "images", path_of("fit"), &(DataOption){ "rate", "1", 1 }, 1, &d), "takes no 'rate'");
	refused(dataset_open(&arena, "movies", path_of("fit"), NULL, 0, &d), "no kind of data 'movies'");
}

/* ---- pairs ---- */

static Tokenizer *letters(const char *text, const char *name)
{
	Trainer *tr;
	Tokenizer *t;
	good(trainer_char(&arena, true, &tr));
	good(trainer_add(tr, str_of(text)));
	good(trainer_finish(tr, &t));
	good(tokenizer_save(t, path_of(name)));
	return t;
}

static void pairs_are_filled_up(void **state)
{
	(void)state;
	Tokenizer *t = letters("abcdef", "words.tokenizer.json"); /* a is 0, ..., the end of a text 6 */
	assert_int_equal(t->end, 6);
	good(io_write(path_of("words.train.tsv"), (Blob){ (const u8 *)"ab\tfed\n\nabc\tf\r\n\td", 17 }));
	Dataset d;
	good(dataset_open(&arena, "pairs", path_of("words.train.tsv"), NULL, 0, &d));
	PackageTensor in[] = { tensor("source", PACKAGE_I32, 2, 4, 5, 0, 0), tensor("keep", PACKAGE_B1, 2, 4, 5, 0, 0),
			       tensor("previous", PACKAGE_I32, 2, 4, 4, 0, 0), tensor("targets", PACKAGE_I32, 2, 4, 4, 0, 0) };
	u8 **batch = room(in, 4);
	Loader *l;
	u32 rows;
	bool more;
	good(open_loader(&d, LOADER_SEQUENTIAL, in, 4, &l));
	good(loader_next(l, batch, &rows, &more));
	assert_int_equal(rows, 3);
	static const i32 source[] = { 0, 1, 6, 0, 0, 0, 1, 2, 6, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
	static const bool keep[] = { 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
	enum { X = DATA_IGNORE };
	static const i32 targets[] = { 5, 4, 3, 6, 5, 6, X, X, 3, 6, X, X, X, X, X, X };
	static const i32 previous[] = { 6, 5, 4, 3, 6, 5, 0, 0, 6, 3, 0, 0, 0, 0, 0, 0 };
	assert_memory_equal(batch[0], source, sizeof source);
	assert_memory_equal(batch[1], keep, sizeof keep);
	assert_memory_equal(batch[2], previous, sizeof previous);
	assert_memory_equal(batch[3], targets, sizeof targets);
	loader_close(l);
	/* too little room says how much is needed */
	in[0] = tensor("source", PACKAGE_I32, 2, 4, 3, 0, 0);
	refused(open_loader(&d, LOADER_SHUFFLE, in, 1, &l), "S = 4, T = 4");
	dataset_close(&d);
	good(io_write(path_of("words.train.tsv"), (Blob){ (const u8 *)"ab\tc\nab\n", 8 }));
	refused(dataset_open(&arena, "pairs", path_of("words.train.tsv"), NULL, 0, &d), "words.train.tsv:2: a line is");
	good(io_write(path_of("words.train.tsv"), (Blob){ (const u8 *)"ab\tc\nxy\ta\n", 10 }));
	refused(dataset_open(&arena, "pairs", path_of("words.train.tsv"), NULL, 0, &d), "words.train.tsv:2: the character 'x'");
	good(io_write(path_of("words.train.tsv"), (Blob){ (const u8 *)"\n", 1 }));
	refused(dataset_open(&arena, "pairs", path_of("words.train.tsv"), NULL, 0, &d), "there are no pairs");
	good(io_write(path_of("other.tsv"), (Blob){ (const u8 *)"ab\tc\n", 5 }));
	refused(dataset_open(&arena, "pairs", path_of("other.tsv"), NULL, 0, &d), "other.tokenizer.json");
	good(io_write(path_of("begin.train.tsv"), (Blob){ (const u8 *)"ab\tc\n", 5 }));
	DataOption option[] = { { "tokenizer", path_of("words.tokenizer.json"), 0 }, { "begin", "<s>", 0 } };
	refused(dataset_open(&arena, "pairs", path_of("begin.train.tsv"), option, 2, &d), "no special token '<s>'");
}

/* ---- masked tokens ---- */

static void masking_follows_from_the_position(void **state)
{
	(void)state;
	enum { N = 30000, T = 50, B = 20 };
	Tokenizer *t = letters("abcdefgh", "masked.json");
	ShardWriter *w;
	u32 *id = NEWN(&arena, u32, N);
	for (u32 i = 0; i < N; i++)
		id[i] = i % 100 == 99 ? t->end : i * 7 % 8;
	good(shard_writer_open(&arena, path_of("masked"), t, "masked.json", 0, &w));
	good(shard_writer_add(w, id, N));
	good(shard_writer_finish(w));
	Dataset d;
	DataOption rate = { "rate", "0.2", 0.2 };
	good(dataset_open(&arena, "masked", path_of("masked"), &rate, 1, &d));
	assert_int_equal(d.vocabulary, 10); /* eight letters, the end of a text, the mask */
	PackageTensor in[] = { tensor("tokens", PACKAGE_I32, 2, B, T, 0, 0), tensor("targets", PACKAGE_I32, 2, B, T, 0, 0),
			       tensor("types", PACKAGE_I32, 2, B, T, 0, 0), tensor("keep", PACKAGE_B1, 2, B, T, 0, 0) };
	u8 **batch = room(in, 4), **again = room(in, 4);
	const i32 *tokens = (i32 *)(void *)batch[0], *targets = (i32 *)(void *)batch[1];
	Loader *l;
	u32 rows, chosen = 0, masked = 0, other = 0;
	bool more;
	/* in order: what is not a target is as it was, and what is one comes from there */
	good(open_loader(&d, LOADER_SEQUENTIAL, in, 4, &l));
	for (u32 k = 0; k < N / (B * T); k++) {
		good(loader_next(l, batch, &rows, &more));
		assert_int_equal(rows, B);
		for (u32 i = 0; i < B * T; i++) {
			u32 was = id[k * B * T + i];
			assert_true(batch[3][i] == 1 && ((i32 *)(void *)batch[2])[i] == 0);
			if (targets[i] == DATA_IGNORE) {
				assert_int_equal(tokens[i], was);
				continue;
			}
			assert_int_equal(targets[i], was);
			assert_int_not_equal(was, t->end); /* a special token is never chosen */
			chosen++;
			masked += tokens[i] == 9;
			other += tokens[i] != 9 && tokens[i] != (i32)was;
		}
	}
	/* 29,700 draws of 0.2: five deviations are 345; of those masked 0.8: 154; replaced by another 0.1 * 8/9: 110 */
	assert_true(abs((int)chosen - 5940) < 345);
	assert_true(abs((int)masked - (int)(0.8 * chosen)) < 160);
	assert_true(abs((int)other - (int)(0.1 * 8 / 9 * chosen)) < 115);
	loader_close(l);
	/* another walk from a kept position gives the same draws, another epoch others */
	good(open_loader(&d, LOADER_SHUFFLE, in, 4, &l));
	for (u32 k = 0; k < 7; k++)
		good(loader_next(l, batch, &rows, &more));
	LoaderPosition at = loader_position(l);
	good(loader_next(l, batch, &rows, &more));
	good(loader_next(l, again, &rows, &more));
	assert_memory_not_equal(batch[1], again[1], in[1].bytes);
	good(loader_seek(l, at));
	good(loader_next(l, again, &rows, &more));
	for (u32 i = 0; i < 4; i++)
		assert_memory_equal(batch[i], again[i], in[i].bytes);
	loader_close(l);
	dataset_close(&d);
	rate.number = 0;
	refused(dataset_open(&arena, "masked", path_of("masked"), &rate, 1, &d), "rate is the share");
}

int main(void)
{
	arena = ARENA("test");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_come_with_their_labels),
		cmocka_unit_test(damaged_idx_files_are_refused),
		cmocka_unit_test(damaged_compressed_images_are_refused),
		cmocka_unit_test(inputs_that_images_do_not_give_are_refused),
		cmocka_unit_test(pairs_are_filled_up),
		cmocka_unit_test(masking_follows_from_the_position),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
