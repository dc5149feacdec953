/* passes/plan/stream.c: which outputs are stored past the caches (non-temporal stores): those that no cache will hold any more
 * when they are read. An ordinary store first fetches the line that it writes, and pushes out others: for a large output that is not
 * read again soon, that is traffic for nothing.
 *
 * The plan knows the order of steps and what each moves, so it knows for every output how many bytes go by before something
 * reads or writes that memory again. Where the output alone is more than the last-level cache, and so many bytes go by, or nothing
 * asks for it until the entry ends, its slot says so (KSlot.streamed). What a step works on in place it has fetched anyway. */
#include "passes/plan/plan.h"

static u32 memory_of(const EntryPlan *e, u32 buffer)
{
	while (e->buffer.v[buffer].root != NONE)
		buffer = e->buffer.v[buffer].root;
	return buffer;
}

static bool uses(const EntryPlan *e, const Plan *p, u32 step, u32 memory)
{
	const Step *s = &e->step.v[step];
	for (u32 i = 0; i < p->kernel.v[s->kernel]->slot.n; i++)
		if (memory_of(e, s->slot[i]) == memory)
			return true;
	return false;
}

/* Bytes moved between this step and the next that uses the memory, as far as they decide; all that there can be where there is none. */
static f64 until_next_use(const EntryPlan *e, const Plan *p, u32 step, u32 memory, f64 enough)
{
	f64 moved = 0;
	for (u32 i = step + 1; i < e->step.n && moved < enough; i++) {
		const Kernel *k = p->kernel.v[e->step.v[i].kernel];
		if (uses(e, p, i, memory))
			return moved;
		moved += k->bytes_read + k->bytes_written;
	}
	return enough;
}

static bool far(const EntryPlan *e, const Plan *p, u32 step, u32 slot, f64 beyond)
{
	const Step *s = &e->step.v[step];
	const Kernel *k = p->kernel.v[s->kernel];
	const KSlot *x = &k->slot.v[slot];
	if (!p->target->streams[k->class] || !x->written || x->read || (f64)x->elements * dtype_info[x->dtype].bytes <= beyond)
		return false;
	u32 memory = memory_of(e, s->slot[slot]);
	for (u32 i = 0; i < k->slot.n; i++)
		if (i != slot && memory_of(e, s->slot[i]) == memory)
			return false;
	return until_next_use(e, p, step, memory, beyond) >= beyond;
}

void plan_stream(Plan *p, u64 beyond)
{
	if (!beyond)
		beyond = p->target ? p->target->last_cache : 0;
	if (!beyond || !p->target || p->sizes)
		return;
	/* a kernel that several steps run has one code: all of them must want it */
	for (u32 pass = 0; pass < 2; pass++)
		for (u32 i = 0; i < p->entry.n; i++)
			for (u32 step = 0; step < p->entry.v[i]->step.n; step++) {
				const EntryPlan *e = p->entry.v[i];
				Kernel *k = p->kernel.v[e->step.v[step].kernel];
				for (u32 s = 0; s < k->slot.n; s++) {
					bool here = far(e, p, step, s, (f64)beyond);
					k->slot.v[s].streamed = pass == 0 ? k->slot.v[s].streamed || here : k->slot.v[s].streamed && here;
				}
			}
}
