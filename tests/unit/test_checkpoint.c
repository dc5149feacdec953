/* Units of checkpoints: save and restore, the latest of a run, what does not fit, weights from
 * published files, verifying. What happens when a save fails is in test_save_faults.c. */
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/verify.h"
#include "runtime/checkpoint/weights.h"
#include "support/half.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64];

/* A small program: two parameters, two moments, a counter. */
typedef struct Program {
	f32 weight[6], bias[3], m[6];
	u16 v[3];
	i64 count;
	NamedBuffer parameter[2], other[3];
} Program;

static const i64 d23[] = { 2, 3 }, d3[] = { 3 };

static void program_init(Program *p, u64 step)
{
	*p = (Program){ .count = (i64)step };
	for (u32 i = 0; i < 6; i++) {
		p->weight[i] = (f32)(step * 10 + i);
		p->m[i] = -(f32)(step * 10 + i);
	}
	for (u32 i = 0; i < 3; i++) {
		p->bias[i] = (f32)step / (f32)(i + 1);
		p->v[i] = (u16)(step + i);
	}
	p->parameter[0] = (NamedBuffer){ "h.0.fc.weight", SAFE_F32, 2, d23, p->weight, NULL, 0, false, NULL, NULL };
	p->parameter[1] = (NamedBuffer){ "h.0.fc.bias", SAFE_F32, 1, d3, p->bias, NULL, 0, false, NULL, NULL };
	p->other[0] = (NamedBuffer){ "m/h.0.fc.weight", SAFE_F32, 2, d23, p->m, NULL, 0, false, NULL, NULL };
	p->other[1] = (NamedBuffer){ "v/h.0.fc.bias", SAFE_BF16, 1, d3, p->v, NULL, 0, false, NULL, NULL };
	p->other[2] = (NamedBuffer){ "step", SAFE_I64, 0, NULL, &p->count, NULL, 0, false, NULL, NULL };
}

static void assert_same_values(const Program *x, const Program *y)
{
	assert_memory_equal(x->weight, y->weight, sizeof x->weight);
	assert_memory_equal(x->bias, y->bias, sizeof x->bias);
	assert_memory_equal(x->m, y->m, sizeof x->m);
	assert_memory_equal(x->v, y->v, sizeof x->v);
	assert_int_equal(x->count, y->count);
}

static const TextPair tuning[] = { { "matmul 64x64", "splitk=2" }, { "attention", "tile=128" } };

static Status save(const char *run, u64 step, u32 keep)
{
	Program p;
	program_init(&p, step);
	CheckpointSave s = { .run = run,
			     .state = { .step = step,
					.seed = 0xFEDCBA9876543210u,
					.metrics_bytes = step * 100,
					.program = "abc123",
					.loader = "{\"shard\": 3, \"at\": [1, 2.5, null]}",
					.tuning = tuning,
					.ntuning = 2 },
			     .parameter = p.parameter,
			     .nparameter = 2,
			     .other = p.other,
			     .nother = 3,
			     .keep = keep };
	return checkpoint_save(&s);
}

static const char *fresh_run(Arena *a, const char *name)
{
	return arena_printf(a, "%s/%s/run", folder, name);
}

static void round_trip(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "round_trip");
	assert_null(save(run, 500, 0));
	Program want, got;
	program_init(&want, 500);
	program_init(&got, 7);
	Checkpoint c;
	assert_null(checkpoint_open(&a, run, &c));
	Diag d = { .arena = &a };
	assert_null(checkpoint_load(&c, got.parameter, 2, got.other, 3, &d));
	assert_same_values(&want, &got);
	assert_string_equal(c.path, arena_printf(&a, "%s/step-000500", run));
	assert_int_equal(c.state.step, 500);
	assert_true(c.state.seed == 0xFEDCBA9876543210u);
	assert_int_equal(c.state.metrics_bytes, 50000);
	assert_string_equal(c.state.program, "abc123");
	assert_string_equal(c.state.version, PLINTH_VERSION);
	assert_string_equal(c.state.loader, "{\"shard\":3,\"at\":[1,2.5,null]}");
	assert_int_equal(c.state.ntuning, 2);
	assert_string_equal(c.state.tuning[0].key, "matmul 64x64");
	assert_string_equal(c.state.tuning[1].value, "tile=128");
	assert_string_equal(safetensors_meta(&c.model, "format"), "pt");
	checkpoint_close(&c);
	arena_free(&a);
}

