/* tools/bench_report.c: what was measured as a table for people and as comma-separated values; see bench.h. */
#include "tools/bench.h"

#include <math.h>
#include <string.h>

#define GIGA(x) ((x)*1e-9)

static f64 share(f64 part, f64 of)
{
	return of > 0 ? 100 * part / of : 0;
}

/* ---- for people ---- */

static void print_spread(FILE *to, const char *what, Spread s, f64 scale, const char *unit)
{
	fprintf(to, "%s %.4g %s (%.4g to %.4g)", what, s.median * scale, unit, s.least * scale, s.most * scale);
}

static void print_program(const Bench *b, Arena *a, FILE *to)
{
	const SourceOptions *o = &b->lm->operand.options;
	const Package *p = b->run.package;
	const DriverTimes *t = &b->run.compiled.times;
	fprintf(to, "model     %s (%s%s%s), %s, %s\n", p->name, b->lm->operand.source, o->preset ? ", preset " : "",
		o->preset ? o->preset : "", b->point.name, b->options.precision ? b->options.precision : "f32");
	fprintf(to, "step      %s%s%s of %.0f tokens: %sFLOP", b->options.forward ? "forward" : "micro-step",
		b->accumulate > 1 && !b->options.forward ? arena_printf(a, " (%u times)", b->accumulate) : "",
		b->options.forward ? "" : " and update", b->tokens, lm_scaled(a, b->flops));
	if (b->flops_full > b->flops)
		fprintf(to, " (%sFLOP with attention's full square)", lm_scaled(a, b->flops_full));
	fprintf(to, ", %u kernels\n", b->nkernel);
	fprintf(to,
		"compiled  in %.3f s: passes %.3f s, plan %.3f s, code %.3f s (%s)\n", t->total, t->passes, t->plan, t->code,
		t->kept ? "the whole program from the cache" :
			  arena_printf(a, "%u units, %u of them from the cache", t->compiled + t->cached, t->cached));
	fprintf(to,
		"started   from the command to the first launch %.3f s; beside that, memory %.3f s (%llu page faults), first values "
		"%.3f s; end of the first step after %.3f s\n",
		b->start.launch, b->start.memory, (unsigned long long)b->start.faults, b->start.values, b->start.step);
	fprintf(to, "memory    %s planned: %s persistent, %s the step's values", lm_bytes(a, p->arena_bytes),
		lm_bytes(a, p->persistent_bytes), lm_bytes(a, p->arena_bytes - p->persistent_bytes));
	fprintf(to, "; %s held with threads' own; %s the most in use by the process\n", lm_bytes(a, b->held_bytes),
		lm_bytes(a, b->resident));
}

static void print_machine(const Bench *b, FILE *to)
{
	fprintf(to, "machine   %s: %s; load %.2f before, %.2f after\n", b->device, b->machine, b->load[0], b->load[1]);
	static const char *const of[OPERANDS] = { "measured peak", ", of bf16", ", of 8 bits" };
	if (!(b->peak[OPERANDS_32].median > 0) && !(b->limit.bandwidth > 0))
		return;
	fputs("          ", to);
	for (u32 k = 0; k < OPERANDS; k++)
		if (k == OPERANDS_32 || b->peak[k].median > 0)
			print_spread(to, of[k], b->peak[k], 1e-12, "TFLOPS");
	fputs("\n          ", to);
	bool more = false;
	for (int k = 0; k < DEVICE_MOVES; k++) {
		if (!(b->bandwidth[k].median > 0))
			continue;
		fputs(more ? ", " : "memory: ", to);
		print_spread(to, device_move_name[k], b->bandwidth[k], 1e-9, "GB/s");
		more = true;
	}
	fputc('\n', to);
}

static void print_clocks(const Bench *b, FILE *to)
{
	if (!b->has_clocks)
		return;
	fprintf(to, "          clocks of %.0f MHz (%.0f to %.0f", b->sm_mhz.median, b->sm_mhz.least, b->sm_mhz.most);
	if (b->most_mhz > 0)
		fprintf(to, " of %.0f", b->most_mhz);
	fprintf(to, "), memory %.0f MHz, %.0f W (%.0f to %.0f", b->memory_mhz.median, b->watts.median, b->watts.least, b->watts.most);
	if (b->limit_watts > 0)
		fprintf(to, " of %.0f", b->limit_watts);
	fputc(')', to);
	if (b->celsius.median > 0)
		fprintf(to, ", %.0f C", b->celsius.median);
	fprintf(to, "%s%s\n", b->held & GPU_HELD_POWER ? "; held back by the power limit" : "",
		b->held & (GPU_HELD_HEAT | GPU_HELD_SLOWDOWN) ? "; held back by heat" : "");
}

