/* runtime/cuda/matmul.c: matrix products that both generated code and cuBLASLt can do: which of them does each, and by
 * which of the library's algorithms. Measured once for each kind of product on the device at hand, before the first
 * run, and kept on disk under the names of the device, of both versions and of the product.
 *
 * Another choice may give other bits (sums in another order), so choices are recorded with every checkpoint, and a
 * resume repeats them or says that it cannot. */
#include "runtime/cuda/cuda.h"
#include "support/cache.h"
#include "support/map.h"

#include <stdlib.h>
#include <string.h>

enum { WORKSPACE = 32 << 20, ROUNDS = 3 };

/* What is kept of a measurement. */
typedef struct Verdict {
	u32 way;     /* of all */
	u32 library; /* the better one of those that have the library in them; CUDA_BY_CODE: there is none */
	u32 exists;  /* which of those there are, bits */
	CublasAlgorithm algorithm[CUDA_WAYS];
	f64 seconds[CUDA_WAYS]; /* 0: was not there */
} Verdict;

/* ---- what a product is ---- */

static const char *matrix_text(Arena *a, const PackageMatrix *x)
{
	static const char *const name[] = { "b1", "u8", "u32", "i8", "i32", "i64", "f8e4m3", "f8e5m2", "f16", "bf16", "f32", "f64" };
	u64 align = 256;
	while (x->offset % align)
		align /= 2;
	return arena_printf(a, "%s:%lld:%lld:%lld@%llu", name[x->dtype], (long long)x->row, (long long)x->column, (long long)x->batch,
			    (unsigned long long)align);
}

/* All that the choice may depend on: equal products have equal texts. */
static const char *key_of(Arena *a, const PackageStep *s)
{
	static const char *const epilogue[] = { "none", "bias", "gelu", "dgelu" };
	static const char *const sum[] = { "", " sum of a", " sum of b" };
	const PackageMatmul *m = s->matmul;
	Buf b = { .arena = a };
	buf_printf(&b, "matmul %lldx%lldx%lld", (long long)m->m, (long long)m->n, (long long)m->k);
	if (m->batch > 1)
		buf_printf(&b, " batch %lld", (long long)m->batch);
	buf_printf(&b, " a=%s b=%s d=%s", matrix_text(a, &m->a), matrix_text(a, &m->b), matrix_text(a, &m->d));
	if (m->has_c)
		buf_printf(&b, " c=%s", matrix_text(a, &m->c));
	if (m->has_aux)
		buf_printf(&b, " aux=%s", matrix_text(a, &m->aux));
	if (m->has_bias)
		buf_printf(&b, " bias=%u", m->bias_dtype);
	if (m->nscale)
		buf_printf(&b, " scales=%u", m->nscale);
	buf_printf(&b, " %s%s", epilogue[m->epilogue], sum[m->sum_of]);
	/* two generated kernels of one shape differ in what else they do */
	if (s->grid)
		buf_printf(&b, " %s", s->grid[0].symbol);
	return b.text;
}

static CacheKey cache_key_of(const Cuda *c, const char *key)
{
	u64 number[] = { 3 /* of this format */, (u64)c->d->number, cublas_version(c->cublas) };
	Blob piece[] = { { (const u8 *)key, strlen(key) },
			 { (const u8 *)c->info.name, strlen(c->info.name) },
			 { (const u8 *)PLINTH_VERSION, strlen(PLINTH_VERSION) },
			 { (const u8 *)number, sizeof number } };
	return cache_key(piece, COUNT(piece));
}

/* ---- measuring ---- */

/* Numbers of usual size with random digits: power, and with it speed, depends on how many bits change. The pattern is
 * between 1/2 and 2, with either sign, as bf16, f16 and f32 alike; in 8 bits some of these are no numbers, and for them it is
 * one of bytes: of f8e4m3 between 1/2 and 2 too, of f8e5m2 between 1/8 and 2. */
