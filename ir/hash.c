/* ir/hash.c: a program's and a graph's identity: structure, types and attributes, by what they say
 * and never by where they lie, so that a hash names a cache entry in every run. Values count by
 * their number; places, scopes, axis classes and the names of programs do not count. */
#include "ir/op.h"

#include <string.h>

/* Eight bytes at a time: programs have hundreds of thousands of words. The multiplier and shift are those of the golden
 * ratio's finalizer; a word's every bit reaches the upper half, and the shift brings it down. */
static u64 mix(u64 h, u64 x)
{
	h = (h ^ x) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

static u64 mix_text(u64 h, const char *text)
{
	size_t n = text ? strlen(text) : 0;
	h = mix(h, text ? n + 1 : 0);
	for (size_t i = 0; i < n; i += sizeof(u64)) {
		u64 word = 0;
		memcpy(&word, text + i, MIN(sizeof word, n - i));
		h = mix(h, word);
	}
	return h;
}

static u64 mix_dim(u64 h, Dim d)
{
	h = mix(h, d->n);
	for (u32 i = 0; i < d->n; i++) {
		const Monomial *t = &d->term[i];
		h = mix(mix(mix(h, (u64)t->num), (u64)t->den), t->n);
		for (u32 k = 0; k < t->n; k++)
			h = mix_text(h, t->symbol[k]);
	}
	return h;
}

static u64 mix_type(u64 h, const Type *t)
{
	h = mix(mix_text(h, dtype_info[t->dtype].name), t->rank);
	for (u32 d = 0; d < t->rank; d++)
		h = mix_dim(h, t->dim[d]);
	return h;
}

static u64 mix_f64(u64 h, f64 x)
{
	u64 bits;
	memcpy(&bits, &x, sizeof bits);
	return mix(h, bits);
}

static u64 mix_attr(u64 h, const Node *n, bool names)
{
	u32 count;
	const AttrField *f = op_info[n->op].fields(&count);
	for (u32 i = 0; i < count; i++) {
		const void *at = (const u8 *)n->attr + f[i].offset;
		switch (f[i].kind) {
		case ATTR_i64:
			h = mix(h, (u64) * (const i64 *)at);
			break;
		case ATTR_f64:
			h = mix_f64(h, *(const f64 *)at);
			break;
		case ATTR_bool:
			h = mix(h, *(const bool *)at);
			break;
		case ATTR_dtype:
			h = mix_text(h, dtype_info[*(const DType *)at].name);
			break;
		case ATTR_str:
			h = names ? mix_text(h, *(const str *)at) : h;
			break;
		case ATTR_ints: {
			const ints *l = at;
			h = mix(h, l->n);
			for (u32 k = 0; k < l->n; k++)
				h = mix(h, (u64)l->v[k]);
			break;
		}
		case ATTR_dims: {
			const dims *l = at;
			h = mix(h, l->n);
			for (u32 k = 0; k < l->n; k++)
				h = mix_dim(h, l->v[k]);
			break;
		}
		}
	}
	return h;
}

static u64 mix_types(u64 h, const Graph *g, const Node *n)
{
	for (u32 k = 0; k < n->nout; k++)
		h = mix_type(h, g->value.v[n->out.i + k].type);
	return h;
}

u64 node_hash(const Graph *g, const Node *n)
{
	bool named = !n->nin || op_info[n->op].traits & T_RANDOM; /* its text is the name of a buffer or a draw */
	u64 h = mix(mix(mix_text(HASH_SEED, op_info[n->op].name), n->nin), n->nout);
	return mix_types(mix_attr(h, n, !named), g, n);
}

u64 graph_hash(const Graph *g)
{
	u64 h = mix(HASH_SEED, g->node.n);
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		h = mix(mix(mix_text(h, op_info[n->op].name), n->nin), n->nout);
		for (u32 k = 0; k < n->nin; k++)
			h = mix(h, n->in[k].i);
		h = mix_types(mix_attr(h, n, true), g, n);
	}
	h = mix(h, g->result.n);
	for (u32 i = 0; i < g->result.n; i++) {
		const Result *r = &g->result.v[i];
		h = mix(mix(mix_text(h, r->name), r->buffer), r->value.i);
	}
	return h;
}

u64 program_hash(const Program *p)
{
	u64 h = mix(HASH_SEED, p->buffer.n);
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i];
		h = mix_type(mix_text(h, b->name), b->type);
		h = mix_text(mix(mix(mix_text(h, buffer_kind_name[b->kind]), b->of), b->frozen), b->split);
		if (b->summed)
			h = mix(h, 1);
		if (b->slots || b->stages)
			h = mix(mix(h, b->slots), b->stages);
	}
	h = mix(h, p->entry.n);
	for (u32 i = 0; i < p->entry.n; i++)
		h = mix(mix_text(h, p->entry.v[i]->name), graph_hash(p->entry.v[i]));
	return h;
}
