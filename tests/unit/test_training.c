/* Units of runtime/training, on a package made by hand: a unigram model (logits w, one number a token)
 * with momentum, its kernels plain C. Its loss, gradient and best loss are known in closed form. */
#include "runtime/training.h"
#include "runtime/numerics.h"
#include "runtime/signals.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { V = 8, B = 4, T = 16 };

static Arena arena;
static const char *folder;

static void good(Status s)
{
	if (s)
		fail_msg("%s", s->text);
}

/* ---- the package ---- */

typedef struct Memory {
	f32 w[V], m[V], g[V];
	f32 loss_sum, loss_count;
	i64 step, micro, seed;
	/* inputs and results */
	i64 init_seed;
	i32 tokens[2 * B * T], targets[2 * B * T];
	f32 loss, grad_norm, lr, eval_sum, eval_count;
} Memory;

static f32 learning_rate;
static i64 bad_step = -1;   /* in which the bad thing happens */
static enum { BAD_NONE, BAD_LOSS, BAD_GRADIENT, BAD_UPDATE } bad;

static i64 term_step = -1;  /* after which SIGTERM comes while it is evaluated */

static void *slots_of(void *const *slot)
{
	return slot[0];
}

static void k_init(void *const *slot, const i64 *number, void *workspace, void *scratch, i64 phase, i64 begin, i64 end)
{
	(void)number, (void)workspace, (void)scratch, (void)phase, (void)begin, (void)end;
	Memory *x = slots_of(slot);
	for (int i = 0; i < V; i++) {
		x->w[i] = (f32)((x->init_seed * 7 + i * 5) % 11) * 0.01f;
		x->m[i] = 0;
	}
	x->seed = x->init_seed;
	x->step = x->micro = 0;
	x->loss_sum = x->loss_count = 0;
}

/* Sum of -log softmax(w)[target], and its gradient into g, or added to it. */
static void loss(Memory *x, const i64 *number, f32 *sum, f32 *count, f32 *g)
{
	f32 p[V], total = 0;
	for (int i = 0; i < V; i++)
		total += p[i] = expf(x->w[i]);
	*sum = *count = 0;
	for (i64 i = 0; i < number[0]; i++) {
		i32 target = x->targets[i];
		if (target < 0)
			continue;
		assert(i % T == T - 1 || i == number[0] - 1 || x->targets[i + 1] < 0 || x->tokens[i + 1] == target);
		*sum -= logf(p[target] / total);
		*count += 1;
		if (g)
			g[target] -= 1;
	}
	for (int i = 0; i < V && g; i++)
		g[i] += *count * p[i] / total;
}

static void micro(Memory *x, const i64 *number, bool first)
{
	f32 sum, count;
	if (first)
		memset(x->g, 0, sizeof x->g);
	loss(x, number, &sum, &count, x->g);
	x->loss_sum = first ? sum : x->loss_sum + sum;
	x->loss_count = first ? count : x->loss_count + count;
	x->micro++;
	if (x->step == bad_step && bad == BAD_LOSS)
		x->loss_sum = NAN;
	if (x->step == bad_step && bad == BAD_GRADIENT)
		x->g[3] = INFINITY;
}

static void k_first(void *const *slot, const i64 *number, void *workspace, void *scratch, i64 phase, i64 begin, i64 end)
{
	(void)workspace, (void)scratch, (void)phase, (void)begin, (void)end;
	micro(slots_of(slot), number, true);
}

static void k_micro(void *const *slot, const i64 *number, void *workspace, void *scratch, i64 phase, i64 begin, i64 end)
{
	(void)workspace, (void)scratch, (void)phase, (void)begin, (void)end;
	micro(slots_of(slot), number, false);
}

static void k_update(void *const *slot, const i64 *number, void *workspace, void *scratch, i64 phase, i64 begin, i64 end)
{
	(void)number, (void)workspace, (void)scratch, (void)phase, (void)begin, (void)end;
	Memory *x = slots_of(slot);
	f32 squares = 0;
	x->lr = x->step == bad_step && bad == BAD_UPDATE ? (f32)INFINITY : learning_rate;
	for (int i = 0; i < V; i++) {
		f32 g = x->g[i] / x->loss_count;
		squares += g * g;
		x->m[i] = 0.5f * x->m[i] + g;
		x->w[i] -= x->lr * x->m[i];
	}
	x->grad_norm = sqrtf(squares);
	x->loss = x->loss_sum / x->loss_count;
	x->step++;
}

