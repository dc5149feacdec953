/* codegen/cpu/tuning.c: see tuning.h. */
#include "codegen/cpu/tuning.h"
#include "codegen/cpu/panel.h"
#include "support/io.h"

#include <pthread.h>
#include <string.h>

/* Changes when what the numbers mean does, or the code that they were measured on. */
#define FORMAT "plinth products 3"

Status tuning_path(Arena *a, const CpuMachine *m, const char **path)
{
	const char *folder;
	TRY(io_cache_folder(a, &folder));
	folder = arena_printf(a, "%s/tuning", folder);
	TRY(io_make_folder(folder));
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
