/* The text of the graph IR over random programs: what is printed reads back as the same program,
 * byte for byte and by hash, in the same context and in a new one; the verifier accepts them, and
 * finds each way in which the arrays of a program can contradict each other; passes keep what they
 * compute. */
#include "passes/check_eval.h"
#include "passes/pass.h"
#include "ir/sample.h"
#include "tools/random_program.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct Context {
	Arena arena;
	Diag diag;
	Ir *ir;
} Context;

static void context_begin(Context *c)
{
	*c = (Context){ .arena = ARENA("test") };
	c->diag.arena = &c->arena;
	c->ir = ir_new(&c->arena, &c->diag);
	diag_source(&c->diag, "model.plinth", (Str){ 0 });
	diag_source(&c->diag, "std/\"odd\" name.plinth", (Str){ 0 });
}

static void must_be_fine(const Context *c, const char *what, u64 seed)
{
	if (!c->diag.nerror)
		return;
	diag_print(&c->diag, stderr, false);
	fail_msg("%s, seed %llu", what, (unsigned long long)seed);
}

static char *text_of(const Program *p)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);
	program_print(p, to);
	fclose(to);
	return text;
}

static Program *parsed(Context *c, const char *text)
{
	return program_parse(&c->arena, c->ir, str_of(text),
			     diag_source(&c->diag, "text.plg", str_of(text)));
}

static void random_programs_read_back(void **state)
{
	(void)state;
	for (u64 seed = 1; seed <= 200; seed++) {
		Context c, other;
		context_begin(&c);
		context_begin(&other);
		other.diag.nsource = 0;
		Program *p = random_program(&c.arena, c.ir, seed, 1 + (u32)(seed % 60));
		p->facts = seed % 7 ? 0 : F_BOUND;
		assert_true(program_verify(p, &c.diag));
		char *once = text_of(p);
		Program *same = parsed(&c, once), *fresh = parsed(&other, once);
		must_be_fine(&c, "reading back", seed);
		must_be_fine(&other, "reading in a new context", seed);
		char *twice = text_of(same), *thrice = text_of(fresh);
		assert_string_equal(once, twice);
		assert_string_equal(once, thrice);
		assert_true(program_hash(p) == program_hash(same));
		assert_true(program_hash(p) == program_hash(fresh));
		free(once);
		free(twice);
		free(thrice);
		arena_free(&c.arena);
		arena_free(&other.arena);
	}
}

/* Any text with a byte changed is read or refused; what is read prints what reads back. */
static void damaged_texts_are_read_or_refused(void **state)
{
	(void)state;
	u32 read = 0;
	for (u64 seed = 1; seed <= 20; seed++) {
		Context c;
		context_begin(&c);
		char *text = text_of(random_program(&c.arena, c.ir, seed, 15));
		size_t n = strlen(text);
		Random r = random_new(&c.arena, seed);
		for (u32 i = 0; i < 60; i++) {
			Context fresh;
			context_begin(&fresh);
			size_t at = (size_t)random_int(&r, 0, (i64)n - 1);
			char was = text[at];
			text[at] = random_chance(&r, 0.5) ? (char)random_int(&r, 1, 255)
							  : text[random_int(&r, 0, (i64)n - 1)];
			Program *p = parsed(&fresh, text);
			if (p) {
				read++;
				char *once = text_of(p), *twice = text_of(parsed(&fresh, once));
				assert_string_equal(once, twice);
				free(once);
				free(twice);
			} else {
				assert_true(fresh.diag.nerror > 0);
			}
			text[at] = was;
			arena_free(&fresh.arena);
		}
		free(text);
		arena_free(&c.arena);
	}
	assert_true(read > 100); /* a changed name or number is as good as another */
}

static const char *const small =
	"program small\nsource 0 \"model.plinth\"\naxis B = 4\n"
	"buffer @w : f32[B: 4] parameter\nbuffer @m : f32[B: 4] state of @w\n"
	"entry e {\n"
	"  %1 = read @w : f32[B: 4]\n"
	"  %2 = input x : f32[B: 4]\n"
	"  %3 = add %1, %2 : f32[B: 4] at 7:3 in h.0\n"
	"  %4 = full {value = 0.5} : f32[4]\n"
	"  %5 = mul %3, %4 : f32[B: 4]\n"
	"  result y = %5\n"
	"  write @m = %3\n"
	"}\n";

static u64 hash_of(const char *text)
{
	Context c;
	context_begin(&c);
	const Program *p = parsed(&c, text);
	must_be_fine(&c, text, 0);
	u64 h = program_hash(p);
	arena_free(&c.arena);
	return h;
}

/* `small` with the first `was` replaced. */
static const char *changed(Arena *a, const char *was, const char *now)
{
	const char *at = strstr(small, was);
	assert_non_null(at);
	return arena_printf(a, "%.*s%s%s", (int)(at - small), small, now, at + strlen(was));
}