static void k_eval(void *const *slot, const i64 *number, void *workspace, void *scratch, i64 phase, i64 begin, i64 end)
{
	(void)workspace, (void)scratch, (void)phase, (void)begin, (void)end;
	Memory *x = slots_of(slot);
	if (x->step == term_step)
		raise(SIGTERM);
	loss(x, number, &x->eval_sum, &x->eval_count, NULL);
}

#define AT(field) offsetof(Memory, field)

static PackageTensor tensor(const char *name, PackageDtype dtype, u64 at, u64 bytes, u8 rank, i64 d0, i64 d1)
{
	return (PackageTensor){ .name = name, .dtype = (u8)dtype, .rank = rank, .dim = { d0, d1 }, .offset = at, .bytes = bytes };
}

static PackageBuffer buffer(const char *name, PackageBufferKind kind, PackageDtype dtype, u64 at, u64 bytes, i64 n)
{
	return (PackageBuffer){ .tensor = tensor(name, dtype, at, bytes, n ? 1 : 0, n, 0), .kind = kind };
}

/* One step, whose slot 0 is all the memory, and which writes what the others say. */
static PackageEntry entry(const char *name, KernelFunction *f, i64 batch, const PackageSlot *wrote, const u64 *at, u32 nwrote)
{
	static const i64 one = 1;
	PackageStep *s = NEW(&arena, PackageStep);
	u64 *slot = NEWN(&arena, u64, nwrote + 1);
	PackageSlot *info = NEWN(&arena, PackageSlot, nwrote + 1);
	info[0] = (PackageSlot){ .name = "all" };
	for (u32 i = 0; i < nwrote; i++) {
		slot[i + 1] = at[i];
		info[i + 1] = wrote[i];
	}
	i64 *number = NEWN(&arena, i64, 1);
	number[0] = batch * T;
	*s = (PackageStep){ .function = f, .slot = slot, .slot_info = info, .nslot = nwrote + 1, .number = number, .tasks = &one,
			    .nphase = 1, .name = arena_printf(&arena, "layer.%s", name), .file = "unigram.plinth", .line = 7 };
	PackageTensor *in = NEWN(&arena, PackageTensor, 2);
	u32 nin = 0;
	if (f == k_init) {
		in[nin++] = tensor("seed", PACKAGE_I64, AT(init_seed), 8, 0, 0, 0);
	} else if (f != k_update) {
		in[nin++] = tensor("tokens", PACKAGE_I32, AT(tokens), (u64)batch * T * 4, 2, batch, T);
		in[nin++] = tensor("targets", PACKAGE_I32, AT(targets), (u64)batch * T * 4, 2, batch, T);
	}
	PackageTensor *out = NEWN(&arena, PackageTensor, 3);
	u32 nout = 0;
	if (f == k_update) {
		out[nout++] = tensor("loss", PACKAGE_F32, AT(loss), 4, 0, 0, 0);
		out[nout++] = tensor("grad_norm", PACKAGE_F32, AT(grad_norm), 4, 0, 0, 0);
		out[nout++] = tensor("lr", PACKAGE_F32, AT(lr), 4, 0, 0, 0);
	} else if (f == k_eval) {
		out[nout++] = tensor("loss_sum", PACKAGE_F32, AT(eval_sum), 4, 0, 0, 0);
		out[nout++] = tensor("loss_count", PACKAGE_F32, AT(eval_count), 4, 0, 0, 0);
	}
	return (PackageEntry){ .name = name, .input = in, .ninput = nin, .result = out, .nresult = nout, .step = s, .nstep = 1,
			       .model_flops = f == k_first || f == k_micro ? 1000 : 0,
			       .model_flops_full = f == k_first || f == k_micro ? 1500 : 0 };
}