static u32 entries(const char *path)
{
	u32 n = 0;
	DIR *d = opendir(path);
	assert_non_null(d);
	for (const struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static bool has(const char *run, const char *name)
{
	char path[500];
	snprintf(path, sizeof path, "%s/%s", run, name);
	return io_exists(path);
}

static void keeps_the_last(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "keep");
	for (u64 step = 1; step <= 5; step++)
		assert_null(save(run, step * 300000, 2));
	assert_int_equal(entries(run), 3);
	assert_true(has(run, "step-1200000") && has(run, "step-1500000") && has(run, "latest"));
	assert_int_equal(entries(arena_printf(&a, "%s/step-1500000", run)), 3);
	/* after a resume from before, the one just saved stays and is the latest */
	assert_null(save(run, 600000, 2));
	assert_true(has(run, "step-600000") && has(run, "step-1500000"));
	assert_false(has(run, "step-1200000"));
	Checkpoint c;
	assert_null(checkpoint_open(&a, run, &c));
	assert_int_equal(c.state.step, 600000);
	checkpoint_close(&c);
	arena_free(&a);
}

static void replaces_the_same_step(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "replace");
	assert_null(save(run, 1, 0));
	Program other;
	program_init(&other, 99);
	CheckpointSave s = { .run = run, .state = { .step = 1 }, .parameter = other.parameter,
			     .nparameter = 2 };
	assert_null(checkpoint_save(&s));
	Checkpoint c;
	assert_null(checkpoint_open(&a, run, &c));
	assert_int_equal(c.optimizer.ntensor, 0);
	assert_memory_equal(safetensors_find(&c.model, "h.0.fc.weight")->data.p, other.weight, 24);
	checkpoint_close(&c);
	assert_int_equal(entries(run), 2);
	arena_free(&a);
}

static void stale_temporaries_go(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "stale");
	assert_null(save(run, 1, 0));
	/* 4194305 is above the kernel's largest process id */
	static const char *const dead[] = { "step-000002.tmp.4194305", "latest.tmp.4194305" };
	assert_null(io_make_folder(arena_printf(&a, "%s/%s/inner", run, dead[0])));
	assert_null(io_write(arena_printf(&a, "%s/%s", run, dead[1]), (Blob){ (const u8 *)"x", 1 }));
	/* process 1 lives, and may be writing */
	assert_null(io_make_folder(arena_printf(&a, "%s/step-000003.tmp.1", run)));
	assert_null(io_make_folder(arena_printf(&a, "%s/samples.tmp.4194305", run)));
	assert_null(save(run, 2, 0));
	assert_false(has(run, dead[0]) || has(run, dead[1]));
	assert_true(has(run, "step-000003.tmp.1") && has(run, "samples.tmp.4194305"));
	Checkpoint c;
	Status why = checkpoint_open(&a, arena_printf(&a, "%s/step-000003.tmp.1/", run), &c);
	assert_non_null(why);
	assert_non_null(strstr(why->text, "unfinished save"));
	arena_free(&a);
}

static void expect_refusal(Arena *a, const char *path, const char *expect)
{
	Checkpoint c;
	Status why = checkpoint_open(a, path, &c);
	assert_non_null(why);
	if (!strstr(why->text, expect))
		fail_msg("expected '%s', got '%s'", expect, why->text);
}

static void put(const char *path, const char *text)
{
	assert_null(io_write(path, (Blob){ (const u8 *)text, strlen(text) }));
}

static void wrong_paths_are_told(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "wrong");
	expect_refusal(&a, run, "no such checkpoint");
	assert_null(save(run, 1, 0));
	expect_refusal(&a, folder, "neither state.json nor `latest`");
	const char *latest = arena_printf(&a, "%s/latest", run);
	static const char *const bad[] = { "", "../../etc", "step-1", "step-000001x", "step-000001\n\n" };
	for (u32 i = 0; i < COUNT(bad); i++) {
		put(latest, bad[i]);
		expect_refusal(&a, run, "no checkpoint's name");
	}
	put(latest, "step-000002\n");
	expect_refusal(&a, run, "names step-000002, which is not there");
	const char *circle = arena_printf(&a, "%s/step-000002", run); /* there, but not to be looked at: as on a disk that fails */
	assert_int_equal(symlink("step-000002", circle), 0);
	expect_refusal(&a, run, "cannot read");
	assert_int_equal(unlink(circle), 0);
	assert_int_equal(remove(latest), 0);
	expect_refusal(&a, run, arena_printf(&a, "name the checkpoint itself: %s/step-000001", run));
	Checkpoint c; /* with a slash at the end too */
	assert_null(checkpoint_open(&a, arena_printf(&a, "%s/step-000001/", run), &c));
	checkpoint_close(&c);
	arena_free(&a);
}

