/* read.c: memory read once, as fast as a core can ask for it: what llama_cpp.py calls bytes from several threads with. */
#include <stddef.h>
#include <stdint.h>

uint64_t read_once(const uint64_t *from, size_t bytes)
{
	uint64_t sum[32] = { 0 };
	for (size_t i = 0; i + 32 <= bytes / sizeof *from; i += 32) {
		__builtin_prefetch(from + i + 256);
		__builtin_prefetch(from + i + 264);
		__builtin_prefetch(from + i + 272);
		__builtin_prefetch(from + i + 280);
		for (size_t k = 0; k < 32; k++)
			sum[k] += from[i + k];
	}
	uint64_t all = 0;
	for (size_t k = 0; k < 32; k++)
		all += sum[k];
	return all;
}
