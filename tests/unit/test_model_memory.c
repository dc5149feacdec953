/* The memory of every model in models/, as planned, forward and training: gaps between buffers are at most a hundredth of
 * what must be alive at once. That is counted here from the steps alone: which buffers each touches, from the first to
 * the last; of those that share memory in place, one at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "model_plan.h"
#include "passes/plan/predict.h"

#include <math.h>

static u64 aligned(u64 bytes)
{
	return (bytes + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
}

/* The largest sum of sizes that steps need at once, sharing memory where the plan's kernels may. */
static u64 most_needed(Arena *tmp, const Plan *p, const EntryPlan *e)
{
	u64 most = 0;
	u32 *first = NEWN(tmp, u32, e->buffer.n + 1), *last = NEWN(tmp, u32, e->buffer.n + 1);
	bool *touched = NEWN(tmp, bool, e->buffer.n + 1);
	for (u32 s = 0; s < e->step.n; s++) {
		const Step *step = &e->step.v[s];
		u32 nslot = p->kernel.v[step->kernel]->slot.n;
		for (u32 i = 0; i <= nslot; i++) {
			u32 b = i < nslot ? step->slot[i] : step->workspace;
			if (b == NONE)
				continue;
			first[b] = touched[b] ? first[b] : s;
			last[b] = s;
			touched[b] = true;
		}
	}
	for (u32 s = 0; s < e->step.n; s++) {
		const Step *step = &e->step.v[s];
		const Kernel *k = p->kernel.v[step->kernel];
		u64 now = 0, saved = 0, used = 0;
		for (u32 b = 0; b < e->buffer.n; b++) {
			const PlanBuffer *x = &e->buffer.v[b];
			bool early = x->kind == MEMORY_INPUT, late = x->kind == MEMORY_RESULT;
			bool alive = touched[b] ? (early || first[b] <= s) && (late || last[b] >= s) : early && s == 0;
			if (x->kind != MEMORY_PERSISTENT && alive)
				now += aligned(x->bytes);
		}
		/* an output in the place of an input that ends here; each input once */
		for (u32 o = 0; o < k->slot.n; o++)
			for (u32 i = 0; i < k->slot.n && i < 64; i++) {
				u32 out = step->slot[o], in = step->slot[i];
				const PlanBuffer *x = &e->buffer.v[out], *y = &e->buffer.v[in];
				bool may = k->slot.v[o].may_alias >> i & 1 && !(used >> i & 1) && x->bytes == y->bytes &&
					   first[out] == s && last[in] == s && (first[in] < s || y->kind == MEMORY_INPUT) &&
					   x->kind != MEMORY_PERSISTENT && y->kind != MEMORY_PERSISTENT && y->kind != MEMORY_RESULT;
				if (!may)
					continue;
				used |= 1ull << i;
				saved += aligned(x->bytes);
				break;
			}
		most = MAX(most, now - saved);
	}
	return most;
}

/* The number of entries that leave more in gaps. */
static u32 check(const ModelPlan *m)
{
	Arena a = ARENA("test");
	Compiled c = model_plan(&a, m);
	u64 largest = 0;
	u32 wrong = 0;
	for (u32 i = 0; i < c.plan->entry.n; i++) {
		const EntryPlan *e = c.plan->entry.v[i];
		u64 needed = most_needed(&a, c.plan, e);
		if (e->lower_bound != needed)
			fail_msg("%s %s, entry %s: %llu bytes are said to be alive, where %llu are", m->name, m->preset, e->name,
				 (unsigned long long)e->lower_bound, (unsigned long long)needed);
		if (e->transient_bytes > e->lower_bound + e->lower_bound / 100) {
			print_error("%s %s %s, entry %s: %llu bytes, where %llu are alive\n", m->name, m->preset ? m->preset : "",
				    m->options.precision, e->name, (unsigned long long)e->transient_bytes,
				    (unsigned long long)e->lower_bound);
			wrong++;
		}
		largest = MAX(largest, e->transient_bytes);
	}
	assert_int_equal(c.plan->arena_bytes, c.plan->persistent_bytes + largest);
	arena_free(&a);
	return wrong;
}

/* By which times are counted; its numbers are of no importance. */
static const Machine machine = { .name = "test", .device = "cpu", .peak = { [DT_f32] = 2e12 }, .bandwidth = 1e11, .launch = 2e-6,
				 .arithmetic = 0.1 };

#define TEST_SIZES "B=2,T=64"

static void small_models(void **state)
{
	(void)state;
	static const char *const precision[] = { "f32", "bf16" };
	u32 wrong = 0;
	for (u32 i = 0; i < COUNT(precision); i++)
		for (u32 accumulate = 0; accumulate < 2; accumulate++) {
			DriverOptions o = { .sizes = TEST_SIZES, .precision = precision[i], .accumulate = accumulate, .cpu = "x86-64-v3" };
			wrong += check(&(ModelPlan){ "gpt2", "test", NULL, o });
			wrong += check(&(ModelPlan){ "llama", "test", NULL, o });
			wrong += check(&(ModelPlan){ "bible", "tiny", NULL, o });
		}
	assert_int_equal(wrong, 0);
}

