/* runtime/checkpoint/weights.c: see weights.h. */
#include "runtime/checkpoint/weights.h"
#include "runtime/checkpoint/checkpoint.h"
#include "support/half.h"

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
	bool half = from == SAFE_F16 || from == SAFE_BF16;
	return (to == SAFE_F32 && half) || (to == SAFE_F64 && (half || from == SAFE_F32));
}

static bool same_shape(const SafeTensor *t, const NamedBuffer *b)
{
	return t->rank == b->rank && (!t->rank || !memcmp(t->dim, b->dim, t->rank * sizeof *t->dim));
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
	u32 n = 0, misfits = 0;
	Named *named = NEWN(a, Named, r->have->ntensor);
	for (u32 i = 0; i < r->have->ntensor; i++) {
		const SafeTensor *t = &r->have->tensor[i];
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
		const char *wanted = safe_type_text(a, b->dtype, b->rank, b->dim);
		match[i] = found ? found->tensor : NULL;
		if (!found && b->optional && !whole)
			continue;
		if (!found) {
			buf_printf(note, "missing: %s %s\n", b->name, wanted);
			misfits++;
			lacks = true;
			continue;
		}
		found->used = true;
		const SafeTensor *t = found->tensor;
		bool dtype_fits = t->dtype == b->dtype || (r->widen && widens(t->dtype, b->dtype));
		if (dtype_fits && same_shape(t, b))
			continue;
		buf_printf(note, "another %s: %s is %s in the file, %s in the program\n",
			   same_shape(t, b) ? "dtype" :
			   dtype_fits	    ? "shape" :
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

Status weights_check(Arena *a, const Safetensors *have, const SafeTensor *const *match, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		const SafeTensor *t = match[i];
		char found[SAFE_HASH_TEXT];
		if (!t || !t->hash)
			continue;
		safe_hash(t->data, found);
		if (strcmp(found, t->hash) != 0)
			return FAIL(STATUS_INPUT,
				    "%s: tensor %s (bytes %llu to %llu) is damaged: its hash is %s, not "
				    "%s as stated; `plinth verify` lists all that is",
				    have->file[t->file].path, t->name, (unsigned long long)t->begin,
				    (unsigned long long)(t->begin + t->data.n), found,
				    safe_quoted(a, str_of(t->hash)));
	}
	return OK;
}

/* ---- copying ---- */

static f32 widened(SafeDtype from, const u8 *p)
{
	u16 half;
	f32 whole;
	if (from == SAFE_F32) {
		memcpy(&whole, p, sizeof whole);
		return whole;
	}
	memcpy(&half, p, sizeof half);
	return from == SAFE_F16 ? f32_from_f16(half) : f32_from_bf16(half);
}

/* Wider elements go by way of a piece of host memory. */
static Status widen(const NamedBuffer *want, const SafeTensor *t)
{
	enum { PIECE = 8192 };
	f64 piece[PIECE];
	u32 from = safe_dtype_size(t->dtype), to = safe_dtype_size(want->dtype);
	size_t count = t->data.n / from;
	for (size_t k = 0; k < count; k += PIECE) {
		size_t n = MIN(count - k, (size_t)PIECE);
		for (size_t i = 0; i < n; i++) {
			f32 x = widened(t->dtype, t->data.p + (k + i) * from);
			if (want->dtype == SAFE_F32)
				((f32 *)piece)[i] = x;
			else
				piece[i] = x;
		}
		TRY(safe_buffer_write(want, k * to, piece, n * to));
	}
	return OK;
}

Status weights_copy(const NamedBuffer *want, const SafeTensor *const *match, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		const SafeTensor *t = match[i];
		if (!t)
			continue;
		if (t->dtype != want[i].dtype)
			TRY(widen(&want[i], t));
		else if (t->data.n)
			TRY(safe_buffer_write(&want[i], 0, t->data.p, t->data.n));
	}
	return OK;
}

Status weights_load(Arena *a, const char *path, const WeightRule *rule, u32 nrule,
		    const NamedBuffer *want, u32 n, Diag *d)
{
	if (checkpoint_is_run(path))
		TRY(checkpoint_resolve(a, path, &path));
	Safetensors have;
	TRY(safetensors_open(a, path, &have));
	Arena tmp = ARENA("weights_load");
	const SafeTensor **match = NEWN(&tmp, const SafeTensor *, n);
	Buf note = { .arena = &tmp };
	FitRequest r = { path, &have, rule, nrule, want, n, true };
	u32 misfits = weights_fit(&tmp, &r, match, &note);
	Status s = misfits ? weights_misfit(d, E0650, path, misfits, &note) :
			     weights_check(&tmp, &have, match, n);
	if (!s)
		s = weights_copy(want, match, n);
	safetensors_close(&have);
	arena_free(&tmp);
	return s;
}
