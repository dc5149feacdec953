/* ptx_parse.c: tokens to a Module. Recursive descent; every name is resolved in its scope as it is
 * met, labels when the function is complete. */
#include "ptx.h"
#include "support/map.h"
#include <setjmp.h>

typedef enum SymbolKind { SYMBOL_REGISTER, SYMBOL_VARIABLE, SYMBOL_FUNCTION } SymbolKind;

typedef struct Symbol {
	SymbolKind kind;
	u32 index; /* register */
	Variable *variable;
	Function *function;
} Symbol;

typedef struct Parser {
	Module *m;
	Arena *arena;
	Lexer lexer;
	Token token;         /* the one to look at */
	const char *last;    /* where the token before it ended */
	Function *function;  /* NULL outside */
	Map names;           /* scope and name -> symbol index */
	VEC(Symbol) symbols;
	VEC(u32) parent;     /* of each scope; 0 is the module's */
	u32 scope;
	jmp_buf failed;
} Parser;

static const char *const special_names[SPECIAL_COUNT] = {
	[SPECIAL_TID_X] = "%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y",
	"%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid", "%nwarpid", "%smid", "%nsmid",
	"%gridid", "%lanemask_eq", "%lanemask_le", "%lanemask_lt", "%lanemask_ge", "%lanemask_gt", "%clusterid.x",
	"%clusterid.y", "%clusterid.z", "%nclusterid.x", "%nclusterid.y", "%nclusterid.z", "%cluster_ctaid.x",
	"%cluster_ctaid.y", "%cluster_ctaid.z", "%cluster_nctaid.x", "%cluster_nctaid.y", "%cluster_nctaid.z",
	"%cluster_ctarank", "%cluster_nctarank", "%dynamic_smem_size", "%total_smem_size", "%clock", "%clock_hi",
	"%clock64", "%globaltimer", "%globaltimer_lo",
};

static const struct {
	const char *name;
	u8 bytes;
} types[] = {
	[TYPE_PRED] = { "pred", 0 }, [TYPE_B8] = { "b8", 1 }, [TYPE_B16] = { "b16", 2 }, [TYPE_B32] = { "b32", 4 },
	[TYPE_B64] = { "b64", 8 }, [TYPE_B128] = { "b128", 16 }, [TYPE_U8] = { "u8", 1 }, [TYPE_U16] = { "u16", 2 },
	[TYPE_U32] = { "u32", 4 }, [TYPE_U64] = { "u64", 8 }, [TYPE_S8] = { "s8", 1 }, [TYPE_S16] = { "s16", 2 },
	[TYPE_S32] = { "s32", 4 }, [TYPE_S64] = { "s64", 8 }, [TYPE_F16] = { "f16", 2 }, [TYPE_BF16] = { "bf16", 2 },
	[TYPE_F32] = { "f32", 4 }, [TYPE_F64] = { "f64", 8 }, [TYPE_F16X2] = { "f16x2", 4 },
	[TYPE_BF16X2] = { "bf16x2", 4 }, [TYPE_TF32] = { "tf32", 4 }, [TYPE_U16X2] = { "u16x2", 4 },
	[TYPE_S16X2] = { "s16x2", 4 }, [TYPE_E4M3] = { "e4m3", 1 }, [TYPE_E5M2] = { "e5m2", 1 },
	[TYPE_E4M3X2] = { "e4m3x2", 2 }, [TYPE_E5M2X2] = { "e5m2x2", 2 },
};

u32 type_bytes(Type t)
{
	return types[t].bytes;
}

Type type_of_name(const char *name)
{
	for (u32 i = TYPE_PRED; i < COUNT(types); i++)
		if (!strcmp(types[i].name, name))
			return (Type)i;
	return TYPE_NONE;
}

bool type_is_signed(Type t)
{
	return t >= TYPE_S8 && t <= TYPE_S64;
}

bool type_is_integer(Type t)
{
	return t >= TYPE_B8 && t <= TYPE_S64;
}

PL_NORETURN PL_PRINTF(2, 3) static void fail(Parser *p, const char *format, ...)
{
	char text[300];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	snprintf(p->m->error, sizeof p->m->error, "PTX line %u: %s", p->token.line, text);
	longjmp(p->failed, 1);
}

static void advance(Parser *p)
{
	p->last = p->lexer.at;
	p->token = ptx_next(&p->lexer);
}

