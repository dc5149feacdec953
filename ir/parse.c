/* ir/parse.c: the graph IR's text (docs/ir.md) back into a program: a recursive-descent reader of
 * one statement a line, each checked as it is read; a line that is wrong is told and skipped, and
 * what it would have defined is known to be bad, so that one mistake gives one message. Nothing is
 * assumed of the text: it may come from anywhere.
 *
 * Nodes are built without folding, and with their axis classes put in afterwards as they are
 * written: inference could only unify classes, which the text already shows as it was left. */
#include "ir/parse.h"

#include <string.h>

enum {
	MOST_AXIS_DEPTH = 8, /* products of products */
	MOST_AXIS_LEAVES = 64,
};

bool parse_place(Parser *p, Loc *loc, const char **scope)
{
	*loc = (Loc){ 0 };
	if (scope)
		*scope = intern_z(&p->s.ir->names, "");
	scan_space(&p->s);
	const char *from = p->s.p;
	if (scan_accept_word(&p->s, "at")) {
		i64 n[3], count = 0, length = 0;
		do
			if (!scan_integer(&p->s, 0, UINT32_MAX, "a line", &n[count++]))
				return false;
		while (count < 3 && scan_accept(&p->s, ':'));
		if (scan_accept(&p->s, '+') &&
		    !scan_integer(&p->s, 0, UINT16_MAX, "a length", &length))
			return false;
		if (count < 2 || n[count - 2] == 0 || n[count - 1] > UINT16_MAX)
			return diag_error(
				p->s.ir->diag, E0700, scan_since(&p->s, from),
				"a place is written at LINE:COLUMN or at FILE:LINE:COLUMN");
		i64 row = count == 3 ? n[0] : 0;
		if (row >= p->source.n)
			return diag_error(p->s.ir->diag, E0702, scan_since(&p->s, from),
					  "there is no source %lld", (long long)row);
		*loc = (Loc){ (u32)n[count - 2], (u16)n[count - 1], (u16)length, p->source.v[row] };
	}
	if (scope && scan_accept_word(&p->s, "in"))
		return scan_name(&p->s, "a scope", scope);
	return true;
}

/* ---- axis classes and types ---- */

/* NAME, NAME~2 or ~2: out is the label as one word. The name alone goes to *name (or NULL). */
static bool read_label(Parser *p, const char **label, const char **name)
{
	*name = NULL;
	scan_space(&p->s);
	if (p->s.p == p->s.end || *p->s.p != '~')
		if (!scan_word(&p->s, &p->words, "the name of an axis", name))
			return false;
	*label = *name;
	if (p->s.p < p->s.end && *p->s.p == '~') {
		p->s.p++;
		i64 n;
		if (!scan_integer(&p->s, 1, UINT32_MAX, "the number of an axis", &n))
			return false;
		*label = !*name || n > 1 ? intern_printf(&p->words, "%s~%lld", *name ? *name : "",
							 (long long)n)
					 : *name;
	}
	return true;
}

static bool axis_statement(Parser *p)
{
	scan_space(&p->s);
	const char *from = p->s.p, *label, *name;
	AxisRow row = { 0 };
	if (!read_label(p, &label, &name))
		return false;
	row.label = (Str){ from, (size_t)(p->s.p - from) };
	row.loc = scan_since(&p->s, from);
	if (map_get(&p->axis_row, MAP_KEY(label)))
		return diag_error(p->s.ir->diag, E0703, row.loc, "there already is an axis %.*s",
				  STR_ARG(row.label));
	/* known from here on, also when the rest is wrong */
	row.bad = true;
	map_put(&p->axis_row, MAP_KEY(label), p->axis.n);
	VEC_PUSH(&p->s.tmp, &p->axis, row);
	Dim size;
	if (!scan_expect(&p->s, '=') || !scan_dim(&p->s, &size))
		return false;
	if (scan_accept_word(&p->s, "of")) {
		const char *factor, *unused;
		if (!scan_expect(&p->s, '('))
			return false;
		while (!scan_accept(&p->s, ')')) {
			if (!read_label(p, &factor, &unused))
				return false;
			VEC_PUSH(&p->s.tmp, &row.factor, factor);
		}
	}
	VEC(const char *) names = { 0 };
	if (scan_accept_word(&p->s, "also")) {
		const char *other;
		do {
			if (!scan_name(&p->s, "another name", &other))
				return false;
			VEC_PUSH(&p->s.tmp, &names, other);
		} while (scan_accept(&p->s, ','));
	}
	Loc loc;
	if (!parse_place(p, &loc, NULL) || !scan_end_line(&p->s))
		return false;
	row.axis = axis_new(p->s.ir, name, size, loc);
	for (u32 i = 0; i < names.n; i++)
		axis_name(p->s.ir, row.axis, names.v[i]);
	row.bad = false;
	p->axis.v[p->axis.n - 1] = row;
	return true;
}

