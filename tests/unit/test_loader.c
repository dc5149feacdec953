/* Units of runtime/data/loader. The shards hold their own positions as ids (id i at place i), so
 * that what a row holds says where it was read. */
#include "runtime/data/loader.h"
#include "tests/unit/folder.h"

/* A set of `n` ids 0, 1, 2, ..., in shards of `per_shard`. */
static Shards counting(u32 n, u32 per_shard)
{
	static u32 sets;
	Buf text = { .arena = &arena };
	Trainer *tr;
	Tokenizer *t;
	ShardWriter *w;
	Shards s;
	const char *prefix = arena_printf(&arena, "%s/set%u", folder, sets++);
	/* a character tokenizer is the simplest one with as many ids as one likes */
	for (u32 i = 0, c = 0x10000; i < n; i++, c++)
		buf_printf(&text, "%c%c%c%c", (char)(0xf0 | c >> 18), (char)(0x80 | (c >> 12 & 63)),
			   (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63)));
	good(trainer_char(&arena, false, &tr));
	good(trainer_add(tr, buf_str(&text)));
	good(trainer_finish(tr, &t));
	u32 *id = NEWN(&arena, u32, n);
	for (u32 i = 0; i < n; i++)
		id[i] = i;
	good(shard_writer_open(&arena, prefix, t, "none.json", per_shard, &w));
	good(shard_writer_add(w, id, n));
	good(shard_writer_finish(w));
	good(shards_open(&arena, prefix, &s));
	return s;
}

/* A loader of token windows: what is asked of it here. */
typedef struct Config {
	LoaderOrder order;
	u32 batch, window; /* B and T */
	u64 seed;
	u32 rank, ranks, ahead;
} Config;

static Status try_open(const Shards *s, Config c, Loader **out)
{
	PackageTensor *in = NEWN(&arena, PackageTensor, 2);
	for (u32 i = 0; i < 2; i++) {
		i64 rows = c.batch / MAX(c.ranks, 1u);
		in[i] = (PackageTensor){ .name = i ? "targets" : "tokens", .dtype = PACKAGE_I32, .rank = 2, .dim = { rows, c.window },
					 .bytes = (u64)rows * c.window * sizeof(i32) };
	}
	Dataset *d = NEW(&arena, Dataset);
	*d = dataset_of_shards(s);
	LoaderConfig config = { .order = c.order, .input = { in, 2 }, .batch = c.batch, .seed = c.seed, .rank = c.rank,
				.ranks = c.ranks, .ahead = c.ahead };
	return loader_open(&arena, d, config, out);
}

static Loader *opened(const Shards *s, Config c)
{
	Loader *l;
	good(try_open(s, c, &l));
	return l;
}

typedef struct Batch {
	i32 *tokens, *targets;
	u32 rows;
	bool more;
} Batch;

static Batch next(Loader *l, const Config *c)
{
	size_t n = (size_t)c->batch / MAX(c->ranks, 1u) * c->window;
	Batch b = { NEWN(&arena, i32, n), NEWN(&arena, i32, n), 0, false };
	good(loader_next(l, (u8 *[]){ (u8 *)b.tokens, (u8 *)b.targets }, &b.rows, &b.more));
	return b;
}

static void same_batch(Batch a, Batch b, const Config *c)
{
	size_t size = (size_t)c->batch / MAX(c->ranks, 1u) * c->window * sizeof(i32);
	assert_int_equal(a.more, b.more);
	assert_int_equal(a.rows, b.rows);
	if (!a.more)
		return;
	assert_memory_equal(a.tokens, b.tokens, size);
	assert_memory_equal(a.targets, b.targets, size);
}

/* Several epochs of windows of T: each has as many as fit, every one starts T apart from the
 * others, no one comes twice, and the order differs between epochs. */
