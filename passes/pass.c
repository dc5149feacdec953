/* passes/pass.c: the table of passes and the one loop that checks, times, verifies, dumps and runs
 * them. */
#include "passes/pass.h"
#include "passes/check_eval.h"
#include "support/clock.h"
#include "support/io.h"

#include <stdlib.h>
#include <string.h>

const Pass pass_info[PASSES] = {
#define PASS(name, needs, gives, drops, arguments, help)                                           \
	{ #name, needs, gives, drops, arguments, help, pass_##name },
#include "passes/passes.def"
#undef PASS
};

const Pipeline pipeline_info[PIPELINES] = {
#define PIPELINE(name, text, help) { #name, text, help },
#include "passes/pipelines.def"
#undef PIPELINE
};

/* One step of a pipeline that was read. */
typedef struct Step {
	const Pass *pass;
	Str args;
	Loc loc, args_loc;
} Step;

typedef struct Reader {
	Diag *diag;
	Arena *tmp;
	u16 file;
	VEC(Step) step;
} Reader;

/* ---- the text of a pipeline ---- */

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '.';
}

enum { UNWRITTEN = UINT16_MAX }; /* the `file` of a pipeline that no user wrote: messages show no place in it */

static Loc place(u16 file, size_t at, size_t length)
{
	if (file == UNWRITTEN)
		return (Loc){ 0 };
	return (Loc){ 1, (u16)MIN(at + 1, (size_t)UINT16_MAX), (u16)MIN(length, (size_t)UINT16_MAX),
		      file };
}

static bool unknown_pass(Reader *r, Str name, Loc loc)
{
	const char *near = NULL;
	u32 least = 3;
	for (u32 i = 0; i < PASSES + PIPELINES; i++) {
		const char *other = i < PASSES ? pass_info[i].name : pipeline_info[i - PASSES].name;
		u32 d = edit_distance(name, str_of(other));
		if (d < least) {
			least = d;
			near = other;
		}
	}
	if (near)
		return diag_error(r->diag, E0713, loc,
				  "there is no pass '%.*s'; did you mean '%s'?", STR_ARG(name),
				  near);
	return diag_error(r->diag, E0713, loc, "there is no pass '%.*s'", STR_ARG(name));
}

static bool read_pipeline(Reader *r, Str text, u32 depth);

static bool read_step(Reader *r, Str name, Str args, Loc loc, Loc args_loc, u32 depth)
{
	for (u32 i = 0; i < PASSES; i++)
		if (str_equal(name, str_of(pass_info[i].name))) {
			VEC_PUSH(r->tmp, &r->step, (Step){ &pass_info[i], args, loc, args_loc });
			return true;
		}
	for (u32 i = 0; i < PIPELINES; i++) {
		if (!str_equal(name, str_of(pipeline_info[i].name)))
			continue;
		if (args.n)
			return diag_error(r->diag, E0714, args_loc,
					  "a pipeline takes no arguments");
		if (depth > 8)
			return diag_error(r->diag, E0713, loc, "the pipeline %s contains itself",
					  pipeline_info[i].name);
		u16 file = r->file;
		if (file != UNWRITTEN)
			r->file = diag_source(
				r->diag, arena_printf(r->diag->arena, "pipeline %s", pipeline_info[i].name),
				str_of(pipeline_info[i].text));
		bool fine = read_pipeline(r, str_of(pipeline_info[i].text), depth + 1);
		r->file = file;
		return fine;
	}
	return unknown_pass(r, name, loc);
}