static bool at_punctuation(const Parser *p, char c)
{
	return p->token.kind == TOKEN_PUNCTUATION && p->token.text.s[0] == c;
}

static bool take_punctuation(Parser *p, char c)
{
	if (!at_punctuation(p, c))
		return false;
	advance(p);
	return true;
}

static void expect(Parser *p, char c)
{
	if (!take_punctuation(p, c))
		fail(p, "expected '%c' at '%.*s'", c, STR_ARG(p->token.text));
}

static bool at_dot(const Parser *p, const char *word)
{
	return p->token.kind == TOKEN_DOT && str_equal(p->token.text, str_of(word));
}

static bool take_dot(Parser *p, const char *word)
{
	if (!at_dot(p, word))
		return false;
	advance(p);
	return true;
}

static const char *take_word(Parser *p)
{
	if (p->token.kind != TOKEN_WORD)
		fail(p, "expected a name at '%.*s'", STR_ARG(p->token.text));
	const char *name = intern(&p->m->names, p->token.text);
	advance(p);
	return name;
}

static u64 take_number(Parser *p)
{
	if (p->token.kind != TOKEN_NUMBER)
		fail(p, "expected a number at '%.*s'", STR_ARG(p->token.text));
	u64 v = p->token.bits;
	advance(p);
	return v;
}

/* Scopes. */

static u64 name_key(u32 scope, const char *name)
{
	return MAP_KEY(name) | (u64)scope << 48;
}

static void declare(Parser *p, const char *name, Symbol s)
{
	map_put(&p->names, name_key(p->scope, name), p->symbols.n);
	VEC_PUSH(p->arena, &p->symbols, s);
}

static const Symbol *look_up(Parser *p, const char *name)
{
	for (u32 scope = p->scope;; scope = p->parent.v[scope]) {
		u64 *at = map_get(&p->names, name_key(scope, name));
		if (at)
			return &p->symbols.v[*at];
		if (!scope)
			return NULL;
	}
}

static void open_scope(Parser *p)
{
	if (p->parent.n >= 1u << 16)
		fail(p, "more than 65535 scopes");
	VEC_PUSH(p->arena, &p->parent, p->scope);
	p->scope = p->parent.n - 1;
}

static void close_scope(Parser *p)
{
	p->scope = p->parent.v[p->scope];
}

static bool take_space(Parser *p, Space *space)
{
	static const struct {
		const char *name;
		Space space;
	} spaces[] = { { "global", SPACE_GLOBAL }, { "const", SPACE_CONST }, { "shared", SPACE_SHARED },
		       { "local", SPACE_LOCAL },   { "param", SPACE_PARAM } };
	for (u32 i = 0; i < COUNT(spaces); i++)
		if (take_dot(p, spaces[i].name)) {
			*space = spaces[i].space;
			return true;
		}
	return false;
}

/* Variables. */

static void put_bytes(Parser *p, Variable *v, u64 *at, u32 size, u64 bits)
{
	if (*at + size > v->size)
		fail(p, "more initial values than '%s' holds", v->name);
	memcpy(v->init + *at, &bits, size);
	*at += size;
}

/* One value, or {values}. */
static void initializer(Parser *p, Variable *v, Type type, u64 *at)
{
	u32 size = type_bytes(type);
	if (take_punctuation(p, '{')) {
		while (!at_punctuation(p, '}')) {
			initializer(p, v, type, at);
			if (!take_punctuation(p, ','))
				break;
		}
		expect(p, '}');
		return;
	}
	bool negative = take_punctuation(p, '-');
	if (p->token.kind == TOKEN_NUMBER) {
		Token t = p->token;
		u64 bits = t.bits;
		if (t.is_float && size == 4 && !t.is_single) {
			f64 d;
			memcpy(&d, &bits, 8);
			f32 f = (f32)d;
			bits = 0;
			memcpy(&bits, &f, 4);
		}
		if (negative)
			bits = t.is_float ? bits ^ (u64)1 << (size * 8 - 1) : 0 - bits;
		advance(p);
		put_bytes(p, v, at, size, bits);
		return;
	}
	const char *name = take_word(p);
	bool generic = !strcmp(name, "generic") && take_punctuation(p, '(');
	if (generic)
		name = take_word(p);
	i64 add = 0;
	if (take_punctuation(p, '+'))
		add = (i64)take_number(p);
	if (generic)
		expect(p, ')');
	const Symbol *s = look_up(p, name);
	if (!s || s->kind != SYMBOL_VARIABLE || size != 8)
		fail(p, "'%s' cannot be an initial value here", name);
	VEC_PUSH(p->arena, &v->relocations, (Relocation){ (u32)*at, s->variable, add });
	put_bytes(p, v, at, 8, 0);
}

