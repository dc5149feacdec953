/* decode.c: from a function's statements to a kernel's instructions: gives every register and number a
 * slot in the register file, lays out shared memory, puts called functions in place of their calls,
 * finds each instruction's decoder in the families' tables, and patches branches. flow.c then lays out
 * the code. */
#include "decode.h"
#include "flow.h"
#include "support/map.h"
#include <setjmp.h>

typedef struct Fixup {
	u32 inst;
	u32 label; /* of the function; RETURN for the end of an inlined function */
	i32 which; /* index into inst.targets, or -1 */
} Fixup;

#define RETURN 0xffffffffu

/* A function's body in place: the entry's, or a called function's. */
typedef struct Instance {
	const Function *f;
	u32 *slot;       /* of each register, 0: none yet */
	u32 frame;       /* where its variables begin in local memory */
	u32 *label_at;   /* instruction of each label */
	u32 depth;
	VEC(Fixup) fixups;
} Instance;

struct Decoder {
	Module *m;
	Arena *arena;
	Kernel *k;
	Instance *at;
	const Statement *s;
	u64 taken;       /* bits of modifiers */
	VEC(Inst) code;
	Map constants[2];
	u32 special[SPECIAL_COUNT];
	u32 predicates, predicates_left;
	Map shared;      /* Variable -> address */
	u32 *scratch;
	u32 frame_top;
	jmp_buf failed;
};

static const Family *const families[] = {
	family_integer, family_bits, family_float, family_half, family_convert, family_compare,
	family_move, family_memory, family_atomic, family_control, family_warp, family_async,
	family_tensor, family_mbarrier, family_bulk, family_wgmma,
};

void decode_fail(Decoder *d, const char *format, ...)
{
	char text[250];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	snprintf(d->m->error, sizeof d->m->error, "%s, PTX line %u: %s: %s", d->k->name, d->s ? d->s->line : 0,
		 d->s ? d->s->text : "", text);
	longjmp(d->failed, 1);
}

const Statement *decode_statement(const Decoder *d)
{
	return d->s;
}

u32 decode_target(const Decoder *d)
{
	return d->m->target;
}

/* Modifiers. */

bool take(Decoder *d, const char *modifier)
{
	for (u32 i = 0; i < d->s->nmodifier; i++)
		if (!(d->taken >> i & 1) && !strcmp(d->s->modifier[i], modifier)) {
			d->taken |= (u64)1 << i;
			return true;
		}
	return false;
}

u32 take_one_of(Decoder *d, const char *const *names, u32 n)
{
	for (u32 i = 0; i < n; i++)
		if (take(d, names[i]))
			return i;
	return n;
}

Type take_type_if(Decoder *d)
{
	for (u32 i = 0; i < d->s->nmodifier; i++) {
		Type t = d->taken >> i & 1 ? TYPE_NONE : type_of_name(d->s->modifier[i]);
		if (t != TYPE_NONE) {
			d->taken |= (u64)1 << i;
			return t;
		}
	}
	return TYPE_NONE;
}

Type take_type(Decoder *d)
{
	Type t = take_type_if(d);
	if (t == TYPE_NONE)
		decode_fail(d, "a type is missing");
	return t;
}

Rounding take_rounding(Decoder *d, Rounding otherwise)
{
	static const char *const names[] = { "rn", "rz", "rm", "rp", "rna" };
	u32 i = take_one_of(d, names, COUNT(names));
	return i < COUNT(names) ? (Rounding)i : otherwise;
}

Space take_space_of(Decoder *d, Space otherwise)
{
	static const struct {
		const char *name;
		Space space;
	} spaces[] = { { "global", SPACE_GLOBAL },      { "const", SPACE_CONST },
		       { "shared", SPACE_SHARED },      { "shared::cta", SPACE_SHARED },
		       { "local", SPACE_LOCAL },        { "param", SPACE_PARAM },
		       { "param::entry", SPACE_PARAM }, { "param::func", SPACE_PARAM },
		       { "shared::cluster", SPACE_SHARED } };
	for (u32 i = 0; i < COUNT(spaces); i++)
		if (take(d, spaces[i].name))
			return spaces[i].space;
	return otherwise;
}

