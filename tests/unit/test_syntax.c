/* Units of the syntactic frontend: trees, errors with their places, recovery, the canonical form. */
#include "support/io.h"
#include "tests/syntax_laws.h"

#include <dirent.h>
#include <setjmp.h>
#include <cmocka.h>

/* ---- trees ------------------------------------------------------------------------------- */

/* Statements in a module, and the tree that they are by the rules of the language, worked out by
 * hand. */
static const struct {
	const char *source, *tree;
} trees[] = {
	/* precedence and association */
	{ "x = a + b * c - d", "(assign x) = (- (+ a (* b c)) d)" },
	{ "x = a / b @ c // d % e", "(assign x) = (% (// (@ (/ a b) c) d) e)" },
	{ "x = -a ** b ** -c", "(assign x) = (- (** a (** b (- c))))" },
	{ "x = (-a) ** 2", "(assign x) = (** (- a) 2)" },
	{ "x = not a == b and c or d", "(assign x) = (or (and (not (== a b)) c) d)" },
	{ "x = a + 1 < b * 2", "(assign x) = (< (+ a 1) (* b 2))" },
	{ "x = a if b else c if d else e", "(assign x) = (if b a (if d c e))" },
	{ "x = a - -b", "(assign x) = (- a (- b))" },
	{ "x = +1", "(assign x) = (+ 1)" },
	/* values */
	{ "x = [1_000, 6e-4, 0.5, true, none]",
	  "(assign x) = (list 1000 0.00059999999999999995 0.5 true none)" },
	{ "x = 8 GiB", "(assign x) = 8589934592:GiB" },
	{ "x = 1.5kB", "(assign x) = 1500:kB" },
	{ "x = 9223372036854775807", "(assign x) = 9223372036854775807" },
	{ "x = 1f1b", "(assign x) = 1f1b" },
	{ "x = (a, b)", "(assign x) = (tuple a b)" },
	{ "x = (a,)", "(assign x) = (tuple a)" },
	{ "x = { B = 8, T = { a = 1 } }", "(assign x) = (record B=8 T=(record a=1))" },
	{ "x = {\n B = 8\n T = 1, U = 2; V = 3\n}",
	  "(assign x) = (record B=8 T=1 U=2 V=3)" },
	{ "x = []", "(assign x) = (list)" },
	/* strings */
	{ "x = \"h.{i}.a\"", "(assign x) = (text \"h.\" i \".a\")" },
	{ "x = \"{i + 1}{j}\"", "(assign x) = (text (+ i 1) j)" },
	{ "x = \"{f(a, b)}\"", "(assign x) = (text (call f a b))" },
	{ "x = \"**.{q,v}_proj\"", "(assign x) = \"**.{q,v}_proj\"" },
	{ "x = \"\\{a\\} \\\"b\\\" \\n\"", "(assign x) = \"{a} \\\"b\\\" \\n\"" },
	/* application, indexing */
	{ "x = f(a, k = v,)", "(assign x) = (call f a k=v)" },
	{ "x = y + F(a) as h.b", "(assign x) = (+ y (call F a :as \"h.b\"))" },
	{ "x = F(G(a) as g) as \"h.{i}\"",
	  "(assign x) = (call F (call G a :as \"g\") :as (text \"h.\" i))" },
	{ "x = (F(a) as g).out[0]", "(assign x) = (index (field (call F a :as \"g\") out) 0)" },
	{ "x = y[:, none, -1, a:b:c, ..., ::2, n:]",
	  "(assign x) = (index y (slice _ _ _) new-axis (- 1) (slice a b c) ... (slice _ _ 2) "
	  "(slice n _ _))" },
	{ "x = y[i][j].z(1)", "(assign x) = (call (field (index (index y i) j) z) 1)" },
	/* statements */
	{ "q, k, v = f(x)", "(assign q k v) = (call f x)" },
	{ "m <- m * 2", "(update m) = (* m 2)" },
	{ "width = 768 from \"n_embd\"", "(assign width) = 768 :from \"n_embd\"" },
	{ "text.width = 3", "(assign (field text width)) = 3" },
	{ "optimizer for \"*.bias\", \"a\" = f()",
	  "(assign optimizer) :for (patterns \"*.bias\" \"a\") = (call f)" },
	{ "param w: [I, out] = normal(std = 1)",
	  "param w (tensor I out) = (call normal std=1)" },
	{ "param w as a.b: i32[]", "param w :as \"a.b\" (i32)" },
	{ "param w as \"e.{E}.w\": f32[..., 2 * D]",
	  "param w :as (text \"e.\" E \".w\") (f32 ... (* 2 D))" },
	{ "input tokens: i32[B, T]", "input tokens (i32 B T)" },
	{ "dim F = 4 * D", "dim F=(* 4 D)" },
	{ "state m = zeros, v = zeros", "state m=zeros v=zeros" },
	{ "return x, y[0]", "return x (index y 0)" },
	{ "return a = x, b = y", "return a=x b=y" },
	{ "f(x)", "(call f x)" },
	{ "B -> data", "(arrow B) -> data" },
	{ "B, A.H -> (pod, data)", "(arrow B (field A H)) -> (tuple pod data)" },
	{ "freeze \"**\"", "directive freeze (on \"**\")" },
	{ "write png(x)", "directive write (on (call png x))" },
	{ "wrap \"a\", \"b\" with Lora(rank = 2)",
	  "directive wrap (on \"a\" \"b\") :with (call Lora rank=2)" },
	{ "rename \"a\" -> \"b\"", "directive rename (on \"a\") -> \"b\"" },
	{ "for i in 0..n - 1 { }", "for i (range 0 (- n 1))" },
	{ "text { }", "directive text (on)" },
	/* words are reserved where they must be, and nowhere else */
	{ "data = model + param", "(assign data) = (+ model param)" },
	{ "state = dim", "(assign state) = dim" },
	{ "param[0].x(scope)", "(call (field (index param 0) x) scope)" },
	/* line ends */
	{ "x = f(a,\n\n  b)", "(assign x) = (call f a b)" },
	{ "x = a +\n  b", "(assign x) = (+ a b)" },
	{ "x =\n  a", "(assign x) = a" },
	{ "x = [a,  # first\n  b]", "(assign x) = (list a b)" },
};

