/* support/cache.c: see cache.h. No fsync: after a power cut an entry may be torn, which its
 * checksum finds. The time of the last use is the file's modification time, renewed once an hour at
 * most. */
#include "support/cache.h"
#include "support/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC 0x31656863616c70u /* "plcache1" as far as it goes */

typedef struct Header {
	u64 magic;
	CacheKey key;
	u64 size, checksum;
} Header;

struct Cache {
	const char *folder;
	u64 bound;
	atomic_bool grown;
	atomic_uint serial; /* makes temporary names differ between threads */
};

Status cache_open(Arena *a, const char *folder, u64 bound, Cache **out)
{
	if (!folder) {
		const char *base;
		TRY(io_cache_folder(a, &base));
		folder = arena_printf(a, "%s/objects", base);
	}
	TRY(io_make_folder(folder));
	Cache *c = NEW(a, Cache);
	c->folder = arena_strn(a, str_of(folder));
	c->bound = bound ? bound : (u64)512 << 20;
	*out = c;
	return OK;
}

CacheKey cache_key(const Blob *piece, u32 n)
{
	XXH3_state_t *state = XXH3_createState();
	XXH3_128bits_reset(state);
	for (u32 i = 0; i < n; i++) {
		u64 size = piece[i].n;
		XXH3_128bits_update(state, &size, sizeof size);
		if (size)
			XXH3_128bits_update(state, piece[i].p, size);
	}
	XXH128_hash_t h = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	return (CacheKey){ h.high64, h.low64 };
}

static void path_of(const Cache *c, CacheKey key, char path[4096])
{
	snprintf(path, 4096, "%s/%016llx%016llx", c->folder, (unsigned long long)key.high,
		 (unsigned long long)key.low);
}

static bool read_all(int fd, void *to, size_t n)
{
	for (u8 *p = to; n;) {
		ssize_t got = read(fd, p, n);
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

static bool write_all(int fd, const void *from, size_t n)
{
	for (const u8 *p = from; n;) {
		ssize_t put = write(fd, p, n);
		if (put <= 0)
			return false;
		p += put;
		n -= (size_t)put;
	}
	return true;
}

bool cache_get(const Cache *c, CacheKey key, Blob *out)
{
	char path[4096];
	path_of(c, key, path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	Header h;
	struct stat st;
	u8 *bytes = NULL;
	bool good = fstat(fd, &st) == 0 && read_all(fd, &h, sizeof h) && h.magic == MAGIC &&
		    h.key.high == key.high && h.key.low == key.low &&
		    (u64)st.st_size == sizeof h + h.size && (bytes = malloc(h.size + 1)) &&
		    read_all(fd, bytes, h.size) && XXH3_64bits(bytes, h.size) == h.checksum;
	if (good && time(NULL) - st.st_mtime > 3600)
		(void)!futimens(fd, NULL);
	close(fd);
	if (!good) {
		free(bytes);
		return false;
	}
	*out = (Blob){ bytes, h.size };
	return true;
}

void cache_put(Cache *c, CacheKey key, Blob bytes)
{
	char path[4096], temporary[4160];
	path_of(c, key, path);
	snprintf(temporary, sizeof temporary, "%s.%ld.%u.tmp", path, (long)getpid(),
		 atomic_fetch_add(&c->serial, 1));
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return;
	Header h = { MAGIC, key, bytes.n, XXH3_64bits(bytes.p, bytes.n) };
	bool good = write_all(fd, &h, sizeof h) && write_all(fd, bytes.p, bytes.n);
	good = close(fd) == 0 && good;
	if (!good || rename(temporary, path) != 0)
		unlink(temporary);
	else
		atomic_store(&c->grown, true);
}

typedef struct Entry {
	char name[80];
	u64 size;
	struct timespec used;
} Entry;

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const Entry *)a)->used, *y = &((const Entry *)b)->used;
	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

/* Is it a name that path_of or cache_put gives? Nothing else in the folder is touched. */
static bool is_ours(const char *name)
{
	size_t n = strspn(name, "0123456789abcdef");
	return n == 32 && (!name[n] || (name[n] == '.' && str_ends(str_of(name), STR(".tmp"))));
}

void cache_trim(Cache *c)
{
	if (!atomic_exchange(&c->grown, false))
		return;
	DIR *d = opendir(c->folder);
	if (!d)
		return;
	Entry *entry = NULL;
	size_t n = 0, cap = 0;
	u64 total = 0;
	for (struct dirent *e; (e = readdir(d));) {
		struct stat st;
		size_t length = strlen(e->d_name);
		if (!is_ours(e->d_name) || length >= sizeof entry->name ||
		    fstatat(dirfd(d), e->d_name, &st, 0) != 0)
			continue;
		if (n == cap) {
			cap = cap ? cap * 2 : 64;
			Entry *more = realloc(entry, cap * sizeof *entry);
			if (!more)
				break;
			entry = more;
		}
		memcpy(entry[n].name, e->d_name, length + 1);
		entry[n].size = (u64)st.st_size;
		entry[n++].used = st.st_mtim;
		total += (u64)st.st_size;
	}
	if (total > c->bound && n) {
		/* to nine tenths, so that not every run from now on has to delete something */
		qsort(entry, n, sizeof *entry, by_use);
		for (size_t i = 0; i < n && total > c->bound / 10 * 9; i++)
			if (unlinkat(dirfd(d), entry[i].name, 0) == 0)
				total -= entry[i].size;
	}
	free(entry);
	closedir(d);
}
