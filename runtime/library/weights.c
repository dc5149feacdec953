/* runtime/library/weights.c: an exported library's parameters, where they lie in a mapped safetensors file. Its
 * header is JSON, of which this reads what the format has (see runtime/checkpoint/safetensors.h, which needs more
 * libraries than an exported one may). Trusts nothing: every byte that is read was looked for before. */
#include "runtime/library/library.h"

#define XXH_INLINE_ALL /* no library but C's is there */
#include <xxhash.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

Status library_weights_map(const char *path, LibraryWeights *out)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	struct stat about;
	if (file < 0 || fstat(file, &about) != 0) {
		int why = errno;
		if (file >= 0)
			close(file);
		return FAIL(STATUS_IO, "cannot open %s: %s", path, strerror(why));
	}
	size_t n = S_ISREG(about.st_mode) && about.st_size > 0 ? (size_t)about.st_size : 0;
	void *at = n ? mmap(NULL, n, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
	int why = errno;
	close(file);
	if (at == MAP_FAILED)
		return FAIL(STATUS_IO, "cannot map %s: %s", path,
			    n				 ? strerror(why)
			    : S_ISDIR(about.st_mode) ? "it is a folder; give the path of the weights.safetensors in it"
			    : S_ISREG(about.st_mode) ? "it is empty"
						 : "it is not a regular file");
	*out = (LibraryWeights){ { at, n }, true };
	return OK;
}

Status library_weights_open(const LibraryBase *b, const LibraryModel *model, const char *path, LibraryWeights *out)
{
	*out = (LibraryWeights){ 0 };
	if (path)
		return library_weights_map(path, out);
	if (!model->weights && b->info.weights_bytes)
		return FAIL(STATUS_INPUT, "which weights? This library has none embedded: give the path of its weights.safetensors");
	out->bytes = (Blob){ model->weights, model->weights_bytes };
	return OK;
}

void library_weights_unmap(LibraryWeights *w)
{
	if (w->mapped)
		munmap((void *)(uintptr_t)w->bytes.p, w->bytes.n);
	*w = (LibraryWeights){ 0 };
}

/* ---- as much JSON as the header has ---- */

typedef struct Json {
	const char *at, *end;
	bool wrong;
} Json;

static char peek(Json *j)
{
	while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\t' || *j->at == '\r'))
		j->at++;
	return j->at < j->end ? *j->at : 0;
}

static bool take(Json *j, char c)
{
	if (peek(j) != c)
		return false;
	j->at++;
	return true;
}

static void expect(Json *j, char c)
{
	if (!take(j, c))
		j->wrong = true;
}

/* What is between the quotes, as written; names of tensors have nothing in them that is written otherwise. */
static Str text(Json *j)
{
	expect(j, '"');
	const char *from = j->at;
	while (j->at < j->end && *j->at != '"')
		j->at += *j->at == '\\' && j->end - j->at > 1 ? 2 : 1;
	Str s = { from, (size_t)(j->at - from) };
	if (j->at >= j->end)
		j->wrong = true;
	else
		j->at++;
	return s;
}

static u64 whole(Json *j)
{
	u64 x = 0;
	peek(j);
	const char *from = j->at;
	for (; j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++)
		if (__builtin_mul_overflow(x, 10, &x) || __builtin_add_overflow(x, (u64)(*j->at - '0'), &x))
			j->wrong = true;
	j->wrong |= j->at == from;
	return x;
}

/* Numbers between brackets; how many, at most `most` of them kept. */
static u32 list(Json *j, u64 *to, u32 most)
{
	u32 n = 0;
	expect(j, '[');
	while (!j->wrong && peek(j) != ']') {
		u64 x = whole(j);
		if (n < most)
			to[n] = x;
		n++;
		if (!take(j, ','))
			break;
	}
	expect(j, ']');
	return n;
}

