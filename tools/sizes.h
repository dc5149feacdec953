/* tools/sizes.h: numbers for the symbols of a model's program (B, T), from an option such as --sizes B=8,T=256 over
 * those of the train block's batch. */
#ifndef PL_SIZES_H
#define PL_SIZES_H
#include "frontend/elaborate.h"
#include "support/status.h"

/* The symbols of the model's program, in order of first use. */
u32 sizes_symbols(Arena *a, const Model *m, const char ***symbol);

/* `given` (or NULL) may name only symbols that there are, each with a whole number of at least 1; with `bounds` it may be
 * "T<=256" too. `option`: what it is called, for the message. */
PL_MUST_USE Status sizes_check(Arena *a, const Model *m, const char *option, const char *given, bool bounds);

/* `given`, and "T<=2048" for each size that the export block says to be dynamic and `given` does not name. */
const char *sizes_dynamic(Arena *a, const Model *m, const char *given);

/* "B=8,T=256" of all symbols of the program, as the driver takes them; `missing`: those without a number, "B=..,T=..",
 * or NULL. */
const char *sizes_all(Arena *a, const Model *m, const char *given, const char **missing);
/* The same for who cannot do without: STATUS_INPUT says which have no number. */
PL_MUST_USE Status sizes_numbers(Arena *a, const Model *m, const char *given, const char **out);

#endif
