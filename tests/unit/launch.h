/* tests/unit/launch.h: one launch of a kernel's code, with what its slots hold before and what they should hold after:
 * run in several ways and compared; or written to a file and read again, so that another processor runs what this one
 * compiled (tests/emulator). Of the compiler nothing is needed to read and run them.
 *
 * A file: how many launches, the shared library that holds their code, then the launches; this machine's bytes. */
#ifndef PL_TEST_LAUNCH_H
#define PL_TEST_LAUNCH_H
#include "support/float8.h"
#include "codegen/package.h"
#include "ir/target.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct LaunchSlot {
	DType dtype;
	i64 elements;
	u8 *before;
	f64 *want; /* NULL: it is only read, and stays */
} LaunchSlot;

typedef struct Launch {
	const char *name, *symbol;
	LaunchNeeds needs;
	u32 nnumber, nslot;
	i64 *number;
	LaunchSlot *slot;
	/* allowed: units in the last place of the slot's dtype, of a number as large as the wanted one or
	 * `scale`. 0: the same bits */
	f64 ulps, scale;
} Launch;

static inline u64 launch_slot_bytes(const LaunchSlot *s)
{
	return (u64)s->elements * dtype_info[s->dtype].bytes;
}

/* ---- numbers in memory ---- */

static inline f64 ulp_of(DType d)
{
	return d == DT_f64 ? 0x1p-52 : d == DT_f32 ? 0x1p-23 : d == DT_bf16 ? 0x1p-7 : d == DT_f16 ? 0x1p-10 :
	       d == DT_f8e4m3 ? 0x1p-3 : d == DT_f8e5m2 ? 0x1p-2 : 0;
}

static inline u16 f16_bits(f64 x)
{
	u16 sign = signbit(x) ? 0x8000 : 0;
	x = fabs(x);
	if (isnan(x))
		return 0x7e00;
	if (isinf(x))
		return sign | 0x7c00;
	int e;
	if (x < 0x1p-14)
		return sign | (u16)(x * 0x1p24);
	f64 m = frexp(x, &e);
	return sign | (u16)((e + 14) << 10 | ((int)(m * 2048) & 1023));
}

static inline f64 f16_value(u16 b)
{
	int e = b >> 10 & 31, m = b & 1023;
	f64 x = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
	return b & 0x8000 ? -x : x;
}

static inline void put(DType d, void *base, i64 i, f64 x)
{
	switch (d) {
	case DT_b1:
	case DT_u8: ((u8 *)base)[i] = (u8)x; break;
	case DT_i8: ((i8 *)base)[i] = (i8)x; break;
	case DT_u32: ((u32 *)base)[i] = (u32)x; break;
	case DT_i32: ((i32 *)base)[i] = (i32)x; break;
	case DT_i64: ((i64 *)base)[i] = (i64)x; break;
	case DT_f64: ((f64 *)base)[i] = x; break;
	case DT_f32: ((f32 *)base)[i] = (f32)x; break;
	case DT_f8e4m3: ((u8 *)base)[i] = f8e4m3_from_f32((f32)x); break;
	case DT_f8e5m2: ((u8 *)base)[i] = f8e5m2_from_f32((f32)x); break;
	case DT_f16: ((u16 *)base)[i] = f16_bits(x); break;
	default: {
		f32 f = (f32)x;
		u32 bits;
		memcpy(&bits, &f, 4);
		((u16 *)base)[i] = (u16)(bits >> 16);
	}
	}
}

static inline f64 get(DType d, const void *base, i64 i)
{
	switch (d) {
	case DT_b1:
	case DT_u8: return ((const u8 *)base)[i];
	case DT_i8: return ((const i8 *)base)[i];
	case DT_u32: return ((const u32 *)base)[i];
	case DT_i32: return ((const i32 *)base)[i];
	case DT_i64: return (f64)((const i64 *)base)[i];
	case DT_f64: return ((const f64 *)base)[i];
	case DT_f32: return (f64)((const f32 *)base)[i];
	case DT_f8e4m3: return (f64)f32_from_f8e4m3(((const u8 *)base)[i]);
	case DT_f8e5m2: return (f64)f32_from_f8e5m2(((const u8 *)base)[i]);
	case DT_f16: return f16_value(((const u16 *)base)[i]);
	default: {
		u32 bits = (u32)((const u16 *)base)[i] << 16;
		f32 f;
		memcpy(&f, &bits, 4);
		return (f64)f;
	}
	}
}

/* ---- running ---- */

enum { ZONE = 256 /* bytes around every buffer that must stay */ };

static inline u8 *zoned(Arena *a, u64 bytes)
{
	u8 *p = (u8 *)arena_push(a, 1, bytes + 2 * ZONE, 64);
	memset(p, 0xa5, bytes + 2 * ZONE);
	return p + ZONE;
}

