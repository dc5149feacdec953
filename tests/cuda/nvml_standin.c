/* tests/cuda/nvml_standin.c: a stand-in for libnvidia-ml.so.1: one GPU whose clock rises by 10 MHz with each look,
 * whose temperature is not told, and which the power limit holds back after the third look. */
#include <stdio.h>

struct NvmlDevice {
	int looks;
};
static struct NvmlDevice gpu;
static int users;

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct NvmlDevice **out);
int nvmlDeviceGetName(struct NvmlDevice *d, char *name, unsigned size);
int nvmlDeviceGetClockInfo(struct NvmlDevice *d, int kind, unsigned *mhz);
int nvmlDeviceGetMaxClockInfo(struct NvmlDevice *d, int kind, unsigned *mhz);
int nvmlDeviceGetPowerUsage(struct NvmlDevice *d, unsigned *milliwatts);
int nvmlDeviceGetTemperature(struct NvmlDevice *d, int sensor, unsigned *celsius);
int nvmlDeviceGetCurrentClocksThrottleReasons(struct NvmlDevice *d, unsigned long long *bits);
int standin_nvml_users(void);

int nvmlInit_v2(void)
{
	users++;
	gpu.looks = 0;
	return 0;
}

int nvmlShutdown(void)
{
	users--;
	return 0;
}

int standin_nvml_users(void)
{
	return users;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct NvmlDevice **out)
{
	*out = &gpu;
	return index ? 6 : 0; /* NVML_ERROR_NOT_FOUND */
}

int nvmlDeviceGetName(struct NvmlDevice *d, char *name, unsigned size)
{
	(void)d;
	snprintf(name, size, "Plinth stand-in (PTX on the CPU)");
	return 0;
}

int nvmlDeviceGetClockInfo(struct NvmlDevice *d, int kind, unsigned *mhz)
{
	*mhz = kind == 1 ? 1000u + 10u * (unsigned)d->looks++ : 2619u;
	return 0;
}

int nvmlDeviceGetMaxClockInfo(struct NvmlDevice *d, int kind, unsigned *mhz)
{
	(void)d, (void)kind;
	*mhz = 1980;
	return 0;
}

int nvmlDeviceGetPowerUsage(struct NvmlDevice *d, unsigned *milliwatts)
{
	(void)d;
	*milliwatts = 512500;
	return 0;
}

int nvmlDeviceGetTemperature(struct NvmlDevice *d, int sensor, unsigned *celsius)
{
	(void)d, (void)sensor, (void)celsius;
	return 3; /* NVML_ERROR_NOT_SUPPORTED */
}

int nvmlDeviceGetCurrentClocksThrottleReasons(struct NvmlDevice *d, unsigned long long *bits)
{
	*bits = d->looks > 3 ? 0x4 : 0x1; /* power, idle */
	return 0;
}