#define MOST_BYTES ((u64)1 << 26)

/* After the state space: [.align n] [.v4] .type name[dims] [= init]. */
static Variable *variable(Parser *p, Space space)
{
	Variable *v = NEW(p->arena, Variable);
	Type type = TYPE_NONE;
	u32 lanes = 1;
	v->space = space;
	while (p->token.kind == TOKEN_DOT) {
		if (take_dot(p, "align")) {
			v->align = (u32)take_number(p);
		} else if (take_dot(p, "ptr")) {
			Space pointed;
			take_space(p, &pointed);
			if (take_dot(p, "align"))
				take_number(p);
		} else if (take_dot(p, "v2")) {
			lanes = 2;
		} else if (take_dot(p, "v4")) {
			lanes = 4;
		} else if (take_dot(p, "attribute")) {
			while (!take_punctuation(p, ')'))
				advance(p);
		} else {
			type = type_of_name(intern(&p->m->names, p->token.text));
			if (type == TYPE_NONE)
				fail(p, "'.%.*s' is not known in a declaration", STR_ARG(p->token.text));
			advance(p);
		}
	}
	v->name = take_word(p);
	u64 count = lanes;
	bool open = false;
	while (take_punctuation(p, '[')) {
		bool empty = at_punctuation(p, ']');
		u64 here = empty ? 1 : take_number(p);
		open = open || empty;
		count *= MIN(here, MOST_BYTES);
		if (count > MOST_BYTES)
			fail(p, "'%s' is too large", v->name);
		expect(p, ']');
	}
	v->size = open ? 0 : count * type_bytes(type);
	if (!v->align)
		v->align = MAX(1, type_bytes(type) * lanes);
	if (v->align & (v->align - 1) || v->align > 4096)
		fail(p, "an alignment of %u", v->align);
	if (take_punctuation(p, '=')) {
		u64 at = 0;
		if (open)
			fail(p, "'%s' has initial values but no size", v->name);
		v->init = NEWN(p->arena, u8, v->size);
		initializer(p, v, type, &at);
	}
	declare(p, v->name, (Symbol){ .kind = SYMBOL_VARIABLE, .variable = v });
	return v;
}

static u64 place(u32 *bytes, const Variable *v)
{
	u64 at = ALIGN_UP(*bytes, v->align);
	*bytes = (u32)(at + v->size);
	return at;
}

static void variables(Parser *p, Space space, bool is_extern)
{
	do {
		Variable *v = variable(p, space);
		v->is_extern = is_extern || (space == SPACE_SHARED && !v->size);
		if (p->function) {
			VEC_PUSH(p->arena, &p->function->variables, v);
			if (space == SPACE_LOCAL || space == SPACE_PARAM)
				v->address = place(&p->function->frame_bytes, v);
		} else {
			VEC_PUSH(p->arena, &p->m->variables, v);
		}
	} while (take_punctuation(p, ','));
	expect(p, ';');
}

enum { MOST_REGISTERS = 1 << 16 };

static void registers(Parser *p)
{
	Type type = type_of_name(intern(&p->m->names, p->token.text));
	if (type == TYPE_NONE)
		fail(p, "'.%.*s' is no type of a register", STR_ARG(p->token.text));
	advance(p);
	do {
		const char *name = take_word(p);
		u64 count = 1;
		bool many = take_punctuation(p, '<');
		if (many) {
			count = take_number(p);
			if (count > MOST_REGISTERS)
				fail(p, "more than %u registers of a name", MOST_REGISTERS);
			expect(p, '>');
		}
		for (u64 i = 0; i < count; i++) {
			const char *each = many ? intern_printf(&p->m->names, "%s%llu", name, (unsigned long long)i)
						: name;
			declare(p, each, (Symbol){ .kind = SYMBOL_REGISTER, .index = p->function->registers.n });
			VEC_PUSH(p->arena, &p->function->registers, type);
		}
	} while (take_punctuation(p, ','));
	expect(p, ';');
}

/* Operands. */