/* How many leaves a row has, or more than MOST_AXIS_LEAVES where it is too deep or too wide; a row
 * that contains itself is too deep. */
static u32 count_leaves(Parser *p, u32 row, u32 depth)
{
	const AxisRow *r = &p->axis.v[row];
	if (depth > MOST_AXIS_DEPTH)
		return MOST_AXIS_LEAVES + 1;
	u32 n = r->factor.n == 0;
	for (u32 i = 0; i < r->factor.n && n <= MOST_AXIS_LEAVES; i++) {
		u64 *factor = map_get(&p->axis_row, MAP_KEY(r->factor.v[i]));
		n += factor ? count_leaves(p, (u32)*factor, depth + 1) : 1;
	}
	return n;
}

/* Once all rows are read: rows may name later ones. */
static void set_factors(Parser *p)
{
	Diag *d = p->s.ir->diag;
	for (u32 i = 0; i < p->axis.n; i++) {
		AxisRow *r = &p->axis.v[i];
		if (r->bad || r->factor.n == 0)
			continue;
		if (count_leaves(p, i, 0) > MOST_AXIS_LEAVES) {
			diag_error(d, E0704, r->loc,
				   "the axis %.*s contains itself, or is a product of more than %d",
				   STR_ARG(r->label), MOST_AXIS_LEAVES);
			continue;
		}
		Axis *factor = NEWN(&p->s.tmp, Axis, r->factor.n);
		bool known = true;
		for (u32 k = 0; k < r->factor.n; k++) {
			u64 *row = map_get(&p->axis_row, MAP_KEY(r->factor.v[k]));
			if (!row)
				diag_error(d, E0702, r->loc, "there is no axis %s", r->factor.v[k]);
			known = known && row && !p->axis.v[*row].bad;
			if (known)
				factor[k] = p->axis.v[*row].axis;
		}
		if (known && r->factor.n == 1)
			diag_error(d, E0704, r->loc, "a product of axes has two or more");
		else if (known && !axis_set_factors(p->s.ir, r->axis, factor, r->factor.n))
			diag_error(d, E0704, r->loc,
				   "the sizes of the factors of %.*s do not multiply to its own",
				   STR_ARG(r->label));
	}
}

bool parse_type(Parser *p, const Type **type, Axis *axis)
{
	Str word = scan_ahead(&p->s);
	DType dtype = dtype_named(word);
	if (dtype == DTYPES)
		return scan_unexpected(&p->s, "an element type");
	p->s.p += word.n;
	if (!scan_expect(&p->s, '['))
		return false;
	u32 rank = 0;
	Dim dim[MAX_RANK];
	const char *from = p->s.p;
	while (!scan_accept(&p->s, ']')) {
		if (rank && !scan_expect(&p->s, ','))
			return false;
		if (rank == MAX_RANK)
			return diag_error(p->s.ir->diag, E0700, scan_since(&p->s, from),
					  "a type has at most %d dimensions", MAX_RANK);
		scan_space(&p->s);
		/* a label is told from a dimension by the colon after it */
		const char *start = p->s.p, *q = start;
		bool quoted = false;
		for (; q < p->s.end && *q != '\n' &&
		       (quoted || (*q != ':' && *q != ',' && *q != ']'));
		     q++)
			if (*q == '"')
				quoted = !quoted;
			else if (quoted && *q == '\\' && q + 1 < p->s.end)
				q++;
		axis[rank] = (Axis){ 0 };
		if (q < p->s.end && *q == ':') {
			const char *label, *name;
			if (!read_label(p, &label, &name))
				return false;
			u64 *row = map_get(&p->axis_row, MAP_KEY(label));
			if (!row)
				return diag_error(p->s.ir->diag, E0702, scan_since(&p->s, start),
						  "there is no axis %s", label);
			axis[rank] = p->axis.v[*row].axis;
			if (!scan_expect(&p->s, ':'))
				return false;
		}
		if (!scan_dim(&p->s, &dim[rank]))
			return false;
		rank++;
	}
	*type = type_make(p->s.ir, dtype, rank, dim);
	return true;
}

