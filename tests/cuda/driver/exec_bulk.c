/* exec_bulk.c: bulk copies (TMA): a line, or a box of a tensor of up to five dimensions, between global
 * and shared memory. Into shared memory they complete on an mbarrier; out of it in bulk groups.
 * async=late does them when nothing else in the block can go on, or when they are waited for. */
#include "decode.h"
#include "engine.h"
#include "race.h"
#include "tensor_map.h"

static void mark(Block *b, const Bulk *c, int change)
{
	for (u32 i = 0; b->race && i < c->nrow; i++)
		race_pending(b, c->row[i].shared, c->row[i].bytes, change);
}

static void move_row(Block *b, const Bulk *c, const BulkRow *r)
{
	u8 *host = r->global ? (u8 *)(r->global + (u64)b->launch->to_host) : NULL;
	for (u32 at = 0, n; at < r->bytes; at += n) {
		u32 address = r->shared + at;
		u8 *shared = b->shared + swizzled(address, c->swizzle);
		n = MIN(16 - address % 16, r->bytes - at);
		if (c->to_shared && host)
			memcpy(shared, host + at, n);
		else if (c->to_shared)
			memset(shared, c->fill ? 0xff : 0, n);
		else if (host)
			memcpy(host + at, shared, n);
	}
}

static void perform(Block *b, Bulk *c)
{
	for (u32 i = 0; i < c->nrow; i++)
		move_row(b, c, &c->row[i]);
	if (!c->to_shared)
		return;
	mark(b, c, -1);
	for (u32 i = 0; b->race && i < c->nrow; i++)
		race_written(c->warp, c->row[i].shared, c->row[i].bytes);
	Mbarrier *x = mbarrier_at(c->warp, c->in, c->lane, c->mbarrier);
	if (!x)
		return;
	if (b->race)
		race_release(c->warp, x->clock);
	mbarrier_bytes(b, x, c->bytes);
}

static void remove_at(Engine *e, u32 i)
{
	memmove(&e->bulk.v[i], &e->bulk.v[i + 1], (e->bulk.n - i - 1) * sizeof *e->bulk.v);
	e->bulk.n--;
}

bool bulk_step(Block *b)
{
	Engine *e = b->engine;
	u32 loads = 0;
	for (u32 i = 0; e && i < e->bulk.n; i++)
		loads += e->bulk.v[i].to_shared;
	if (!loads)
		return false;
	u32 pick = settings()->schedule == SCHEDULE_RANDOM ? (u32)(block_random(b) % loads)
		 : settings()->schedule == SCHEDULE_DESCENDING ? loads - 1 : 0;
	for (u32 i = 0; i < e->bulk.n; i++)
		if (e->bulk.v[i].to_shared && !pick--) {
			Bulk c = e->bulk.v[i];
			remove_at(e, i);
			perform(b, &c);
			b->progress++;
			return true;
		}
	return false;
}

static Action issue(Warp *w, Bulk c)
{
	Block *b = w->block;
	for (u32 i = 0; i < c.nrow; i++) {
		BulkRow *r = &c.row[i];
		if (!resolve_unaligned(w, c.in, c.lane, SPACE_SHARED, r->shared, r->bytes, c.to_shared) ||
		    (r->global && !resolve_unaligned(w, c.in, c.lane, SPACE_GLOBAL, r->global, r->bytes, !c.to_shared)))
			return FAULT;
		if (b->race && !(c.to_shared ? race_access(w, c.in, c.lane, r->shared, r->bytes, ACCESS_ASYNC)
					     : race_proxy_read(w, c.in, c.lane, r->shared, r->bytes)))
			return FAULT;
		if (settings()->race && r->global &&
		    !race_global(w, c.in, c.lane, r->global, r->bytes, c.to_shared ? ACCESS_READ : ACCESS_WRITE))
			return FAULT;
	}
	if (c.to_shared)
		mark(b, &c, 1);
	if (!settings()->async_late)
		perform(b, &c);
	else
		VEC_PUSH(&b->arena, &engine_of(b)->bulk, c);
	return atomic_load(&b->launch->failed) ? FAULT : GO;
}

