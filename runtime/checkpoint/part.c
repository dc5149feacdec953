/* runtime/checkpoint/part.c: see part.h. */
#include "runtime/checkpoint/part.h"

#include <stdlib.h>
#include <string.h>

i64 part_extent(const TensorPart *p, u32 d)
{
	i64 n = 0;
	for (u32 i = 0; i < p->axis[d].nrun; i++)
		n += p->axis[d].run[i].n;
	return n;
}

bool part_is_whole(const TensorPart *p)
{
	for (u32 d = 0; d < p->rank; d++)
		if (part_extent(p, d) != p->axis[d].whole)
			return false;
	return !p->none;
}

TensorPart part_whole(Arena *a, u32 rank, const i64 *dim)
{
	assert(rank <= PART_RANK);
	TensorPart p = { .rank = rank };
	PartRun *run = NEWN(a, PartRun, rank + 1);
	for (u32 d = 0; d < rank; d++) {
		run[d] = (PartRun){ 0, dim[d] };
		p.axis[d] = (PartAxis){ dim[d], &run[d], 1 };
	}
	return p;
}

/* ---- names ---- */

const char *part_name(Arena *a, const char *name, const TensorPart *p)
{
	if (part_is_whole(p))
		return name;
	Buf b = { .arena = a };
	buf_printf(&b, "%s[", name);
	for (u32 d = 0; d < p->rank; d++) {
		for (u32 i = 0; i < p->axis[d].nrun; i++)
			buf_printf(&b, "%s%lld:%lld", i ? "+" : d ? "," : "", (long long)p->axis[d].run[i].from,
				   (long long)(p->axis[d].run[i].from + p->axis[d].run[i].n));
		buf_printf(&b, "/%lld", (long long)p->axis[d].whole);
	}
	buf_char(&b, ']');
	return arena_strn(a, buf_str(&b));
}

/* A number, and what must follow it. */
static bool read_number(const char **at, char after, i64 *out)
{
	const char *p = *at;
	i64 n = 0;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *p - '0', &n))
			return false;
	*out = n;
	if (p == *at || *p != after)
		return false;
	*at = p + 1;
	return true;
}

static bool read_axis(Arena *a, const char **at, PartAxis *out)
{
	u32 most = 1;
	for (const char *p = *at; *p && *p != '/'; p++)
		most += *p == '+';
	PartRun *run = NEWN(a, PartRun, most);
	i64 end = 0;
	*out = (PartAxis){ .run = run };
	do {
		PartRun *r = &run[out->nrun++];
		i64 last = end;
		if (!read_number(at, ':', &r->from) || !read_number(at, out->nrun < most ? '+' : '/', &end) || r->from < last ||
		    end <= r->from)
			return false;
		r->n = end - r->from;
	} while (out->nrun < most);
	const char *p = *at;
	char after = p[strspn(p, "0123456789")];
	return (after == ',' || after == ']') && read_number(at, after, &out->whole) && end <= out->whole;
}

bool part_of_name(Arena *a, const char *in_file, const char **name, TensorPart *out)
{
	const char *open = strrchr(in_file, '['), *at = open + 1;
	if (!open || open == in_file)
		return false;
	*out = (TensorPart){ 0 };
	do
		if (out->rank == PART_RANK || !read_axis(a, &at, &out->axis[out->rank++]))
			return false;
	while (at[-1] == ',');
	*name = arena_strn(a, (Str){ in_file, (size_t)(open - in_file) });
	return !*at;
}

/* ---- what two parts have in common ---- */

typedef struct Common {
	u64 to, from, n; /* indices of the two */
} Common;

/* Of one dimension; `out` has room for the runs of both. */
static u32 common_runs(const PartAxis *to, const PartAxis *from, Common *out)
{
	u32 n = 0;
	u64 at_to = 0, at_from = 0;
	for (u32 i = 0, k = 0; i < to->nrun && k < from->nrun;) {
		PartRun x = to->run[i], y = from->run[k];
		i64 begin = MAX(x.from, y.from), end = MIN(x.from + x.n, y.from + y.n);
		if (begin < end)
			out[n++] = (Common){ at_to + (u64)(begin - x.from), at_from + (u64)(begin - y.from), (u64)(end - begin) };
		if (x.from + x.n <= y.from + y.n) {
			at_to += (u64)x.n;
			i++;
		} else {
			at_from += (u64)y.n;
			k++;
		}
	}
	return n;
}

bool part_meets(const TensorPart *x, const TensorPart *y)
{
	Arena tmp = ARENA("part_meets");
	bool meets = !x->none && !y->none;
	for (u32 d = 0; d < x->rank && meets; d++) {
		Common *room = NEWN(&tmp, Common, x->axis[d].nrun + y->axis[d].nrun);
		meets = common_runs(&x->axis[d], &y->axis[d], room) > 0;
	}
	arena_free(&tmp);
	return meets;
}

typedef struct Walk {
	Common *common[PART_RANK];
	u32 n[PART_RANK];
	u64 to[PART_RANK], from[PART_RANK]; /* elements from one index to the next */
	u32 last;                           /* what is behind this dimension both have whole */
	PartPiece *piece;
	void *cx;
} Walk;

static Status walk(const Walk *w, u32 d, u64 to, u64 from)
{
	for (u32 i = 0; i < w->n[d]; i++) {
		Common c = w->common[d][i];
		if (d == w->last) {
			TRY(w->piece(w->cx, to + c.to * w->to[d], from + c.from * w->from[d], c.n * w->to[d]));
			continue;
		}
		for (u64 k = 0; k < c.n; k++)
			TRY(walk(w, d + 1, to + (c.to + k) * w->to[d], from + (c.from + k) * w->from[d]));
	}
	return OK;
}

