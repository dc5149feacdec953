/* frontend/blocks.c: the blocks that are read and build nothing: weights, data, shard, published, adapt. */
#include "frontend/elaborator.h"
#include "ir/shard.h"

#include <string.h>

static const char *dotted(Elaborator *e, const Expr *x)
{
	switch (x->kind) {
	case EXPR_NAME: return x->name;
	case EXPR_STRING: return x->string->text;
	case EXPR_FIELD: {
		const char *base = dotted(e, x->field.base);
		return base ? intern_printf(e->names, "%s.%s", base, x->field.field.text) : NULL;
	}
	case EXPR_CALL: return dotted(e, x->call.callee);
	case EXPR_LIST:
	case EXPR_TUPLE: {
		Buf b = { .arena = e->arena };
		for (u32 i = 0; i < x->list.n; i++) {
			const char *part = dotted(e, x->list.v[i]);
			if (!part)
				return NULL;
			buf_printf(&b, "%s%s", i ? " " : "", part);
		}
		return b.text;
	}
	default: return NULL;
	}
}

/* `rename "a", "b" -> "c"`, and with `to` NULL `ignore "a", "b"`. */
static void pattern_lines(Elaborator *e, const Stmt *s, const char *to, WeightsLines *out)
{
	for (u32 k = 0; k < s->directive.operand.n; k++) {
		const char *pattern = want_text(e, expression(e, s->directive.operand.v[k]), s->loc, "a pattern");
		if (pattern)
			VEC_PUSH(e->arena, out, (WeightsLine){ pattern, to });
	}
}

static void weights_lines(Elaborator *e, const Block *block)
{
	for (u32 i = 0; i < block->n; i++) {
		const Stmt *s = block->v[i];
		u32 unknown;
		const Block *branch = s->kind == STMT_IF ? chosen_branch(e, s, &unknown) : NULL;
		if (branch)
			weights_lines(e, branch);
		if (s->kind == STMT_IF)
			continue;
		const char *word = s->kind == STMT_DIRECTIVE ? s->directive.word.text : "";
		bool ignore = !strcmp(word, "ignore"), rename = !strcmp(word, "rename"), begin = !strcmp(word, "begin");
		if (!ignore && !rename && !begin) {
			fail(e, E0507, s->loc, "a weights block has lines such as: ignore \"h.*.attn.bias\", rename \"a\" -> \"b\", begin \"head.**\"");
			continue;
		}
		const char *to = rename && s->directive.arrow ? dotted(e, s->directive.arrow) : NULL;
		if (rename && !to) {
			fail(e, E0507, s->loc, "rename says from what to what: rename \"old.**\" -> \"new.**\"");
			continue;
		}
		pattern_lines(e, s, to, begin ? &e->model->begun : &e->model->weight);
	}
}

void recipe_weights(Elaborator *e, const Decl *d)
{
	weights_lines(e, &d->body);
}

/* The kinds of sources that a data block may name, and the settings that each takes; what they do with them is
 * runtime/data/dataset.h's business. */
static const struct {
	const char *name, *setting[2];
} sources[] = {
	{ "tokens", { NULL } }, { "masked", { "rate" } }, { "images", { NULL } }, { "pairs", { "tokenizer", "begin" } },
	{ "labelled", { "tokenizer" } }, { "related", { "tokenizer" } }, { "captions", { "tokenizer" } },
	{ "tensors", { NULL } },
};

static bool source_takes(u32 kind, const char *setting)
{
	for (u32 i = 0; i < COUNT(sources[kind].setting); i++)
		if (sources[kind].setting[i] && !strcmp(sources[kind].setting[i], setting))
			return true;
	return false;
}

