/* runtime/library/library.c: an exported model in someone's program; see library.h. It is the CPU device
 * (runtime/cpu/device.c) turned inside out: memory is the caller's. A step's slots are parameters, read where the
 * weights file is mapped; inputs and results, wherever the caller has them; or lie in the workspace. */
#include "runtime/library/library.h"
#include "support/cpu_features.h"
#include "runtime/cpu/threads.h"

#include <stdlib.h>
#include <string.h>

struct Library {
	LibraryBase base;    /* first: see library_describe */
	LibraryWeights weights;
	const u8 **buffer;   /* [package.nbuffer]; NULL: kept between runs, in the caller's state */
	u64 transient, scratch; /* bytes of the workspace: values; of each thread; where sizes are given to runs, these are 0 */
	PackageLayout *layout;  /* [package.nentry], then */
	u32 most_blocks;        /* of an entry */
};

static const char *const dtype_name[] = { [PACKAGE_B1] = "b1", [PACKAGE_U8] = "u8", [PACKAGE_U32] = "u32", [PACKAGE_I8] = "i8",
					  [PACKAGE_I32] = "i32", [PACKAGE_I64] = "i64", [PACKAGE_F8E4M3] = "f8e4m3",
					  [PACKAGE_F8E5M2] = "f8e5m2", [PACKAGE_F16] = "f16",
					  [PACKAGE_BF16] = "bf16", [PACKAGE_F32] = "f32", [PACKAGE_F64] = "f64" };

/* ---- creating ---- */

static Status choose(const LibraryModel *model, const LibraryVariant **out)
{
	char lacking[32];
	for (u64 i = model->nvariant; i-- > 0;)
		if (!cpu_lacks(model->variant[i].features, lacking, sizeof lacking)) {
			*out = &model->variant[i];
			return OK;
		}
	const LibraryVariant *least = &model->variant[0];
	cpu_lacks(least->features, lacking, sizeof lacking);
	return FAIL(STATUS_UNSUPPORTED, "this library is made for %s, and this processor has no %s; export it with another --cpu",
		    least->cpu, lacking);
}

static const char *shape_text(Arena *a, const Package *p, const PackageTensor *t)
{
	char text[512];
	int n = 0;
	*text = 0;
	for (u32 d = 0; d < t->rank && n < (int)sizeof text; d++)
		n += t->formula[d] ? snprintf(text + n, sizeof text - (size_t)n, "%s%s", d ? ", " : "", p->formula[t->formula[d] - 1].text) :
				     snprintf(text + n, sizeof text - (size_t)n, "%s%lld", d ? ", " : "", (long long)t->dim[d]);
	return arena_copy(a, text, 1, strlen(text) + 1, 1);
}

static const LibraryTensor *describe_tensors(Arena *a, const Package *p, const PackageTensor *t, u32 n)
{
	LibraryTensor *to = NEWN(a, LibraryTensor, n + 1);
	for (u32 i = 0; i < n; i++) {
		to[i] = (LibraryTensor){ t[i].name, dtype_name[t[i].dtype], t[i].rank, { 0 }, t[i].bytes, shape_text(a, p, &t[i]) };
		memcpy(to[i].dim, t[i].dim, sizeof to[i].dim);
	}
	return to;
}

