/* codegen/cpu/compile.c: from modules being built to objects, and these linked; see llvm.h.
 *
 * A unit is built, hashed as bitcode, looked up in the cache, and only when missing optimized and
 * turned into an object. Which bitcode this build of the compiler makes of a unit is remembered in the cache too, by
 * the unit's identity, so that what was compiled before is found without building it. Each thread has its own context and target machine: LLVM's are not shared.
 * Vectors are explicit in what is emitted, so a short list of passes does as well as LLVM's -O3 in
 * a third of the time (design: sroa for scratch, hoisting of address arithmetic, unrolling, and
 * simplification). */
#include "codegen/cpu/llvm.h"
#include "codegen/elf.h"
#include "support/build_id.h"
#include "support/clock.h"
#include "support/cpu_features.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS 64
/* instcombine as a name alone would end the process if it needed a second round. It makes a chain of additions to a pointer of a sum
 * of indices, and leaves that in the loop, whatever of the sum was outside: what does not change there is moved out again */
#define PASSES                                                                                     \
	"function(sroa,early-cse,loop-mssa(licm),loop-unroll,"                                     \
	"instcombine<no-verify-fixpoint>,early-cse,loop-mssa(licm),adce)"
/* Of code generation, which takes four fifths of the time. Loops come with their addresses as they should be (the register
 * tile's are pointers that move on), so that reducing strength makes nothing better and takes a third of the time; what
 * levels above Less add (a second scheduling, duplicated tails) changes nothing in loops that count, for a fifth. Nor does
 * the scheduling before registers are allocated, for a tenth: of GPT-2's 46000 instructions as many are spills without it, and
 * its step takes as long. */
static const char *const code_options[] = { "plinth", "-disable-lsr", "-enable-misched=false" };

struct CpuCompiler {
	CpuMachine machine;
	CpuOptions options;
	LLVMTargetRef target;
	LLVMTargetMachineRef target_machine[MAX_THREADS];
	CpuTimes times;
	pthread_mutex_t lock; /* of times */
};

/* Of every machine that code is made for (machine.c). */
static void initialize(void)
{
#define INITIALIZE(target)                   \
	LLVMInitialize##target##TargetInfo(); \
	LLVMInitialize##target##Target();     \
	LLVMInitialize##target##TargetMC();   \
	LLVMInitialize##target##AsmPrinter(); \
	LLVMInitialize##target##AsmParser();
	INITIALIZE(X86)
	INITIALIZE(AArch64)
#undef INITIALIZE
	LLVMParseCommandLineOptions(COUNT(code_options), code_options, NULL);
}

Status cpu_compiler_create(const CpuOptions *options, CpuCompiler **out)
{
	CpuMachine machine;
	TRY(cpu_machine(options->cpu, &machine));
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, initialize);
	LLVMTargetRef target;
	char *why = NULL;
	if (LLVMGetTargetFromTriple(machine.triple, &target, &why)) {
		Status s = FAIL(STATUS_UNSUPPORTED, "this LLVM makes no code for %s: %s",
				machine.triple, why);
		LLVMDisposeMessage(why);
		return s;
	}
	CpuCompiler *c = calloc(1, sizeof *c);
	if (!c)
		return FAIL(STATUS_MEMORY, "no memory for the compiler");
	c->machine = machine;
	if (options->tuning)
		c->machine.tuning = *options->tuning;
	c->options = *options;
	c->target = target;
	if (!c->options.threads)
		c->options.threads = machine.cores;
	c->options.threads = MIN(c->options.threads, MAX_THREADS);
	if (!c->options.passes)
		c->options.passes = PASSES;
	pthread_mutex_init(&c->lock, NULL);
	*out = c;
	return OK;
}

