/* tools/peak.h: what a device reaches at a matrix product, the yardstick beside which a step's rate is printed: what
 * the device itself measures (runtime/device.h), or, where it knows no way (a GPU without cuBLASLt, a CPU without vector
 * instructions that are known), code that is generated for a square product. */
#ifndef PL_PEAK_OF_DEVICE_H
#define PL_PEAK_OF_DEVICE_H
#include "runtime/executor.h"
#include "tools/driver.h"

/* In FLOPs a second; operands of `dtype` (f32 or bf16), sums in f32. 0: not known. */
f64 peak_of(Executor *x, const DriverOptions *driver, const DeviceOptions *device, PackageDtype dtype);

/* What its maker says that it does at most, with the narrowest operands that products of this precision (NULL: f32) have on it, in FLOPs a
 * second. 0: not known, or f32. */
f64 peak_published(const DeviceInfo *info, const char *precision);

#endif
