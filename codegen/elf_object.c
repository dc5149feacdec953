/* codegen/elf_object.c: static libraries, and objects that hold nothing but data; see elf.h. An archive is in the
 * System V form that GNU and LLVM linkers read: an index of symbols, a table of long names, the members. */
#include "codegen/elf.h"
#include "support/str.h"
#include "support/vec.h"

#include <ar.h>
#include <elf.h>
#include <string.h>

/* ---- archives ---- */

static void put_member(u8 *at, const char *name, u64 size)
{
	char text[128];
	/* no dates and owners: the same input gives the same bytes */
	int n = snprintf(text, sizeof text, "%-16s%-12d%-6d%-6d%-8s%-10llu" ARFMAG, name, 0, 0, 0, "644", (unsigned long long)size);
	assert(n == sizeof(struct ar_hdr));
	memcpy(at, text, (size_t)n);
}

static void put_big_endian(u8 *at, u64 x)
{
	for (u32 i = 0; i < 8; i++)
		at[i] = (u8)(x >> (56 - 8 * i));
}

typedef struct Indexed {
	u32 object;
	const char *name;
} Indexed;
typedef VEC(Indexed) Index;

static void index_object(Arena *a, const ObjectFile *file, u32 object, Index *index)
{
	const u8 *bytes = file->bytes.p;
	const Elf64_Ehdr *h = (const void *)bytes;
	const Elf64_Shdr *section = (const void *)(bytes + h->e_shoff);
	for (u32 i = 0; i < h->e_shnum; i++) {
		if (section[i].sh_type != SHT_SYMTAB)
			continue;
		const Elf64_Sym *s = (const void *)(bytes + section[i].sh_offset);
		const char *names = (const char *)bytes + section[section[i].sh_link].sh_offset;
		for (u64 k = 1; k < section[i].sh_size / sizeof *s; k++)
			if (ELF64_ST_BIND(s[k].st_info) != STB_LOCAL && s[k].st_shndx != SHN_UNDEF)
				VEC_PUSH(a, index, (Indexed){ object, names + s[k].st_name });
	}
}

Status elf_archive(Arena *arena, const ObjectFile *object, u32 n, Blob *out)
{
	enum { HEADER = sizeof(struct ar_hdr) };
	Index index = { 0 };
	u64 *at = NEWN(arena, u64, n + 1), index_bytes = 8, size = SARMAG;
	Buf names = { .arena = arena };
	u32 *name = NEWN(arena, u32, n + 1);
	for (u32 i = 0; i < n; i++) {
		index_object(arena, &object[i], i, &index);
		name[i] = (u32)names.n;
		buf_printf(&names, "%s/\n", object[i].name);
	}
	for (u32 i = 0; i < index.n; i++)
		index_bytes += 8 + strlen(index.v[i].name) + 1;
	index_bytes = ALIGN_UP(index_bytes, 8);
	if (names.n & 1)
		buf_char(&names, '\n');
	u64 names_at = size + HEADER + index_bytes;
	size = names_at + HEADER + names.n;
	for (u32 i = 0; i < n; i++) {
		at[i] = size;
		size = ALIGN_UP(size + HEADER + object[i].bytes.n, 2);
	}
	u8 *to = arena_push(arena, 1, size, 16);
	memcpy(to, ARMAG, SARMAG);
	put_member(to + SARMAG, "/SYM64/", index_bytes);
	u8 *p = to + SARMAG + HEADER;
	put_big_endian(p, index.n);
	char *text = (char *)p + 8 + 8 * (u64)index.n;
	for (u32 i = 0; i < index.n; i++) {
		put_big_endian(p + 8 + 8 * (u64)i, at[index.v[i].object]);
		text = stpcpy(text, index.v[i].name) + 1;
	}
	put_member(to + names_at, "//", names.n);
	memcpy(to + names_at + HEADER, names.text, names.n);
	for (u32 i = 0; i < n; i++) {
		put_member(to + at[i], arena_printf(arena, "/%u", name[i]), object[i].bytes.n);
		memcpy(to + at[i] + HEADER, object[i].bytes.p, object[i].bytes.n);
		if (object[i].bytes.n & 1)
			to[at[i] + HEADER + object[i].bytes.n] = '\n';
	}
	*out = (Blob){ to, size };
	return OK;
}

/* ---- data ---- */

Blob elf_data_object(Arena *arena, Blob like, const ElfData *data, u32 n)
{
	enum { UNUSED_, RODATA, SYMBOLS, NAMES, STRINGS, STACK, SECTIONS };
	static const char section_names[] = "\0.rodata\0.symtab\0.strtab\0.shstrtab\0.note.GNU-stack";
	static const u32 name[] = { 0, 1, 9, 17, 25, 35 };
	Elf64_Sym *symbol = NEWN(arena, Elf64_Sym, n + 2);
	Buf names = { .arena = arena };
	buf_char(&names, 0);
	u64 bytes = 0;
	for (u32 i = 0; i < n; i++) {
		symbol[1 + i] = (Elf64_Sym){ .st_name = (u32)names.n, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
					     .st_other = STV_HIDDEN, .st_shndx = RODATA, .st_value = bytes, .st_size = data[i].bytes.n };
		buf_put(&names, str_of(data[i].symbol));
		buf_char(&names, 0);
		bytes = ALIGN_UP(bytes + data[i].bytes.n, 64);
	}
	Elf64_Shdr s[SECTIONS] = { { 0 } };
	u64 at = 64;
	for (u32 i = 1; i < SECTIONS; i++) {
		u64 size = i == RODATA ? bytes : i == SYMBOLS ? (n + 1) * sizeof *symbol : i == NAMES ? names.n : i == STRINGS ? sizeof section_names : 0;
		s[i] = (Elf64_Shdr){ .sh_name = name[i], .sh_type = i == SYMBOLS ? SHT_SYMTAB : i == NAMES || i == STRINGS ? SHT_STRTAB : SHT_PROGBITS,
				     .sh_offset = at, .sh_size = size, .sh_addralign = i == RODATA ? 64 : i == SYMBOLS ? 8 : 1 };
		at = ALIGN_UP(at + size, 64);
	}
	s[RODATA].sh_flags = SHF_ALLOC;
	s[SYMBOLS].sh_link = NAMES;
	s[SYMBOLS].sh_info = 1;
	s[SYMBOLS].sh_entsize = sizeof *symbol;
	u8 *to = arena_push(arena, 1, at + sizeof s, 64);
	*(Elf64_Ehdr *)(void *)to = (Elf64_Ehdr){
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_type = ET_REL,
		.e_machine = ((const Elf64_Ehdr *)(const void *)like.p)->e_machine, .e_version = EV_CURRENT, .e_shoff = at,
		.e_ehsize = sizeof(Elf64_Ehdr), .e_shentsize = sizeof *s, .e_shnum = SECTIONS, .e_shstrndx = STRINGS
	};
	for (u32 i = 0; i < n; i++)
		if (data[i].bytes.n)
			memcpy(to + s[RODATA].sh_offset + symbol[1 + i].st_value, data[i].bytes.p, data[i].bytes.n);
	memcpy(to + s[SYMBOLS].sh_offset, symbol, (n + 1) * sizeof *symbol);
	memcpy(to + s[NAMES].sh_offset, names.text, names.n);
	memcpy(to + s[STRINGS].sh_offset, section_names, sizeof section_names);
	memcpy(to + at, s, sizeof s);
	return (Blob){ to, at + sizeof s };
}
