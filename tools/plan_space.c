/* tools/plan_space.c: see plan_space.h. */
#include "tools/plan_space.h"
#include "tools/mesh.h"
#include "tools/plan_bounds.h"

#include <string.h>

/* "auto,tensor=8,pipe=1" */
static Status read_axes(const ClusterOptions *o, Space *s)
{
	Str name;
	i64 size;
	for (const char *at = o->mesh + strlen("auto") + (o->mesh[strlen("auto")] == ','); *at;) {
		TRY(mesh_axis(o->mesh, &at, &name, &size));
		u32 *to = str_equal(name, STR("data"))	 ? &s->data :
			  str_equal(name, STR("tensor")) ? &s->tensor :
			  str_equal(name, STR("pipe"))	 ? &s->pipe :
			  str_equal(name, s->texts)	 ? &s->context :
			  str_equal(name, s->experts)	 ? &s->expert :
							   NULL;
		if (!to)
			return FAIL(STATUS_INPUT, "--mesh auto divides over data, tensor and pipe, over the axis that texts go to (--shard T=context) and that "
						  "of experts (B -> (data, expert), Experts.E -> expert), not over %.*s", STR_ARG(name));
		*to = (u32)size;
	}
	return OK;
}

/* Whether a line of the shard block, or of --shard, divides something but batches over the mesh axis. */
static bool divides_more(const Lm *lm, const TextList *shard, Str mesh)
{
	for (u32 k = 0; k < lm->model->shard.n; k++) {
		const char *axis = lm->model->shard.v[k].axis;
		Str over;
		for (u32 i = 0; strcmp(axis, "B") && (over = mesh_over(lm, shard, axis, i)).n; i++)
			if (str_equal(over, mesh))
				return true;
	}
	return false;
}

/* The mesh axis that experts go to: one whose devices have other sequences, and divide something else too. */
static Str experts_axis(const Lm *lm, const TextList *shard)
{
	Str over;
	for (u32 i = 0; (over = mesh_over(lm, shard, "B", i)).n; i++)
		if (!str_equal(over, STR("data")) && divides_more(lm, shard, over))
			return over;
	return (Str){ 0 };
}

/* "none,whole" */
static Status read_recompute(Arena *arena, const char *recompute, Space *s)
{
	Recompute one;
	for (const char *at = recompute; at && *at;) {
		size_t n = strcspn(at, ",");
		TRY(cluster_recompute(arena_strn(arena, (Str){ at, n }), &one));
		s->recompute |= 1u << one;
		at += n + (at[n] == ',');
	}
	/* what computes whole layers again takes longer than what computes what is needed, and holds as much */
	s->recompute = s->recompute ? s->recompute : 1u << RECOMPUTE_NONE | 1u << RECOMPUTE_NEEDED;
	return OK;
}

/* "gradients,sequence,attention_heads": what may be divided at most, over data (else nothing), over tensor (else what features are of alone) and by
 * attention over the axis of texts (else positions alone). */
static Status read_divided(const Lm *lm, const ClusterOptions *o, Space *s)
{
	const char *at = o->divided;
	s->divide = at ? 1 : DIVIDES;
	s->sequence = at ? SEQUENCE_WHOLE : SEQUENCE_WHOLE | SEQUENCE_DIVIDED;
	s->attention = at ? ATTENTION_RING : ATTENTION_RING | ATTENTION_HEADS;
	for (size_t n; at && *at; at += n + (at[n] == ',')) {
		n = strcspn(at, ",");
		u32 i = 0;
		while (i < DIVIDES && !str_equal((Str){ at, n }, str_of(divided_name[i])))
			i++;
		if (i < DIVIDES)
			s->divide = MAX(s->divide, i + 1);
		else if (str_equal((Str){ at, n }, STR("sequence")))
			s->sequence |= SEQUENCE_DIVIDED;
		else if (str_equal((Str){ at, n }, STR("attention_heads")))
			s->attention |= ATTENTION_HEADS;
		else
			return FAIL(STATUS_INPUT, "--divided is nothing, optimizer_state, gradients (these too) or parameters (too), and sequence or attention_heads "
						  "(optimizer_state,sequence), not %s", o->divided);
	}
	const Setting *always = model_setting(lm->model, "shard.sequence");
	if ((always && !strcmp(always->text, "true")) || mesh_over(lm, o->shard, "sequence", 0).n)
		s->sequence = SEQUENCE_WHOLE; /* by this search: a rule that is given divides it */
	if (mesh_over(lm, o->shard, "attention_heads", 0).n)
		s->attention = ATTENTION_RING; /* the same */
	return OK;
}

/* Axes that divide texts, or batches beside data, are not those that this search has something else on. */
static Status check_own(Str axis, const char *what)
{
	static const char *const taken[] = { "data", "tensor", "pipe" };
	for (u32 i = 0; i < COUNT(taken); i++)
		if (str_equal(axis, str_of(taken[i])))
			return FAIL(STATUS_INPUT, "--mesh auto divides %s over an axis of their own, not over %s", what, taken[i]);
	return OK;
}

Status space_read(Arena *arena, const Lm *lm, const ClusterOptions *o, Space *out)
{
	*out = (Space){ .texts = mesh_over(lm, o->shard, "T", 0), .experts = experts_axis(lm, o->shard), .chunks = o->schedule ? 1 : 0 };
	TRY(check_own(out->texts, "texts (--shard T=context)"));
	TRY(check_own(out->experts, "experts (B -> (data, expert), Experts.E -> expert)"));
	TRY(read_axes(o, out));
	TRY(read_recompute(arena, o->recompute, out));
	PipeKind kind = PIPE_1F1B;
	if (o->schedule && (!pipe_kind_read(o->schedule, &kind, &out->chunks) || kind == PIPE_GPIPE))
		return FAIL(STATUS_INPUT, "--schedule is 1f1b, or interleaved:2 with 2 chunks for each stage, with --mesh auto, not %s", o->schedule);
	return read_divided(lm, o, out);
}
