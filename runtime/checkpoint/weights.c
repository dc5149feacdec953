/* runtime/checkpoint/weights.c: see weights.h. */
#include "runtime/checkpoint/weights.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/part.h"
#include "support/float8.h"
#include "support/vec.h"

#include <stdlib.h>
#include <string.h>

/* ---- renaming ---- */

enum { STARS = 16 };

/* What the stars of a pattern matched so far. */
typedef struct Stars {
	Str at[STARS];
	u32 n;
} Stars;

/* path_match with a memory: the same patterns ('*', '**', '{a,b}'), each star as short as can be. */
static bool match_stars(const char *p, const char *t, Stars *stars)
{
	for (; *p; p++, t++) {
		if (*p == '*') {
			bool across = p[1] == '*';
			u32 mine = stars->n < STARS ? stars->n++ : STARS - 1;
			p += across ? 2 : 1;
			for (const char *from = t;; t++) {
				u32 before = stars->n;
				stars->at[mine] = (Str){ from, (size_t)(t - from) };
				if (match_stars(p, t, stars))
					return true;
				stars->n = before;
				if (!*t || (!across && *t == '.'))
					return false;
			}
		}
		const char *close = *p == '{' ? strchr(p, '}') : NULL;
		if (close) {
			for (const char *one = p + 1; one <= close;) {
				size_t n = strcspn(one, ",}");
				u32 before = stars->n;
				if (!strncmp(one, t, n) && match_stars(close + 1, t + n, stars))
					return true;
				stars->n = before;
				one += n + 1;
			}
			return false;
		}
		if (*p != *t)
			return false;
	}
	return !*t;
}

static const char *substitute(Arena *a, const char *replacement, const Stars *stars)
{
	Buf b = { .arena = a };
	u32 k = 0;
	for (const char *p = replacement; *p; p++) {
		if (*p != '*') {
			buf_char(&b, *p);
			continue;
		}
		p += p[1] == '*';
		if (k < stars->n)
			buf_put(&b, stars->at[k]);
		k++;
	}
	return arena_strn(a, buf_str(&b));
}

const char *weights_rename(Arena *a, const WeightRule *rule, u32 nrule, const char *name)
{
	for (u32 i = 0; i < nrule; i++) {
		Stars stars = { .n = 0 };
		if (match_stars(rule[i].pattern, name, &stars))
			return rule[i].replacement ? substitute(a, rule[i].replacement, &stars) : NULL;
	}
	return name;
}

/* ---- fitting ---- */

static bool widens(SafeDtype from, SafeDtype to)
{
	bool narrow = from == SAFE_F16 || from == SAFE_BF16 || from == SAFE_F8_E4M3 || from == SAFE_F8_E5M2;
	return (to == SAFE_F32 && narrow) || (to == SAFE_F64 && (narrow || from == SAFE_F32));
}

/* The extents of the tensor, of which the program may have a part. */
static const i64 *dims_of(Arena *a, const NamedBuffer *b)
{
	if (!b->part)
		return b->dim;
	i64 *dim = NEWN(a, i64, b->rank);
	for (u32 d = 0; d < b->rank; d++)
		dim[d] = b->part->axis[d].whole;
	return dim;
}

static bool same_shape(const SafeTensor *t, u32 rank, const i64 *dim)
{
	return t->rank == rank && (!rank || !memcmp(t->dim, dim, rank * sizeof *dim));
}

/* A tensor of the file under the program's name for it. */
typedef struct Named {
	const char *name;
	const SafeTensor *tensor;
	bool used;
} Named;

static int by_name(const void *pa, const void *pb)
{
	const Named *a = pa, *b = pb;
	int order = strcmp(a->name, b->name);
	return order ? order : a->tensor < b->tensor ? -1 : a->tensor > b->tensor;
}