void take_cache_hints(Decoder *d)
{
	static const char *const hints[] = { "ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc",
					     "L1::evict_normal", "L1::evict_unchanged", "L1::evict_first",
					     "L1::evict_last", "L1::no_allocate", "L2::evict_first",
					     "L2::evict_last", "L2::evict_normal", "L2::64B", "L2::128B",
					     "L2::256B", "L2::cache_hint" };
	while (take_one_of(d, hints, COUNT(hints)) < COUNT(hints))
		;
}

void take_order(Decoder *d)
{
	static const char *const words[] = { "weak", "volatile", "relaxed", "acquire", "release", "acq_rel", "sc",
					     "mmio", "cta", "cluster", "gpu", "sys", "gl" };
	while (take_one_of(d, words, COUNT(words)) < COUNT(words))
		;
}

/* Slots. */

static u32 new_slot(Decoder *d, u32 bytes)
{
	u32 at = (u32)ALIGN_UP(d->k->register_bytes, 64);
	d->k->register_bytes = at + bytes;
	return at;
}

static u32 predicate_slot(Decoder *d)
{
	if (!d->predicates_left) {
		d->predicates = new_slot(d, 64);
		d->predicates_left = 16;
	}
	return d->predicates + 4 * --d->predicates_left;
}

static u32 bytes_of_slot(Type t)
{
	u32 bytes = type_bytes(t);
	return bytes <= 4 ? 128 : bytes * LANES;
}

u32 constant_slot(Decoder *d, u64 bits, bool wide)
{
	u64 *known = map_get(&d->constants[wide], bits);
	if (known)
		return (u32)*known;
	u32 at = new_slot(d, wide ? 256 : 128);
	map_put(&d->constants[wide], bits, at);
	VEC_PUSH(d->arena, &d->k->constants, (Constant){ bits, at, wide });
	return at;
}

u32 *scratch_slots(Decoder *d)
{
	if (!d->scratch) {
		d->scratch = NEWN(d->arena, u32, 4);
		for (u32 i = 0; i < 4; i++)
			d->scratch[i] = new_slot(d, 128);
	}
	return d->scratch;
}

static u64 number_bits(Decoder *d, const Operand *o, Type type)
{
	u64 bits = o->bits;
	if (type == TYPE_PRED)
		return bits ? ALL_LANES : 0;
	u32 bytes = type_bytes(type);
	if (o->is_float) {
		if (bytes == 4 && !o->is_single) {
			f64 v;
			memcpy(&v, &bits, 8);
			bits = bits_of_f32((f32)v);
		} else if (bytes == 8 && o->is_single) {
			f64 v = (f64)f32_of_bits((u32)bits);
			memcpy(&bits, &v, 8);
		} else if (bytes < 4) {
			decode_fail(d, "a floating-point number for a type of %u bytes", bytes);
		}
	}
	if (bytes < 8)
		bits &= ((u64)1 << bytes * 8) - 1;
	return bits;
}

/* The address that naming a variable gives, in its own space. */
static u64 variable_address(Decoder *d, const Operand *o)
{
	const Variable *v = o->variable;
	u64 at = v->address;
	if (v->space == SPACE_SHARED)
		at = *map_get(&d->shared, MAP_KEY(v));
	else if (v->space == SPACE_LOCAL || (v->space == SPACE_PARAM && !v->is_entry_param))
		at += LOCAL_RESERVED + d->at->frame;
	return at + (u64)o->offset;
}

static u32 special_slot(Decoder *d, Special which)
{
	if (which >= SPECIAL_CLOCK)
		decode_fail(d, "a clock is an operand of mov alone");
	if (!d->special[which]) {
		d->special[which] = new_slot(d, 128);
		VEC_PUSH(d->arena, &d->k->specials, (SpecialUse){ which, d->special[which] });
	}
	return d->special[which];
}

