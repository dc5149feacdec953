/* codegen/elf_link.c: objects to a shared library; see elf.h and the System V ABI, "Object Files" and "Program
 * Loading and Dynamic Linking". Offsets in the file are addresses, so that the image is built in place.
 *
 * Two passes over relocations: the first finds what needs an entry in the table of addresses or a stub, and who
 * is imported; then everything has an address, and the second fills in. All is bound when the library is loaded,
 * and the table is read only after that. */
#include "codegen/elf.h"
#include "support/map.h"
#include "support/str.h"
#include "support/vec.h"

#include <elf.h>
#include <string.h>

/* In the order of the image; from RELRO on, writable. */
typedef enum Class { RODATA, TEXT, RELRO, DATA, ZEROS, CLASSES, NOT_LOADED } Class;

typedef struct Object {
	const char *name;
	const u8 *bytes;
	const Elf64_Shdr *section;
	u32 nsection;
	const char *section_name;
	const Elf64_Sym *symbol;
	u32 nsymbol;
	const char *symbol_name;
	Class *class; /* [nsection] */
	u64 *at;      /* [nsection] addresses of those that are loaded */
} Object;

/* What a symbol of an object means in the library. */
typedef struct Target {
	bool imported;
	u32 import;         /* index into Link.import */
	u32 object, symbol; /* who defines it */
} Target;

typedef struct Import {
	const char *name;
	u32 got, stub; /* indices, NONE */
} Import;

typedef struct Link {
	Arena *arena;
	const ElfOptions *o;
	const ElfMachine *machine;
	Object *object;
	u32 n;
	Interner names;
	Map defined;                /* name -> object << 32 | symbol */
	Map imported;               /* name -> index */
	Map table;                  /* of symbols defined here: object << 32 | symbol -> index into got */
	VEC(Import) import;
	VEC(u64) got;               /* UINT64_MAX - import, or object << 32 | symbol */
	u32 nstub;
	u64 nfixed;                 /* relocations that the loader does */
	/* addresses, once laid out */
	u64 begin[CLASSES], end[CLASSES], got_at, stub_at, dynamic_at;
	u8 *image;
	Elf64_Rela *rela;
	u32 nrela;
} Link;

#define NO_INDEX UINT32_MAX

/* ---- objects ---- */

static Class class_of(const Elf64_Shdr *s, const char *name)
{
	bool unwinding = !strcmp(name, ".eh_frame") || s->sh_type == SHT_NOTE;
	if (!(s->sh_flags & SHF_ALLOC) || unwinding)
		return NOT_LOADED;
	if (s->sh_flags & SHF_EXECINSTR)
		return TEXT;
	if (!(s->sh_flags & SHF_WRITE))
		return RODATA;
	if (s->sh_type == SHT_NOBITS)
		return ZEROS;
	return !strncmp(name, ".data.rel.ro", 12) ? RELRO : DATA;
}

static Status open_object(Link *l, const ObjectFile *file, Object *o)
{
	const Elf64_Ehdr *h = (const void *)file->bytes.p;
	assert(((uintptr_t)h & 7) == 0);
	bool fine = file->bytes.n >= sizeof *h && !memcmp(h->e_ident, ELFMAG, SELFMAG) && h->e_ident[EI_CLASS] == ELFCLASS64 &&
		    h->e_ident[EI_DATA] == ELFDATA2LSB && h->e_type == ET_REL;
	if (!fine)
		return FAIL(STATUS_UNSUPPORTED, "%s is no object that can be linked", file->name);
	const ElfMachine *machine = elf_machine(h->e_machine);
	if (!machine || (l->machine && l->machine != machine))
		return FAIL(STATUS_UNSUPPORTED, "%s is for another machine (ELF machine %u)", file->name, h->e_machine);
	l->machine = machine;
	*o = (Object){ .name = file->name, .bytes = file->bytes.p, .section = (const void *)(file->bytes.p + h->e_shoff),
		       .nsection = h->e_shnum };
	o->section_name = (const char *)o->bytes + o->section[h->e_shstrndx].sh_offset;
	o->class = NEWN(l->arena, Class, o->nsection + 1);
	o->at = NEWN(l->arena, u64, o->nsection + 1);
	for (u32 i = 0; i < o->nsection; i++) {
		const Elf64_Shdr *s = &o->section[i];
		const char *name = o->section_name + s->sh_name;
		o->class[i] = class_of(s, name);
		if (s->sh_flags & SHF_TLS || s->sh_type == SHT_INIT_ARRAY || s->sh_type == SHT_FINI_ARRAY)
			return FAIL(STATUS_UNSUPPORTED, "%s has section %s, which the linker does not know", file->name, name);
		if (s->sh_type == SHT_SYMTAB) {
			o->symbol = (const void *)(o->bytes + s->sh_offset);
			o->nsymbol = (u32)(s->sh_size / sizeof *o->symbol);
			o->symbol_name = (const char *)o->bytes + o->section[s->sh_link].sh_offset;
		}
	}
	return OK;
}

