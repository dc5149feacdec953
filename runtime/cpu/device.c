/* runtime/cpu/device.c: the CPU as a device: threads divide the tasks of each kernel and never change what is
 * computed. The arena is the host's own memory, so that nothing is copied to read or write it. */
#include "runtime/device.h"
#include "runtime/comm/blocks.h"
#include "runtime/comm/comm.h"
#include "runtime/comm/share_map.h"
#include "runtime/cpu/bandwidth.h"
#include "runtime/cpu/peak.h"
#include "support/str.h"
#include "support/clock.h"

#include <string.h>
#include <unistd.h>

typedef struct Cpu {
	const Package *package;
	struct Comm *comm;
	ShareMap shared; /* with ranks beside this one */
	Threads *threads;
	HostArena arena;
	u8 *scratch;         /* of thread 0; that of thread t is scratch + t * scratch_size */
	size_t scratch_size;
	void **slot;         /* room for the addresses of one launch */
	u8 fetched[DEVICE_FETCHES][DEVICE_FETCH_BYTES];
	Arena memory;        /* of the fields above */
} Cpu;

static Status cpu_info(u32 index, DeviceInfo *out)
{
	(void)index;
	*out = (DeviceInfo){ .name = "CPU", .memory = (u64)sysconf(_SC_PHYS_PAGES) * (u64)sysconf(_SC_PAGESIZE),
			     .memory_free = host_memory_available() };
	return OK;
}

static Status cpu_open(const Package *package, const DeviceOptions *o, void **state)
{
	Arena memory = ARENA("cpu");
	Cpu *c = NEW(&memory, Cpu);
	c->package = package;
	c->comm = o->comm;
	TRY(threads_create(&(ThreadsOptions){ .count = o->threads, .pinned = o->pinned }, &c->threads));
	u32 most = 0;
	for (u32 i = 0; i < package->nentry; i++)
		for (u32 s = 0; s < package->entry[i].nstep; s++)
			most = MAX(most, package->entry[i].step[s].nslot);
	c->slot = NEWN(&memory, void *, most + 1);
	c->scratch_size = ALIGN_UP(package->thread_scratch, 4096);
	bool mesh = c->comm && package->mesh.n, shares = mesh && comm_local_ranks(c->comm) > 1;
	size_t arena = ALIGN_UP(package->arena_bytes, 4096), room = arena + c->scratch_size * threads_count(c->threads);
	HostRange *part = NULL;
	u32 npart = 0;
	if (shares)
		part = share_map_parts(&memory, package, room, &npart);
	Status s = host_arena_create_shared(room + (shares ? share_map_room(&package->mesh) : 0), part, npart, c->threads, &c->arena);
	if (!s && mesh) {
		s = share_map_open(c->comm, package, &c->arena, room, c->threads, &c->shared);
		if (s)
			host_arena_destroy(&c->arena);
	}
	if (s) {
		threads_destroy(c->threads);
		arena_free(&memory);
		return s;
	}
	c->scratch = c->arena.base + arena;
	c->memory = memory;
	*state = c;
	return OK;
}

static void cpu_close(void *state)
{
	Cpu *c = state;
	share_map_close(&c->shared);
	threads_destroy(c->threads);
	host_arena_destroy(&c->arena);
	Arena memory = c->memory;
	arena_free(&memory);
}

static DeviceBytes cpu_bytes(const void *state)
{
	const Cpu *c = state;
	return (DeviceBytes){ c->package->arena_bytes, c->arena.size - c->package->arena_bytes };
}

static u8 *cpu_memory(const void *state)
{
	return ((const Cpu *)state)->arena.base;
}

static Status cpu_write(void *state, u64 offset, const void *from, u64 bytes)
{
	memcpy(cpu_memory(state) + offset, from, bytes);
	return OK;
}

static Status cpu_read(void *state, u64 offset, void *to, u64 bytes)
{
	memcpy(to, cpu_memory(state) + offset, bytes);
	return OK;
}

static Status cpu_fetch(void *state, u64 offset, u32 bytes, u32 slot)
{
	memcpy(((Cpu *)state)->fetched[slot], cpu_memory(state) + offset, bytes);
	return OK;
}

static Status cpu_fetched(void *state, u32 slot, u32 bytes, void *to)
{
	memcpy(to, ((Cpu *)state)->fetched[slot], bytes);
	return OK;
}

typedef struct Launch {
	const Cpu *c;
	const PackageStep *step;
	i64 phase;
} Launch;

