/* codegen/cpu/target.c: see target.h. */
#include "codegen/cpu/target.h"

#include "codegen/cpu/kernels.h"
#include "codegen/cpu/panel.h"
#include "codegen/cpu/thin.h"
#include "support/map.h"

#include <string.h>

typedef LLVMValueRef V;

const CpuKernelClass *const cpu_kernel_class[KERNEL_CLASSES] = {
	[KERNEL_MAP] = &cpu_map,
	[KERNEL_ROW] = &cpu_row,
	[KERNEL_COLUMN] = &cpu_column,
	[KERNEL_SCATTER] = &cpu_scatter,
	[KERNEL_SCAN] = &cpu_scan,
	[KERNEL_SORT] = &cpu_sort,
	[KERNEL_DOT] = &cpu_dot,
	[KERNEL_GROUPED] = &cpu_grouped,
	[KERNEL_GROUPED_WEIGHTS] = &cpu_grouped_weights,
	[KERNEL_ATTENTION] = &cpu_attention,
	[KERNEL_ATTENTION_GRAD] = &cpu_attention_grad,
};

static const char *refusal(const CpuMachine *machine, const Kernel *k)
{
	const CpuKernelClass *class = cpu_kernel_class[k->class];
	if (!class)
		return "the CPU has no code for kernels of this class";
	return class->refuses ? class->refuses(machine, k) : NULL;
}

static const char *target_refuses(const TargetInfo *t, const Kernel *k)
{
	return refusal(t->self, k);
}

static LaunchNeeds target_needs(const TargetInfo *t, const Kernel *k)
{
	assert(!refusal(t->self, k));
	const CpuKernelClass *class = cpu_kernel_class[k->class];
	CountNeeds c = class->needs(NULL, t->self, k, (Count){ 0 });
	assert(c.phases.n <= KERNEL_PHASES);
	LaunchNeeds n = { .workspace = ALIGN_UP((u64)c.workspace.n, 64), .thread_scratch = ALIGN_UP((u64)c.scratch.n, 64),
			  .nphase = (u32)c.phases.n };
	for (u32 i = 0; i < n.nphase; i++)
		n.tasks[i] = class->needs(NULL, t->self, k, (Count){ .n = i }).tasks.n;
	return n;
}

const TargetInfo *cpu_target(const CpuMachine *machine, Arena *arena)
{
	TargetInfo *t = NEW(arena, TargetInfo);
	*t = (TargetInfo){ .name = "cpu",
			   .refuses = target_refuses,
			   .needs = target_needs,
			   .self = COPYN(arena, CpuMachine, machine, 1) };
	t->last_cache = machine->l3;
	t->streams[KERNEL_MAP] = t->streams[KERNEL_ROW] = true;
	t->whole[OP_attention] = cpu_kernel_class[KERNEL_ATTENTION] != NULL;
	t->whole[OP_update_slice] = true;
	t->few_queries = THIN_ROWS;
	t->whole[OP_attention_grad] = cpu_kernel_class[KERNEL_ATTENTION_GRAD] != NULL;
	return t;
}

/* ---- code ---- */

typedef struct Shape {
	const Kernel *kernel; /* the first that has it; NULL: it is that of a register tile */
	Tile tile;
	const char *symbol, *needs; /* needs: NULL where it is known */
	const char *prefix;
} Shape;

/* See NeedsFunction. */
static void emit_needs(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Body b;
	body_begin_needs(&b, m, k, arena, name);
	const CpuKernelClass *class = cpu_kernel_class[k->class];
	CountNeeds n = class->needs(&b, m->machine, k, count_of(m, 0));
	Count zero = count_of(m, 0), first[3] = { count_round(m, n.workspace.v ? n.workspace : zero, 64),
						  count_round(m, n.scratch.v ? n.scratch : zero, 64), n.phases };
	for (u32 i = 0; i < 3; i++)
		LLVMBuildStore(m->builder, first[i].v, cpu_at(m, m->i64, b.workspace, cpu_i64(m, i)));
	CpuLoop phase = { 0 };
	cpu_loop_begin(m, &phase, cpu_i64(m, 0), cpu_min(m, n.phases.v, cpu_i64(m, PACKAGE_PHASES)), cpu_i64(m, 1), 0, NULL);
	V tasks = class->needs(&b, m->machine, k, (Count){ 0, phase.index }).tasks.v;
	LLVMBuildStore(m->builder, tasks, cpu_at(m, m->i64, b.workspace, cpu_add(m, phase.index, cpu_i64(m, 3))));
	phase.unroll = 1;
	cpu_loop_end(m, &phase, NULL);
	body_end(&b);
}
_Static_assert((int)PACKAGE_PHASES == (int)KERNEL_PHASES, "launches have at most so many phases");