static void check_epochs(u32 count, u32 per_shard, u32 T, u32 B)
{
	Shards s = counting(count, per_shard);
	Config c = { .order = LOADER_SHUFFLE, .batch = B, .window = T, .seed = 7 };
	Loader *l = opened(&s, c);
	Batch b = { 0 };
	u32 row = B, moved = 0, offsets = 0;
	u64 first_offset = 0;
	for (u64 epoch = 0; epoch < 5; epoch++) {
		u64 n = loader_rows(l, epoch), offset = 0;
		assert_true(n * T <= count - 1 && n > 0);
		assert_true(epoch || n == (count - 1) / T);
		u8 *seen = NEWN(&arena, u8, count);
		i32 last = -1;
		for (u64 i = 0; i < n; i++, row++) {
			if (row == B) {
				b = next(l, &c);
				assert_true(b.more);
				assert_int_equal(b.rows, B);
				row = 0;
			}
			const i32 *x = b.tokens + row * T, *y = b.targets + row * T;
			for (u32 t = 0; t < T; t++) {
				assert_int_equal(x[t], x[0] + (i32)t);
				assert_int_equal(y[t], x[t] + 1);
			}
			assert_true(y[T - 1] < (i32)count);
			if (i == 0)
				offset = (u64)x[0] % T;
			assert_int_equal((u64)x[0] % T, offset);
			assert_int_equal(seen[x[0]], 0);
			seen[x[0]] = 1;
			moved += x[0] != last + (i32)T;
			last = x[0];
		}
		if (!epoch)
			first_offset = offset;
		offsets += offset != first_offset;
	}
	assert_int_equal(first_offset, 0);
	if (count > 50 * T) {
		assert_true(moved > 4 * (count / T) * 9 / 10);
		assert_true(T < 4 || offsets);
	}
	loader_close(l);
	shards_close(&s);
}

static void no_window_comes_twice_in_an_epoch(void **state)
{
	(void)state;
	check_epochs(1000, 300, 4, 3);
	check_epochs(60001, 7001, 1, 16); /* several pools of windows, and a last block of 32 + 1 */
	check_epochs(40000, 40000, 2, 8);
	check_epochs(64 * 8 + 1, 100, 8, 5); /* whole blocks only */
	check_epochs(9, 9, 8, 2);            /* one window */
	check_epochs(20, 20, 9, 16);         /* an epoch is less than a batch */
}

static void orders_differ_by_seed_and_epoch(void **state)
{
	(void)state;
	Shards s = counting(2001, 3000);
	u32 B = 250, T = 4;
	Batch b[3];
	for (u32 i = 0; i < 3; i++) {
		Config c = { .batch = B, .window = T, .seed = i == 2 ? 6 : 5 };
		Loader *l = opened(&s, c);
		b[i] = next(l, &c);
		b[i] = i == 1 ? next(l, &c) : b[i];
		b[i] = i == 1 ? next(l, &c) : b[i];
		loader_close(l);
	}
	u32 same[2] = { 0 };
	for (u32 row = 0; row < B; row++) {
		same[0] += b[0].tokens[row * T] / 4 == b[1].tokens[row * T] / 4;
		same[1] += b[0].tokens[row * T] == b[2].tokens[row * T];
	}
	assert_true(same[0] < 15 && same[1] < 15);
	shards_close(&s);
}

static void blocks_are_read_a_pool_at_a_time(void **state)
{
	(void)state;
	/* 60000 windows, pools of 16384: the windows of the first pool come from 256 blocks of 64
	 */
	Shards s = counting(60001, 70000);
	Config c = { .batch = 16384, .window = 1, .seed = 3 };
	Loader *l = opened(&s, c);
	Batch b = next(l, &c);
	u32 blocks = 0, *in_block = NEWN(&arena, u32, 60000 / 64 + 1);
	for (u32 i = 0; i < c.batch; i++)
		blocks += !in_block[b.tokens[i] / 64]++;
	assert_int_equal(blocks, 256);
	/* and they are mixed: neighbours seldom share a block */
	u32 near = 0;
	for (u32 i = 1; i < c.batch; i++)
		near += b.tokens[i] / 64 == b.tokens[i - 1] / 64;
	assert_true(near < c.batch / 100);
	loader_close(l);
	shards_close(&s);
}

static void sequential_gives_every_target_once(void **state)
{
	(void)state;
	static const struct {
		u32 count, T, B;
	} c[] = {
		{ 100, 7, 4 }, { 99, 7, 4 }, { 57, 8, 7 }, { 5, 8, 3 }, { 2, 1, 1 }, { 65, 8, 8 }
	};
	for (size_t k = 0; k < COUNT(c); k++)
		for (u32 ahead = 0; ahead < 3; ahead += 2) {
			Shards s = counting(c[k].count, 30);
			Config config = { .order = LOADER_SEQUENTIAL,
						.batch = c[k].B,
						.window = c[k].T,
						.ahead = ahead };
			Loader *l = opened(&s, config);
			i32 expect = 1;
			u32 rows = 0;
			for (;;) {
				Batch b = next(l, &config);
				if (!b.more)
					break;
				assert_true(b.rows > 0);
				rows += b.rows;
				for (u32 i = 0; i < c[k].B * c[k].T; i++) {
					if (b.targets[i] == DATA_IGNORE)
						continue;
					assert_int_equal(b.targets[i], expect);
					assert_int_equal(b.tokens[i], expect - 1);
					expect++;
				}
			}
			assert_int_equal(expect, c[k].count);
			assert_int_equal(rows, loader_rows(l, 0));
			assert_false(next(l, &config).more);
			/* once more from the front */
			LoaderPosition p = loader_position(l);
			p.index = 0;
			good(loader_seek(l, p));
			assert_true(next(l, &config).more);
			loader_close(l);
			shards_close(&s);
		}
}

