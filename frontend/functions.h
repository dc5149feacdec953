/* frontend/functions.h: the functions that the language has built in, for people: what `plinth explain --functions` prints
 * and docs/language.md lists. */
#ifndef PL_FUNCTIONS_H
#define PL_FUNCTIONS_H
#include "support/base.h"

/* The rows of builtins.def, then the ops that can be called by their names. `markdown`: as two tables. */
void functions_print(bool markdown, FILE *to);
/* The one of this name; false where there is none. */
bool function_print(const char *name, FILE *to);

#endif