static Status fill(Cuda *c, CudaAddress at, u64 bytes, u8 dtype)
{
	const u16 same = package_is_f8(dtype) ? 0x3030 : 0x3f00, random = package_is_f8(dtype) ? 0x8f8f : 0x80ff;
	enum { PATTERN = 1 << 16 };
	u64 first = MIN(bytes, (u64)PATTERN), state = 1;
	u16 *pattern = malloc(PATTERN);
	if (!pattern)
		return FAIL(STATUS_MEMORY, "no memory for a measurement");
	for (u32 i = 0; i < PATTERN / sizeof *pattern; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		pattern[i] = (u16)(same | (state >> 40 & random));
	}
	int code = c->d->to_device(at, pattern, first, c->stream);
	/* then twice as much each time */
	for (u64 done = first; done < bytes && !code; done *= 2)
		code = c->d->on_device(at + done, at, MIN(done, bytes - done), c->stream);
	int waited = c->d->stream_synchronize(c->stream);
	free(pattern);
	CU(c->d, "fill memory", code ? code : waited);
	return OK;
}

/* Seconds of one launch: the least of a few, after one that warms up. */
static Status measure(Cuda *c, const CudaStep *s, f64 *out)
{
	*out = 0;
	TRY(cuda_launch(c, s));
	for (u32 i = 0; i < ROUNDS; i++) {
		f32 milliseconds = 0;
		CU(c->d, "time a product", c->d->event_record(c->from, c->stream));
		TRY(cuda_launch(c, s));
		CU(c->d, "time a product", c->d->event_record(c->to, c->stream));
		CU(c->d, "time a product", c->d->event_synchronize(c->to));
		CU(c->d, "time a product", c->d->event_elapsed(&milliseconds, c->from, c->to));
		f64 seconds = (f64)milliseconds * 1e-3;
		*out = *out > 0 ? MIN(*out, seconds) : seconds;
	}
	return OK;
}

/* The fastest of the library's algorithms, this way. */
static Status measure_library(Cuda *c, const CudaStep *s, CudaWay way, Verdict *v)
{
	CublasAlgorithm proposal[CUBLAS_PROPOSALS];
	CudaStep so = *s;
	u32 n = 0;
	so.way = way;
	if (s->matmul[way])
		TRY(cublas_propose(c->cublas, s->matmul[way], c->workspace_bytes, proposal, &n));
	for (u32 i = 0; i < n; i++) {
		f64 seconds;
		cublas_choose(s->matmul[way], &proposal[i]);
		/* one that does not run is not a candidate */
		if (measure(c, &so, &seconds))
			continue;
		if (v->exists >> way & 1 && seconds >= v->seconds[way])
			continue;
		v->exists |= 1u << way;
		v->algorithm[way] = proposal[i];
		v->seconds[way] = seconds;
	}
	return OK;
}

/* All that an operand reaches over, from its first element to its last. */
static u64 reach(const PackageMatrix *x, i64 rows, i64 columns, i64 batch)
{
	return (u64)((rows - 1) * x->row + (columns - 1) * x->column + (batch - 1) * x->batch) + 1;
}

/* Operands of 8 bits, with their own pattern or with the one that all memory has. */
static Status fill_operands(Cuda *c, const PackageMatmul *m, bool own)
{
	TRY(fill(c, c->arena + m->a.offset, reach(&m->a, m->m, m->k, m->batch), own ? m->a.dtype : PACKAGE_BF16));
	return fill(c, c->arena + m->b.offset, reach(&m->b, m->k, m->n, m->batch), own ? m->b.dtype : PACKAGE_BF16);
}

