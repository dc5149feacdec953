/* tools/kept.c: see kept.h. A key is a hash of everything that may change what is made: the build of Plinth, the LLVM that it would
 * load, the processor, its caches and tuning, all texts that the source is read from, with their paths, which kernels name, and
 * settings and options. Entries are packages of one variant. */
#include "tools/kept.h"
#include "runtime/cpu/threads.h"
#include "support/build_id.h"
#include "support/cpu_cache.h"
#include "support/cpu_features.h"

#include <stdlib.h>
#include <string.h>

#if PLINTH_LLVM
#include "codegen/cpu/llvm_api.h"
#include "codegen/cpu/tuning.h"

typedef VEC(Blob) Pieces;

static void add(Arena *a, Pieces *p, const void *at, size_t n)
{
	VEC_PUSH(a, p, ((Blob){ at, n }));
}

/* NULL is another text than "". */
static void add_text(Arena *a, Pieces *p, const char *text)
{
	add(a, p, text, text ? strlen(text) + 1 : 0);
}

static void add_options(Arena *a, Pieces *p, const DriverOptions *o)
{
	u64 threads = !o->memory ? 0 : o->threads ? o->threads : threads_usable(); /* the budget counts their memory */
	u64 number[] = { o->nentry, o->entry != NULL, o->scores, o->unchunked, (u64)o->capacity, o->memory, o->accumulate, o->stream_beyond,
			 threads };
	const char *text[] = { o->sizes, o->precision, o->parameters, o->gradients, o->parts, o->store, o->decode_along, o->cpu };
	add(a, p, COPYN(a, u64, number, COUNT(number)), sizeof number);
	for (u32 i = 0; i < COUNT(text); i++)
		add_text(a, p, text[i]);
	for (u32 i = 0; i < o->nentry; i++)
		add_text(a, p, o->entry[i]);
}

/* Of options that ask for none of what is not kept or is beside the way from a source to code for a CPU. */
static bool is_kept(const SourceFile *source, const DriverOptions *o)
{
	bool cpu = !strcmp(o->device ? o->device : driver_default_device(), "cpu");
	bool part = o->shard || o->pipe, study = o->curve || o->sized || o->like || o->machine || o->unplaced || o->look || o->tuning || o->trace;
	return cpu && !part && !study && !o->no_cache && !source->diag.nerror;
}

Kept kept_of(Arena *arena, const SourceFile *source, const DriverOptions *o, Cache *cache)
{
	Blob build = build_id();
	Kept k = { .diag = &source->diag, .nwarning = source->diag.nwarning };
	if (!cache || !build.n || !is_kept(source, o))
		return k;
	Pieces p = { 0 };
	u32 cpu[CPU_WORDS];
	u64 here[] = { threads_usable(), cpu_cache_bytes(1), cpu_cache_bytes(2), cpu_cache_bytes(3), llvm_stamp(),
		       tuning_stamp() };
	add_text(arena, &p, "plinth program 1");
	add(arena, &p, build.p, build.n);
	cpu_words(cpu);
	add(arena, &p, cpu, sizeof cpu);
	add(arena, &p, here, sizeof here);
	add_options(arena, &p, o);
	for (u32 i = 0; i < source->diag.nsource; i++) {
		add_text(arena, &p, source->diag.source[i].path);
		add(arena, &p, source->diag.source[i].text.s, source->diag.source[i].text.n);
	}
	add_text(arena, &p, source->preset);
	for (u32 i = 0; i < source->set.n; i++)
		add_text(arena, &p, source->set.v[i]);
	k.cache = cache;
	k.key = cache_key(p.v, p.n);
	return k;
}

bool kept_find(Arena *arena, const Kept *k, PackageVariant *out)
{
	Blob found;
	PackageFile file;
	if (!k->cache || !cache_get(k->cache, k->key, &found))
		return false;
	Blob bytes = { arena_copy(arena, found.p, 1, found.n, 16), found.n };
	free((void *)(uintptr_t)found.p);
	if (package_decode_file(arena, bytes, &file) || file.nvariant != 1)
		return false;
	*out = file.variant[0];
	return true;
}

void kept_put(Arena *arena, const Kept *k, const PackageVariant *v)
{
	if (!k->cache || k->diag->nwarning != k->nwarning || k->diag->nerror)
		return;
	PackageText none = { .name = "" };
	PackageVariant alone = *v;
	alone.sizes = "";
	PackageFile file = { .model = "", .source = "", .preset = "", .precision = "", .accumulate = 1, .text = &none, .ntext = 1,
			     .variant = &alone, .nvariant = 1 };
	cache_put(k->cache, k->key, package_encode_file(arena, &file));
}

#else

Kept kept_of(Arena *arena, const SourceFile *source, const DriverOptions *o, Cache *cache)
{
	(void)arena, (void)o, (void)cache;
	return (Kept){ .diag = &source->diag };
}

bool kept_find(Arena *arena, const Kept *k, PackageVariant *out)
{
	(void)arena, (void)k, (void)out;
	return false;
}

void kept_put(Arena *arena, const Kept *k, const PackageVariant *v)
{
	(void)arena, (void)k, (void)v;
}
#endif
