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

Status machine_open(Arena *a, const char *name, MachineFile *out)
{
	*out = (MachineFile){ .where = name };
	static const SourceOptions none;
	const Embedded *m = machine_files;
	while (m->name && strcmp(m->name, name))
		m++;
	if (m->name) {
		TRY(source_of_text(arena_printf(a, "machines/%s.plinth", name), (Str){ m->text, m->n }, &none, &out->source));
	} else if (!strcmp(name, "host")) {
		out->where = machine_host_path(a);
		if (!io_exists(out->where))
			return FAIL(STATUS_INPUT, "this machine has not been measured yet (no %s): run `plinth doctor --calibrate`", out->where);
		TRY(source_open(out->where, &none, &out->source));
	} else if (strchr(name, '/') || strchr(name, '.')) {
		TRY(source_open(name, &none, &out->source));
	} else {
		return FAIL(STATUS_INPUT, "there is no machine '%s': %s, or the path of a file with a machine block", name, known_names(a));
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
