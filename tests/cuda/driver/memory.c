/* memory.c: ld and st, and where an address leads. Every access is checked: in an allocation of the
 * device, in the block's shared memory, in the thread's frame, aligned to what it moves. */
#include "decode.h"
#include "race.h"

bool space_of_address(u64 generic, Space *space, u64 *address)
{
	u64 window = generic & ~(WINDOW_SIZE - 1);
	*space = window == SHARED_WINDOW ? SPACE_SHARED : window == LOCAL_WINDOW ? SPACE_LOCAL
	       : window == PARAM_WINDOW ? SPACE_PARAM : SPACE_GLOBAL;
	*address = *space == SPACE_GLOBAL ? generic : generic - window;
	return true;
}

/* Why `address` is in no allocation, in words. */
static void describe(const Launch *x, u64 address, u32 bytes, char *out, size_t n)
{
	for (u32 i = 0; i < x->nrange; i++) {
		const Range *r = &x->range[i];
		if (address < r->base + r->size && address + bytes > r->base + r->size && address >= r->base) {
			snprintf(out, n, "the last %llu bytes lie past the end of an allocation of %llu bytes",
				 (unsigned long long)(address + bytes - r->base - r->size), (unsigned long long)r->size);
			return;
		}
		if (address >= r->base + r->size && address - r->base - r->size < 1 << 16) {
			snprintf(out, n, "%llu bytes past the end of an allocation of %llu bytes",
				 (unsigned long long)(address - r->base - r->size), (unsigned long long)r->size);
			return;
		}
		if (address < r->base && r->base - address <= 1 << 12) {
			snprintf(out, n, "%llu bytes before an allocation of %llu bytes",
				 (unsigned long long)(r->base - address), (unsigned long long)r->size);
			return;
		}
	}
	snprintf(out, n, "%s", address < 1 << 16 ? "a null pointer" : "in no allocation");
}

static u8 *resolve_global(Warp *w, const Inst *in, int lane, u64 address, u32 bytes)
{
	Block *b = w->block;
	const Launch *x = b->launch;
	if (address - b->recent.base < b->recent.size && address - b->recent.base + bytes <= b->recent.size)
		return (u8 *)(address + (u64)x->to_host);
	u32 low = 0, high = x->nrange;
	while (low < high) {
		u32 middle = (low + high) / 2;
		if (x->range[middle].base + x->range[middle].size <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < x->nrange && address >= x->range[low].base &&
	    address + bytes <= x->range[low].base + x->range[low].size) {
		b->recent = x->range[low];
		return (u8 *)(address + (u64)x->to_host);
	}
	char why[200];
	describe(x, address, bytes, why, sizeof why);
	fault(w, in, lane, ERROR_ILLEGAL_ADDRESS, "%u bytes at address 0x%llx: %s", bytes, (unsigned long long)address, why);
	return NULL;
}

u8 *resolve(Warp *w, const Inst *in, int lane, Space space, u64 address, u32 bytes, bool write)
{
	if (address & (bytes - 1)) {
		fault(w, in, lane, ERROR_MISALIGNED, "%u bytes at address 0x%llx, which is not a multiple", bytes,
		      (unsigned long long)address);
		return NULL;
	}
	return resolve_unaligned(w, in, lane, space, address, bytes, write);
}

u8 *resolve_unaligned(Warp *w, const Inst *in, int lane, Space space, u64 address, u32 bytes, bool write)
{
	Block *b = w->block;
	if (space == SPACE_GENERIC)
		space_of_address(address, &space, &address);
	switch (space) {
	case SPACE_SHARED:
		if (address < SHARED_RESERVED || address + bytes > b->shared_end) {
			fault(w, in, lane, ERROR_ILLEGAL_ADDRESS,
			      "%u bytes at shared address %llu of a block that has %u to %u", bytes,
			      (unsigned long long)address, SHARED_RESERVED, b->shared_end);
			return NULL;
		}
		return b->shared + address;
	case SPACE_LOCAL:
		if (address < LOCAL_RESERVED || address + bytes > LOCAL_RESERVED + (u64)w->kernel->local_bytes) {
			fault(w, in, lane, ERROR_ILLEGAL_ADDRESS, "%u bytes at local address %lld of a frame of %u", bytes,
			      (long long)address - LOCAL_RESERVED, w->kernel->local_bytes);
			return NULL;
		}
		return w->local + (size_t)lane * w->kernel->local_bytes + address - LOCAL_RESERVED;
	case SPACE_PARAM:
		if (write || address + bytes > w->kernel->function->param_bytes) {
			fault(w, in, lane, ERROR_ILLEGAL_ADDRESS, "%u bytes %s parameter byte %llu of %u", bytes,
			      write ? "written to" : "read from", (unsigned long long)address,
			      w->kernel->function->param_bytes);
			return NULL;
		}
		return b->launch->params + address;
	case SPACE_CONST:
		if (write) {
			fault(w, in, lane, ERROR_ILLEGAL_ADDRESS, "a constant is written");
			return NULL;
		}
		return resolve_global(w, in, lane, address, bytes);
	default:
		return resolve_global(w, in, lane, address, bytes);
	}
}

/* False: a race, which is reported. */
static bool check(Warp *w, const Inst *in, int lane, u64 address, u32 bytes, int kind)
{
	Space space = (Space)in->space;
	if (!w->block->race)
		return true;
	if (space == SPACE_GENERIC)
		space_of_address(address, &space, &address);
	if (space == SPACE_SHARED)
		return race_access(w, in, lane, (u32)address, bytes, kind);
	return space != SPACE_GLOBAL || !settings()->race || race_global(w, in, lane, address, bytes, kind);
}

/* One element of a register, `size` bytes from memory; sign as the type says. */
static inline void put(Warp *w, u32 slot, bool wide, u8 type, int l, const u8 *from, u32 size)
{
	u64 v = 0;
	switch (size) {
	case 1: v = type == TYPE_S8 ? (u64)(i64)*(const i8 *)from : *from; break;
	case 2: {
		u16 h;
		memcpy(&h, from, 2);
		v = type == TYPE_S16 ? (u64)(i64)(i16)h : h;
		break;
	}
	case 4: {
		u32 s;
		memcpy(&s, from, 4);
		v = type == TYPE_S32 ? (u64)(i64)(i32)s : s;
		break;
	}
	default: memcpy(&v, from, 8);
	}
	if (wide)
		r64(w, slot)[l] = v;
	else
		r32(w, slot)[l] = (u32)v;
}

/* ld: list holds the destinations, reg[1] the base. */
static Action load(Warp *w, const Inst *in, u32 mask)
{
	u32 bytes = (u32)in->size * in->count;
	bool wide = in->wide & 1;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u64 address = operand_of(w, in, 1, l) + (u64)in->offset;
		const u8 *p = resolve(w, in, l, (Space)in->space, address, bytes, false);
		if (!p)
			return FAULT;
		if (!check(w, in, l, address, bytes, ACCESS_READ))
			return FAULT;
		for (u32 i = 0; i < in->count; i++)
			put(w, in->list[i], wide, in->type, l, p + i * in->size, in->size);
	}
	return GO;
}

