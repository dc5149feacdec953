/* runtime/training.h: the training loop: micro-steps and update, metrics of every step, validation, samples,
 * checkpoints, and going on exactly where a checkpoint was made.
 *
 * Entries of the package: `init` (input seed), `micro_first` and `micro` (inputs as the data has them; the last micro-step is
 * `micro_last` where there is one), `update` (results loss, grad_norm, lr), and `eval`, and eval.NAME for more, where there is a
 * validation set. In the run's folder: checkpoints (checkpoint.h) and metrics.jsonl, one line for each step. What a step computes
 * depends on program, data, seed and the step's number alone. */
#ifndef PL_TRAINING_H
#define PL_TRAINING_H
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/data/dataset.h"
#include "runtime/evaluate.h"
#include "runtime/metrics.h"
#include "runtime/views.h"

#define TRAINING_METRICS "metrics.jsonl"

typedef struct TrainingConfig {
	Executor *executor;
	const Dataset *train, *validation; /* no validation: NULL */
	const char *run;                  /* the folder; made if missing */
	u64 steps, seed;
	u32 accumulate;                   /* micro-steps of a step */
	u64 evaluate_every;               /* 0: at the end only */
	u64 evaluate_batches;             /* of a periodic validation; 0: the whole set. The last one is whole */
	u64 checkpoint_every;             /* 0: at the end and when asked to stop only */
	u32 keep;                         /* checkpoints; 0: all */
	bool best;                        /* also that of the lowest validation loss, which is saved when it is known */
	u64 sample_every;                 /* 0: never */
	f64 peak;                         /* of the device, as measured, FLOPs per second; 0: unknown */
	f64 datasheet;                    /* the same as its maker states it; 0: unknown */
	u64 other_bytes;                  /* of memory, to be shown with the executor's own */
	bool changed;                     /* a checkpoint of another program is gone on from, as far as its tensors fit */
	bool save_trained;                /* checkpoints hold no frozen parameters: whoever resumes gives them */
	bool check_numerics;              /* every step is checked for values that are not finite */
	/* Each may be NULL. */
	void (*on_step)(void *cx, const StepMetrics *m);
	void (*on_save)(void *cx, u64 step);
	Status (*on_sample)(void *cx, u64 step);
	void *cx;
} TrainingConfig;

typedef struct Training Training;

typedef struct TrainingEnd {
	u64 step;           /* steps that are done, in this run of the program and before it */
	int signal;         /* what asked to stop, or 0 */
	StepMetrics last;   /* of the last step of this run; step 0: none was made */
	bool has_validation;
	Evaluation validation; /* the whole set, at the end; what eval.NAME said of it is in `last` */
	f64 seconds;
	f64 tflops;         /* per device, over all steps of this run */
	u64 best_step;      /* 0: none is kept */
	f64 best_loss;
	u64 resident_bytes; /* the most memory this process has had */
} TrainingEnd;

/* Checks that package, data and settings fit. The arena and what `config` points to must outlive it. */
PL_MUST_USE Status training_open(Arena *a, const TrainingConfig *config, Training **out);
void training_close(Training *t);

/* Then one of these, before training_run:
 * first values from the seed; weights_load may follow; */
PL_MUST_USE Status training_begin(Training *t);
/* or what a checkpoint holds (`path` as checkpoint_open); where it has no frozen parameters, training_initialize and
 * weights_load came before, and these stay as they are. Fails when program (unless it may be `changed`), data, batch or seed are not those
 * that it was made with; tensors that do not fit are told in `d`. */
PL_MUST_USE Status training_resume(Training *t, const char *path, Diag *d);

/* First values of all parameters from the seed. */
PL_MUST_USE Status training_initialize(Training *t);

/* Steps that are done. */
u64 training_step(const Training *t);

/* Until all steps are done, or SIGINT or SIGTERM came (signals.h): both save. A loss or gradient that is not
 * finite is a failure that says where it arose; nothing is saved after it. */
PL_MUST_USE Status training_run(Training *t, TrainingEnd *end);

#endif
