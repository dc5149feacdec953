/* codegen/cpu/llvm.h: LLVM as the CPU target uses it: modules being built, structured control flow,
 * compiling many of them to objects (in parallel, and from a cache), linking these.
 *
 * Floating point means what the IR says: no fast-math flags, no contraction; fma is an instruction
 * of its own. So results depend on the graph and on the CpuMachine only.
 *
 * Emission cannot fail: what LLVM's verifier finds is our mistake. */
#ifndef PL_CPU_LLVM_H
#define PL_CPU_LLVM_H
#include "codegen/cpu/llvm_api.h"
#include "codegen/cpu/machine.h"
#include "support/cache.h"

typedef struct CpuCompiler CpuCompiler;

/* ---- a module being built ---- */

typedef struct CpuModule {
	const CpuMachine *machine;
	LLVMContextRef context;
	LLVMModuleRef module;
	LLVMBuilderRef builder;
	LLVMTypeRef none, i1, i8, i16, i32, i64, f16, f32, f64, pointer;
	LLVMValueRef function; /* the one being built */
	const char *prefix;    /* of the names of functions that modules share; NULL: what is called is in this one */
} CpuModule;

typedef struct CpuParameter {
	LLVMTypeRef type;
	const char *name;
	bool noalias; /* this and the rest are for pointers */
	bool readonly;
	u32 align; /* bytes; 0 says nothing */
} CpuParameter;

/* Begins a function and puts the builder at its entry. `local`: not visible outside the module.
 * Functions do not nest. */
LLVMValueRef cpu_function_begin(CpuModule *m, const char *name, LLVMTypeRef result, u32 n,
				const CpuParameter *parameter, bool local);
/* The same without a body: a function of another module's. */
LLVMValueRef cpu_function_declare(CpuModule *m, const char *name, LLVMTypeRef result, u32 n, const CpuParameter *parameter);
/* Returns `result`, or nothing where it is NULL. */
void cpu_function_end(CpuModule *m, LLVMValueRef result);
LLVMValueRef cpu_parameter(const CpuModule *m, u32 index);
/* A call of a function of this module. */
LLVMValueRef cpu_call(CpuModule *m, LLVMValueRef function, u32 n, LLVMValueRef *argument);
/* A C function of the host's, of one of the libraries cpu_needed. Its argument types are the arguments'. */
LLVMValueRef cpu_call_host(CpuModule *m, const char *name, LLVMTypeRef result, u32 n,
			   LLVMValueRef *argument);
/* An intrinsic ("llvm.fma") overloaded on `noverload` types. */
LLVMValueRef cpu_intrinsic(CpuModule *m, const char *name, u32 noverload, LLVMTypeRef *overload,
			   u32 n, LLVMValueRef *argument);

/* ---- scalar constants, integers, addresses ---- */

LLVMValueRef cpu_i1(const CpuModule *m, bool x);
LLVMValueRef cpu_i32(const CpuModule *m, i64 x); /* its low 32 bits */
LLVMValueRef cpu_i64(const CpuModule *m, i64 x);
LLVMValueRef cpu_f32(const CpuModule *m, f32 x); /* to the bit */
LLVMValueRef cpu_f64(const CpuModule *m, f64 x);