/* Pairs of texts; gives what `prefix` and then `name` stands for, where there is such a one. */
static Str texts(Json *j, const char *prefix, Str name)
{
	Str found = { 0 };
	size_t n = strlen(prefix);
	expect(j, '{');
	while (!j->wrong && peek(j) != '}') {
		Str key = text(j);
		expect(j, ':');
		Str value = text(j);
		if (key.n == n + name.n && !memcmp(key.s, prefix, n) && name.n && !memcmp(key.s + n, name.s, name.n))
			found = value;
		if (!take(j, ','))
			break;
	}
	expect(j, '}');
	return found;
}

typedef struct Entry {
	Str name, dtype;
	u64 dim[10], data[2];
	u32 rank, ndata;
} Entry;

static bool is(Str s, const char *word)
{
	return s.n == strlen(word) && !memcmp(s.s, word, s.n);
}

static void read_entry(Json *j, Entry *e)
{
	expect(j, '{');
	while (!j->wrong && peek(j) != '}') {
		Str key = text(j);
		expect(j, ':');
		if (is(key, "dtype"))
			e->dtype = text(j);
		else if (is(key, "shape"))
			e->rank = list(j, e->dim, COUNT(e->dim));
		else if (is(key, "data_offsets"))
			e->ndata = list(j, e->data, 2);
		else
			j->wrong = true;
		if (!take(j, ','))
			break;
	}
	expect(j, '}');
}

/* ---- pairing ---- */

static const char *const safe_name[] = { [PACKAGE_B1] = "BOOL", [PACKAGE_U8] = "U8", [PACKAGE_U32] = "U32", [PACKAGE_I8] = "I8",
					 [PACKAGE_I32] = "I32", [PACKAGE_I64] = "I64", [PACKAGE_F8E4M3] = "F8_E4M3",
					 [PACKAGE_F8E5M2] = "F8_E5M2", [PACKAGE_F16] = "F16",
					 [PACKAGE_BF16] = "BF16", [PACKAGE_F32] = "F32", [PACKAGE_F64] = "F64" };
static const u8 element[] = { [PACKAGE_B1] = 1, [PACKAGE_U8] = 1, [PACKAGE_U32] = 4, [PACKAGE_I8] = 1, [PACKAGE_I32] = 4,
			      [PACKAGE_I64] = 8, [PACKAGE_F8E4M3] = 1, [PACKAGE_F8E5M2] = 1, [PACKAGE_F16] = 2, [PACKAGE_BF16] = 2, [PACKAGE_F32] = 4, [PACKAGE_F64] = 8 };

static bool same_shape(const Entry *e, const PackageTensor *t)
{
	bool same = e->rank == t->rank;
	for (u32 d = 0; same && d < t->rank; d++)
		same = e->dim[d] == (u64)t->dim[d];
	return same;
}

static Status place(Arena *arena, const char *path, const Entry *e, const PackageTensor *t, Blob data, const u8 **at)
{
	if (!is(e->dtype, safe_name[t->dtype]))
		return FAIL(STATUS_INPUT, "%s: %s is %.*s, and the library computes with %s; export with these weights", path, t->name,
			    (int)MIN(e->dtype.n, (size_t)16), e->dtype.s ? e->dtype.s : "", safe_name[t->dtype]);
	if (!same_shape(e, t))
		return FAIL(STATUS_INPUT, "%s: %s has another shape than the library's model", path, t->name);
	if (e->ndata != 2 || e->data[0] > e->data[1] || e->data[1] - e->data[0] != t->bytes)
		return FAIL(STATUS_INPUT, "%s is damaged: %s has not the bytes of its shape", path, t->name);
	if (e->data[1] > data.n)
		return FAIL(STATUS_INPUT, "%s is cut short: %s ends at byte %llu of the data, and there are %llu", path, t->name,
			    (unsigned long long)e->data[1], (unsigned long long)data.n);
	const u8 *from = data.p + e->data[0];
	bool aligned = (uintptr_t)from % element[t->dtype] == 0;
	*at = aligned ? from : arena_copy(arena, from, 1, t->bytes, 64);
	return OK;
}

