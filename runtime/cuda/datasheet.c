/* runtime/cuda/datasheet.c: what the maker says a GPU does at most: dense products of bf16 and of 8 bits with f32 sums, without
 * sparsity. From NVIDIA's data sheets and architecture papers: A100 (2020), H100 (2022), H200 (2023), B200 (2024),
 * Ada Lovelace (2022: GeForce cards add up in f32 at half the rate), L4 and L40S (2023). */
#include "runtime/cuda/cuda.h"

#include <string.h>

/* The first that is part of the device's name, as the driver gives it. */
static const struct {
	const char *part;
	f64 bf16, f8; /* TFLOPS; no product of 8 bits: 0 */
} sheet[] = {
	{ "H200 NVL", 835, 1671 },
	{ "GH200", 989, 1979 },
	{ "H200", 989, 1979 },
	{ "H100 PCIe", 756, 1513 },
	{ "H100 NVL", 835, 1671 },
	{ "H100", 989, 1979 }, /* "NVIDIA H100 80GB HBM3" is the SXM */
	{ "B200", 2250, 4500 },
	{ "A100", 312, 0 },
	{ "A800", 312, 0 },
	{ "H800", 989, 1979 },
	{ "L40S", 362, 733 },
	{ "NVIDIA L4", 121, 242 },
	{ "RTX 4090", 165, 330 },
	{ "RTX 3090", 71, 0 },
};

f64 cuda_datasheet(const char *device, PackageDtype products)
{
	for (u32 i = 0; i < COUNT(sheet); i++)
		if (strstr(device, sheet[i].part))
			return (products == PACKAGE_F8E4M3 ? sheet[i].f8 : sheet[i].bf16) * 1e12;
	return 0;
}