static Named *find(Named *named, u32 n, const char *name)
{
	u32 low = 0, high = n;
	while (low < high) {
		u32 middle = low + (high - low) / 2;
		if (strcmp(named[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && !strcmp(named[low].name, name) ? &named[low] : NULL;
}

/* A rule that would have fitted, for names that differ by a prefix only ("transformer."). */
static void suggest_prefix(Arena *a, const FitRequest *r, Named *named, u32 n, Buf *note)
{
	for (u32 i = 0; i < r->n; i++) {
		if (find(named, n, r->want[i].name))
			continue;
		for (u32 k = 0; k < n; k++) {
			Str have = str_of(named[k].name), want = str_of(r->want[i].name);
			if (named[k].used || have.n <= want.n || !str_ends(have, want) ||
			    have.s[have.n - want.n - 1] != '.')
				continue;
			buf_printf(note, "the file says %s for %s: a rename of \"%.*s**\" to \"**\" may be "
				   "what is missing\n",
				   safe_quoted(a, have), r->want[i].name, (int)(have.n - want.n), have.s);
			return;
		}
	}
}

u32 weights_fit(Arena *a, const FitRequest *r, const SafeTensor **match, Buf *note)
{
	u32 n = 0, misfits = 0, ntensor;
	const SafeTensor *tensor = part_tensors(a, r->have, &ntensor, note, &misfits);
	Named *named = NEWN(a, Named, ntensor);
	for (u32 i = 0; i < ntensor; i++) {
		const SafeTensor *t = &tensor[i];
		const char *name = weights_rename(a, r->rule, r->nrule, t->name);
		if (name)
			named[n++] = (Named){ name, t, false };
	}
	if (n)
		qsort(named, n, sizeof *named, by_name);
	for (u32 i = 1; i < n; i++)
		if (!strcmp(named[i].name, named[i - 1].name)) {
			buf_printf(note, "%s and %s of the file are both renamed to %s\n",
				   named[i - 1].tensor->name, named[i].tensor->name, named[i].name);
			named[i].used = true;
			misfits++;
		}
	bool lacks = false, whole = false;
	for (u32 i = 0; i < r->n && !whole; i++)
		whole = r->want[i].optional && find(named, n, r->want[i].name);
	for (u32 i = 0; i < r->n; i++) {
		const NamedBuffer *b = &r->want[i];
		Named *found = find(named, n, b->name);
		const i64 *dim = dims_of(a, b);
		const char *wanted = safe_type_text(a, b->dtype, b->rank, dim);
		match[i] = found ? found->tensor : NULL;
		if (!found && b->optional && !whole)
			continue;
		if (b->kept && (!found || !same_shape(found->tensor, b->rank, dim))) {
			*b->kept = true;
			match[i] = NULL;
			if (found)
				found->used = true;
			continue;
		}
		if (!found) {
			buf_printf(note, "missing: %s %s\n", b->name, wanted);
			misfits++;
			lacks = true;
			continue;
		}
		found->used = true;
		const SafeTensor *t = found->tensor;
		bool dtype_fits = t->dtype == b->dtype || (r->widen && widens(t->dtype, b->dtype));
		bool shape_fits = same_shape(t, b->rank, dim);
		if (dtype_fits && shape_fits)
			continue;
		buf_printf(note, "another %s: %s is %s in the file, %s in the program\n",
			   shape_fits ? "dtype" :
			   dtype_fits ? "shape" :
					"dtype and shape",
			   b->name, safe_type_text(a, t->dtype, t->rank, t->dim), wanted);
		misfits++;
	}
	for (u32 k = 0; k < n; k++) {
		const SafeTensor *t = named[k].tensor;
		if (named[k].used)
			continue;
		buf_printf(note, "not in the program: %s %s\n", named[k].name,
			   safe_type_text(a, t->dtype, t->rank, t->dim));
		misfits++;
	}
	if (lacks)
		suggest_prefix(a, r, named, n, note);
	return misfits;
}

Status weights_misfit(Diag *d, ErrorCode code, const char *path, u32 misfits, const Buf *note)
{
	Status s = FAIL(STATUS_INPUT, "%s does not fit the program: %u tensor%s, nothing was loaded", path,
			misfits, misfits == 1 ? "" : "s");
	diag_error(d, code, (Loc){ 0 }, "%s", s->text);
	Str text = buf_str(note);
	for (const char *line = text.s, *end; line < text.s + text.n; line = end + 1) {
		end = strchr(line, '\n');
		diag_note(d, (Loc){ 0 }, "%.*s", (int)(end - line), line);
	}
	return s;
}

static Status check_hash(Arena *a, const Safetensors *have, const SafeTensor *t)
{
	char found[SAFE_HASH_TEXT];
	if (!t->hash)
		return OK;
	safe_hash(t->data, found);
	if (!strcmp(found, t->hash))
		return OK;
	return FAIL(STATUS_INPUT,
		    "%s: tensor %s (bytes %llu to %llu) is damaged: its hash is %s, not "
		    "%s as stated; `plinth verify` lists all that is",
		    have->file[t->file].path, t->name, (unsigned long long)t->begin,
		    (unsigned long long)(t->begin + t->data.n), found, safe_quoted(a, str_of(t->hash)));
}

static TensorPart wanted_part(Arena *a, const NamedBuffer *want)
{
	return want->part ? *want->part : part_whole(a, want->rank, want->dim);
}

Status weights_check(Arena *a, const Safetensors *have, const NamedBuffer *want, const SafeTensor *const *match, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		const SafeTensor *t = match[i];
		if (!t || (want[i].part && want[i].part->none))
			continue;
		TensorPart mine = wanted_part(a, &want[i]);
		for (u32 k = 0; k < t->npart; k++)
			if (part_meets(&mine, t->part[k].part))
				TRY(check_hash(a, have, t->part[k].tensor));
		if (!t->npart)
			TRY(check_hash(a, have, t));
	}
	return OK;
}

/* ---- copying ---- */

static f32 widened(SafeDtype from, const u8 *p)
{
	u16 half;
	f32 whole;
	switch (from) {
	case SAFE_F8_E4M3: return f32_from_f8e4m3(*p);
	case SAFE_F8_E5M2: return f32_from_f8e5m2(*p);
	case SAFE_F16: memcpy(&half, p, sizeof half); return f32_from_f16(half);
	case SAFE_BF16: memcpy(&half, p, sizeof half); return f32_from_bf16(half);
	default: memcpy(&whole, p, sizeof whole); return whole;
	}
}

/* Elements of a tensor in a file, on their way to a buffer. */
typedef struct Copying {
	const NamedBuffer *want;
	const SafeTensor *from;
} Copying;

/* Wider elements go by way of a piece of host memory. */
static Status widen(const NamedBuffer *want, u64 at, SafeDtype from, const u8 *p, u64 count)
{
	enum { PIECE = 8192 };
	f64 piece[PIECE];
	u32 size = safe_dtype_size(from), to = safe_dtype_size(want->dtype);
	for (u64 k = 0; k < count; k += PIECE) {
		u64 n = MIN(count - k, (u64)PIECE);
		for (u64 i = 0; i < n; i++) {
			f32 x = widened(from, p + (k + i) * size);
			if (want->dtype == SAFE_F32)
				((f32 *)piece)[i] = x;
			else
				piece[i] = x;
		}
		TRY(safe_buffer_write(want, (at + k) * to, piece, n * to));
	}
	return OK;
}

static Status copy_elements(void *cx, u64 to, u64 from, u64 n)
{
	const Copying *c = cx;
	u32 size = safe_dtype_size(c->from->dtype);
	const u8 *p = c->from->data.p + from * size;
	if (c->from->dtype != c->want->dtype)
		return widen(c->want, to, c->from->dtype, p, n);
	return safe_buffer_write(c->want, to * size, p, n * size);
}

Status weights_copy(const NamedBuffer *want, const SafeTensor *const *match, u32 n)
{
	Arena tmp = ARENA("weights_copy");
	Status s = OK;
	for (u32 i = 0; i < n && !s; i++) {
		const SafeTensor *t = match[i];
		if (!t || !t->data.n || (want[i].part && want[i].part->none))
			continue;
		ArenaMark mark = arena_mark(&tmp);
		TensorPart mine = wanted_part(&tmp, &want[i]), whole = part_whole(&tmp, t->rank, t->dim);
		for (u32 k = 0; k < t->npart && !s; k++)
			s = part_common(&mine, t->part[k].part, copy_elements, &(Copying){ &want[i], t->part[k].tensor });
		if (!t->npart)
			s = part_common(&mine, &whole, copy_elements, &(Copying){ &want[i], t });
		arena_release(&tmp, mark);
	}
	arena_free(&tmp);
	return s;
}

const char *const *weights_paths(Arena *a, const char *list, u32 *n)
{
	VEC(const char *) path = { 0 };
	bool one = io_exists(list);
	for (const char *at = list;; at++) {
		const char *comma = one ? NULL : strchr(at, ',');
		VEC_PUSH(a, &path, comma ? arena_strn(a, (Str){ at, (size_t)(comma - at) }) : at);
		if (!comma)
			break;
		at = comma;
	}
	*n = path.n;
	return path.v;
}

/* A file, a folder, or the latest checkpoint of a run. */
static Status open_one(Arena *a, const char *path, Safetensors *out)
{
	if (!checkpoint_is_run(path))
		return safetensors_open(a, path, out);
	CheckpointPlace place;
	Status s;
	do {
		TRY(checkpoint_find(a, path, &place));
		s = safetensors_open(a, place.path, out);
	} while (s && checkpoint_is_gone(&place));
	return s;
}

static Status open_listed(Arena *a, const char *list, Safetensors *out)
{
	u32 n, open = 0;
	const char *const *path = weights_paths(a, list, &n);
	Safetensors *part = NEWN(a, Safetensors, n);
	Status s = OK;
	for (u32 i = 0; i < n && !s; i++) {
		s = open_one(a, path[i], &part[i]);
		open += !s;
	}
	if (!s && n > 1)
		return safetensors_join(a, part, n, out);
	if (!s)
		*out = part[0];
	for (u32 i = 0; i < open && s; i++)
		safetensors_close(&part[i]);
	return s;
}

Status weights_load(Arena *a, const char *path, const WeightRule *rule, u32 nrule,
		    const NamedBuffer *want, u32 n, Diag *d)
{
	Safetensors have;
	TRY(open_listed(a, path, &have));
	Arena tmp = ARENA("weights_load");
	const SafeTensor **match = NEWN(&tmp, const SafeTensor *, n);
	Buf note = { .arena = &tmp };
	FitRequest r = { path, &have, rule, nrule, want, n, true };
	u32 misfits = weights_fit(&tmp, &r, match, &note);
	Status s = misfits ? weights_misfit(d, E0650, path, misfits, &note) :
			     weights_check(&tmp, &have, want, match, n);
	if (!s)
		s = weights_copy(want, match, n);
	safetensors_close(&have);
	arena_free(&tmp);
	return s;
}