static u64 key_of(u32 object, u32 symbol)
{
	return (u64)object << 32 | symbol;
}

static Status define_symbols(Link *l, u32 object)
{
	const Object *o = &l->object[object];
	for (u32 i = 1; i < o->nsymbol; i++) {
		const Elf64_Sym *s = &o->symbol[i];
		u32 bind = ELF64_ST_BIND(s->st_info);
		if (bind == STB_LOCAL || s->st_shndx == SHN_UNDEF)
			continue;
		const char *name = intern_z(&l->names, o->symbol_name + s->st_name);
		if (s->st_shndx == SHN_COMMON)
			return FAIL(STATUS_UNSUPPORTED, "%s: %s has no section (-fno-common gives it one)", o->name, name);
		const u64 *was = map_get(&l->defined, MAP_KEY(name));
		if (was && bind == STB_WEAK)
			continue;
		if (was && ELF64_ST_BIND(l->object[*was >> 32].symbol[(u32)*was].st_info) != STB_WEAK)
			return FAIL(STATUS_UNSUPPORTED, "%s is in %s and in %s", name, l->object[*was >> 32].name, o->name);
		map_put(&l->defined, MAP_KEY(name), key_of(object, i));
	}
	return OK;
}

static Target target_of(Link *l, u32 object, u32 symbol)
{
	const Object *o = &l->object[object];
	const Elf64_Sym *s = &o->symbol[symbol];
	if (ELF64_ST_BIND(s->st_info) == STB_LOCAL)
		return (Target){ .object = object, .symbol = symbol };
	const char *name = intern_z(&l->names, o->symbol_name + s->st_name);
	const u64 *at = map_get(&l->defined, MAP_KEY(name));
	if (at)
		return (Target){ .object = (u32)(*at >> 32), .symbol = (u32)*at };
	const u64 *known = map_get(&l->imported, MAP_KEY(name));
	if (!known) {
		map_put(&l->imported, MAP_KEY(name), l->import.n);
		VEC_PUSH(l->arena, &l->import, (Import){ name, NO_INDEX, NO_INDEX });
		return (Target){ .imported = true, .import = l->import.n - 1 };
	}
	return (Target){ .imported = true, .import = (u32)*known };
}

static u32 table_entry(Link *l, const Target *t)
{
	if (t->imported) {
		Import *i = &l->import.v[t->import];
		if (i->got == NO_INDEX) {
			i->got = l->got.n;
			VEC_PUSH(l->arena, &l->got, UINT64_MAX - t->import);
		}
		return i->got;
	}
	u64 key = key_of(t->object, t->symbol);
	const u64 *at = map_get(&l->table, key);
	if (at)
		return (u32)*at;
	map_put(&l->table, key, l->got.n);
	VEC_PUSH(l->arena, &l->got, key);
	return l->got.n - 1;
}

/* ---- what relocations ask for ---- */

typedef Status OnRelocation(Link *l, u32 object, u32 section, const Elf64_Rela *r);

static Status each_relocation(Link *l, OnRelocation *f)
{
	for (u32 k = 0; k < l->n; k++) {
		const Object *o = &l->object[k];
		for (u32 i = 0; i < o->nsection; i++) {
			const Elf64_Shdr *s = &o->section[i];
			if (s->sh_type != SHT_RELA || o->class[s->sh_info] == NOT_LOADED)
				continue;
			const Elf64_Rela *r = (const void *)(o->bytes + s->sh_offset);
			for (u64 n = 0; n < s->sh_size / sizeof *r; n++)
				TRY(f(l, k, s->sh_info, &r[n]));
		}
	}
	return OK;
}