static void statements_have_their_trees(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(trees); i++) {
		Parsed x;
		Arena arena = ARENA("test");
		const char *source =
			arena_printf(&arena, "module M() {\n%s\n}\n", trees[i].source);
		const char *expected =
			arena_printf(&arena, "(module M ()\n  (%s))\n", trees[i].tree);
		parsed_open(&x, str_of(source));
		if (x.diag.nerror)
			diag_print(&x.diag, stderr, false);
		assert_int_equal(x.diag.nerror, 0);
		char *dump = printed(ast_dump, x.ast);
		assert_string_equal(dump, expected);
		free(dump);
		parsed_close(&x);
		arena_free(&arena);
	}
}

static void expect_dump(const char *source, const char *expected)
{
	Parsed x;
	parsed_open(&x, str_of(source));
	if (x.diag.nerror)
		diag_print(&x.diag, stderr, false);
	assert_int_equal(x.diag.nerror, 0);
	char *dump = printed(ast_dump, x.ast);
	assert_string_equal(dump, expected);
	free(dump);
	parsed_close(&x);
}

static void declarations_have_their_trees(void **state)
{
	(void)state;
	expect_dump("use std.nn", "(use std.nn)\n");
	expect_dump("use std.nn; use \"my file\"\n\n", "(use std.nn)\n(use my file)\n");
	expect_dump("config { a = 1, b = 2\n text { w = 3 } vision { w = 4 } }",
		    "(config\n  ((assign a) = 1)\n  ((assign b) = 2)\n"
		    "  (directive text (on)\n    ((assign w) = 3))\n"
		    "  (directive vision (on)\n    ((assign w) = 4)))\n");
	expect_dump("function f(x, g: [..., D]; a, b: float = 2) -> [D] { return x }",
		    "(function f ((x) (g: (tensor ... D)) (static a) (static b: float = 2)) -> "
		    "(tensor D)\n  (return x))\n");
	expect_dump("model m() -> (a: [B], b: i32[B, T]) { }",
		    "(model m () -> (results a:(tensor B) b:(i32 B T)))\n");
	expect_dump("optimizer o(p; lr) { }", "(optimizer o ((p) (static lr)))\n");
	expect_dump("adapt llama { freeze \"**\"; save = x }",
		    "(recipe adapt :label llama\n  (directive freeze (on \"**\"))\n"
		    "  ((assign save) = x))\n");
	expect_dump("module M() {\n if a { x = 1 }\n else if b { x = 2 }\n else { x = 3 }\n}",
		    "(module M ()\n  (if (a\n    ((assign x) = 1)) (b\n    ((assign x) = 2)) (else\n"
		    "    ((assign x) = 3))))\n");
	expect_dump("", "");
	expect_dump("# only a comment", "");
}

