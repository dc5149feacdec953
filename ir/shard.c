/* ir/shard.c: see shard.h. */
#include "ir/shard.h"

#include <stdlib.h>
#include <string.h>

const char *const rule_of_name[RULE_OF_AXIS] = { "optimizer_state", "gradients", "parameters", "layers", "sequence", "attention_heads" };

RuleOf rule_of(Str name)
{
	RuleOf of = 0;
	while (of < RULE_OF_AXIS && !str_equal(name, str_of(rule_of_name[of])))
		of++;
	return of;
}

const char *const shard_reduce_name[4] = { "", "sum", "max", "min" };

ShardReduce shard_reduce_named(const char *name)
{
	for (u32 i = 1; name && i < COUNT(shard_reduce_name); i++)
		if (!strcmp(shard_reduce_name[i], name))
			return (ShardReduce)i;
	return SHARD_NONE;
}

/* ---- rules ---- */

static const Type *tensor_type(const ShardRule *r, u32 tensor)
{
	const Node *n = r->n;
	return val_type(r->g, tensor < n->nin ? n->in[tensor] : (Val){ n->out.i + tensor - n->nin });
}

u32 shard_label(ShardRule *r, i64 extent)
{
	u32 n = r->n->nin + r->n->nout;
	ShardLabel l = { .extent = extent, .at = NEWN(r->arena, ShardPoint, n) };
	for (u32 i = 0; i < n; i++)
		l.at[i].dim = -1;
	VEC_PUSH(r->arena, &r->label, l);
	return r->label.n - 1;
}

void shard_at(ShardRule *r, u32 label, u32 tensor, u32 dim, i64 outer)
{
	assert(dim < tensor_type(r, tensor)->rank);
	r->label.v[label].at[tensor] = (ShardPoint){ (i8)dim, outer };
}

void shard_linear(ShardRule *r, u64 operands)
{
	VEC_PUSH(r->arena, &r->linear, operands);
}

void shard_pointwise_but(ShardRule *r, u32 dims)
{
	u32 first = r->n->nin, rank = tensor_type(r, first)->rank;
	for (u32 d = 0; d < rank; d++) {
		if (dims >> d & 1)
			continue;
		u32 l = shard_label(r, type_extent(tensor_type(r, first), d));
		for (u32 i = 0; i < first + r->n->nout; i++)
			if (tensor_type(r, i)->rank == rank)
				shard_at(r, l, i, d, 1);
	}
}

void shard_pointwise(ShardRule *r)
{
	shard_pointwise_but(r, 0);
	for (u32 l = 0; l < r->label.n; l++)
		r->label.v[l].pads = true;
}

void shard_linear_pointwise(ShardRule *r)
{
	shard_pointwise(r);
	shard_linear(r, 1);
}

void shard_rule(Arena *arena, const Graph *g, const Node *n, ShardRule *out)
{
	*out = (ShardRule){ .arena = arena, .g = g, .n = n };
	out->any_reduce = op_info[n->op].traits & T_VIEW;
	if (op_info[n->op].def->shard)
		op_info[n->op].def->shard(out);
}

/* ---- places ---- */

const char *places_text(Ir *ir, const Mesh *mesh, const Place *place)
{
	Arena tmp = ARENA("places");
	Buf b = { .arena = &tmp };
	for (u32 m = 0; m < mesh->n; m++) {
		const Place *p = &place[m];
		if (p->kind == PLACE_WHOLE)
			continue;
		buf_printf(&b, "%s%s ", b.n ? ", " : "", mesh->axis[m].name);
		if (p->kind == PLACE_SPLIT)
			buf_printf(&b, p->whole ? "%u %lld of %lld" : "%u %lld", p->dim, (long long)p->outer, (long long)p->whole);
		else
			buf_put(&b, p->reduce == SHARD_SUM ? STR("+") : str_of(shard_reduce_name[p->reduce]));
	}
	const char *text = b.n ? intern_z(&ir->names, b.text) : NULL;
	arena_free(&tmp);
	return text;
}

