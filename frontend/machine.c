/* frontend/machine.c: a `machine` block: what planning needs to know of a machine (ir/machine.h), each value under the
 * name that docs/planning.md gives it. */
#include "frontend/elaborator.h"

#include <stddef.h>
#include <string.h>

typedef enum FieldKind { FIELD_TEXT, FIELD_NUMBER, FIELD_COUNT, FIELD_CURVE, FIELD_PEAKS, FIELD_LINK } FieldKind;

typedef struct Field {
	const char *name;
	FieldKind kind;
	bool needed;
	size_t at; /* in Machine */
	f64 least; /* of numbers: they lie above it */
} Field;

#define FIELD(name, kind, needed) { #name, FIELD_##kind, needed, offsetof(Machine, name), 0 }
static const Field fields[] = {
	FIELD(name, TEXT, true),       FIELD(device, TEXT, true),         FIELD(arch, TEXT, false),
	FIELD(peak, PEAKS, true),      FIELD(memory, NUMBER, true),       FIELD(bandwidth, NUMBER, true),
	FIELD(launch, NUMBER, true),   FIELD(arithmetic, NUMBER, true),   FIELD(matmul, CURVE, true),
	FIELD(attention, CURVE, true), FIELD(attention_grad, CURVE, true), FIELD(stream, CURVE, true),
	FIELD(domain, COUNT, false),   FIELD(link, LINK, false),          FIELD(network, LINK, false),
	FIELD(unaligned, NUMBER, false), FIELD(scatter, NUMBER, false),    FIELD(heads, CURVE, false),
	FIELD(windows, CURVE, false),    FIELD(effort, NUMBER, false),     FIELD(series, NUMBER, false), FIELD(uneven, NUMBER, false),
	FIELD(rows, CURVE, false),     FIELD(reductions, CURVE, false),
	FIELD(power, NUMBER, false),   FIELD(price, NUMBER, false),       FIELD(disturbed, TEXT, false), { "reserved", FIELD_NUMBER, false, offsetof(Machine, reserved), -1 },
};
#undef FIELD

static void number(Elaborator *e, const Datum *d, const char *what, f64 least, f64 *out)
{
	f64 x;
	if (!want_number(e, d, d->loc, what, &x))
		return;
	if (!(x > least))
		fail(e, E0513, d->loc, "%s is more than 0, and this is %g", what, x);
	else
		*out = x;
}

static void curve(Elaborator *e, const Datum *d, const char *what, Curve *out)
{
	CurvePoint *point = NEWN(e->arena, CurvePoint, d->list.n + 1);
	for (u32 i = 0; i < d->list.n; i++) {
		const Datum *pair = d->list.v[i].value;
		if (pair->kind == DATUM_ERROR)
			return;
		if (pair->kind != DATUM_LIST || pair->list.n != 2) {
			fail(e, E0513, pair->loc, "%s is a list of pairs (size, share of the limit), and this is %s", what, datum_show(e, pair));
			return;
		}
		number(e, pair->list.v[0].value, "a size", 0, &point[i].at);
		number(e, pair->list.v[1].value, "a share", 0, &point[i].share);
		if (i && !(point[i].at > point[i - 1].at))
			fail(e, E0513, pair->loc, "sizes ascend, and %g stands behind %g", point[i].at, point[i - 1].at);
	}
	*out = (Curve){ point, d->list.n };
}

static void peaks(Elaborator *e, const Datum *d, f64 *out)
{
	for (u32 i = 0; i < d->list.n; i++) {
		DType t = dtype_named(str_of(d->list.v[i].name));
		if (t == DTYPES)
			fail(e, E0513, d->list.v[i].name_loc, "'%s' is no element type: peak = { bf16 = 989e12, f32 = 67e12 }", d->list.v[i].name);
		else
			number(e, d->list.v[i].value, "FLOPs a second", 0, &out[t]);
	}
	if (!(out[DT_f32] > 0))
		fail(e, E0513, d->loc, "peak needs one for f32, which is that of everything but products");
}