static Status scan(Link *l, u32 object, u32 section, const Elf64_Rela *r)
{
	const Object *o = &l->object[object];
	Target t = target_of(l, object, (u32)ELF64_R_SYM(r->r_info));
	ElfUse use = l->machine->use((u32)ELF64_R_TYPE(r->r_info));
	const char *name = o->symbol_name + o->symbol[ELF64_R_SYM(r->r_info)].st_name;
	if (use == ELF_USE_UNKNOWN)
		return FAIL(STATUS_UNSUPPORTED, "%s: relocation %u of %s is not one that the linker knows", o->name,
			    (u32)ELF64_R_TYPE(r->r_info), name);
	if (use == ELF_USE_TABLE)
		table_entry(l, &t);
	if (use == ELF_USE_ABSOLUTE) {
		if (o->class[section] < RELRO)
			return FAIL(STATUS_UNSUPPORTED, "%s: the address of %s is in read-only data", o->name, name);
		l->nfixed++;
	}
	if (use == ELF_USE_CALL && t.imported && l->import.v[t.import].stub == NO_INDEX) {
		table_entry(l, &t);
		l->import.v[t.import].stub = l->nstub++;
	}
	if (use == ELF_USE_DIRECT && t.imported)
		return FAIL(STATUS_UNSUPPORTED, "%s: %s is in none of the objects", o->name, name);
	return OK;
}

/* ---- what the loader reads ---- */

/* Offsets into the image of the tables in front, and what is in them. */
typedef struct Tables {
	u64 hash, symbols, names, rela, end;
	Elf64_Sym *symbol;
	u32 nsymbol;
	Buf name;
	u32 soname, *needed;
} Tables;

static u32 add_name(Buf *b, const char *name)
{
	u32 at = (u32)b->n;
	buf_put(b, str_of(name));
	buf_char(b, 0);
	return at;
}

static Status collect_names(Link *l, Tables *t)
{
	*t = (Tables){ .symbol = NEWN(l->arena, Elf64_Sym, l->import.n + l->o->nexport + 1), .nsymbol = 1,
		       .name = { .arena = l->arena }, .needed = NEWN(l->arena, u32, l->o->nneeded + 1) };
	buf_char(&t->name, 0);
	for (u32 i = 0; i < l->import.n; i++)
		t->symbol[t->nsymbol++] = (Elf64_Sym){ .st_name = add_name(&t->name, l->import.v[i].name),
						       .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC) };
	for (u32 i = 0; i < l->o->nexport; i++) {
		if (!map_get(&l->defined, MAP_KEY(intern_z(&l->names, l->o->export[i]))))
			return FAIL(STATUS_UNSUPPORTED, "%s is in none of the objects", l->o->export[i]);
		t->symbol[t->nsymbol++].st_name = add_name(&t->name, l->o->export[i]);
	}
	if (l->o->soname)
		t->soname = add_name(&t->name, l->o->soname);
	for (u32 i = 0; i < l->o->nneeded; i++)
		t->needed[i] = add_name(&t->name, l->o->needed[i]);
	return OK;
}

enum { SEGMENTS = 6 };

static void place_tables(const Link *l, Tables *t)
{
	t->hash = sizeof(Elf64_Ehdr) + SEGMENTS * sizeof(Elf64_Phdr);
	t->symbols = ALIGN_UP(t->hash + (2 + 2 * (u64)t->nsymbol) * sizeof(u32), 8);
	t->names = t->symbols + t->nsymbol * sizeof(Elf64_Sym);
	t->rela = ALIGN_UP(t->names + t->name.n, 8);
	t->end = t->rela + (l->nfixed + l->got.n) * sizeof(Elf64_Rela);
}

/* The table by which the loader finds a name: chains of one hash. */
static void put_hash(const Link *l, const Tables *t)
{
	u32 *to = (u32 *)(void *)(l->image + t->hash), n = t->nsymbol;
	to[0] = to[1] = n;
	for (u32 i = 1; i < n; i++) {
		u32 h = 0;
		for (const char *c = t->name.text + t->symbol[i].st_name; *c; c++) {
			h = (h << 4) + (u8)*c;
			h = (h ^ (h >> 24 & 0xf0)) & 0x0fffffff;
		}
		to[2 + n + i] = to[2 + h % n];
		to[2 + h % n] = i;
	}
}

/* ---- layout ---- */

static u64 place_class(Link *l, Class class, u64 at)
{
	l->begin[class] = at;
	for (u32 k = 0; k < l->n; k++) {
		Object *o = &l->object[k];
		for (u32 i = 0; i < o->nsection; i++) {
			if (o->class[i] != class)
				continue;
			at = ALIGN_UP(at, MAX(o->section[i].sh_addralign, (u64)1));
			o->at[i] = at;
			at += o->section[i].sh_size;
		}
	}
	return l->end[class] = at;
}

