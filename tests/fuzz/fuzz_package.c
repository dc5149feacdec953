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

/* At sizes that will do, numbers are numbers, and no input or result is larger than at most. */
static void check_sizes(const Package *p, const i64 *size)
{
	if (package_refuses_sizes(p, size))
		return;
	for (u32 i = 0; i < p->nentry; i++) {
		const PackageEntry *e = &p->entry[i];
		for (u32 s = 0; s < e->nstep; s++) {
			i64 *number = calloc(e->step[s].nnumber + 1, sizeof *number);
			package_numbers(p, &e->step[s], size, number);
			free(number);
		}
		Arena tmp = ARENA("layout");
		PackageLayout l = package_layout(&tmp, e);
		package_lay_out(p, e, &l, size, NEWN(&tmp, u64, l.nwhich + 1), NEWN(&tmp, u64, l.nwhich + 1));
		arena_free(&tmp);
		for (u32 t = 0; t < e->ninput; t++)
			must(package_tensor(p, &e->input[t], size).bytes <= e->input[t].bytes);
	}
}

static void check(const Package *p)
{
	i64 least[PACKAGE_AXES] = { 1, 1, 1, 1 }, most[PACKAGE_AXES] = { 0 };
	for (u32 a = 0; a < p->naxis; a++)
		most[a] = p->axis[a].most;
	check_sizes(p, least);
	check_sizes(p, most);
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