Status part_common(const TensorPart *to, const TensorPart *from, PartPiece *piece, void *cx)
{
	assert(to->rank == from->rank);
	if (to->none || from->none)
		return OK;
	if (!to->rank)
		return piece(cx, 0, 0, 1);
	Arena tmp = ARENA("part_common");
	Walk w = { .piece = piece, .cx = cx };
	u64 to_stride = 1, from_stride = 1;
	bool whole = true;
	for (u32 d = to->rank; d-- > 0;) {
		w.common[d] = NEWN(&tmp, Common, to->axis[d].nrun + from->axis[d].nrun + 1);
		w.n[d] = common_runs(&to->axis[d], &from->axis[d], w.common[d]);
		w.to[d] = to_stride;
		w.from[d] = from_stride;
		if (whole)
			w.last = d;
		i64 x = part_extent(to, d), y = part_extent(from, d);
		whole = whole && w.n[d] == 1 && w.common[d][0].n == (u64)x && x == y;
		to_stride *= (u64)x;
		from_stride *= (u64)y;
	}
	Status s = walk(&w, 0, 0, 0);
	arena_free(&tmp);
	return s;
}

/* ---- tensors in parts ---- */

static bool same_whole(const TensorPart *x, const TensorPart *y)
{
	for (u32 d = 0; d < x->rank && x->rank == y->rank; d++)
		if (x->axis[d].whole != y->axis[d].whole)
			return false;
	return x->rank == y->rank;
}

static bool has_extents(const SafeTensor *t, const TensorPart *p)
{
	for (u32 d = 0; d < p->rank && t->rank == p->rank; d++)
		if (t->dim[d] != part_extent(p, d))
			return false;
	return t->rank == p->rank;
}

/* NULL, or what is wrong: parts must be of one tensor, and have each of its elements once. */
static const char *wrong_parts(Arena *a, const SafeTensor *t)
{
	u64 covered = 0, all = t->data.n / safe_dtype_size(t->dtype);
	for (u32 i = 0; i < t->npart; i++) {
		const SafePart *p = &t->part[i];
		if (p->tensor->dtype != t->dtype || !same_whole(p->part, t->part[0].part))
			return arena_printf(a, "%s is no part of the same tensor as %s", p->tensor->name, t->part[0].tensor->name);
		if (!has_extents(p->tensor, p->part))
			return arena_printf(a, "%s is %s, which is not what its name says", p->tensor->name,
					    safe_type_text(a, t->dtype, p->tensor->rank, p->tensor->dim));
		for (u32 k = 0; k < i; k++)
			if (part_meets(t->part[k].part, p->part))
				return arena_printf(a, "%s and %s have elements in common", t->part[k].tensor->name, p->tensor->name);
		covered += p->tensor->data.n / safe_dtype_size(t->dtype);
	}
	if (covered == all)
		return NULL;
	return arena_printf(a, "its %u parts have %llu of its %llu elements", t->npart, (unsigned long long)covered,
			    (unsigned long long)all);
}

/* A tensor of the extents that its parts state; false where these are too large. */
static bool begin_whole(Arena *a, const char *name, const SafePart *first, SafeTensor *out)
{
	const TensorPart *p = first->part;
	i64 *dim = NEWN(a, i64, p->rank);
	u64 bytes = safe_dtype_size(first->tensor->dtype);
	for (u32 d = 0; d < p->rank; d++) {
		dim[d] = p->axis[d].whole;
		if (__builtin_mul_overflow(bytes, (u64)dim[d], &bytes))
			return false;
	}
	*out = (SafeTensor){ .name = name, .dtype = first->tensor->dtype, .rank = p->rank, .dim = dim, .data = { NULL, bytes },
			     .file = first->tensor->file };
	return true;
}

const SafeTensor *part_tensors(Arena *a, const Safetensors *have, u32 *n, Buf *note, u32 *misfits)
{
	SafeTensor *out = NEWN(a, SafeTensor, have->ntensor + 1);
	SafePart *part = NEWN(a, SafePart, have->ntensor + 1);
	u32 nparts = 0;
	*n = 0;
	/* by name, parts of one tensor follow one another */
	for (u32 i = 0; i < have->ntensor; i++) {
		const SafeTensor *t = &have->tensor[have->by_name[i]];
		const char *name;
		TensorPart *p = NEW(a, TensorPart);
		if (!part_of_name(a, t->name, &name, p)) {
			out[(*n)++] = *t;
			continue;
		}
		part[nparts] = (SafePart){ p, t };
		SafeTensor *last = *n ? &out[*n - 1] : NULL;
		if (!last || !last->npart || strcmp(last->name, name)) {
			if (!begin_whole(a, name, &part[nparts], &out[*n])) {
				buf_printf(note, "%s: is larger than 64 bits can say\n", t->name);
				(*misfits)++;
				continue;
			}
			last = &out[(*n)++];
			last->part = &part[nparts];
		}
		last->npart++;
		nparts++;
	}
	for (u32 i = 0; i < *n; i++) {
		const char *wrong = out[i].npart ? wrong_parts(a, &out[i]) : NULL;
		if (wrong) {
			buf_printf(note, "%s is there in parts: %s\n", out[i].name, wrong);
			(*misfits)++;
		}
	}
	return out;
}