static Package *package(i64 batch)
{
	Package *p = NEW(&arena, Package);
	p->name = "unigram";
	p->device = "cpu";
	p->buffer = NEWN(&arena, PackageBuffer, 8);
	u32 n = 0;
	p->buffer[n++] = buffer("head.w", PACKAGE_PARAMETER, PACKAGE_F32, AT(w), sizeof(f32[V]), V);
	p->buffer[n++] = buffer("m/head.w", PACKAGE_STATE, PACKAGE_F32, AT(m), sizeof(f32[V]), V);
	p->buffer[n++] = buffer("grad/head.w", PACKAGE_GRADIENT, PACKAGE_F32, AT(g), sizeof(f32[V]), V);
	p->buffer[n++] = buffer("loss_sum", PACKAGE_COUNTER, PACKAGE_F32, AT(loss_sum), 4, 0);
	p->buffer[n++] = buffer("loss_count", PACKAGE_COUNTER, PACKAGE_F32, AT(loss_count), 4, 0);
	p->buffer[n++] = buffer("step", PACKAGE_COUNTER, PACKAGE_I64, AT(step), 8, 0);
	p->buffer[n++] = buffer("micro", PACKAGE_COUNTER, PACKAGE_I64, AT(micro), 8, 0);
	p->buffer[n++] = buffer("seed", PACKAGE_COUNTER, PACKAGE_I64, AT(seed), 8, 0);
	p->nbuffer = n;
	static const PackageSlot gradient[] = {
		{ .elements = V, .dtype = PACKAGE_F32, .written = true, .name = "%gradient", .file = "" },
		{ .elements = 1, .dtype = PACKAGE_F32, .written = true, .name = "%sum", .file = "unigram.plinth", .line = 9 },
	};
	static const u64 gradient_at[] = { AT(g), AT(loss_sum) };
	static const PackageSlot updated[] = {
		{ .elements = V, .dtype = PACKAGE_F32, .read = true, .written = true, .name = "head.w", .file = "" },
	};
	static const u64 updated_at[] = { AT(w) };
	p->entry = NEWN(&arena, PackageEntry, 5);
	p->entry[p->nentry++] = entry("init", k_init, batch, NULL, NULL, 0);
	p->entry[p->nentry++] = entry("micro_first", k_first, batch, gradient, gradient_at, 2);
	p->entry[p->nentry++] = entry("micro", k_micro, batch, gradient, gradient_at, 2);
	p->entry[p->nentry++] = entry("update", k_update, batch, updated, updated_at, 1);
	p->entry[p->nentry++] = entry("eval", k_eval, batch, NULL, NULL, 0);
	p->arena_bytes = sizeof(Memory);
	p->thread_scratch = 64;
	p->fingerprint = 0x1234 + (u64)(learning_rate * 1e6f);
	return p;
}

/* ---- data: a text of the characters a..h, with probabilities 1/2, 1/4, ... ---- */

static Dataset set(const char *name, u32 n, u32 seed)
{
	static const char letters[] = "aaaabbcdefgh";
	Buf text = { .arena = &arena };
	Trainer *tr;
	Tokenizer *t;
	ShardWriter *w;
	Shards s;
	Tokens ids = { .arena = &arena };
	const char *prefix = arena_printf(&arena, "%s/%s", folder, name);
	buf_put(&text, STR("abcdefgh"));
	for (u32 i = 8; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		buf_char(&text, letters[(seed >> 8) % 12]);
	}
	good(trainer_char(&arena, false, &tr));
	good(trainer_add(tr, buf_str(&text)));
	good(trainer_finish(tr, &t));
	assert_int_equal(t->vocabulary, V);
	good(tokenizer_encode(t, buf_str(&text), &ids));
	good(shard_writer_open(&arena, prefix, t, "none.json", 1000, &w));
	good(shard_writer_add(w, ids.v, ids.n));
	good(shard_writer_finish(w));
	good(shards_open(&arena, prefix, &s));
	return dataset_of_shards(&s);
}

static Dataset train_set, validation_set;

/* ---- a run ---- */

