/* tests/fuzz/fuzz_safetensors.c: any bytes at all, given to the safetensors reader. What it accepts
 * must lie in the file, cover it, and be found by name; what it refuses must say why. */
#include "runtime/checkpoint/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Arena a = ARENA("fuzz");
	Safetensors s;
	Status why = safetensors_parse(&a, "input", (Blob){ data, size }, &s);
	if (why) {
		must(why->code == STATUS_INPUT && strstr(why->text, "input") && !s.ntensor);
	} else {
		u64 at = s.file[0].header, sum = 0;
		for (u32 i = 0; i < s.ntensor; i++) {
			const SafeTensor *t = &s.tensor[i];
			NamedBuffer b = { .name = t->name, .dtype = t->dtype, .rank = t->rank, .dim = t->dim };
			must(t->begin == at && t->data.p == data + at);
			must(t->data.n == safe_buffer_bytes(&b));
			must(safetensors_find(&s, t->name) == t);
			for (size_t k = 0; k < t->data.n; k++)
				sum += t->data.p[k]; /* every byte is there */
			at += t->data.n;
		}
		must(at == size && sum <= 255 * (u64)size);
	}
	safetensors_close(&s);
	arena_free(&a);
	return 0;
}
