/* runtime/png.c: see png.h. */
#include "runtime/png.h"
#include "support/io.h"

#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

/* Of number `i` of what may lie at any address. */
static u8 level(const void *from, size_t i)
{
	f32 x;
	memcpy(&x, (const u8 *)from + i * sizeof x, sizeof x);
	return (u8)(x >= 1 ? 255 : x > 0 ? lrintf(x * 255) : 0); /* NaN is black */
}

Status png_write_pictures(const char *path, const void *x, u32 count, u32 channels, u32 height, u32 width)
{
	u32 across = (u32)ceil(sqrt((f64)count)), down = (count + across - 1) / across;
	png_image image = { .version = PNG_IMAGE_VERSION, .width = across * width, .height = down * height,
			    .format = channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY };
	if (channels != 1 && channels != 3)
		return FAIL(STATUS_INPUT, "a PNG picture has 1 or 3 channels, and this has %u", channels);
	size_t row = (size_t)image.width * channels;
	u8 *pixel = calloc(image.height, row);
	if (!pixel)
		return FAIL(STATUS_MEMORY, "no memory for a picture of %u x %u", image.width, image.height);
	for (u32 i = 0; i < count; i++)
		for (u32 c = 0; c < channels; c++)
			for (u32 y = 0; y < height; y++)
				for (u32 z = 0; z < width; z++)
					pixel[(i / across * height + y) * row + (i % across * width + z) * channels + c] =
						level(x, ((size_t)(i * channels + c) * height + y) * width + z);
	AtomicFile f;
	Status s = io_create(path, &f);
	if (!s && png_image_write_to_stdio(&image, f.file, 0, pixel, 0, NULL)) {
		s = io_commit(&f);
	} else if (!s) {
		io_abandon(&f);
		s = FAIL(STATUS_IO, "cannot write %s: %s", path, image.message);
	}
	free(pixel);
	return s;
}