static bool read_pipeline(Reader *r, Str text, u32 depth)
{
	bool fine = true;
	for (size_t at = 0; at < text.n;) {
		while (at < text.n &&
		       (text.s[at] == ' ' || text.s[at] == '\n' || text.s[at] == '\t'))
			at++;
		size_t from = at;
		while (at < text.n && is_name_char(text.s[at]))
			at++;
		Str name = { text.s + from, at - from }, args = { text.s + at, 0 };
		Loc loc = place(r->file, from, name.n);
		if (!name.n)
			return diag_error(r->diag, E0713, place(r->file, at, 1),
					  "expected the name of a pass");
		size_t args_from = at + 1;
		if (at < text.n && text.s[at] == '{') {
			at = args_from;
			while (at < text.n && text.s[at] != '}')
				at++;
			if (at == text.n)
				return diag_error(r->diag, E0713, place(r->file, args_from - 1, 1),
						  "this brace is not closed");
			args = (Str){ text.s + args_from, at - args_from };
			at++;
		}
		fine &= read_step(r, name, args, loc, place(r->file, args_from, args.n), depth);
		while (at < text.n &&
		       (text.s[at] == ' ' || text.s[at] == '\n' || text.s[at] == '\t'))
			at++;
		if (at < text.n && text.s[at++] != ',')
			return diag_error(r->diag, E0713, place(r->file, at - 1, 1),
					  "expected a comma between two passes");
		if (at == text.n && text.s[at - 1] == ',')
			return diag_error(r->diag, E0713, place(r->file, at - 1, 1),
					  "expected the name of a pass after the comma");
	}
	return fine;
}

static Str trimmed(Str s)
{
	while (s.n && (*s.s == ' ' || *s.s == '\n' || *s.s == '\t')) {
		s.s++;
		s.n--;
	}
	while (s.n && (s.s[s.n - 1] == ' ' || s.s[s.n - 1] == '\n' || s.s[s.n - 1] == '\t'))
		s.n--;
	return s;
}

bool pass_argument(PassCx *cx, size_t *at, PassArg *out, bool *error)
{
	if (*at >= cx->args.n)
		return false;
	const char *from = cx->args.s + *at;
	const char *comma = memchr(from, ',', cx->args.n - *at);
	size_t n = comma ? (size_t)(comma - from) : cx->args.n - *at;
	Loc loc = cx->args_loc;
	loc.column = (u16)MIN(loc.column + *at, (size_t)UINT16_MAX);
	loc.length = (u16)MIN(n, (size_t)UINT16_MAX);
	*at += n + 1;
	const char *equals = memchr(from, '=', n);
	Str name = trimmed((Str){ from, equals ? (size_t)(equals - from) : n });
	Str value =
		equals ? trimmed((Str){ equals + 1, (size_t)(from + n - equals - 1) }) : (Str){ 0 };
	*out = (PassArg){ name, value, loc };
	if (equals && name.n && value.n)
		return true;
	*error = true;
	return diag_error(cx->diag, E0714, loc, "an argument is written name=value");
}

bool pass_argument_unknown(PassCx *cx, const PassArg *a)
{
	return diag_error(cx->diag, E0714, a->loc, "the pass has no argument '%.*s'",
			  STR_ARG(a->name));
}

bool pass_argument_float(PassCx *cx, const PassArg *a, DType *to)
{
	*to = dtype_named(a->value);
	return *to == DT_f32 || *to == DT_bf16 || *to == DT_f16 ||
	       diag_error(cx->diag, E0714, a->loc, "%.*s is f32, bf16 or f16, not '%.*s'", STR_ARG(a->name), STR_ARG(a->value));
}

/* ---- dumps ---- */

static bool wanted(const char *const *list, u32 n, const char *pass)
{
	for (u32 i = 0; i < n; i++)
		if (strcmp(list[i], pass) == 0 || strcmp(list[i], "*") == 0)
			return true;
	return false;
}

static Status write_program(const Program *p, const char *path)
{
	AtomicFile f;
	TRY(io_create(path, &f));
	program_print(p, f.file);
	return io_commit(&f);
}

