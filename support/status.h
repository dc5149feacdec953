/* support/status.h: what went wrong in the world: files, drivers, memory of a device, network.
 * A Status must be used. It says what was tried, what the world answered and what to do. NULL is
 * success; a failure lives in a per-thread ring of 16, long enough to travel to the command that
 * prints it (status_keep copies one that must live longer). */
#ifndef PL_STATUS_H
#define PL_STATUS_H
#include "support/arena.h"

/* What kind of trouble; decides the exit status (see status_exit). */
typedef enum StatusCode {
	STATUS_IO,          /* a file or stream: exit 2 */
	STATUS_DEVICE,      /* a device or its driver: exit 2 */
	STATUS_MEMORY,      /* not enough of it: exit 2 */
	STATUS_UNSUPPORTED, /* this machine or build cannot: exit 2 */
	STATUS_INPUT,       /* the user's file or option is wrong: exit 1 */
	STATUS_CONTRACT     /* a stated budget or promise does not hold: exit 3 */
} StatusCode;

typedef struct Failure {
	StatusCode code;
	const char *file; /* our source, for debugging */
	u32 line;
	char text[1000];
} Failure;

typedef const Failure *Status;

PL_MUST_USE Status status_make(StatusCode code, const char *file, u32 line, const char *format,
			       ...) PL_PRINTF(4, 5);
/* The same failure with words in front: "reading the checkpoint: ...". */
PL_MUST_USE Status status_context(Status s, const char *format, ...) PL_PRINTF(2, 3);
Status status_keep(Arena *a, Status s);
int status_exit(Status s); /* 0, 1, 2 or 3 */

#define OK                ((Status)NULL)
#define FAIL(code, ...)   status_make((code), __FILE__, __LINE__, __VA_ARGS__)
#define TRY(expression)                           \
	do {                                      \
		Status status_ = (expression);    \
		if (status_)                      \
			return status_;           \
	} while (0)

#endif