/* i64 arithmetic for indexing; it must not overflow. Constants fold. */
LLVMValueRef cpu_add(CpuModule *m, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef cpu_sub(CpuModule *m, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef cpu_mul(CpuModule *m, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef cpu_min(CpuModule *m, LLVMValueRef a, LLVMValueRef b); /* signed */
LLVMValueRef cpu_max(CpuModule *m, LLVMValueRef a, LLVMValueRef b); /* signed */
/* Of nonnegative numbers. */
LLVMValueRef cpu_div(CpuModule *m, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef cpu_div_up(CpuModule *m, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef cpu_rem(CpuModule *m, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef cpu_less(CpuModule *m, LLVMValueRef a, LLVMValueRef b); /* signed; i1 */
LLVMValueRef cpu_equal(CpuModule *m, LLVMValueRef a, LLVMValueRef b);

/* base + bytes; base + index * sizeof element. The result must lie in the same buffer. */
LLVMValueRef cpu_at_byte(CpuModule *m, LLVMValueRef base, LLVMValueRef bytes);
LLVMValueRef cpu_at(CpuModule *m, LLVMTypeRef element, LLVMValueRef base, LLVMValueRef index);
/* Scratch on the stack, made at the function's entry: once, also when asked for in a loop. */
LLVMValueRef cpu_stack(CpuModule *m, LLVMTypeRef element, u64 count, u32 align);
/* A constant array in the module: its address. `element` is i8, i32, i64, f32 or f64. */
LLVMValueRef cpu_table(CpuModule *m, LLVMTypeRef element, const LLVMValueRef *value, u32 n);

/* ---- control flow ---- */

#define CPU_CARRIED 80

/* for (index = begin; index < end; index += step), step > 0, i64, with values carried from one turn
 * to the next: accumulators stay in registers. */
typedef struct CpuLoop {
	LLVMValueRef index;
	/* at the top of a turn; after cpu_loop_end: after the loop */
	LLVMValueRef carried[CPU_CARRIED];
	u32 ncarried;
	u32 unroll; /* may be set before cpu_loop_end: 0 as LLVM likes, 1 not at all, n turns */
	/* private */
	LLVMValueRef end, step, initial[CPU_CARRIED];
	LLVMBasicBlockRef guard, body, after;
} CpuLoop;

void cpu_loop_begin(CpuModule *m, CpuLoop *loop, LLVMValueRef begin, LLVMValueRef end,
		    LLVMValueRef step, u32 n, const LLVMValueRef *initial);
/* `next`: what is carried into the next turn. */
void cpu_loop_end(CpuModule *m, CpuLoop *loop, const LLVMValueRef *next);

/* if (condition) { ... } else { ... }, the else may be left out. */
typedef struct CpuIf {
	LLVMValueRef value[CPU_CARRIED]; /* after cpu_if_end: those of the branch taken */
	/* private */
	LLVMBasicBlockRef then_end, otherwise, after;
	bool has_else;
} CpuIf;

/* `odds`: how often the condition holds, in percent; 50 says nothing. */
void cpu_if_begin(CpuModule *m, CpuIf *branch, LLVMValueRef condition, u32 odds);
void cpu_if_else(CpuModule *m, CpuIf *branch);
/* Joins n values: then_value from the first branch, else_value from the second, or from before the
 * if where there is no else. */
void cpu_if_end(CpuModule *m, CpuIf *branch, u32 n, const LLVMValueRef *then_value,
		const LLVMValueRef *else_value);

/* ---- compiling ---- */

typedef struct CpuOptions {
	const char *cpu;    /* see cpu_machine; NULL is the host */
	const CpuTuning *tuning; /* in place of the machine's; NULL: that */
	u32 threads;        /* that compile; 0: one per core */
	const char *passes; /* LLVM's text of a pipeline; NULL: ours */
	Cache *cache;       /* of objects; NULL: none */
	const char *prefix; /* of the names of kernels' functions; NULL: none */
	bool needs;         /* kernels come with functions that say what a launch needs (NeedsFunction), for sizes that are known
			     * only when they run */
} CpuOptions;

/* Seconds, of the threads together, since the compiler was made. */
typedef struct CpuTimes {
	f64 emit, lookup, optimize, generate;
	u32 hits, misses; /* of the cache; without one all are misses */
} CpuTimes;

PL_MUST_USE Status cpu_compiler_create(const CpuOptions *options, CpuCompiler **out);
void cpu_compiler_destroy(CpuCompiler *c);
const CpuMachine *cpu_compiler_machine(const CpuCompiler *c);
const char *cpu_compiler_prefix(const CpuCompiler *c); /* "" where there is none */
bool cpu_compiler_needs(const CpuCompiler *c);
CpuTimes cpu_compiler_times(const CpuCompiler *c);

/* One module, and so one object. `emit` may run on any thread, and must emit the same each time. */
typedef struct CpuUnit {
	const char *name;
	const char *identity; /* equal for units that this very compiler emits the same for; NULL: nobody says so */
	void (*emit)(CpuModule *m, const void *argument);
	const void *argument;
	Blob object; /* the result, in the arena given to cpu_compile */
	bool cached; /* it was found in the cache */
} CpuUnit;

void cpu_compile(CpuCompiler *c, Arena *a, CpuUnit *unit, u32 n);

/* Units as a shared library, of which those symbols can be named: what runtime/cpu/code.h loads. */
PL_MUST_USE Status cpu_link(Arena *arena, const CpuUnit *unit, u32 n, const char *const *symbol, u32 nsymbol, Blob *out);
/* The C libraries that what they call is in. */
enum { CPU_NEEDED = 2 };
extern const char *const cpu_needed[CPU_NEEDED];

typedef enum CpuText { CPU_IR, CPU_IR_OPTIMIZED, CPU_ASSEMBLY } CpuText;
/* Emits the unit again and prints it. */
void cpu_print(CpuCompiler *c, const CpuUnit *unit, CpuText what, FILE *to);

#endif
