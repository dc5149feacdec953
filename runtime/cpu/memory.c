/* runtime/cpu/memory.c: see memory.h. Zeroing pages is what costs in a large allocation (a third of a
 * second per GiB on one core), so it is done once, by all threads, in pages of 2 MiB. */
#include "runtime/cpu/memory.h"
#include "support/control_group.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* The number after `field` in a file of /proc or /sys, or the first if `field` is NULL; false where
 * there is none ("max" is none). */
static bool read_number(const char *path, const char *field, u64 *out)
{
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	char line[512];
	bool found = false;
	size_t n = field ? strlen(field) : 0;
	while (!found && fgets(line, sizeof line, f)) {
		if (field && strncmp(line, field, n) != 0)
			continue;
		char *end;
		*out = strtoull(line + n, &end, 10);
		found = end != line + n;
	}
	fclose(f);
	return found;
}

/* What is left under a group's own limit; no limit: all. */
static void least_left(void *cx, const char *folder, bool second_version)
{
	static const struct {
		const char *limit, *used, *field;
	} version[] = {
		{ "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file " },
		{ "memory.max", "memory.current", "inactive_file " },
	};
	u64 *least = cx, limit, used, cache = 0;
	char path[1400];
	snprintf(path, sizeof path, "%s/%s", folder, version[second_version].limit);
	if (!read_number(path, NULL, &limit))
		return;
	snprintf(path, sizeof path, "%s/%s", folder, version[second_version].used);
	if (!read_number(path, NULL, &used))
		return;
	/* files that were read count as used, but give way */
	snprintf(path, sizeof path, "%s/memory.stat", folder);
	read_number(path, version[second_version].field, &cache);
	used -= MIN(cache, used);
	*least = MIN(*least, limit > used ? limit - used : 0);
}

u64 host_memory_granted(const char *root)
{
	u64 least = UINT64_MAX;
	control_groups(root, "memory", least_left, &least);
	return least;
}

size_t host_memory_available(void)
{
	u64 kb;
	if (!read_number("/proc/meminfo", "MemAvailable:", &kb))
		return 0;
	return (size_t)MIN(kb << 10, host_memory_granted(""));
}

size_t host_memory_peak(void)
{
	u64 kb;
	if (read_number("/proc/self/status", "VmHWM:", &kb))
		return (size_t)(kb << 10);
	struct rusage r;
	return getrusage(RUSAGE_SELF, &r) == 0 ? (size_t)r.ru_maxrss << 10 : 0;
}

u64 host_page_faults(void)
{
	struct rusage r;
	return getrusage(RUSAGE_SELF, &r) == 0 ? (u64)(r.ru_minflt + r.ru_majflt) : 0;
}

