/* codegen/cuda/compile.c: from kernels to units of CUDA C and to PTX or machine code; see target.h.
 *
 * A function's text does not say which kernel it is for, so equal kernels of different layers are one function,
 * named by class and a hash of its text. What it serves is said in a comment above it, which the cache's key leaves
 * out. Cheap functions are compiled several to a program: NVRTC's start costs as much as a small kernel. */
#include "codegen/cuda/nvrtc.h"
#include "codegen/cuda/preamble.h"
#include "codegen/cuda/target.h"
#include "support/cores.h"
#include "support/map.h"
#include "support/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	UNIT_FUNCTIONS = 12,
	UNIT_BYTES = 32 << 10, /* of functions' text; one that uses tensor cores counts double */
	MAX_THREADS = 64,
	PARTS = 3, /* of what is kept of a compilation: image, log, PTX */
	PREAMBLES = 9
};
static const char *const preamble_name[PREAMBLES] = {
	"base", "tensor", "hopper", "order", "attention", "attention_plain", "attention_tensor", "attention_tensor_grad", "sized"
};

/* A function (of several phases) and the kernels that it serves. */
typedef struct Function {
	const char *symbol, *text;
	u32 preamble;
	VEC(u32) kernel;
} Function;

/* ---- functions ---- */

static Function emit(const CudaArch *arch, const Kernel *k, const char *name, Arena *arena)
{
	CudaText t = { .arena = arena, .out = { .arena = arena }, .arch = arch };
	cuda_class(arch, k)->emit(&t, k, name);
	return (Function){ .symbol = name, .text = t.out.text, .preamble = t.preamble | PREAMBLE_BASE };
}