/* By planning alone: nothing of this size runs. */
static void large_models(void **state)
{
	(void)state;
	static const char *const precision[] = { "f32", "bf16" };
	u32 wrong = 0;
	for (u32 i = 0; i < COUNT(precision); i++) {
		DriverOptions o = { .sizes = "B=8,T=1024", .precision = precision[i], .cpu = "x86-64-v3" };
		wrong += check(&(ModelPlan){ "gpt2", "small", NULL, o });
		wrong += check(&(ModelPlan){ "llama", "llama_110m", NULL, o });
	}
	assert_int_equal(wrong, 0);
}

/* Each of the other families, in a published size and one of a test's. */
static void families(void **state)
{
	(void)state;
	static const struct {
		const char *model, *preset, *sizes;
	} family[] = {
		{ "bert", "test", "B=2,T=64" },
		{ "bert", "base", "B=8,T=512" },
		{ "roberta", "base", "B=8,T=512" },
		{ "vit", "test", "B=4" },
		{ "vit", "base", "B=32" },
		{ "clip", "base_32", "B=16,N=16,T=77" },
		{ "t5", "test", "B=2,S=32,T=16" },
		{ "t5", "flan_base", "B=8,S=512,T=128" },
		{ "gemma", "test", "B=2,T=64" },
		{ "mixtral", "test", "B=2,T=64" },
		{ "mixtral", "mixtral_8x7b", "B=2,T=2048" },
		{ "llama", "qwen3_0_6b", "B=2,T=2048" },
		{ "lora", "smollm_135m", "B=4,T=1024" },
		{ "unet", "test", "B=2,h=8,w=8,S=5" },
		{ "unet", "sd_1_5", "B=2,h=64,w=64,S=77" },
		{ "vae", "test", "B=2,h=16,w=16" },
		{ "vae", "sd", "B=1,h=256,w=256" },
	};
	u32 wrong = 0;
	for (u32 i = 0; i < COUNT(family); i++) {
		DriverOptions o = { .sizes = family[i].sizes, .precision = i % 2 ? "bf16" : "f32", .cpu = "x86-64-v3" };
		wrong += check(&(ModelPlan){ family[i].model, family[i].preset, NULL, o });
	}
	assert_int_equal(wrong, 0);
}

/* ---- within a budget ---- */

/* What the plan says of itself, from the plan alone: its peak, and the time of steps that run again. At half the way from the
 * least peak to that with everything kept, the bound is within a twentieth
 * of the time that is added. */
static void fit_half(const char *name, const char *preset, const char *sizes, const char *precision)
{
	Arena a = ARENA("test");
	DriverOptions o = { .sizes = sizes, .precision = precision, .cpu = "x86-64-v3", .threads = 1, .curve = 1, .machine = &machine };
	Compiled all = model_plan(&a, &(ModelPlan){ name, preset, NULL, o });
	const EntryPlan *e = NULL;
	for (u32 i = 0; i < all.plan->entry.n; i++)
		if (!strcmp(all.plan->entry.v[i]->name, "micro_first"))
			e = all.plan->entry.v[i];
	assert_non_null(e);
	assert_non_null(e->remat);
	u64 half = (e->remat->least + e->remat->most) / 2;
	/* entries that keep nothing may need more than that, and have no choice */
	static const char *const step[] = { "micro", "update" };
	o.entry = step;
	o.nentry = COUNT(step);
	u64 scratch = ALIGN_UP(all.plan->thread_scratch, 4096);
	o.memory = all.plan->persistent_bytes + half + scratch;
	Compiled fitted = model_plan(&a, &(ModelPlan){ name, preset, NULL, o });
	assert_true(fitted.plan->arena_bytes + scratch <= o.memory);
	for (u32 i = 0; i < fitted.plan->entry.n; i++) {
		e = fitted.plan->entry.v[i];
		assert_int_equal(e->lower_bound, most_needed(&a, fitted.plan, e));
		if (strcmp(e->name, "micro_first"))
			continue;
		f64 seconds = 0;
		for (u32 s = 0; s < e->step.n; s++)
			if (e->step.v[s].again)
				seconds += predict_kernel(&machine, fitted.plan->kernel.v[e->step.v[s].kernel]).seconds;
		const PlanRemat *r = e->remat;
		assert_true(r->fits && r->seconds > 0);
		assert_true(fabs(seconds - r->seconds) <= 1e-9 * seconds);
		assert_true(r->bound <= r->seconds);
		print_message("%s %s %s %s: %.2f%% of the step at half, at least %.2f%%: the gap is %.2f%% of it\n", name, preset, sizes,
			      precision, 100 * r->seconds / r->step_seconds, 100 * r->bound / r->step_seconds,
			      100 * (r->seconds - r->bound) / r->seconds);
		assert_true(r->seconds - r->bound <= 0.05 * r->seconds);
	}
	arena_free(&a);
}

static void half_the_range(void **state)
{
	(void)state;
	fit_half("gpt2", "small", "B=1,T=1024", "f32");
	fit_half("gpt2", "small", "B=1,T=1024", "bf16");
	fit_half("gpt2", "small", "B=8,T=1024", "bf16");
	fit_half("gpt2", "small", "B=8,T=1024", "f32");
	fit_half("llama", "llama_1b", "B=1,T=1024", "f32");
	fit_half("llama", "llama_1b", "B=1,T=1024", "bf16");
	fit_half("llama", "llama_1b", "B=4,T=2048", "bf16");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(small_models), cmocka_unit_test(large_models),
					    cmocka_unit_test(families), cmocka_unit_test(half_the_range) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
