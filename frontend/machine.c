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

void recipe_machine(Elaborator *e, const Decl *d)
{
	Machine *m = NEW(e->arena, Machine);
	m->domain = 1;
	bool given[COUNT(fields)] = { false };
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
			const char *near = nearest(to->name, all, COUNT(all));
			fail(e, E0513, to->loc, "a machine has no '%s'%s", to->name,
			     near ? did_you_mean(e, near) : names_listed(e, "it has", all, COUNT(all)));
			continue;
		}
		if (given[k])
			fail(e, E0513, s->loc, "%s is given twice", to->name);
		given[k] = true;
		read_field(e, &fields[k], value, m);
		if (fields[k].at == offsetof(Machine, disturbed) && m->disturbed)
			diag_warning(e->diag, W0007, s->loc, "others used the machine while it was measured, and this may be off: %s", m->disturbed);
	}
	for (u32 i = 0; i < COUNT(fields); i++)
		if (fields[i].needed && !given[i])
			fail(e, E0513, d->loc, "the machine needs '%s'", fields[i].name);
	if (m->domain > 1 && given[0] && !(m->link.bandwidth > 0))
		fail(e, E0513, d->loc, "%lld devices are joined by a link: link = { bandwidth = 450e9, latency = 2e-6 }", (long long)m->domain);
	e->model->machine = m;
}
