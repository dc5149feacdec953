/* runtime/checkpoint/safetensors.c: reading; see safetensors.h. The header is parsed by jansson,
 * then each number in it is checked against the file before it is used: products for overflow, ranges
 * against the file's size, and all ranges together for gaps and overlaps. */
#include "runtime/checkpoint/part.h"
#include "support/vec.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#define HASH_PREFIX "xxh3-128:"

/* As the reference implementation has it: no real header comes near. */
static const u64 HEADER_LIMIT = 100000000;

static const struct {
	const char *name;
	u32 size;
} dtype_row[SAFE_DTYPE_COUNT] = {
#define X(name, size) { #name, size },
	SAFE_DTYPES(X)
#undef X
};

const char *safe_dtype_name(SafeDtype dtype)
{
	return dtype_row[dtype].name;
}

u32 safe_dtype_size(SafeDtype dtype)
{
	return dtype_row[dtype].size;
}

u64 safe_buffer_bytes(const NamedBuffer *b)
{
	u64 bytes = b->part && b->part->none ? 0 : safe_dtype_size(b->dtype);
	for (u32 i = 0; i < b->rank; i++)
		bytes *= (u64)b->dim[i];
	return bytes;
}

Status safe_buffer_read(const NamedBuffer *b, u64 from, void *to, u64 bytes)
{
	if (!b->data)
		return b->far->read(b->far->cx, b->at + from, to, bytes);
	memcpy(to, (const u8 *)b->data + from, bytes);
	return OK;
}

Status safe_buffer_write(const NamedBuffer *b, u64 to, const void *from, u64 bytes)
{
	if (!b->data)
		return b->far->write(b->far->cx, b->at + to, from, bytes);
	memcpy((u8 *)b->data + to, from, bytes);
	return OK;
}

void safe_hash(Blob bytes, char out[SAFE_HASH_TEXT])
{
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, XXH3_128bits(bytes.n ? (const void *)bytes.p : "", bytes.n));
	for (u32 i = 0; i < sizeof c.digest; i++)
		snprintf(out + 2 * i, 3, "%02x", c.digest[i]);
}

const char *safe_type_text(Arena *a, SafeDtype dtype, u32 rank, const i64 *dim)
{
	Buf b = { .arena = a };
	buf_printf(&b, "%s[", safe_dtype_name(dtype));
	for (u32 i = 0; i < rank; i++)
		buf_printf(&b, "%s%lld", i ? ", " : "", (long long)dim[i]);
	buf_char(&b, ']');
	return b.text;
}

const char *safe_quoted(Arena *a, Str text)
{
	enum { MOST = 120 };
	Buf b = { .arena = a };
	buf_char(&b, '"');
	for (size_t i = 0; i < text.n && i < MOST; i++) {
		u8 c = (u8)text.s[i];
		if (c < ' ' || c == 0x7F)
			buf_printf(&b, "\\x%02x", c);
		else
			buf_char(&b, (char)c);
	}
	buf_put(&b, text.n > MOST ? STR("...\"") : STR("\""));
	return b.text;
}

static bool printable(Str text)
{
	for (size_t i = 0; i < text.n; i++)
		if ((u8)text.s[i] < ' ' || text.s[i] == 0x7F)
			return false;
	return true;
}

/* One file while it is read. */
typedef struct Reader {
	Arena *arena;
	const char *path;
	u64 data_bytes; /* what follows the header */
	VEC(SafeTensor) tensor;
} Reader;

static Status read_shape(Reader *r, const char *name, const json_t *shape, SafeTensor *t, u64 *bytes)
{
	if (!json_is_array(shape))
		return FAIL(STATUS_INPUT, "%s: tensor %s has no \"shape\" that is a list", r->path, name);
	size_t rank = json_array_size(shape);
	i64 *dim = NEWN(r->arena, i64, rank);
	u64 size = safe_dtype_size(t->dtype);
	for (size_t i = 0; i < rank; i++) {
		const json_t *d = json_array_get(shape, i);
		if (!json_is_integer(d) || json_integer_value(d) < 0)
			return FAIL(STATUS_INPUT,
				    "%s: tensor %s: dimension %zu of its shape is no size (a whole "
				    "number, 0 or more)",
				    r->path, name, i);
		dim[i] = json_integer_value(d);
		if (__builtin_mul_overflow(size, (u64)dim[i], &size))
			return FAIL(STATUS_INPUT,
				    "%s: tensor %s: the product of its shape is too large for 64 bits",
				    r->path, name);
	}
	t->rank = (u32)rank;
	t->dim = dim;
	*bytes = size;
	return OK;
}

