/* runtime/library/cuda.c: an exported model on an NVIDIA GPU in someone's program: runtime/cuda/{load,launch}.c with
 * the caller's memory and the caller's stream. Stands on the driver alone, which is loaded when a model is created;
 * contexts are the devices' primary ones, as those of the CUDA runtime, so that memory and streams of either are the
 * other's too.
 *
 * Weights are uploaded once. A run only launches: nothing is allocated, copied or waited for, so that it can be
 * captured into a graph of the caller's. */
#include "runtime/cuda/tensor_map.h"
#include "runtime/library/library.h"

#include <stdlib.h>
#include <string.h>

enum { PARAMETERS = 512, NUMBERS = 512, MAPS = 8, ALIGN = 256 };

struct LibraryCuda {
	LibraryBase base; /* first: library_describe and library_state_bytes take either */
	const CudaDriver *d;
	int device;
	CudaContext *context;
	CudaModule **module;       /* [package.nimage] */
	CudaFunction ****function; /* [entry][step][phase] */
	CudaAddress weights;
	u64 *at;                   /* [package.nbuffer] offsets there */
	PackageLayout *layout;     /* [package.nentry], where sizes are given to runs */
	u32 most_blocks;           /* of an entry, then */
};

/* ---- creating ---- */

/* "sm_90a" is for 9.0 alone, "sm_80" for 8.x from 0 on. */
static bool runs_on(const char *arch, int major, int minor)
{
	const char *digit = arch + 3;
	int number = 0;
	if (strncmp(arch, "sm_", 3) != 0)
		return false;
	for (; *digit >= '0' && *digit <= '9' && number < 1000; digit++)
		number = 10 * number + (*digit - '0');
	return number / 10 == major && (*digit ? number % 10 == minor : number % 10 <= minor);
}

static Status choose(LibraryCuda *c, const LibraryModel *model, int index, const LibraryVariant **out)
{
	int n = 0, major = 0, minor = 0;
	TRY(cuda_driver(&c->d));
	CU(c->d, "count the GPUs", c->d->device_count(&n));
	if (index < 0 || index >= n)
		return FAIL(STATUS_UNSUPPORTED, "there is no GPU number %d: the driver shows %d", index, n);
	CU(c->d, "open the GPU", c->d->device_get(&c->device, index));
	CU(c->d, "ask what the GPU can do", c->d->device_attribute(&major, CUDA_ATTRIBUTE_MAJOR, c->device));
	CU(c->d, "ask what the GPU can do", c->d->device_attribute(&minor, CUDA_ATTRIBUTE_MINOR, c->device));
	for (u64 i = model->nvariant; i-- > 0;)
		if (runs_on(model->variant[i].cpu, major, minor)) {
			*out = &model->variant[i];
			return OK;
		}
	return FAIL(STATUS_UNSUPPORTED, "this library is made for %s, and the GPU has compute capability %d.%d; export it with another --arch",
		    model->variant[0].cpu, major, minor);
}

static Status load_step(LibraryCuda *c, const PackageStep *s, CudaFunction **to)
{
	enum { WITHOUT_LEAVE = 48 << 10 };
	if (!s->grid || s->nslot + s->has_workspace + s->nkey > PARAMETERS || s->nmap > MAPS || (s->takes_numbers && s->nnumber > NUMBERS) || (s->nmap && !c->d->map_encode))
		return FAIL(STATUS_UNSUPPORTED, "%s cannot be launched by this library: %s", s->name,
			    s->nmap && !c->d->map_encode ? "the driver is too old (12.0 is the least)" : "it has too many arguments");
	for (u32 i = 0; i < s->nphase; i++) {
		CU(c->d, "find a kernel", c->d->module_function(&to[i], c->module[s->grid[i].image], s->grid[i].symbol));
		if (s->grid[i].shared > WITHOUT_LEAVE)
			CU(c->d, "have the shared memory of a kernel",
			   c->d->function_set(to[i], CUDA_FUNCTION_SHARED, (int)s->grid[i].shared));
	}
	return OK;
}

