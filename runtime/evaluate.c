/* runtime/evaluate.c: see evaluate.h. */
#include "runtime/evaluate.h"
#include "runtime/data/loader.h"
#include "runtime/signals.h"
#include "runtime/views.h"
#include "support/clock.h"

#include <math.h>
#include <string.h>

static Status run(Executor *x, const BatchInputs *in, Loader *l, u8 *const *batch, u64 most, Evaluation *out)
{
	f64 sum = 0;
	const PackageTensor *loss = executor_result(in->entry, "loss_sum"), *count = executor_result(in->entry, "loss_count");
	for (;;) {
		u32 rows;
		bool more;
		/* the first batch at least, for the number to mean something */
		if (most && out->batches == most)
			break;
		out->stopped = out->batches && !x->comm && signals_requested();
		if (out->stopped)
			break;
		TRY(loader_next(l, batch, &rows, &more));
		if (!more) {
			out->whole = true;
			break;
		}
		TRY(batch_run(x, in, batch, NULL, NULL));
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

Status evaluate(Executor *x, const char *entry, const Dataset *data, u64 most, Evaluation *out)
{
	*out = (Evaluation){ 0 };
	f64 begin = clock_seconds();
	BatchInputs in;
	TRY(batch_inputs(x, entry, &in));
	Arena tmp = ARENA("evaluate");
	LoaderConfig config = { .order = LOADER_SEQUENTIAL, .input = in.input, .batch = in.rows * in.ranks,
				.rank = in.rank, .ranks = in.ranks, .ahead = 2 };
	Loader *l;
	Status s = loader_open(&tmp, data, config, &l);
	if (!s) {
		s = run(x, &in, l, batch_room(&tmp, &in), most, out);
		loader_close(l);
	}
	arena_free(&tmp);
	out->seconds = clock_seconds() - begin;
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