static void link(Elaborator *e, const Datum *d, Link *out)
{
	for (u32 i = 0; i < d->list.n; i++) {
		const Entry *at = &d->list.v[i];
		if (!strcmp(at->name, "bandwidth"))
			number(e, at->value, "bandwidth", 0, &out->bandwidth);
		else if (!strcmp(at->name, "latency"))
			number(e, at->value, "latency", 0, &out->latency);
		else if (!strcmp(at->name, "apart"))
			number(e, at->value, "apart", 0, &out->apart);
		else if (!strcmp(at->name, "occupies"))
			number(e, at->value, "occupies", 0, &out->occupies);
		else
			fail(e, E0513, at->name_loc, "a link has bandwidth, latency, apart and occupies, and no '%s'", at->name);
	}
	if (out->occupies > 1)
		fail(e, E0513, d->loc, "occupies is the share of a message's time that its device cannot compute in: at most 1");
	if (!(out->bandwidth > 0))
		fail(e, E0513, d->loc, "a link has a bandwidth: { bandwidth = 450e9, latency = 2e-6 }");
}

static void read_field(Elaborator *e, const Field *f, const Datum *d, Machine *m)
{
	char *at = (char *)m + f->at;
	static const char *const shape[] = { [FIELD_CURVE] = "a list of pairs (size, share of the limit)",
					     [FIELD_PEAKS] = "a record such as { bf16 = 989e12, f32 = 67e12 }",
					     [FIELD_LINK] = "a record { bandwidth = 450e9, latency = 2e-6 }" };
	DatumKind wanted = f->kind == FIELD_CURVE ? DATUM_LIST : DATUM_RECORD;
	if (f->kind >= FIELD_CURVE && d->kind != wanted) {
		if (d->kind != DATUM_ERROR)
			fail(e, E0513, d->loc, "%s is %s, and this is %s", f->name, shape[f->kind], datum_show(e, d));
		return;
	}
	switch (f->kind) {
	case FIELD_TEXT: *(const char **)at = want_text(e, d, d->loc, f->name); break;
	case FIELD_NUMBER: number(e, d, f->name, f->least, (f64 *)at); break;
	case FIELD_COUNT:
		if (want_integer(e, d, d->loc, f->name, (i64 *)at) && *(i64 *)at < 1)
			fail(e, E0513, d->loc, "%s is at least 1", f->name);
		break;
	case FIELD_CURVE: curve(e, d, f->name, (Curve *)at); break;
	case FIELD_PEAKS: peaks(e, d, (f64 *)at); break;
	case FIELD_LINK: link(e, d, (Link *)at); break;
	}
}

/* What no machine has is a number in another unit. */
typedef struct Usual {
	const char *what, *unit, *such;
	f64 least, most;
} Usual;

static void unusual(Elaborator *e, Loc loc, f64 x, const Usual *u)
{
	if (x > 0 && (x < u->least || x > u->most))
		diag_warning(e->diag, W0008, loc, "%s is in %s, such as %s; no machine has %g", u->what, u->unit, u->such, x);
}

static void check_link(Elaborator *e, Loc loc, const char *name, const Link *l)
{
	const Usual bandwidth = { arena_printf(e->arena, "%s's bandwidth", name), "bytes a second", "50e9", 1e6, 1e15 },
		    latency = { arena_printf(e->arena, "%s's latency", name), "seconds", "5e-6", 0, 1 };
	unusual(e, loc, l->bandwidth, &bandwidth);
	unusual(e, loc, l->latency, &latency);
}

/* Shares are of 1, not in per cent. Of the bandwidth, what stays in caches may be any; peaks are measured, and may be exceeded a little. */
static void check_shares(Elaborator *e, Loc loc, const char *name, const Curve *c)
{
	const Usual share = { arena_printf(e->arena, "a share of %s", name), "parts of the peak", "0.8", 0, 2 };
	for (u32 i = 0; i < c->n; i++)
		unusual(e, loc, c->point[i].share, &share);
}

