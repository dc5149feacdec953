/* tools/verb_run.c: `plinth run MODEL --weights FILE --input ...`: a model's outputs for texts and tensors. */
#include "runtime/views.h"
#include "support/float8.h"
#include "tools/export_shrink.h"
#include "tools/run_inputs.h"
#include "tools/verbs.h"

#include <string.h>

static SourceOptions source;
static RunOptions where;
static TextList inputs;
static const char *weights, *lines, *tokenizer, *output, *precision, *store, *entry = "forward";
static i64 group;
static bool json;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "weights", 'w', OPTION_TEXT, &weights, "FILE", "parameters: a checkpoint, a run's folder, safetensors; several, with commas" },
	{ "input", 'i', OPTION_LIST, &inputs, "INPUT", "a text; NAME=text; NAME=x.npy; x.safetensors" },
	{ "lines", 0, OPTION_TEXT, &lines, "FILE", "each line is a text (- is standard input)" },
	{ "tokenizer", 0, OPTION_TEXT, &tokenizer, "FILE", "tokenizer.json, *.model or vocab.txt; that beside the weights by default" },
	{ "entry", 0, OPTION_TEXT, &entry, "NAME", "what to run: forward, the model itself, by default" },
	{ "output", 'o', OPTION_FILE, &output, "FILE", "write all results: *.safetensors, or *.json" },
	{ "precision", 0, OPTION_TEXT, &precision, "TYPE", "f32, bf16: what matrix multiplies and attention take; f32 by default, of a package what that was compiled with" },
	{ "store", 0, OPTION_TEXT, &store, "TYPE", "how matrices are kept in memory: f32, bf16, f16, int8, int4; of the entries forward and eval" },
	{ "group", 0, OPTION_COUNT, &group, "N", "weights that share a factor, with int8 and int4: 32 by default" },
	{ "json", 'j', OPTION_FLAG, &json, NULL, "print all results as JSON" },
	RUN_OPTIONS(where),
};

static const OptionRule rules[] = {
	{ RULE_NEEDS, "group", "store", "matrices are kept as they are without" },
};