static void places_are_exact(void **state)
{
	(void)state;
	Parsed x;
	parsed_open(&x, STR("module M(a: [B]) {\n  y = foo(a) +  bar(b)\n}\n"));
	assert_int_equal(x.ast->ndecl, 1);
	const Decl *d = x.ast->decl[0];
	assert_int_equal(d->loc.line, 1);
	assert_int_equal(d->loc.column, 8);
	assert_int_equal(d->signature.param.v[0].type->loc.column, 13);
	const Expr *sum = d->body.v[0]->assign.value;
	assert_int_equal(sum->loc.line, 2);
	assert_int_equal(sum->loc.column, 7);
	assert_int_equal(sum->loc.length, 16);
	assert_int_equal(sum->binary.op_loc.column, 14);
	assert_int_equal(sum->binary.right->loc.column, 17);
	assert_int_equal(d->body.end.line, 3);
	parsed_close(&x);
	/* Inside a string too. */
	parsed_open(&x, STR("module M() {\n  y = \"ab{  c }\"\n}"));
	const Expr *c = x.ast->decl[0]->body.v[0]->assign.value->string->part[1].hole;
	assert_int_equal(c->loc.line, 2);
	assert_int_equal(c->loc.column, 13);
	parsed_close(&x);
}

/* ---- errors ------------------------------------------------------------------------------ */