static Action load_32(Warp *w, const Inst *in, u32 mask)
{
	u32 *d = r32(w, in->list[0]);
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u64 address = operand_of(w, in, 1, l) + (u64)in->offset;
		const u8 *p = resolve(w, in, l, (Space)in->space, address, 4, false);
		if (!p)
			return FAULT;
		if (!check(w, in, l, address, 4, ACCESS_READ))
			return FAULT;
		memcpy(&d[l], p, 4);
	}
	return GO;
}

static Action store(Warp *w, const Inst *in, u32 mask)
{
	u32 bytes = (u32)in->size * in->count;
	bool wide = in->wide & 2;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u64 address = operand_of(w, in, 0, l) + (u64)in->offset;
		u8 *p = resolve(w, in, l, (Space)in->space, address, bytes, true);
		if (!p)
			return FAULT;
		if (!check(w, in, l, address, bytes, ACCESS_WRITE))
			return FAULT;
		for (u32 i = 0; i < in->count; i++) {
			u64 v = wide ? r64(w, in->list[i])[l] : r32(w, in->list[i])[l];
			memcpy(p + i * in->size, &v, in->size);
		}
	}
	return GO;
}

static u32 take_vector(Decoder *d)
{
	return take(d, "v2") ? 2 : take(d, "v4") ? 4 : take(d, "v8") ? 8 : 1;
}

static void access(Decoder *d, Inst *in)
{
	take_order(d);
	take_cache_hints(d);
	in->space = (u8)take_space_of(d, SPACE_GENERIC);
	in->count = (u8)take_vector(d);
	Type t = take_type(d);
	in->type = (u8)t;
	in->size = (u8)type_bytes(t);
	if (in->size > 8 || !in->size)
		decode_fail(d, "this type is not known in a memory access");
}

static void decode_ld(Decoder *d, Inst *in)
{
	access(d, in);
	/* A last operand is a cache policy. */
	expect_operands(d, 2, 3);
	address(d, in, 1, 1);
	list_of(d, in, 0, (Type)in->type, true);
	if (in->nlist != in->count)
		decode_fail(d, "%u destinations for %u elements", in->nlist, in->count);
	in->run = in->size == 4 && in->count == 1 && !(in->wide & 1) ? load_32 : load;
}

static void decode_st(Decoder *d, Inst *in)
{
	access(d, in);
	expect_operands(d, 2, 3);
	address(d, in, 0, 0);
	list_of(d, in, 1, (Type)in->type, false);
	if (in->nlist != in->count)
		decode_fail(d, "%u sources for %u elements", in->nlist, in->count);
	in->run = store;
}

const Family family_memory[] = {
	{ "ld", decode_ld }, { "ldu", decode_ld }, { "st", decode_st }, { NULL, NULL },
};
