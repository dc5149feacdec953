/* codegen/cpu/tuning.h: what a tuning run found best for matrix products on this processor, kept in the cache folder: one
 * file for each processor, its caches and the number of its registers. It is read once in a process, so that plan and code agree
 * whatever happens to the file meanwhile. What is in force goes into the keys of objects and into what a package says
 * it is made for. */
#ifndef PL_CPU_TUNING_H
#define PL_CPU_TUNING_H
#include "codegen/cpu/machine.h"
#include "support/arena.h"

/* The file for this machine, in a folder that exists. */
PL_MUST_USE Status tuning_path(Arena *a, const CpuMachine *machine, const char **path);
/* As text, and back: false where it is no tuning that this machine could have. */
const char *tuning_text(Arena *a, const CpuTuning *t);
bool tuning_read(const CpuMachine *machine, Str text, CpuTuning *out);

/* What the file says, read at the first call; all 0 where there is none, or one that is damaged. */
CpuTuning tuning_recorded(const CpuMachine *machine);

/* Another number where what files of this kind say may have changed, of whatever machine. */
u64 tuning_stamp(void);

/* Could this be the tuning of that machine? Its tile must be one of those that there are. */
bool tuning_valid(const CpuMachine *machine, const CpuTuning *t);
static inline bool tuning_any(const CpuTuning *t)
{
	return t->rows || t->k || t->panels || t->chunk;
}

#endif