static Status decide(Cuda *c, const CudaStep *s, Verdict *v)
{
	bool f8 = package_is_f8(s->step->matmul->a.dtype);
	if (f8)
		TRY(fill_operands(c, s->step->matmul, true));
	*v = (Verdict){ .library = CUDA_BY_CODE };
	for (u32 way = CUDA_BY_LIBRARY; way < CUDA_WAYS; way++) {
		TRY(measure_library(c, s, way, v));
		if (v->exists >> way & 1 && (v->library == CUDA_BY_CODE || v->seconds[way] < v->seconds[v->library]))
			v->library = way;
	}
	CudaStep generated = *s;
	generated.way = CUDA_BY_CODE;
	if (v->library != CUDA_BY_CODE && s->step->grid)
		TRY(measure(c, &generated, &v->seconds[CUDA_BY_CODE]));
	/* what is about as fast is not worth bits that depend on a library's version */
	bool worth = !s->step->grid || v->seconds[v->library] < 0.97 * v->seconds[CUDA_BY_CODE];
	v->way = worth ? v->library : CUDA_BY_CODE;
	return f8 ? fill_operands(c, s->step->matmul, false) : OK;
}

/* ---- choosing ---- */

/* Where the library must do it and cannot. */
static Status impossible(const CudaStep *s)
{
	return FAIL(STATUS_UNSUPPORTED, "%s (%s:%u): no code was generated for this product, and cuBLASLt has no algorithm for it",
		    s->step->name, s->step->file, s->step->line);
}

static Status settle(Cuda *c, CudaStep *s, const Verdict *v)
{
	bool must = !s->step->grid;
	if (must && v->library == CUDA_BY_CODE)
		return impossible(s);
	s->way = must || c->options.matmul == MATMUL_LIBRARY ? v->library : c->options.matmul == MATMUL_MEASURE ? v->way : CUDA_BY_CODE;
	if (s->way != CUDA_BY_CODE)
		cublas_choose(s->matmul[s->way], &v->algorithm[s->way]);
	return OK;
}

/* The step's product as the library has it: with the sum beside it, and without where generated code can add that. */
static Status describe(Cuda *c, CudaStep *s)
{
	const PackageMatmul *m = s->step->matmul;
	TRY(cublas_matmul(c->cublas, &c->memory, m, &s->matmul[CUDA_BY_LIBRARY]));
	if (!m->sum_of || !s->step->grid)
		return OK;
	PackageMatmul *alone = COPYN(&c->memory, PackageMatmul, m, 1);
	alone->sum_of = PACKAGE_SUM_NONE;
	return cublas_matmul(c->cublas, &c->memory, alone, &s->matmul[CUDA_BY_BOTH]);
}

static Status verdict(Cuda *c, Cache *cache, Map *known, const CudaStep *s, const Verdict **out)
{
	u64 hash = hash_bytes(HASH_SEED, s->key, strlen(s->key)), *at = map_get(known, hash);
	if (at) {
		*out = (const Verdict *)(uintptr_t)*at;
		return OK;
	}
	Verdict *v = NEW(&c->memory, Verdict);
	CacheKey key = cache_key_of(c, s->key);
	Blob kept = { 0 };
	if (cache && cache_get(cache, key, &kept) && kept.n == sizeof *v) {
		memcpy(v, kept.p, sizeof *v);
	} else {
		TRY(decide(c, s, v));
		if (cache)
			cache_put(cache, key, (Blob){ (const u8 *)v, sizeof *v });
	}
	free((void *)(uintptr_t)kept.p);
	map_put(known, hash, MAP_KEY(v));
	*out = v;
	return OK;
}

static bool wants(const Cuda *c, const PackageStep *s)
{
	return s->matmul && (!s->grid || c->options.matmul != MATMUL_GENERATED);
}

#define EACH_STEP(c, s)                                                  \
	for (u32 e_ = 0; e_ < (c)->package->nentry; e_++)                \
		for (CudaStep *s = (c)->entry[e_].step, *end_ = s + (c)->entry[e_].entry->nstep; s < end_; s++)