/* `train, validation = tokens("a", "b", rate = 0.1)`: settings data.train, data.train.kind, data.train.rate, ... */
static void read_source(Elaborator *e, const Stmt *s, const Expr *call, u32 kind)
{
	const Argument *place[16];
	u32 n = 0;
	for (u32 k = 0; k < call->call.argument.n; k++) {
		const Argument *a = &call->call.argument.v[k];
		if (!a->name.text && n < COUNT(place))
			place[n++] = a;
		if (a->name.text && !source_takes(kind, a->name.text))
			fail(e, E0508, a->name.loc, "%s takes no '%s'", sources[kind].name, a->name.text);
	}
	if (n != s->assign.target.n) {
		fail(e, E0508, s->loc, "%u names on the left, and %u sources on the right", s->assign.target.n, n);
		return;
	}
	for (u32 t = 0; t < n; t++) {
		const char *name = dotted(e, s->assign.target.v[t]);
		if (!name || (strcmp(name, "train") && strcmp(name, "validation"))) {
			fail(e, E0508, s->assign.target.v[t]->loc, "a data block has train and validation%s",
			     did_you_mean(e, name ? nearest_name(name, (const char *const[]){ "train", "validation" }, 2) : NULL));
			continue;
		}
		const char *key = intern_printf(e->names, "data.%s", name);
		Datum *given = override_of(e, key);
		Datum *v = given ? given : expression(e, place[t]->value);
		if (!want_text(e, v, place[t]->value->loc, arena_printf(e->arena, "a source of %s", sources[kind].name)))
			continue;
		add_setting(e, key, v, s->loc);
		add_setting(e, arena_printf(e->arena, "%s.kind", key), datum_text(e, sources[kind].name, s->loc), s->loc);
		for (u32 k = 0; k < call->call.argument.n; k++) {
			const Argument *a = &call->call.argument.v[k];
			if (!a->name.text || !source_takes(kind, a->name.text))
				continue;
			const char *setting = intern_printf(e->names, "%s.%s", key, a->name.text);
			Datum *now = override_of(e, setting);
			add_setting(e, setting, now ? now : expression(e, a->value), s->loc);
		}
	}
}

static void data_lines(Elaborator *e, const Block *block)
{
	for (u32 i = 0; i < block->n; i++) {
		const Stmt *s = block->v[i];
		u32 unknown;
		const Block *branch = s->kind == STMT_IF ? chosen_branch(e, s, &unknown) : NULL;
		if (branch)
			data_lines(e, branch);
		if (s->kind == STMT_IF)
			continue;
		const Expr *x = s->kind == STMT_ASSIGN ? s->assign.value : NULL;
		u32 kind = COUNT(sources);
		if (x && x->kind == EXPR_CALL && x->call.callee->kind == EXPR_NAME)
			for (kind = 0; kind < COUNT(sources) && strcmp(sources[kind].name, x->call.callee->name);)
				kind++;
		if (kind < COUNT(sources))
			read_source(e, s, x, kind);
		else
			fail(e, E0508, s->loc, "a data block names its sources: train, validation = tokens(\"book.train\", \"book.val\"); "
					       "or masked, images, pairs, labelled, related, captions, tensors");
	}
}

void recipe_data(Elaborator *e, const Decl *d)
{
	data_lines(e, &d->body);
}

static const char *short_name(const char *name)
{
	const char *dot = strrchr(name, '.');
	return dot ? dot + 1 : name;
}

/* How many axes a rule's name can mean; `candidates` lists them. Classes that share a qualified name are one axis of one
 * module, in all its instances; a name without a module is the model's own axis, if it has one of that name. */
static u32 axes_named(Elaborator *e, const char *name, Buf *candidates)
{
	if (rule_of(str_of(name)) != RULE_OF_AXIS)
		return 1;
	const char *seen[64];
	u32 nseen = 0, found = 0;
	for (u32 i = 1; i < e->ir->axis.n; i++) {
		const AxisClass *c = &e->ir->axis.v[i];
		const char *first = NULL;
		bool known = false;
		for (u32 k = 0; k < c->names.n && !c->alias; k++) {
			if (!strcmp(c->names.v[k], name))
				return 1;
			if (strcmp(short_name(c->names.v[k]), name))
				continue;
			first = first ? first : c->names.v[k];
			for (u32 j = 0; j < nseen; j++)
				known |= seen[j] == c->names.v[k];
			if (nseen < COUNT(seen))
				seen[nseen++] = c->names.v[k];
		}
		if (first && !known) {
			buf_printf(candidates, "%s%s", found ? ", " : "", first);
			found++;
		}
	}
	return found;
}

