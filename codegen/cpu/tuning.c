/* codegen/cpu/tuning.c: see tuning.h. */
#include "codegen/cpu/tuning.h"
#include "codegen/cpu/panel.h"
#include "support/io.h"

#include <dirent.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

/* Changes when what the numbers mean does, or the code that they were measured on. */
#define FORMAT "plinth products 3"

static Status folder_of(Arena *a, const char **folder)
{
	const char *cache;
	TRY(io_cache_folder(a, &cache));
	*folder = arena_printf(a, "%s/tuning", cache);
	return io_make_folder(*folder);
}

Status tuning_path(Arena *a, const CpuMachine *m, const char **path)
{
	const char *folder;
	TRY(folder_of(a, &folder));
	u64 size[] = { m->l1, m->l2, m->l3, m->lanes, m->registers, m->bf16_pairs };
	u64 h = hash_bytes(hash_bytes(HASH_SEED, m->features, strlen(m->features)), size, sizeof size);
	*path = arena_printf(a, "%s/%s-%016llx", folder, m->name, (unsigned long long)h);
	return OK;
}

const char *tuning_text(Arena *a, const CpuTuning *t)
{
	return arena_printf(a, FORMAT "\ntile %u %u\nk %u\npanels %u\nchunk %u\nend\n", t->rows, t->vectors, t->k, t->panels, t->chunk);
}

bool tuning_valid(const CpuMachine *m, const CpuTuning *t)
{
	enum { MOST = 1 << 16 };
	u32 rows, vectors;
	bool tile = !t->rows && !t->vectors;
	for (u32 i = 0; !tile && tile_at(m, i, &rows, &vectors); i++)
		tile = rows == t->rows && vectors == t->vectors;
	return tile && t->k <= MOST && t->k % 16 == 0 && t->panels <= STRIP_VECTORS && t->chunk <= MOST;
}

bool tuning_read(const CpuMachine *m, Str text, CpuTuning *out)
{
	CpuTuning t = { 0 };
	char copy[256];
	int end = 0;
	if (text.n >= sizeof copy)
		return false;
	snprintf(copy, sizeof copy, "%.*s", STR_ARG(text));
	if (sscanf(copy, FORMAT " tile %u %u k %u panels %u chunk %u end %n", &t.rows, &t.vectors, &t.k, &t.panels, &t.chunk, &end) != 5 ||
	    (size_t)end != text.n || !tuning_valid(m, &t))
		return false;
	*out = t;
	return true;
}

u64 tuning_stamp(void)
{
	Arena a = ARENA("tuning");
	const char *folder;
	u64 h = HASH_SEED;
	Status s = folder_of(&a, &folder);
	DIR *d = s ? NULL : opendir(folder);
	/* in no order in particular: their sum */
	for (struct dirent *e; d && (e = readdir(d));) {
		struct stat st;
		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, 0) != 0)
			continue;
		i64 of[] = { st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec };
		h += hash_bytes(hash_bytes(HASH_SEED, e->d_name, strlen(e->d_name)), of, sizeof of);
	}
	if (d)
		closedir(d);
	arena_free(&a);
	return h;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const CpuMachine *asking;
static CpuTuning recorded;

static void read_file(void)
{
	Arena a = ARENA("tuning");
	const char *path;
	Str text;
	/* no file is as good as none that can be read */
	Status s = tuning_path(&a, asking, &path);
	if (!s && io_exists(path) && !(s = io_read(&a, path, &text)))
		(void)tuning_read(asking, text, &recorded);
	arena_free(&a);
}

CpuTuning tuning_recorded(const CpuMachine *machine)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_lock(&lock);
	asking = machine;
	pthread_once(&once, read_file);
	pthread_mutex_unlock(&lock);
	return recorded;
}