u32 slot_of(Decoder *d, const Operand *o, Type type, bool write, bool *wide)
{
	bool is_wide = type_bytes(type) == 8;
	u32 at = 0;
	switch (o->kind) {
	case OPERAND_REGISTER: {
		Type declared = d->at->f->registers.v[o->index];
		is_wide = type_bytes(declared) == 8;
		if ((declared == TYPE_PRED) != (type == TYPE_PRED))
			decode_fail(d, "'%s' is %sa predicate", o->name, declared == TYPE_PRED ? "" : "not ");
		at = d->at->slot[o->index];
		if (!at) {
			at = declared == TYPE_PRED ? predicate_slot(d) : new_slot(d, bytes_of_slot(declared));
			d->at->slot[o->index] = at;
		}
		break;
	}
	case OPERAND_SINK:
		at = type == TYPE_PRED ? predicate_slot(d) : new_slot(d, bytes_of_slot(type));
		break;
	case OPERAND_NUMBER:
		at = constant_slot(d, number_bits(d, o, type), is_wide);
		break;
	case OPERAND_VARIABLE:
		at = constant_slot(d, variable_address(d, o), is_wide);
		break;
	case OPERAND_SPECIAL:
		at = special_slot(d, (Special)o->index);
		is_wide = false;
		break;
	default:
		decode_fail(d, "an operand is not what it should be");
	}
	if (write && o->kind != OPERAND_REGISTER && o->kind != OPERAND_SINK)
		decode_fail(d, "the result goes to no register");
	*wide = is_wide;
	return at;
}

u32 operand_count(const Decoder *d)
{
	return d->s->noperand;
}

const Operand *operand_at(Decoder *d, u32 k)
{
	if (k >= d->s->noperand)
		decode_fail(d, "operand %u is missing", k + 1);
	return &d->s->operand[k];
}

void expect_operands(Decoder *d, u32 least, u32 most)
{
	if (d->s->noperand < least || d->s->noperand > most)
		decode_fail(d, "%u operands where %u to %u are known", d->s->noperand, least, most);
}

static void scalar(Decoder *d, Inst *in, u32 k, Type type, bool write, bool loose)
{
	bool wide;
	const Operand *o = operand_at(d, k);
	in->reg[k] = slot_of(d, o, type, write, &wide);
	if (wide)
		in->wide |= (u8)(1u << k);
	if (!loose && type != TYPE_PRED && wide != (type_bytes(type) == 8))
		decode_fail(d, "operand %u is of %u bits, the instruction of %u", k + 1, wide ? 64 : 32,
			    type_bytes(type) * 8);
	if (o->negated)
		in->flags |= (u8)(1u << k);
}

void source(Decoder *d, Inst *in, u32 k, Type type)
{
	scalar(d, in, k, type, false, false);
}

void source_loose(Decoder *d, Inst *in, u32 k, Type type)
{
	scalar(d, in, k, type, false, true);
}

void destination(Decoder *d, Inst *in, u32 k, Type type)
{
	scalar(d, in, k, type, true, false);
}

void destination_loose(Decoder *d, Inst *in, u32 k)
{
	const Operand *o = operand_at(d, k);
	Type type = o->kind == OPERAND_REGISTER ? d->at->f->registers.v[o->index] : TYPE_B32;
	scalar(d, in, k, type, true, true);
}

void source_predicate(Decoder *d, Inst *in, u32 k)
{
	scalar(d, in, k, TYPE_PRED, false, false);
}

enum { MOST_LISTED = 160 };

void list_push(Decoder *d, Inst *in, u32 slot)
{
	if (!in->list)
		in->list = NEWN(d->arena, u32, MOST_LISTED);
	if (in->nlist == MOST_LISTED)
		decode_fail(d, "more operands than %u", MOST_LISTED);
	in->list[in->nlist++] = slot;
}

void list_of(Decoder *d, Inst *in, u32 k, Type type, bool write)
{
	const Operand *o = operand_at(d, k);
	const Operand *item = o->kind == OPERAND_VECTOR ? o->item : o;
	u32 count = o->kind == OPERAND_VECTOR ? o->count : 1;
	for (u32 i = 0; i < count; i++) {
		bool wide;
		list_push(d, in, slot_of(d, &item[i], type, write, &wide));
		if (wide)
			in->wide |= (u8)(1u << k); /* all of a vector are of one width */
	}
}

