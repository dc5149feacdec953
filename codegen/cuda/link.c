/* codegen/cuda/link.c: grids, keys, tensor maps and library products of a package's steps; see target.h. */
#include "codegen/cuda/library.h"
#include "codegen/cuda/target.h"
#include "codegen/link.h"

static const PackageGrid *grids(Arena *arena, const CudaNeeds *needs, const char *symbol, u32 image)
{
	PackageGrid *g = NEWN(arena, PackageGrid, needs->nphase + 1);
	for (u32 p = 0; p < needs->nphase; p++) {
		const CudaLaunch *l = &needs->launch[p];
		g[p] = (PackageGrid){ .image = image,
				      .symbol = arena_printf(arena, "%s_p%u", symbol, p),
				      .grid = { l->grid[0], l->grid[1], l->grid[2] },
				      .block = { l->block[0], l->block[1], l->block[2] },
				      .shared = l->shared,
				      .cluster = l->cluster };
	}
	return g;
}

static void set_keys(Arena *arena, const Kernel *k, PackageStep *to)
{
	u64 *key = NEWN(arena, u64, k->inst.n + 1);
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_random)
			key[to->nkey++] = k->inst.v[i].key;
	to->key = key;
}

static void set_maps(Arena *arena, const CudaNeeds *needs, PackageStep *to)
{
	PackageTensorMap *map = NEWN(arena, PackageTensorMap, needs->nmap + 1);
	for (u32 i = 0; i < needs->nmap; i++) {
		const CudaTensorMap *m = &needs->map[i];
		u64 base = m->slot == NONE ? to->workspace : to->slot[m->slot];
		map[i] = (PackageTensorMap){ .slot = m->slot, .offset = base + m->offset * dtype_info[m->dtype].bytes,
					     .dtype = m->dtype, .rank = m->rank, .swizzle = m->swizzle };
		for (u32 d = 0; d < m->rank; d++) {
			map[i].extent[d] = m->extent[d];
			map[i].stride[d] = m->stride[d];
			map[i].box[d] = m->box[d];
		}
	}
	to->map = map;
	to->nmap = needs->nmap;
}

static void set_matmul(Arena *arena, const Kernel *k, const CudaNeeds *needs, PackageStep *to)
{
	LibraryMatmul l;
	if (!cuda_library_matmul(k, &l))
		return;
	PackageMatmul *m = COPYN(arena, PackageMatmul, &l.matmul, 1);
	m->a.offset += to->slot[l.a];
	m->b.offset += to->slot[l.b];
	m->d.offset += to->slot[l.d];
	if (m->has_c)
		m->c.offset += to->slot[l.c];
	if (m->has_aux)
		m->aux.offset += to->slot[l.aux];
	if (m->has_bias)
		m->bias += to->slot[l.bias];
	for (u32 i = 0; i < m->nscale; i++)
		m->scale[i] += to->slot[l.scale[i]];
	if (m->sum_of) {
		m->sum += to->slot[l.sum];
		m->sum_phase = (u8)(needs->nphase - needs->sums);
	}
	to->matmul = m;
}

void cuda_link(Arena *arena, const Plan *plan, const CudaArch *arch, const CudaCode *code, Package *package)
{
	PackageImage *image = NEWN(arena, PackageImage, code->nunit + 1);
	for (u32 i = 0; i < code->nunit; i++)
		image[i] = (PackageImage){ code->unit[i].name, code->unit[i].image, code->unit[i].size };
	package->image = image;
	package->nimage = code->nunit;
	for (u32 e = 0; e < package->nentry; e++) {
		const EntryPlan *of = package_entry_plan(plan, e);
		for (u32 s = 0; s < of->step.n; s++) {
			u32 kernel = of->step.v[s].kernel;
			const Kernel *k = plan->kernel.v[kernel];
			PackageStep *to = &package->entry[e].step[s];
			if (to->collective)
				continue;
			CudaNeeds needs = cuda_class(arch, k)->needs(arch, k);
			to->nphase = needs.nphase;
			to->grid = grids(arena, &needs, code->symbol[kernel], code->unit_of[kernel]);
			set_keys(arena, k, to);
			set_maps(arena, &needs, to);
			to->takes_numbers = arch->sized;
			if (!arch->sized)
				set_matmul(arena, k, &needs, to);
		}
	}
}
