/* runtime/cuda/load.c: a package's images into the driver, and for each step what a launch of it takes: functions,
 * with leave for the shared memory that they want, and the values of their parameters, which never change, because
 * the arena stays where it is. */
#include "runtime/cuda/cuda.h"
#include "runtime/cuda/tensor_map.h"
#include "support/map.h"

#include <string.h>

/* A function that several steps share, and the most shared memory that one of them wants. */
typedef struct Function {
	CudaFunction *f;
	u32 shared;
} Function;

typedef struct Loader {
	Cuda *c;
	Map function; /* hash of image and name, to a Function */
} Loader;

static Status find(Loader *l, const PackageGrid *g, Function **out)
{
	Cuda *c = l->c;
	u64 key = hash_bytes(g->image + 1, g->symbol, strlen(g->symbol)), *at = map_get(&l->function, key);
	if (at) {
		*out = (Function *)(uintptr_t)*at;
		return OK;
	}
	assert(g->image < c->package->nimage);
	Function *f = NEW(&c->memory, Function);
	int code = c->d->module_function(&f->f, c->module[g->image], g->symbol);
	if (code)
		return status_context(cuda_failed(c->d, code, "find a kernel"), "%s in %s", g->symbol, c->package->image[g->image].name);
	map_put(&l->function, key, MAP_KEY(f));
	*out = f;
	return OK;
}

static Status functions(Loader *l, const PackageStep *s, CudaStep *out)
{
	enum { WITHOUT_LEAVE = 48 << 10 };
	Cuda *c = l->c;
	out->function = NEWN(&c->memory, CudaFunction *, s->nphase + 1);
	for (u32 i = 0; i < s->nphase; i++) {
		Function *f = NULL;
		TRY(find(l, &s->grid[i], &f));
		out->function[i] = f->f;
		if (s->grid[i].shared <= MAX(f->shared, (u32)WITHOUT_LEAVE))
			continue;
		f->shared = s->grid[i].shared;
		if (f->shared > c->info.shared_per_block)
			return FAIL(STATUS_UNSUPPORTED, "%s wants %u bytes of shared memory, and a block has at most %u on %s: it was compiled "
							"for another GPU",
				    s->name, f->shared, c->info.shared_per_block, c->info.name);
		CU(c->d, "have the shared memory of a kernel", c->d->function_set(f->f, CUDA_FUNCTION_SHARED, (int)f->shared));
	}
	return OK;
}

static Status encode(Cuda *c, const PackageStep *s, const PackageTensorMap *m, CudaMap *out)
{
	if (!c->d->map_encode)
		return FAIL(STATUS_UNSUPPORTED, "%s reads by the bulk copy engine, for which the driver is too old: renew it (12.0 is "
						"the least)",
			    s->name);
	int code = cuda_map_encode(c->d, m, c->arena + m->offset, out);
	return code ? status_context(cuda_failed(c->d, code, "describe a tensor for the copy engine"), "%s", s->name) : OK;
}

static Status parameters(Cuda *c, const PackageStep *s, CudaStep *out)
{
	u32 n = s->nslot + s->has_workspace + s->nkey, k = 0;
	u64 *value = NEWN(&c->memory, u64, n + 1);
	CudaMap *map = NEWN(&c->memory, CudaMap, s->nmap + 1);
	void **p = out->parameter = NEWN(&c->memory, void *, n + s->nmap + 2);
	for (u32 i = 0; i < s->nslot; i++)
		value[k++] = c->arena + s->slot[i];
	if (s->has_workspace)
		value[k++] = c->arena + s->workspace;
	for (u32 i = 0; i < s->nkey; i++)
		value[k++] = s->key[i];
	for (u32 i = 0; i < n; i++)
		*p++ = &value[i];
	for (u32 i = 0; i < s->nmap; i++) {
		TRY(encode(c, s, &s->map[i], &map[i]));
		*p++ = &map[i];
	}
	if (s->takes_numbers)
		*p++ = (void *)(uintptr_t)s->number;
	return OK;
}

static Status load_images(Cuda *c)
{
	const Package *p = c->package;
	c->module = NEWN(&c->memory, CudaModule *, p->nimage + 1);
	for (u32 i = 0; i < p->nimage; i++) {
		int code = c->d->module_load(&c->module[i], p->image[i].data);
		if (code)
			return status_context(cuda_failed(c->d, code, "load compiled kernels"), "%s", p->image[i].name);
	}
	return OK;
}

/* Each message between stages is a part, and all that is between two of them. */
static void cut(Cuda *c, CudaEntry *e)
{
	e->part = NEWN(&c->memory, CudaPart, e->entry->nstep + 1);
	for (u32 i = 0; i < e->entry->nstep; i++) {
		const PackageCollective *w = e->step[i].step->collective;
		bool message = cuda_between_stages(w);
		if (!i || message || e->part[e->npart - 1].message)
			e->part[e->npart++] = (CudaPart){ .from = i, .message = message };
		e->part[e->npart - 1].to = i + 1;
		e->part[e->npart - 1].says |= w != NULL;
	}
}

Status cuda_load(Cuda *c)
{
	const Package *p = c->package;
	TRY(load_images(c));
	Loader l = { .c = c, .function = { .arena = &c->memory } };
	u32 said = 0;
	c->entry = NEWN(&c->memory, CudaEntry, p->nentry + 1);
	for (u32 e = 0; e < p->nentry; e++) {
		const PackageEntry *from = &p->entry[e];
		CudaEntry *to = &c->entry[e];
		to->entry = from;
		to->step = NEWN(&c->memory, CudaStep, from->nstep + 1);
		for (u32 i = 0; i < from->nstep; i++) {
			CudaStep *s = &to->step[i];
			s->step = &from->step[i];
			assert(s->step->grid || s->step->matmul || s->step->collective);
			if (s->step->collective)
				s->number = said++;
			if (!s->step->grid)
				continue;
			TRY(functions(&l, s->step, s));
			TRY(parameters(c, s->step, s));
		}
		cut(c, to);
	}
	return OK;
}

void cuda_unload(Cuda *c)
{
	for (u32 i = 0; c->module && i < c->package->nimage; i++)
		if (c->module[i])
			c->d->module_unload(c->module[i]);
}
