/* tools/plan_mesh.h: what the devices of a mesh will say to one another in a training step, and what each holds. */
#ifndef PL_TOOLS_PLAN_MESH_H
#define PL_TOOLS_PLAN_MESH_H
#include "tools/mesh.h"

/* Prints it for the source, divided by `mesh` and the rules of its shard block and `more`; sizes as driver.h. `json`: the same for programs. */
PL_MUST_USE Status plan_mesh(Lm *lm, const char *mesh, const TextList *more, const char *schedule, const char *sizes, const char *precision,
				 bool json);

#endif