/* ---- the table of buffers ---- */

static bool buffer_statement(Parser *p)
{
	Buffer b = { .of = NONE };
	Axis axis[MAX_RANK];
	const char *of = NULL;
	scan_space(&p->s);
	Loc loc = scan_here(&p->s, 1);
	if (!scan_expect(&p->s, '@') || !scan_name(&p->s, "the name of a buffer", &b.name))
		return false;
	loc.length = (u16)MIN(strlen(b.name) + 1, (size_t)UINT16_MAX);
	if (!scan_expect(&p->s, ':') || !parse_type(p, &b.type, axis))
		return false;
	Str kind = scan_ahead(&p->s);
	while (b.kind < BUFFER_KINDS && !str_equal(kind, str_of(buffer_kind_name[b.kind])))
		b.kind++;
	if (b.kind == BUFFER_KINDS)
		return scan_unexpected(&p->s, "what the buffer is: parameter, state, gradient, "
					      "counter, cache, mesh or stash");
	p->s.p += kind.n;
	b.frozen = scan_accept_word(&p->s, "frozen");
	if (scan_accept_word(&p->s, "of"))
		if (!scan_expect(&p->s, '@') || !scan_name(&p->s, "the name of a buffer", &of))
			return false;
	if (scan_accept_word(&p->s, "split")) {
		Str split;
		if (!scan_expect(&p->s, '"') || !scan_quoted(&p->s, &split))
			return false;
		b.split = intern(&p->s.ir->names, split);
	}
	b.summed = scan_accept_word(&p->s, "summed");
	if (scan_accept_word(&p->s, "slots")) {
		i64 slots;
		if (!scan_integer(&p->s, 1, 1 << 20, "how many micro-batches", &slots))
			return false;
		b.slots = (u32)slots;
	}
	if (scan_accept_word(&p->s, "stages")) {
		i64 stages;
		if (!scan_integer(&p->s, INT64_MIN, INT64_MAX, "which stages have it", &stages))
			return false;
		b.stages = (u64)stages;
	}
	if (!parse_place(p, &b.loc, &b.scope) || !scan_end_line(&p->s))
		return false;
	b.axis = COPYN(p->program->arena, Axis, axis, b.type->rank);
	u32 index = program_buffer(p->program, b);
	if (!map_get(&p->buffer, MAP_KEY(b.name)))
		map_put(&p->buffer, MAP_KEY(b.name), index);
	VEC_PUSH(&p->s.tmp, &p->of, of);
	VEC_PUSH(&p->s.tmp, &p->places.buffer, loc);
	return true;
}

static void set_owners(Parser *p)
{
	for (u32 i = 0; i < p->of.n; i++) {
		if (!p->of.v[i])
			continue;
		u64 *index = map_get(&p->buffer, MAP_KEY(p->of.v[i]));
		if (index)
			p->program->buffer.v[i].of = (u32)*index;
		else
			diag_error(p->s.ir->diag, E0702, p->places.buffer.v[i],
				   "there is no buffer @%s", p->of.v[i]);
	}
}

/* ---- entries ---- */

