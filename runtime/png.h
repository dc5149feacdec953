/* runtime/png.h: pictures as a PNG file, by libpng. */
#ifndef PL_PNG_H
#define PL_PNG_H
#include "support/status.h"

/* `count` pictures of [channels, height, width], from 0 to 1 (what is outside is cut), grey where channels is 1, red,
 * green and blue where it is 3: side by side in a square of rows. `x`: f32 values, at any address. */
PL_MUST_USE Status png_write_pictures(const char *path, const void *x, u32 count, u32 channels, u32 height, u32 width);

#endif
