/* support/build_id.c: see build_id.h. */
#include "support/build_id.h"

#include <elf.h>
#include <link.h>
#include <string.h>

/* The first object that is told of is the program itself: its build ID, a hash of all that was linked. */
static int find(struct dl_phdr_info *info, size_t size, void *out)
{
	(void)size;
	for (u32 i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		const u8 *at = (const u8 *)(info->dlpi_addr + h->p_vaddr), *end = at + h->p_memsz;
		while (h->p_type == PT_NOTE && at + sizeof(ElfW(Nhdr)) <= end) {
			const ElfW(Nhdr) *n = (const void *)at;
			const u8 *name = at + sizeof *n, *text = name + ALIGN_UP(n->n_namesz, 4);
			if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == 4 && !memcmp(name, "GNU", 4))
				*(Blob *)out = (Blob){ text, n->n_descsz };
			at = text + ALIGN_UP(n->n_descsz, 4);
		}
	}
	return 1;
}

Blob build_id(void)
{
	Blob id = { 0 };
	dl_iterate_phdr(find, &id);
	return id;
}
