/* tools/turns.h: what several measurements of one time, apart from one another, say of it, and whether they can be trusted.
 * Who else is on a machine only adds to a time, never takes from it: the least is nearest to what the work itself takes,
 * and where others come to the same, it is that. Where none do, somebody was there in nearly all of them;
 * and who was there all the time is told by how long threads waited for a core (support/run_queue.h). */
#ifndef PL_TURNS_H
#define PL_TURNS_H
#include "support/arena.h"

typedef struct Turn {
	f64 seconds;
	f64 waited; /* share of it in which a thread waited for a core */
} Turn;

typedef struct Settled {
	f64 seconds; /* the least that a third of the turns come to, two at least: of three, the median; the least of all where it is disturbed */
	f64 off;     /* by what share others made it longer, as far as is known */
} Settled;

/* Of at least one turn; they are sorted by what they took. */
Settled turns_settle(Turn *turn, u32 n);
/* Is that more than turns differ where nobody else is? */
bool turns_disturbed(Settled s);

/* What of a machine was disturbed. */
typedef struct Disturbed {
	const char *name; /* "effort", "matmul" */
	f64 at;           /* a point of the curve; 0: a number */
	f64 off;
} Disturbed;

/* "matmul from 25.4 to 813 by up to 31%, effort by 40%": points of a curve together, in the order given. NULL: nothing was. */
const char *turns_disturbed_text(Arena *a, const Disturbed *d, u32 n);

#endif
