/* frontend/statement.c: statements: each runs once, at compile time. */
#include "frontend/elaborator.h"

#include <string.h>

#define NAME_OF(expr) ((Name){ (expr)->name, (expr)->loc })

static void assign(Elaborator *e, const Stmt *s)
{
	Datum *d = expression(e, s->assign.value);
	u32 n = s->assign.target.n;
	if (d->kind == DATUM_CALLABLE && d->callable->builtin && is_builtin(d->callable->builtin) && n == 1 &&
	    s->assign.value->kind == EXPR_NAME)
		d->loc = s->loc;
	for (u32 i = 0; i < n; i++)
		if (s->assign.target.v[i]->kind != EXPR_NAME) {
			fail(e, E0207, s->assign.target.v[i]->loc, "only a plain name can be assigned to here");
			return;
		}
	if (n == 1) {
		declare_variable(e, NAME_OF(s->assign.target.v[0]), d);
		return;
	}
	/* several names: a list's elements, or a tensor's slices along its first axis */
	if (d->kind == DATUM_TENSOR) {
		Val v = d->tensor;
		const Type *t = val_type(e->g, v);
		i64 extent;
		if (t->rank && dim_is_number(t->dim[0], &extent) && extent == n) {
			Dim one = dim_number(e->ir, 1), size[64];
			for (u32 i = 0; i < n && i < 64; i++)
				size[i] = one;
			e->b.loc = s->assign.value->loc;
			split_attr a = { .axis = 0, .sizes = dims_of(&e->b, size, n) };
			Val part = node(e, s->assign.value->loc, OP_split, &v, 1, 0, &a);
			for (u32 i = 0; i < n && part.i; i++) {
				Val x = BA(&e->b, reshape, ((Val){ part.i + i }), .shape = dims_of(&e->b, t->dim + 1, t->rank - 1u));
				graph_set_axis(e->g, x, val_axis(e->g, v) + 1);
				declare_variable(e, NAME_OF(s->assign.target.v[i]), datum_tensor(e, x, s->loc));
			}
			return;
		}
		fail(e, E0207, s->loc, "%u names on the left, and %s on the right: several names take apart several results, a list, or "
				       "a tensor whose first axis has as many elements", n, datum_show(e, d));
	} else if (d->kind == DATUM_LIST || d->kind == DATUM_RECORD) {
		if (d->list.n == n) {
			for (u32 i = 0; i < n; i++)
				declare_variable(e, NAME_OF(s->assign.target.v[i]), d->list.v[i].value);
			return;
		}
		fail(e, E0207, s->loc, "%u names on the left, and %u values on the right", n, d->list.n);
	} else if (d->kind != DATUM_ERROR) {
		fail(e, E0207, s->loc, "%u names on the left, and on the right is %s", n, datum_show(e, d));
	}
	for (u32 i = 0; i < n; i++)
		declare_variable(e, NAME_OF(s->assign.target.v[i]), datum_error(e));
}

static void run_return(Elaborator *e, const Stmt *s)
{
	Frame *f = e->frame;
	f->returned = true;
	f->returned_at = s->loc;
	f->result.n = 0;
	for (u32 i = 0; i < s->results.n; i++)
		VEC_PUSH(e->arena, &f->result, argument_of(e, &s->results.v[i]));
}

/* The type of a variable that is a tensor, else NULL. */
static const Type *type_of_variable(Elaborator *e, const char *name)
{
	const u64 *found = map_get(&e->frame->variable, MAP_KEY(name));
	const Datum *d = found ? (const Datum *)(uintptr_t)*found : NULL;
	return d && d->kind == DATUM_TENSOR && e->g ? val_type(e->g, d->tensor) : NULL;
}

static bool kept_type(Elaborator *e, const char *name, const Map *before)
{
	const Type *t = type_of_variable(e, name);
	const u64 *was = before && t ? map_get(before, MAP_KEY(name)) : NULL;
	return was && (const Type *)(uintptr_t)*was == t;
}

/* What an unfinished block would have assigned is an error from here on, but for tensors that kept the type that
 * they have in `before` (NULL: none did). */
static void forget(Elaborator *e, const Block *block, const Map *before)
{
	for (u32 i = 0; i < block->n; i++) {
		const Stmt *s = block->v[i];
		switch (s->kind) {
		case STMT_ASSIGN:
			for (u32 k = 0; k < s->assign.target.n; k++)
				if (s->assign.target.v[k]->kind == EXPR_NAME && !kept_type(e, s->assign.target.v[k]->name, before))
					set_variable(e, s->assign.target.v[k]->name, datum_error(e));
			break;
		case STMT_FOR: forget(e, &s->loop.body, before); break;
		case STMT_SCOPE: forget(e, &s->scope.body, before); break;
		case STMT_IF:
			for (u32 k = 0; k < s->branch.n; k++)
				forget(e, &s->branch.v[k].body, before);
			break;
		default: break;
		}
	}
}