static const Command command = {
	.name = "run",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Runs a model on inputs and shows what it gives. MODEL is a source, the folder of a\n"
		 "run, or a package. Texts go through the tokenizer beside the weights (or --tokenizer)\n"
		 "to the input `tokens`, or `source`; several are one batch, which `keep` says the\n"
		 "lengths of. Other inputs are arrays as numpy.save writes them, or tensors of a\n"
		 "safetensors file. What is printed is cut short: -o FILE and --json have all of it.",
	.example = "  plinth run models/bert.plinth --preset minilm --weights model.safetensors \\\n"
		   "         --input \"a sentence\"\n"
		   "  plinth run models/vit.plinth --weights runs/vit --input images=x.npy -o y.safetensors",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

/* A result on the host. */
typedef struct RunResult {
	const PackageTensor *t;
	u8 *data;
	i64 dim[10]; /* fewer rows than the entry's, where texts filled fewer */
} RunResult;

static f64 number_at(const RunResult *r, u64 i)
{
	u16 half;
	f32 single;
	f64 wide;
	i32 i4;
	i64 i8byte;
	u32 u4;
	switch ((PackageDtype)r->t->dtype) {
	case PACKAGE_F32: memcpy(&single, r->data + 4 * i, 4); return (f64)single;
	case PACKAGE_F64: memcpy(&wide, r->data + 8 * i, 8); return wide;
	case PACKAGE_BF16: memcpy(&half, r->data + 2 * i, 2); return (f64)f32_from_bf16(half);
	case PACKAGE_F8E4M3: return (f64)f32_from_f8e4m3(r->data[i]);
	case PACKAGE_F8E5M2: return (f64)f32_from_f8e5m2(r->data[i]);
	case PACKAGE_F16: memcpy(&half, r->data + 2 * i, 2); return (f64)f32_from_f16(half);
	case PACKAGE_I32: memcpy(&i4, r->data + 4 * i, 4); return i4;
	case PACKAGE_I64: memcpy(&i8byte, r->data + 8 * i, 8); return (f64)i8byte;
	case PACKAGE_U32: memcpy(&u4, r->data + 4 * i, 4); return u4;
	case PACKAGE_I8: return (i8)r->data[i];
	case PACKAGE_U8:
	case PACKAGE_B1: return r->data[i];
	default: NEVER("a result of another type");
	}
}

static bool is_real(const RunResult *r)
{
	return r->t->dtype >= PACKAGE_F8E4M3;
}

/* Nested lists; numbers that JSON has no word for are null. */
static void put_json(FILE *to, const RunResult *r, u32 d, u64 *at)
{
	if (d == r->t->rank) {
		f64 x = number_at(r, (*at)++);
		if (!(x - x == 0))
			fputs("null", to);
		else
			fprintf(to, is_real(r) ? "%.9g" : "%.0f", x);
		return;
	}
	fputc('[', to);
	for (i64 i = 0; i < r->dim[d]; i++) {
		if (i)
			fputc(',', to);
		put_json(to, r, d + 1, at);
	}
	fputc(']', to);
}

static void put_all(FILE *to, const RunResult *r, u32 n)
{
	fputc('{', to);
	for (u32 i = 0; i < n; i++) {
		u64 at = 0;
		fprintf(to, "%s\"%s\":", i ? "," : "", r[i].t->name);
		put_json(to, &r[i], 0, &at);
	}
	fputs("}\n", to);
}

/* Each row of the last axis, the first and last of many. */
static void show(Arena *a, const RunResult *r)
{
	enum { ROWS = 20, ELEMENTS = 8 };
	u64 rows = 1, size = r->t->rank ? (u64)r->dim[r->t->rank - 1] : 1;
	for (u32 d = 0; d + 1 < r->t->rank; d++)
		rows *= (u64)r->dim[d];
	printf("%s  %s\n", r->t->name, safe_type_text(a, safe_dtype_of((PackageDtype)r->t->dtype), r->t->rank, r->dim));
	for (u64 row = 0; row < rows; row++) {
		if (rows > ROWS && row == ROWS / 2) {
			printf("  ... %llu rows more\n", (unsigned long long)(rows - ROWS));
			row = rows - ROWS / 2;
		}
		putchar(' ');
		for (u64 i = 0; i < size; i++) {
			if (size > ELEMENTS && i == ELEMENTS - 2) {
				printf(" ...");
				i = size - 2;
			}
			printf(is_real(r) ? " %.6g" : " %.0f", number_at(r, row * size + i));
		}
		putchar('\n');
	}
}

static Status write_output(Arena *a, const RunResult *r, u32 n)
{
	if (str_ends(str_of(output), STR(".json"))) {
		AtomicFile f;
		TRY(io_create(output, &f));
		put_all(f.file, r, n);
		return io_commit(&f);
	}
	NamedBuffer *b = NEWN(a, NamedBuffer, n);
	for (u32 i = 0; i < n; i++)
		b[i] = (NamedBuffer){ .name = r[i].t->name, .dtype = safe_dtype_of((PackageDtype)r[i].t->dtype), .rank = r[i].t->rank,
				      .dim = r[i].dim, .data = r[i].data };
	return safetensors_write(output, b, n, NULL, 0, NULL);
}

/* Results whose rows are the texts have as many of them as there are texts. */
static Status read_results(Arena *a, const RunInputs *in, Executor *x, const PackageEntry *e, RunResult **out)
{
	RunResult *r = *out = NEWN(a, RunResult, e->nresult + 1);
	i64 batch = in->rows && e->ninput && e->input[0].rank ? e->input[0].dim[0] : -1;
	for (u32 i = 0; i < e->nresult; i++) {
		r[i] = (RunResult){ .t = &e->result[i], .data = arena_push(a, 1, e->result[i].bytes + 1, 16) };
		memcpy(r[i].dim, r[i].t->dim, sizeof r[i].dim);
		if (r[i].t->rank && r[i].dim[0] == batch)
			r[i].dim[0] = in->rows;
		TRY(executor_read(x, r[i].t, r[i].data));
	}
	return OK;
}

static Status run_compiled(Lm *lm, const RunInputs *in, const Shrink *shrink, LmRun *run, const char *from)
{
	TRY(lm_executor(run, &where));
	TRY(shrink->kind ? shrink_into(lm, shrink, from, run) : lm_weights(lm, run, from));
	const PackageEntry *e = package_entry(run->package, entry);
	RunResult *r;
	TRY(run_inputs_write(in, run->executor, e));
	TRY(executor_run(run->executor, e, NULL, NULL));
	TRY(read_results(&lm->arena, in, run->executor, e, &r));
	if (output)
		TRY(write_output(&lm->arena, r, e->nresult));
	if (json)
		put_all(stdout, r, e->nresult);
	for (u32 i = 0; i < e->nresult && !json && !output; i++)
		show(&lm->arena, &r[i]);
	return OK;
}

static Status run(Lm *lm)
{
	const char *from = weights ? weights : lm->operand.checkpoint;
	if (!from)
		return FAIL(STATUS_INPUT, "which parameters? --weights FILE, or a run's folder in place of the source");
	if (store && strcmp(entry, "forward") && strcmp(entry, "eval"))
		return FAIL(STATUS_INPUT, "--store is for the entries forward and eval, not %s", entry);
	RunInputs in;
	TRY(run_inputs(lm, entry, &inputs, lines, tokenizer, weights, &in));
	LmCompile how = { .entry = &entry, .nentry = 1, .precision = precision || lm->file ? precision : "f32", .sizes = in.sizes, .run = &where };
	LmRun r = { 0 };
	Shrink shrink;
	TRY(shrink_for(lm, store, group, &shrink, &how));
	Status s = lm_compile(lm, &how, &r);
	if (!s)
		s = run_compiled(lm, &in, &shrink, &r, from);
	lm_run_close(&r);
	return s;
}

int verb_run(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	if (output && !str_ends(str_of(output), STR(".json")) && !str_ends(str_of(output), STR(".safetensors")))
		return verb_misused("run", "--output %s: *.safetensors, or *.json", output);
	Lm lm;
	Status s = lm_open(operand[0], &source, &lm);
	if (!s)
		s = run(&lm);
	status = s ? lm_failed("run", &lm, s) : 0;
	lm_close(&lm);
	return status;
}
