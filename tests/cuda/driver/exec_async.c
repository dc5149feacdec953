/* exec_async.c: cp.async: copies from global to shared memory that a lane starts, commits in groups and
 * waits for. async=eager does them at once, async=late only when they are waited for: a kernel must be
 * right either way. */
#include "decode.h"
#include "engine.h"
#include "race.h"

static void perform(Warp *w, const Copy *c)
{
	Block *b = w->block;
	memset(b->shared + c->to + c->source_bytes, 0, c->bytes - c->source_bytes);
	if (c->source_bytes)
		memcpy(b->shared + c->to, (const u8 *)(c->from + (u64)b->launch->to_host), c->source_bytes);
}

static void finish(Warp *w, const Copy *c)
{
	if (settings()->async_late)
		perform(w, c);
	if (w->block->race) {
		race_pending(w->block, (u32)c->to, c->bytes, -1);
		race_written(w, (u32)c->to, c->bytes);
	}
}

/* Copies of the lanes of `mask` that belong to groups before `before[lane]`. */
static void complete(Warp *w, u32 mask, const u32 *before)
{
	u32 kept = 0;
	for (u32 i = 0; i < w->copies.n; i++) {
		Copy c = w->copies.v[i];
		if (mask >> c.lane & 1 && c.group < before[c.lane])
			finish(w, &c);
		else
			w->copies.v[kept++] = c;
	}
	w->copies.n = kept;
}

void copies_complete(Warp *w, u32 mask)
{
	u32 all[LANES];
	memset(all, 0xff, sizeof all);
	complete(w, mask, all);
}

/* [to], [from], bytes{, source bytes}: reg 0, 1, and 3 for the last; size: bytes. */
static Action cp_async(Warp *w, const Inst *in, u32 mask)
{
	Block *b = w->block;
	bool remember = settings()->async_late || b->race;
	for (u32 m = mask; m; m &= m - 1) {
		int l = __builtin_ctz(m);
		Copy c = { .bytes = in->size, .source_bytes = in->size, .lane = (u8)l, .group = w->group[l] };
		if (in->variant)
			c.source_bytes = r32(w, in->reg[3])[l];
		if (c.source_bytes > c.bytes)
			return fault(w, in, l, ERROR_ILLEGAL_INSTRUCTION, "%u bytes of a source for %u", c.source_bytes, c.bytes);
		c.to = operand_of(w, in, 0, l) + (u64)in->offset;
		c.from = operand_of(w, in, 1, l) + (u64)(i64)(i32)in->target;
		if (!resolve(w, in, l, SPACE_SHARED, c.to, c.bytes, true))
			return FAULT;
		if (c.source_bytes && !resolve(w, in, l, SPACE_GLOBAL, c.from, c.source_bytes == c.bytes ? c.bytes : 1, false))
			return FAULT;
		if (c.source_bytes && c.source_bytes != c.bytes &&
		    !resolve(w, in, l, SPACE_GLOBAL, c.from + c.source_bytes - 1, 1, false))
			return FAULT;
		if (b->race) {
			if (!race_access(w, in, l, (u32)c.to, c.bytes, ACCESS_ASYNC) ||
			    (settings()->race && !race_global(w, in, l, c.from, c.source_bytes, ACCESS_READ)))
				return FAULT;
			race_pending(b, (u32)c.to, c.bytes, 1);
		}
		if (!settings()->async_late)
			perform(w, &c);
		if (remember)
			VEC_PUSH(&b->arena, &w->copies, c);
	}
	return GO;
}

static Action commit(Warp *w, const Inst *in, u32 mask)
{
	(void)in;
	EACH_LANE(mask, w->group[l]++;);
	return GO;
}

static Action wait(Warp *w, const Inst *in, u32 mask)
{
	u32 before[LANES];
	u32 pending = (u32)in->offset;
	for (int l = 0; l < LANES; l++)
		before[l] = in->variant ? ~0u : w->group[l] > pending ? w->group[l] - pending : 0;
	complete(w, mask, before);
	return GO;
}

static void decode_cp(Decoder *d, Inst *in)
{
	if (!take(d, "async") || take(d, "bulk") || take(d, "mbarrier"))
		return; /* bulk.c and mbarrier.c */
	if (take(d, "commit_group")) {
		expect_operands(d, 0, 0);
		in->run = commit;
	} else if (take(d, "wait_group")) {
		expect_operands(d, 1, 1);
		in->offset = (i64)number(d, 0);
		in->run = wait;
	} else if (take(d, "wait_all")) {
		expect_operands(d, 0, 0);
		in->variant = 1;
		in->run = wait;
	} else {
		bool whole_lines = take(d, "cg");
		take_cache_hints(d);
		if (!take(d, "shared") && !take(d, "shared::cta"))
			decode_fail(d, "the destination is not shared memory");
		take(d, "global");
		expect_operands(d, 3, 5);
		address(d, in, 1, 1);
		in->target = (u32)(i32)in->offset;
		address(d, in, 0, 0);
		in->size = (u8)number(d, 2);
		if (in->size != 16 && (whole_lines || (in->size != 4 && in->size != 8)))
			decode_fail(d, "copies of %u bytes are not known", in->size);
		if (operand_count(d) > 3) {
			bool wide;
			in->variant = 1;
			in->reg[3] = slot_of(d, operand_at(d, 3), TYPE_U32, false, &wide);
			if (wide)
				decode_fail(d, "a cache policy is not known here");
		}
		in->run = cp_async;
	}
}

const Family family_async[] = { { "cp", decode_cp }, { NULL, NULL } };