typedef struct Run {
	Executor *x;
	Training *t;
	TrainingEnd end;
	f64 loss[200], validation[200], norm[200];
	u32 samples, saves;
	u64 term_at; /* raise SIGTERM in this step */
} Run;

static u64 remove_at; /* after which step the run's folder goes */

static void on_step(void *cx, const StepMetrics *m)
{
	Run *r = cx;
	r->loss[m->step] = m->train_loss;
	r->validation[m->step] = m->validation_loss;
	r->norm[m->step] = m->gradient_norm;
	if (m->step == r->term_at)
		raise(SIGTERM);
	if (m->step == remove_at)
		good(io_remove_folder(arena_printf(&arena, "%s/removed", folder)));
}

static void on_save(void *cx, u64 step)
{
	(void)step;
	((Run *)cx)->saves++;
}

static Status on_sample(void *cx, u64 step)
{
	(void)step;
	((Run *)cx)->samples++;
	return OK;
}

static TrainingConfig usual(const char *name, u64 steps)
{
	return (TrainingConfig){ .train = &train_set, .validation = &validation_set,
				 .run = arena_printf(&arena, "%s/%s", folder, name), .steps = steps, .seed = 5, .accumulate = 1,
				 .evaluate_every = 10, .keep = 2, .peak = 1e9, .on_step = on_step, .on_save = on_save,
				 .on_sample = on_sample };
}

static Status go(Run *r, TrainingConfig c, i64 batch, bool resume)
{
	Diag d = { .arena = &arena };
	good(executor_create(package(batch), &(DeviceOptions){ .threads = 1 }, &r->x));
	c.executor = r->x;
	c.cx = r;
	Status s = training_open(&arena, &c, &r->t);
	if (!s)
		s = resume && checkpoint_is_run(c.run) ? training_resume(r->t, c.run, &d) : training_begin(r->t);
	if (!s)
		s = training_run(r->t, &r->end);
	training_close(r->t);
	return s;
}

static const char *model_text(const char *run)
{
	const char *path;
	Str model, optimizer, loader;
	good(checkpoint_resolve(&arena, run, &path));
	good(io_read(&arena, arena_printf(&arena, "%s/model.safetensors", path), &model));
	good(io_read(&arena, arena_printf(&arena, "%s/optimizer.safetensors", path), &optimizer));
	good(io_read(&arena, arena_printf(&arena, "%s/state.json", path), &loader));
	const char *at = strstr(loader.s, "\"loader\"");
	assert_non_null(at);
	/* bytes as text, so that two of them can be compared */
	Buf b = { .arena = &arena };
	for (size_t i = 0; i < model.n + optimizer.n; i++)
		buf_printf(&b, "%02x", (u8)(i < model.n ? model.s[i] : optimizer.s[i - model.n]));
	buf_printf(&b, "%.60s", at);
	return b.text;
}

/* ---- tests ---- */

static void learns(void **state)
{
	(void)state;
	Run r = { 0 };
	TrainingConfig c = usual("learns", 120);
	c.sample_every = 40;
	c.checkpoint_every = 50;
	good(go(&r, c, B, false));
	assert_int_equal(r.end.step, 120);
	/* the entropy of the letters' frequencies in the training text is the best that can be */
	f64 count[V] = { 0 }, best = 0;
	i32 *id = NEWN(&arena, i32, train_set.shards.count);
	good(shards_read(&train_set.shards, 0, train_set.shards.count, id));
	for (u64 i = 0; i < train_set.shards.count; i++)
		count[id[i]]++;
	for (int i = 0; i < V; i++)
		best -= count[i] / (f64)train_set.shards.count * log(count[i] / (f64)train_set.shards.count);
	/* w begins within 0.1 of 0 */
	assert_true(fabs(r.loss[1] - log(V)) < 0.15);
	assert_true(r.end.validation.loss > 0.9 * best && r.end.validation.loss < best * 1.05);
	assert_true(r.end.has_validation && r.end.validation.whole);
	assert_int_equal((int)r.end.validation.targets, (int)validation_set.shards.count - 1);
	assert_true(r.validation[10] != METRIC_UNKNOWN && r.validation[11] == METRIC_UNKNOWN);
	assert_int_equal(r.samples, 3);
	assert_int_equal(r.saves, 3); /* 50, 100, the end */
	/* metrics: a line a step, rates of both conventions */
	Str text;
	good(io_read(&arena, arena_printf(&arena, "%s/" TRAINING_METRICS, c.run), &text));
	u32 lines = 0;
	for (size_t i = 0; i < text.n; i++)
		lines += text.s[i] == '\n';
	assert_int_equal(lines, 120);
	f64 half = strtod(strstr(text.s, "\"tflops_per_device\": ") + 21, NULL);
	f64 full = strtod(strstr(text.s, "\"tflops_per_device_full_square\": ") + 33, NULL);
	assert_true(fabs(full / half - 1.5) < 1e-9);
	/* bits: characters are tokens here */
	assert_true(fabs(bits_per_character(&r.end.validation, &validation_set.shards) - r.end.validation.loss / M_LN2) < 1e-12);
}

