/* runtime/data/tensors.c: rows of one's own making: a safetensors file (or an index of several) whose tensors have the names of the
 * train block's inputs. The first dimension of each is the rows of the data, of which all have as many; the others are those of the
 * input. What NumPy and PyTorch make unasked is taken for what models have: i64 for i32 inputs, where the numbers fit, and f64 for f32.
 * An input `there: bool[B]` that the file does not have tells the rows of the data from those that fill a batch up. */
#include "runtime/checkpoint/safetensors.h"
#include "runtime/data/dataset.h"

#include <string.h>
#include <xxhash.h>

#define THERE "there"

typedef struct Rows {
	Safetensors file;
	u64 n;
} Rows;

typedef struct RowInput {
	const SafeTensor *tensor; /* NULL: `there` */
	u8 dtype;                 /* of the input */
	u64 elements, bytes;      /* of a row, as the model has it */
} RowInput;

typedef struct RowInputs {
	RowInput input[DATA_INPUTS];
	u32 n;
} RowInputs;

static Status rows_open(Arena *a, const DataOption *option, u32 n, Dataset *d)
{
	TRY(data_options(d, option, n, NULL, 0));
	Rows *r = NEW(a, Rows);
	TRY(safetensors_open(a, d->path, &r->file));
	d->own = r;
	d->hash = r->file.ntensor;
	for (u32 i = 0; i < r->file.ntensor; i++) {
		const SafeTensor *t = &r->file.tensor[i];
		if (t->npart)
			return FAIL(STATUS_INPUT, "%s: %s lies in parts, as several ranks wrote it", d->path, safe_quoted(a, str_of(t->name)));
		if (!t->rank)
			return FAIL(STATUS_INPUT, "%s: %s is a single number: the first dimension of each tensor is the rows of the data", d->path,
				    safe_quoted(a, str_of(t->name)));
		if (i && t->dim[0] != r->file.tensor[0].dim[0])
			return FAIL(STATUS_INPUT, "%s: %s has %lld rows, and %s has %lld: all have the rows of the data as their first dimension",
				    d->path, safe_quoted(a, str_of(r->file.tensor[0].name)), (long long)r->file.tensor[0].dim[0],
				    safe_quoted(a, str_of(t->name)), (long long)t->dim[0]);
		r->n = (u64)t->dim[0];
		d->hash = data_mix(d->hash, XXH3_64bits(t->name, strlen(t->name)));
		d->hash = data_mix(d->hash, XXH3_64bits(t->data.p, t->data.n));
	}
	if (!r->n)
		return FAIL(STATUS_INPUT, "%s: there are no rows in it", d->path);
	return OK;
}

static void rows_close(Dataset *d)
{
	Rows *r = d->own;
	if (r)
		safetensors_close(&r->file);
}

static const char *rows_find(Arena *a, const char *prefix, bool training)
{
	const char *part = arena_printf(a, "%s.%s.safetensors", prefix, training ? "train" : "val");
	return io_exists(part) ? part : training && io_exists(prefix) ? prefix : NULL;
}

/* Of a file's type for an input's; 0: it does not go. */
static u32 element_bytes(SafeDtype have, u8 want)
{
	static const struct {
		u8 have, want, bytes;
	} goes[] = {
		{ SAFE_F32, PACKAGE_F32, 4 }, { SAFE_F64, PACKAGE_F32, 4 }, { SAFE_F16, PACKAGE_F16, 2 }, { SAFE_BF16, PACKAGE_BF16, 2 },
		{ SAFE_I32, PACKAGE_I32, 4 }, { SAFE_I64, PACKAGE_I32, 4 }, { SAFE_I64, PACKAGE_I64, 8 }, { SAFE_I8, PACKAGE_I8, 1 },
		{ SAFE_U8, PACKAGE_U8, 1 },   { SAFE_BOOL, PACKAGE_B1, 1 },
	};
	for (u32 i = 0; i < COUNT(goes); i++)
		if (goes[i].have == have && goes[i].want == want)
			return goes[i].bytes;
	return 0;
}

static Status misfit(Arena *a, const Dataset *d, const PackageTensor *in, const SafeTensor *t)
{
	Buf want = { .arena = a };
	for (u32 i = 1; i < in->rank; i++)
		buf_printf(&want, ", %lld", (long long)in->dim[i]);
	return FAIL(STATUS_INPUT, "the input '%s' has rows of another shape or type than %s in %s: [B%s]", in->name,
		    safe_type_text(a, t->dtype, t->rank, t->dim), d->path, want.n ? want.text : "");
}

