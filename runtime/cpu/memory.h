/* runtime/cpu/memory.h: the one allocation of a run: an arena of the size that the compiler planned, on
 * huge pages, given to this process before the first step and not after. */
#ifndef PL_MEMORY_H
#define PL_MEMORY_H
#include "runtime/cpu/threads.h"

#define HOST_HUGE_PAGE ((size_t)2 << 20)

typedef struct HostArena {
	u8 *base; /* aligned to 2 MiB, zeroed */
	size_t size;
	size_t huge; /* bytes of it on huge pages, as the kernel says */
	int file;    /* has what is shared of it, at the same offsets; -1: nothing is */
	/* private */
	void *mapping;
	size_t mapped;
} HostArena;

/* Fails with a comparison of numbers when it would not fit: into this machine's free memory, into
 * the control group's limit, or under the limits on address space and data (ulimit -v, -d). Every page is touched by the
 * thread of `pool` that gets the corresponding part of a run, for it to be near on machines with
 * several memory nodes; NULL: by the caller. */
PL_MUST_USE Status host_arena_create(size_t size, Threads *pool, HostArena *out);

/* A part of an arena. */
typedef struct HostRange {
	u64 offset, bytes;
} HostRange;
/* The same, with parts that other processes may map: the huge pages on which they lie are those of a file in memory. The kernel
 * gives small pages there, unless it is told otherwise (transparent_hugepage/shmem_enabled). */
PL_MUST_USE Status host_arena_create_shared(size_t size, const HostRange *part, u32 n, Threads *pool, HostArena *out);
void host_arena_destroy(HostArena *a);

/* Bytes that can still be had: free memory and what the kernel can take back, no more than what is
 * left under limits of control groups. 0: unknown. */
size_t host_memory_available(void);
/* What is left under those limits alone, by what lies below `root` ("" is this system); UINT64_MAX: there is none. */
u64 host_memory_granted(const char *root);
/* The largest amount of memory this process has had in use. */
size_t host_memory_peak(void);
/* Page faults of this process so far, those that read from a disk among them. */
u64 host_page_faults(void);

#endif