/* A file's header, and the data behind it. */
static Status parts(const char *path, Blob file, Json *j, Blob *data)
{
	u64 header = 0;
	if (file.n >= 8)
		memcpy(&header, file.p, 8);
	if (file.n < 8 || header > file.n - 8)
		return FAIL(STATUS_INPUT, "%s is no safetensors file, or is cut short", path);
	*j = (Json){ (const char *)file.p + 8, (const char *)file.p + 8 + header, false };
	*data = (Blob){ file.p + 8 + header, file.n - 8 - header };
	return OK;
}

Status library_weights_find(Arena *arena, const char *path, const LibraryWeights *w, const Package *p, const u8 **at)
{
	Json j;
	Blob data;
	TRY(parts(path, w->bytes, &j, &data));
	expect(&j, '{');
	while (!j.wrong && peek(&j) != '}') {
		Entry e = { .name = text(&j) };
		expect(&j, ':');
		if (is(e.name, "__metadata__"))
			texts(&j, "", (Str){ 0 });
		else
			read_entry(&j, &e);
		/* files are written in no order that is known: models have hundreds of tensors, not millions */
		for (u32 i = 0; i < p->nbuffer && !j.wrong; i++)
			if (p->buffer[i].kind != PACKAGE_CACHE && is(e.name, p->buffer[i].tensor.name)) {
				TRY(place(arena, path, &e, &p->buffer[i].tensor, data, &at[i]));
				break;
			}
		if (!take(&j, ','))
			break;
	}
	expect(&j, '}');
	if (j.wrong)
		return FAIL(STATUS_INPUT, "%s is damaged: its header cannot be read", path);
	for (u32 i = 0; i < p->nbuffer; i++)
		if (p->buffer[i].kind != PACKAGE_CACHE && !at[i])
			return FAIL(STATUS_INPUT, "%s has no %s, which the library's model has", path, p->buffer[i].tensor.name);
	return OK;
}

/* ---- hashes, which the file itself states (runtime/checkpoint/safetensors.h) ---- */

static Status check(const char *path, const Entry *e, Str hash, Blob data)
{
	int n = (int)MIN(e->name.n, (size_t)200);
	if (e->ndata != 2 || e->data[0] > e->data[1] || e->data[1] > data.n)
		return FAIL(STATUS_INPUT, "%s is damaged or cut short: %.*s is not all there", path, n, e->name.s);
	if (!hash.n)
		return FAIL(STATUS_INPUT, "%s states no hash of %.*s, as files that Plinth writes do", path, n, e->name.s);
	XXH128_canonical_t is;
	XXH128_canonicalFromHash(&is, XXH3_128bits(data.p + e->data[0], e->data[1] - e->data[0]));
	bool same = hash.n == 2 * sizeof is.digest;
	for (u32 i = 0; same && i < sizeof is.digest; i++)
		same = hash.s[2 * i] == "0123456789abcdef"[is.digest[i] >> 4] && hash.s[2 * i + 1] == "0123456789abcdef"[is.digest[i] & 15];
	return same ? OK : FAIL(STATUS_INPUT, "%s is damaged: %.*s has other bytes than were written", path, n, e->name.s);
}

Status library_weights_verify(const char *path, Blob file)
{
	Json j;
	Blob data;
	TRY(parts(path, file, &j, &data));
	const char *stated = NULL;
	/* what is stated stands before or behind the tensors: it is looked for first */
	for (u32 pass = 0; pass < 2; pass++) {
		Json k = j;
		expect(&k, '{');
		while (!k.wrong && peek(&k) != '}') {
			Entry e = { .name = text(&k) };
			expect(&k, ':');
			if (is(e.name, "__metadata__")) {
				stated = k.at;
				texts(&k, "", (Str){ 0 });
			} else {
				read_entry(&k, &e);
				Json m = { stated, stated ? k.end : NULL, false };
				if (pass && !k.wrong)
					TRY(check(path, &e, stated ? texts(&m, "xxh3-128:", e.name) : (Str){ 0 }, data));
			}
			if (!take(&k, ','))
				break;
		}
		expect(&k, '}');
		if (k.wrong)
			return FAIL(STATUS_INPUT, "%s is damaged: its header cannot be read", path);
	}
	return OK;
}