static void the_hash_is_of_structure(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	u64 h = hash_of(small);
	static const char *const same[][2] = {
		{ "program small", "program other" },
		{ " at 7:3", "" },
		{ " in h.0", " in h.1" },
	};
	for (u32 i = 0; i < COUNT(same); i++)
		assert_true(hash_of(changed(&a, same[i][0], same[i][1])) == h);
	static const char *const other[][2] = {
		{ "= add", "= sub" },
		{ "0.5", "0.25" },
		{ "mul %3, %4", "mul %4, %3" },
		{ "x :", "y :" },
		{ "result y", "result z" },
		{ "write @m", "write @w" },
		{ "entry e", "entry f" },
		{ "state of", "gradient of" },
		{ "parameter\n", "parameter frozen\n" },
	};
	for (u32 i = 0; i < COUNT(other); i++)
		assert_true(hash_of(changed(&a, other[i][0], other[i][1])) != h);
	arena_free(&a);
}

static void the_hash_is_stable(void **state)
{
	(void)state;
	/* as another context interns names and dimensions elsewhere */
	Context c, d;
	context_begin(&c);
	context_begin(&d);
	intern_z(&d.ir->names, "something that moves what is interned later");
	dim_symbol(d.ir, "unrelated");
	assert_true(program_hash(parsed(&c, small)) == program_hash(parsed(&d, small)));
	arena_free(&c.arena);
	arena_free(&d.arena);
}

/* ---- the verifier against broken arrays ---- */

static void break_op(Program *p)
{
	p->entry.v[0]->node.v[2].op = OPS;
}
static void break_operand(Program *p)
{
	((Val *)p->entry.v[0]->node.v[2].in)[0].i = 4;
}
static void break_no_operand(Program *p)
{
	((Val *)p->entry.v[0]->node.v[2].in)[0].i = 0;
}
static void break_arity(Program *p)
{
	p->entry.v[0]->node.v[2].nin = 1;
}
static void break_numbering(Program *p)
{
	p->entry.v[0]->node.v[2].out.i = 4;
}
static void break_back_link(Program *p)
{
	p->entry.v[0]->value.v[3].node = 0;
}
static void break_index(Program *p)
{
	p->entry.v[0]->value.v[3].index = 1;
}
static void break_scope(Program *p)
{
	p->entry.v[0]->node.v[2].scope = NULL;
}
static void break_values(Program *p)
{
	p->entry.v[0]->node.n--;
}
static void break_result(Program *p)
{
	p->entry.v[0]->result.v[0].value.i = 99;
}
static void break_result_buffer(Program *p)
{
	p->entry.v[0]->result.v[1].buffer = 9;
}
static void break_result_name(Program *p)
{
	p->entry.v[0]->result.v[1].buffer = 0;
}
static void break_owner(Program *p)
{
	p->buffer.v[1].of = 7;
}
static void break_facts(Program *p)
{
	p->facts = 1u << FACTS;
}
static void break_axis(Program *p)
{
	((Axis *)p->entry.v[0]->value.v[3].axis)[0].id = 999;
}
static void break_input(Program *p)
{
	((input_attr *)p->entry.v[0]->node.v[1].attr)->name = NULL;
}
static void break_type(Program *p)
{
	p->entry.v[0]->value.v[5].type = type_scalar(p->ir, DT_f32);
	p->entry.v[0]->result.n = 0;
}

static void the_verifier_finds_broken_arrays(void **state)
{
	(void)state;
	static const struct {
		void (*damage)(Program *p);
		ErrorCode code;
		const char *says;
	} cases[] = {
		{ break_op, E0711, "op code" },
		{ break_operand, E0711, "operand 0 is %4, which does not come before it" },
		{ break_no_operand, E0711, "operand 0 is %0" },
		{ break_arity, E0711, "add with 1 operands" },
		{ break_numbering, E0711, "not numbered in order" },
		{ break_back_link, E0711, "does not know it" },
		{ break_index, E0711, "does not know it" },
		{ break_scope, E0711, "has no scope" },
		{ break_values, E0711, "1 values belong to no node" },
		{ break_result, E0711, "the result y is %99, which does not exist" },
		{ break_result_buffer, E0711, "written to another buffer" },
		{ break_result_name, E0711, "written to another buffer" },
		{ break_owner, E0711, "belongs to a buffer that is no parameter" },
		{ break_facts, E0711, "unknown facts" },
		{ break_axis, E0711, "a class that does not exist" },
		{ break_input, E0711, "an input without a name" },
		{ break_type, E0708, "%5 = mul is f32[4], but has the type f32[]" },
	};
	for (u32 i = 0; i < COUNT(cases); i++) {
		Context c;
		context_begin(&c);
		Program *p = parsed(&c, small);
		must_be_fine(&c, "small", 0);
		assert_true(program_verify(p, &c.diag));
		cases[i].damage(p);
		assert_false(program_verify(p, &c.diag));
		bool found = false;
		for (const Message *m = c.diag.first; m; m = m->next)
			found |= m->code == cases[i].code && strstr(m->text, cases[i].says);
		if (!found) {
			diag_print(&c.diag, stderr, false);
			fail_msg("case %u: no message says '%s'", i, cases[i].says);
		}
		arena_free(&c.arena);
	}
}