static inline bool zone_stays(const u8 *p, u64 bytes)
{
	for (u32 i = 0; i < ZONE; i++)
		if (p[-1 - (i64)i] != 0xa5 || p[bytes + i] != 0xa5)
			return false;
	return true;
}

/* Memory for a slot that ends where nothing is, or begins behind where nothing is: what is read or written there ends the test. It is
 * aligned as its elements are, and no better. */
typedef struct Fenced {
	u8 *map, *slot;
	u64 size;
} Fenced;

static inline Fenced fenced(u64 bytes, bool at_end)
{
	u64 page = (u64)sysconf(_SC_PAGESIZE), inside = (bytes + page - 1) / page * page;
	Fenced f = { .size = inside + 2 * page };
	f.map = mmap(NULL, f.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(f.map != MAP_FAILED);
	if (inside && mprotect(f.map + page, inside, PROT_READ | PROT_WRITE) != 0)
		assert(!"memory for a slot");
	f.slot = at_end ? f.map + page + inside - bytes : f.map + page;
	return f;
}

/* Runs all phases, each in `ways` parts, the last part first where `backwards`. NULL, or what is wrong. */
static inline const char *launch_phases(const Launch *l, KernelFunction *f, void *const *slot, Arena *a, u32 ways, bool backwards)
{
	const LaunchNeeds *n = &l->needs;
	/* NaN: what nothing has written must not reach a result */
	u8 *workspace = memset(zoned(a, n->workspace), 0xff, n->workspace), *scratch[8];
	for (u32 w = 0; w < ways; w++)
		scratch[w] = memset(zoned(a, n->thread_scratch), 0xff, n->thread_scratch);
	for (u32 p = 0; p < n->nphase; p++)
		for (u32 i = 0; i < ways; i++) {
			u32 w = backwards ? ways - 1 - i : i;
			i64 from = n->tasks[p] * w / ways, to = n->tasks[p] * (w + 1) / ways;
			if (from < to)
				f(slot, l->number, workspace, scratch[w], p, from, to);
		}
	if (!zone_stays(workspace, n->workspace))
		return arena_printf(a, "%s: writes beyond its workspace", l->name);
	for (u32 w = 0; w < ways; w++)
		if (!zone_stays(scratch[w], n->thread_scratch))
			return arena_printf(a, "%s: writes beyond its scratch", l->name);
	return NULL;
}

static inline const char *launch_compare(const Launch *l, u32 slot, const u8 *got, Arena *a)
{
	const LaunchSlot *s = &l->slot[slot];
	if (!s->want)
		return memcmp(got, s->before, launch_slot_bytes(s)) ? arena_printf(a, "%s: writes slot %u, which it reads", l->name, slot)
								     : NULL;
	for (i64 i = 0; i < s->elements; i++) {
		f64 x = get(s->dtype, got, i), w = s->want[i];
		if (s->dtype == DT_f32 && (l->ulps == 0 || fabs(w) > dtype_info[DT_f32].largest))
			w = (f64)(f32)w;
		f64 allowed = l->ulps * ulp_of(s->dtype) * fmax(fabs(w), l->scale);
		bool same = x == w || (isnan(x) && isnan(w));
		if (!same && !(fabs(x - w) <= allowed))
			return arena_printf(a, "%s: slot %u element %lld is %.9g, not %.9g (allowed %.3g)", l->name, slot, (long long)i, x,
					    w, allowed);
	}
	return NULL;
}

/* Nothing outside of its slots is read: they lie at the edges of what there is, at one end and then at the other. The bits are those of
 * `first`. */
static inline const char *launch_fenced(const Launch *l, KernelFunction *f, u8 *const *first, Arena *a)
{
	const char *wrong = NULL;
	for (u32 at_end = 0; at_end < 2 && !wrong; at_end++) {
		Fenced *of = NEWN(a, Fenced, l->nslot + 1);
		void **slot = NEWN(a, void *, l->nslot + 1);
		for (u32 s = 0; s < l->nslot; s++) {
			of[s] = fenced(launch_slot_bytes(&l->slot[s]), at_end);
			slot[s] = memcpy(of[s].slot, l->slot[s].before, launch_slot_bytes(&l->slot[s]));
		}
		wrong = launch_phases(l, f, slot, a, 1, false);
		for (u32 s = 0; s < l->nslot; s++) {
			if (!wrong && memcmp(first[s], slot[s], launch_slot_bytes(&l->slot[s])) != 0)
				wrong = arena_printf(a, "%s: slot %u is other bits where it lies at other multiples", l->name, s);
			munmap(of[s].map, of[s].size);
		}
	}
	return wrong;
}

/* Its tasks divided in one, two and three ways, in both orders, which must give the same bits; where `brief`, in one and
 * three, backwards. Nothing around its slots is read, and what is around its slots, workspace and scratch must stay. NULL, or what is wrong, in `a`. */
static inline const char *launch_run(const Launch *l, KernelFunction *f, bool brief, Arena *a)
{
	u8 **first = NEWN(a, u8 *, l->nslot + 1);
	for (u32 ways = 1; ways <= 3; ways += brief ? 2 : 1)
		for (u32 backwards = brief && ways > 1; backwards <= (ways > 1); backwards++) {
			void **slot = NEWN(a, void *, l->nslot + 1);
			for (u32 s = 0; s < l->nslot; s++) {
				u64 bytes = launch_slot_bytes(&l->slot[s]);
				slot[s] = memcpy(zoned(a, bytes), l->slot[s].before, bytes);
			}
			const char *wrong = launch_phases(l, f, slot, a, ways, backwards);
			for (u32 s = 0; s < l->nslot && !wrong; s++) {
				u64 bytes = launch_slot_bytes(&l->slot[s]);
				if (!zone_stays(slot[s], bytes)) {
					wrong = arena_printf(a, "%s: writes beyond slot %u", l->name, s);
				} else if (ways == 1) {
					first[s] = slot[s];
					wrong = launch_compare(l, s, slot[s], a);
				} else if (memcmp(first[s], slot[s], bytes) != 0) {
					wrong = arena_printf(a, "%s: slot %u is other bits in %u parts", l->name, s, ways);
				}
			}
			if (wrong)
				return wrong;
		}
	return brief ? NULL : launch_fenced(l, f, first, a);
}

/* ---- files ---- */

static inline void launch_put(FILE *f, const void *p, u64 n)
{
	if (n)
		fwrite(p, 1, n, f);
}

static inline void launch_put_text(FILE *f, const char *text)
{
	u64 n = strlen(text) + 1;
	launch_put(f, &n, sizeof n);
	launch_put(f, text, n);
}

static inline void launch_write(FILE *f, const Launch *l)
{
	launch_put_text(f, l->name);
	launch_put_text(f, l->symbol);
	launch_put(f, &l->needs, sizeof l->needs);
	launch_put(f, &l->ulps, sizeof l->ulps);
	launch_put(f, &l->scale, sizeof l->scale);
	launch_put(f, &l->nnumber, sizeof l->nnumber);
	launch_put(f, l->number, sizeof *l->number * l->nnumber);
	launch_put(f, &l->nslot, sizeof l->nslot);
	for (u32 s = 0; s < l->nslot; s++) {
		const LaunchSlot *slot = &l->slot[s];
		i64 head[3] = { slot->dtype, slot->elements, slot->want != NULL };
		launch_put(f, head, sizeof head);
		launch_put(f, slot->before, launch_slot_bytes(slot));
		launch_put(f, slot->want, slot->want ? sizeof(f64) * (u64)slot->elements : 0);
	}
}

/* What is left of a file. Running out of it is a fault of ours. */
typedef struct LaunchReader {
	Arena *arena;
	Blob left;
} LaunchReader;

/* n bytes, aligned for every type. */
static inline void *launch_take(LaunchReader *r, u64 n)
{
	assert(n <= r->left.n);
	void *p = memcpy(arena_push(r->arena, 1, n + 1, 64), r->left.p, n);
	r->left = (Blob){ r->left.p + n, r->left.n - n };
	return p;
}

static inline u64 launch_take_u64(LaunchReader *r)
{
	return *(u64 *)launch_take(r, sizeof(u64));
}

static inline Launch launch_read(LaunchReader *r)
{
	Launch l = { 0 };
	l.name = launch_take(r, launch_take_u64(r));
	l.symbol = launch_take(r, launch_take_u64(r));
	l.needs = *(LaunchNeeds *)launch_take(r, sizeof l.needs);
	l.ulps = *(f64 *)launch_take(r, sizeof l.ulps);
	l.scale = *(f64 *)launch_take(r, sizeof l.scale);
	l.nnumber = *(u32 *)launch_take(r, sizeof l.nnumber);
	l.number = launch_take(r, sizeof *l.number * l.nnumber);
	l.nslot = *(u32 *)launch_take(r, sizeof l.nslot);
	l.slot = NEWN(r->arena, LaunchSlot, l.nslot + 1);
	for (u32 s = 0; s < l.nslot; s++) {
		const i64 *head = launch_take(r, 3 * sizeof *head);
		LaunchSlot *slot = &l.slot[s];
		*slot = (LaunchSlot){ .dtype = (DType)head[0], .elements = head[1] };
		slot->before = launch_take(r, launch_slot_bytes(slot));
		if (head[2])
			slot->want = launch_take(r, sizeof(f64) * (u64)slot->elements);
	}
	return l;
}

#endif