static char *file_text(Arena *a, const char *path, size_t *n)
{
	Str text;
	assert_null(io_read(a, path, &text));
	*n = text.n;
	return (char *)(uintptr_t)text.s;
}

static void damaged_state_is_refused(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "state");
	assert_null(save(run, 1, 0));
	const char *path = arena_printf(&a, "%s/step-000001/state.json", run);
	size_t n;
	char *text = file_text(&a, path, &n);
	char *step = strstr(text, "\"step\": 1");
	assert_non_null(step);
	step[8] = '2';
	put(path, text);
	expect_refusal(&a, run, "is damaged or was edited");
	step[8] = '1';
	put(path, text);
	char *format = strstr(text, "\"format\": 1");
	format[10] = '9';
	put(path, text);
	expect_refusal(&a, run, "is of format 9");
	put(path, "{}");
	expect_refusal(&a, run, "not a checkpoint's state");
	put(path, "{");
	expect_refusal(&a, run, "no JSON");
	arena_free(&a);
}

/* The notes of the only error in `d`, one a line, with the error in front. */
static const char *told(Arena *a, const Diag *d)
{
	assert_int_equal(d->nerror, 1);
	Buf b = { .arena = a };
	for (const Message *m = d->first; m; m = m->next)
		buf_printf(&b, "%s\n", m->text);
	return b.text;
}

static void misfits_are_one_error(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "misfit");
	assert_null(save(run, 1, 0));
	Program got, before;
	program_init(&got, 7);
	program_init(&before, 7);
	static const i64 d32[] = { 3, 2 };
	got.parameter[0].dim = d32;		  /* another shape */
	got.parameter[1].name = "h.0.fc.offset";  /* missing, and one not in the program */
	got.other[1].dtype = SAFE_F16;		  /* another dtype */
	Checkpoint c;
	assert_null(checkpoint_open(&a, run, &c));
	Diag d = { .arena = &a };
	Status why = checkpoint_load(&c, got.parameter, 2, got.other, 3, &d);
	assert_non_null(why);
	assert_int_equal(why->code, STATUS_INPUT);
	assert_int_equal(d.first->code, E0901);
	assert_string_equal(
		told(&a, &d),
		arena_printf(&a,
			     "%s/step-000001 does not fit the program: 4 tensors, nothing was loaded\n"
			     "another shape: h.0.fc.weight is F32[2, 3] in the file, F32[3, 2] in the "
			     "program\n"
			     "missing: h.0.fc.offset F32[3]\n"
			     "not in the program: h.0.fc.bias F32[3]\n"
			     "another dtype: v/h.0.fc.bias is BF16[3] in the file, F16[3] in the program\n",
			     run));
	assert_same_values(&before, &got);
	checkpoint_close(&c);
	arena_free(&a);
}

static void flip(const char *path, u64 at)
{
	FILE *f = fopen(path, "r+b");
	assert_non_null(f);
	fseek(f, (long)at, SEEK_SET);
	int byte = fgetc(f);
	fseek(f, (long)at, SEEK_SET);
	fputc(byte ^ 1, f);
	fclose(f);
}

/* A flipped bit in the last tensor of the last file: nothing at all is copied. */
static void damage_is_found_before_anything_is_copied(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "damage");
	assert_null(save(run, 1, 0));
	const char *path = arena_printf(&a, "%s/step-000001/optimizer.safetensors", run);
	Safetensors s;
	assert_null(safetensors_open(&a, path, &s));
	const SafeTensor *v = safetensors_find(&s, "v/h.0.fc.bias");
	u64 at = v->begin + 3;
	assert_ptr_equal(v, &s.tensor[s.ntensor - 1]);
	safetensors_close(&s);
	flip(path, at);
	Program got, before;
	program_init(&got, 7);
	program_init(&before, 7);
	Checkpoint c;
	assert_null(checkpoint_open(&a, run, &c));
	Diag d = { .arena = &a };
	Status why = checkpoint_load(&c, got.parameter, 2, got.other, 3, &d);
	assert_non_null(why);
	assert_non_null(strstr(why->text, "tensor v/h.0.fc.bias (bytes "));
	assert_non_null(strstr(why->text, path));
	assert_same_values(&before, &got);
	checkpoint_close(&c);

	VerifyReport r;
	assert_null(verify(&a, run, &r));
	assert_int_equal(r.problem.n, 1);
	assert_string_equal(r.problem.v[0].tensor, "v/h.0.fc.bias");
	assert_string_equal(r.problem.v[0].file, path);
	assert_int_equal(r.problem.v[0].begin, at - 3);
	assert_int_equal(r.problem.v[0].end, at + 3);
	arena_free(&a);
}