static void describe(LibraryBase *l, const char *cpu)
{
	const Package *p = &l->package;
	LibraryEntry *e = NEWN(&l->arena, LibraryEntry, p->nentry + 1);
	for (u32 i = 0; i < p->nentry; i++) {
		const PackageEntry *from = &p->entry[i];
		e[i] = (LibraryEntry){ from->name, (int)from->ninput, (int)from->nresult,
				       describe_tensors(&l->arena, p, from->input, from->ninput),
				       describe_tensors(&l->arena, p, from->result, from->nresult), from->model_flops };
		for (u32 s = 0; s < from->nstep; s++) {
			l->most_slots = MAX(l->most_slots, from->step[s].nslot);
			l->most_numbers = MAX(l->most_numbers, from->step[s].nnumber);
		}
	}
	LibraryAxis *axis = NEWN(&l->arena, LibraryAxis, p->naxis + 1);
	for (u32 i = 0; i < p->naxis; i++)
		axis[i] = (LibraryAxis){ p->axis[i].name, p->axis[i].most };
	l->info = (LibraryInfo){ .model = p->name, .plinth = PLINTH_VERSION, .cpu = cpu, .nentry = (int)p->nentry, .entry = e,
				 .naxis = (int)p->naxis, .axis = axis };
	l->kept = NEWN(&l->arena, u64, p->nbuffer + 1);
	for (u32 i = 0; i < p->nbuffer; i++) {
		u64 bytes = p->buffer[i].tensor.bytes;
		if (p->buffer[i].kind != PACKAGE_CACHE) {
			l->info.weights_bytes += bytes;
			continue;
		}
		l->kept[i] = l->state;
		l->state += ALIGN_UP(bytes, 256);
	}
	l->info.state_bytes = l->state;
}

Status library_base_open(LibraryBase *b, const LibraryVariant *v)
{
	const char *why = package_decode(&b->arena, (Blob){ v->package, v->package_bytes }, &b->package);
	if (why || b->package.nsymbol != v->nfunction)
		return FAIL(STATUS_INPUT, "this library is damaged: %s", why ? why : "functions are missing");
	describe(b, v->cpu);
	return OK;
}

static Status create(Library *l, const LibraryModel *model, const char *weights)
{
	const LibraryVariant *v = NULL;
	Package *p = &l->base.package;
	TRY(choose(model, &v));
	TRY(library_base_open(&l->base, v));
	for (u32 i = 0; i < p->nentry; i++)
		for (u32 s = 0; s < p->entry[i].nstep; s++) {
			PackageStep *step = &p->entry[i].step[s];
			step->function = v->function[step->code];
			if (p->naxis)
				step->needs = (NeedsFunction *)(void (*)(void))v->function[step->needs_code];
		}
	l->transient = p->naxis ? 0 : ALIGN_UP(p->arena_bytes - p->persistent_bytes, 64);
	l->layout = NEWN(&l->base.arena, PackageLayout, p->nentry + 1);
	for (u32 i = 0; i < p->nentry && p->naxis; i++) {
		l->layout[i] = package_layout(&l->base.arena, &p->entry[i]);
		l->most_blocks = MAX(l->most_blocks, l->layout[i].nwhich);
	}
	l->scratch = ALIGN_UP(p->thread_scratch, 64);
	l->buffer = NEWN(&l->base.arena, const u8 *, p->nbuffer + 1);
	TRY(library_weights_open(&l->base, model, weights, &l->weights));
	if (!l->base.info.weights_bytes)
		return OK;
	return library_weights_find(&l->base.arena, weights ? weights : "the embedded weights", &l->weights, p, l->buffer);
}

int library_failed(Status s, char *error, size_t error_bytes)
{
	if (error && error_bytes)
		snprintf(error, error_bytes, "%s", s->text);
	switch (s->code) {
	case STATUS_MEMORY: return LIBRARY_MEMORY;
	case STATUS_UNSUPPORTED: return LIBRARY_UNSUPPORTED;
	case STATUS_DEVICE: return LIBRARY_DEVICE;
	default: return LIBRARY_FILE;
	}
}

int library_create(const LibraryModel *model, const char *weights, Library **out, char *error, size_t error_bytes)
{
	if (error && error_bytes)
		*error = 0;
	if (!out)
		return LIBRARY_ARGUMENT;
	*out = NULL;
	Library *l = calloc(1, sizeof *l);
	if (!l)
		return LIBRARY_MEMORY;
	l->base.arena = ARENA("library");
	Status s = create(l, model, weights);
	if (!s) {
		*out = l;
		return LIBRARY_OK;
	}
	int code = library_failed(s, error, error_bytes);
	library_destroy(l);
	return code;
}