static const LoaderOrder orders[] = { LOADER_SHUFFLE, LOADER_SEQUENTIAL };

static void a_restored_position_goes_on_the_same(void **state)
{
	(void)state;
	enum { STEPS = 40 };
	Shards s = counting(431, 100);
	for (size_t k = 0; k < COUNT(orders); k++)
		for (u32 ahead = 0; ahead < 4; ahead += 3) {
			Config c = { .order = orders[k],
					   .batch = 6,
					   .window = 5,
					   .seed = 11,
					   .ahead = ahead };
			Loader *l = opened(&s, c);
			LoaderPosition at[STEPS];
			Batch want[STEPS];
			for (u32 i = 0; i < STEPS; i++) {
				at[i] = loader_position(l);
				want[i] = next(l, &c);
			}
			for (u32 i = 0; i < STEPS; i++) {
				Loader *again = opened(&s, c);
				good(loader_seek(again, at[i]));
				LoaderPosition now = loader_position(again);
				assert_memory_equal(&now, &at[i], sizeof now);
				for (u32 j = i; j < MIN(i + 4, STEPS); j++)
					same_batch(next(again, &c), want[j], &c);
				loader_close(again);
				/* and back in the same loader, with batches read ahead */
				good(loader_seek(l, at[i]));
				same_batch(next(l, &c), want[i], &c);
			}
			loader_close(l);
		}
	shards_close(&s);
}

static void another_runs_position_is_refused(void **state)
{
	(void)state;
	Shards s = counting(431, 100), other = counting(432, 100);
	Config c = { .batch = 6, .window = 5, .seed = 11 };
	Loader *l = opened(&s, c), *m = opened(&other, c);
	next(l, &c);
	LoaderPosition p = loader_position(l);
	assert_non_null(loader_seek(m, p));
	loader_close(m);
	c.seed = 12;
	m = opened(&s, c);
	assert_non_null(loader_seek(m, p));
	loader_close(m);
	c.seed = 11;
	c.batch = 4; /* may differ */
	m = opened(&s, c);
	good(loader_seek(m, p));
	loader_close(m);
	p.index = 1000;
	assert_non_null(loader_seek(l, p));
	loader_close(l);
	shards_close(&s);
	shards_close(&other);
}

static void positions_are_kept_as_text(void **state)
{
	(void)state;
	LoaderPosition p = { 3, 1234567890123, 0xfedcba9876543210, 7 }, q;
	good(loader_position_read(loader_position_text(&arena, p), &q));
	assert_memory_equal(&p, &q, sizeof p);
	static const char *const wrong[] = {
		"",
		"{}",
		"[]",
		"{\"epoch\": 1, \"index\": 2}",
		"{\"epoch\": 1, \"index\": -2, \"data\": \"0000000000000000\", \"order\": "
		"\"0000000000000000\"}",
		"{\"epoch\": 1, \"index\": 2, \"data\": \"000000000000000x\", \"order\": "
		"\"0000000000000000\"}",
		"{\"epoch\": 1, \"index\": 2, \"data\": \"00\", \"order\": \"0000000000000000\"}",
	};
	for (size_t i = 0; i < COUNT(wrong); i++)
		assert_non_null(loader_position_read(wrong[i], &q));
}

static void ranks_share_the_batch(void **state)
{
	(void)state;
	Shards s = counting(431, 100);
	for (size_t k = 0; k < COUNT(orders); k++) {
		Config c = { .order = orders[k], .batch = 12, .window = 5, .seed = 2 };
		Loader *whole = opened(&s, c), *part[4];
		Config p = c;
		p.ranks = 4;
		for (p.rank = 0; p.rank < 4; p.rank++)
			part[p.rank] = opened(&s, p);
		for (u32 i = 0; i < 30; i++) {
			Batch all = next(whole, &c);
			u32 rows = 0;
			for (u32 r = 0; r < 4; r++) {
				Batch mine = next(part[r], &p);
				assert_int_equal(mine.more, all.more);
				rows += mine.rows;
				if (!all.more)
					continue;
				assert_memory_equal(mine.tokens, all.tokens + r * 15,
						    15 * sizeof(i32));
				assert_memory_equal(mine.targets, all.targets + r * 15,
						    15 * sizeof(i32));
				LoaderPosition x = loader_position(whole),
					       y = loader_position(part[r]);
				assert_memory_equal(&x, &y, sizeof x);
			}
			assert_int_equal(rows, all.rows);
		}
		loader_close(whole);
		for (u32 r = 0; r < 4; r++)
			loader_close(part[r]);
	}
	Config c = { .batch = 10, .window = 5, .ranks = 4 };
	Loader *l;
	assert_non_null(try_open(&s, c, &l));
	shards_close(&s);
}

