/* runtime/library/status.c: failures within an exported library: support/status.h without thread-local variables,
 * which a small linker need not know. A failure is copied to the caller's text at once; only more than 64 at one
 * time would overwrite each other. */
#include "support/status.h"

#include <stdatomic.h>

static Failure ring[64];
static atomic_uint next;

Status status_make(StatusCode code, const char *file, u32 line, const char *format, ...)
{
	Failure *f = &ring[atomic_fetch_add(&next, 1) % COUNT(ring)];
	f->code = code;
	f->file = file;
	f->line = line;
	va_list args;
	va_start(args, format);
	vsnprintf(f->text, sizeof f->text, format, args);
	va_end(args);
	return f;
}
