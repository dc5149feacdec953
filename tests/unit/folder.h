/* tests/unit/folder.h: a folder of files for the tests of one program: made before them (make_folder, a group's set-up),
 * removed after them with the arena (remove_folder); and what such tests say of statuses. */
#ifndef PL_TEST_FOLDER_H
#define PL_TEST_FOLDER_H
#include "support/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static Arena arena;
static const char *folder;

static inline void good(Status s)
{
	if (s)
		fail_msg("%s", s->text);
}

/* It is refused, as input that cannot be, in words among which `what` is. */
static inline void refused(Status s, const char *what)
{
	if (!s || !strstr(s->text, what))
		fail_msg("'%s' is not in: %s", what, s ? s->text : "success");
	assert_int_equal(s->code, STATUS_INPUT);
}

static inline const char *path_of(const char *name)
{
	return arena_printf(&arena, "%s/%s", folder, name);
}

static inline int make_folder(void **state)
{
	(void)state;
	static char name[] = "/tmp/plinth-test-XXXXXX";
	folder = mkdtemp(name);
	return !folder;
}

static inline int remove_folder(void **state)
{
	(void)state;
	int failed = system(arena_printf(&arena, "rm -rf '%s'", folder));
	arena_free(&arena);
	return failed;
}

#endif