Status cuda_matmuls_open(Cuda *c)
{
	bool any = false, must = false;
	EACH_STEP(c, s) {
		if (!s->step->matmul)
			continue;
		s->key = key_of(&c->memory, s->step);
		any |= wants(c, s->step);
		must |= !s->step->grid;
	}
	if (!any)
		return OK;
	Status status = cublas_open(&c->cublas);
	if (status && !must && c->options.matmul == MATMUL_MEASURE)
		return OK; /* what is there is used; describe() says so */
	TRY(status);
	CU(c->d, "have a workspace for matrix products", c->d->allocate(&c->workspace, WORKSPACE));
	c->workspace_bytes = WORKSPACE;
	TRY(fill(c, c->arena, c->package->arena_bytes, PACKAGE_BF16));
	Arena tmp = ARENA("matmuls");
	Cache *cache;
	if (cache_open(&tmp, NULL, 0, &cache))
		cache = NULL;
	Map known = { .arena = &tmp };
	EACH_STEP(c, s) {
		const Verdict *v;
		if (status || !wants(c, s->step))
			continue;
		status = describe(c, s);
		if (!status)
			status = verdict(c, cache, &known, s, &v);
		if (!status)
			status = settle(c, s, v);
	}
	arena_free(&tmp);
	return status;
}

/* ---- the record ---- */

static const char *const way_text[CUDA_WAYS] = { "generated", "library ", "library, sum generated " };

/* "generated", or "library <device>; <version> <workspace> <algorithm's words>". */
static const char *record(const Cuda *c, Arena *a, const CudaStep *s)
{
	Buf b = { .arena = a };
	buf_printf(&b, "%s", way_text[s->way]);
	if (s->way == CUDA_BY_CODE)
		return b.text;
	const CublasAlgorithm *x = cublas_chosen(s->matmul[s->way]);
	buf_printf(&b, "%s; %llu %llu", c->info.name, (unsigned long long)cublas_version(c->cublas), (unsigned long long)x->workspace);
	for (u32 i = 0; i < COUNT(x->algorithm); i++)
		buf_printf(&b, " %llx", (unsigned long long)x->algorithm[i]);
	return b.text;
}

u32 cuda_matmuls_choices(const Cuda *c, Arena *a, const DeviceChoice **out)
{
	u32 most = 0, n = 0;
	for (u32 e = 0; e < c->package->nentry; e++)
		most += c->package->entry[e].nstep;
	DeviceChoice *choice = NEWN(a, DeviceChoice, most + 1);
	Map seen = { .arena = a };
	EACH_STEP(c, s) {
		if (!s->key)
			continue;
		u64 hash = hash_bytes(HASH_SEED, s->key, strlen(s->key));
		if (map_get(&seen, hash))
			continue;
		map_put(&seen, hash, n);
		choice[n++] = (DeviceChoice){ arena_strn(a, str_of(s->key)), record(c, a, s) };
	}
	*out = choice;
	return n;
}

static Status repeat(Cuda *c, CudaStep *s, const char *chosen)
{
	CudaWay way = CUDA_BY_CODE;
	while (way < CUDA_WAYS && strncmp(chosen, way_text[way], strlen(way_text[way])) != 0)
		way++;
	if (way == CUDA_BY_CODE) {
		if (!s->step->grid)
			return impossible(s);
		s->way = way;
		return OK;
	}
	const char *semicolon = strchr(chosen, ';');
	unsigned long long version = 0, workspace = 0, word[8];
	int n = semicolon ? sscanf(semicolon + 1, "%llu %llu %llx %llx %llx %llx %llx %llx %llx %llx", &version, &workspace, &word[0],
				   &word[1], &word[2], &word[3], &word[4], &word[5], &word[6], &word[7]) :
			    0;
	if (n != 10 || way == CUDA_WAYS)
		return FAIL(STATUS_INPUT, "the choice recorded for '%s' is of no kind that is known: %s", s->key, chosen);
	const char *device = chosen + strlen(way_text[way]);
	int length = (int)(semicolon - device);
	if ((size_t)length != strlen(c->info.name) || strncmp(device, c->info.name, strlen(c->info.name)) || !s->matmul[way] ||
	    version != cublas_version(c->cublas) || workspace > c->workspace_bytes)
		return FAIL(STATUS_UNSUPPORTED,
			    "its matrix products were made by cuBLASLt %llu on %.*s, and this is %llu on %s: going on would not give the same "
			    "numbers; use that version and kind of GPU, or start a new run from its parameters with --weights",
			    version, length, device, c->cublas ? (unsigned long long)cublas_version(c->cublas) : 0, c->info.name);
	CublasAlgorithm x = { .workspace = workspace };
	for (u32 i = 0; i < COUNT(x.algorithm); i++)
		x.algorithm[i] = word[i];
	cublas_choose(s->matmul[way], &x);
	s->way = way;
	return OK;
}

