/* exec.h: a kernel ready to run, and the state of its blocks and warps.
 *
 * A warp's registers lie in one file, lane by lane: a 32-bit (or narrower) register is u32[32], a
 * 64-bit one u64[32], a predicate one u32 of bits. Every operand is an offset into it: numbers and
 * special registers are slots that are filled before the warp starts. An instruction is a function over
 * the lanes of a mask.
 *
 * Divergence: the live lanes of a warp are divided into fragments, each with a program counter. Code is
 * laid out so that a loop comes before what follows it (flow.c), the fragment furthest behind runs, and
 * fragments that meet become one ("thread frontiers", Diamos et al., SIMD Re-Convergence at Thread
 * Frontiers, 2011). An instruction that needs certain lanes waits until they have come. */
#ifndef STANDIN_EXEC_H
#define STANDIN_EXEC_H
#include "ptx.h"
#include <math.h>
#include <stdatomic.h>

enum {
	SPIN_LIMIT = 100000,     /* branches of a warp before others have a turn */
	LANES = 32,
	BARRIERS = 16,
	SHARED_RESERVED = 1024,  /* the first byte of shared memory that a kernel has, as on sm_90 */
	LOCAL_RESERVED = 16
};
#define ALL_LANES     0xffffffffu
/* Where generic addresses find the other spaces. Device memory never lies there. */
#define SHARED_WINDOW ((u64)1 << 40)
#define LOCAL_WINDOW  ((u64)2 << 40)
#define PARAM_WINDOW  ((u64)3 << 40)
#define WINDOW_SIZE   ((u64)1 << 40)

typedef struct Warp Warp;
typedef struct Block Block;
typedef struct Launch Launch;
typedef struct Inst Inst;

typedef enum Action {
	GO,      /* on to the next instruction */
	JUMPED,  /* the fragments have been changed */
	WAIT,    /* the fragment waits here, and will do the instruction again */
	FAULT    /* reported by fault() */
} Action;

/* Executes `in` for the lanes of `mask`, which is never empty but for instructions with `always`. */
typedef Action (*Run)(Warp *w, const Inst *in, u32 mask);

struct Inst {
	Run run;
	Run inner;          /* of a wrapper (rounding, saturation, flushing) */
	i32 guard;          /* offset of the predicate, or -1 */
	bool guard_negated;
	bool always;        /* run even where no lane's guard holds */
	bool control;       /* may change fragments */
	u8 wide;            /* bit k: reg[k] is u64[32] */
	u8 type, from;      /* Types */
	u8 space;           /* a Space */
	u8 size, count;     /* bytes of an element; elements */
	u8 round;           /* a Rounding */
	u8 variant, flags;  /* what else an instruction needs to know */
	u32 reg[6];         /* operands' offsets in the order written, scalars */
	u32 *list;          /* offsets of vector operands, one after another */
	u32 nlist;
	i64 offset;         /* of an address; a number that the instruction carries */
	u32 target;         /* of a branch */
	u32 *targets;       /* of an indexed branch */
	u32 ntargets;
	const Statement *statement;
};

typedef enum Rounding { ROUND_NEAREST, ROUND_ZERO, ROUND_DOWN, ROUND_UP, ROUND_AWAY } Rounding;

typedef struct Constant {
	u64 bits;
	u32 offset;
	bool wide;
} Constant;

typedef struct SpecialUse {
	Special which;
	u32 offset;
} SpecialUse;

typedef struct Kernel {
	const char *name;
	Module *module;
	const Function *function;
	Inst *code;
	u32 ncode;
	u32 register_bytes;
	VEC(Constant) constants;
	VEC(SpecialUse) specials;
	u32 shared_bytes;   /* static, from SHARED_RESERVED on */
	u32 dynamic_at;     /* where dynamic shared memory begins */
	bool has_dynamic;
	u32 local_bytes;
	i32 max_dynamic;    /* what the host has opted in to */
} Kernel;

/* decode.c: every entry of a parsed module, whose variables have addresses. NULL and m->error where an
 * instruction is not known. */
Kernel *kernel_decode(Module *m, Function *f);

typedef enum FragmentState {
	READY,
	AT_SYNC,      /* waits for other lanes of its warp */
	AT_BARRIER,   /* waits for other warps at a barrier of the block */
	AT_MBARRIER,  /* waits for the phase of an mbarrier */
	AT_WARPGROUP  /* waits for the other warps of its warpgroup to issue a product */
} FragmentState;

typedef struct Fragment {
	u32 pc, mask;
	FragmentState state;
	u8 barrier;
	bool yielded;     /* ran long: others first */
} Fragment;