static Operand operand(Parser *p);

static Operand *operand_list(Parser *p, char end, u32 *count)
{
	VEC(Operand) list = { 0 };
	while (!at_punctuation(p, end)) {
		VEC_PUSH(p->arena, &list, operand(p));
		if (!take_punctuation(p, ','))
			break;
	}
	expect(p, end);
	*count = list.n;
	return list.v;
}

static i64 displacement(Parser *p)
{
	i64 sum = 0;
	while (at_punctuation(p, '+') || at_punctuation(p, '-')) {
		bool negative = at_punctuation(p, '-');
		advance(p);
		while (take_punctuation(p, '-'))
			negative = !negative;
		i64 n = (i64)take_number(p);
		sum += negative ? -n : n;
	}
	return sum;
}

static Operand named_operand(Parser *p)
{
	Operand o = { 0 };
	const char *name = take_word(p);
	const Symbol *s = look_up(p, name);
	o.name = name;
	if (s && s->kind == SYMBOL_REGISTER) {
		o.kind = OPERAND_REGISTER;
		o.index = s->index;
	} else if (s && s->kind == SYMBOL_VARIABLE) {
		o.kind = OPERAND_VARIABLE;
		o.variable = s->variable;
		s->variable->in_use = true;
		o.offset = displacement(p);
	} else if (s) {
		o.kind = OPERAND_FUNCTION;
	} else if (!strcmp(name, "_")) {
		o.kind = OPERAND_SINK;
	} else if (!strcmp(name, "WARP_SZ")) {
		o.kind = OPERAND_NUMBER;
		o.bits = 32;
	} else if (name[0] == '%') {
		if (p->token.kind == TOKEN_DOT) {
			name = intern_printf(&p->m->names, "%s.%.*s", name, STR_ARG(p->token.text));
			advance(p);
		}
		o.kind = OPERAND_SPECIAL;
		for (o.index = 0; o.index < SPECIAL_COUNT; o.index++)
			if (!strcmp(special_names[o.index], name))
				return o;
		fail(p, "register '%s' is not known", name);
	} else {
		o.kind = OPERAND_LABEL;
		o.index = p->function->uses.n;
		VEC_PUSH(p->arena, &p->function->uses, (LabelUse){ name, p->scope, 0 });
	}
	return o;
}

static Operand operand(Parser *p)
{
	Operand o = { 0 };
	if (take_punctuation(p, '{')) {
		o.kind = OPERAND_VECTOR;
		o.item = operand_list(p, '}', &o.count);
	} else if (take_punctuation(p, '(')) {
		o.kind = OPERAND_VECTOR;
		o.item = operand_list(p, ')', &o.count);
	} else if (take_punctuation(p, '[')) {
		VEC(Operand) list = { 0 };
		o.kind = OPERAND_ADDRESS;
		VEC_PUSH(p->arena, &list, operand(p));
		o.offset = displacement(p);
		while (take_punctuation(p, ','))
			VEC_PUSH(p->arena, &list, operand(p));
		expect(p, ']');
		o.item = list.v;
		o.count = list.n;
	} else if (take_punctuation(p, '!')) {
		o = named_operand(p);
		o.negated = true;
	} else if (at_punctuation(p, '-') || p->token.kind == TOKEN_NUMBER) {
		bool negative = take_punctuation(p, '-');
		o.kind = OPERAND_NUMBER;
		o.is_float = p->token.is_float;
		o.is_single = p->token.is_single;
		o.bits = take_number(p);
		if (negative)
			o.bits = !o.is_float ? 0 - o.bits : o.bits ^ (u64)1 << (o.is_single ? 31 : 63);
	} else {
		o = named_operand(p);
	}
	if (take_punctuation(p, '|')) {
		o.pair = NEW(p->arena, Operand);
		*o.pair = operand(p);
	}
	return o;
}

/* Statements. */

static const char *statement_text(Parser *p, const char *from, const char *to)
{
	char text[160];
	size_t n = 0;
	for (; from < to && n + 4 < sizeof text; from++) {
		bool blank = *from == ' ' || *from == '\t' || *from == '\n' || *from == '\r';
		if (blank && (!n || text[n - 1] == ' '))
			continue;
		text[n++] = blank ? ' ' : *from;
	}
	while (n && text[n - 1] == ' ')
		n--;
	bool cut = from < to;
	text[n] = 0;
	return arena_printf(p->arena, "%s%s", text, cut ? "..." : "");
}