/* "12.34 ms": four digits, and no exponent however long it takes. */
static const char *milliseconds(Arena *a, f64 seconds)
{
	f64 ms = seconds * 1e3;
	return arena_printf(a, "%.*f", ms < 10 ? 3 : ms < 100 ? 2 : ms < 1000 ? 1 : 0, ms);
}

static void print_step(const Bench *b, Arena *a, FILE *to)
{
	f64 s = b->step.median;
	fprintf(to, "\na step    %s ms (%s to %s; %u runs of %u step%s): %.4g steps/s, %s tokens/s\n", milliseconds(a, s),
		milliseconds(a, b->step.least), milliseconds(a, b->step.most), b->step.n, b->steps,
		b->steps == 1 ? "" : "s", 1 / s, lm_scaled(a, b->tokens / s));
	fprintf(to, "          %.4g TFLOPS per device (%.4g with attention's full square", b->flops / s * 1e-12,
		b->flops_full / s * 1e-12);
	fprintf(to, ", %.4g by all kernels)\n", b->kernel_flops / s * 1e-12);
	if (b->datasheet > 0)
		fprintf(to, "          MFU %.1f%% of %.4g TFLOPS, as published\n", share(b->flops / s, b->datasheet),
			b->datasheet * 1e-12);
	if (b->bound.seconds > 0) {
		fprintf(to, "          %.1f%% of measured peak, %.1f%% of measured bandwidth (%.4g GB through memory)\n",
			share(b->flops / s, b->step_peak), share(b->kernel_bytes / s, b->limit.bandwidth),
			GIGA(b->kernel_bytes));
		fprintf(to, "          %.1f%% of the roofline: its kernels need at least %s ms\n",
			share(b->bound.seconds, s), milliseconds(a, b->bound.seconds));
	}
	if (b->of_limit.n)
		fprintf(to, "          %.1f%% of the limit (%.1f to %.1f): FLOPs at the %.4g TFLOPS that are kept up%s, %s ms; by the best peak %.1f%%\n",
			100 * b->of_limit.median, 100 * b->of_limit.least, 100 * b->of_limit.most, b->sustained.median * 1e-12,
			b->optimizer_bytes > 0 ? arena_printf(a, ", the optimizer's %.4g GB at measured bandwidth", GIGA(b->optimizer_bytes)) : "",
			milliseconds(a, b->limit_seconds.median), 100 * b->of_best_limit.median);
	fprintf(to, "          kernels one by one %s ms (%s to %s)\n", milliseconds(a, b->kernels.median),
		milliseconds(a, b->kernels.least), milliseconds(a, b->kernels.most));
}

/* A group's name with its entry, where that is not the one that nearly all have. */
static const char *group_name(Arena *a, const Bench *b, const KernelGroup *g)
{
	const char *name = g->first.name;
	if (b->options.repeat > 1)
		return arena_printf(a, "%s%s", strcmp(g->first.entry, "update") ? "" : "update ", name);
	return strcmp(g->first.entry, "update") ? name : arena_printf(a, "update: %s", name);
}

static u32 calls_from(const Bench *b, u32 group)
{
	u32 n = 0;
	for (; group < b->ngroup; group++)
		n += b->group[group].calls;
	return n;
}

static void print_kernels(const Bench *b, Arena *a, f64 least, FILE *to)
{
	u32 width = 6, wide = 5;
	for (u32 i = 0; i < b->ngroup; i++) {
		width = MAX(width, (u32)strlen(group_name(a, b, &b->group[i])));
		wide = MAX(wide, (u32)strlen(b->group[i].first.shape));
	}
	width = MIN(width, 48u);
	fprintf(to, "\n%-*s %-*s %5s %10s %6s %9s %8s %9s %6s  %s\n", (int)width,
		b->options.repeat > 1 ? "kernels alone" : "kernel", (int)wide, "shape", "calls", "ms", "share",
		"GFLOP/s", "GB/s", "bound ms", "of it", "bound by");
	f64 told = 0, all = 0;
	for (u32 i = 0; i < b->ngroup; i++)
		all += b->group[i].seconds.median;
	u32 shown = 0;
	for (; shown < b->ngroup && (least >= 1 || told <= least * all); shown++) {
		const KernelGroup *g = &b->group[shown];
		f64 s = g->seconds.median;
		told += s;
		fprintf(to, "%-*s %-*s %5u %10.3f %5.1f%% %9.1f %8.2f %9.3f %5.0f%%  %s\n", (int)width,
			group_name(a, b, g), (int)wide, g->first.shape, g->calls, s * 1e3, share(s, b->kernels.median),
			s > 0 ? GIGA(g->flops / s) : 0, s > 0 ? GIGA(g->bytes / s) : 0, g->bound.seconds * 1e3,
			share(g->bound.seconds, s), g->bound.by_flops ? "FLOPs" : "memory");
	}
	if (shown < b->ngroup)
		fprintf(to, "%-*s %-*s %5u %10.3f %5.1f%%\n", (int)width, arena_printf(a, "%u more", b->ngroup - shown),
			(int)wide, "", calls_from(b, shown), (all - told) * 1e3, share(all - told, b->kernels.median));
	fputs("Bytes are counted as if each kernel's values came from memory: those that are still in a cache beat the "
	      "bound.\n",
	      to);
}