/* Every byte of every file of a checkpoint counts: any flipped bit is found. */
static void verify_finds_every_flipped_bit(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "verify");
	assert_null(save(run, 1, 0));
	VerifyReport r;
	assert_null(verify(&a, run, &r));
	assert_int_equal(r.problem.n, 0);
	assert_int_equal(r.ntensor, 5);
	assert_int_equal(r.nhashed, 5);
	assert_int_equal(r.nfile, 3);
	assert_int_equal(r.elements, 6 + 3 + 6 + 3 + 1);
	static const char *const file[] = { "model.safetensors", "optimizer.safetensors" };
	for (u32 f = 0; f < COUNT(file); f++) {
		const char *path = arena_printf(&a, "%s/step-000001/%s", run, file[f]);
		size_t n;
		file_text(&a, path, &n);
		for (u64 at = 0; at < n; at++) {
			Arena tmp = ARENA("flip");
			flip(path, at);
			assert_null(verify(&tmp, run, &r));
			if (!r.problem.n)
				fail_msg("%s: a flipped bit in byte %llu was not found", file[f],
					 (unsigned long long)at);
			flip(path, at);
			arena_free(&tmp);
		}
		assert_int_equal(remove(path), 0);
		assert_null(verify(&a, run, &r));
		assert_int_equal(r.problem.n, 1);
		assert_null(save(run, 1, 0));
	}
	const char *path = arena_printf(&a, "%s/step-000001/state.json", run);
	assert_int_equal(remove(path), 0);
	assert_null(verify(&a, arena_printf(&a, "%s/step-000001", run), &r));
	assert_int_equal(r.problem.n, 1);
	assert_non_null(verify(&a, folder, &r)); /* nothing to look at */
	arena_free(&a);
}

/* ---- weights ---- */

static void renames(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	static const WeightRule rule[] = {
		{ "transformer.h.*.attn.bias", NULL },
		{ "transformer.**", "**" },
		{ "layers.*.{q,k}.*", "h.*.attn.*" },
		{ "**.gamma", "**.weight" },
		{ "old", "new" },
	};
	static const struct {
		const char *from, *to;
	} row[] = {
		{ "transformer.h.3.attn.bias", NULL },
		{ "transformer.h.3.attn.bias.x", "h.3.attn.bias.x" },
		{ "transformer.wte.weight", "wte.weight" },
		{ "layers.12.k.w", "h.12.attn.w" },
		{ "layers.12.v.w", "layers.12.v.w" },
		{ "layers.1.2.k.w", "layers.1.2.k.w" },
		{ "a.b.gamma", "a.b.weight" },
		{ "old", "new" },
		{ "older", "older" },
	};
	for (u32 i = 0; i < COUNT(row); i++) {
		const char *to = weights_rename(&a, rule, COUNT(rule), row[i].from);
		if (row[i].to)
			assert_string_equal(to, row[i].to);
		else
			assert_null(to);
		/* the same names match as for path_match */
		bool any = false;
		for (u32 k = 0; k < COUNT(rule); k++)
			any |= path_match(str_of(rule[k].pattern), str_of(row[i].from));
		assert_int_equal(any, !to || strcmp(to, row[i].from) != 0);
	}
	arena_free(&a);
}