void address(Decoder *d, Inst *in, u32 k, u32 reg)
{
	const Operand *o = operand_at(d, k);
	if (o->kind != OPERAND_ADDRESS)
		decode_fail(d, "operand %u is no address", k + 1);
	const Operand *base = &o->item[0];
	bool wide;
	in->offset = o->offset;
	if (base->kind == OPERAND_VARIABLE && base->variable->space == SPACE_PARAM && !base->variable->is_entry_param &&
	    in->space == SPACE_PARAM)
		in->space = SPACE_LOCAL; /* the parameters of a call lie in the frame */
	if (base->kind == OPERAND_NUMBER) {
		in->reg[reg] = constant_slot(d, base->bits, true);
		wide = true;
	} else if (base->kind == OPERAND_VARIABLE) {
		in->reg[reg] = constant_slot(d, variable_address(d, base), true);
		wide = true;
	} else {
		in->reg[reg] = slot_of(d, base, TYPE_U64, false, &wide);
	}
	in->wide = (u8)((in->wide & ~(1u << reg)) | (u32)wide << reg);
}

u64 number(Decoder *d, u32 k)
{
	const Operand *o = operand_at(d, k);
	if (o->kind != OPERAND_NUMBER)
		decode_fail(d, "operand %u is no number", k + 1);
	return o->bits;
}

u32 label_of(Decoder *d, const Operand *o)
{
	if (o->kind != OPERAND_LABEL)
		decode_fail(d, "a label is missing");
	return d->at->f->uses.v[o->index].label;
}

/* Control flow that needs the decoder's own state. */

static void branch(Decoder *d, Inst *in)
{
	take(d, "uni");
	expect_operands(d, 1, 1);
	in->run = run_branch;
	in->control = true;
	VEC_PUSH(d->arena, &d->at->fixups, (Fixup){ d->code.n, label_of(d, operand_at(d, 0)), -1 });
}

static void branch_indexed(Decoder *d, Inst *in)
{
	take(d, "idx");
	take(d, "uni");
	expect_operands(d, 2, 2);
	source(d, in, 0, TYPE_U32);
	const Function *f = d->at->f;
	u32 at = f->labels.v[label_of(d, operand_at(d, 1))].at;
	if (at >= f->statements.n || strcmp(f->statements.v[at].opcode, "branchtargets"))
		decode_fail(d, "no .branchtargets at the label");
	const Statement *table = &f->statements.v[at];
	in->run = run_branch_indexed;
	in->control = true;
	in->ntargets = table->noperand;
	in->targets = NEWN(d->arena, u32, in->ntargets);
	for (u32 i = 0; i < in->ntargets; i++)
		VEC_PUSH(d->arena, &d->at->fixups, (Fixup){ d->code.n, label_of(d, &table->operand[i]), (i32)i });
}

static void finish(Decoder *d, Inst *in)
{
	take(d, "uni");
	expect_operands(d, 0, 0);
	in->control = true;
	if (!strcmp(d->s->opcode, "ret") && d->at->depth) {
		in->run = run_branch;
		VEC_PUSH(d->arena, &d->at->fixups, (Fixup){ d->code.n, RETURN, -1 });
	} else {
		in->run = run_exit;
	}
}

static void function_body(Decoder *d, const Function *f, u32 frame, u32 depth);

static void push_copy(Decoder *d, const Variable *to, u32 to_frame, const Variable *from, u32 from_frame)
{
	if (!to || !from || to->space != SPACE_PARAM || from->space != SPACE_PARAM || to->is_entry_param || from->is_entry_param)
		decode_fail(d, "what a call passes is no .param of the function");
	if (to->size != from->size)
		decode_fail(d, "parameter '%s' of %llu bytes is given %llu", to->name, (unsigned long long)to->size,
			    (unsigned long long)from->size);
	Inst copy = { .run = run_copy_frame, .guard = -1, .statement = d->s };
	copy.reg[0] = (u32)to->address + to_frame + LOCAL_RESERVED;
	copy.reg[1] = (u32)from->address + from_frame + LOCAL_RESERVED;
	copy.reg[2] = (u32)to->size;
	VEC_PUSH(d->arena, &d->code, copy);
}