static bool result_statement(Parser *p, bool write)
{
	scan_space(&p->s);
	const char *from = p->s.p, *name;
	if (write && !scan_expect(&p->s, '@'))
		return false;
	if (!scan_name(&p->s, write ? "the name of a buffer" : "the name of a result", &name))
		return false;
	Loc loc = scan_since(&p->s, from);
	Val v;
	if (!scan_expect(&p->s, '='))
		return false;
	scan_space(&p->s);
	if (!parse_operand(p, &v) || !scan_end_line(&p->s))
		return false;
	u32 buffer = NONE;
	if (write) {
		u64 *found = map_get(&p->buffer, MAP_KEY(name));
		if (!found)
			return diag_error(p->s.ir->diag, E0702, loc, "there is no buffer @%s",
					  name);
		buffer = (u32)*found;
	}
	if (v.i == BAD)
		return true;
	graph_result(p->graph, name, buffer, v);
	VEC_PUSH(&p->s.tmp, &p->places.entry.v[p->places.entry.n - 1].result, loc);
	return true;
}

/* After `entry`: the name and the lines up to the closing brace. */
static bool entry_statement(Parser *p)
{
	const char *name;
	scan_space(&p->s);
	const char *from = p->s.p;
	if (!scan_name(&p->s, "the name of an entry", &name))
		return false;
	EntryPlaces places = { .entry = scan_since(&p->s, from) };
	if (!scan_expect(&p->s, '{') || !scan_end_line(&p->s))
		return false;
	VEC_PUSH(&p->s.tmp, &p->places.entry, places);
	p->graph = program_entry(p->program, name);
	p->builder = builder_new(p->graph);
	p->builder.no_fold = true;
	p->value = (Map){ .arena = &p->s.tmp };
	p->value_axis.n = 0;
	VEC_PUSH(&p->s.tmp, &p->value_axis, NULL); /* value 0 is none */
	bool closed = false;
	for (scan_skip_line(&p->s); scan_next_line(&p->s); scan_skip_line(&p->s)) {
		if (scan_accept(&p->s, '}')) {
			closed = scan_end_line(&p->s);
			break;
		}
		if (*p->s.p == '%')
			parse_node(p);
		else if (scan_accept_word(&p->s, "result"))
			result_statement(p, false);
		else if (scan_accept_word(&p->s, "write"))
			result_statement(p, true);
		else
			scan_unexpected(&p->s, "a value, 'result', 'write' or '}'");
	}
	builder_done(&p->builder);
	for (u32 i = 1; i < p->graph->value.n; i++)
		if (p->value_axis.v[i])
			p->graph->value.v[i].axis = p->value_axis.v[i];
	if (!closed && p->s.p == p->s.end)
		return diag_error(p->s.ir->diag, E0700, places.entry,
				  "the entry %s is not closed by a '}'", name);
	return closed;
}

/* ---- the whole ---- */

static bool source_statement(Parser *p)
{
	i64 n;
	scan_space(&p->s);
	const char *from = p->s.p;
	if (!scan_integer(&p->s, 0, UINT16_MAX, "the number of a source", &n))
		return false;
	if (n != p->source.n)
		return diag_error(p->s.ir->diag, E0700, scan_since(&p->s, from),
				  "sources count up from 0: this one is %u", p->source.n);
	Str path;
	if (!scan_expect(&p->s, '"') || !scan_quoted(&p->s, &path) || !scan_end_line(&p->s))
		return false;
	Diag *d = p->s.ir->diag;
	u16 at = 0;
	while (at < d->nsource && !str_equal(str_of(d->source[at].path), path))
		at++;
	if (at == d->nsource) {
		if (d->nsource == UINT16_MAX)
			return diag_error(d, E0700, scan_since(&p->s, from), "too many sources");
		at = diag_source(d, intern(&p->s.ir->names, path), (Str){ 0 });
	}
	VEC_PUSH(&p->s.tmp, &p->source, at);
	return true;
}