/* What is left under a limit of this process, of which it has used what that field of its status says; no limit: all. */
static u64 limit_left(int which, const char *field)
{
	struct rlimit limit;
	u64 kb = 0;
	if (getrlimit(which, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	read_number("/proc/self/status", field, &kb);
	return limit.rlim_cur > kb << 10 ? limit.rlim_cur - (kb << 10) : 0;
}

/* Of [base, base + size), what is on huge pages. */
static size_t huge_bytes(const u8 *base, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	if (!f)
		return 0;
	char line[512];
	bool inside = false;
	size_t bytes = 0;
	unsigned long from, to, kb;
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from < (uintptr_t)base + size && to > (uintptr_t)base;
		else if (inside && sscanf(line, "AnonHugePages: %lu kB", &kb) == 1)
			bytes += (size_t)kb << 10;
	}
	fclose(f);
	return MIN(bytes, size);
}

static void touch(void *argument, TaskRange r)
{
	const HostArena *a = argument;
	for (i64 i = r.begin; i < r.end; i++) {
		u8 *page = a->base + (size_t)i * HOST_HUGE_PAGE;
		size_t n = MIN(HOST_HUGE_PAGE, a->size - (size_t)i * HOST_HUGE_PAGE);
		/* small pages too, if the kernel gave those */
		for (size_t at = 0; at < n; at += 4096)
			*(volatile u8 *)(page + at) = 0;
	}
}

#define GIB(n) ((f64)(n) / (1u << 30))

/* Pages of a file instead of the arena's own, where there are parts that others may map. */
static Status share(HostArena *a, const HostRange *part, u32 n)
{
	if (!n)
		return OK;
	size_t whole = ALIGN_UP(a->size, HOST_HUGE_PAGE);
	int file = memfd_create("plinth", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, (off_t)whole) != 0) {
		int code = errno;
		if (file >= 0)
			close(file);
		return FAIL(STATUS_MEMORY, "cannot get %.2f GiB of memory that ranks share: %s", GIB(whole), strerror(code));
	}
	a->file = file;
	for (u32 i = 0; i < n; i++) {
		assert(part[i].offset + part[i].bytes <= a->size);
		size_t from = part[i].offset & ~(HOST_HUGE_PAGE - 1), to = ALIGN_UP(part[i].offset + part[i].bytes, HOST_HUGE_PAGE);
		if (from < to &&
		    mmap(a->base + from, to - from, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, (off_t)from) == MAP_FAILED)
			return FAIL(STATUS_MEMORY, "cannot map %.2f GiB of memory that ranks share: %s", GIB(to - from), strerror(errno));
	}
	return OK;
}

Status host_arena_create(size_t size, Threads *pool, HostArena *out)
{
	return host_arena_create_shared(size, NULL, 0, pool, out);
}

Status host_arena_create_shared(size_t size, const HostRange *part, u32 n, Threads *pool, HostArena *out)
{
	*out = (HostArena){ .file = -1 };
	size = MAX(size, (size_t)1);
	size_t available = host_memory_available();
	if (available && size > available)
		return FAIL(STATUS_MEMORY,
			    "the program needs %.2f GiB of memory, and this machine has %.2f GiB "
			    "free; lower the batch size, or set a `memory` budget so that the "
			    "compiler recomputes to fit",
			    GIB(size), GIB(available));
	size_t mapped = ALIGN_UP(size, HOST_HUGE_PAGE) + HOST_HUGE_PAGE;
	u64 space = limit_left(RLIMIT_AS, "VmSize:"), data = limit_left(RLIMIT_DATA, "VmData:");
	if (mapped < size || mapped > MIN(space, data))
		return FAIL(STATUS_MEMORY,
			    "the program needs %.2f GiB of memory, and this process may have %.2f GiB more "
			    "(ulimit -%c); lower the batch size, or set a `memory` budget",
			    GIB(size), GIB(MIN(space, data)), space < data ? 'v' : 'd');
	void *p = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return FAIL(STATUS_MEMORY, "cannot get %.2f GiB of memory: %s%s", GIB(size),
			    strerror(errno), errno == ENOMEM ? "; see ulimit -v" : "");
	out->mapping = p;
	out->mapped = mapped;
	out->base = (u8 *)ALIGN_UP((uintptr_t)p, HOST_HUGE_PAGE);
	out->size = size;
	Status s = share(out, part, n);
	if (s) {
		host_arena_destroy(out);
		return s;
	}
	/* where the kernel has no huge pages, small ones will do */
	madvise(out->base, ALIGN_UP(size, HOST_HUGE_PAGE), MADV_HUGEPAGE);
	i64 pages = (i64)((size + HOST_HUGE_PAGE - 1) / HOST_HUGE_PAGE);
	if (pool)
		threads_run(pool, touch, out, pages);
	else
		touch(out, (TaskRange){ .nthread = 1, .end = pages });
	out->huge = huge_bytes(out->base, size);
	return OK;
}

void host_arena_destroy(HostArena *a)
{
	if (a->mapping && a->file >= 0)
		close(a->file);
	if (a->mapping)
		munmap(a->mapping, a->mapped);
	*a = (HostArena){ .file = -1 };
}