static void check_usual(Elaborator *e, const Machine *m, const Loc *at)
{
	static const Usual memory = { "memory", "bytes", "80 GiB", 1e3, 1e15 }, bandwidth = { "bandwidth", "bytes a second", "3.35e12", 1e6, 1e16 },
			   peak = { "peak", "FLOPs a second", "989e12", 1e6, 1e19 }, launch = { "launch", "seconds", "1.5e-6", 0, 1 },
			   power = { "power", "watts", "700", 0, 1e5 };
	static const char *const device[] = { "cpu", "cuda" };
	const Loc none = { 0 };
	for (u32 i = 0; i < COUNT(fields); i++) {
		const char *name = fields[i].name;
		const void *field = (const char *)m + fields[i].at;
		if (!memcmp(&at[i], &none, sizeof none))
			continue;
		switch (fields[i].kind) {
		case FIELD_LINK: check_link(e, at[i], name, field); break;
		case FIELD_PEAKS:
			for (u32 t = 0; t < DTYPES; t++)
				unusual(e, at[i], m->peak[t], &peak);
			break;
		case FIELD_NUMBER:
			for (u32 k = 0; k < 4; k++) {
				const Usual *u = (const Usual *const[]){ &memory, &bandwidth, &launch, &power }[k];
				if (!strcmp(u->what, name))
					unusual(e, at[i], *(const f64 *)field, u);
			}
			break;
		case FIELD_CURVE:
			if (fields[i].needed && strcmp(name, "stream"))
				check_shares(e, at[i], name, field);
			break;
		case FIELD_TEXT:
			if (!strcmp(name, "device") && m->device && strcmp(m->device, device[0]) && strcmp(m->device, device[1]))
				fail(e, E0513, at[i], "device is \"cpu\" or \"cuda\", which the program is planned for, and this is \"%s\"", m->device);
			break;
		case FIELD_COUNT: break;
		}
	}
}

void recipe_machine(Elaborator *e, const Decl *d)
{
	if (e->model->machine) {
		fail(e, E0513, d->loc, "a file has one machine block, and this is another");
		return;
	}
	Machine *m = NEW(e->arena, Machine);
	m->domain = 1;
	bool given[COUNT(fields)] = { false };
	Loc at[COUNT(fields)] = { 0 };
	const char *all[COUNT(fields)];
	for (u32 i = 0; i < COUNT(fields); i++)
		all[i] = fields[i].name;
	for (u32 i = 0; i < d->body.n; i++) {
		const Stmt *s = d->body.v[i];
		const Expr *to = s->kind == STMT_ASSIGN && s->assign.target.n == 1 ? s->assign.target.v[0] : NULL;
		if (!to || to->kind != EXPR_NAME) {
			fail(e, E0513, s->loc, "a machine block has lines such as: memory = 80 GiB");
			continue;
		}
		u32 k = 0;
		while (k < COUNT(fields) && strcmp(fields[k].name, to->name))
			k++;
		Datum *value = expression(e, s->assign.value);
		if (k == COUNT(fields)) {
			const char *near = nearest_name(to->name, all, COUNT(all));
			fail(e, E0513, to->loc, "a machine has no '%s'%s", to->name,
			     near ? did_you_mean(e, near) : names_listed(e, "it has", all, COUNT(all)));
			continue;
		}
		if (given[k])
			fail(e, E0513, s->loc, "%s is given twice", to->name);
		given[k] = true;
		at[k] = s->loc;
		read_field(e, &fields[k], value, m);
		if (fields[k].at == offsetof(Machine, disturbed) && m->disturbed)
			diag_warning(e->diag, W0007, s->loc, "others used the machine while it was measured, and this may be off: %s", m->disturbed);
	}
	Buf missing = { .arena = e->arena };
	for (u32 i = 0; i < COUNT(fields); i++)
		if (fields[i].needed && !given[i])
			buf_printf(&missing, "%s%s", missing.n ? ", " : "", fields[i].name);
	if (missing.n)
		fail(e, E0513, d->loc, "the machine needs %s: docs/planning.md says what these are", missing.text);
	if (m->domain > 1 && given[0] && !(m->link.bandwidth > 0))
		fail(e, E0513, d->loc, "%lld devices are joined by a link: link = { bandwidth = 450e9, latency = 2e-6 }", (long long)m->domain);
	if (m->memory > 0 && m->reserved >= m->memory)
		fail(e, E0513, d->loc, "reserved is a part of memory, and of %.3g bytes it takes %.3g", m->memory, m->reserved);
	check_usual(e, m, at);
	e->model->machine = m;
}
