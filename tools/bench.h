/* tools/bench.h: what `plinth bench` measures, and how it is told. A training step is run as `plinth train` runs it:
 * micro-steps, the loss read, the update. Runs of some steps take turns with probes of what the machine can do
 * (arithmetic, memory) and with one profiled step each, so that a busy machine slows all alike; of each, the median
 * counts, and least and most stand beside it. Several programs may be open at once and take turns likewise: the ratio of
 * two of them is formed of runs that followed one another. */
#ifndef PL_BENCH_H
#define PL_BENCH_H
#include "runtime/cuda/nvml.h"
#include "tools/lm.h"
#include "tools/roofline.h"

typedef struct BenchOptions {
	const RunOptions *run;
	const char *precision;
	u32 runs, steps;    /* steps 0: as many as take about a second */
	bool forward;       /* the entry `forward` alone instead of a training step */
	bool cold;          /* the compiler's cache is neither read nor written */
	bool no_probes;     /* limits stay unknown */
	u64 memory;         /* bytes that a step may take; 0: as the train block says */
	u32 repeat;         /* of each kernel in a profile, one behind the other; 1: as in a step */
	const Dataset *data; /* NULL: random inputs */
	f64 started;        /* clock_seconds() when the command began */
} BenchOptions;

/* One entry as a step runs it. */
typedef struct BenchEntry {
	const PackageEntry *entry, *profiled; /* `profiled`: with repeats, else the same */
	u32 times;    /* that it runs in a step */
	u32 *of;      /* [profiled->nstep] the entry's step */
	f64 *seconds; /* [profile * nstep + step] all times together; with repeats, the least of them, times `times` */
} BenchEntry;

enum { BENCH_ENTRIES = 3 };

/* What is compared: one program. */
typedef struct BenchPoint {
	const char *sizes;  /* "B=8,T=256" */
	const char *name;   /* "B=8,T=256,memory=2GiB" */
	u64 memory;         /* of BenchOptions */
	u64 stream_beyond;  /* DriverOptions.stream_beyond */
} BenchPoint;

/* One program on one machine: all that is measured for one choice of sizes and memory. */
/* Seconds on the way to the first step, apart from one another. */
typedef struct BenchStart {
	f64 launch;  /* from the command to the first launch of the step, without the two below */
	f64 memory;  /* the device and its memory, each page of which is touched once */
	u64 faults;  /* page faults meanwhile */
	f64 values;  /* parameters' first values */
	f64 step;    /* from the command to the end of the first step */
} BenchStart;

typedef struct Bench {
	Lm *lm;
	BenchOptions options;
	BenchPoint point;
	struct Meter *meter; /* what it holds while it is measured */
	const char *failed; /* why there are no numbers; NULL: there are */
	LmRun run;
	/* what a step is */
	BenchEntry entry[BENCH_ENTRIES];
	u32 nentry, accumulate;
	f64 tokens;
	f64 flops, flops_full;          /* the model's: causal attention as its half, as the full square */
	f64 kernel_flops, kernel_bytes; /* of all its kernels */
	f64 optimizer_bytes;            /* of those that change what lasts, in its update */
	/* the machine */
	const char *device, *machine; /* "cpu", "2 threads, znver4" */
	Spread peak[OPERANDS];        /* FLOPs a second */
	Spread bandwidth[DEVICE_MOVES];
	Limits limit;  /* medians; of bandwidth, the best of the kinds */
	f64 step_peak; /* that of what its matrix products take */
	f64 datasheet; /* dense peak as published, FLOPs a second; 0: unknown */
	f64 load[2];   /* of the last minute, before and after */
	bool has_clocks;                            /* of a GPU, while steps ran: */
	Spread sm_mhz, memory_mhz, watts, celsius;
	f64 most_mhz, limit_watts;                  /* 0: unknown */
	u64 held;                                   /* GPU_HELD_ */
	/* measured */
	u32 steps;                     /* of a run */
	f64 *run_seconds;              /* [runs] a step's */
	Spread step;                   /* seconds */
	Spread beside;                 /* a run's over that of the first program in the same round; n = 0: no turns were taken */
	BenchStart start;
	f64 loss[2];                   /* of the first step and the last: that it did something */
	u64 held_bytes;                /* on the device: the arena and what is beside it */
	u64 resident_before, resident; /* the most in use by the process, before its arena and at the end */
	KernelRun *kernel;
	u32 nkernel;
	KernelGroup *group;
	u32 ngroup;
	Spread kernels; /* seconds of all kernels of a profiled step */
	Bound bound;    /* of the step: the sum over its kernels */
	/* Of the limit, which is the model's FLOPs at the peak and the optimizer's bytes at the bandwidth: by the peak that was kept up
	 * around a run, of each run; by the best that was seen. n = 0: unknown */
	Spread sustained, limit_seconds, of_limit, of_best_limit;
} Bench;

/* Compiles, allocates, runs the first steps. What the world refuses is out->failed where `lenient`, else a failure. All that
 * `out` holds lies in the arena of `lm`, and its package until bench_close. */
PL_MUST_USE Status bench_open(Lm *lm, const BenchOptions *options, BenchPoint point, bool lenient, Bench *out);
/* The next of options->runs runs, with its probes and its profile. */
PL_MUST_USE Status bench_round(Bench *b);
/* After the last round: what came out; `first`: of the programs that took turns, or NULL. */
void bench_finish(Bench *b, const Bench *first);
/* Gives back the memory of the run; reports need none of it. */
void bench_release(Bench *b);
void bench_close(Bench *b);

/* ---- reports ---- */

/* For people; kernels until `told` of their time is told, longest first. */
void bench_print(const Bench *b, u32 n, f64 told, FILE *to);
void bench_print_csv(const Bench *b, u32 n, FILE *to); /* a row for each step and kernel */
void bench_print_json(const Bench *b, u32 n, FILE *to);
/* A Perfetto trace (Chrome trace events) of a profiled step. */
PL_MUST_USE Status bench_trace(const Bench *b, const char *path);

#endif
