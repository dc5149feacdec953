/* Tensors in parts: their names; random tensors that are written in parts of one division, each to a file, and read into
 * the parts of another, with every element told by its index in the whole; what is wrong with parts. */
#include "ir/sample.h"
#include "runtime/checkpoint/part.h"
#include "runtime/checkpoint/stacked.h"
#include "runtime/checkpoint/weights.h"
#include "tests/unit/folder.h"

/* ---- names ---- */

static void names(void **state)
{
	(void)state;
	const char *name;
	TensorPart p;
	static const char text[] = "h.0.attn.c_attn.weight[0:32/32,0:8+32:40+64:72/96]";
	assert_true(part_of_name(&arena, text, &name, &p));
	assert_string_equal(name, "h.0.attn.c_attn.weight");
	assert_int_equal(p.rank, 2);
	assert_int_equal(part_extent(&p, 0), 32);
	assert_int_equal(part_extent(&p, 1), 24);
	assert_int_equal(p.axis[1].whole, 96);
	assert_false(part_is_whole(&p));
	assert_string_equal(part_name(&arena, name, &p), text);
	static const char *const none[] = {
		"w", "[0:1/2]", "w[]", "w[0:1]", "w[0:1/2", "w[0:1/2]x", "w[1:1/2]", "w[1:3/2]", "w[0:2+1:3/4]", "w[0:1,/2]",
		"w[0:1+/2]", "w[-1:1/2]", "w[0:1/2,]", "w[0:99999999999999999999/2]", "w[ 0:1/2]",
		"w[0:1/1,0:1/1,0:1/1,0:1/1,0:1/1,0:1/1,0:1/1,0:1/1,0:1/1,0:1/1,0:1/1]",
	};
	for (u32 i = 0; i < COUNT(none); i++)
		if (part_of_name(&arena, none[i], &name, &p))
			fail_msg("%s is taken for a part", none[i]);
}

/* ---- from one division to another ---- */

enum { PARTS = 3 };

/* Each dimension's indices dealt to up to PARTS hands. */
typedef struct Division {
	u32 rank, hands[3], n;
	PartAxis axis[3][PARTS];
} Division;

static Division divide(Random *r, u32 rank, const i64 *dim)
{
	Division v = { .rank = rank, .n = 1 };
	for (u32 d = 0; d < rank; d++) {
		u32 most = (u32)MIN(dim[d], PARTS);
		v.hands[d] = (u32)random_int(r, 1, most);
		PartRun *run = NEWN(&arena, PartRun, (u64)(dim[d] * PARTS));
		for (u32 h = 0; h < v.hands[d]; h++)
			v.axis[d][h] = (PartAxis){ dim[d], run + h * dim[d], 0 };
		for (i64 i = 0; i < dim[d]; i++) {
			/* each hand has something */
			u32 h = i < v.hands[d] ? (u32)i : (u32)random_int(r, 0, v.hands[d] - 1);
			PartAxis *x = &v.axis[d][h];
			PartRun *last = (PartRun *)(uintptr_t)x->run + x->nrun;
			if (x->nrun && last[-1].from + last[-1].n == i)
				last[-1].n++;
			else
				*last = (PartRun){ i, 1 }, x->nrun++;
		}
		v.n *= v.hands[d];
	}
	return v;
}

static TensorPart part_at(const Division *v, u32 i)
{
	TensorPart p = { .rank = v->rank };
	for (u32 d = 0; d < v->rank; d++) {
		p.axis[d] = v->axis[d][i % v->hands[d]];
		i /= v->hands[d];
	}
	return p;
}

/* Indices of the whole, in the order of the part: what its memory must hold. */
static u32 elements(const TensorPart *p, f32 *out)
{
	u32 n = 1;
	out[0] = 0;
	for (u32 d = 0; d < p->rank; d++) {
		f32 before[1000];
		u32 had = n;
		memcpy(before, out, n * sizeof *out);
		n = 0;
		for (u32 i = 0; i < had; i++)
			for (u32 k = 0; k < p->axis[d].nrun; k++)
				for (i64 j = 0; j < p->axis[d].run[k].n; j++)
					out[n++] = before[i] * (f32)p->axis[d].whole + (f32)(p->axis[d].run[k].from + j);
	}
	return n;
}

static const i64 *extents(const TensorPart *p)
{
	i64 *dim = NEWN(&arena, i64, p->rank + 1);
	for (u32 d = 0; d < p->rank; d++)
		dim[d] = part_extent(p, d);
	return dim;
}

/* Writes parts [from, to) of the division, a file each. */
static void write_parts(const Division *v, u32 from, u32 to, const char **path)
{
	for (u32 i = from; i < to; i++) {
		TensorPart p = part_at(v, i);
		f32 x[1000];
		elements(&p, x);
		NamedBuffer b = { .name = part_name(&arena, "w", &p), .dtype = SAFE_F32, .rank = v->rank, .dim = extents(&p), .data = x };
		path[i] = path_of(arena_printf(&arena, "%u.safetensors", i));
		good(safetensors_write(path[i], &b, 1, NULL, 0, NULL));
	}
}