/* What stands in the brackets of `pipe(schedule = 1f1b, micro = 32)`. */
static void rule_settings(Elaborator *e, const char *axis, const Expr *to)
{
	for (u32 i = 0; to->kind == EXPR_CALL && i < to->call.argument.n; i++) {
		const Argument *a = &to->call.argument.v[i];
		if (!a->name.text) {
			fail(e, E0509, a->value->loc, "what a rule is given has names: layers -> pipe(interleave = 2)");
			continue;
		}
		/* words such as 1f1b mean themselves */
		bool word = a->value->kind == EXPR_NAME && !lookup(e, a->value->name);
		Datum *v = word ? datum_text(e, a->value->name, a->value->loc) : expression(e, a->value);
		if (v->kind != DATUM_ERROR)
			add_setting(e, arena_printf(e->arena, "shard.%s.%s", axis, a->name.text), v, a->value->loc);
	}
}

/* Where a rule sends an axis is an axis of the mesh, or several; what is called, pipe(..), is a schedule. */
static void check_mesh(Elaborator *e, const Datum *mesh, const Expr *to)
{
	for (u32 i = 0; (to->kind == EXPR_TUPLE || to->kind == EXPR_LIST) && i < to->list.n; i++)
		check_mesh(e, mesh, to->list.v[i]);
	if (to->kind != EXPR_NAME || !mesh)
		return;
	const char **all = NEWN(e->arena, const char *, mesh->list.n + 1);
	for (u32 i = 0; i < mesh->list.n; i++) {
		all[i] = mesh->list.v[i].name;
		if (all[i] == to->name)
			return;
	}
	const char *near = nearest_name(to->name, all, mesh->list.n);
	fail(e, E0509, to->loc, "the mesh has no axis '%s'%s", to->name,
	     near ? did_you_mean(e, near) : names_listed(e, "it has", all, mesh->list.n));
}

/* Of `mesh = { data = 1 }`: the value, which later rules are held to. */
static const Datum *shard_setting(Elaborator *e, const Stmt *s, const Datum *mesh)
{
	Datum *v = expression(e, s->assign.value);
	const char *name = dotted(e, s->assign.target.v[0]);
	for (u32 k = 0; name && v->kind == DATUM_RECORD && k < v->list.n; k++)
		add_setting(e, arena_printf(e->arena, "shard.%s.%s", name, v->list.v[k].name), v->list.v[k].value, s->loc);
	if (name && v->kind != DATUM_RECORD && v->kind != DATUM_ERROR)
		add_setting(e, arena_printf(e->arena, "shard.%s", name), v, s->loc);
	return name && !strcmp(name, "mesh") && v->kind == DATUM_RECORD ? v : mesh;
}

static void axis_rule(Elaborator *e, const Stmt *s, const Datum *mesh)
{
	const char *to = dotted(e, s->arrow.to);
	check_mesh(e, mesh, s->arrow.to);
	for (u32 k = 0; k < s->arrow.from.n; k++) {
		const char *name = dotted(e, s->arrow.from.v[k]);
		Buf candidates = { .arena = e->arena };
		if (!name || !to) {
			fail(e, E0509, s->loc, "a rule is an axis and where it goes: Attention.H -> tensor");
			continue;
		}
		u32 found = e->incomplete ? 1 : axes_named(e, name, &candidates);
		if (found > 1) {
			fail(e, E0509, s->arrow.from.v[k]->loc, "several axes are called '%s'; which is meant: %s?", name, candidates.text);
			continue;
		}
		if (!found) {
			const char **all = NEWN(e->arena, const char *, e->ir->axis.n);
			u32 n = 0;
			for (u32 j = 1; j < e->ir->axis.n; j++)
				if (e->ir->axis.v[j].name)
					all[n++] = e->ir->axis.v[j].name;
			const char *near = nearest_name(name, all, n);
			fail(e, E0509, s->arrow.from.v[k]->loc, "the model has no axis '%s'%s", name, did_you_mean(e, near));
			continue;
		}
		rule_settings(e, name, s->arrow.to);
		VEC_PUSH(e->arena, &e->model->shard, (ShardLine){ name, to, s->arrow.from.v[k]->loc });
	}
}

