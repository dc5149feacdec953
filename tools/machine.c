/* tools/machine.c: see machine.h. */
#include "tools/machine.h"
#include "support/io.h"
#include "tools/machines.h"

#include <stdlib.h>
#include <string.h>

const char *machine_host_path(Arena *a)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	if (config && *config)
		return arena_printf(a, "%s/plinth/host.plinth", config);
	return arena_printf(a, "%s/.config/plinth/host.plinth", home ? home : ".");
}

static const char *known_names(Arena *a)
{
	Buf b = { .arena = a };
	for (const Embedded *m = machine_files; m->name; m++)
		buf_printf(&b, "%s, ", m->name);
	buf_printf(&b, "host");
	return b.text;
}

/* "; did you mean 'h100'? There are": the nearest of the names that are taken. */
static const char *meant(Arena *a, const char *name)
{
	VEC(const char *) all = { 0 };
	Buf lower = { .arena = a };
	for (const char *c = name; *c; c++)
		buf_char(&lower, *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c);
	for (const Embedded *m = machine_files; m->name; m++) {
		VEC_PUSH(a, &all, m->name);
		size_t n = strcspn(m->name, "_");
		if (!strcmp(m->name + n, "_sxm"))
			VEC_PUSH(a, &all, arena_strn(a, (Str){ m->name, n }));
	}
	const char *near = lower.n ? nearest_name(lower.text, all.v, all.n) : NULL;
	return near ? arena_printf(a, "; did you mean '%s'? There are", near) : ":";
}

Status machine_open(Arena *a, const char *name, MachineFile *out)
{
	*out = (MachineFile){ .where = name };
	static const SourceOptions none;
	const Embedded *m = machine_files;
	const char *usual = arena_printf(a, "%s_sxm", name); /* h100 */
	while (m->name && strcmp(m->name, name) && strcmp(m->name, usual))
		m++;
	if (m->name) {
		TRY(source_of_text(arena_printf(a, "machines/%s.plinth", name), (Str){ m->text, m->n }, &none, &out->source));
	} else if (!strcmp(name, "host")) {
		out->where = machine_host_path(a);
		if (!io_exists(out->where))
			return FAIL(STATUS_INPUT, "this machine has not been measured yet (no %s): run `plinth doctor --calibrate`, or name another one, such as --machine h100_sxm", out->where);
		TRY(source_open(out->where, &none, &out->source));
	} else if (strchr(name, '/') || strchr(name, '.')) {
		TRY(source_open(name, &none, &out->source));
	} else {
		return FAIL(STATUS_INPUT, "there is no machine '%s'%s %s, or the path of a file with a machine block", name, meant(a, name), known_names(a));
	}
	out->machine = out->source.model ? out->source.model->machine : NULL;
	if (out->source.model && !out->machine) {
		source_close(&out->source);
		return FAIL(STATUS_INPUT, "%s has no machine block: machine { name = \"...\", ... }; docs/planning.md shows one", out->where);
	}
	return OK;
}

void machine_close(MachineFile *m)
{
	source_close(&m->source);
}

static void print_curve(Buf *b, const char *name, const Curve *c)
{
	buf_printf(b, "  %-14s = [", name);
	for (u32 i = 0; i < c->n; i++)
		buf_printf(b, "%s(%.6g, %.3g)", i ? ", " : "", c->point[i].at, c->point[i].share);
	buf_printf(b, "]\n");
}

static void print_link(Buf *b, const char *name, const Link *l)
{
	if (!(l->bandwidth > 0))
		return;
	buf_printf(b, "  %-14s = { bandwidth = %.4g, latency = %.3g", name, l->bandwidth, l->latency);
	if (l->apart > 0)
		buf_printf(b, ", apart = %.3g", l->apart);
	if (l->occupies > 0)
		buf_printf(b, ", occupies = %.3g", l->occupies);
	buf_printf(b, " }\n");
}

void machine_print(Buf *b, const Machine *m)
{
	buf_printf(b, "machine {\n  name           = \"%s\"\n  device         = \"%s\"\n", m->name, m->device);
	if (m->arch)
		buf_printf(b, "  arch           = \"%s\"\n", m->arch);
	buf_printf(b, "  peak           = { ");
	for (u32 t = 0, n = 0; t < DTYPES; t++)
		if (m->peak[t] > 0)
			buf_printf(b, "%s%s = %.4g", n++ ? ", " : "", dtype_info[t].name, m->peak[t]);
	buf_printf(b, " }\n  memory         = %.0f\n", m->memory);
	if (m->reserved > 0)
		buf_printf(b, "  reserved       = %.0f\n", m->reserved);
	buf_printf(b, "  bandwidth      = %.4g\n  launch         = %.3g\n  arithmetic     = %.3g\n", m->bandwidth, m->launch, m->arithmetic);
	if (m->effort > 0)
		buf_printf(b, "  effort         = %.3g\n", m->effort);
	if (m->series > 0)
		buf_printf(b, "  series         = %.3g\n", m->series);
	if (m->unaligned > 0)
		buf_printf(b, "  unaligned      = %.3g\n", m->unaligned);
	if (m->scatter > 0)
		buf_printf(b, "  scatter        = %.3g\n", m->scatter);
	print_curve(b, "matmul", &m->matmul);
	print_curve(b, "attention", &m->attention);
	print_curve(b, "attention_grad", &m->attention_grad);
	if (m->heads.n)
		print_curve(b, "heads", &m->heads);
	if (m->windows.n)
		print_curve(b, "windows", &m->windows);
	if (m->rows.n)
		print_curve(b, "rows", &m->rows);
	if (m->reductions.n)
		print_curve(b, "reductions", &m->reductions);
	print_curve(b, "stream", &m->stream);
	if (m->uneven > 0)
		buf_printf(b, "  uneven         = %.3g\n", m->uneven);
	if (m->domain > 1)
		buf_printf(b, "  domain         = %lld\n", (long long)m->domain);
	print_link(b, "link", &m->link);
	print_link(b, "network", &m->network);
	if (m->power > 0)
		buf_printf(b, "  power          = %.0f\n", m->power);
	if (m->price > 0)
		buf_printf(b, "  price          = %.4g\n", m->price);
	if (m->disturbed)
		buf_printf(b, "  disturbed      = \"%s\"\n", m->disturbed);
	buf_printf(b, "}\n");
}