static void weights_widen_and_rename(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *path = arena_printf(&a, "%s/published.safetensors", folder);
	u16 w[6], b[3];
	f32 mask = 1, scale = 0.1f;
	for (u32 i = 0; i < 6; i++)
		w[i] = bf16_from_f32((f32)i / 2);
	for (u32 i = 0; i < 3; i++)
		b[i] = f16_from_f32(-(f32)i);
	NamedBuffer file[] = { { "transformer.fc.weight", SAFE_BF16, 2, d23, w, NULL, 0, false, NULL, NULL },
			       { "transformer.fc.bias", SAFE_F16, 1, d3, b, NULL, 0, false, NULL, NULL },
			       { "transformer.mask", SAFE_F32, 0, NULL, &mask, NULL, 0, false, NULL, NULL },
			       { "scale", SAFE_F32, 0, NULL, &scale, NULL, 0, false, NULL, NULL } };
	assert_null(safetensors_write(path, file, 4, NULL, 0, NULL));
	f32 weight[6] = { 0 }, bias[3] = { 0 };
	f64 wide = 0;
	NamedBuffer want[] = { { "fc.weight", SAFE_F32, 2, d23, weight, NULL, 0, false, NULL, NULL },
			       { "fc.bias", SAFE_F32, 1, d3, bias, NULL, 0, false, NULL, NULL },
			       { "scale", SAFE_F64, 0, NULL, &wide, NULL, 0, false, NULL, NULL } };

	Diag d = { .arena = &a }; /* without rules nothing fits, and the prefix is suggested */
	assert_non_null(weights_load(&a, path, NULL, 0, want, 3, &d));
	assert_int_equal(d.first->code, E0650);
	assert_non_null(strstr(told(&a, &d), "a rename of \"transformer.**\" to \"**\""));
	assert_true(wide == 0 && weight[1] == 0);

	static const WeightRule rule[] = { { "**.mask", NULL }, { "transformer.**", "**" } };
	d = (Diag){ .arena = &a };
	assert_null(weights_load(&a, path, rule, 2, want, 3, &d));
	for (u32 i = 0; i < 6; i++)
		assert_true(weight[i] == (f32)i / 2);
	for (u32 i = 0; i < 3; i++)
		assert_true(bias[i] == -(f32)i);
	assert_true(wide == (f64)0.1f);

	/* what training begins anew keeps what it has where a file has another shape, or nothing; others do not */
	bool kept[3] = { 0 };
	f32 head[2] = { 7, 8 }, more = 9;
	i64 d2[] = { 2 };
	NamedBuffer anew[] = { { "fc.bias", SAFE_F32, 1, d2, head, NULL, 0, false, &kept[0], NULL },
			       { "head", SAFE_F32, 0, NULL, &more, NULL, 0, false, &kept[1], NULL },
			       { "scale", SAFE_F64, 0, NULL, &wide, NULL, 0, false, &kept[2], NULL } };
	static const WeightRule rest[] = { { "transformer.fc.weight", NULL }, { "**.mask", NULL }, { "transformer.**", "**" } };
	wide = 0;
	assert_null(weights_load(&a, path, rest, 3, anew, 3, &d));
	assert_true(kept[0] && kept[1] && !kept[2]);
	assert_true(head[0] == 7 && head[1] == 8 && more == 9 && wide == scale);
	anew[1].kept = NULL;
	assert_non_null(weights_load(&a, path, rest, 3, anew, 3, &d));
	d = (Diag){ .arena = &a };

	/* narrowing loses bits, and two names for one are no rename */
	u16 narrow;
	want[2] = (NamedBuffer){ "scale", SAFE_BF16, 0, NULL, &narrow, NULL, 0, false, NULL, NULL };
	static const WeightRule both[] = { { "**.mask", "scale" }, { "transformer.**", "**" } };
	assert_non_null(weights_load(&a, path, both, 2, want, 3, &d));
	const char *text = told(&a, &d);
	assert_non_null(strstr(text, "are both renamed to scale"));
	assert_non_null(strstr(text, "another dtype: scale is F32[] in the file, BF16[] in the program"));
	arena_free(&a);
}

static void weights_come_from_checkpoints_too(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	const char *run = fresh_run(&a, "from_run");
	assert_null(save(run, 3, 0));
	Program want, got;
	program_init(&want, 3);
	program_init(&got, 7);
	Diag d = { .arena = &a };
	assert_null(weights_load(&a, run, NULL, 0, got.parameter, 2, &d));
	assert_memory_equal(want.weight, got.weight, sizeof got.weight);
	assert_null(weights_load(&a, arena_printf(&a, "%s/step-000003", run), NULL, 0, got.parameter, 2,
				 &d));
	const char *path = arena_printf(&a, "%s/step-000003/model.safetensors", run);
	size_t n;
	file_text(&a, path, &n);
	flip(path, n - 1);
	Status why = weights_load(&a, path, NULL, 0, got.parameter, 2, &d);
	assert_non_null(why);
	assert_non_null(strstr(why->text, "is damaged"));
	arena_free(&a);
}

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "%s/plinth-checkpoint-XXXXXX",
		 io_exists("/dev/shm") ? "/dev/shm" : "/tmp");
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
		cmocka_unit_test(round_trip),
		cmocka_unit_test(keeps_the_last),
		cmocka_unit_test(replaces_the_same_step),
		cmocka_unit_test(stale_temporaries_go),
		cmocka_unit_test(wrong_paths_are_told),
		cmocka_unit_test(damaged_state_is_refused),
		cmocka_unit_test(misfits_are_one_error),
		cmocka_unit_test(damage_is_found_before_anything_is_copied),
		cmocka_unit_test(verify_finds_every_flipped_bit),
		cmocka_unit_test(renames),
		cmocka_unit_test(weights_widen_and_rename),
		cmocka_unit_test(weights_come_from_checkpoints_too),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