static Status dump(const PipelineOptions *o, const Program *p, u32 index, const char *pass,
		   const char *when, bool unchanged)
{
	if (!o->dump_folder) {
		if (!o->dump)
			return OK;
		fprintf(o->dump, "# %s %s%s\n", when, pass, unchanged ? ": unchanged" : "");
		if (!unchanged)
			program_print(p, o->dump);
		return OK;
	}
	if (unchanged)
		return OK;
	char path[4096];
	if ((size_t)snprintf(path, sizeof path, "%s/%02u-%s.%s.plg", o->dump_folder, index, pass,
			     when) >= sizeof path)
		return FAIL(STATUS_IO, "the name of the dump folder is too long");
	TRY(io_make_folder(o->dump_folder));
	return write_program(p, path);
}

/* For reproduction: what the pass was given. */
static void save_before(PassCx *cx, const PipelineOptions *o, const Step *s, const Program *before)
{
	const char *path = arena_printf(cx->diag->arena, "%s/plinth-before-%s.plg",
					o->save_folder ? o->save_folder : ".", s->pass->name);
	Status status = write_program(before, path);
	cx->broken = true;
	diag_error(cx->diag, E0717, s->loc, "the pass %s made an invalid program", s->pass->name);
	if (status)
		diag_note(cx->diag, (Loc){ 0 }, "and the program before it could not be saved: %s",
			  status->text);
	else
		diag_note(cx->diag, (Loc){ 0 },
			  "this is a mistake in plinth; `plinth opt --passes='%s%s%.*s%s' %s` "
			  "repeats it",
			  s->pass->name, s->args.n ? "{" : "", STR_ARG(s->args),
			  s->args.n ? "}" : "", path);
}

/* ---- running ---- */

static u32 count_nodes(const Program *p)
{
	u32 n = 0;
	for (u32 i = 0; i < p->entry.n; i++)
		n += p->entry.v[i]->node.n;
	return n;
}

static bool needs_hold(PassCx *cx, const Step *s, const Program *in)
{
	for (u32 i = 0; i < FACTS; i++) {
		if (!(s->pass->needs & 1u << i) || in->facts & 1u << i)
			continue;
		diag_error(cx->diag, E0715, s->loc, "%s needs %s: %s", s->pass->name,
			   fact_info[i].name, fact_info[i].text);
		for (u32 k = 0; k < PASSES; k++)
			if (pass_info[k].gives & 1u << i)
				diag_note(cx->diag, (Loc){ 0 }, "the pass %s gives it",
					  pass_info[k].name);
		return false;
	}
	return true;
}

/* Numbers for --check-eval: the options', and those of the pipeline's own bind. */
static bool read_sizes(PassCx *cx, const PipelineOptions *o, const Reader *r, SymbolValues *out)
{
	VEC(const char *) symbol = { 0 };
	VEC(i64) value = { 0 };
	Str text[2] = { o->sizes ? str_of(o->sizes) : (Str){ 0 }, { 0 } };
	Loc loc[2] = { { 0 } };
	for (u32 i = 0; i < r->step.n; i++)
		if (r->step.v[i].pass == &pass_info[PASS_bind]) {
			text[1] = r->step.v[i].args;
			loc[1] = r->step.v[i].args_loc;
		}
	bool error = false;
	for (u32 i = 0; i < 2; i++) {
		PassCx with = *cx;
		with.args = text[i];
		with.args_loc = loc[i];
		PassArg a;
		for (size_t at = 0; pass_argument(&with, &at, &a, &error);) {
			char digits[24] = "";
			memcpy(digits, a.value.s, MIN(a.value.n, sizeof digits - 1));
			if (strspn(digits, "0123456789") != a.value.n)
				error = !diag_error(cx->diag, E0714, a.loc, "'%.*s' is no whole number", STR_ARG(a.value));
			VEC_PUSH(cx->out, &symbol, intern(&cx->ir->names, a.name));
			VEC_PUSH(cx->out, &value, strtoll(digits, NULL, 10));
		}
	}
	*out = (SymbolValues){ symbol.n, symbol.v, value.v };
	return !error;
}