static void instruction(Parser *p)
{
	Statement s = { .guard = -1, .line = p->token.line };
	const char *from = p->token.text.s;
	if (take_punctuation(p, '@')) {
		s.guard_negated = take_punctuation(p, '!');
		Operand g = named_operand(p);
		if (g.kind != OPERAND_REGISTER || p->function->registers.v[g.index] != TYPE_PRED)
			fail(p, "'%s' is no predicate", g.name);
		s.guard = (i32)g.index;
	}
	s.opcode = take_word(p);
	VEC(const char *) modifiers = { 0 };
	VEC(Operand) operands = { 0 };
	while (p->token.kind == TOKEN_DOT) {
		VEC_PUSH(p->arena, &modifiers, intern(&p->m->names, p->token.text));
		advance(p);
	}
	while (!at_punctuation(p, ';')) {
		VEC_PUSH(p->arena, &operands, operand(p));
		if (!take_punctuation(p, ','))
			break;
	}
	s.text = statement_text(p, from, p->last);
	expect(p, ';');
	s.modifier = modifiers.v;
	s.nmodifier = modifiers.n;
	s.operand = operands.v;
	s.noperand = operands.n;
	VEC_PUSH(p->arena, &p->function->statements, s);
}

static void skip_line(Parser *p)
{
	while (p->lexer.at < p->lexer.end && *p->lexer.at != '\n')
		p->lexer.at++;
	advance(p);
}

static void directive_in_body(Parser *p)
{
	Space space;
	if (take_dot(p, "reg")) {
		registers(p);
	} else if (take_space(p, &space)) {
		variables(p, space, false);
	} else if (at_dot(p, "loc") || at_dot(p, "file")) {
		skip_line(p);
	} else if (take_dot(p, "pragma")) {
		while (!take_punctuation(p, ';'))
			advance(p);
	} else if (at_dot(p, "branchtargets")) {
		/* The table of a brx.idx, which names the label before it. */
		Statement s = { .opcode = "branchtargets", .guard = -1, .line = p->token.line, .text = ".branchtargets" };
		advance(p);
		s.operand = operand_list(p, ';', &s.noperand);
		VEC_PUSH(p->arena, &p->function->statements, s);
	} else {
		fail(p, "'.%.*s' is not known in a function", STR_ARG(p->token.text));
	}
}

static void block(Parser *p)
{
	open_scope(p);
	expect(p, '{');
	while (!at_punctuation(p, '}')) {
		if (p->token.kind == TOKEN_END) {
			fail(p, "the text ends inside a function");
		} else if (p->token.kind == TOKEN_DOT) {
			directive_in_body(p);
		} else if (at_punctuation(p, '{')) {
			block(p);
		} else if (take_punctuation(p, ';')) {
			/* an empty statement */
		} else if (p->token.kind == TOKEN_WORD) {
			Lexer after = p->lexer;
			Token next = ptx_next(&after);
			if (next.kind == TOKEN_PUNCTUATION && next.text.s[0] == ':') {
				Label l = { take_word(p), p->scope, p->function->statements.n };
				VEC_PUSH(p->arena, &p->function->labels, l);
				expect(p, ':');
			} else {
				instruction(p);
			}
		} else if (at_punctuation(p, '@')) {
			instruction(p);
		} else {
			fail(p, "'%.*s' begins no statement", STR_ARG(p->token.text));
		}
	}
	expect(p, '}');
	close_scope(p);
}

static void resolve_labels(Parser *p)
{
	Function *f = p->function;
	Map at = { .arena = p->arena };
	for (u32 i = 0; i < f->labels.n; i++)
		map_put(&at, name_key(f->labels.v[i].scope, f->labels.v[i].name), i);
	for (u32 i = 0; i < f->uses.n; i++) {
		LabelUse *use = &f->uses.v[i];
		u64 *found = NULL;
		for (u32 scope = use->scope; !found && scope; scope = p->parent.v[scope])
			found = map_get(&at, name_key(scope, use->name));
		if (!found)
			fail(p, "'%s' is neither declared nor a label in '%s'", use->name, f->name);
		use->label = (u32)*found;
	}
}