/* A wgmma that has been issued, not yet performed. */
typedef struct Pending {
	const Inst *in;
	u64 a, b;         /* descriptors */
	u32 group, number; /* number: which of the warp's products */
	bool add;         /* to what is in the registers */
} Pending;

/* One asynchronous copy of a lane, not yet performed. */
typedef struct Copy {
	u64 to;
	u64 from;         /* global address */
	u32 bytes, source_bytes;
	u32 group;
	u8 lane;
} Copy;

struct Warp {
	u8 *r;
	u8 *local;        /* [LANES][kernel->local_bytes] */
	Block *block;
	const Kernel *kernel;
	u32 index, live;
	u32 carry;        /* the carry flag of each lane */
	Fragment fragment[LANES];
	u32 nfragment, current;
	u32 spin;         /* branches since it last gave way */
	u32 group[LANES]; /* cp.async groups that the lane has committed */
	VEC(Copy) copies; /* pending, oldest first; in block->arena */
	VEC(Pending) products; /* wgmma under way */
	u32 products_committed, products_issued;
};

typedef struct Barrier {
	u32 arrived;      /* threads; an aligned instruction counts whole warps */
	u32 expected;     /* 0: all that live */
	u32 yes, no;      /* bar.red: how many threads' predicates held, and did not */
	bool in_use, aligned;
} Barrier;

/* An allocation of device memory that an access may touch. */
typedef struct Range {
	u64 base, size;
} Range;

struct Block {
	Launch *launch;
	u32 ctaid[3];
	u32 linear;
	Warp *warp;
	u32 nwarp, done;
	u8 *shared;       /* from address 0 */
	u32 shared_end;
	Barrier barrier[BARRIERS];
	Range recent;     /* the last allocation hit */
	u64 random;
	u64 progress;     /* counts what may have let a waiting fragment go on */
	bool spun;        /* a warp gave way because it ran long, or asked in vain */
	Arena arena;      /* for the block's life */
	struct Race *race;
	struct Engine *engine; /* bulk copies and mbarriers */
};

typedef enum Schedule { SCHEDULE_ASCENDING, SCHEDULE_DESCENDING, SCHEDULE_RANDOM } Schedule;

/* From PLINTH_STANDIN (settings.c). */
typedef struct Settings {
	Schedule schedule;
	u64 seed;
	bool async_late, poison, race, uninitialized, streams_eager, short_sums, quiet;
	u32 threads;
	u32 cc;            /* 90 */
	u32 driver;        /* 13000: CUDA 13.0 */
	u64 memory;        /* bytes */
} Settings;

const Settings *settings(void);
void settings_read(void);

struct Launch {
	const Kernel *kernel;
	u32 grid[3], threads[3];
	u32 dynamic;
	u8 *params;
	const Range *range;   /* sorted */
	u32 nrange;
	intptr_t to_host;     /* device address + to_host is where the stand-in can touch it */
	u64 nblock;
	u32 number;           /* of this launch, where races are looked for */
	_Atomic u64 next;
	_Atomic int failed;
	int error;            /* a CUresult */
	char message[1000];
};

/* schedule.c: runs a whole grid; launch->error and message say what went wrong. */
void launch_run(Launch *launch);
/* Runs a fragment of `w` after another until all wait; false after a fault. `budget` instructions at most. */
bool warp_run(Warp *w, u32 budget);
u64 block_random(Block *b);

/* Reports what a lane did wrong; the first report of a launch counts. Returns FAULT. */
PL_PRINTF(5, 6) Action fault(Warp *w, const Inst *in, int lane, int error, const char *format, ...);
enum { ERROR_ILLEGAL_ADDRESS = 700, ERROR_ILLEGAL_INSTRUCTION = 715, ERROR_MISALIGNED = 716, ERROR_LAUNCH_FAILED = 719 };

/* warp.c: the lanes of `needed` must be here together; false: the fragment waits for them. */
bool converged(Warp *w, u32 needed);

/* control.c: opens what barriers the exit of a warp completes. */
void barriers_after_exit(Block *b);
u32 uniform(Warp *w, const Inst *in, u32 k, u32 mask); /* operand k of the first lane of `mask` */

/* memory.c: where `bytes` bytes (a power of two, and the address a multiple of it) are, or NULL after a fault. */
u8 *resolve(Warp *w, const Inst *in, int lane, Space space, u64 address, u32 bytes, bool write);
/* Any number of bytes, anywhere. */
u8 *resolve_unaligned(Warp *w, const Inst *in, int lane, Space space, u64 address, u32 bytes, bool write);
bool space_of_address(u64 generic, Space *space, u64 *address);

