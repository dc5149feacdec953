/* ir/step.c: see step.h. */
#include "ir/step.h"

#include <string.h>

static const char *const part_name[] = {
	[STEP_INIT] = "init",       [STEP_FIRST] = "micro_first", [STEP_MORE] = "micro",
	[STEP_LAST] = "micro_last", [STEP_UPDATE] = "update",
};

StepName step_name(const char *entry)
{
	for (u32 i = STEP_INIT; i < COUNT(part_name); i++) {
		size_t n = strlen(part_name[i]);
		bool ends = !strncmp(entry, part_name[i], n) && (!entry[n] || (step_is_micro((StepPart)i) && strchr(".@", entry[n])));
		if (ends)
			return (StepName){ (StepPart)i, entry + n };
	}
	return (StepName){ STEP_NONE, entry + strlen(entry) };
}

bool step_is(const char *entry, StepPart part)
{
	StepName s = step_name(entry);
	return s.part == part && !*s.half;
}

const char *step_named(Arena *arena, StepPart part, const char *half)
{
	return arena_printf(arena, "%s%s", part_name[part], half);
}