static void shard_lines(Elaborator *e, const Block *block, const Datum **mesh)
{
	for (u32 i = 0; i < block->n; i++) {
		const Stmt *s = block->v[i];
		u32 unknown;
		const Block *branch = s->kind == STMT_IF ? chosen_branch(e, s, &unknown) : NULL;
		if (branch)
			shard_lines(e, branch, mesh);
		else if (s->kind == STMT_ASSIGN && s->assign.target.n == 1)
			*mesh = shard_setting(e, s, *mesh);
		else if (s->kind == STMT_ARROW)
			axis_rule(e, s, *mesh);
		else if (s->kind != STMT_IF)
			fail(e, E0509, s->loc, "a shard block has lines such as: mesh = { data = 4 }, B -> data");
	}
}

void recipe_shard(Elaborator *e, const Decl *d)
{
	const Datum *mesh = NULL;
	shard_lines(e, &d->body, &mesh);
}

/* A group gives an entry for each of its own: text_config.vocab_size. */
static void published_value(Elaborator *e, const char *key, Datum *v, Loc loc)
{
	for (u32 i = 0; v->kind == DATUM_RECORD && i < v->list.n; i++)
		published_value(e, intern_printf(e->names, "%s.%s", key, v->list.v[i].name), v->list.v[i].value, loc);
	if (v->kind == DATUM_RECORD || v->kind == DATUM_ERROR)
		return;
	if (v->kind != DATUM_NUMBER && v->kind != DATUM_BOOL && v->kind != DATUM_TEXT && v->kind != DATUM_LIST && v->kind != DATUM_NONE) {
		fail(e, E0514, loc, "a config.json has numbers, texts, truth values, lists, groups and none, and this is %s", datum_show(e, v));
		return;
	}
	ConfigValue value = { .key = key, .text = intern_z(e->names, datum_source(e, v)), .loc = loc };
	VEC_PUSH(e->arena, &e->model->published, value);
}

/* `file "adapter.safetensors"`, `config "adapter.json"`, `rename "a" -> "b"`: how the folder has it; false: none of these. */
static bool published_name(Elaborator *e, const Stmt *s)
{
	const char *word = s->kind == STMT_DIRECTIVE ? s->directive.word.text : "";
	const ExprList *operand = &s->directive.operand;
	if (!strcmp(word, "rename")) {
		const char *to = s->directive.arrow ? dotted(e, s->directive.arrow) : NULL;
		if (to)
			pattern_lines(e, s, to, &e->model->published_name);
		return to;
	}
	bool file = !strcmp(word, "file");
	if ((!file && strcmp(word, "config")) || operand->n != 1 || s->directive.clause.n || s->directive.arrow || s->directive.has_body)
		return false;
	const char *name = want_text(e, expression(e, operand->v[0]), s->loc, "a file's name");
	if (name && (!*name || strchr(name, '/')))
		fail(e, E0514, operand->v[0]->loc, "this names a file of the folder that is written, and \"%s\" cannot", name);
	else
		*(file ? &e->model->published_file : &e->model->published_config) = name;
	return true;
}

static void published_lines(Elaborator *e, const Block *block)
{
	for (u32 i = 0; i < block->n; i++) {
		const Stmt *s = block->v[i];
		u32 unknown;
		const Block *branch = s->kind == STMT_IF ? chosen_branch(e, s, &unknown) : NULL;
		if (branch)
			published_lines(e, branch);
		if (s->kind == STMT_IF || published_name(e, s))
			continue;
		if (s->kind != STMT_ASSIGN || s->assign.target.n != 1 || s->assign.target.v[0]->kind != EXPR_NAME || s->assign.pattern.n) {
			fail(e, E0514, s->loc, "a published block has entries of a config.json, model_type = \"gpt2\", and the lines file, config and "
					       "rename: file \"adapter.safetensors\"");
			continue;
		}
		published_value(e, s->assign.target.v[0]->name, expression(e, s->assign.value), s->assign.value->loc);
	}
}

