/* tools/plan_scale.h: `plinth plan MODEL --machine NAME --mesh data=8,tensor=8 --batch 512 --sweep devices=64..4096`: how a step's
 * time changes with devices along data, doubled from the first number to the second: strong scaling (the batch stays) and weak
 * scaling (the batch grows with the devices, from --batch at the first). Without --batch it is one micro-batch for each of the
 * most devices, which is the least that all of them can share. */
#ifndef PL_PLAN_SCALE_H
#define PL_PLAN_SCALE_H
#include "tools/plan_cluster.h"

/* A table, or JSON; a picture in `svg` if it is given. The exit status. */
int plan_scale(const ClusterOptions *o, const Machine *machine, i64 least, i64 most, const char *svg);

#endif