static const char *file_of(const Kernel *k)
{
	const Diag *d = k->ir->diag;
	if (!k->loc.line || !d || k->loc.file >= d->nsource)
		return NULL;
	const char *path = d->source[k->loc.file].path, *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static void put_kernel(Buf *b, const Kernel *k)
{
	/* names come from models and tests: nothing in them may end the comment's line */
	for (const char *s = k->name; *s; s++)
		buf_char(b, *s >= ' ' && *s != '\\' ? *s : '_');
	if (file_of(k))
		buf_printf(b, "  %s:%u", file_of(k), k->loc.line);
}

/* "// h.0.mlp.c_fc.gelu  gpt2.plinth:19; also h.1.mlp.c_fc.gelu ... (12 kernels)" */
static const char *comment(Arena *arena, const Function *f, Kernel *const *kernel)
{
	Buf b = { .arena = arena };
	buf_printf(&b, "// ");
	put_kernel(&b, kernel[f->kernel.v[0]]);
	if (f->kernel.n > 1) {
		buf_printf(&b, "; also ");
		put_kernel(&b, kernel[f->kernel.v[1]]);
		buf_printf(&b, "%s (%u kernels)", f->kernel.n > 2 ? " ..." : "", f->kernel.n);
	}
	buf_char(&b, '\n');
	return b.text;
}

/* ---- units ---- */

typedef struct Unit {
	u32 first, last; /* functions of the order */
	u32 preamble;
	const char *content; /* without comments: what the cache's key is of */
	/* results, malloc'ed */
	Blob image;
	char *log, *ptx;
	Failure *failure;
	bool cached;
} Unit;

static void put_preamble(Buf *b, u32 bits)
{
	for (u32 i = 0; i < PREAMBLES; i++) {
		if (!(bits >> i & 1))
			continue;
		const Embedded *p = cuda_preamble_files;
		while (p->name && strcmp(p->name, preamble_name[i]) != 0)
			p++;
		if (!p->name)
			NEVER("a kernel asks for a piece of the preamble that is not there");
		buf_put(b, (Str){ p->text, p->n });
		buf_char(b, '\n');
	}
}

static u32 weight(const Function *f)
{
	u32 n = (u32)strlen(f->text);
	return f->preamble & PREAMBLE_HOPPER ? UNIT_BYTES : f->preamble & PREAMBLE_TENSOR ? 2 * n : n;
}

/* ---- compiling ---- */

typedef struct Work {
	const Nvrtc *nvrtc;
	const char *arch, *real; /* as NVRTC takes it: compute_90a for PTX */
	Cache *cache;
	bool verbose;
	Unit *unit;
	CudaUnit *out;
	u32 n;
	atomic_uint next;
} Work;

static CacheKey key_of(const Work *w, const Unit *u)
{
	Blob piece[24];
	u32 n = 0;
	int head[] = { w->verbose ? 2 : 1 /* of this format */, w->nvrtc->major, w->nvrtc->minor };
	piece[n++] = (Blob){ (const u8 *)head, sizeof head };
	piece[n++] = (Blob){ (const u8 *)w->real, strlen(w->real) };
	piece[n++] = (Blob){ (const u8 *)u->content, strlen(u->content) };
	for (const char *const *o = w->nvrtc->option; *o; o++) {
		assert(n < COUNT(piece));
		piece[n++] = (Blob){ (const u8 *)*o, strlen(*o) };
	}
	return cache_key(piece, n);
}

/* Where logs are wanted they are kept with the image, and so is the PTX: three sizes, and the bytes. */
static void keep_all(Cache *cache, CacheKey key, const Unit *u)
{
	const Blob part[PARTS] = { u->image, { (const u8 *)u->log, strlen(u->log) }, { (const u8 *)u->ptx, u->ptx ? strlen(u->ptx) : 0 } };
	u64 size[PARTS], n = sizeof size;
	for (u32 i = 0; i < PARTS; i++)
		n += size[i] = part[i].n;
	u8 *all = malloc(n), *to = all + sizeof size;
	if (!all)
		return;
	memcpy(all, size, sizeof size);
	for (u32 i = 0; i < PARTS; to += size[i++])
		if (size[i])
			memcpy(to, part[i].p, size[i]);
	cache_put(cache, key, (Blob){ all, n });
	free(all);
}

static u8 *copy_text(const u8 *from, u64 n)
{
	u8 *to = calloc(1, n + 1);
	if (!to)
		NEVER("no memory for what NVRTC made");
	memcpy(to, from, n);
	return to;
}

static bool take_all(const Cache *cache, CacheKey key, Unit *u)
{
	Blob all;
	u64 size[PARTS];
	if (!cache_get(cache, key, &all))
		return false;
	memcpy(size, all.p, sizeof size); /* entries are checked when they are read */
	const u8 *from = all.p + sizeof size;
	u->image = (Blob){ copy_text(from, size[0]), size[0] };
	u->log = (char *)copy_text(from + size[0], size[1]);
	u->ptx = size[2] ? (char *)copy_text(from + size[0] + size[1], size[2]) : NULL;
	free((void *)(uintptr_t)all.p);
	return true;
}

static void compile(Work *w, u32 i)
{
	Unit *u = &w->unit[i];
	CacheKey key = { 0 };
	if (w->cache) {
		key = key_of(w, u);
		u->cached = w->verbose ? take_all(w->cache, key, u) : cache_get(w->cache, key, &u->image);
		if (u->cached)
			return;
	}
	NvrtcResult r;
	Status s = nvrtc_compile(w->nvrtc, w->out[i].name, w->out[i].text, w->real, &r);
	if (s) {
		u->failure = malloc(sizeof *u->failure);
		if (u->failure)
			*u->failure = *s;
		return;
	}
	u->image = (Blob){ r.image, r.size };
	u->log = r.log;
	if (w->verbose)
		u->ptx = r.ptx;
	else
		free(r.ptx);
	if (w->cache && w->verbose)
		keep_all(w->cache, key, u);
	else if (w->cache)
		cache_put(w->cache, key, u->image);
}

static void *worker(void *argument)
{
	Work *w = argument;
	u32 i;
	while ((i = atomic_fetch_add(&w->next, 1)) < w->n)
		compile(w, i);
	return NULL;
}

static Status compile_all(Work *w, u32 threads, Arena *arena, CudaCode *out)
{
	pthread_t thread[MAX_THREADS];
	if (!threads)
		threads = cores_usable();
	threads = MIN(MIN(threads, MAX_THREADS), w->n);
	u32 started = 0;
	/* the caller works too; where no thread is to be had, it works alone */
	while (started + 1 < threads && pthread_create(&thread[started], NULL, worker, w) == 0)
		started++;
	worker(w);
	for (u32 i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	Status failed = OK;
	for (u32 i = 0; i < w->n; i++) {
		Unit *u = &w->unit[i];
		if (u->failure && !failed)
			failed = FAIL(u->failure->code, "%s", u->failure->text);
		if (u->image.p) {
			out->unit[i].image = arena_copy(arena, u->image.p, 1, u->image.n + 1, 16);
			((u8 *)out->unit[i].image)[u->image.n] = 0;
			out->unit[i].size = u->image.n;
		}
		out->unit[i].log = u->log ? arena_printf(arena, "%s", u->log) : "";
		*(u->cached ? &out->cached : &out->compiled) += 1;
		free((void *)(uintptr_t)u->image.p);
		out->unit[i].ptx = u->ptx ? arena_printf(arena, "%s", u->ptx) : NULL;
		free(u->log);
		free(u->ptx);
		free(u->failure);
	}
	if (w->cache)
		cache_trim(w->cache);
	return failed;
}

/* ---- all of it ---- */

Status cuda_code(const CudaArch *arch, const CudaOptions *options, Kernel *const *kernel, u32 n, Arena *arena,
		 CudaCode *out)
{
	f64 start = clock_seconds();
	*out = (CudaCode){ .unit_of = NEWN(arena, u32, n + 1), .symbol = NEWN(arena, const char *, n + 1) };
	Function *function = NEWN(arena, Function, n + 1);
	u32 nfunction = 0, *function_of = NEWN(arena, u32, n + 1);
	Map known = { .arena = arena };
	for (u32 i = 0; i < n; i++) {
		const Kernel *k = kernel[i];
		const char *why = cuda_refusal(arch, k);
		if (why)
			return FAIL(STATUS_UNSUPPORTED, "kernel %s (%s): %s", k->name, kernel_class_name[k->class], why);
		if (k->class == KERNEL_COLLECTIVE)
			continue;
		Arena tmp = ARENA("text");
		Function plain = emit(arch, k, "kernel", &tmp);
		u64 h = hash_bytes(HASH_SEED, plain.text, strlen(plain.text));
		arena_free(&tmp);
		const u64 *seen = map_get(&known, h);
		if (!seen) {
			map_put(&known, h, nfunction);
			function[nfunction++] = emit(arch, k,
						     arena_printf(arena, "%s_%010llx", kernel_class_name[k->class],
								  (unsigned long long)(h >> 24)),
						     arena);
		}
		function_of[i] = seen ? (u32)*seen : nfunction - 1;
		Function *f = &function[function_of[i]];
		VEC_PUSH(arena, &f->kernel, i);
		out->symbol[i] = f->symbol;
	}
	/* units: functions in order, as long as they fit together */
	Unit *unit = NEWN(arena, Unit, nfunction + 1);
	out->unit = NEWN(arena, CudaUnit, nfunction + 1);
	u32 *unit_of = NEWN(arena, u32, nfunction + 1), bytes = 0;
	for (u32 i = 0; i < nfunction; i++) {
		u32 more = weight(&function[i]);
		Unit *u = out->nunit ? &unit[out->nunit - 1] : NULL;
		if (!u || i - u->first >= UNIT_FUNCTIONS || bytes + more > UNIT_BYTES) {
			u = &unit[out->nunit++];
			u->first = i;
			bytes = 0;
		}
		u->last = i + 1;
		u->preamble |= function[i].preamble;
		bytes += more;
		unit_of[i] = out->nunit - 1;
	}
	for (u32 i = 0; i < out->nunit; i++) {
		Buf text = { .arena = arena }, content = { .arena = arena };
		put_preamble(&text, unit[i].preamble);
		put_preamble(&content, unit[i].preamble);
		for (u32 j = unit[i].first; j < unit[i].last; j++) {
			buf_put(&text, str_of(comment(arena, &function[j], kernel)));
			buf_printf(&text, "%s\n", function[j].text);
			buf_printf(&content, "%s\n", function[j].text);
		}
		out->unit[i] = (CudaUnit){ .name = function[unit[i].first].symbol, .text = text.text, .log = "" };
		unit[i].content = content.text;
		out->text_bytes += text.n;
	}
	for (u32 i = 0; i < n; i++)
		out->unit_of[i] = unit_of[function_of[i]];
	out->seconds_emit = clock_seconds() - start;
	if (options->output == CUDA_TEXT || !out->nunit)
		return OK;
	start = clock_seconds();
	Work w = { .cache = options->cache, .verbose = options->verbose, .unit = unit, .out = out->unit, .n = out->nunit };
	TRY(nvrtc_open(&w.nvrtc));
	w.real = options->output == CUDA_PTX ? arena_printf(arena, "compute_%s", arch->name + 3) : arch->name;
	TRY(compile_all(&w, options->threads, arena, out));
	out->seconds_compile = clock_seconds() - start;
	return OK;
}