/* race.c */
enum { ACCESS_READ, ACCESS_WRITE, ACCESS_ATOMIC, ACCESS_ASYNC };
void race_start(Block *b);
void race_stop(Block *b);
bool race_access(Warp *w, const Inst *in, int lane, u32 address, u32 bytes, int kind);

/* exec_tensor.c: what one instruction of tensor cores makes of c and n products of elements of 8 bits where
 * sums are short: as DeepSeek-AI (2024, DeepSeek-V3, 3.3.2) found of Hopper's, all are aligned with the largest
 * of them and cut off after 14 bits. */
f32 short_sum(f32 c, const f32 *product, u32 n);

/* Accessors of the register file. */
static inline u32 *r32(Warp *w, u32 at)
{
	return (u32 *)(w->r + at);
}
static inline u64 *r64(Warp *w, u32 at)
{
	return (u64 *)(w->r + at);
}
static inline f32 *rf32(Warp *w, u32 at)
{
	return (f32 *)(w->r + at);
}
static inline f64 *rf64(Warp *w, u32 at)
{
	return (f64 *)(w->r + at);
}
static inline u32 predicate(const Warp *w, u32 at)
{
	return *(const u32 *)(w->r + at);
}
static inline void set_predicate(Warp *w, u32 at, u32 mask, u32 bits)
{
	u32 *p = (u32 *)(w->r + at);
	*p = (*p & ~mask) | (bits & mask);
}
/* Operand k of a lane, whatever its width. */
static inline u64 operand_of(Warp *w, const Inst *in, u32 k, int lane)
{
	return in->wide >> k & 1 ? r64(w, in->reg[k])[lane] : r32(w, in->reg[k])[lane];
}

#if defined(__clang__)
#define NO_DEPENDENCE /* its pragma asks for vectors where there are none to be had, and warns */
#else
#define NO_DEPENDENCE _Pragma("GCC ivdep")
#endif
/* A statement for each lane l of `mask`. */
#define EACH_LANE(mask, ...)                                                     \
	do {                                                                     \
		if ((mask) == ALL_LANES) {                                       \
			NO_DEPENDENCE                                            \
			for (int l = 0; l < LANES; l++) {                        \
				__VA_ARGS__                                      \
			}                                                        \
		} else {                                                         \
			for (u32 lanes_ = (mask); lanes_; lanes_ &= lanes_ - 1) { \
				int l = __builtin_ctz(lanes_);                   \
				__VA_ARGS__                                      \
			}                                                        \
		}                                                                \
	} while (0)

/* Narrow formats (formats.c, and here what must be quick). */
u16 f16_of_f64(f64 v, Rounding round);
u16 bf16_of_f64(f64 v, Rounding round);
static inline f32 f32_of_bf16(u16 h)
{
	u32 bits = (u32)h << 16;
	f32 f;
	memcpy(&f, &bits, 4);
	return f;
}
static inline f32 f32_of_bits(u32 bits)
{
	f32 f;
	memcpy(&f, &bits, 4);
	return f;
}
static inline u32 bits_of_f32(f32 f)
{
	u32 bits;
	memcpy(&bits, &f, 4);
	return bits;
}
static inline f32 f32_of_f16(u16 h)
{
	u32 sign = (u32)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
	if (exponent == 31)
		return f32_of_bits(sign | 0x7f800000 | fraction << 13);
	if (exponent)
		return f32_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
	f32 v = (f32)fraction * 0x1p-24f;
	return sign ? -v : v;
}
static inline f32 f32_of_e4m3(u8 b)
{
	u32 sign = (u32)(b & 0x80) << 24, magnitude = b & 0x7f;
	if (magnitude == 0x7f)
		return f32_of_bits(sign | 0x7fc00000);
	if (magnitude >= 8)
		return f32_of_bits(sign | ((magnitude << 20) + (120u << 23)));
	f32 v = (f32)magnitude * 0x1p-9f;
	return sign ? -v : v;
}
/* An element of a matrix product's operand, in the low bits. */
static inline f32 f32_of_element(Type t, u32 bits)
{
	switch (t) {
	case TYPE_BF16: return f32_of_bf16((u16)bits);
	case TYPE_F16: return f32_of_f16((u16)bits);
	case TYPE_E4M3: return f32_of_e4m3((u8)bits);
	case TYPE_E5M2: return f32_of_f16((u16)((bits & 0xff) << 8)); /* its first byte */
	default: return f32_of_bits(bits & 0xffffe000); /* tf32: the low 13 bits are not looked at */
	}
}
#endif
