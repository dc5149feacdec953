/* tests/fuzz/fuzz_ir.c: any bytes at all, given to the reader of IR text. What it accepts verifies,
 * and prints what reads back byte for byte, with the same hash; what it refuses has a message. What
 * it accepted then goes through passes that take symbols as they are. */
#include "passes/pass.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static char *text_of(const Program *p, size_t *n)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, n);
	program_print(p, to);
	fclose(to);
	return text;
}

static void reads_back(Arena *a, Ir *ir, const Program *p)
{
	size_t n, again;
	char *once = text_of(p, &n);
	const Program *same = program_parse(a, ir, (Str){ once, n }, 0);
	must(same != NULL);
	char *twice = text_of(same, &again);
	must(n == again && memcmp(once, twice, n) == 0);
	must(program_hash(p) == program_hash(same));
	free(once);
	free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1 << 16)
		return 0;
	Arena a = ARENA("fuzz");
	Diag d = { .arena = &a };
	Ir *ir = ir_new(&a, &d);
	Str text = { arena_strn(&a, (Str){ (const char *)data, size }), size };
	Program *p = program_parse(&a, ir, text, diag_source(&d, "input.plg", text));
	must((p == NULL) == (d.nerror > 0));
	if (p) {
		must(program_verify(p, &d));
		reads_back(&a, ir, p);
		PipelineOptions o = { .verify_each = true, .save_folder = "/nonexistent" };
		PassCx cx = { .out = &a, .ir = ir, .diag = &d, .options = &o };
		Status status;
		const Program *q = pipeline_run(STR("cse,prepare"), &cx, p, &status);
		must(q != NULL && !cx.broken);
		reads_back(&a, ir, q);
	}
	arena_free(&a);
	return 0;
}
