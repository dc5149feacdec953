/* tools/plan_space.h: what the options of a search (plan_search.h) leave to choose from: which sizes are held (`--mesh auto,tensor=8`), which
 * axes of the mesh the model's rules give texts and experts, and what may be computed again and divided (`--recompute`, `--schedule`, `--divided`). */
#ifndef PL_PLAN_SPACE_H
#define PL_PLAN_SPACE_H
#include "tools/plan_cluster.h"

/* Whether devices that have the same tokens divide these too, where no feature is divided: bits of Space.sequence. */
enum { SEQUENCE_WHOLE = 1, SEQUENCE_DIVIDED = 2 };
/* What attention divides over devices that have parts of texts: bits of Space.attention. */
enum { ATTENTION_RING = 1, ATTENTION_HEADS = 2 };

typedef struct Space {
	u32 tensor, expert, context, pipe, data, chunks; /* 0: any */
	Str texts;                      /* the mesh axis of `context`; empty: no rule divides texts */
	Str experts;                    /* that of `expert`: who has other sequences divides something else too; empty: there is none */
	u32 recompute;                  /* bits by Recompute */
	u32 divide;                     /* how many of `divided_name` */
	u32 sequence, attention;        /* bits */
} Space;

PL_MUST_USE Status space_read(Arena *arena, const Lm *lm, const ClusterOptions *o, Space *out);

#endif
