/* tests/unit/find_model.h: what `use NAME` means in tests that elaborate models/: the file beside. */
#ifndef PL_FIND_MODEL_H
#define PL_FIND_MODEL_H
#include "support/io.h"

static inline bool find_model(void *cx, Arena *arena, const char *name, const char **path, Str *text)
{
	(void)cx;
	*path = arena_printf(arena, "%s/models/%s.plinth", SOURCE_DIR, name);
	return !io_read(arena, *path, text);
}

#endif