enum { DYNAMIC = 16 }; /* rows besides those of `needed` */

static void lay_out(Link *l, Tables *t)
{
	u64 page = l->machine->page;
	place_tables(l, t);
	place_class(l, RODATA, ALIGN_UP(t->end, 64));
	u64 at = place_class(l, TEXT, ALIGN_UP(l->end[RODATA], page));
	l->stub_at = ALIGN_UP(at, 16);
	l->end[TEXT] = l->stub_at + (u64)l->nstub * l->machine->stub;
	at = place_class(l, RELRO, ALIGN_UP(l->end[TEXT], page));
	l->dynamic_at = ALIGN_UP(at, 16);
	l->got_at = l->dynamic_at + (DYNAMIC + l->o->nneeded) * sizeof(Elf64_Dyn);
	/* what is read only after loading ends with its page */
	l->end[RELRO] = ALIGN_UP(l->got_at + l->got.n * 8, page);
	at = place_class(l, DATA, l->end[RELRO]);
	place_class(l, ZEROS, ALIGN_UP(at, 64));
}

static u64 address_of(const Link *l, const Target *t)
{
	const Object *o = &l->object[t->object];
	const Elf64_Sym *s = &o->symbol[t->symbol];
	return s->st_shndx == SHN_ABS ? s->st_value : o->at[s->st_shndx] + s->st_value;
}

static void add_fixed(Link *l, u64 at, u32 type, u32 symbol, u64 addend)
{
	l->rela[l->nrela++] = (Elf64_Rela){ at, ELF64_R_INFO((u64)symbol, type), (i64)addend };
}

static Status fix(Link *l, u32 object, u32 section, const Elf64_Rela *r)
{
	const Object *o = &l->object[object];
	Target t = target_of(l, object, (u32)ELF64_R_SYM(r->r_info));
	ElfFix f = { .at = o->at[section] + r->r_offset, .addend = r->r_addend, .type = (u32)ELF64_R_TYPE(r->r_info) };
	f.place = l->image + f.at;
	ElfUse use = l->machine->use(f.type);
	if (use == ELF_USE_ABSOLUTE) {
		if (t.imported)
			add_fixed(l, f.at, l->machine->absolute, 1 + t.import, (u64)r->r_addend);
		else
			add_fixed(l, f.at, l->machine->relative, 0, address_of(l, &t) + (u64)r->r_addend);
		return OK;
	}
	f.symbol = t.imported ? l->stub_at + (u64)l->import.v[t.import].stub * l->machine->stub : address_of(l, &t);
	f.got = use == ELF_USE_TABLE ? l->got_at + 8 * (u64)table_entry(l, &t) : 0;
	if (!l->machine->fix(&f))
		return FAIL(STATUS_UNSUPPORTED, "%s: relocation %u at %llx does not reach: the library is too large", o->name, f.type,
			    (unsigned long long)f.at);
	return OK;
}

static void copy_sections(Link *l)
{
	for (u32 k = 0; k < l->n; k++) {
		const Object *o = &l->object[k];
		for (u32 i = 0; i < o->nsection; i++)
			if (o->class[i] < ZEROS && o->section[i].sh_size)
				memcpy(l->image + o->at[i], o->bytes + o->section[i].sh_offset, o->section[i].sh_size);
	}
}

static void fill_table(Link *l)
{
	for (u32 i = 0; i < l->got.n; i++) {
		u64 key = l->got.v[i], import = UINT64_MAX - key;
		if (import < l->import.n)
			add_fixed(l, l->got_at + 8 * (u64)i, l->machine->global, 1 + (u32)import, 0);
		else
			add_fixed(l, l->got_at + 8 * (u64)i, l->machine->relative, 0,
				  address_of(l, &(Target){ .object = (u32)(key >> 32), .symbol = (u32)key }));
	}
	for (u32 i = 0; i < l->import.n; i++)
		if (l->import.v[i].stub != NO_INDEX) {
			u64 at = l->stub_at + (u64)l->import.v[i].stub * l->machine->stub;
			l->machine->put_stub(l->image + at, at, l->got_at + 8 * (u64)l->import.v[i].got);
		}
}

/* ---- headers ---- */