/* One pass into `out`, and all that is asked for around it. */
static Program *run_step(PassCx *cx, const PipelineOptions *o, const Step *s, u32 index, bool last,
			 const Program *in, Arena *out, const SymbolValues *sizes, Status *status)
{
	Arena tmp = ARENA(s->pass->name);
	u32 errors = cx->diag->nerror;
	PassCx mine = *cx;
	mine.out = out;
	mine.tmp = &tmp;
	mine.args = s->args;
	mine.args_loc = s->args_loc;
	mine.withheld = 0;
	if (wanted(o->dump_before, o->ndump_before, s->pass->name) && !*status)
		*status = dump(o, in, index, s->pass->name, "before", false);
	size_t held = out->used;
	f64 start = clock_seconds();
	Program *p = s->pass->run(&mine, in);
	f64 took = clock_seconds() - start;
	arena_free(&tmp);
	if (!p || cx->diag->nerror > errors)
		return NULL;
	p->facts = (p->facts & ~s->pass->drops) | (s->pass->gives & ~mine.withheld);
	bool compare = o->compare || o->ndump_after;
	PassTime t = { s->pass->name,    took,
		       count_nodes(in),  count_nodes(p),
		       out->used - held, compare && program_hash(in) == program_hash(p) };
	VEC_PUSH(cx->out, &cx->time, t);
	bool verify = o->verify_each;
#ifndef NDEBUG
	verify |= last || !o->verify_last;
#else
	(void)last;
#endif
	if (verify && !program_verify(p, cx->diag)) {
		save_before(cx, o, s, in);
		return NULL;
	}
	if (wanted(o->dump_after, o->ndump_after, s->pass->name) && !*status)
		*status = dump(o, p, index, s->pass->name, "after", t.unchanged);
	if (o->check_eval) {
		Arena eval = ARENA("check_eval");
		bool agree = programs_agree(&eval, in, p, sizes, o->check_steps, s->pass->name, cx->diag);
		arena_free(&eval);
		if (!agree) {
			save_before(cx, o, s, in);
			return NULL;
		}
	}
	return p;
}

Program *pipeline_run(Str text, PassCx *cx, const Program *in, Status *status)
{
	static const PipelineOptions none;
	const PipelineOptions *o = cx->options ? cx->options : &none;
	Arena tmp = ARENA("pipeline");
	*status = OK;
	Reader r = { .diag = cx->diag,
		     .tmp = &tmp,
		     .file = cx->written ? diag_source(cx->diag, "--passes", text) : UNWRITTEN };
	SymbolValues sizes = { 0 };
	if (!read_pipeline(&r, text, 0) || (o->check_eval && !read_sizes(cx, o, &r, &sizes))) {
		arena_free(&tmp);
		return NULL;
	}
	u32 n = o->limit > 0 ? (u32)MIN((i64)r.step.n, o->limit) : r.step.n;
	for (u32 i = 0; i < n && o->stop_after; i++)
		if (strcmp(r.step.v[i].pass->name, o->stop_after) == 0)
			n = i + 1;
	/* A program between two passes lies in an arena of its own, dropped when the next is made.
	 */
	Arena arena[2] = { ARENA("program"), ARENA("program") };
	Program *p = (Program *)in;
	for (u32 i = 0; i < n && p; i++) {
		Arena *out = i + 1 == n ? cx->out : &arena[i % 2];
		const Program *before = p;
		p = needs_hold(cx, &r.step.v[i], before)
			    ? run_step(cx, o, &r.step.v[i], i + 1, i + 1 == n, before, out, &sizes, status)
			    : NULL;
		if (before != in)
			arena_free(&arena[(i + 1) % 2]);
	}
	arena_free(&arena[0]);
	arena_free(&arena[1]);
	arena_free(&tmp);
	return p;
}
