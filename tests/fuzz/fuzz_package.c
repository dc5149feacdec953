/* tests/fuzz/fuzz_package.c: any bytes at all, given to the reader of packages behind its header, whose hash would
 * keep everything but unaltered files away. What it accepts must be whole: every slot of every step within the arena,
 * every text ended, and the same when it is written and read again. Seeds are packages without their code. */
#include "codegen/package.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check(const Package *p)
{
	for (u32 i = 0; i < p->nbuffer; i++)
		must(p->buffer[i].tensor.offset + p->buffer[i].tensor.bytes <= p->persistent_bytes && strlen(p->buffer[i].tensor.name) < 1u << 21);
	for (u32 i = 0; i < p->nentry; i++) {
		const PackageEntry *e = &p->entry[i];
		must(package_entry(p, e->name) != NULL);
		for (u32 s = 0; s < e->nstep; s++)
			for (u32 k = 0; k < e->step[s].nslot; k++) {
				const PackageSlot *slot = &e->step[s].slot_info[k];
				must(e->step[s].slot[k] + slot->elements <= p->arena_bytes);
				must(slot->place == PACKAGE_TRANSIENT || slot->which < MAX(p->nbuffer, MAX(e->ninput, e->nresult)));
			}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Arena a = ARENA("fuzz");
	PackageFile f, g;
	Status outer = package_file_open(&a, "input", (Blob){ data, size }, &g);
	must(!outer || (outer->code == STATUS_INPUT && strstr(outer->text, "input")));
	if (!package_decode_file(&a, (Blob){ data, size }, &f)) {
		for (u32 i = 0; i < f.nvariant; i++)
			check(&f.variant[i].package);
		Blob once = package_encode_file(&a, &f);
		must(!package_decode_file(&a, once, &g));
		Blob twice = package_encode_file(&a, &g);
		must(once.n == twice.n && !memcmp(once.p, twice.p, once.n));
		Blob file = package_file_bytes(&a, &f);
		must(!package_file_open(&a, "input", file, &g));
	}
	arena_free(&a);
	return 0;
}
