/* Collectives in memory that ranks share (runtime/comm/share.h): ranks are threads here, each with an arena of its own that all
 * reach. Results are compared with what a collective's definition says, coordinate by coordinate; every rank begins and waits
 * at its own pace, with one thread or two; many are under way; a rank that never comes is told of. */
#include "runtime/comm/share.h"
#include "runtime/comm/comm.h"
#include "support/half.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

enum { MOST = 4, TENSORS = 3, ARENA_BYTES = 16 << 20 };

static u64 draw(u64 *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

/* ---- ranks ---- */

typedef struct World {
	u32 n, threads, rounds, left; /* how many steps may be under way before they are waited for */
	PackageStep *step;
	u32 nstep;
	u8 *arena[MOST], *meeting;
	bool comes[MOST];
	atomic_int failed, begun;
} World;

typedef struct Rank {
	World *w;
	u32 me;
	u64 seed;
	char text[1000];
} Rank;

static Status gone(void *cx, const PackageStep *step, f64 seconds)
{
	const World *w = cx;
	return seconds > 0.2 && !w->comes[1] ? FAIL(STATUS_IO, "nobody else came to %s", step->name) : OK;
}

static void *run_rank(void *argument)
{
	Rank *r = argument;
	World *w = r->w;
	if (!w->comes[r->me])
		return NULL;
	Threads *pool;
	Share *s;
	ShareAxis axis = { w->n, r->me, w->arena, w->meeting };
	bool ok = !threads_create(&(ThreadsOptions){ .count = w->threads }, &pool);
	ok = ok && !share_open(&(ShareOptions){ &axis, 1, pool, r->me % 2, gone, w }, &s);
	u32 under_way = 0;
	for (u32 i = 0; i < w->nstep * w->rounds && ok; i++) {
		if (draw(&r->seed) % 7 == 0)
			nanosleep(&(struct timespec){ 0, (long)(draw(&r->seed) % 200000) }, NULL);
		share_begin(s, &w->step[i % w->nstep]);
		under_way++;
		for (u32 left = i + 1 == w->nstep * w->rounds ? 0 : w->left; under_way > left && ok; under_way--) {
			Status failure = share_end(s);
			ok = !failure;
			if (failure)
				snprintf(r->text, sizeof r->text, "%s", failure->text);
		}
	}
	if (!ok)
		atomic_fetch_add(&w->failed, 1);
	share_close(s);
	threads_destroy(pool);
	return NULL;
}

static void run_world(World *w, Rank *rank)
{
	pthread_t thread[MOST];
	w->meeting = aligned_alloc(64, share_meeting_bytes(w->n));
	memset(w->meeting, 0, share_meeting_bytes(w->n));
	for (u32 k = 0; k < w->n; k++) {
		rank[k] = (Rank){ .w = w, .me = k, .seed = k + 1 };
		assert_int_equal(pthread_create(&thread[k], NULL, run_rank, &rank[k]), 0);
	}
	for (u32 k = 0; k < w->n; k++)
		pthread_join(thread[k], NULL);
	free(w->meeting);
}

/* ---- what a collective is ---- */

static const u32 size_of[] = { [PACKAGE_F32] = 4, [PACKAGE_BF16] = 2, [PACKAGE_I64] = 8, [PACKAGE_U8] = 1 };

static u64 elements(const PackageCollectiveTensor *t)
{
	u64 n = 1;
	for (u32 d = 0; d < t->rank; d++)
		n *= (u64)t->dim[d];
	return n;
}

/* Number of the element at `at` among those of extents `dim`. */
static u64 number(const i64 *at, const i64 *dim, u32 rank)
{
	u64 n = 0;
	for (u32 d = 0; d < rank; d++)
		n = n * (u64)dim[d] + (u64)at[d];
	return n;
}

static void coordinates(u64 n, const i64 *dim, u32 rank, i64 *at)
{
	for (u32 d = rank; d-- > 0; n /= (u64)dim[d])
		at[d] = (i64)(n % (u64)dim[d]);
}

static void add(u8 dtype, u8 *to, const u8 *from)
{
	if (dtype == PACKAGE_F32)
		*(f32 *)to += *(const f32 *)from;
	else if (dtype == PACKAGE_BF16)
		*(u16 *)to = bf16_from_f32(f32_from_bf16(*(u16 *)to) + f32_from_bf16(*(const u16 *)from));
	else if (dtype == PACKAGE_I64)
		*(i64 *)to += *(const i64 *)from;
	else
		*to = (u8)(*to + *from);
}

/* The part that `c` of n has of a dimension [outer, n, rest] at that place of it, or -1. */
static i64 within(i64 at, i64 outer, i64 whole, i64 n, i64 c)
{
	i64 rest = whole / outer / n;
	return at / rest % n == c ? at / (rest * n) * rest + at % rest : -1;
}

/* Member `me`'s result of tensor t, of what each has: every element by where it is from. */
static void expected(const PackageCollective *w, const PackageCollectiveTensor *t, u32 n, u32 me, u8 *const *in, u8 *out)
{
	u32 size = size_of[t->dtype];
	for (u32 j = 0; j < n; j++)
		for (u64 e = 0; e < elements(t); e++) {
			const u8 *from = in[j] + e * size;
			i64 at[10], dim[10];
			coordinates(e, t->dim, t->rank, at);
			memcpy(dim, t->dim, sizeof dim);
			bool mine = true, sum = w->kind == PACKAGE_ALL_REDUCE || w->kind == PACKAGE_REDUCE_SCATTER;
			if (w->kind == PACKAGE_REDUCE_SCATTER || w->kind == PACKAGE_ALL_TO_ALL) {
				u32 d = w->kind == PACKAGE_ALL_TO_ALL ? t->to : t->axis;
				at[d] = within(at[d], d == t->to && w->kind == PACKAGE_ALL_TO_ALL ? t->to_outer : t->outer, dim[d], n, me);
				mine = at[d] >= 0;
				dim[d] /= n;
			}
			if (w->kind == PACKAGE_ALL_GATHER || w->kind == PACKAGE_ALL_TO_ALL) {
				i64 rest = dim[t->axis] / t->outer;
				at[t->axis] = (at[t->axis] / rest * n + j) * rest + at[t->axis] % rest;
				dim[t->axis] *= n;
			}
			if (w->kind == PACKAGE_PERMUTE)
				mine = (i64)me == (((i64)j + w->shift) % n + n) % n;
			if (!mine)
				continue;
			u8 *to = out + number(at, dim, t->rank) * size;
			if (sum && j)
				add(t->dtype, to, from);
			else
				memcpy(to, from, size);
		}
}

static u64 result_bytes(const PackageCollective *w, const PackageCollectiveTensor *t, u32 n)
{
	u64 bytes = elements(t) * size_of[t->dtype];
	return w->kind == PACKAGE_ALL_GATHER ? bytes * n : w->kind == PACKAGE_REDUCE_SCATTER ? bytes / n : bytes;
}

static void fill(u8 dtype, u8 *p, u64 n, u64 *seed)
{
	for (u64 i = 0; i < n; i++) {
		f32 x = (f32)(draw(seed) % 20001) / 1e4f - 1;
		if (dtype == PACKAGE_F32)
			((f32 *)p)[i] = x;
		else if (dtype == PACKAGE_BF16)
			((u16 *)p)[i] = bf16_from_f32(x);
		else if (dtype == PACKAGE_I64)
			((i64 *)p)[i] = (i64)draw(seed) - 1000;
		else
			p[i] = (u8)draw(seed);
	}
}

/* One collective of some tensors of random extents, with values, and what each member should have. */
static void one(PackageCollectiveKind kind, u32 n, u32 threads, bool large, bool in_place, u64 seed)
{
	static const u8 dtype[] = { PACKAGE_F32, PACKAGE_BF16, PACKAGE_I64, PACKAGE_U8 };
	PackageCollectiveTensor t[TENSORS] = { 0 };
	PackageCollective c = { .kind = kind, .n = TENSORS, .tensor = t, .shift = (i64)(draw(&seed) % 5) - 2 };
	u64 slot[2 * TENSORS], at = 64;
	for (u32 i = 0; i < TENSORS; i++) {
		t[i] = (PackageCollectiveTensor){ .dtype = dtype[draw(&seed) % COUNT(dtype)], .rank = 3, .axis = (u8)(draw(&seed) % 3) };
		t[i].to = (u8)((t[i].axis + 1 + draw(&seed) % 2) % 3);
		t[i].outer = 1 + (i64)(draw(&seed) % 2);
		t[i].to_outer = 1 + (i64)(draw(&seed) % 2);
		for (u32 d = 0; d < 3; d++) {
			t[i].dim[d] = 1 + (i64)(draw(&seed) % (large ? 12 : 4));
			t[i].dim[d] *= d == t[i].axis ? t[i].outer * n : d == t[i].to ? t[i].to_outer * n : 1;
		}
		slot[i] = at;
		at += ALIGN_UP(elements(&t[i]) * size_of[t[i].dtype], 64);
		slot[TENSORS + i] = in_place ? slot[i] : at;
		at += in_place ? 0 : ALIGN_UP(result_bytes(&c, &t[i], n), 64);
	}
	assert_true(at <= ARENA_BYTES);
	PackageStep step = { .collective = &c, .slot = slot, .nslot = 2 * TENSORS, .name = "it" };
	World w = { .n = n, .threads = threads, .rounds = 1, .step = &step, .nstep = 1, .comes = { true, true, true, true } };
	u8 *result[MOST][TENSORS], *in[MOST];
	for (u32 k = 0; k < n; k++) {
		w.arena[k] = aligned_alloc(64, ARENA_BYTES);
		for (u32 i = 0; i < TENSORS; i++)
			fill(t[i].dtype, w.arena[k] + slot[i], elements(&t[i]), &seed);
	}
	for (u32 i = 0; i < TENSORS; i++)
		for (u32 k = 0; k < n; k++) {
			for (u32 j = 0; j < n; j++)
				in[j] = w.arena[j] + slot[i];
			result[k][i] = malloc(result_bytes(&c, &t[i], n));
			expected(&c, &t[i], n, k, in, result[k][i]);
		}
	Rank rank[MOST];
	run_world(&w, rank);
	assert_int_equal(w.failed, 0);
	for (u32 k = 0; k < n; k++) {
		for (u32 i = 0; i < TENSORS; i++) {
			assert_memory_equal(w.arena[k] + slot[TENSORS + i], result[k][i], result_bytes(&c, &t[i], n));
			free(result[k][i]);
		}
		free(w.arena[k]);
	}
}

static void as_defined(void **state)
{
	(void)state;
	for (u32 kind = PACKAGE_ALL_REDUCE; kind <= PACKAGE_PERMUTE; kind++)
		for (u32 n = 2; n <= MOST; n++)
			for (u32 i = 0; i < 6; i++)
				one(kind, n, 1 + i % 2, i >= 3, kind == PACKAGE_ALL_REDUCE && i % 3 == 1, 100 * kind + 10 * n + i);
}

/* Sums of what the last sum made, round a ring of places, with none or many under way, far more of them than there is room for: each
 * gives three times what the last one gave. */
static void in_turns(void **state)
{
	(void)state;
	enum { PLACES = 8, WIDTH = 40, ROUNDS = 300 };
	PackageCollectiveTensor t = { .dtype = PACKAGE_U32, .rank = 1, .dim = { WIDTH } };
	PackageCollective c = { .kind = PACKAGE_ALL_REDUCE, .n = 1, .tensor = &t };
	PackageStep step[PLACES];
	u64 slot[PLACES][2];
	for (u32 i = 0; i < PLACES; i++) {
		slot[i][0] = i * WIDTH * sizeof(u32);
		slot[i][1] = (i + 1) % PLACES * WIDTH * sizeof(u32);
		step[i] = (PackageStep){ .collective = &c, .slot = slot[i], .nslot = 2, .name = "it" };
	}
	static const u32 left[] = { 0, 1, COMM_ROOM - 1 };
	for (u32 x = 0; x < COUNT(left); x++) {
		World w = { .n = 3, .threads = 1, .rounds = ROUNDS, .left = left[x], .step = step, .nstep = PLACES,
			    .comes = { true, true, true } };
		for (u32 k = 0; k < w.n; k++) {
			w.arena[k] = calloc(PLACES * WIDTH, sizeof(u32));
			for (u32 i = 0; i < WIDTH; i++)
				((u32 *)w.arena[k])[i] = i + k;
		}
		u32 want[WIDTH]; /* modulo 2^32 */
		for (u32 i = 0; i < WIDTH; i++)
			want[i] = 3 * i + 3;
		for (u32 i = 1; i < ROUNDS * PLACES; i++)
			for (u32 k = 0; k < WIDTH; k++)
				want[k] *= 3;
		Rank rank[MOST];
		run_world(&w, rank);
		assert_int_equal(w.failed, 0);
		for (u32 k = 0; k < w.n; k++) {
			assert_memory_equal(w.arena[k], want, sizeof want);
			free(w.arena[k]);
		}
	}
}

static void never_comes(void **state)
{
	(void)state;
	PackageCollectiveTensor t = { .dtype = PACKAGE_F32, .rank = 1, .dim = { 10 } };
	PackageCollective c = { .kind = PACKAGE_ALL_REDUCE, .n = 1, .tensor = &t };
	PackageStep step = { .collective = &c, .slot = (u64[]){ 0, 64 }, .nslot = 2, .name = "a sum" };
	World w = { .n = 3, .threads = 1, .rounds = 1, .step = &step, .nstep = 1, .comes = { true, false, true } };
	for (u32 k = 0; k < w.n; k++)
		w.arena[k] = calloc(128, 1);
	Rank rank[MOST];
	run_world(&w, rank);
	assert_int_equal(w.failed, 2);
	assert_string_equal(rank[0].text, "nobody else came to a sum");
	assert_string_equal(rank[2].text, "nobody else came to a sum");
	for (u32 k = 0; k < w.n; k++)
		free(w.arena[k]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(as_defined), cmocka_unit_test(in_turns), cmocka_unit_test(never_comes) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
