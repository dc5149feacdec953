/* runtime/evaluate.c: see evaluate.h. */
#include "runtime/evaluate.h"
#include "runtime/data/loader.h"
#include "runtime/signals.h"
#include "runtime/views.h"

#include <math.h>
#include <string.h>
#include <time.h>

static f64 seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (f64)t.tv_sec + (f64)t.tv_nsec * 1e-9;
}

static Status run(Executor *x, const TokenInputs *in, Loader *l, i32 *tokens, i32 *targets, u64 most, Evaluation *out)
{
	f64 sum = 0;
	const PackageTensor *loss = executor_result(in->entry, "loss_sum"), *count = executor_result(in->entry, "loss_count");
	for (;;) {
		u32 rows;
		bool more;
		/* the first batch at least, for the number to mean something */
		if ((most && out->batches == most) || (out->batches && signals_requested()))
			break;
		TRY(loader_next(l, tokens, targets, &rows, &more));
		if (!more) {
			out->whole = true;
			break;
		}
		TRY(token_run(x, in, tokens, targets, NULL, NULL));
		f64 part, targets_of;
		TRY(executor_scalar(x, loss, NAN, &part));
		TRY(executor_scalar(x, count, NAN, &targets_of));
		sum += part;
		out->targets += targets_of;
		out->batches++;
	}
	out->loss = sum / out->targets;
	return OK;
}

Status evaluate(Executor *x, const Shards *shards, u64 most, Evaluation *out)
{
	*out = (Evaluation){ 0 };
	f64 begin = seconds();
	TokenInputs in;
	TRY(token_inputs(x, "eval", &in));
	Arena tmp = ARENA("evaluate");
	size_t n = (size_t)in.batch * in.window;
	LoaderConfig config = { .order = LOADER_SEQUENTIAL, .batch = in.batch, .window = in.window, .ahead = 2,
				.ignore = LOADER_IGNORE };
	Loader *l;
	Status s = loader_open(&tmp, shards, config, &l);
	if (!s) {
		s = run(x, &in, l, NEWN(&tmp, i32, n), NEWN(&tmp, i32, n), most, out);
		loader_close(l);
	}
	arena_free(&tmp);
	out->seconds = seconds() - begin;
	return s;
}

static f64 bits(const Evaluation *e, const Shards *shards, u64 units)
{
	return units ? e->loss / M_LN2 * (f64)shards->count / (f64)units : NAN;
}

f64 bits_per_byte(const Evaluation *e, const Shards *shards)
{
	return bits(e, shards, shards->text_bytes);
}

f64 bits_per_character(const Evaluation *e, const Shards *shards)
{
	return bits(e, shards, shards->text_characters);
}