/* Gradients are sums: two micro-steps of B rows are one of 2 B rows. */
static void accumulates(void **state)
{
	(void)state;
	Run one = { 0 }, two = { 0 };
	TrainingConfig c = usual("accumulate1", 30), d = usual("accumulate2", 30);
	d.accumulate = 2;
	good(go(&one, c, 2 * B, false));
	good(go(&two, d, B, false));
	for (u32 i = 1; i <= 30; i++) {
		assert_true(fabs(one.loss[i] - two.loss[i]) < 1e-5);
		assert_true(fabs(one.norm[i] - two.norm[i]) < 1e-5);
	}
}

static void resumes(void **state)
{
	(void)state;
	Run whole = { 0 }, part = { 0 }, rest = { 0 };
	good(go(&whole, usual("whole", 40), B, false));
	TrainingConfig c = usual("parts", 17);
	good(go(&part, c, B, false));
	c.steps = 40;
	good(go(&rest, c, B, true));
	assert_string_equal(model_text(usual("whole", 0).run), model_text(c.run));
	for (u32 i = 18; i <= 40; i++)
		assert_true(rest.loss[i] == whole.loss[i]);
	/* done already: nothing to do */
	Run again = { 0 };
	good(go(&again, c, B, true));
	assert_int_equal(again.end.last.step, 0);
	/* another seed, another program */
	c.seed = 6;
	Run other = { 0 };
	Status s = go(&other, c, B, true);
	assert_non_null(s);
	assert_non_null(strstr(s->text, "seed 5"));
	c.seed = 5;
	learning_rate = 0.25f;
	s = go(&other, c, B, true);
	assert_non_null(s);
	assert_non_null(strstr(s->text, "another program"));
	learning_rate = 0.5f;
}

/* Killed at random moments, and resumed each time. */
static void survives_kills(void **state)
{
	(void)state;
	enum { STEPS = 60, KILLS = 20 };
	Run whole = { 0 };
	TrainingConfig c = usual("unharmed", STEPS), k = usual("killed", STEPS);
	k.checkpoint_every = 1;
	good(go(&whole, c, B, false));
	u32 seed = 12345, kills = 0;
	for (;;) {
		pid_t child = fork();
		if (!child) {
			Run r = { 0 };
			_exit(go(&r, k, B, true) ? 1 : 0);
		}
		seed = seed * 1664525u + 1013904223u;
		/* a step and its save take a few milliseconds */
		if (kills < KILLS) {
			usleep(1000 + (seed >> 8) % 25000);
			kill(child, SIGKILL);
		}
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			break;
		}
		kills++;
	}
	print_message("survived %u kills\n", kills);
	assert_true(kills >= KILLS / 2);
	assert_string_equal(model_text(c.run), model_text(k.run));
	Str text;
	good(io_read(&arena, arena_printf(&arena, "%s/" TRAINING_METRICS, k.run), &text));
	u64 step = 0;
	for (const char *p = text.s; (p = strstr(p, "{\"step\": ")); p++)
		assert_int_equal(strtoull(p + 9, NULL, 10), ++step);
	assert_int_equal(step, STEPS);
}