int library_verify(const LibraryModel *model, const char *path, char *error, size_t error_bytes)
{
	if (error && error_bytes)
		*error = 0;
	if (!path && !model->weights)
		return LIBRARY_OK; /* there is nothing that could be damaged */
	LibraryWeights w = { { model->weights, model->weights_bytes }, false };
	Status s = path ? library_weights_map(path, &w) : OK;
	if (!s)
		s = library_weights_verify(path ? path : "the library", w.bytes);
	library_weights_unmap(&w);
	return s ? library_failed(s, error, error_bytes) : LIBRARY_OK;
}

void library_destroy(Library *l)
{
	if (!l)
		return;
	library_weights_unmap(&l->weights);
	arena_free(&l->base.arena);
	free(l);
}

const LibraryInfo *library_describe(const Library *l)
{
	return &l->base.info;
}

const char *library_error(int code)
{
	static const char *const text[] = { "done", "an argument is wrong", "the weights file is wrong", "not enough memory",
					    "this machine cannot run the library", "the GPU refuses", "a size is out of its range" };
	return code >= 0 && code < LIBRARY_ERRORS ? text[code] : "no error of this library";
}

/* ---- threads ---- */

int library_threads_create(unsigned count, LibraryThreads **out)
{
	if (!out || !count)
		return LIBRARY_ARGUMENT;
	*out = NULL;
	Status s = threads_create(&(ThreadsOptions){ .count = count }, out);
	return s ? s->code == STATUS_MEMORY ? LIBRARY_MEMORY : LIBRARY_ARGUMENT : LIBRARY_OK;
}

void library_threads_destroy(LibraryThreads *t)
{
	threads_destroy(t);
}

/* ---- running ---- */

/* Where sizes are known only now: numbers and needs of a step, blocks of an entry. */
typedef struct Table {
	i64 *number, *need;
	u64 *offset, *end;
} Table;

static u64 numbers_of(const Library *l)
{
	return l->base.package.naxis ? l->base.most_numbers + PACKAGE_NEEDS + 2 * (u64)l->most_blocks : 0;
}

static Table table_at(const Library *l, i64 *room)
{
	Table t = { .number = room, .need = room + l->base.most_numbers };
	t.offset = (u64 *)(void *)(t.need + PACKAGE_NEEDS);
	t.end = t.offset + l->most_blocks;
	return t;
}

/* A step's slots, and that. */
static u64 table_bytes(const Library *l)
{
	return ALIGN_UP((l->base.most_slots + 1) * sizeof(void *) + numbers_of(l) * sizeof(i64), 64);
}

/* What a workspace has in it: values, the table, each thread's scratch. Where sizes are known only now, values are behind these,
 * and behind them the workspace of a launch. */
typedef struct Room {
	u64 scratch, each, values, launch, all;
} Room;

static Room room_for(const Library *l, const i64 *size, u32 threads, Table t)
{
	const Package *p = &l->base.package;
	Room r = { .scratch = l->transient + table_bytes(l), .each = l->scratch };
	u64 launch = 0, values = 0;
	for (u32 i = 0; p->naxis && i < p->nentry; i++) {
		u64 bytes = package_lay_out(p, &p->entry[i], &l->layout[i], size, t.offset, t.end);
		values = MAX(values, bytes);
		for (u32 s = 0; s < p->entry[i].nstep; s++) {
			package_numbers(p, &p->entry[i].step[s], size, t.number);
			p->entry[i].step[s].needs(t.number, t.need);
			launch = MAX(launch, (u64)t.need[0]);
			r.each = MAX(r.each, (u64)t.need[1]);
		}
	}
	r.values = r.scratch + MAX(threads, 1u) * r.each;
	r.launch = r.values + values;
	r.all = r.launch + launch;
	return r;
}

static bool sizes_fit(const Library *l, const i64 *size)
{
	return !l->base.package.naxis || (size && !package_refuses_sizes(&l->base.package, size));
}

