/* tests/fuzz/fuzz_source.c: any bytes as a source: the parser ends without a fault, and what it
 * accepts obeys the formatter's laws. */
#include "tests/syntax_laws.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const char *broken = syntax_law_broken((Str){ (const char *)data, size });
	if (broken) {
		fprintf(stderr, "%s\n", broken);
		abort();
	}
	return 0;
}
