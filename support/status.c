/* support/status.c: see status.h. */
#include "support/status.h"

#include <string.h>

static _Thread_local Failure ring[16];
static _Thread_local u32 next;

Status status_make(StatusCode code, const char *file, u32 line, const char *format, ...)
{
	Failure *f = &ring[next++ % COUNT(ring)];
	f->code = code;
	f->file = file;
	f->line = line;
	va_list args;
	va_start(args, format);
	vsnprintf(f->text, sizeof f->text, format, args);
	va_end(args);
	return f;
}

Status status_context(Status s, const char *format, ...)
{
	if (!s)
		return OK;
	Failure *f = &ring[next++ % COUNT(ring)];
	Failure was = *s;
	*f = was;
	va_list args;
	va_start(args, format);
	int n = vsnprintf(f->text, sizeof f->text, format, args);
	va_end(args);
	size_t at = n < 0 ? 0 : MIN((size_t)n, sizeof f->text - 3);
	memcpy(f->text + at, ": ", 2);
	size_t room = sizeof f->text - at - 3, more = MIN(strlen(was.text), room);
	memcpy(f->text + at + 2, was.text, more);
	f->text[at + 2 + more] = 0;
	return f;
}

Status status_keep(Arena *a, Status s)
{
	return s ? COPYN(a, Failure, s, 1) : OK;
}

int status_exit(Status s)
{
	if (!s)
		return 0;
	return s->code == STATUS_INPUT ? 1 : s->code == STATUS_CONTRACT ? 3 : 2;
}
