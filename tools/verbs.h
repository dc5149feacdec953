/* tools/verbs.h: the verbs of the command line, and what they share: how failures are told and what
 * exit status they give (0 done, 1 the user's input is wrong, 2 the world is, 3 a stated budget or
 * contract does not hold). Only files in tools/ print to the terminal or decide an exit status. */
#ifndef PL_VERBS_H
#define PL_VERBS_H
#include "support/diag.h"
#include "support/status.h"
#include "tools/options.h"

#define VERB(name, help) int verb_##name(int argc, char **argv);
#include "tools/verbs.def"
#undef VERB

/* Says on stderr that `verb` failed; gives the exit status that the failure calls for. */
int verb_failed(const char *verb, Status why);
/* The same for a wrong command line, with what to type to learn more; gives 1. */
int verb_misused(const char *verb, const char *format, ...) PL_PRINTF(2, 3);

/* Prints what was collected to stderr (or as JSON lines to stdout); gives 1 if there was an error,
 * else 0. */
int verb_report(const Diag *d, bool json);

/* Whether what is written to `to` is seen by a person who wants colours: a terminal, and neither
 * NO_COLOR set nor TERM=dumb. */
bool wants_colour(FILE *to);

#endif
