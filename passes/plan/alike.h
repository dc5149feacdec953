/* passes/plan/alike.h: which layers of a model are alike, and how few of them tell all: a plan of a cluster has these alone (cluster.h), and each
 * stands for those that are like it. Layers are what lies under a scope with a number (scope_layer), in the order in which a program comes to them. */
#ifndef PL_PLAN_ALIKE_H
#define PL_PLAN_ALIKE_H
#include "ir/graph.h"

/* By layer what its nodes do: ops, types and attributes, in their order. What depends on no input, parameter or draw is left out: tables, such
 * as those of rotary positions, are made once, by the layer that comes first. */
typedef struct LayerKinds {
	u64 *kind;
	u32 n;
} LayerKinds;
LayerKinds layer_kinds(Arena *arena, const Program *p);

/* How many layers, from the first on, have one of each kind that lies between the first and the last, and a last one as the last; all->n, if
 * no fewer have. At least 3 of more. */
u32 layers_that_tell(const LayerKinds *all);

/* For each layer of the model the one of few planned ones, counted from 1, that it is like: the first is the first, the last the last, each between
 * is one between: itself, or else the one that is as far from both ends as can be. NULL: there is none for some layer, or a planned one stands for
 * none, as where the middle one alone is of its kind. */
u32 *layers_stand(Arena *arena, const LayerKinds *few, const LayerKinds *all);

#endif