size_t library_workspace_bytes(const Library *l, const i64 *size, unsigned threads)
{
	if (!sizes_fit(l, size))
		return 0;
	i64 *room = malloc((numbers_of(l) + 1) * sizeof *room);
	if (!room)
		return 0;
	size_t bytes = (size_t)room_for(l, size, threads, table_at(l, room)).all;
	free(room);
	return bytes;
}

size_t library_state_bytes(const Library *l)
{
	return (size_t)l->base.state;
}

typedef struct Launch {
	KernelFunction *function;
	void *const *slot;
	const i64 *number;
	u8 *workspace, *scratch;
	u64 scratch_bytes;
	i64 phase;
} Launch;

static void run_tasks(void *argument, TaskRange r)
{
	const Launch *l = argument;
	l->function(l->slot, l->number, l->workspace, l->scratch + r.thread * l->scratch_bytes, l->phase, r.begin,
			  r.end);
}

int library_run(const Library *l, unsigned entry, const i64 *size, const void *const *input, void *const *result, void *state,
		void *workspace, size_t workspace_bytes, LibraryThreads *threads)
{
	u32 count = threads ? threads_count(threads) : 1;
	u8 *base = workspace;
	bool fine = l && entry < l->base.package.nentry && workspace && !((uintptr_t)workspace & 63) &&
		    workspace_bytes >= l->transient + table_bytes(l) && (!l->base.state || (state && !((uintptr_t)state & 63)));
	if (fine && !sizes_fit(l, size))
		return LIBRARY_SIZE;
	void **slot = fine ? (void **)(void *)(base + l->transient) : NULL;
	Table t = fine ? table_at(l, (i64 *)(void *)(slot + l->base.most_slots + 1)) : (Table){ 0 };
	Room room = fine ? room_for(l, size, count, t) : (Room){ 0 };
	fine &= workspace_bytes >= room.all;
	const PackageEntry *e = fine ? &l->base.package.entry[entry] : NULL;
	for (u32 i = 0; fine && i < e->ninput; i++)
		fine = input && input[i];
	for (u32 i = 0; fine && i < e->nresult; i++)
		fine = result && result[i];
	if (!fine)
		return LIBRARY_ARGUMENT;
	u64 persistent = l->base.package.persistent_bytes;
	if (size) /* of this entry */
		package_lay_out(&l->base.package, e, &l->layout[entry], size, t.offset, t.end);
	for (u32 i = 0; i < e->nstep; i++) {
		const PackageStep *s = &e->step[i];
		for (u32 k = 0; k < s->nslot; k++) {
			u32 which = s->slot_info[k].which;
			switch (s->slot_info[k].place) {
			/* kernels only read what they are not to write */
			case PACKAGE_PERSISTENT:
				slot[k] = l->buffer[which] ? (void *)(uintptr_t)l->buffer[which] : (u8 *)state + l->base.kept[which];
				break;
			case PACKAGE_INPUT: slot[k] = (void *)(uintptr_t)input[which]; break;
			case PACKAGE_RESULT: slot[k] = result[which]; break;
			default: slot[k] = size ? base + room.values + t.offset[which] : base + (s->slot[k] - persistent);
			}
		}
		Launch launch = { s->function, slot, s->number, s->has_workspace ? base + (s->workspace - persistent) : base,
				  base + room.scratch, room.each, 0 };
		const i64 *tasks = s->tasks;
		u32 phases = s->nphase;
		if (size) {
			package_numbers(&l->base.package, s, size, t.number);
			s->needs(t.number, t.need);
			launch.number = t.number;
			launch.workspace = base + room.launch;
			phases = (u32)t.need[2];
			tasks = t.need + 3;
		}
		for (u32 phase = 0; phase < phases; phase++) {
			launch.phase = phase;
			if (tasks[phase] <= 0)
				continue;
			if (threads)
				threads_run(threads, run_tasks, &launch, tasks[phase]);
			else
				run_tasks(&launch, (TaskRange){ .nthread = 1, .end = tasks[phase] });
		}
	}
	return LIBRARY_OK;
}