/* `code` at line:column is the only error, but where `more` says so. */
static const struct {
	const char *source;
	ErrorCode code;
	u32 line, column;
	u32 more; /* further errors */
} wrong[] = {
	{ "module M() { x = a $ b }", E0100, 1, 20, 1 },
	{ "module M() { x = \xC3\xA9 }", E0100, 1, 18, 1 },
	{ "# \xFF\n", E0100, 1, 3, 0 },
	{ "# \xED\xA0\x80\n", E0100, 1, 3, 0 },
	{ "\n# a\x01\n", E0100, 2, 4, 0 },
	{ "module M() { x = \"\x7F\" }", E0100, 1, 19, 0 },
	{ "module M() {\n  x = \"abc\n}", E0101, 2, 7, 0 },
	{ "module M() {\n  x = 'abc'\n}", E0101, 2, 7, 0 },
	{ "module M() { x = \"a{b\" }", E0102, 1, 20, 0 },
	{ "module M() { x = \"a}b\" }", E0102, 1, 20, 0 },
	{ "module M() { x = \"a{}b\" }", E0102, 1, 20, 0 },
	{ "module M() { x = \"a\\qb\" }", E0102, 1, 20, 0 },
	{ "module M() { x = \"a{1 +}b\" }", E0110, 1, 24, 0 },
	{ "module M() { x = 1. + 2 }", E0103, 1, 18, 0 },
	{ "module M() { x = .5 }", E0103, 1, 18, 0 },
	{ "module M() { x = 10x }", E0103, 1, 18, 0 },
	{ "module M() { x = 1__0 }", E0103, 1, 18, 0 },
	{ "module M() { x = 0x10 }", E0103, 1, 18, 0 },
	{ "module M() { x = 9223372036854775808 }", E0104, 1, 18, 0 },
	{ "module M() { x = 9000 PiB * 2 }", E0104, 1, 18, 0 },
	{ "module M() { x = 1e999 }", E0104, 1, 18, 0 },
	{ "module M() { x += 1 }", E0106, 1, 16, 0 },
	{ "module M() { x **= 1 }", E0106, 1, 16, 0 },
	{ "module M() { x := 1 }", E0106, 1, 16, 0 },
	{ "module M() { x = a && b }", E0106, 1, 20, 0 },
	{ "module M(x) => [B] { }", E0106, 1, 13, 0 },
	{ "module M() {\n  x = f(a, b\n  y = 3\n}", E0111, 2, 8, 0 },
	{ "module M() {\n  x = f(a\n}", E0111, 2, 8, 0 },
	{ "module M() {\n  x = f(a,\n        b c)\n}", E0110, 3, 11, 0 },
	{ "module M() {\n  for i in x {\n}\nmodule N() { }", E0111, 1, 12, 0 },
	{ "module M() {\n  x = 3\n", E0111, 1, 12, 0 },
	{ "module M() { x = (a] }", E0112, 1, 20, 0 },
	{ "module M() { x = a) }", E0112, 1, 19, 0 },
	{ "}\n", E0112, 1, 1, 0 },
	{ "module M() {\n  x = a +\n}", E0110, 3, 1, 0 },
	{ "module M() {\n  x = a\n  + b\n  * c\n}", E0110, 4, 3, 0 },
	{ "module M() { if x = 3 { } }", E0110, 1, 19, 0 },
	{ "module M() { for i in 0..3: { } }", E0110, 1, 27, 0 },
	{ "module M() { if a\n  { x = 1 } }", E0110, 1, 18, 0 },
	{ "module M() { x = a < b < c }", E0110, 1, 24, 0 },
	{ "module M() { x = a as b }", E0110, 1, 20, 0 },
	{ "module M() { if x <-1 { } }", E0110, 1, 19, 0 },
	{ "module M() { x = 8 GX }", E0110, 1, 20, 0 },
	{ "module M() { else { } }", E0110, 1, 14, 0 },
	{ "module M() { x = f(a; b) }", E0110, 1, 21, 0 },
	{ "module M() { in = 3 }", E0110, 1, 14, 0 },
	{ "module M(x { y = 3 }", E0110, 1, 12, 0 },
	{ "module M()\n{ }", E0110, 1, 11, 0 },
	{ "x = 3\n", E0110, 1, 3, 0 },
	{ "def f(x):\n", E0110, 1, 9, 0 },
	{ "modul M() { }", E0113, 1, 1, 0 },
	{ "class M { }", E0113, 1, 1, 0 },
	{ "import std.nn", E0113, 1, 1, 0 },
	{ "module M() {\n  module N() { }\n}", E0113, 2, 3, 0 },
	{ "module M() { while x { } }", E0113, 1, 14, 0 },
	{ "module M() { let x = 3 }", E0113, 1, 14, 0 },
	{ "module M() { pram x: [B] }", E0113, 1, 14, 0 },
	{ "module M() { a, b }", E0113, 1, 17, 0 },
	{ "module M() { x[0] = 3 }", E0114, 1, 14, 0 },
	{ "module M() { x, f() = 3 }", E0114, 1, 17, 0 },
	{ "module M() { a, b <- 3 }", E0114, 1, 17, 0 },
	{ "module M() { f(a = 1, b) }", E0115, 1, 23, 0 },
	{ "module M() { param w = 3 }", E0116, 1, 20, 0 },
	{ "module M() { param w }", E0116, 1, 14, 0 },
	{ "module M() { scope x { } }", E0116, 1, 14, 0 },
	{ "module M { }", E0116, 1, 1, 0 },
	{ "preset { }", E0116, 1, 1, 0 },
	{ "config a { }", E0116, 1, 8, 0 },
	{ "train { input x as y: [B] }", E0117, 1, 20, 0 },
};