static void print_sweep(const Bench *b, u32 n, Arena *a, FILE *to)
{
	u32 width = 5;
	bool beside = false;
	for (u32 i = 0; i < n; i++) {
		beside |= b[i].beside.n > 0;
		width = MAX(width, (u32)strlen(b[i].point.name));
	}
	fprintf(to, "\n%-*s %10s %10s %10s %8s %8s %11s %9s%s\n", (int)width, "sizes", "ms", "least", "tokens/s",
		"TFLOPS", "of peak", "of roofline", "memory", beside ? "  beside the first" : "");
	for (u32 i = 0; i < n; i++) {
		const Bench *at = &b[i];
		if (at->failed) {
			fprintf(to, "%-*s %s\n", (int)width, at->point.name, at->failed);
			continue;
		}
		f64 s = at->step.median;
		fprintf(to, "%-*s %10s %10s %10s %8.4g %7.1f%% %10.1f%% %9s", (int)width, at->point.name, milliseconds(a, s),
			milliseconds(a, at->step.least), lm_scaled(a, at->tokens / s), at->flops / s * 1e-12,
			share(at->flops / s, at->step_peak), share(at->bound.seconds, s),
			lm_bytes(a, at->run.package->arena_bytes));
		if (at->beside.n)
			fprintf(to, "  %.3f (%.3f to %.3f)", at->beside.median, at->beside.least, at->beside.most);
		fputc('\n', to);
	}
}

void bench_print(const Bench *b, u32 n, f64 told, FILE *to)
{
	Arena a = ARENA("bench_print");
	for (u32 i = 0; i < n; i++) {
		if (i)
			fputc('\n', to);
		if (b[i].failed) {
			fprintf(to, "%s: %s\n", b[i].point.name, b[i].failed);
			continue;
		}
		print_program(&b[i], &a, to);
		print_machine(&b[i], to);
		print_clocks(&b[i], to);
		print_step(&b[i], &a, to);
		print_kernels(&b[i], &a, told, to);
	}
	if (n > 1)
		print_sweep(b, n, &a, to);
	arena_free(&a);
}

/* ---- comma-separated values ---- */

static void put_text(FILE *to, const char *text)
{
	fputc('"', to);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', to);
		fputc(*text, to);
	}
	fputs("\",", to);
}

static void put_row(FILE *to, const Bench *b, const char *kind, const KernelRun *what, u32 calls, Spread s, f64 flops,
		    f64 bytes, Bound bound)
{
	put_text(to, b->point.name);
	fprintf(to, "%s,%s,", kind, what->entry);
	put_text(to, what->name);
	fprintf(to, "%s,", what->class);
	put_text(to, what->shape);
	put_text(to, what->line ? what->file : "");
	fprintf(to, "%u,%u,%.9g,%.9g,%.9g,%.17g,%.17g,%.9g,%s\n", what->line, calls, s.median * 1e3, s.least * 1e3,
		s.most * 1e3, flops, bytes, bound.seconds * 1e3, bound.by_flops ? "flops" : "bytes");
}

void bench_print_csv(const Bench *b, u32 n, FILE *to)
{
	fputs("sizes,kind,entry,name,class,shape,file,line,calls,median_ms,least_ms,most_ms,flops,bytes,bound_ms,bound_"
	      "by\n",
	      to);
	for (u32 i = 0; i < n; i++) {
		if (b[i].failed)
			continue;
		KernelRun step = { .entry = b[i].options.forward ? "forward" : "step",
				   .name = b[i].run.package->name,
				   .class = "",
				   .shape = "",
				   .file = "" };
		put_row(to, &b[i], "step", &step, 1, b[i].step, b[i].flops, b[i].kernel_bytes, b[i].bound);
		for (u32 k = 0; k < b[i].ngroup; k++) {
			const KernelGroup *g = &b[i].group[k];
			put_row(to, &b[i], "kernel", &g->first, g->calls, g->seconds, g->flops, g->bytes, g->bound);
		}
	}
}