/* The sections that tools look at; linkers find a library's names by them. */
enum { S_NONE, S_HASH, S_SYMBOLS, S_NAMES, S_RELA, S_RODATA, S_TEXT, S_RELRO, S_DYNAMIC, S_GOT, S_DATA, S_ZEROS, S_STRINGS, SECTIONS };
static const char section_names[] = "\0.hash\0.dynsym\0.dynstr\0.rela.dyn\0.rodata\0.text\0.data.rel.ro\0.dynamic\0.got\0.data\0.bss\0.shstrtab";

static u32 section_of(Class class)
{
	static const u32 of[] = { S_RODATA, S_TEXT, S_RELRO, S_DATA, S_ZEROS };
	return of[class];
}

static void put_exports(Link *l, const Tables *t)
{
	for (u32 i = 0; i < l->o->nexport; i++) {
		u64 at = *map_get(&l->defined, MAP_KEY(intern_z(&l->names, l->o->export[i])));
		Target to = { .object = (u32)(at >> 32), .symbol = (u32)at };
		const Elf64_Sym *from = &l->object[to.object].symbol[to.symbol];
		Elf64_Sym *s = &t->symbol[1 + l->import.n + i];
		s->st_info = ELF64_ST_INFO(STB_GLOBAL, ELF64_ST_TYPE(from->st_info));
		s->st_value = address_of(l, &to);
		s->st_size = from->st_size;
		s->st_shndx = (u16)section_of(l->object[to.object].class[from->st_shndx]);
	}
	memcpy(l->image + t->symbols, t->symbol, t->nsymbol * sizeof *t->symbol);
	memcpy(l->image + t->names, t->name.text, t->name.n);
}

static void put_dynamic(const Link *l, const Tables *t)
{
	Elf64_Dyn *d = (void *)(l->image + l->dynamic_at);
#define ROW(tag, value) *d++ = (Elf64_Dyn){ (tag), { (value) } }
	for (u32 i = 0; i < l->o->nneeded; i++)
		ROW(DT_NEEDED, t->needed[i]);
	if (l->o->soname)
		ROW(DT_SONAME, t->soname);
	ROW(DT_HASH, t->hash);
	ROW(DT_SYMTAB, t->symbols);
	ROW(DT_SYMENT, sizeof(Elf64_Sym));
	ROW(DT_STRTAB, t->names);
	ROW(DT_STRSZ, t->name.n);
	if (l->nrela) {
		ROW(DT_RELA, t->rela);
		ROW(DT_RELASZ, l->nrela * sizeof(Elf64_Rela));
		ROW(DT_RELAENT, sizeof(Elf64_Rela));
	}
	ROW(DT_FLAGS, DF_BIND_NOW);
	ROW(DT_FLAGS_1, DF_1_NOW);
	ROW(DT_NULL, 0);
#undef ROW
}

static void put_header(const Link *l, u64 sections)
{
	Elf64_Ehdr *h = (void *)l->image;
	*h = (Elf64_Ehdr){ .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			   .e_type = ET_DYN, .e_machine = l->machine->machine, .e_version = EV_CURRENT,
			   .e_phoff = sizeof *h, .e_shoff = sections, .e_ehsize = sizeof *h,
			   .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = SEGMENTS, .e_shentsize = sizeof(Elf64_Shdr),
			   .e_shnum = SECTIONS, .e_shstrndx = S_STRINGS };
	Elf64_Phdr *p = (void *)(l->image + sizeof *h);
	u64 page = l->machine->page, relro = l->begin[RELRO];
#define SEGMENT(type, flags, from, file_end, memory_end, align) \
	*p++ = (Elf64_Phdr){ (type), (flags), (from), (from), (from), (file_end) - (from), (memory_end) - (from), (align) }
	SEGMENT(PT_LOAD, PF_R, 0, l->end[RODATA], l->end[RODATA], page);
	SEGMENT(PT_LOAD, PF_R | PF_X, l->begin[TEXT], l->end[TEXT], l->end[TEXT], page);
	SEGMENT(PT_LOAD, PF_R | PF_W, relro, l->end[DATA], l->end[ZEROS], page);
	SEGMENT(PT_DYNAMIC, PF_R | PF_W, l->dynamic_at, l->got_at, l->got_at, 8);
	SEGMENT(PT_GNU_RELRO, PF_R, relro, l->end[RELRO], l->end[RELRO], 1);
	SEGMENT(PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 16);
#undef SEGMENT
}