static Status rows_bind(Arena *a, const Dataset *d, DataInputs in, const void **bound, u64 *units)
{
	const Rows *r = d->own;
	RowInputs *b = NEW(a, RowInputs);
	if (in.n > DATA_INPUTS)
		return FAIL(STATUS_INPUT, "%u inputs are too many for a source of data", in.n);
	for (u32 i = 0; i < in.n; i++) {
		const PackageTensor *want = &in.input[i];
		RowInput *x = &b->input[b->n++];
		*x = (RowInput){ .tensor = safetensors_find(&r->file, want->name), .dtype = want->dtype, .elements = 1 };
		if (!want->rank || want->dim[0] != in.input[0].dim[0])
			return data_misfit(d, in, i, "does not have the rows of a batch as its first dimension");
		if (!x->tensor && !strcmp(want->name, THERE) && want->dtype == PACKAGE_B1 && want->rank == 1) {
			x->bytes = 1;
			continue;
		}
		if (!x->tensor)
			return FAIL(STATUS_INPUT, "the input '%s' has no source: %s has no tensor of that name", want->name, d->path);
		bool same = x->tensor->rank == want->rank;
		for (u32 k = 1; same && k < want->rank; k++) {
			same = x->tensor->dim[k] == want->dim[k];
			x->elements *= (u64)want->dim[k];
		}
		x->bytes = x->elements * element_bytes(x->tensor->dtype, want->dtype);
		if (!same || !element_bytes(x->tensor->dtype, want->dtype))
			return misfit(a, d, want, x->tensor);
	}
	*bound = b;
	*units = 1;
	return OK;
}

static u64 rows_rows(const Dataset *d, const void *bound, DataWalk walk)
{
	(void)bound, (void)walk;
	return ((const Rows *)d->own)->n;
}

/* A number of the file, which need not lie at a multiple of its size. */
static i64 integer_at(const u8 *from, u64 i)
{
	i64 x;
	memcpy(&x, from + i * sizeof x, sizeof x);
	return x;
}

static f64 real_at(const u8 *from, u64 i)
{
	f64 x;
	memcpy(&x, from + i * sizeof x, sizeof x);
	return x;
}

static Status rows_read(const Dataset *d, const void *bound, const DataPlace *at, u8 *const *to)
{
	const RowInputs *b = bound;
	for (u32 i = 0; i < b->n; i++) {
		const RowInput *x = &b->input[i];
		if (!x->tensor) {
			*to[i] = 1;
			continue;
		}
		const u8 *from = x->tensor->data.p + at->row * x->elements * safe_dtype_size(x->tensor->dtype);
		i32 *whole = (i32 *)(void *)to[i];
		f32 *real = (f32 *)(void *)to[i];
		if (x->tensor->dtype == SAFE_F64) {
			for (u64 k = 0; k < x->elements; k++)
				real[k] = (f32)real_at(from, k);
		} else if (x->tensor->dtype == SAFE_I64 && x->dtype == PACKAGE_I32) {
			for (u64 k = 0; k < x->elements; k++) {
				i64 v = integer_at(from, k);
				if (v != (i32)v)
					return FAIL(STATUS_INPUT, "%s: %s has %lld in row %llu, which is beyond i32", d->path, x->tensor->name,
						    (long long)v, (unsigned long long)at->row);
				whole[k] = (i32)v;
			}
		} else {
			memcpy(to[i], from, x->bytes);
			for (u64 k = 0; x->dtype == PACKAGE_B1 && k < x->bytes; k++)
				to[i][k] = to[i][k] != 0;
		}
	}
	return OK;
}

static void rows_pad(const void *bound, u8 *const *to)
{
	const RowInputs *b = bound;
	for (u32 i = 0; i < b->n; i++) {
		const RowInput *x = &b->input[i];
		memset(to[i], 0, x->bytes);
		i32 *whole = (i32 *)(void *)to[i];
		i64 *wide = (i64 *)(void *)to[i];
		for (u64 k = 0; x->dtype == PACKAGE_I32 && k < x->elements; k++)
			whole[k] = DATA_IGNORE;
		for (u64 k = 0; x->dtype == PACKAGE_I64 && k < x->elements; k++)
			wide[k] = DATA_IGNORE;
	}
}

static const char *rows_describe(const Dataset *d, Arena *a)
{
	const Rows *r = d->own;
	Buf all = { .arena = a };
	for (u32 i = 0; i < r->file.ntensor; i++) {
		const SafeTensor *t = &r->file.tensor[i];
		buf_printf(&all, "%s%s %s", i ? ", " : "", t->name, safe_type_text(a, t->dtype, t->rank - 1, t->dim + 1));
	}
	return arena_printf(a, "%llu rows of %s", (unsigned long long)r->n, all.text);
}

const DatasetKind dataset_tensors = { .name = "tensors",
				      .unit = "rows",
				      .gives = "each input the tensor of its name, [rows, ...]",
				      .open = rows_open,
				      .close = rows_close,
				      .find = rows_find,
				      .bind = rows_bind,
				      .rows = rows_rows,
				      .read = rows_read,
				      .pad = rows_pad,
				      .describe = rows_describe };
