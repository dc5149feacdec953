/* runtime/cuda/datasheet.c: what the maker says a GPU does at most: dense products of bf16 with f32 sums, without
 * sparsity. From NVIDIA's data sheets and architecture papers: A100 (2020), H100 (2022), H200 (2023), B200 (2024),
 * Ada Lovelace (2022: GeForce cards add up in f32 at half the rate), L4 and L40S (2023). */
#include "runtime/cuda/cuda.h"

#include <string.h>

/* The first that is part of the device's name, as the driver gives it. */
static const struct {
	const char *part;
	f64 tflops;
} sheet[] = {
	{ "H200 NVL", 835 },
	{ "GH200", 989 },
	{ "H200", 989 },
	{ "H100 PCIe", 756 },
	{ "H100 NVL", 835 },
	{ "H100", 989 }, /* "NVIDIA H100 80GB HBM3" is the SXM */
	{ "B200", 2250 },
	{ "A100", 312 },
	{ "A800", 312 },
	{ "H800", 989 },
	{ "L40S", 362 },
	{ "NVIDIA L4", 121 },
	{ "RTX 4090", 165 },
	{ "RTX 3090", 71 },
};

f64 cuda_datasheet(const char *device)
{
	for (u32 i = 0; i < COUNT(sheet); i++)
		if (strstr(device, sheet[i].part))
			return sheet[i].tflops * 1e12;
	return 0;
}