/* call.uni (result), function, (arguments): the body in place, on a frame of its own. */
static void call(Decoder *d)
{
	const Statement *s = d->s;
	take(d, "uni");
	if (s->guard >= 0)
		decode_fail(d, "a call under a predicate is not known");
	u32 at = s->noperand && s->operand[0].kind == OPERAND_VECTOR ? 1 : 0;
	const Operand *name = operand_at(d, at);
	const Operand *arguments = at + 1 < s->noperand ? &s->operand[at + 1] : NULL;
	const Function *f = NULL;
	for (u32 i = 0; i < d->m->functions.n; i++)
		if (name->name && d->m->functions.v[i]->name == name->name && !d->m->functions.v[i]->is_declaration)
			f = d->m->functions.v[i];
	if (!f)
		decode_fail(d, "function '%s' has no body in this module", name->name ? name->name : "(indirect)");
	if (d->at->depth >= 16)
		decode_fail(d, "calls are nested more than 16 deep (recursion is not known)");
	if ((arguments ? arguments->count : 0) != f->params.n || (at == 1) != (f->result != NULL))
		decode_fail(d, "'%s' is called with another number of parameters", f->name);
	u32 from = d->at->frame, frame = (u32)ALIGN_UP(d->frame_top, 16);
	for (u32 i = 0; i < f->params.n; i++)
		push_copy(d, f->params.v[i], frame, arguments->item[i].variable, from);
	function_body(d, f, frame, d->at->depth + 1);
	d->s = s;
	if (at)
		push_copy(d, s->operand[0].count == 1 ? s->operand[0].item[0].variable : NULL, from, f->result, frame);
}

static void finish_statement(Decoder *d)
{
	for (u32 i = 0; i < d->s->nmodifier; i++)
		if (!(d->taken >> i & 1))
			decode_fail(d, "'.%s' is not known here", d->s->modifier[i]);
}

static void statement(Decoder *d, const Statement *s)
{
	Inst in = { .guard = -1, .statement = s };
	d->s = s;
	d->taken = 0;
	if (!strcmp(s->opcode, "branchtargets"))
		return;
	if (s->guard >= 0) {
		Operand guard = { .kind = OPERAND_REGISTER, .index = (u32)s->guard };
		bool wide;
		in.guard = (i32)slot_of(d, &guard, TYPE_PRED, false, &wide);
		in.guard_negated = s->guard_negated;
	}
	const Inst plain = in;
	if (!strcmp(s->opcode, "call")) {
		call(d);
		d->taken = ~(u64)0;
		return;
	}
	if (!strcmp(s->opcode, "bra")) {
		branch(d, &in);
	} else if (!strcmp(s->opcode, "brx")) {
		branch_indexed(d, &in);
	} else if (!strcmp(s->opcode, "ret") || !strcmp(s->opcode, "exit")) {
		finish(d, &in);
	} else {
		for (u32 i = 0; i < COUNT(families) && !in.run; i++)
			for (const Family *f = families[i]; f->opcode && !in.run; f++)
				if (!strcmp(f->opcode, s->opcode)) {
					d->taken = 0;
					in = plain;
					f->decode(d, &in);
				}
		if (!in.run)
			decode_fail(d, "the instruction is not known");
	}
	finish_statement(d);
	VEC_PUSH(d->arena, &d->code, in);
}