static Status read_tensor(Reader *r, Str raw, const json_t *entry)
{
	const char *name = safe_quoted(r->arena, raw);
	if (!printable(raw))
		return FAIL(STATUS_INPUT, "%s: tensor %s has a control character in its name", r->path,
			    name);
	if (!json_is_object(entry))
		return FAIL(STATUS_INPUT, "%s: the header's entry for tensor %s is not an object",
			    r->path, name);
	SafeTensor t = { .name = arena_strn(r->arena, raw), .dtype = SAFE_DTYPE_COUNT };
	const json_t *dtype = json_object_get(entry, "dtype");
	if (!json_is_string(dtype))
		return FAIL(STATUS_INPUT, "%s: tensor %s has no \"dtype\" that is a string", r->path,
			    name);
	for (SafeDtype d = 0; d < SAFE_DTYPE_COUNT; d++)
		if (!strcmp(dtype_row[d].name, json_string_value(dtype)))
			t.dtype = d;
	if (t.dtype == SAFE_DTYPE_COUNT) {
		Str text = { json_string_value(dtype), json_string_length(dtype) };
		return FAIL(STATUS_INPUT, "%s: tensor %s has dtype %s, which is not known", r->path, name,
			    safe_quoted(r->arena, text));
	}
	u64 bytes = 0;
	TRY(read_shape(r, name, json_object_get(entry, "shape"), &t, &bytes));

	const json_t *range = json_object_get(entry, "data_offsets");
	const json_t *from = json_array_get(range, 0), *to = json_array_get(range, 1);
	if (!json_is_array(range) || json_array_size(range) != 2 || !json_is_integer(from) ||
	    !json_is_integer(to))
		return FAIL(STATUS_INPUT,
			    "%s: tensor %s has no \"data_offsets\" that are two whole numbers", r->path,
			    name);
	i64 begin = json_integer_value(from), end = json_integer_value(to);
	if (begin < 0 || end < begin)
		return FAIL(STATUS_INPUT, "%s: tensor %s: its data_offsets [%lld, %lld] are no range",
			    r->path, name, (long long)begin, (long long)end);
	if ((u64)end > r->data_bytes)
		return FAIL(STATUS_INPUT,
			    "%s: tensor %s: its data_offsets [%lld, %lld] reach beyond the file's %llu "
			    "bytes of data; the file may have been cut short",
			    r->path, name, (long long)begin, (long long)end,
			    (unsigned long long)r->data_bytes);
	if ((u64)(end - begin) != bytes)
		return FAIL(STATUS_INPUT, "%s: tensor %s: %s takes %llu bytes, but its data_offsets "
			    "[%lld, %lld] hold %lld", r->path, name,
			    safe_type_text(r->arena, t.dtype, MIN(t.rank, 16), t.dim),
			    (unsigned long long)bytes, (long long)begin, (long long)end,
			    (long long)(end - begin));
	t.begin = (u64)begin;
	t.data.n = bytes;
	VEC_PUSH(r->arena, &r->tensor, t);
	return OK;
}

static Status read_metadata(Reader *r, SafeFile *f, json_t *meta)
{
	if (!json_is_object(meta))
		return FAIL(STATUS_INPUT, "%s: __metadata__ is not an object", r->path);
	f->meta = NEWN(r->arena, TextPair, json_object_size(meta));
	for (void *i = json_object_iter(meta); i; i = json_object_iter_next(meta, i)) {
		Str key = { json_object_iter_key(i), json_object_iter_key_len(i) };
		const json_t *value = json_object_iter_value(i);
		if (!json_is_string(value))
			return FAIL(STATUS_INPUT, "%s: entry %s of __metadata__ is not a string", r->path,
				    safe_quoted(r->arena, key));
		Str text = { json_string_value(value), json_string_length(value) };
		f->meta[f->nmeta++] =
			(TextPair){ arena_strn(r->arena, key), arena_strn(r->arena, text) };
	}
	return OK;
}

static int by_range(const void *pa, const void *pb)
{
	const SafeTensor *a = pa, *b = pb;
	if (a->begin != b->begin)
		return a->begin < b->begin ? -1 : 1;
	if (a->data.n != b->data.n)
		return a->data.n < b->data.n ? -1 : 1;
	return strcmp(a->name, b->name);
}