static Variable *parameter(Parser *p, Function *f)
{
	if (!take_dot(p, "param"))
		fail(p, "a parameter of '%s' is not .param", f->name ? f->name : "a function");
	Variable *v = variable(p, SPACE_PARAM);
	v->is_entry_param = f->is_entry;
	v->address = place(f->is_entry ? &f->param_bytes : &f->frame_bytes, v);
	return v;
}

static void function_limits(Parser *p, u32 *out)
{
	for (u32 i = 0; i < 3; i++)
		out[i] = 1;
	for (u32 i = 0; i < 3; i++) {
		out[i] = (u32)take_number(p);
		if (!take_punctuation(p, ','))
			break;
	}
}

static void function(Parser *p, bool is_entry)
{
	Function *f = NEW(p->arena, Function);
	f->is_entry = is_entry;
	u32 outer = p->scope;
	open_scope(p);
	if (take_punctuation(p, '(')) {
		f->result = parameter(p, f);
		expect(p, ')');
	}
	f->name = take_word(p);
	if (take_punctuation(p, '('))
		while (!take_punctuation(p, ')')) {
			VEC_PUSH(p->arena, &f->params, parameter(p, f));
			take_punctuation(p, ',');
		}
	u32 inner = p->scope;
	p->scope = outer;
	declare(p, f->name, (Symbol){ .kind = SYMBOL_FUNCTION, .function = f });
	p->scope = inner;
	while (p->token.kind == TOKEN_DOT) {
		u32 ignored[3];
		if (take_dot(p, "maxntid"))
			function_limits(p, f->max_threads);
		else if (take_dot(p, "reqntid"))
			function_limits(p, f->required_threads);
		else if (take_dot(p, "minnctapersm"))
			f->min_blocks = (u32)take_number(p);
		else if (take_dot(p, "maxnreg"))
			take_number(p);
		else if (take_dot(p, "reqnctapercluster"))
			function_limits(p, ignored);
		else if (take_dot(p, "pragma"))
			while (!take_punctuation(p, ';'))
				advance(p);
		else if (!take_dot(p, "noreturn") && !take_dot(p, "explicitcluster") &&
			 !take_dot(p, "blocksareclusters"))
			fail(p, "'.%.*s' is not known before a function's body", STR_ARG(p->token.text));
	}
	if (take_punctuation(p, ';')) {
		f->is_declaration = true;
	} else {
		p->function = f;
		block(p);
		resolve_labels(p);
		p->function = NULL;
	}
	VEC_PUSH(p->arena, &p->m->functions, f);
	p->scope = outer;
}

static void module(Parser *p)
{
	bool is_extern = false;
	while (p->token.kind != TOKEN_END) {
		Space space;
		if (take_dot(p, "version")) {
			take_number(p);
		} else if (take_dot(p, "target")) {
			const char *name = take_word(p);
			if (sscanf(name, "sm_%u", &p->m->target) != 1)
				fail(p, "target '%s' is not known", name);
			p->m->one_target = name[strlen(name) - 1] == 'a';
			while (take_punctuation(p, ','))
				take_word(p);
		} else if (take_dot(p, "address_size")) {
			if (take_number(p) != 64)
				fail(p, "addresses are not of 64 bits");
		} else if (take_dot(p, "extern")) {
			is_extern = true;
			continue;
		} else if (take_dot(p, "visible") || take_dot(p, "weak") || take_dot(p, "common")) {
			continue;
		} else if (take_dot(p, "entry")) {
			function(p, true);
		} else if (take_dot(p, "func")) {
			function(p, false);
		} else if (take_space(p, &space)) {
			variables(p, space, is_extern);
		} else if (at_dot(p, "file") || at_dot(p, "loc")) {
			skip_line(p);
		} else if (take_dot(p, "section")) {
			while (!take_punctuation(p, '}'))
				advance(p);
		} else {
			fail(p, "'%.*s' is not known here", STR_ARG(p->token.text));
		}
		is_extern = false;
	}
	if (!p->m->target)
		fail(p, "the text has no .target");
}

bool ptx_parse(Module *m, Str text)
{
	Parser *p = NEW(&m->arena, Parser);
	m->names.arena = &m->arena;
	p->m = m;
	p->arena = &m->arena;
	p->names.arena = &m->arena;
	p->lexer = (Lexer){ text.s, text.s + text.n, 1 };
	VEC_PUSH(p->arena, &p->parent, 0);
	if (setjmp(p->failed))
		return false;
	advance(p);
	module(p);
	return true;
}