static void errors_have_code_and_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		Parsed x;
		parsed_open(&x, str_of(wrong[i].source));
		const Message *m = x.diag.first;
		bool right = m && m->code == wrong[i].code && m->loc.line == wrong[i].line &&
			     m->loc.column == wrong[i].column &&
			     x.diag.nerror <= 1 + wrong[i].more;
		if (!right) {
			print_message("expected %s at %u:%u in: %s\n",
				      error_info[wrong[i].code].code, wrong[i].line,
				      wrong[i].column, wrong[i].source);
			diag_print(&x.diag, stderr, false);
		}
		assert_true(right);
		parsed_close(&x);
	}
}

/* The lines of the errors in a source. */
static void expect_lines(const char *source, const u32 *line, u32 n, u32 ndecl)
{
	Parsed x;
	parsed_open(&x, str_of(source));
	if (x.diag.nerror != n)
		diag_print(&x.diag, stderr, false);
	assert_int_equal(x.diag.nerror, n);
	u32 i = 0;
	for (const Message *m = x.diag.first; m; m = m->next)
		if (m->severity == SEV_ERROR)
			assert_int_equal(m->loc.line, line[i++]);
	assert_non_null(x.ast);
	assert_int_equal(x.ast->ndecl, ndecl);
	parsed_close(&x);
}

static void every_independent_error_is_told(void **state)
{
	(void)state;
	/* In one block; in nested ones; in several declarations; statements between them live. */
	expect_lines("module M() {\n x = 1 +* 2\n y = 3\n z = (4 4)\n}\nmodule N() { }",
		     (const u32[]){ 2, 4 }, 2, 2);
	expect_lines("module M() {\n for i in 0..3 {\n  x = )\n  if a { y = ] }\n  z = = 3\n }\n"
		     " return return\n}\n",
		     (const u32[]){ 3, 4, 5, 7 }, 4, 1);
	expect_lines("module (x) { a = 1 }\nmodule N(x { b = { c = 1 } }\nconfig { d = 2 }\n"
		     "train train train { }\nuse\n",
		     (const u32[]){ 1, 2, 4, 5 }, 4, 1);
	/* A block whose head is wrong is skipped whole. */
	expect_lines("module M() {\n for in x {\n  a = (1\n }\n b = 1 1\n}\n",
		     (const u32[]){ 2, 5 }, 2, 1);
	/* Line ends and braces in a record are not those of the block around it. */
	expect_lines("train {\n a = { b 1\n  c = 2\n }\n d = 1 1\n}\ndata { }",
		     (const u32[]){ 2, 5 }, 2, 2);
	expect_lines("train {\n a = { b = }\n d = 1 1\n}\ndata { }", (const u32[]){ 2, 3 }, 2, 2);
	/* A parenthesis left open does not swallow the statements after it. */
	expect_lines("module M() {\n a = f(1\n b = 2 2\n c = [3\n}\nmodule N() { d = }",
		     (const u32[]){ 2, 3, 4, 6 }, 4, 2);
	/* A brace left open ends at the next declaration. */
	expect_lines("module M() {\n if a {\n  b = f(\n\nmodule N() { c = 1 1 }\n",
		     (const u32[]){ 3, 5 }, 2, 2);
}

