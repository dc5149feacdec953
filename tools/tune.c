/* tools/tune.c: see tune.h. The search goes from knob to knob once: tile, piece of K, panels, chunk of rows. Ratios are
 * formed within a round, where both ran within milliseconds, so that a machine that is slowed down for a while slows both. */
#include "tools/tune.h"

#if PLINTH_LLVM
#include "codegen/cpu/panel.h"
#include "tools/kernel_time.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is compared ---- */

enum { KNOBS = 4, CANDIDATES = 3, LARGE = 1 << 20 };

/* Around what is in force with `best`. */
static u32 candidates(const CpuMachine *machine, const CpuTuning *best, u32 knob, CpuTuning out[CANDIDATES])
{
	CpuMachine m = *machine;
	m.tuning = *best;
	Tile t = product_tile(&m, DT_f32, LARGE, LARGE);
	Blocks b = blocks_for(&m, t);
	u32 n = 0, rows, vectors, most = STRIP_VECTORS / t.vectors;
	for (u32 i = 0; i < CANDIDATES; i++)
		out[i] = *best;
	switch (knob) {
	case 0:
		for (u32 i = 0; n < CANDIDATES && tile_at(&m, i, &rows, &vectors); i++)
			if ((rows != t.rows || vectors != t.vectors) && rows * vectors * 4 >= t.rows * t.vectors * 3)
				out[n].rows = rows, out[n++].vectors = vectors;
		break;
	case 1:
		out[n++].k = (u32)MAX(b.k / 2 / 16 * 16, 64);
		out[n++].k = (u32)(b.k * 3 / 2 / 16 * 16);
		break;
	case 2:
		if (b.panels > 1)
			out[n++].panels = b.panels / 2;
		if (b.panels * 2 <= most)
			out[n++].panels = b.panels * 2;
		break;
	default:
		out[n++].chunk = (u32)MAX(b.rows / 4, 64);
		out[n++].chunk = (u32)MIN(b.rows * 4, 1 << 15);
	}
	return n;
}

/* ---- what of it is more than noise ---- */

typedef struct Comparison {
	f64 ratio, error; /* the geometric mean over products of medians, and its standard error */
	f64 worst;        /* the largest median */
} Comparison;

static int ascending(const void *a, const void *b)
{
	f64 x = *(const f64 *)a, y = *(const f64 *)b;
	return x < y ? -1 : x > y;
}

static Status compare(u32 nproduct, TuneMeasure *measure, void *cx, const CpuTuning *a, const CpuTuning *b, Comparison *out)
{
	f64 logs = 0, squares = 0;
	*out = (Comparison){ 0 };
	for (u32 p = 0; p < nproduct; p++) {
		f64 r[TUNE_ROUNDS];
		TRY(measure(cx, p, a, b, r));
		qsort(r, TUNE_ROUNDS, sizeof *r, ascending);
		f64 median = r[TUNE_ROUNDS / 2];
		/* of a median of normal numbers: 1.2533 deviations, and quartiles are 1.349 of them apart */
		f64 error = 0.93 * (r[TUNE_ROUNDS * 3 / 4] - r[TUNE_ROUNDS / 4]) / sqrt(TUNE_ROUNDS) / median;
		logs += log(median);
		squares += error * error;
		out->worst = MAX(out->worst, median);
	}
	out->ratio = exp(logs / nproduct);
	out->error = sqrt(squares) / nproduct;
	return OK;
}

/* `equal`: code compared with itself. */
static f64 noise_of(const Comparison *x, const Comparison *equal)
{
	return MAX(MAX(x->error, equal->error), fabs(equal->ratio - 1));
}

static bool wins(const Comparison *x, const Comparison *equal)
{
	static const f64 WORTH = 0.01, HARM = 0.05; /* of the time: a gain that counts; a loss on one product that is too much */
	return x->ratio < 1 - MAX(2 * noise_of(x, equal), WORTH) && x->worst < 1 + HARM;
}