bool places_read(const Mesh *mesh, const char *text, Place place[MESH_AXES])
{
	memset(place, 0, MESH_AXES * sizeof *place);
	while (text && *text) {
		size_t n = strcspn(text, " ");
		u32 m = 0;
		while (m < mesh->n && (strlen(mesh->axis[m].name) != n || memcmp(mesh->axis[m].name, text, n) != 0))
			m++;
		if (m == mesh->n || text[n] != ' ')
			return false;
		text += n + 1;
		n = strcspn(text, ",");
		char item[64] = "", *end;
		if (n >= sizeof item)
			return false;
		memcpy(item, text, n);
		if (!strcmp(item, "+")) {
			place[m] = (Place){ .kind = PLACE_PARTIAL, .reduce = SHARD_SUM };
		} else if (shard_reduce_named(item)) {
			place[m] = (Place){ .kind = PLACE_PARTIAL, .reduce = (u8)shard_reduce_named(item) };
		} else {
			long long dim = strtoll(item, &end, 10), outer = strtoll(end, &end, 10), whole = 0;
			if (str_starts(str_of(end), STR(" of ")) && (whole = strtoll(end + 4, &end, 10)) < 1)
				return false;
			if (*end || dim < 0 || dim >= MAX_RANK || outer < 1)
				return false;
			place[m] = (Place){ .kind = PLACE_SPLIT, .dim = (u8)dim, .outer = outer, .whole = whole };
		}
		text += n;
		while (*text == ',' || *text == ' ')
			text++;
	}
	return true;
}

static bool splits(const Place *p, u32 dim)
{
	return p->kind == PLACE_SPLIT && p->dim == dim;
}

bool places_fit(const Mesh *mesh, const Place *place, u32 dim, i64 extent)
{
	for (u32 m = 0; m < mesh->n; m++) {
		if (!splits(&place[m], dim))
			continue;
		i64 end = place[m].outer * mesh->axis[m].size;
		if (extent % end)
			return false;
		/* digits lie beside one another: of two, one begins at a multiple of the other's end */
		for (u32 k = 0; k < m; k++)
			if (splits(&place[k], dim) && place[k].outer % end && place[m].outer % (place[k].outer * mesh->axis[k].size))
				return false;
	}
	return true;
}

bool places_fit_padded(const Mesh *mesh, const Place *place, u32 dim, i64 extent)
{
	u32 digits = 0;
	bool pads = true;
	for (u32 m = 0; m < mesh->n; m++) {
		if (!splits(&place[m], dim))
			continue;
		digits++;
		pads &= place[m].outer == 1 && extent >= mesh->axis[m].size;
	}
	return (digits == 1 && pads) || places_fit(mesh, place, dim, extent);
}

i64 place_extent(const Mesh *mesh, const Place *place, u32 dim, i64 extent)
{
	for (u32 m = 0; m < mesh->n; m++)
		if (splits(&place[m], dim))
			extent = (extent + mesh->axis[m].size - 1) / mesh->axis[m].size; /* rounded up where it is padded */
	return extent;
}

void places_note_padded(const Mesh *mesh, Place *place, const Type *whole)
{
	for (u32 m = 0; m < mesh->n; m++)
		if (place[m].kind == PLACE_SPLIT && type_extent(whole, place[m].dim) % mesh->axis[m].size)
			place[m].whole = type_extent(whole, place[m].dim);
}

const Type *place_type(Ir *ir, const Mesh *mesh, const Place *place, const Type *whole)
{
	Dim dim[MAX_RANK];
	for (u32 d = 0; d < whole->rank; d++)
		dim[d] = dim_number(ir, place_extent(mesh, place, d, type_extent(whole, d)));
	return type_make(ir, whole->dtype, whole->rank, dim);
}

i64 place_local_outer(const Mesh *mesh, const Place *place, u32 m)
{
	i64 outer = place[m].outer;
	for (u32 k = 0; k < mesh->n; k++)
		if (k != m && splits(&place[k], place[m].dim) && place[k].outer < place[m].outer)
			outer /= mesh->axis[k].size;
	return outer;
}

/* ---- the mesh ---- */

u32 mesh_devices(const Mesh *mesh)
{
	u32 n = 1;
	for (u32 m = 0; m < mesh->n; m++)
		n *= mesh->axis[m].size;
	return n;
}

static u32 mesh_stride(const Mesh *mesh, u32 m)
{
	u32 stride = 1;
	while (++m < mesh->n)
		stride *= mesh->axis[m].size;
	return stride;
}

u32 mesh_coordinate(const Mesh *mesh, u32 rank, u32 m)
{
	return rank / mesh_stride(mesh, m) % mesh->axis[m].size;
}

u32 mesh_find(const Mesh *mesh, const char *name)
{
	for (u32 m = 0; m < mesh->n; m++)
		if (!strcmp(mesh->axis[m].name, name))
			return m;
	return NONE;
}

void mesh_group(const Mesh *mesh, u32 rank, u32 m, u32 *group)
{
	u32 stride = mesh_stride(mesh, m), first = rank - mesh_coordinate(mesh, rank, m) * stride;
	for (u32 i = 0; i < mesh->axis[m].size; i++)
		group[i] = first + i * stride;
}

const char *mesh_buffer(Ir *ir, const char *axis)
{
	return intern_printf(&ir->names, "mesh.%s", axis);
}