/* [to], [from], bytes, [mbarrier] | [to], [from], bytes: reg 0 to, 1 from, 2 bytes, 3 mbarrier. */
static Action line(Warp *w, const Inst *in, u32 mask)
{
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u64 to = operand_of(w, in, 0, l) + (u64)(i64)(i32)in->target, from = operand_of(w, in, 1, l) + (u64)in->offset;
		u32 bytes = (u32)operand_of(w, in, 2, l);
		bool load = in->variant;
		Bulk c = { .warp = w, .in = in, .lane = l, .to_shared = load, .bytes = bytes, .nrow = 1 };
		if (bytes % 16 || to % 16 || from % 16)
			return fault(w, in, l, ERROR_MISALIGNED, "a bulk copy of %u bytes from 0x%llx to 0x%llx: not multiples of 16",
				     bytes, (unsigned long long)from, (unsigned long long)to);
		c.row = NEW(&w->block->arena, BulkRow);
		*c.row = (BulkRow){ load ? from : to, (u32)((load ? to : from) & (WINDOW_SIZE - 1)), bytes };
		if (load)
			c.mbarrier = (u32)(operand_of(w, in, 3, l) & (WINDOW_SIZE - 1));
		else
			c.group = engine_of(w->block)->committed[w->index * LANES + (u32)l];
		if (load && !mbarrier_at(w, in, l, c.mbarrier))
			return FAULT;
		if (bytes && issue(w, c) == FAULT)
			return FAULT;
	}
	return GO;
}

/* reg 0 shared address, 1 map, 3 mbarrier; list: coordinates, the innermost first. */
static Action tensor(Warp *w, const Inst *in, u32 mask)
{
	Block *b = w->block;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		Space space = SPACE_GENERIC;
		u64 at = operand_of(w, in, 1, l) + (u64)in->offset;
		TensorMap t;
		const u8 *p = resolve_unaligned(w, in, l, space, at, 128, false);
		if (!p)
			return FAULT;
		if (at % 64)
			return fault(w, in, l, ERROR_MISALIGNED, "a tensor map at 0x%llx, not a multiple of 64", (unsigned long long)at);
		memcpy(&t, p, sizeof t);
		if (t.magic != TENSOR_MAP_MAGIC || t.rank != in->nlist)
			return fault(w, in, l, ERROR_ILLEGAL_INSTRUCTION, "no tensor map of %u dimensions is there", in->nlist);
		u32 shared = (u32)(operand_of(w, in, 0, l) + (u64)(i64)(i32)in->target) & (u32)(WINDOW_SIZE - 1);
		if (shared % 128)
			return fault(w, in, l, ERROR_MISALIGNED, "a box at shared address %u, not a multiple of 128", shared);
		u32 inner = t.box[0] * (u32)t.element, rows = 1;
		for (u32 i = 1; i < t.rank; i++)
			rows *= t.box[i];
		if (t.swizzle && inner != t.swizzle)
			return fault(w, in, l, ERROR_ILLEGAL_INSTRUCTION, "a box of %u bytes with a swizzle of %u is not known", inner, t.swizzle);
		Bulk c = { .warp = w, .in = in, .lane = l, .to_shared = in->variant, .bytes = inner * rows, .swizzle = t.swizzle, .fill = t.fill };
		/* A row may lie partly outside: then it is in pieces. */
		c.row = NEWN(&b->arena, BulkRow, 3 * rows);
		i64 first = (i32)r32(w, in->list[0])[l];
		i64 low = MIN(MAX(-first, 0), (i64)t.box[0]), high = MIN(MAX((i64)t.size[0] - first, low), (i64)t.box[0]);
		for (u32 r = 0; r < rows; r++) {
			u64 global = t.base + (u64)((first + low) * t.element);
			bool inside = high > low;
			for (u32 i = 1, left = r; i < t.rank; i++) {
				i64 x = (i64)(i32)r32(w, in->list[i])[l] + left % t.box[i];
				left /= t.box[i];
				inside = inside && x >= 0 && x < (i64)t.size[i];
				global += (u64)x * t.stride[i - 1];
			}
			u32 to = shared + r * inner;
			if (!inside) {
				c.row[c.nrow++] = (BulkRow){ 0, to, inner };
				continue;
			}
			u32 before = (u32)low * t.element, here = (u32)(high - low) * t.element;
			if (before)
				c.row[c.nrow++] = (BulkRow){ 0, to, before };
			c.row[c.nrow++] = (BulkRow){ global, to + before, here };
			if (before + here < inner)
				c.row[c.nrow++] = (BulkRow){ 0, to + before + here, inner - before - here };
		}
		if (in->variant)
			c.mbarrier = (u32)(operand_of(w, in, 3, l) & (WINDOW_SIZE - 1));
		else
			c.group = engine_of(b)->committed[w->index * LANES + (u32)l];
		if (in->variant && !mbarrier_at(w, in, l, c.mbarrier))
			return FAULT;
		if (issue(w, c) == FAULT)
			return FAULT;
	}
	return GO;
}