static void kept_statements_are_right(void **state)
{
	(void)state;
	Parsed x;
	parsed_open(&x, STR("module M() {\n a = f(1\n b = 2\n c = )\n d = 4\n}"));
	assert_int_equal(x.diag.nerror, 2);
	char *dump = printed(ast_dump, x.ast);
	assert_string_equal(dump, "(module M ()\n  ((assign b) = 2)\n  ((assign d) = 4))\n");
	free(dump);
	parsed_close(&x);
}

/* `n` times a text. */
static void repeat(Buf *b, const char *text, u32 n)
{
	for (u32 i = 0; i < n; i++)
		buf_put(b, str_of(text));
}

static void expect_only(const Buf *b, ErrorCode code)
{
	Parsed x;
	parsed_open(&x, buf_str(b));
	if (code == E0000)
		assert_int_equal(x.diag.nerror, 0);
	else {
		assert_non_null(x.diag.first);
		assert_int_equal(x.diag.first->code, code);
		assert_int_equal(x.diag.nerror, 1);
	}
	parsed_close(&x);
	assert_null(syntax_law_broken(buf_str(b)));
}

static void hostile_sources_end(void **state)
{
	(void)state;
	static const struct {
		const char *head, *more, *tail;
		u32 n;
		ErrorCode code;
	} hostile[] = {
		{ "module M() { x = ", "(", "", 150, E0111 },
		{ "module M() { x = ", "(", "", 100000, E0105 },
		{ "module M() { x = ", "[", "", 100000, E0105 },
		{ "module M() { x = ", "f(", "", 100000, E0105 },
		{ "", "a {", "", 100000, E0105 },
		{ "module M() { x = ", "- ", "1 }", 900, E0000 },
		{ "module M() { x = ", "- ", "1 }", 5000, E0105 },
		{ "module M() { x = ", "- ", "1 }", 100000, E0105 },
		{ "module M() { x = ", "not ", "a }", 100000, E0105 },
		{ "module M() { x = ", "a ** ", "a }", 100000, E0105 },
		{ "module M() { x = ", "a if b else ", "c }", 100000, E0105 },
		{ "module M() { x = ", "a + ", "a }", 900, E0000 },
		{ "module M() { x = ", "a + ", "a }", 100000, E0105 },
		{ "module M() { x = a", ".b", " }", 100000, E0105 },
		{ "use a", ".b", "", 100000, E0105 },
		{ "module M() { x = F() as a", ".b", " }", 3000, E0000 },
		{ "module M() { if a { }", " else if b { }", " }", 20000, E0000 },
		{ "module M() { x = [", "1, ", "2] }", 100000, E0000 },
		{ "module M() { x = \"", "{i}", "\" }", 20000, E0000 },
		{ "module M() { x = ", "1", " }", 100000, E0104 },
		{ "module M() { x = ", "a", " }", 100000, E0000 },
		{ "#", "#", "\n", 100000, E0000 },
	};
	for (size_t i = 0; i < COUNT(hostile); i++) {
		Arena arena = ARENA("test");
		Buf b = { .arena = &arena };
		buf_put(&b, str_of(hostile[i].head));
		repeat(&b, hostile[i].more, hostile[i].n);
		buf_put(&b, str_of(hostile[i].tail));
		expect_only(&b, hostile[i].code);
		arena_free(&arena);
	}
	Arena arena = ARENA("test");
	Buf b = { .arena = &arena };
	repeat(&b, "# a line of a file that is too long\n", 200000);
	expect_only(&b, E0107);
	arena_free(&arena);
	/* Bytes that end C strings are bytes. */
	Parsed x;
	parsed_open(&x, STR("module M() { x = \0 1 }\0"));
	assert_int_equal(x.diag.first->code, E0100);
	assert_int_equal(x.diag.first->loc.column, 18);
	parsed_close(&x);
}

/* ---- the canonical form ------------------------------------------------------------------ */