static bool facts_statement(Parser *p)
{
	while (!scan_at_end(&p->s)) {
		Str word = scan_ahead(&p->s);
		u32 i = 0;
		while (i < FACTS && !str_equal(word, str_of(fact_info[i].name)))
			i++;
		if (i == FACTS)
			return scan_unexpected(&p->s, "a fact");
		p->program->facts |= 1u << i;
		p->s.p += word.n;
	}
	return true;
}

static bool mesh_statement(Parser *p)
{
	Mesh *mesh = &p->program->mesh;
	mesh->n = 0;
	do {
		MeshAxis a;
		i64 size;
		if (!scan_name(&p->s, "the name of a mesh axis", &a.name) ||
		    !scan_expect(&p->s, '=') ||
		    !scan_integer(&p->s, 1, 1 << 20, "how many devices", &size))
			return false;
		a.size = (u32)size;
		mesh->axis[mesh->n++] = a;
	} while (scan_accept(&p->s, ',') && mesh->n < MESH_AXES);
	if (scan_accept_word(&p->s, "stage")) {
		Stage *stage = &p->program->stage;
		i64 at, chunks;
		if (!scan_name(&p->s, "the mesh axis of stages", &stage->over) ||
		    !scan_expect(&p->s, '=') ||
		    !scan_integer(&p->s, 0, 1 << 20, "which stage this is", &at) ||
		    !scan_expect(&p->s, ',') ||
		    !scan_integer(&p->s, 1, 1 << 15, "how many chunks a stage has", &chunks))
			return false;
		stage->at = (u32)at;
		stage->chunks = (u32)chunks;
	}
	return scan_end_line(&p->s);
}

/* The order of rows, and what happens when the last of a kind was read. */
static bool enter_stage(Parser *p, int stage, const char *what, Loc loc)
{
	if (stage < p->stage)
		return diag_error(
			p->s.ir->diag, E0700, loc,
			"%s stands too late: the order is program, facts, mesh, source, axis, "
			"buffer, entry",
			what);
	if (p->stage <= 4 && stage > 4)
		set_factors(p);
	if (p->stage <= 5 && stage > 5)
		set_owners(p);
	p->stage = stage;
	return true;
}

static bool statement(Parser *p)
{
	static const struct {
		const char *word;
		bool (*read)(Parser *p);
	} rows[] = {
		{ "facts", facts_statement },   { "mesh", mesh_statement },
		{ "source", source_statement }, { "axis", axis_statement },
		{ "buffer", buffer_statement }, { "entry", entry_statement },
	};
	for (u32 i = 0; i < COUNT(rows); i++) {
		const char *from = p->s.p;
		if (scan_accept_word(&p->s, rows[i].word))
			return enter_stage(p, (int)i + 1, rows[i].word, scan_since(&p->s, from)) &&
			       rows[i].read(p);
	}
	return scan_unexpected(&p->s, "'facts', 'mesh', 'source', 'axis', 'buffer' or 'entry'");
}

Program *program_parse(Arena *arena, Ir *ir, Str text, u16 file)
{
	Parser p = { .s = { .p = text.s,
			    .end = text.s + text.n,
			    .line_start = text.s,
			    .line = 1,
			    .file = file,
			    .ir = ir,
			    .tmp = ARENA("parse") } };
	p.words.arena = p.axis_row.arena = p.buffer.arena = &p.s.tmp;
	u32 errors = ir->diag->nerror;
	p.program = program_new(arena, ir, "");
	scan_next_line(&p.s);
	const char *from = p.s.p;
	if (!scan_accept_word(&p.s, "program"))
		scan_unexpected(&p.s, "'program'");
	else if (scan_name(&p.s, "the name of the program", &p.program->name))
		scan_end_line(&p.s);
	p.places.program = scan_since(&p.s, from);
	for (scan_skip_line(&p.s); scan_next_line(&p.s); scan_skip_line(&p.s))
		statement(&p);
	enter_stage(&p, 7, "", (Loc){ 0 });
	if (ir->diag->nerror == errors)
		program_verify_placed(p.program, ir->diag, &p.places);
	arena_free(&p.s.tmp);
	return ir->diag->nerror == errors ? p.program : NULL;
}