static Action commit(Warp *w, const Inst *in, u32 mask)
{
	(void)in;
	EACH_LANE(mask, engine_of(w->block)->committed[w->index * LANES + (u32)l]++;);
	return GO;
}

/* Groups but the last N are done; with .read only what they read has been read. */
static Action wait(Warp *w, const Inst *in, u32 mask)
{
	Engine *e = engine_of(w->block);
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		u32 committed = e->committed[w->index * LANES + (u32)l], pending = (u32)in->offset;
		u32 before = committed > pending ? committed - pending : 0;
		for (u32 i = 0; i < e->bulk.n;) {
			Bulk *c = &e->bulk.v[i];
			if (c->to_shared || c->warp != w || c->lane != l || c->group >= before) {
				i++;
				continue;
			}
			perform(w->block, c);
			remove_at(e, i);
		}
	}
	return GO;
}

static void shared_side(Decoder *d, Inst *in, u32 k)
{
	in->space = SPACE_SHARED;
	address(d, in, k, 0);
	in->target = (u32)(i32)in->offset;
}

static void decode_cp(Decoder *d, Inst *in)
{
	static const char *const dimensions[] = { "1d", "2d", "3d", "4d", "5d" };
	if (!take(d, "async") || !take(d, "bulk"))
		return;
	if (take(d, "commit_group")) {
		in->run = commit;
		return;
	}
	if (take(d, "wait_group")) {
		take(d, "read");
		in->offset = (i64)number(d, 0);
		in->run = wait;
		return;
	}
	if (take(d, "prefetch"))
		decode_fail(d, "prefetches into L2 are not known");
	bool is_tensor = take(d, "tensor");
	u32 rank = take_one_of(d, dimensions, COUNT(dimensions)) + 1;
	const Statement *s = decode_statement(d);
	bool load = false;
	for (u32 i = 0; i < s->nmodifier; i++)
		load = load || !strncmp(s->modifier[i], "mbarrier", 8);
	take(d, "shared::cluster");
	take(d, "shared::cta");
	take(d, "global");
	take(d, "tile");
	take(d, "mbarrier::complete_tx::bytes");
	take(d, "bulk_group");
	take_cache_hints(d);
	in->variant = load;
	in->control = false;
	const Operand *map = operand_at(d, load ? 1 : 0);
	bool wide;
	if (is_tensor) {
		if (map->kind != OPERAND_ADDRESS || map->count != 2 || map->item[1].kind != OPERAND_VECTOR || map->item[1].count != rank)
			decode_fail(d, "[map, {%u coordinates}] is missing", rank);
		shared_side(d, in, load ? 0 : 1);
		for (u32 i = 0; i < rank; i++)
			list_push(d, in, slot_of(d, &map->item[1].item[i], TYPE_U32, false, &wide));
		if (load) {
			address(d, in, 2, 3);
			if (in->offset)
				decode_fail(d, "an mbarrier's address with a displacement is not known");
		}
		in->space = SPACE_GENERIC;
		address(d, in, load ? 1 : 0, 1);
		in->run = tensor;
		return;
	}
	in->space = SPACE_SHARED;
	if (load) {
		address(d, in, 3, 3);
		if (in->offset)
			decode_fail(d, "an mbarrier's address with a displacement is not known");
	}
	address(d, in, 0, 0);
	in->target = (u32)(i32)in->offset;
	source(d, in, 2, TYPE_U32);
	address(d, in, 1, 1);
	in->run = line;
}

const Family family_bulk[] = { { "cp", decode_cp }, { NULL, NULL } };
