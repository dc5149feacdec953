/* tests/fuzz/fuzz_library.c: any bytes at all, given to the reader of weights that exported libraries have
 * (runtime/library/weights.c). What it finds must lie in the file, or be a copy, whole. */
#include "runtime/library/weights.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	PackageBuffer buffer[] = {
		{ .tensor = { .name = "w", .dtype = PACKAGE_F32, .rank = 2, .dim = { 2, 3 }, .bytes = 24 } },
		{ .tensor = { .name = "h.0.b", .dtype = PACKAGE_BF16, .rank = 1, .dim = { 3 }, .bytes = 6 } },
		{ .tensor = { .name = "s", .dtype = PACKAGE_F64, .rank = 0, .bytes = 8 } },
	};
	Package p = { .buffer = buffer, .nbuffer = COUNT(buffer) };
	const u8 *at[COUNT(buffer)] = { NULL };
	Arena a = ARENA("fuzz");
	LibraryWeights w = { .bytes = { data, size } };
	Status why = library_weights_find(&a, "input", &w, &p, at);
	u64 sum = 0;
	if (why) {
		if (why->code != STATUS_INPUT || !strstr(why->text, "input"))
			abort();
	} else {
		for (u32 i = 0; i < COUNT(buffer); i++)
			for (u64 k = 0; k < buffer[i].tensor.bytes; k++)
				sum += at[i][k]; /* every byte is there */
	}
	why = library_weights_verify("input", w.bytes);
	if (why && (why->code != STATUS_INPUT || !strstr(why->text, "input")))
		abort();
	arena_free(&a);
	return sum > UINT32_MAX;
}