/* The ranges, in order, must cover the data from its first byte to its last. */
static Status check_ranges(Reader *r)
{
	u64 at = 0;
	const char *last = NULL;
	for (u32 i = 0; i < r->tensor.n; i++) {
		const SafeTensor *t = &r->tensor.v[i];
		const char *name = safe_quoted(r->arena, str_of(t->name));
		if (t->begin < at)
			return FAIL(STATUS_INPUT,
				    "%s: the bytes of tensors %s and %s overlap (at byte %llu of the data)",
				    r->path, last, name, (unsigned long long)t->begin);
		if (t->begin > at)
			return FAIL(STATUS_INPUT,
				    "%s: bytes %llu to %llu of the data, before tensor %s, belong to no "
				    "tensor",
				    r->path, (unsigned long long)at, (unsigned long long)t->begin, name);
		at += t->data.n;
		last = name;
	}
	if (at != r->data_bytes)
		return FAIL(STATUS_INPUT, "%s: the last %llu bytes belong to no tensor", r->path,
			    (unsigned long long)(r->data_bytes - at));
	return OK;
}

static Status read_entries(Reader *r, SafeFile *f, json_t *header)
{
	if (!json_is_object(header))
		return FAIL(STATUS_INPUT, "%s: the header is not a JSON object", r->path);
	for (void *i = json_object_iter(header); i; i = json_object_iter_next(header, i)) {
		Str key = { json_object_iter_key(i), json_object_iter_key_len(i) };
		if (str_equal(key, STR("__metadata__")))
			TRY(read_metadata(r, f, json_object_iter_value(i)));
		else
			TRY(read_tensor(r, key, json_object_iter_value(i)));
	}
	if (r->tensor.n)
		qsort(r->tensor.v, r->tensor.n, sizeof *r->tensor.v, by_range);
	return check_ranges(r);
}

/* What a file that is no safetensors file may be instead. */
static const char *looks_like(Blob bytes)
{
	static const struct {
		const char *magic;
		u32 n;
		const char *advice;
	} row[] = {
		{ "PK\3\4", 4, "; it is a zip archive, as torch.save writes: save it as safetensors" },
		{ "\x80\2", 2, "; it looks like a Python pickle: save it as safetensors" },
		{ "GGUF", 4, "; it is a GGUF file: use the safetensors file it was made from" },
		{ "\x89PLX", 4, "; it is a package of `plinth compile`, which has code and no weights" },
		{ "version https://git-lfs", 23, "; it is a Git LFS pointer: fetch it with git lfs pull" },
	};
	for (u32 i = 0; i < COUNT(row); i++)
		if (bytes.n >= row[i].n && !memcmp(bytes.p, row[i].magic, row[i].n))
			return row[i].advice;
	return "; it is no safetensors file";
}

/* Adds the file's tensors, which get index `file`, to `all`. */
static Status read_file(Arena *a, SafeFile *f, u32 file, Safetensors *all, u32 *cap)
{
	Blob b = f->bytes;
	if (b.n < 8)
		return FAIL(STATUS_INPUT, "%s: has %zu bytes, and a safetensors file starts with 8 bytes "
			    "of header length", f->path, b.n);
	u64 length = 0;
	for (u32 i = 0; i < 8; i++)
		length |= (u64)b.p[i] << (8 * i);
	if (length > b.n - 8 || length > HEADER_LIMIT)
		return FAIL(STATUS_INPUT, "%s: states a header of %llu bytes, but %s%s", f->path,
			    (unsigned long long)length,
			    length > b.n - 8 ? "is too short to hold it" : "100 MB is the most there may be",
			    looks_like(b));
	f->header = 8 + length;
	Reader r = { .arena = a, .path = f->path, .data_bytes = b.n - f->header };
	json_error_t e;
	json_t *header = json_loadb((const char *)b.p + 8, length, JSON_REJECT_DUPLICATES, &e);
	Status s = header ? read_entries(&r, f, header) :
			    FAIL(STATUS_INPUT, "%s: the header is no JSON, at its byte %d: %s", f->path,
				 e.position, safe_quoted(a, str_of(e.text)));
	json_decref(header);
	TRY(s);
	if (all->ntensor + (u64)r.tensor.n > *cap) {
		u32 more = MAX(*cap * 2, all->ntensor + r.tensor.n);
		SafeTensor *grown = NEWN(a, SafeTensor, more);
		if (all->ntensor)
			memcpy(grown, all->tensor, all->ntensor * sizeof *grown);
		all->tensor = grown;
		*cap = more;
	}
	for (u32 i = 0; i < r.tensor.n; i++) {
		SafeTensor t = r.tensor.v[i];
		t.file = file;
		t.begin += f->header;
		t.data.p = b.p + t.begin;
		all->tensor[all->ntensor++] = t;
	}
	return OK;
}