/* What a published config.json says besides the values that say `from`: model_type = "gpt2", ... */
void recipe_published(Elaborator *e, const Decl *d)
{
	frame_push(e, d, "", (Loc){ 0 });
	published_lines(e, &d->body);
	frame_pop(e);
}

/* ---- adapt ---- */

void recipe_adapt(Elaborator *e, const Decl *d)
{
	frame_push(e, d, "", (Loc){ 0 });
	if (d->label && d->label->kind == EXPR_NAME && strcmp(d->label->name, e->model->name)) {
		const char *near = nearest_name(d->label->name, &e->model->name, 1);
		fail(e, E0510, d->label->loc, "there is no model '%s' to adapt%s", d->label->name, did_you_mean(e, near));
	}
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		const char *word = s->kind == STMT_DIRECTIVE ? s->directive.word.text : "";
		if (s->kind == STMT_ASSIGN && s->assign.target.v[0]->kind == EXPR_NAME &&
		    !strcmp(s->assign.target.v[0]->name, "save")) {
			/* for whoever writes checkpoints: what training changed alone, or all */
			const char *what = s->assign.value->kind == EXPR_NAME ? s->assign.value->name : "";
			if (strcmp(what, "trainable") && strcmp(what, "all"))
				fail(e, E0510, s->assign.value->loc, "save is trainable or all");
			else
				add_setting(e, "adapt.save", datum_text(e, what, s->loc), s->loc);
			continue;
		}
		if (!strcmp(word, "freeze")) {
			for (u32 k = 0; k < s->directive.operand.n; k++) {
				const Expr *x = s->directive.operand.v[k];
				const char *p = want_text(e, expression(e, x), x->loc, "a pattern of parameters");
				if (p)
					VEC_PUSH(e->arena, &e->freeze, (Freeze){ p, x->loc, false });
			}
			continue;
		}
		if (strcmp(word, "wrap") || s->directive.clause.n != 1 || strcmp(s->directive.clause.v[0].word.text, "with")) {
			fail(e, E0510, s->loc, "an adapt block has lines such as: freeze \"**\", wrap \"**.q_proj\" with Lora(rank = 8)");
			continue;
		}
		/* with Lora(rank = 8): a module that waits for its base and its input */
		const Expr *x = s->directive.clause.v[0].value;
		const Expr *callee = x->kind == EXPR_CALL ? x->call.callee : x;
		Datum *with = expression(e, callee);
		if (with->kind == DATUM_ERROR)
			continue;
		if (with->kind != DATUM_CALLABLE || !with->callable->decl || with->callable->decl->kind != DECL_MODULE) {
			fail(e, E0510, x->loc, "a module is expected after 'with', and this is %s", datum_show(e, with));
			continue;
		}
		for (u32 k = 0; x->kind == EXPR_CALL && k < x->call.argument.n; k++)
			VEC_PUSH(e->arena, &with->callable->given, argument_of(e, &x->call.argument.v[k]));
		for (u32 k = 0; k < s->directive.operand.n; k++) {
			const Expr *operand = s->directive.operand.v[k];
			const char *p = want_text(e, expression(e, operand), operand->loc, "a pattern of instances");
			if (p)
				VEC_PUSH(e->arena, &e->wrap, (Wrap){ p, with, operand->loc, false });
		}
	}
	frame_pop(e);
}

void unused_rules(Elaborator *e)
{
	for (u32 i = 0; i < e->wrap.n; i++)
		if (!e->wrap.v[i].used)
			diag_warning(e->diag, W0004, e->wrap.v[i].loc, "no instance of a module matches \"%s\"", e->wrap.v[i].pattern);
	for (u32 i = 0; i < e->freeze.n; i++)
		if (!e->freeze.v[i].used)
			diag_warning(e->diag, W0004, e->freeze.v[i].loc, "no parameter matches \"%s\"", e->freeze.v[i].pattern);
}