static const struct {
	const char *source, *form;
} forms[] = {
	{ "module M(x:[B,T],y){\nreturn x\n}", "module M(x: [B, T], y) {\n  return x\n}\n" },
	{ "module M() { x=-a  **2+ - 1*f( a ,k=[1,2 ][ -1 ] ) }",
	  "module M() { x = -a**2 + -1 * f(a, k = [1, 2][-1]) }\n" },
	{ "module M() { y = x[ : ,none, : : 2,1 : -1, ... ] }",
	  "module M() { y = x[:, none, ::2, 1:-1, ...] }\n" },
	{ "module M() { for i in 0 .. n { x=3;y=4; } }",
	  "module M() { for i in 0..n { x = 3; y = 4 } }\n" },
	{ "module M() { for i in 0..n { x=3;\ny=4; } }",
	  "module M() {\n  for i in 0..n {\n    x = 3\n    y = 4\n  }\n}\n" },
	{ "module M() {\n if a { x = 1 }\n else { x = 2 } }",
	  "module M() {\n  if a { x = 1 } else { x = 2 }\n}\n" },
	{ "train { memory = 8GiB }", "train { memory = 8 GiB }\n" },
	/* blank lines */
	{ "\n\nuse a\n\n\n\nuse b\nmodule M() {\n\n x = 1\n\n\n y = 2\n\n}\n# of N\nmodule N() {\n}",
	  "use a\n\nuse b\n\nmodule M() {\n  x = 1\n\n  y = 2\n}\n\n# of N\nmodule N() {\n}\n" },
	/* comments */
	{ "module M() { # one\n  # two\nx = 1 # three\n  lengthy = 2    # four  \n\n  y = 3 # five\n}\n"
	  "# six",
	  "module M() {  # one\n  # two\n  x = 1        # three\n  lengthy = 2  # four\n\n"
	  "  y = 3  # five\n}\n# six\n" },
	{ "train {\n  a = 1  # goes\n         # on\n  # own\n}",
	  "train {\n  a = 1  # goes\n         # on\n  # own\n}\n" },
	/* continuation */
	{ "module M() {\n x = f(a,\n b,\ng(c,\nd))\n y = f(\na,\nb\n)\n z = a +\nb\n}",
	  "module M() {\n  x = f(a,\n        b,\n        g(c,\n          d))\n  y = f(\n    a,\n    b\n  )\n"
	  "  z = a +\n      b\n}\n" },
	{ "module M(a,\nb) {\nx = 1\n}", "module M(a,\n         b) {\n  x = 1\n}\n" },
	{ "train {\nbatch = {\nB = 1\nT = 2\n}\n}",
	  "train {\n  batch = {\n    B = 1\n    T = 2\n  }\n}\n" },
	/* tables */
	{ "module M() {\n param a: [B] = zeros\n param bcd as e.f: [B, T] = ones\n\n param g: [B] = x\n"
	  " short = 1\n longer = 2\n}",
	  "module M() {\n  param a:          [B]    = zeros\n  param bcd as e.f: [B, T] = ones\n\n"
	  "  param g: [B] = x\n  short = 1\n  longer = 2\n}\n" },
	{ "train {\n loss = f(a,\n b)\n optimizer = x\n optimizer for \"p\" = y\n a = 1, b = 2\n c = 3\n}",
	  "train {\n  loss      = f(a,\n                b)\n  optimizer = x\n  optimizer for \"p\" = y\n"
	  "  a = 1, b = 2\n  c = 3\n}\n" },
	{ "", "" },
};

static void sources_have_their_form(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(forms); i++) {
		Parsed x;
		parsed_open(&x, str_of(forms[i].source));
		if (x.diag.nerror)
			diag_print(&x.diag, stderr, false);
		assert_int_equal(x.diag.nerror, 0);
		char *form = printed(ast_format, x.ast);
		assert_string_equal(form, forms[i].form);
		free(form);
		parsed_close(&x);
		assert_null(syntax_law_broken(str_of(forms[i].source)));
	}
	for (size_t i = 0; i < COUNT(trees); i++) {
		Arena arena = ARENA("test");
		const char *source =
			arena_printf(&arena, "module M() {\n%s\n}\n", trees[i].source);
		assert_null(syntax_law_broken(str_of(source)));
		arena_free(&arena);
	}
}