void cpu_compiler_destroy(CpuCompiler *c)
{
	if (!c)
		return;
	for (u32 i = 0; i < MAX_THREADS; i++)
		if (c->target_machine[i])
			LLVMDisposeTargetMachine(c->target_machine[i]);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

const CpuMachine *cpu_compiler_machine(const CpuCompiler *c)
{
	return &c->machine;
}

const char *cpu_compiler_prefix(const CpuCompiler *c)
{
	return c->options.prefix ? c->options.prefix : "";
}

bool cpu_compiler_needs(const CpuCompiler *c)
{
	return c->options.needs;
}

CpuTimes cpu_compiler_times(const CpuCompiler *c)
{
	return c->times;
}

static LLVMTargetMachineRef target_machine(CpuCompiler *c, u32 thread)
{
	if (!c->target_machine[thread])
		c->target_machine[thread] = LLVMCreateTargetMachine(
			c->target, c->machine.triple, c->machine.name, c->machine.features,
			LLVMCodeGenLevelLess, LLVMRelocPIC, LLVMCodeModelDefault);
	assert(c->target_machine[thread]);
	return c->target_machine[thread];
}

/* ---- one unit ---- */

static void build(CpuCompiler *c, u32 thread, const CpuUnit *unit, bool names, CpuModule *m)
{
	LLVMContextRef x = LLVMContextCreate();
	LLVMContextSetDiscardValueNames(x, !names);
	*m = (CpuModule){
		.machine = &c->machine,
		.context = x,
		/* the unit's name is not content: an equal unit of another name is the same code */
		.module = LLVMModuleCreateWithNameInContext("plinth", x),
		.builder = LLVMCreateBuilderInContext(x),
		.none = LLVMVoidTypeInContext(x),
		.i1 = LLVMInt1TypeInContext(x),
		.i8 = LLVMInt8TypeInContext(x),
		.i16 = LLVMInt16TypeInContext(x),
		.i32 = LLVMInt32TypeInContext(x),
		.i64 = LLVMInt64TypeInContext(x),
		.f16 = LLVMHalfTypeInContext(x),
		.f32 = LLVMFloatTypeInContext(x),
		.f64 = LLVMDoubleTypeInContext(x),
		.pointer = LLVMPointerTypeInContext(x, 0),
	};
	LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(target_machine(c, thread));
	LLVMSetTarget(m->module, c->machine.triple);
	LLVMSetModuleDataLayout(m->module, layout);
	LLVMDisposeTargetData(layout);
	unit->emit(m, unit->argument);
	assert(!m->function && "a function was begun and not ended");
#ifndef NDEBUG
	char *why = NULL;
	if (LLVMVerifyModule(m->module, LLVMReturnStatusAction, &why)) {
		char *text = LLVMPrintModuleToString(m->module);
		fprintf(stderr, "%s\n%s: %s\n", text, unit->name, why);
		NEVER("the emitted module is not valid");
	}
	LLVMDisposeMessage(why);
#endif
}

static void drop(CpuModule *m)
{
	LLVMDisposeBuilder(m->builder);
	LLVMDisposeModule(m->module);
	LLVMContextDispose(m->context);
}

static void optimize(CpuCompiler *c, u32 thread, CpuModule *m)
{
	LLVMPassBuilderOptionsRef o = LLVMCreatePassBuilderOptions();
	LLVMErrorRef e = LLVMRunPasses(m->module, c->options.passes, target_machine(c, thread), o);
	LLVMDisposePassBuilderOptions(o);
	if (e) {
		char *why = LLVMGetErrorMessage(e);
		fprintf(stderr, "%s: %s\n", c->options.passes, why);
		NEVER("the list of LLVM passes is not valid");
	}
}

static LLVMMemoryBufferRef generate(CpuCompiler *c, u32 thread, CpuModule *m,
				    LLVMCodeGenFileType type)
{
	LLVMMemoryBufferRef buffer = NULL;
	char *why = NULL;
	if (LLVMTargetMachineEmitToMemoryBuffer(target_machine(c, thread), m->module, type, &why,
						&buffer)) {
		fprintf(stderr, "%s\n", why);
		NEVER("LLVM makes no code of a valid module");
	}
	return buffer;
}

/* Of what is compiled (`what`, in a way of its own), for the processor and with the options at hand. */
static CacheKey make_key(const CpuCompiler *c, u32 way, Blob what, Blob more)
{
	unsigned major, minor, patch;
	LLVMGetVersion(&major, &minor, &patch);
	u32 rest[] = { way, major, minor, patch };
	const CpuMachine *cpu = &c->machine;
	/* code is made for these too: ranks that a launcher has bound to a core have other tiles than a process that has them all */
	u64 sizes[] = { cpu->cores, cpu->line, cpu->l1, cpu->l2, cpu->l3, cpu->lanes, cpu->registers, cpu->has_fma, cpu->has_f16,
			cpu->has_bf16, cpu->bf16_pairs, cpu->has_vnni, cpu->tuning.rows, cpu->tuning.vectors, cpu->tuning.k,
			cpu->tuning.panels, cpu->tuning.chunk };
	Blob piece[] = {
		{ (const u8 *)sizes, sizeof sizes },
		what,
		more,
		{ (const u8 *)cpu->name, strlen(cpu->name) },
		{ (const u8 *)cpu->features, strlen(cpu->features) },
		{ (const u8 *)cpu->triple, strlen(cpu->triple) },
		{ (const u8 *)c->options.passes, strlen(c->options.passes) },
		{ (const u8 *)rest, sizeof rest },
	};
	return cache_key(piece, COUNT(piece));
}

enum { BY_BITCODE = 6, BY_IDENTITY = 7 }; /* and how code is generated */

static CacheKey key_of(const CpuCompiler *c, const CpuModule *m)
{
	LLVMMemoryBufferRef bitcode = LLVMWriteBitcodeToMemoryBuffer(m->module);
	Blob what = { (const u8 *)LLVMGetBufferStart(bitcode), LLVMGetBufferSize(bitcode) };
	CacheKey key = make_key(c, BY_BITCODE, what, (Blob){ 0 });
	LLVMDisposeMemoryBuffer(bitcode);
	return key;
}

/* Can the unit be found by its identity? Then *key is where its object's key is. */
static bool identity_key(const CpuCompiler *c, const CpuUnit *unit, CacheKey *key)
{
	Blob build = build_id();
	if (!c->options.cache || !unit->identity)
		return false;
	*key = make_key(c, BY_IDENTITY, (Blob){ (const u8 *)unit->identity, strlen(unit->identity) }, build);
	return build.n > 0;
}

/* The object, if this compiler made it before. */
static bool recall(CpuCompiler *c, CpuUnit *unit, Blob *object)
{
	CacheKey by, key;
	Blob known;
	f64 start = clock_seconds();
	bool found = identity_key(c, unit, &by) && cache_get(c->options.cache, by, &known);
	if (found) {
		found = known.n == sizeof key;
		if (found)
			memcpy(&key, known.p, sizeof key);
		free((void *)(uintptr_t)known.p);
		found = found && cache_get(c->options.cache, key, object);
	}
	unit->cached = found;
	c->times.hits += found;
	c->times.lookup += clock_seconds() - start;
	return found;
}

static void remember(CpuCompiler *c, const CpuUnit *unit, CacheKey key)
{
	CacheKey by;
	if (identity_key(c, unit, &by))
		cache_put(c->options.cache, by, (Blob){ (const u8 *)&key, sizeof key });
}

/* The object comes back malloc'ed: arenas are not for several threads. */
static Blob compile(CpuCompiler *c, u32 thread, CpuUnit *unit)
{
	CpuTimes t = { 0 };
	f64 start = clock_seconds(), next;
	CpuModule m;
	build(c, thread, unit, false, &m);
	t.emit = (next = clock_seconds()) - start;
	start = next;

	CacheKey key = { 0 };
	Blob object = { 0 };
	unit->cached = false;
	if (c->options.cache) {
		key = key_of(c, &m);
		unit->cached = cache_get(c->options.cache, key, &object);
		t.lookup = (next = clock_seconds()) - start;
		start = next;
	}
	if (!unit->cached) {
		optimize(c, thread, &m);
		t.optimize = (next = clock_seconds()) - start;
		start = next;
		LLVMMemoryBufferRef buffer = generate(c, thread, &m, LLVMObjectFile);
		object.n = LLVMGetBufferSize(buffer);
		object.p = malloc(object.n);
		if (!object.p)
			NEVER("no memory for an object");
		memcpy((u8 *)(uintptr_t)object.p, LLVMGetBufferStart(buffer), object.n);
		LLVMDisposeMemoryBuffer(buffer);
		t.generate = (next = clock_seconds()) - start;
		start = next;
		if (c->options.cache) {
			cache_put(c->options.cache, key, object);
			t.lookup += clock_seconds() - start;
		}
	}
	if (c->options.cache)
		remember(c, unit, key);
	drop(&m);

	pthread_mutex_lock(&c->lock);
	c->times.emit += t.emit;
	c->times.lookup += t.lookup;
	c->times.optimize += t.optimize;
	c->times.generate += t.generate;
	c->times.hits += unit->cached;
	c->times.misses += !unit->cached;
	pthread_mutex_unlock(&c->lock);
	return object;
}

/* ---- many units ---- */

typedef struct Work {
	CpuCompiler *compiler;
	CpuUnit *unit;
	Blob *object;
	const u32 *todo; /* units that are to be made */
	u32 n;
	atomic_uint next, threads;
} Work;

static void *worker(void *argument)
{
	Work *w = argument;
	u32 thread = atomic_fetch_add(&w->threads, 1), i;
	while ((i = atomic_fetch_add(&w->next, 1)) < w->n)
		w->object[w->todo[i]] = compile(w->compiler, thread, &w->unit[w->todo[i]]);
	return NULL;
}

void cpu_compile(CpuCompiler *c, Arena *a, CpuUnit *unit, u32 n)
{
	u32 *todo = NEWN(a, u32, n + 1);
	Work w = { .compiler = c, .unit = unit, .object = NEWN(a, Blob, n), .todo = todo };
	for (u32 i = 0; i < n; i++)
		if (!recall(c, &unit[i], &w.object[i]))
			todo[w.n++] = i;
	pthread_t thread[MAX_THREADS];
	u32 nthread = MIN(c->options.threads, w.n), started = 0;
	/* the caller works too; where no thread is to be had, it works alone */
	while (started + 1 < nthread && pthread_create(&thread[started], NULL, worker, &w) == 0)
		started++;
	worker(&w);
	for (u32 i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	for (u32 i = 0; i < n; i++) {
		unit[i].object =
			(Blob){ arena_copy(a, w.object[i].p, 1, w.object[i].n, 16), w.object[i].n };
		free((void *)(uintptr_t)w.object[i].p);
	}
	if (c->options.cache)
		cache_trim(c->options.cache);
}

const char *const cpu_needed[CPU_NEEDED] = { "libm.so.6", "libc.so.6" };

Status cpu_link(Arena *arena, const CpuUnit *unit, u32 n, const char *const *symbol, u32 nsymbol, Blob *out)
{
	ObjectFile *object = NEWN(arena, ObjectFile, n + 1);
	for (u32 i = 0; i < n; i++)
		object[i] = (ObjectFile){ unit[i].name, unit[i].object };
	ElfOptions options = { .export = symbol, .nexport = nsymbol, .needed = cpu_needed, .nneeded = CPU_NEEDED };
	return elf_link(arena, object, n, &options, out);
}

void cpu_print(CpuCompiler *c, const CpuUnit *unit, CpuText what, FILE *to)
{
	CpuModule m;
	build(c, 0, unit, true, &m);
	if (what != CPU_IR)
		optimize(c, 0, &m);
	if (what == CPU_ASSEMBLY) {
		LLVMMemoryBufferRef text = generate(c, 0, &m, LLVMAssemblyFile);
		fwrite(LLVMGetBufferStart(text), 1, LLVMGetBufferSize(text), to);
		LLVMDisposeMemoryBuffer(text);
	} else {
		char *text = LLVMPrintModuleToString(m.module);
		fputs(text, to);
		LLVMDisposeMessage(text);
	}
	drop(&m);
}
