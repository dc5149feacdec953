/* decode.h: what a family of instructions uses to turn a Statement into an Inst. A family's decoder
 * takes every modifier it knows; one that is left over makes the module fail, by name. */
#ifndef STANDIN_DECODE_H
#define STANDIN_DECODE_H
#include "exec.h"

typedef struct Decoder Decoder;

typedef struct Family {
	const char *opcode;
	void (*decode)(Decoder *d, Inst *in);
} Family;

/* The tables, each ended by a NULL opcode. */
extern const Family family_integer[], family_bits[], family_float[], family_half[], family_convert[],
	family_compare[], family_move[], family_memory[], family_atomic[], family_control[], family_warp[],
	family_async[], family_tensor[], family_mbarrier[], family_bulk[], family_wgmma[];

PL_NORETURN PL_PRINTF(2, 3) void decode_fail(Decoder *d, const char *format, ...);
const Statement *decode_statement(const Decoder *d);
u32 decode_target(const Decoder *d); /* 90 of sm_90a */

/* Modifiers. */
bool take(Decoder *d, const char *modifier);
u32 take_one_of(Decoder *d, const char *const *names, u32 n); /* n if it is none of them */
Type take_type(Decoder *d);                                   /* the next that names a type; fails without */
Type take_type_if(Decoder *d);                                /* TYPE_NONE without */
Rounding take_rounding(Decoder *d, Rounding otherwise);
Space take_space_of(Decoder *d, Space otherwise);             /* .global, .shared::cta, ... */
void take_cache_hints(Decoder *d);                            /* .L1::evict_last, .ca, .L2::128B, ... */
void take_order(Decoder *d);                                  /* .relaxed .gpu ... */

/* Operands, by their place in the text. */
u32 operand_count(const Decoder *d);
const Operand *operand_at(Decoder *d, u32 k);
void source(Decoder *d, Inst *in, u32 k, Type type);           /* in->reg[k] from operand k */
void destination(Decoder *d, Inst *in, u32 k, Type type);
void destination_loose(Decoder *d, Inst *in, u32 k);           /* a register of any width; sets in->wide */
void source_loose(Decoder *d, Inst *in, u32 k, Type type);
void source_predicate(Decoder *d, Inst *in, u32 k);            /* !p becomes a negated copy: in->flags bit k */
u32 slot_of(Decoder *d, const Operand *o, Type type, bool write, bool *wide);
void list_of(Decoder *d, Inst *in, u32 k, Type type, bool write); /* appends a vector's slots (or one) */
void list_push(Decoder *d, Inst *in, u32 slot);
void address(Decoder *d, Inst *in, u32 k, u32 reg);            /* base into in->reg[reg], in->offset, in->space */
u64 number(Decoder *d, u32 k);                                 /* an operand that must be a number */
u32 constant_slot(Decoder *d, u64 bits, bool wide);
u32 *scratch_slots(Decoder *d);                                /* [4], one after another, for what one instruction copies */
void expect_operands(Decoder *d, u32 least, u32 most);
u32 label_of(Decoder *d, const Operand *o);                    /* to be patched */

/* Finishes arithmetic: .ftz, .sat and rounding other than to nearest wrap in->run. */
void wrap_float(Decoder *d, Inst *in, Type type, bool flush, bool saturate);
#endif