/* ---- whole files, and what is near them -------------------------------------------------- */

static void for_each_example(void (*check)(const char *path, Str text))
{
	DIR *folder = opendir(SOURCE_DIR "/tests/frontend");
	assert_non_null(folder);
	u32 n = 0;
	for (const struct dirent *e; (e = readdir(folder));) {
		if (!str_ends(str_of(e->d_name), STR(".plinth")))
			continue;
		Arena arena = ARENA("test");
		Str text;
		const char *path =
			arena_printf(&arena, SOURCE_DIR "/tests/frontend/%s", e->d_name);
		assert_null(io_read(&arena, path, &text));
		check(path, text);
		arena_free(&arena);
		n++;
	}
	closedir(folder);
	assert_true(n >= 3);
}

static void check_example(const char *path, Str text)
{
	Parsed x;
	parsed_open(&x, text);
	if (x.diag.nerror) {
		print_message("%s\n", path);
		diag_print(&x.diag, stderr, false);
	}
	assert_int_equal(x.diag.nerror, 0);
	assert_true(x.ast->ndecl > 0);
	parsed_close(&x);
	const char *broken = syntax_law_broken(text);
	if (broken)
		print_message("%s: %s\n", path, broken);
	assert_null(broken);
}

static void examples_parse_and_keep_the_laws(void **state)
{
	(void)state;
	for_each_example(check_example);
}

/* xorshift: the same changes in every run. */
static u64 next_random(u64 *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* A source with a few random changes: most are wrong, many are not. */
static void check_mutants(const char *path, Str text)
{
	static const char *const insert[] = { "(", ")", "[", "]", "{", "}", "\n", "# c\n", ";", ",",
					      " ", "=", "-", "as ", "\"", "x", "1", "else ",
					      "\n\n\n", "if a ", ":", "." };
	u64 seed = 0x9E3779B97F4A7C15u;
	for (u32 round = 0; round < 400; round++) {
		Arena arena = ARENA("test");
		Buf b = { .arena = &arena };
		u32 nchange = 1 + (u32)(next_random(&seed) % 3);
		size_t at[3], piece = text.n / nchange;
		for (u32 i = 0; i < nchange; i++)
			at[i] = i * piece + next_random(&seed) % piece;
		size_t from = 0;
		for (u32 i = 0; i < nchange; i++) {
			buf_put(&b, (Str){ text.s + from, at[i] - from });
			if (next_random(&seed) % 2)
				buf_put(&b, str_of(insert[next_random(&seed) % COUNT(insert)]));
			from = at[i] + next_random(&seed) % 3;
			from = MIN(MAX(from, at[i]), text.n);
			if (i + 1 < nchange && from > at[i + 1])
				from = at[i + 1];
		}
		buf_put(&b, (Str){ text.s + from, text.n - from });
		const char *broken = syntax_law_broken(buf_str(&b));
		if (broken)
			print_message("%s, round %u: %s\n%s\n", path, round, broken, b.text);
		assert_null(broken);
		arena_free(&arena);
	}
}

static void mutants_keep_the_laws(void **state)
{
	(void)state;
	for_each_example(check_mutants);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(statements_have_their_trees),
		cmocka_unit_test(declarations_have_their_trees),
		cmocka_unit_test(places_are_exact),
		cmocka_unit_test(errors_have_code_and_place),
		cmocka_unit_test(every_independent_error_is_told),
		cmocka_unit_test(kept_statements_are_right),
		cmocka_unit_test(hostile_sources_end),
		cmocka_unit_test(sources_have_their_form),
		cmocka_unit_test(examples_parse_and_keep_the_laws),
		cmocka_unit_test(mutants_keep_the_laws),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