static Status load(LibraryCuda *c)
{
	const Package *p = &c->base.package;
	Arena *a = &c->base.arena;
	c->module = NEWN(a, CudaModule *, p->nimage + 1);
	for (u32 i = 0; i < p->nimage; i++)
		CU(c->d, "load compiled kernels", c->d->module_load(&c->module[i], p->image[i].data));
	c->function = NEWN(a, CudaFunction ***, p->nentry + 1);
	c->layout = NEWN(a, PackageLayout, p->nentry + 1);
	for (u32 e = 0; p->naxis && e < p->nentry; e++) {
		c->layout[e] = package_layout(a, &p->entry[e]);
		c->most_blocks = MAX(c->most_blocks, c->layout[e].nwhich);
	}
	for (u32 e = 0; e < p->nentry; e++) {
		c->function[e] = NEWN(a, CudaFunction **, p->entry[e].nstep + 1);
		for (u32 s = 0; s < p->entry[e].nstep; s++) {
			c->function[e][s] = NEWN(a, CudaFunction *, p->entry[e].step[s].nphase + 1);
			TRY(load_step(c, &p->entry[e].step[s], c->function[e][s]));
		}
	}
	return OK;
}

static Status upload(LibraryCuda *c, const char *path, const LibraryWeights *w)
{
	const Package *p = &c->base.package;
	const u8 **from = NEWN(&c->base.arena, const u8 *, p->nbuffer + 1);
	u64 bytes = 0;
	c->at = NEWN(&c->base.arena, u64, p->nbuffer + 1);
	if (!c->base.info.weights_bytes)
		return OK;
	TRY(library_weights_find(&c->base.arena, path, w, p, from));
	for (u32 i = 0; i < p->nbuffer; i++) {
		c->at[i] = bytes;
		bytes += from[i] ? ALIGN_UP(p->buffer[i].tensor.bytes, ALIGN) : 0;
	}
	CU(c->d, "have memory for the weights", c->d->allocate(&c->weights, bytes));
	for (u32 i = 0; i < p->nbuffer; i++)
		if (from[i] && p->buffer[i].tensor.bytes)
			CU(c->d, "upload the weights", c->d->to_device(c->weights + c->at[i], from[i], p->buffer[i].tensor.bytes, NULL));
	CU(c->d, "upload the weights", c->d->stream_synchronize(NULL));
	return OK;
}

static Status create(LibraryCuda *c, const LibraryModel *model, const char *weights, int device)
{
	const LibraryVariant *v = NULL;
	TRY(choose(c, model, device, &v));
	TRY(library_base_open(&c->base, v));
	CU(c->d, "use the GPU", c->d->context_retain(&c->context, c->device));
	CU(c->d, "use the GPU", c->d->context_set(c->context));
	TRY(load(c));
	LibraryWeights w;
	TRY(library_weights_open(&c->base, model, weights, &w));
	Status s = upload(c, weights ? weights : "the embedded weights", &w);
	library_weights_unmap(&w);
	return s;
}

int library_cuda_create(const LibraryModel *model, const char *weights, int device, LibraryCuda **out, char *error,
			size_t error_bytes)
{
	if (error && error_bytes)
		*error = 0;
	if (!out)
		return LIBRARY_ARGUMENT;
	*out = NULL;
	LibraryCuda *c = calloc(1, sizeof *c);
	if (!c)
		return LIBRARY_MEMORY;
	c->base.arena = ARENA("library");
	Status s = create(c, model, weights, device);
	if (!s) {
		*out = c;
		return LIBRARY_OK;
	}
	int code = library_failed(s, error, error_bytes);
	library_cuda_destroy(c);
	return code;
}

void library_cuda_destroy(LibraryCuda *c)
{
	if (!c)
		return;
	if (c->context) {
		c->d->context_set(c->context);
		for (u32 i = 0; c->module && i < c->base.package.nimage; i++)
			if (c->module[i])
				c->d->module_unload(c->module[i]);
		if (c->weights)
			c->d->release(c->weights);
		c->d->context_release(c->device);
	}
	arena_free(&c->base.arena);
	free(c);
}

