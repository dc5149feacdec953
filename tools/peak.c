/* tools/peak.c: see peak.h. */
#include "tools/peak.h"
#include "tools/kernel_time.h"

#include <string.h>

enum { ROUNDS = 3 };

f64 peak_of(Executor *x, const DriverOptions *driver, const DeviceOptions *device, PackageDtype dtype)
{
	enum { LEAST = 512, MOST = 8192 };
	f64 best = x->device->peak(x->state, dtype);
	if (best > 0 || x->device == &device_null)
		return best;
	/* larger ones until one takes long enough to fill the device */
	KernelTime t = { 0 };
	for (i64 n = LEAST; n <= MOST && t.seconds < 1e-3; n *= 2) {
		Arena tmp = ARENA("peak");
		Status s = kernel_time(program_product(&tmp, n, n, n, dtype == PACKAGE_BF16 ? DT_bf16 : DT_f32, false), driver, device, ROUNDS, &t);
		arena_free(&tmp);
		if (s || t.seconds <= 0)
			break;
		best = MAX(best, 2 * (f64)n * (f64)n * (f64)n / t.seconds);
	}
	return best;
}

f64 peak_published(const DeviceInfo *info, const char *precision)
{
	if (!precision || !strcmp(precision, "f32"))
		return 0;
	return !strcmp(precision, "fp8") && info->datasheet_f8 > 0 ? info->datasheet_f8 : info->datasheet;
}