/* Sorts the names, refuses one that two files hold, and gives each tensor its stated hash. */
static int compare_names(const void *pa, const void *pb, void *of)
{
	const SafeTensor *tensor = of;
	return strcmp(tensor[*(const u32 *)pa].name, tensor[*(const u32 *)pb].name);
}

static u32 place_of(const Safetensors *s, const char *name)
{
	u32 low = 0, high = s->ntensor;
	while (low < high) {
		u32 middle = low + (high - low) / 2;
		if (strcmp(s->tensor[s->by_name[middle]].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const SafeTensor *safetensors_find(const Safetensors *s, const char *name)
{
	u32 at = place_of(s, name);
	if (at == s->ntensor || strcmp(s->tensor[s->by_name[at]].name, name) != 0)
		return NULL;
	return &s->tensor[s->by_name[at]];
}

static Status index_names(Arena *a, Safetensors *s)
{
	s->by_name = NEWN(a, u32, s->ntensor);
	for (u32 i = 0; i < s->ntensor; i++)
		s->by_name[i] = i;
	if (s->ntensor)
		qsort_r(s->by_name, s->ntensor, sizeof *s->by_name, compare_names, s->tensor);
	for (u32 i = 1; i < s->ntensor; i++) {
		const SafeTensor *x = &s->tensor[s->by_name[i - 1]], *y = &s->tensor[s->by_name[i]];
		if (!strcmp(x->name, y->name))
			return FAIL(STATUS_INPUT, "tensor %s is in both %s and %s",
				    safe_quoted(a, str_of(x->name)), s->file[x->file].path,
				    s->file[y->file].path);
	}
	for (u32 f = 0; f < s->nfile; f++)
		for (u32 i = 0; i < s->file[f].nmeta; i++) {
			const TextPair *m = &s->file[f].meta[i];
			if (!str_starts(str_of(m->key), STR(HASH_PREFIX)))
				continue;
			const char *name = m->key + strlen(HASH_PREFIX);
			SafeTensor *t = (SafeTensor *)(uintptr_t)safetensors_find(s, name);
			if (!t || t->file != f)
				return FAIL(STATUS_INPUT, "%s: has a hash of tensor %s, but no such tensor",
					    s->file[f].path, safe_quoted(a, str_of(name)));
			t->hash = m->value;
		}
	return OK;
}

Status safetensors_parse(Arena *a, const char *path, Blob bytes, Safetensors *out)
{
	*out = (Safetensors){ .file = NEW(a, SafeFile), .nfile = 1 };
	out->file[0] = (SafeFile){ .path = path, .bytes = bytes };
	u32 cap = 0;
	Status s = read_file(a, &out->file[0], 0, out, &cap);
	if (!s)
		s = index_names(a, out);
	if (s)
		*out = (Safetensors){ 0 };
	return s;
}

Status safetensors_open_all(Arena *a, const char *const *path, u32 n, Safetensors *out)
{
	*out = (Safetensors){ .file = NEWN(a, SafeFile, n) };
	u32 cap = 0;
	Status s = OK;
	for (u32 i = 0; i < n && !s; i++) {
		SafeFile *f = &out->file[i];
		f->path = path[i];
		s = io_map(path[i], &f->mapping);
		f->bytes = f->mapping.bytes;
		out->nfile += !s;
		if (!s)
			s = read_file(a, f, i, out, &cap);
	}
	if (!s)
		s = index_names(a, out);
	if (s)
		safetensors_close(out);
	return s;
}

void safetensors_close(Safetensors *s)
{
	for (u32 i = 0; i < s->nfile; i++)
		io_unmap(&s->file[i].mapping);
	*s = (Safetensors){ 0 };
}

Status safetensors_join(Arena *a, const Safetensors *part, u32 n, Safetensors *out)
{
	u32 nfile = 0, ntensor = 0;
	for (u32 i = 0; i < n; i++) {
		nfile += part[i].nfile;
		ntensor += part[i].ntensor;
	}
	*out = (Safetensors){ .file = NEWN(a, SafeFile, nfile), .tensor = NEWN(a, SafeTensor, ntensor) };
	for (u32 i = 0; i < n; i++) {
		for (u32 t = 0; t < part[i].ntensor; t++) {
			out->tensor[out->ntensor] = part[i].tensor[t];
			out->tensor[out->ntensor++].file += out->nfile;
		}
		for (u32 f = 0; f < part[i].nfile; f++)
			out->file[out->nfile++] = part[i].file[f];
	}
	Status s = index_names(a, out);
	if (s)
		safetensors_close(out);
	return s;
}

/* The files of an index in the order of its map. A file name is one beside the index: an index
 * cannot reach elsewhere. */
static Status read_index(Arena *a, const char *path, json_t *root, Safetensors *out)
{
	json_t *map = json_object_get(root, "weight_map");
	if (!json_is_object(map))
		return FAIL(STATUS_INPUT, "%s: has no \"weight_map\" that is an object", path);
	const char *slash = strrchr(path, '/');
	Str folder = { path, slash ? (size_t)(slash - path) + 1 : 0 };
	VEC(const char *) file = { 0 };
	Interner names = { .arena = a };
	for (void *i = json_object_iter(map); i; i = json_object_iter_next(map, i)) {
		const json_t *value = json_object_iter_value(i);
		Str name = { json_string_value(value), json_string_length(value) };
		if (!name.s || !name.n || memchr(name.s, '/', name.n) || name.s[0] == '.' ||
		    !printable(name))
			return FAIL(STATUS_INPUT, "%s: tensor %s is not mapped to a file in its folder",
				    path, safe_quoted(a, str_of(json_object_iter_key(i))));
		u32 before = names.n;
		const char *full =
			intern_printf(&names, "%.*s%.*s", STR_ARG(folder), STR_ARG(name));
		if (names.n > before)
			VEC_PUSH(a, &file, full);
	}
	TRY(safetensors_open_all(a, file.v, file.n, out));
	for (void *i = json_object_iter(map); i; i = json_object_iter_next(map, i)) {
		const SafeTensor *t = safetensors_find(out, json_object_iter_key(i));
		const char *in = json_string_value(json_object_iter_value(i));
		if (t && !strcmp(out->file[t->file].path + folder.n, in))
			continue;
		Status s = FAIL(STATUS_INPUT, "%s: tensor %s is not in %s", path,
				safe_quoted(a, str_of(json_object_iter_key(i))), in);
		safetensors_close(out);
		return s;
	}
	return OK;
}

static Status open_index(Arena *a, const char *path, Safetensors *out)
{
	Mapping m;
	TRY(io_map(path, &m));
	json_error_t e;
	json_t *root = json_loadb((const char *)m.bytes.p, m.bytes.n, JSON_REJECT_DUPLICATES, &e);
	Status s = root ? read_index(a, path, root, out) :
			  FAIL(STATUS_INPUT, "%s:%d:%d: no JSON: %s", path, e.line, e.column,
			       safe_quoted(a, str_of(e.text)));
	json_decref(root);
	io_unmap(&m);
	return s;
}

Status safetensors_open(Arena *a, const char *path, Safetensors *out)
{
	*out = (Safetensors){ 0 };
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		const char *file = arena_printf(a, "%s/model.safetensors", path);
		const char *index = arena_printf(a, "%s/model.safetensors.index.json", path);
		if (!io_exists(file) && !io_exists(index))
			return FAIL(STATUS_INPUT, "%s: has neither model.safetensors nor "
				    "model.safetensors.index.json in it", path);
		path = io_exists(file) ? file : index;
	}
	if (str_ends(str_of(path), STR(".json")))
		return open_index(a, path, out);
	path = arena_strn(a, str_of(path));
	return safetensors_open_all(a, &path, 1, out);
}

const char *safetensors_meta(const Safetensors *s, const char *key)
{
	for (u32 i = 0; s->nfile && i < s->file[0].nmeta; i++)
		if (!strcmp(s->file[0].meta[i].key, key))
			return s->file[0].meta[i].value;
	return NULL;
}