static void reading_ahead_changes_nothing(void **state)
{
	(void)state;
	Shards s = counting(2000, 300);
	for (size_t k = 0; k < COUNT(orders); k++) {
		Config c = { .order = orders[k], .batch = 8, .window = 16, .seed = 4 };
		for (u32 ahead = 1; ahead <= 8; ahead = ahead * 2 + 1) {
			Config a = c;
			a.ahead = ahead;
			Loader *plain = opened(&s, c), *with = opened(&s, a);
			for (u32 i = 0; i < 60; i++) {
				if (i % 16 == 3)
					usleep(200); /* lets the ring fill up */
				same_batch(next(plain, &c), next(with, &a), &c);
				LoaderPosition x = loader_position(plain),
					       y = loader_position(with);
				assert_memory_equal(&x, &y, sizeof x);
			}
			loader_close(plain);
			loader_close(with);
		}
		/* closed with a full ring, at once, and while it waits */
		for (u32 i = 0; i < 50; i++) {
			Config a = c;
			a.ahead = 1 + i % 3;
			Loader *l = opened(&s, a);
			if (i % 2)
				next(l, &a);
			loader_close(l);
		}
	}
	shards_close(&s);
}

static void damage_comes_where_it_is_read(void **state)
{
	(void)state;
	/* the second shard's ids are damaged: batches before are good, then it is said, and again
	 */
	Shards s = counting(3000, 1000);
	const char *path = arena_printf(&arena, "%s.copy", s.shard[1].path);
	u8 *bytes = arena_copy(&arena, s.shard[1].map.bytes.p, 1, s.shard[1].map.bytes.n, 8);
	bytes[SHARD_HEADER + 100] ^= 4;
	Shard damaged;
	good(shard_parse(&arena, path, (Blob){ bytes, s.shard[1].map.bytes.n }, &damaged));
	damaged.map = s.shard[1].map;
	damaged.first = s.shard[1].first;
	s.shard[1] = damaged;
	for (u32 ahead = 0; ahead < 5; ahead += 4) {
		Config c = {
			.order = LOADER_SEQUENTIAL, .batch = 1, .window = 99, .ahead = ahead
		};
		Loader *l = opened(&s, c);
		for (u32 i = 0; i < 10; i++)
			assert_true(next(l, &c).more);
		i32 tokens[99], targets[99];
		u32 rows;
		bool more;
		for (u32 i = 0; i < 3; i++) {
			Status why = loader_next(l, (u8 *[]){ (u8 *)tokens, (u8 *)targets }, &rows, &more);
			assert_non_null(why);
			assert_int_equal(why->code, STATUS_INPUT);
			assert_non_null(strstr(why->text, path));
			assert_non_null(strstr(why->text, "byte 4096"));
		}
		/* the position is still the one before, and what is before can be read again */
		assert_int_equal(loader_position(l).index, 10);
		LoaderPosition p = loader_position(l);
		p.index = 9;
		good(loader_seek(l, p));
		assert_true(next(l, &c).more);
		loader_close(l);
	}
	shards_close(&s);
}

static void too_little_data_is_refused(void **state)
{
	(void)state;
	Shards s = counting(10, 100);
	Loader *l;
	Status why = try_open(&s, (Config){ .batch = 1, .window = 10 }, &l);
	assert_non_null(why);
	assert_int_equal(why->code, STATUS_INPUT);
	assert_non_null(strstr(why->text, "10 tokens (1.00 characters each) are too few for one row"));
	loader_close(opened(&s, (Config){ .batch = 1, .window = 9 }));
	shards_close(&s);
}

int main(void)
{
	arena = ARENA("test");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_window_comes_twice_in_an_epoch),
		cmocka_unit_test(orders_differ_by_seed_and_epoch),
		cmocka_unit_test(blocks_are_read_a_pool_at_a_time),
		cmocka_unit_test(sequential_gives_every_target_once),
		cmocka_unit_test(a_restored_position_goes_on_the_same),
		cmocka_unit_test(another_runs_position_is_refused),
		cmocka_unit_test(positions_are_kept_as_text),
		cmocka_unit_test(ranks_share_the_batch),
		cmocka_unit_test(reading_ahead_changes_nothing),
		cmocka_unit_test(damage_comes_where_it_is_read),
		cmocka_unit_test(too_little_data_is_refused),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
