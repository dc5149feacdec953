/* tools/export_build.c: code of an exported library: see export.h. For each processor a plan and kernels of their
 * own; beside them the plans as bytes, the C interface, and the runtime that Plinth has in it ready made. */
#include "tools/export.h"

#if PLINTH_LLVM
#include "codegen/cpu/library.h"
#include "codegen/cuda/target.h"
#include "codegen/runtime_object.h"
#include "support/cpu_features.h"
#include "support/io.h"
#include "tools/driver_objects.h"

#include <stdlib.h>
#include <string.h>

/* "a,+f,b": a processor's name with its features, one after the other. */
static bool next_cpu(Arena *a, const char **list, const char **out)
{
	const char *at = *list + strspn(*list, ", ");
	size_t n = strcspn(at, ",");
	while (at[n] == ',' && (at[n + 1] == '+' || at[n + 1] == '-'))
		n += 1 + strcspn(at + n + 1, ",");
	*list = at + n;
	*out = arena_printf(a, "%.*s", (int)n, at);
	return n > 0;
}

/* From the least processor to the best; GPU architectures by number. */
static int by_machine(const void *pa, const void *pb)
{
	const char *cpu_a = ((const ExportVariant *)pa)->cpu, *cpu_b = ((const ExportVariant *)pb)->cpu;
	if (!strncmp(cpu_a, "sm_", 3))
		return atoi(cpu_a + 3) != atoi(cpu_b + 3) ? atoi(cpu_a + 3) < atoi(cpu_b + 3) ? -1 : 1 : strcmp(cpu_a, cpu_b);
	const CpuMachine *a = ((const ExportVariant *)pa)->compiled.target->self;
	const CpuMachine *b = ((const ExportVariant *)pb)->compiled.target->self;
	if (a->lanes != b->lanes)
		return a->lanes < b->lanes ? -1 : 1;
	size_t na = strlen(a->needs), nb = strlen(b->needs);
	return na != nb ? na < nb ? -1 : 1 : strcmp(a->name, b->name);
}

Status export_plan(Export *x, const DriverOptions *o, const char *cpu)
{
	enum { MOST = 8 };
	x->variant = NEWN(x->arena, ExportVariant, MOST + 1);
	bool here = !strcmp(x->machine, cpu_machine_name());
	const char *list = cpu ? cpu : x->cuda ? "sm_90a" : here ? "host" : "baseline", *name;
	while (next_cpu(x->arena, &list, &name)) {
		if (x->nvariant == MOST)
			return FAIL(STATUS_INPUT, "--cpu: at most %u processors in one library", MOST);
		DriverOptions each = *o;
		if (x->cuda)
			each.arch = name;
		else
			each.cpu = here ? name : arena_printf(x->arena, "%s/%s", x->machine, name);
		ExportVariant *v = &x->variant[x->nvariant++];
		TRY(driver_plan(x->arena, x->program, &each, &v->compiled));
		if (!v->compiled.plan)
			return FAIL(STATUS_INPUT, "%s cannot be compiled for %s", x->source, name);
		if (x->nkernel)
			v->compiled.plan = export_kernels(x->arena, v->compiled.plan, x->kernel, x->nkernel);
		if (x->nkernel && !v->compiled.plan->kernel.n)
			return FAIL(STATUS_INPUT, "--kernel %s: the model has no kernel of that name; `plinth bench --forward --all` and "
				    "manifest.json list them", x->kernel[0]);
		const CpuMachine *m = v->compiled.target->self;
		v->cpu = x->cuda ? name : m->name;
		v->features = x->cuda ? "" : m->needs;
	}
	if (!x->nvariant)
		return FAIL(STATUS_INPUT, "--%s names no %s", x->cuda ? "arch" : "cpu", x->cuda ? "GPU" : "processor");
	qsort(x->variant, x->nvariant, sizeof *x->variant, by_machine);
	return OK;
}

typedef VEC(ObjectFile) Objects;

static void add_object(Export *x, Objects *to, const char *name, Blob bytes)
{
	VEC_PUSH(x->arena, to, (ObjectFile){ name, bytes });
}

static Status write_ir(const Export *x, CpuCompiler *c, const CpuUnit *unit, const char *symbol)
{
	AtomicFile f;
	TRY(io_create(arena_printf(x->arena, "%s/ir/%s.ll", x->folder, symbol), &f));
	cpu_print(c, unit, CPU_IR_OPTIMIZED, f.file);
	return io_commit(&f);
}

/* The plan's package as the library has it. */
static void keep_package(Export *x, ExportVariant *v)
{
	Package *p = COPYN(x->arena, Package, v->compiled.package, 1);
	if (x->nkernel)
		export_kernel_entries(x->arena, v->compiled.plan, p);
	v->package = p;
	for (u32 e = 0; e < p->nentry; e++)
		p->entry[e].name = export_entry_name(p->entry[e].name);
	v->encoded = package_encode(x->arena, p);
}