/* A message of a pass has the place of the node in the user's source. */
static void violations_have_places(void **state)
{
	(void)state;
	Context c;
	context_begin(&c);
	Program *p = parsed(&c, small);
	break_operand(p);
	program_verify(p, &c.diag);
	assert_int_equal(c.diag.first->loc.line, 7);
	assert_int_equal(c.diag.first->loc.column, 3);
	assert_string_equal(c.diag.source[c.diag.first->loc.file].path, "model.plinth");
	arena_free(&c.arena);
}

/* ---- passes ---- */

static void passes_keep_what_is_computed(void **state)
{
	(void)state;
	static const char *const pipelines[] = { "simplify", "cse", "prepare",
						 "expand{keep=softmax}" };
	for (u64 seed = 1; seed <= 120; seed++) {
		Context c;
		context_begin(&c);
		Program *p = random_program(&c.arena, c.ir, seed, 1 + (u32)(seed % 40));
		PipelineOptions o = { .check_eval = true, .save_folder = "." };
		PassCx cx = { .out = &c.arena, .ir = c.ir, .diag = &c.diag, .options = &o };
		Status status;
		Program *to = pipeline_run(str_of(pipelines[seed % 4]), &cx, p, &status);
		must_be_fine(&c, pipelines[seed % 4], seed);
		assert_null(status);
		char *once = text_of(to), *twice = text_of(parsed(&c, once));
		must_be_fine(&c, "reading back what a pass made", seed);
		assert_string_equal(once, twice);
		free(once);
		free(twice);
		arena_free(&c.arena);
	}
}

static void evaluation_tells_programs_apart(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	static const char *const other[][3] = {
		{ "= add", "= sub", "of the result y of e was" },
		{ "0.5", "0.500001", NULL }, /* within what f32 allows */
		{ "0.5", "0.5001", "of the result y of e was" },
		{ "result y = %5\n", "", "no longer gives y" },
		{ "write @m = %3", "write @m = %5", "of the result m of e was" },
		{ "entry e", "entry f", "the entry e is gone" },
	};
	for (u32 i = 0; i < COUNT(other); i++) {
		Context c;
		context_begin(&c);
		const Program *x = parsed(&c, small),
			      *y = parsed(&c, changed(&a, other[i][0], other[i][1]));
		must_be_fine(&c, other[i][1], 0);
		Arena tmp = ARENA("tmp");
		bool agree = programs_agree(&tmp, x, y, &(SymbolValues){ 0 }, 0, "pass", &c.diag);
		assert_int_equal(agree, other[i][2] == NULL);
		if (!agree)
			assert_non_null(strstr(c.diag.first->text, other[i][2]));
		arena_free(&tmp);
		arena_free(&c.arena);
	}
	arena_free(&a);
}

/* A program that claims what does not hold: whatever pass copies the claim is caught, and the
 * program before it is saved in a form that can be read. */
static void an_invalid_program_is_saved(void **state)
{
	(void)state;
	Context c;
	context_begin(&c);
	Program *p = parsed(&c, "program x\nentry e {\n  %1 = input x : f32[4]\n"
				"  %2 = relu %1 : f32[4]\n  result y = %2\n}\n");
	p->facts = F_EXPANDED;
	char folder[] = "/tmp/plinth_pass_XXXXXX";
	assert_non_null(mkdtemp(folder));
	PipelineOptions o = { .verify_each = true, .save_folder = folder };
	PassCx cx = { .out = &c.arena, .ir = c.ir, .diag = &c.diag, .options = &o };
	Status status;
	assert_null(pipeline_run(STR("cse"), &cx, p, &status));
	assert_true(cx.broken);
	bool told = false;
	for (const Message *m = c.diag.first; m; m = m->next)
		told |= m->severity == SEV_NOTE && strstr(m->text, folder) != NULL;
	assert_true(told);
	const char *path = arena_printf(&c.arena, "%s/plinth-before-cse.plg", folder);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	char line[100];
	assert_non_null(fgets(line, sizeof line, f));
	assert_string_equal(line, "program x\n");
	fclose(f);
	unlink(path);
	rmdir(folder);
	arena_free(&c.arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_programs_read_back),
		cmocka_unit_test(damaged_texts_are_read_or_refused),
		cmocka_unit_test(the_hash_is_of_structure),
		cmocka_unit_test(the_hash_is_stable),
		cmocka_unit_test(the_verifier_finds_broken_arrays),
		cmocka_unit_test(violations_have_places),
		cmocka_unit_test(passes_keep_what_is_computed),
		cmocka_unit_test(evaluation_tells_programs_apart),
		cmocka_unit_test(an_invalid_program_is_saved),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