static void emit_shape(CpuModule *m, const void *argument)
{
	const Shape *s = argument;
	if (!s->kernel) {
		tile_emit(m, s->symbol, s->tile, false);
		return;
	}
	Arena tmp = ARENA("emit");
	m->prefix = s->prefix;
	cpu_kernel_class[s->kernel->class]->emit(m, s->kernel, &tmp, s->symbol);
	if (s->needs)
		emit_needs(m, s->kernel, &tmp, s->needs);
	arena_free(&tmp);
}

/* Units for the register tiles that kernel `k` calls, where there are none yet; `known`: those that there are, by the hash of
 * their names. */
static void add_tiles(const CpuCompiler *c, const Kernel *k, Arena *arena, Map *known, CpuCode *out)
{
	Tile tile[CPU_TILES];
	const CpuKernelClass *class = cpu_kernel_class[k->class];
	u32 n = class->tiles ? class->tiles(cpu_compiler_machine(c), k, tile) : 0;
	for (u32 i = 0; i < n; i++) {
		const char *symbol = tile_symbol(arena, cpu_compiler_prefix(c), tile[i]);
		u64 h = hash_bytes(0, symbol, strlen(symbol));
		if (map_get(known, h))
			continue;
		map_put(known, h, out->nunit);
		Shape *s = NEW(arena, Shape);
		*s = (Shape){ .tile = tile[i], .symbol = symbol };
		out->unit[out->nunit++] = (CpuUnit){ .name = symbol + strlen(cpu_compiler_prefix(c)), .identity = symbol, .emit = emit_shape,
						     .argument = s };
	}
}

Status cpu_code_units(CpuCompiler *c, Kernel *const *kernel, u32 n, Arena *arena, CpuCode *out)
{
	const CpuMachine *machine = cpu_compiler_machine(c);
	Shape *shape = NEWN(arena, Shape, n + 1);
	bool needs = cpu_compiler_needs(c);
	*out = (CpuCode){ .unit = NEWN(arena, CpuUnit, (1 + CPU_TILES) * n + 1), .symbol = NEWN(arena, const char *, n + 1),
			  .needs = needs ? NEWN(arena, const char *, n + 1) : NULL };
	Map known = { .arena = arena };
	for (u32 i = 0; i < n; i++) {
		const Kernel *k = kernel[i];
		if (k->class == KERNEL_COLLECTIVE)
			continue; /* the runtime's */
		const char *why = refusal(machine, k);
		if (why)
			return FAIL(STATUS_UNSUPPORTED, "kernel %s (%s): %s", k->name,
				    kernel_class_name[k->class], why);
		const CpuKernelClass *class = cpu_kernel_class[k->class];
		u64 variant = class->variant ? class->variant(machine, k) : 0;
		u64 h = kernel_shape_hash(k);
		h = hash_bytes(h, &variant, sizeof variant);
		u64 *seen = map_get(&known, h);
		if (seen) {
			out->symbol[i] = shape[*seen].symbol;
			if (needs)
				out->needs[i] = shape[*seen].needs;
			continue;
		}
		map_put(&known, h, out->nunit);
		Shape *s = &shape[out->nunit];
		s->kernel = k;
		s->prefix = cpu_compiler_prefix(c);
		s->symbol = out->symbol[i] =
			arena_printf(arena, "%s%s_%016llx", cpu_compiler_prefix(c), kernel_class_name[k->class],
				     (unsigned long long)h);
		if (needs)
			s->needs = out->needs[i] = arena_printf(arena, "%s_needs", s->symbol);
		out->unit[out->nunit++] = (CpuUnit){ .name = k->name, .identity = needs ? s->needs : s->symbol, .emit = emit_shape,
						     .argument = s };
	}
	Map tiles = { .arena = arena };
	for (u32 i = 0, nshape = out->nunit; i < nshape; i++)
		add_tiles(c, shape[i].kernel, arena, &tiles, out);
	cpu_compile(c, arena, out->unit, out->nunit);
	return OK;
}