static void run_tasks(void *argument, TaskRange range)
{
	const Launch *l = argument;
	l->step->function(l->c->slot, l->step->number, l->c->arena.base + l->step->workspace,
			  l->c->scratch + range.thread * l->c->scratch_size, l->phase, range.begin, range.end);
}

static Status wait_for_others(Cpu *c, const PackageEntry *entry, u32 i, UnderWay *said)
{
	return under_way_end(said, entry, i) == NO_STEP ? OK : comm_wait(c->comm, said->n);
}

static Status begin_collective(Cpu *c, const PackageStep *s)
{
	if (!c->comm)
		return FAIL(STATUS_UNSUPPORTED, "%s: this is one device's part of a program, and there are no other ranks", s->name);
	return comm_begin(c->comm, c->shared.share, s, c->arena.base);
}

static Status cpu_run(void *state, const PackageEntry *entry, StepHook *hook, void *cx)
{
	Cpu *c = state;
	UnderWay said = { 0 };
	for (u32 i = 0; i < entry->nstep; i++) {
		const PackageStep *s = &entry->step[i];
		f64 begun = hook ? clock_seconds() : 0;
		TRY(wait_for_others(c, entry, i, &said));
		if (s->collective) {
			TRY(begin_collective(c, s));
			under_way_begin(&said, i);
			if (hook) /* a step that is watched is done when it is shown */
				TRY(wait_for_others(c, entry, entry->nstep, &said));
		}
		for (u32 k = 0; k < s->nslot; k++)
			c->slot[k] = c->arena.base + s->slot[k];
		for (u32 phase = 0; phase < s->nphase; phase++) {
			Launch l = { c, s, phase };
			if (s->tasks[phase] > 0)
				threads_run(c->threads, run_tasks, &l, s->tasks[phase]);
		}
		if (hook && !hook(cx, entry, i, clock_seconds() - begun))
			break;
	}
	return wait_for_others(c, entry, entry->nstep, &said);
}

static Status cpu_synchronize(void *state)
{
	(void)state;
	return OK;
}

static PeakKind peak_kind(PackageDtype dtype)
{
	return dtype == PACKAGE_BF16 ? PEAK_BF16 : PEAK_F32;
}

static f64 cpu_peak(void *state, PackageDtype dtype)
{
	return package_is_f8((u8)dtype) ? 0 : peak_measure(((Cpu *)state)->threads, peak_kind(dtype));
}

static f64 cpu_sustained(void *state, PackageDtype dtype)
{
	return peak_sustained(((Cpu *)state)->threads, peak_kind(dtype));
}

static Status cpu_bandwidth(void *state, f64 rate[DEVICE_MOVES])
{
	Bandwidth b;
	TRY(bandwidth_open(((Cpu *)state)->threads, 0, &b));
	for (int i = 0; i < DEVICE_MOVES; i++)
		rate[i] = bandwidth_measure(&b, (DeviceMove)i);
	bandwidth_close(&b);
	return OK;
}

static const char *cpu_describe(const void *state, Arena *a)
{
	const Cpu *c = state;
	u32 n = threads_count(c->threads);
	Buf b = { .arena = a };
	buf_printf(&b, "%u thread%s", n, n == 1 ? "" : "s");
	const char *before = ", memory shared over ";
	for (u32 m = 0; c->shared.share && m < c->package->mesh.n; m++)
		if (share_joins(c->shared.share, m)) {
			buf_printf(&b, "%s%s", before, c->package->mesh.axis[m].name);
			before = " and ";
		}
	return b.text;
}

static u32 cpu_choices(const void *state, Arena *a, const DeviceChoice **out)
{
	(void)state, (void)a;
	*out = NULL;
	return 0;
}

static Status cpu_choose(void *state, const DeviceChoice *choice, u32 n)
{
	return device_null.choose(state, choice, n);
}

const Device device_cpu = {
	.name = "cpu",
	.info = cpu_info,
	.open = cpu_open,
	.close = cpu_close,
	.bytes = cpu_bytes,
	.memory = cpu_memory,
	.write = cpu_write,
	.read = cpu_read,
	.fetch = cpu_fetch,
	.fetched = cpu_fetched,
	.run = cpu_run,
	.synchronize = cpu_synchronize,
	.peak = cpu_peak,
	.sustained = cpu_sustained,
	.bandwidth = cpu_bandwidth,
	.describe = cpu_describe,
	.choices = cpu_choices,
	.choose = cpu_choose,
};