static void read_part(const Safetensors *s, const TensorPart *p, bool wide)
{
	f32 want[1000], got[1000] = { 0 };
	f64 got_wide[1000] = { 0 };
	u32 n = elements(p, want);
	NamedBuffer b = { .name = "w", .dtype = wide ? SAFE_F64 : SAFE_F32, .rank = p->rank, .dim = extents(p),
			  .data = wide ? (void *)got_wide : got, .part = p };
	Buf note = { .arena = &arena };
	const SafeTensor *match;
	FitRequest r = { .path = "files", .have = s, .want = &b, .n = 1, .widen = wide };
	if (weights_fit(&arena, &r, &match, &note))
		fail_msg("%s", note.text);
	good(weights_check(&arena, s, &b, &match, 1));
	good(weights_copy(&b, &match, 1));
	for (u32 i = 0; i < n; i++)
		if ((wide ? got_wide[i] : (f64)got[i]) != (f64)want[i])
			fail_msg("element %u of the part is element %g of the whole, not %g", i, wide ? got_wide[i] : (f64)got[i], (f64)want[i]);
}

static void divisions(void **state)
{
	(void)state;
	Random r = random_new(&arena, 7);
	for (u32 round = 0; round < 200; round++) {
		i64 dim[3];
		u32 rank = (u32)random_int(&r, 0, 3);
		for (u32 d = 0; d < rank; d++)
			dim[d] = random_int(&r, 1, 8);
		Division from = divide(&r, rank, dim), to = divide(&r, rank, dim);
		const char *path[27];
		write_parts(&from, 0, from.n, path);
		Safetensors s;
		good(safetensors_open_all(&arena, path, from.n, &s));
		for (u32 i = 0; i < to.n; i++) {
			TensorPart p = part_at(&to, i);
			read_part(&s, &p, round % 2);
		}
		TensorPart all = part_whole(&arena, rank, dim);
		read_part(&s, &all, false);
		safetensors_close(&s);
	}
}

/* ---- what is wrong ---- */

static void expect_misfit(const NamedBuffer *parts, u32 n, const char *what)
{
	static const i64 dim[] = { 4, 6 };
	f32 got[24];
	const char *path = path_of("wrong.safetensors");
	good(safetensors_write(path, parts, n, NULL, 0, NULL));
	NamedBuffer want = { .name = "w", .dtype = SAFE_F32, .rank = 2, .dim = dim, .data = got };
	Diag d = { .arena = &arena };
	assert_non_null(weights_load(&arena, path, NULL, 0, &want, 1, &d));
	bool told = false;
	for (const Message *m = d.first; m; m = m->next)
		told |= strstr(m->text, what) != NULL;
	if (!told)
		fail_msg("nobody says: %s", what);
}

static void wrong_parts(void **state)
{
	(void)state;
	static const i64 half[] = { 2, 6 };
	static const f32 x[24];
	NamedBuffer upper = { .name = "w[0:2/4,0:6/6]", .dtype = SAFE_F32, .rank = 2, .dim = half, .data = (void *)(uintptr_t)x };
	NamedBuffer lower = upper, both[2];
	expect_misfit(&upper, 1, "its 1 parts have 12 of its 24 elements");
	lower.name = "w[1:3/4,0:6/6]";
	both[0] = upper, both[1] = lower;
	expect_misfit(both, 2, "have elements in common");
	both[1].name = "w[2:4/5,0:6/6]";
	expect_misfit(both, 2, "is no part of the same tensor");
	both[1].name = "w[2:4/4,0:5/6]";
	expect_misfit(both, 2, "which is not what its name says");
}

/* ---- stacked ---- */

/* Of four experts of [2, 3] this device has the last two, and the second row of each. */
static void stacks(void **state)
{
	(void)state;
	static const PartRun last = { 2, 2 }, second = { 1, 1 }, all = { 0, 3 };
	static const i64 dim[] = { 2, 1, 3 };
	TensorPart p = { .rank = 3, .axis = { { 4, &last, 1 }, { 2, &second, 1 }, { 3, &all, 1 } } };
	f32 x[6];
	NamedBuffer b = { .name = "experts.{E}.w", .dtype = SAFE_F32, .rank = 3, .dim = dim, .data = x, .part = &p }, out[4];
	assert_int_equal(stacked_count(&b), 4);
	stacked_parts(&arena, &b, out);
	for (u32 i = 0; i < 4; i++) {
		assert_string_equal(out[i].name, arena_printf(&arena, "experts.%u.w", i));
		assert_int_equal(out[i].part->none, i < 2);
		assert_int_equal(safe_buffer_bytes(&out[i]), i < 2 ? 0 : 12);
	}
	assert_ptr_equal(out[2].data, x);
	assert_ptr_equal(out[3].data, x + 3);
	assert_string_equal(part_name(&arena, out[3].name, out[3].part), "experts.3.w[1:2/2,0:3/3]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names), cmocka_unit_test(divisions), cmocka_unit_test(wrong_parts), cmocka_unit_test(stacks),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