Status tune_search(const CpuMachine *machine, u32 nproduct, TuneMeasure *measure, void *cx, Tuned *out)
{
	CpuMachine model = *machine;
	const CpuTuning none = { 0 };
	Comparison equal, x;
	model.tuning = none;
	*out = (Tuned){ .ratio = 1 };
	TRY(compare(nproduct, measure, cx, &none, &none, &equal));
	out->noise = noise_of(&equal, &equal);
	for (u32 knob = 0; knob < KNOBS; knob++) {
		CpuTuning candidate[CANDIDATES], best = out->tuning;
		u32 n = candidates(&model, &best, knob, candidate);
		f64 least = 1;
		for (u32 i = 0; i < n; i++) {
			TRY(compare(nproduct, measure, cx, &best, &candidate[i], &x));
			out->tried++;
			if (wins(&x, &equal) && x.ratio < least) {
				least = x.ratio;
				out->tuning = candidate[i];
			}
		}
	}
	if (!tuning_any(&out->tuning))
		return OK;
	/* the best of several looks better than it is: once more, by itself */
	TRY(compare(nproduct, measure, cx, &none, &out->tuning, &x));
	out->ratio = x.ratio;
	out->noise = noise_of(&x, &equal);
	if (!wins(&x, &equal)) {
		out->tuning = none;
		out->ratio = 1;
	}
	return OK;
}

/* ---- on this machine ---- */

/* Squares, few rows, the three forms of layers of 256 and 4096 tokens, operands in bf16. */
static const struct {
	i64 m, n, k;
	DType dtype;
	bool turned;
} products[] = {
	{ 512, 512, 512, DT_f32, false },   { 64, 768, 768, DT_f32, false },   { 256, 3072, 768, DT_f32, false },
	{ 768, 3072, 256, DT_f32, true },   { 4096, 768, 768, DT_f32, false }, { 256, 768, 768, DT_bf16, false },
};

static const f64 WINDOW = 0.004; /* seconds that a turn takes at least */

typedef struct Clock {
	const DeviceOptions *device;
	u32 nturn[COUNT(products)]; /* runs of a product in a turn; 0: not known yet */
} Clock;

static Status turn(const Timed *t, u32 n, f64 *sum)
{
	*sum = 0;
	for (u32 i = 0; i < n; i++) {
		f64 seconds;
		TRY(timed_run(t, &seconds));
		*sum += seconds;
	}
	return OK;
}

static Status take_turns(Clock *c, u32 product, const Timed t[2], f64 ratio[TUNE_ROUNDS])
{
	f64 seconds[2];
	for (u32 i = 0; i < 2; i++) /* warms up */
		TRY(turn(&t[i], 2, &seconds[i]));
	u32 *n = &c->nturn[product];
	if (!*n)
		*n = (u32)fmin(1000, ceil(WINDOW * 2 / fmax(seconds[0], 1e-9)));
	for (u32 round = 0; round < TUNE_ROUNDS; round++) {
		for (u32 i = 0; i < 2; i++) { /* the first is the second in every other round */
			u32 which = (round + i) % 2;
			TRY(turn(&t[which], *n, &seconds[which]));
		}
		ratio[round] = seconds[1] / seconds[0];
	}
	return OK;
}

static Status measure_product(void *cx, u32 product, const CpuTuning *a, const CpuTuning *b, f64 ratio[TUNE_ROUNDS])
{
	Clock *c = cx;
	Arena tmp = ARENA("tune");
	const CpuTuning *tuning[2] = { a, b };
	Timed t[2];
	memset(t, 0, sizeof t);
	Status s = OK;
	for (u32 i = 0; i < 2 && !s; i++) {
		const Program *p = program_product(&tmp, products[product].m, products[product].n, products[product].k,
						   products[product].dtype, products[product].turned);
		s = timed_open(&tmp, p, &(DriverOptions){ .device = "cpu", .tuning = tuning[i] }, c->device, &t[i]);
	}
	if (!s)
		s = take_turns(c, product, t, ratio);
	for (u32 i = 0; i < 2; i++)
		timed_close(&t[i]);
	arena_free(&tmp);
	return s;
}

Status tune(Arena *a, const DeviceOptions *device, void (*say)(const char *what), Tuned *out)
{
	CpuMachine machine;
	Clock c = { .device = device };
	TRY(cpu_machine(NULL, &machine));
	machine.tuning = (CpuTuning){ 0 };
	say(arena_printf(a, "how to cut matrix products (now %s)", products_text(a, &machine)));
	return tune_search(&machine, COUNT(products), measure_product, &c, out);
}

const char *products_text(Arena *a, const CpuMachine *machine)
{
	Tile t = product_tile(machine, DT_f32, LARGE, LARGE);
	Blocks b = blocks_for(machine, t);
	return arena_printf(a, "tiles of %u x %u, pieces of %lld along K, %u panel%s together, for %lld rows", t.rows, tile_width(t),
			    (long long)b.k, b.panels, b.panels == 1 ? "" : "s", (long long)b.rows);
}
#endif