Status cuda_matmuls_choose(Cuda *c, const DeviceChoice *choice, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		bool found = false;
		EACH_STEP(c, s) {
			if (!s->key || strcmp(s->key, choice[i].what))
				continue;
			TRY(repeat(c, s, choice[i].chosen));
			found = true;
		}
		if (!found)
			return FAIL(STATUS_UNSUPPORTED, "a choice was recorded for '%s', which this program does not have", choice[i].what);
	}
	cuda_drop_graphs(c);
	return OK;
}

/* ---- the measured peak ---- */

/* d = a b of n x n, in memory of its own; of 8 bits with K fastest in both, and a result of bf16. */
static Status time_square(Cuda *c, Cublas *lt, PackageDtype dtype, i64 n, f64 *seconds)
{
	bool f8 = package_is_f8((u8)dtype);
	u64 size = f8 ? 1 : dtype == PACKAGE_F32 ? 4 : 2, bytes = ALIGN_UP((u64)(n * n) * size, (u64)256);
	u64 result = f8 ? 2 * bytes : bytes;
	CudaAddress at = 0, workspace = 0;
	PackageMatrix x = { .dtype = (u8)dtype, .row = n, .column = 1 }, y = x, z = x;
	if (f8) {
		y.row = 1;
		y.column = n;
		z.dtype = PACKAGE_BF16;
	}
	y.offset = bytes;
	z.offset = 2 * bytes;
	PackageMatmul m = { .m = n, .n = n, .k = n, .batch = 1, .a = x, .b = y, .d = z, .compute = (u8)dtype };
	PackageStep step = { .matmul = &m, .name = "peak", .file = "" };
	Cuda square = *c;
	Verdict v = { 0 };
	square.cublas = lt;
	CudaStep s = { .step = &step };
	CU(c->d, "have memory for a measurement", c->d->allocate(&at, 2 * bytes + result));
	int code = c->d->allocate(&workspace, WORKSPACE);
	Status status = code ? cuda_failed(c->d, code, "have memory for a measurement") : OK;
	square.arena = at;
	square.workspace = workspace;
	square.workspace_bytes = WORKSPACE;
	if (!status)
		status = fill(c, at, 2 * bytes + result, (u8)dtype);
	if (!status)
		status = cublas_matmul(lt, &c->memory, &m, &s.matmul[CUDA_BY_LIBRARY]);
	if (!status)
		status = measure_library(&square, &s, CUDA_BY_LIBRARY, &v);
	c->d->stream_synchronize(c->stream);
	c->d->release(at);
	if (workspace)
		c->d->release(workspace);
	*seconds = v.seconds[CUDA_BY_LIBRARY];
	return status;
}

/* Larger squares until one takes long enough to fill the device. Of 8 bits the library proposes nothing below compute capability 8.9. */
f64 cuda_matmuls_peak(Cuda *c, PackageDtype dtype)
{
	enum { LEAST = 512, MOST = 8192 };
	Cublas *lt = NULL;
	f64 best = 0, seconds = 0;
	if (cublas_open(&lt))
		return 0;
	for (i64 n = LEAST; n <= MOST && seconds < 1e-3; n *= 2) {
		if (time_square(c, lt, dtype, n, &seconds) || seconds <= 0)
			break;
		best = MAX(best, 2 * (f64)n * (f64)n * (f64)n / seconds);
	}
	cublas_close(lt);
	return best;
}