static void stops_when_asked(void **state)
{
	(void)state;
	pid_t child = fork();
	if (!child) {
		Run r = { .term_at = 13 };
		Status s = signals_install();
		if (!s)
			s = go(&r, usual("asked", 40), B, false);
		_exit(s || r.end.signal != SIGTERM || r.end.step != 13 || r.saves != 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	Run whole = { 0 }, rest = { 0 };
	good(go(&whole, usual("not_asked", 40), B, false));
	good(go(&rest, usual("asked", 40), B, true));
	assert_string_equal(model_text(usual("asked", 0).run), model_text(usual("not_asked", 0).run));
}

/* Somebody removes the folder of a run that goes on. */
static void removed_folder_is_told(void **state)
{
	(void)state;
	Run r = { 0 };
	TrainingConfig c = usual("removed", 40);
	c.checkpoint_every = 15;
	remove_at = 12;
	Status s = go(&r, c, B, false);
	remove_at = 0;
	assert_non_null(s);
	assert_non_null(strstr(s->text, arena_printf(&arena, "%s/" TRAINING_METRICS " was removed", c.run)));
	const char *path;
	good(checkpoint_resolve(&arena, c.run, &path));
	assert_true(str_ends(str_of(path), STR("step-000015")));
}

static const char *validations(const char *run)
{
	Str text;
	Buf b = { .arena = &arena };
	good(io_read(&arena, arena_printf(&arena, "%s/" TRAINING_METRICS, run), &text));
	for (const char *p = text.s; (p = strstr(p, "{\"step\": ")); p++) {
		const char *v = strstr(p, "\"validation_loss\": ");
		buf_printf(&b, "%llu %.12s\n", strtoull(p + 9, NULL, 10), v && v < strchr(p, '\n') ? v + 19 : "");
	}
	return b.text;
}

/* A validation that is cut short by a signal is no number: the run that resumes makes it, and the file is in the end
 * as if nothing had been. So it is after one that came while the last step was evaluated. */
static void cut_validation_is_made_up(void **state)
{
	(void)state;
	static const u64 at[] = { 10, 40 };
	Run whole = { 0 };
	good(go(&whole, usual("uncut", 40), B, false));
	const char *want = validations(usual("uncut", 0).run);
	assert_non_null(strstr(want, "\n10 "));
	for (u32 i = 0; i < COUNT(at); i++) {
		const char *name = arena_printf(&arena, "cut%u", i);
		pid_t child = fork();
		if (!child) {
			Run r = { 0 };
			term_step = (i64)at[i];
			Status s = signals_install();
			if (!s)
				s = go(&r, usual(name, 40), B, false);
			_exit(s || r.end.signal != SIGTERM || r.end.step != at[i] || r.end.has_validation || r.saves != 1);
		}
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		assert_null(strstr(strstr(validations(usual(name, 0).run), arena_printf(&arena, "\n%llu ", (unsigned long long)at[i])), "."));
		/* twice, as one that is killed after the first is begun again from the same checkpoint */
		for (u32 k = 0; k < 2; k++) {
			Run rest = { 0 };
			good(go(&rest, usual(name, 40), B, true));
			assert_string_equal(validations(usual(name, 0).run), want);
			assert_int_equal(rest.end.has_validation, k == 0);
			if (!k)
				assert_true(rest.end.validation.loss == whole.end.validation.loss);
		}
		assert_string_equal(model_text(usual(name, 0).run), model_text(usual("uncut", 0).run));
	}
}

static void finds_what_is_not_finite(void **state)
{
	(void)state;
	static const struct {
		int bad;
		bool check;
		const char *say[4];
	} row[] = {
		{ BAD_LOSS, false, { "step 8: the loss is NaN", "the first NaN comes out of layer.micro_first (unigram.plinth:7): %sum (unigram.plinth:9), 1 of its 1", "checkpoint is that of step 5" } },
		{ BAD_GRADIENT, false, { "step 8: the gradient's norm is infinite", "--check-numerics", "step 5" } },
		{ BAD_GRADIENT, true, { "step 8: a gradient is infinite", "the first infinity comes out of layer.micro_first", "%gradient, 1 of its 8 elements, the first at 3" } },
		/* an update that spoils the parameters shows in the next step's loss */
		{ BAD_UPDATE, false, { "step 9: the loss is NaN", "in the parameter head.w", "before the step" } },
		{ BAD_UPDATE, true, { "step 8: the update is not finite", "layer.update (unigram.plinth:7)", "head.w" } },
	};
	for (u32 i = 0; i < COUNT(row); i++) {
		Run r = { 0 };
		TrainingConfig c = usual(arena_printf(&arena, "bad%u", i), 40);
		c.checkpoint_every = 5;
		c.check_numerics = row[i].check;
		bad = row[i].bad;
		bad_step = 7;
		Status s = go(&r, c, B, false);
		bad_step = -1;
		assert_non_null(s);
		for (u32 k = 0; k < 4 && row[i].say[k]; k++)
			if (!strstr(s->text, row[i].say[k]))
				fail_msg("row %u: no '%s' in: %s", i, row[i].say[k], s->text);
		assert_int_equal(status_exit(s), 1);
		assert_int_equal(r.saves, 1);
	}
}

static void scans(void **state)
{
	(void)state;
	u64 at, many;
	f32 a[5] = { 0, 1e38f, NAN, -INFINITY, NAN };
	assert_true(find_nan(a, PACKAGE_F32, 5, &at, &many) && at == 2 && many == 2);
	assert_true(find_infinity(a, PACKAGE_F32, 5, &at, &many) && at == 3 && many == 1);
	assert_false(find_nan(a, PACKAGE_F32, 2, &at, &many) || find_infinity(a, PACKAGE_F32, 2, &at, &many));
	assert_false(find_nan(a, PACKAGE_I32, 5, &at, &many));
	f64 d[2] = { 1e308, NAN };
	assert_true(find_nan(d, PACKAGE_F64, 2, &at, &many) && at == 1);
	u16 half[4] = { 0x7c00, 0x7c01, 0xfc00, 0x7bff }, brain[4] = { 0x7f80, 0x7fc0, 0xff80, 0x7f7f };
	assert_true(find_nan(half, PACKAGE_F16, 4, &at, &many) && at == 1 && many == 1);
	assert_true(find_infinity(half, PACKAGE_F16, 4, &at, &many) && at == 0 && many == 2);
	assert_true(find_nan(brain, PACKAGE_BF16, 4, &at, &many) && at == 1 && many == 1);
	assert_true(find_infinity(brain, PACKAGE_BF16, 4, &at, &many) && at == 0 && many == 2);
}

/* Packages that cannot be trained are refused before anything runs. */
static void refuses(void **state)
{
	(void)state;
	Training *t;
	Executor *x;
	Package *p = package(B);
	p->entry[1].input[1].name = "labels";
	good(executor_create(p, &(DeviceOptions){ .threads = 1 }, &x));
	TrainingConfig c = usual("refused", 3);
	c.executor = x;
	Status s = training_open(&arena, &c, &t);
	assert_true(s && strstr(s->text, "the input 'labels' has no source; tokens("));
	p->entry[1].input[1].name = "targets";
	p->entry[4].name = "other";
	s = training_open(&arena, &c, &t);
	assert_true(s && strstr(s->text, "no entry 'eval'"));
	p->nentry = 1;
	s = training_open(&arena, &c, &t);
	assert_true(s && strstr(s->text, "train block"));
	executor_destroy(x);
}

int main(void)
{
	char name[] = "/tmp/test_training.XXXXXX";
	arena = ARENA("test");
	folder = mkdtemp(name);
	learning_rate = 0.5f;
	train_set = set("train", 5000, 1);
	validation_set = set("val", 700, 2);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(learns),
		cmocka_unit_test(accumulates),
		cmocka_unit_test(resumes),
		cmocka_unit_test(survives_kills),
		cmocka_unit_test(stops_when_asked),
		cmocka_unit_test(cut_validation_is_made_up),
		cmocka_unit_test(removed_folder_is_told),
		cmocka_unit_test(finds_what_is_not_finite),
		cmocka_unit_test(scans),
		cmocka_unit_test(refuses),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	good(io_remove_folder(folder));
	return failed;
}