/* ---- the GPU's memory, for who has no other way to it ---- */

static int done(int code)
{
	return !code ? LIBRARY_OK : code == CUDA_OUT_OF_MEMORY ? LIBRARY_MEMORY : LIBRARY_DEVICE;
}

int library_cuda_memory(const LibraryCuda *c, size_t bytes, void **out)
{
	CudaAddress at = 0;
	if (!c || !out)
		return LIBRARY_ARGUMENT;
	*out = NULL;
	int code = c->d->context_set(c->context);
	if (!code)
		code = c->d->allocate(&at, MAX(bytes, (size_t)1));
	if (!code)
		code = c->d->fill(at, 0, MAX(bytes, (size_t)1), NULL);
	if (!code)
		code = c->d->stream_synchronize(NULL);
	*out = (void *)(uintptr_t)at;
	return done(code);
}

void library_cuda_release(const LibraryCuda *c, void *p)
{
	if (p && !c->d->context_set(c->context))
		c->d->release((CudaAddress)(uintptr_t)p);
}

int library_cuda_upload(const LibraryCuda *c, void *to, const void *from, size_t bytes, void *stream)
{
	int code = c->d->context_set(c->context);
	return done(code ? code : c->d->to_device((CudaAddress)(uintptr_t)to, from, bytes, stream));
}

int library_cuda_download(const LibraryCuda *c, void *to, const void *from, size_t bytes, void *stream)
{
	int code = c->d->context_set(c->context);
	if (!code)
		code = c->d->to_host(to, (CudaAddress)(uintptr_t)from, bytes, stream);
	return done(code ? code : c->d->stream_synchronize(stream));
}

/* ---- running ---- */

static bool sizes_fit(const LibraryCuda *c, const i64 *size)
{
	return !c->base.package.naxis || (size && !package_refuses_sizes(&c->base.package, size));
}

/* Bytes for values; with sizes, `offset` becomes where those of entry `entry` lie. Room for twice most_blocks. */
static u64 values_bytes(const LibraryCuda *c, u32 entry, const i64 *size, u64 *offset)
{
	const Package *p = &c->base.package;
	u64 most = 0;
	if (!p->naxis)
		return ALIGN_UP(p->arena_bytes - p->persistent_bytes, ALIGN);
	for (u32 i = 0; i < p->nentry; i++)
		most = MAX(most, package_lay_out(p, &p->entry[i], &c->layout[i], size, offset, offset + c->most_blocks));
	package_lay_out(p, &p->entry[entry], &c->layout[entry], size, offset, offset + c->most_blocks);
	return MAX(ALIGN_UP(most, ALIGN), (u64)ALIGN);
}

size_t library_cuda_workspace_bytes(const LibraryCuda *c, const i64 *size)
{
	u64 *room = sizes_fit(c, size) ? malloc((2 * (size_t)c->most_blocks + 1) * sizeof *room) : NULL;
	size_t bytes = room ? (size_t)values_bytes(c, 0, size, room) : 0;
	free(room);
	return bytes;
}

/* Where things are in one run. */
typedef struct Places {
	const LibraryCuda *c;
	const i64 *size;   /* NULL, or with them where values lie */
	const u64 *offset;
	const void *const *input;
	void *const *result;
	CudaAddress state, workspace;
} Places;

static CudaAddress slot_address(const Places *p, const PackageStep *s, u32 i)
{
	const LibraryBase *b = &p->c->base;
	u32 which = s->slot_info[i].which;
	switch (s->slot_info[i].place) {
	case PACKAGE_PERSISTENT:
		return b->package.buffer[which].kind == PACKAGE_CACHE ? p->state + b->kept[which] : p->c->weights + p->c->at[which];
	case PACKAGE_INPUT: return (CudaAddress)(uintptr_t)p->input[which];
	case PACKAGE_RESULT: return (CudaAddress)(uintptr_t)p->result[which];
	default: return p->workspace + (p->size ? p->offset[which] : s->slot[i] - b->package.persistent_bytes);
	}
}