/* The kernels of one GPU: they are in its package, and beside it as text. */
static Status add_gpu(Export *x, ExportVariant *v, const DriverOptions *o, Cache *cache)
{
	Compiled *c = &v->compiled;
	TRY(c->backend->code(x->arena, o, cache, c));
	for (u32 e = 0; e < c->package->nentry; e++)
		for (u32 s = 0; s < c->package->entry[e].nstep; s++)
			if (!c->package->entry[e].step[s].grid)
				return FAIL(STATUS_UNSUPPORTED, "%s is a product that only cuBLASLt does, which libraries do without",
					    c->package->entry[e].step[s].name);
	CudaCode text;
	TRY(cuda_code(c->target->self, &(CudaOptions){ .output = CUDA_TEXT }, c->plan->kernel.v, c->plan->kernel.n, x->arena, &text));
	TRY(io_make_folder(arena_printf(x->arena, "%s/cuda", x->folder)));
	for (u32 i = 0; i < text.nunit; i++)
		TRY(export_write(x, arena_printf(x->arena, "cuda/%s_%s_%03u.cu", x->name, v->cpu, i),
				 (Blob){ (const u8 *)text.unit[i].text, strlen(text.unit[i].text) }));
	keep_package(x, v);
	return OK;
}

/* The kernels of one processor. */
static Status add_variant(Export *x, u32 i, const DriverOptions *o, Cache *cache, Objects *to)
{
	ExportVariant *v = &x->variant[i];
	const char *prefix = arena_printf(x->arena, x->nvariant > 1 ? "%s_%u_" : "%s_", x->name, i);
	DriverObjects d;
	TRY(driver_objects(x->arena, o, cache, prefix, &v->compiled, &d));
	Status s = OK;
	for (u32 k = 0; !s && k < d.code.nunit; k++) {
		VEC_PUSH(x->arena, to, d.object[k]);
		s = write_ir(x, d.compiler, &d.code.unit[k], arena_printf(x->arena, "%s%03u", prefix, k));
	}
	driver_objects_close(&d);
	keep_package(x, v);
	return s;
}

static Status add_interface(Export *x, const CpuLibrary *library, Cache *cache, Objects *to)
{
	CpuCompiler *c;
	CpuOptions options = { .threads = 1, .cache = cache };
	options.cpu = arena_printf(x->arena, "%s/baseline", x->machine);
	TRY(cpu_compiler_create(&options, &c));
	CpuUnit unit = { .name = "interface", .emit = cpu_library_emit, .argument = library };
	cpu_compile(c, x->arena, &unit, 1);
	cpu_compiler_destroy(c);
	add_object(x, to, arena_printf(x->arena, "%s_interface.o", x->name), unit.object);
	return OK;
}

static Status add_runtime(Export *x, Objects *to)
{
	for (const Embedded *r = runtime_objects; r->name; r++)
		if (!strcmp(r->name, x->machine)) {
			add_object(x, to, "plinth_runtime.o", (Blob){ arena_copy(x->arena, r->text, 1, r->n, 64), r->n });
			return OK;
		}
	return FAIL(STATUS_UNSUPPORTED, "this plinth was built without a compiler for %s, and has no runtime library for it; "
		    "docs/export.md says what such a build needs", x->machine);
}

static Status assemble(Export *x, const DriverOptions *o, Cache *cache)
{
	Objects object = { 0 };
	if (!x->cuda)
		TRY(io_make_folder(arena_printf(x->arena, "%s/ir", x->folder)));
	for (u32 i = 0; i < x->nvariant; i++)
		TRY(x->cuda ? add_gpu(x, &x->variant[i], o, cache) : add_variant(x, i, o, cache, &object));
	CpuLibraryVariant *v = NEWN(x->arena, CpuLibraryVariant, x->nvariant);
	ElfData *data = NEWN(x->arena, ElfData, x->nvariant + 1);
	u32 ndata = 0;
	for (u32 i = 0; i < x->nvariant; i++) {
		const ExportVariant *from = &x->variant[i];
		const char *symbol = arena_printf(x->arena, "%s_package_%u", x->name, i);
		v[i] = (CpuLibraryVariant){ from->cpu, from->features, from->package, symbol, from->encoded.n };
		data[ndata++] = (ElfData){ symbol, from->encoded };
	}
	CpuLibrary library = { .name = x->name, .variant = v, .nvariant = x->nvariant, .has_state = x->has_state, .cuda = x->cuda };
	if (x->embedded) {
		library.weights_symbol = arena_printf(x->arena, "%s_weights", x->name);
		library.weights_bytes = x->weights.n;
		data[ndata++] = (ElfData){ library.weights_symbol, x->weights };
	}
	TRY(add_interface(x, &library, cache, &object));
	add_object(x, &object, arena_printf(x->arena, "%s_data.o", x->name), elf_data_object(x->arena, object.v[object.n - 1].bytes, data, ndata));
	TRY(add_runtime(x, &object));
	ElfOptions options = { .soname = arena_printf(x->arena, "lib%s.so", x->name), .needed = cpu_needed,
			       .nneeded = CPU_NEEDED };
	options.export = cpu_library_symbols(x->arena, &library, &options.nexport);
	Blob shared, fixed;
	TRY(elf_link(x->arena, object.v, object.n, &options, &shared));
	TRY(elf_archive(x->arena, object.v, object.n, &fixed));
	x->library_bytes = shared.n;
	TRY(export_write(x, options.soname, shared));
	return export_write(x, arena_printf(x->arena, "lib%s.a", x->name), fixed);
}

Status export_build(Export *x, const DriverOptions *o)
{
	return assemble(x, o, driver_cache(x->arena, o));
}
#else
Status export_plan(Export *x, const DriverOptions *o, const char *cpu)
{
	(void)o, (void)cpu;
	return FAIL(STATUS_UNSUPPORTED, "this plinth was built without LLVM and makes no code for CPUs: %s needs a build with LLVM", x->name);
}
Status export_build(Export *x, const DriverOptions *o)
{
	return export_plan(x, o, NULL);
}
#endif