static u32 name_at(const char *name)
{
	for (const char *at = section_names; at < section_names + sizeof section_names; at += strlen(at) + 1)
		if (!strcmp(at, name))
			return (u32)(at - section_names);
	NEVER("a section without a name");
}

static void put_sections(const Link *l, const Tables *t, u64 strings, u64 at)
{
	Elf64_Shdr *s = (void *)(l->image + at);
	const u64 R = SHF_ALLOC, W = SHF_ALLOC | SHF_WRITE;
#define SECTION(i, name, type, flags, from, to, link, info, align, each) \
	s[i] = (Elf64_Shdr){ name_at(name), (type), (flags), (from), (from), (to) - (from), (link), (info), (align), (each) }
	SECTION(S_HASH, ".hash", SHT_HASH, R, t->hash, t->hash + (2 + 2 * (u64)t->nsymbol) * 4, S_SYMBOLS, 0, 8, 4);
	SECTION(S_SYMBOLS, ".dynsym", SHT_DYNSYM, R, t->symbols, t->names, S_NAMES, 1, 8, sizeof(Elf64_Sym));
	SECTION(S_NAMES, ".dynstr", SHT_STRTAB, R, t->names, t->names + t->name.n, 0, 0, 1, 0);
	SECTION(S_RELA, ".rela.dyn", SHT_RELA, R, t->rela, t->rela + l->nrela * sizeof(Elf64_Rela), S_SYMBOLS, 0, 8,
		sizeof(Elf64_Rela));
	SECTION(S_RODATA, ".rodata", SHT_PROGBITS, R, l->begin[RODATA], l->end[RODATA], 0, 0, 64, 0);
	SECTION(S_TEXT, ".text", SHT_PROGBITS, R | SHF_EXECINSTR, l->begin[TEXT], l->end[TEXT], 0, 0, 64, 0);
	SECTION(S_RELRO, ".data.rel.ro", SHT_PROGBITS, W, l->begin[RELRO], l->dynamic_at, 0, 0, 64, 0);
	SECTION(S_DYNAMIC, ".dynamic", SHT_DYNAMIC, W, l->dynamic_at, l->got_at, S_NAMES, 0, 8, sizeof(Elf64_Dyn));
	SECTION(S_GOT, ".got", SHT_PROGBITS, W, l->got_at, l->got_at + 8 * (u64)l->got.n, 0, 0, 8, 8);
	SECTION(S_DATA, ".data", SHT_PROGBITS, W, l->begin[DATA], l->end[DATA], 0, 0, 64, 0);
	SECTION(S_ZEROS, ".bss", SHT_NOBITS, W, l->begin[ZEROS], l->end[ZEROS], 0, 0, 64, 0);
	SECTION(S_STRINGS, ".shstrtab", SHT_STRTAB, 0, strings, strings + sizeof section_names, 0, 0, 1, 0);
#undef SECTION
	s[S_STRINGS].sh_addr = 0;
}

Status elf_link(Arena *arena, const ObjectFile *object, u32 n, const ElfOptions *options, Blob *out)
{
	Link l = { .arena = arena, .o = options, .object = NEWN(arena, Object, n + 1), .n = n, .names = { .arena = arena },
		   .defined = { .arena = arena }, .imported = { .arena = arena }, .table = { .arena = arena } };
	for (u32 i = 0; i < n; i++)
		TRY(open_object(&l, &object[i], &l.object[i]));
	assert(l.machine && "a library of no objects");
	for (u32 i = 0; i < n; i++)
		TRY(define_symbols(&l, i));
	TRY(each_relocation(&l, scan));
	Tables t;
	TRY(collect_names(&l, &t));
	lay_out(&l, &t);
	u64 strings = ALIGN_UP(l.end[DATA], 8), sections = ALIGN_UP(strings + sizeof section_names, 8);
	u64 size = sections + SECTIONS * sizeof(Elf64_Shdr);
	l.image = arena_push(arena, 1, size, 64);
	l.rela = (void *)(l.image + t.rela);
	copy_sections(&l);
	fill_table(&l);
	TRY(each_relocation(&l, fix));
	put_hash(&l, &t);
	put_exports(&l, &t);
	put_dynamic(&l, &t);
	put_header(&l, sections);
	memcpy(l.image + strings, section_names, sizeof section_names);
	put_sections(&l, &t, strings, sections);
	*out = (Blob){ l.image, size };
	return OK;
}