static int launch(const Places *p, const PackageStep *s, CudaFunction *const *function, CudaStream *stream)
{
	const CudaDriver *d = p->c->d;
	u64 value[PARAMETERS], persistent = p->c->base.package.persistent_bytes;
	CudaMap map[MAPS];
	void *parameter[PARAMETERS + MAPS + 1];
	i64 number[NUMBERS];
	u32 n = 0;
	for (u32 i = 0; i < s->nslot; i++)
		value[n++] = slot_address(p, s, i);
	if (s->has_workspace)
		value[n++] = p->workspace + (s->workspace - persistent);
	for (u32 i = 0; i < s->nkey; i++)
		value[n++] = s->key[i];
	for (u32 i = 0; i < n; i++)
		parameter[i] = &value[i];
	for (u32 i = 0; i < s->nmap; i++) {
		const PackageTensorMap *m = &s->map[i];
		/* it lies in a slot, or in the step's workspace */
		u64 base = m->slot < s->nslot ? value[m->slot] + (m->offset - s->slot[m->slot]) : p->workspace + (m->offset - persistent);
		int code = cuda_map_encode(d, m, base, &map[i]);
		if (code)
			return code;
		parameter[n + i] = &map[i];
	}
	if (s->takes_numbers) {
		package_numbers(&p->c->base.package, s, p->size, number);
		parameter[n + s->nmap] = number;
	}
	for (u32 i = 0; i < s->nphase; i++) {
		const PackageGrid *g = &s->grid[i];
		CudaLaunchAttribute cluster = { .id = CUDA_LAUNCH_CLUSTER, .value.cluster = { g->cluster, 1, 1 } };
		CudaLaunchConfig config = { .grid = { g->grid[0], g->grid[1], g->grid[2] },
					    .block = { g->block[0], g->block[1], g->block[2] },
					    .shared = g->shared, .stream = stream, .attribute = &cluster,
					    .nattribute = g->cluster > 1 };
		if (!g->grid[0] || !g->grid[1] || !g->grid[2])
			continue;
		int code = d->launch(&config, function[i], parameter, NULL);
		if (code)
			return code;
	}
	return 0;
}

/* On the device, as wide accesses want it. */
static bool placed(const void *p)
{
	return p && !((uintptr_t)p & 63);
}

int library_cuda_run(const LibraryCuda *c, unsigned entry, const i64 *size, const void *const *input, void *const *result, void *state,
		     void *workspace, size_t workspace_bytes, void *stream)
{
	bool fine = c && entry < c->base.package.nentry && workspace && !((uintptr_t)workspace & (ALIGN - 1)) &&
		    (!c->base.state || placed(state));
	if (fine && !sizes_fit(c, size))
		return LIBRARY_SIZE;
	u64 *room = fine ? malloc((2 * (size_t)c->most_blocks + 1) * sizeof *room) : NULL;
	if (fine && !room)
		return LIBRARY_MEMORY;
	fine &= fine && workspace_bytes >= values_bytes(c, entry, size, room);
	const PackageEntry *e = fine ? &c->base.package.entry[entry] : NULL;
	for (u32 i = 0; fine && i < e->ninput; i++)
		fine = input && placed(input[i]);
	for (u32 i = 0; fine && i < e->nresult; i++)
		fine = result && placed(result[i]);
	Places p = { c, size, room, input, result, (CudaAddress)(uintptr_t)state, (CudaAddress)(uintptr_t)workspace };
	int code = fine ? c->d->context_set(c->context) : 0;
	for (u32 i = 0; fine && i < e->nstep && !code; i++)
		code = launch(&p, &e->step[i], c->function[entry][i], stream);
	free(room);
	return fine ? done(code) : LIBRARY_ARGUMENT;
}