static void run_for(Elaborator *e, const Stmt *s)
{
	enum { MOST_NODES = 500000 }; /* hundreds of times what the largest models have: a number that was not meant */
	Datum *over = expression(e, s->loop.over);
	if (over->kind == DATUM_ERROR) {
		set_variable(e, s->loop.name.text, over);
		forget(e, &s->loop.body, NULL);
		return;
	}
	if (over->kind != DATUM_LIST) {
		fail(e, E0401, s->loop.over->loc, "'for' runs over a range such as 0..layers or a list, and this is %s",
		     datum_show(e, over));
		return;
	}
	u32 errors = e->diag->nerror;
	Map before = { .arena = e->arena };
	for (u32 i = 0; i < e->frame->variable.n; i++) {
		const char *name = (const char *)(uintptr_t)e->frame->variable.entry[i].key;
		map_put(&before, MAP_KEY(name), MAP_KEY(type_of_variable(e, name)));
	}
	for (u32 i = 0; i < over->list.n && !e->frame->returned; i++) {
		declare_variable(e, s->loop.name, over->list.v[i].value);
		statements(e, &s->loop.body);
		if (e->g && e->g->node.n > MOST_NODES)
			fail(e, E0403, s->loop.over->loc, "this loop of %u turns is unrolled, and after %u of them there are more than %d operations",
			     over->list.n, i + 1, MOST_NODES);
		if (e->diag->nerror > errors) {
			forget(e, &s->loop.body, &before); /* the other turns would say the same */
			break;
		}
	}
}

const Block *chosen_branch(Elaborator *e, const Stmt *s, u32 *unknown)
{
	*unknown = s->branch.n;
	for (u32 i = 0; i < s->branch.n; i++) {
		bool yes = true;
		const IfArm *arm = &s->branch.v[i];
		if (arm->condition) {
			Datum *c = expression(e, arm->condition);
			if (!want_bool(e, c, arm->condition->loc, "the condition of an 'if'", &yes)) {
				*unknown = i;
				return NULL;
			}
		}
		if (yes)
			return &arm->body;
	}
	return NULL;
}

static void run_if(Elaborator *e, const Stmt *s)
{
	u32 unknown;
	const Block *body = chosen_branch(e, s, &unknown);
	if (body)
		statements(e, body);
	else
		for (u32 k = unknown; k < s->branch.n; k++)
			forget(e, &s->branch.v[k].body, NULL);
}

/* "x = a // two words" has a clause, too. */
static void clause_misplaced(Elaborator *e, const Stmt *s)
{
	const Expr *x = s->assign.value;
	fail(e, E0208, s->loc, "'for' and 'from' after a key belong to recipes and configs, not here");
	if (x->kind == EXPR_BINARY && x->binary.op == BINARY_FLOOR_DIV)
		diag_note(e->diag, x->binary.op_loc, COMMENTS_BEGIN_OTHERWISE);
	for (u32 i = 0; i < s->assign.target.n; i++)
		if (s->assign.target.v[i]->kind == EXPR_NAME)
			declare_variable(e, NAME_OF(s->assign.target.v[i]), datum_error(e));
}

static void statement(Elaborator *e, const Stmt *s)
{
	switch (s->kind) {
	case STMT_ASSIGN:
		if (recipe_has_setting(e, s))
			fail(e, E0506, s->loc, "a setting stands in the block itself or in an `if`, not in a `for`");
		else if (s->assign.pattern.n || s->assign.clause.n)
			clause_misplaced(e, s);
		else
			assign(e, s);
		break;
	case STMT_PARAM: declare_param(e, s); break;
	case STMT_DIM:
		for (u32 i = 0; i < s->binding.n; i++) {
			Datum *d = expression(e, s->binding.v[i].value);
			Dim size = datum_to_dim(e, d, s->binding.v[i].value->loc);
			const char *name = s->binding.v[i].name.text;
			if (size) {
				Axis a = axis_new(e->ir, qualified(e, name), size, s->binding.v[i].name.loc);
				declare_variable(e, s->binding.v[i].name, datum_dim(e, size, a, s->binding.v[i].name.loc));
			} else {
				declare_variable(e, s->binding.v[i].name, datum_error(e));
			}
		}
		break;
	case STMT_FOR: run_for(e, s); break;
	case STMT_IF: run_if(e, s); break;
	case STMT_RETURN: run_return(e, s); break;
	case STMT_EXPR: {
		Datum *d = expression(e, s->expr);
		if (s->expr->kind == EXPR_CALL && s->expr->call.callee->kind == EXPR_NAME)
			diag_warning(e->diag, W0006, s->loc, "nothing takes the value of this");
		else if (d->kind != DATUM_ERROR)
			fail(e, E0208, s->loc, "nothing takes this value: several values are written in brackets, x = [a, b]");
		break;
	}
	case STMT_SCOPE: {
		const char *name = text_value(e, s->scope.path), *was = e->frame->path;
		if (name) {
			e->frame->path = join_path(e, was, name);
			e->b.scope = intern_z(&e->ir->names, e->frame->path);
		}
		statements(e, &s->scope.body);
		e->frame->path = was;
		e->b.scope = intern_z(&e->ir->names, was);
		break;
	}
	case STMT_STATE:
	case STMT_UPDATE:
		if (!e->frame->optimizer)
			fail(e, E0208, s->loc, "'state' and '<-' belong to an optimizer");
		else if (s->kind == STMT_STATE)
			optimizer_state(e, s);
		else
			optimizer_update(e, s);
		break;
	case STMT_INPUT:
		if (e->frame->decl && e->frame->decl->kind == DECL_RECIPE) /* in an `if` of the recipe */
			recipe_input(e, s);
		else
			fail(e, E0208, s->loc, "'input' belongs to a train recipe; a module has arguments");
		break;
	case STMT_ARROW: fail(e, E0208, s->loc, "'->' belongs to a shard or weights block"); break;
	case STMT_DIRECTIVE:
		fail(e, E0208, s->loc, "'%s' has no meaning here", s->directive.word.text);
		break;
	}
}

void statements(Elaborator *e, const Block *block)
{
	for (u32 i = 0; i < block->n; i++) {
		if (e->frame->returned) {
			if (block->v[i - 1]->kind == STMT_RETURN)
				diag_warning(e->diag, W0001, block->v[i]->loc, "nothing after 'return' is used");
			return;
		}
		statement(e, block->v[i]);
	}
}