static void function_body(Decoder *d, const Function *f, u32 frame, u32 depth)
{
	Instance *outer = d->at;
	Instance *me = NEW(d->arena, Instance);
	me->f = f;
	me->frame = frame;
	me->depth = depth;
	me->slot = NEWN(d->arena, u32, f->registers.n + 1);
	me->label_at = NEWN(d->arena, u32, f->labels.n + 1);
	u32 saved_top = d->frame_top;
	d->at = me;
	d->frame_top = frame + f->frame_bytes;
	d->k->local_bytes = MAX(d->k->local_bytes, d->frame_top);
	u32 next = 0;
	for (u32 i = 0; i <= f->statements.n; i++) {
		for (; next < f->labels.n && f->labels.v[next].at == i; next++)
			me->label_at[next] = d->code.n;
		if (i < f->statements.n)
			statement(d, &f->statements.v[i]);
	}
	for (u32 i = 0; i < me->fixups.n; i++) {
		Fixup x = me->fixups.v[i];
		u32 to = x.label == RETURN ? d->code.n : me->label_at[x.label];
		*(x.which < 0 ? &d->code.v[x.inst].target : &d->code.v[x.inst].targets[x.which]) = to;
	}
	d->frame_top = saved_top;
	d->at = outer;
}

/* Static shared memory of all that the function and what it calls name. */
static void lay_out_shared(Decoder *d, const Function *f, u32 depth, u32 *dynamic_align);

static void lay_out_operand(Decoder *d, const Operand *o, u32 depth, u32 *dynamic_align)
{
	if (o->kind == OPERAND_VARIABLE && o->variable->space == SPACE_SHARED && !map_get(&d->shared, MAP_KEY(o->variable))) {
		const Variable *v = o->variable;
		if (!v->size) {
			d->k->has_dynamic = true;
			*dynamic_align = MAX(*dynamic_align, v->align);
		} else {
			u32 at = (u32)ALIGN_UP(SHARED_RESERVED + d->k->shared_bytes, v->align);
			d->k->shared_bytes = at + (u32)v->size - SHARED_RESERVED;
			map_put(&d->shared, MAP_KEY(v), at);
		}
	}
	for (u32 i = 0; i < o->count; i++)
		lay_out_operand(d, &o->item[i], depth, dynamic_align);
	if (o->kind == OPERAND_FUNCTION && depth < 16)
		for (u32 i = 0; i < d->m->functions.n; i++)
			if (d->m->functions.v[i]->name == o->name)
				lay_out_shared(d, d->m->functions.v[i], depth + 1, dynamic_align);
}

static void lay_out_shared(Decoder *d, const Function *f, u32 depth, u32 *dynamic_align)
{
	for (u32 i = 0; i < f->statements.n; i++)
		for (u32 k = 0; k < f->statements.v[i].noperand; k++)
			lay_out_operand(d, &f->statements.v[i].operand[k], depth, dynamic_align);
}

static void lay_out_dynamic(Decoder *d, const Variable *const *v, u32 n)
{
	for (u32 i = 0; i < n; i++)
		if (v[i]->space == SPACE_SHARED && !v[i]->size)
			map_put(&d->shared, MAP_KEY(v[i]), d->k->dynamic_at);
}

Kernel *kernel_decode(Module *m, Function *f)
{
	Decoder *d = NEW(&m->arena, Decoder);
	d->m = m;
	d->arena = &m->arena;
	d->constants[0].arena = d->constants[1].arena = d->shared.arena = &m->arena;
	d->k = NEW(&m->arena, Kernel);
	d->k->name = f->name;
	d->k->module = m;
	d->k->function = f;
	d->k->register_bytes = 64; /* so that slot 0 is none */
	if (setjmp(d->failed))
		return NULL;
	u32 dynamic_align = 16;
	lay_out_shared(d, f, 0, &dynamic_align);
	d->k->dynamic_at = (u32)ALIGN_UP(SHARED_RESERVED + d->k->shared_bytes, dynamic_align);
	lay_out_dynamic(d, (const Variable *const *)m->variables.v, m->variables.n);
	for (u32 i = 0; i < m->functions.n; i++)
		lay_out_dynamic(d, (const Variable *const *)m->functions.v[i]->variables.v, m->functions.v[i]->variables.n);
	function_body(d, f, 0, 0);
	Inst end = { .run = run_exit, .control = true, .guard = -1, .statement = d->s };
	VEC_PUSH(d->arena, &d->code, end);
	d->k->local_bytes = (u32)ALIGN_UP(d->k->local_bytes, 16);
	d->k->code = flow_lay_out(d->arena, d->code.v, d->code.n, &d->k->ncode);
	return d->k;
}
