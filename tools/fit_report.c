/* tools/fit_report.c: see fit_report.h. Layers that repeat are one row, as in other reports: h.*.mlp. */
#include "tools/fit_report.h"
#include "support/io.h"
#include "tools/lm.h"
#include "tools/roofline.h"

#include <string.h>

const EntryPlan *fit_entry(const Plan *p)
{
	const EntryPlan *best = NULL;
	for (u32 i = 0; i < p->entry.n; i++) {
		const EntryPlan *e = p->entry.v[i];
		if (e->remat && (!best || e->remat->most > best->remat->most))
			best = e;
	}
	return best;
}

static f64 share(f64 seconds, const PlanRemat *r)
{
	return r->step_seconds > 0 ? 100 * seconds / r->step_seconds : 0;
}

/* How far the time is from the bound, as a share of the time. */
static f64 gap(f64 seconds, f64 bound)
{
	return seconds > 0 ? 100 * (seconds - bound) / seconds : 0;
}

/* ---- values ---- */

/* Values that differ by their layer alone. */
typedef struct Row {
	const char *name, *file;
	u32 line, kept, remade;
	u64 kept_bytes, remade_bytes;
} Row;

static const char *file_of(const Plan *p, Loc loc)
{
	return loc.line && loc.file < p->ir->diag->nsource ? p->ir->diag->source[loc.file].path : "";
}

/* "h.0.mlp.mul.83" without the number that makes it unique. */
static const char *plain_name(Arena *a, const char *name)
{
	const char *dot = strrchr(name, '.');
	bool number = dot && dot[1] && strspn(dot + 1, "0123456789") == strlen(dot + 1);
	return layer_pattern(a, number ? arena_printf(a, "%.*s", (int)(dot - name), name) : name);
}

static u32 make_rows(Arena *a, const Plan *p, const EntryPlan *e, Row **out)
{
	const PlanRemat *r = e->remat;
	Row *row = NEWN(a, Row, r->value.n + 1);
	u32 n = 0;
	for (u32 i = 0; i < r->value.n; i++) {
		const PlanBuffer *b = &e->buffer.v[r->value.v[i].buffer];
		const char *name = plain_name(a, b->name);
		u32 k = 0;
		while (k < n && (strcmp(row[k].name, name) || row[k].line != b->loc.line || strcmp(row[k].file, file_of(p, b->loc))))
			k++;
		if (k == n)
			row[n++] = (Row){ .name = name, .file = file_of(p, b->loc), .line = b->loc.line };
		bool kept = r->value.v[i].remade == NONE;
		*(kept ? &row[k].kept : &row[k].remade) += 1;
		*(kept ? &row[k].kept_bytes : &row[k].remade_bytes) += b->bytes;
	}
	*out = row;
	return n;
}

static void print_values(Arena *a, const Plan *p, const EntryPlan *e, FILE *to)
{
	Row *row;
	u32 n = make_rows(a, p, e, &row);
	fprintf(to, "\n%-44s %6s %11s %6s %11s  %s\n", "value", "kept", "", "again", "", "from");
	for (u32 i = 0; i < n; i++)
		fprintf(to, "%-44s %6u %11s %6u %11s  %s:%u\n", row[i].name, row[i].kept, lm_bytes(a, row[i].kept_bytes),
			row[i].remade, lm_bytes(a, row[i].remade_bytes), row[i].file, row[i].line);
}

/* ---- text ---- */

static const char *exactly(Arena *a, u64 bytes)
{
	return arena_printf(a, "%llu bytes (%s)", (unsigned long long)bytes, lm_bytes(a, bytes));
}

void fit_print(Arena *a, const Plan *p, const EntryPlan *e, FILE *to)
{
	const PlanRemat *r = e->remat;
	u64 held = p->persistent_bytes;
	if (r->budget)
		fprintf(to, "\nbudget    %s, of which %s are parameters and what belongs to them\n", exactly(a, held + r->budget),
			lm_bytes(a, held));
	fprintf(to, "peak      %s; with everything kept %s, at the least %s (proved: none below %s)\n",
		exactly(a, held + e->transient_bytes), lm_bytes(a, held + r->most), lm_bytes(a, held + r->least),
		lm_bytes(a, held + r->none_below));
	fprintf(to, "gaps      %.2f%% of the step's values\n",
		e->lower_bound ? 100.0 * (f64)(e->transient_bytes - e->lower_bound) / (f64)e->lower_bound : 0);
	fprintf(to, "overhead  %.4g ms, %.2f%% of forward and backward (%.4g ms)\n", 1e3 * r->seconds, share(r->seconds, r),
		1e3 * r->step_seconds);
	fprintf(to, "bound     at least %.4g ms, %.2f%%: the gap is %.2f%% of the overhead\n", 1e3 * r->bound, share(r->bound, r),
		gap(r->seconds, r->bound));
	fprintf(to, "blocks    %s for %.2f%%, if each layer kept what others read of it and nothing else\n",
		lm_bytes(a, held + r->blocks.peak), share(r->blocks.seconds, r));
	print_values(a, p, e, to);
}

void fit_print_curve(Arena *a, const Plan *p, const EntryPlan *e, FILE *to)
{
	const PlanRemat *r = e->remat;
	fprintf(to, "\n%14s %14s %12s %9s %9s %8s\n", "budget", "peak", "overhead", "", "at least", "gap");
	for (u32 i = 0; i < r->curve.n; i++) {
		const PlanPoint *x = &r->curve.v[i];
		fprintf(to, "%14s %14s %9.4g ms %8.2f%% %8.2f%% %7.2f%%\n", lm_bytes(a, p->persistent_bytes + x->budget),
			lm_bytes(a, p->persistent_bytes + x->peak), 1e3 * x->seconds, share(x->seconds, r), share(x->bound, r),
			gap(x->seconds, x->bound));
	}
}

/* ---- JSON ---- */

json_t *fit_json(Arena *a, const Plan *p, const EntryPlan *e)
{
	const PlanRemat *r = e->remat;
	json_int_t held = (json_int_t)p->persistent_bytes;
	json_t *value = json_array(), *curve = json_array();
	Row *row;
	u32 n = make_rows(a, p, e, &row);
	for (u32 i = 0; i < n; i++)
		json_array_append_new(value, json_pack("{s:s, s:s, s:i, s:i, s:I, s:i, s:I}", "value", row[i].name, "file", row[i].file, "line",
						       (int)row[i].line, "kept", (int)row[i].kept, "kept_bytes",
						       (json_int_t)row[i].kept_bytes, "again", (int)row[i].remade, "again_bytes",
						       (json_int_t)row[i].remade_bytes));
	for (u32 i = 0; i < r->curve.n; i++) {
		const PlanPoint *x = &r->curve.v[i];
		json_array_append_new(curve, json_pack("{s:I, s:I, s:f, s:f}", "budget", held + (json_int_t)x->budget, "peak",
						       held + (json_int_t)x->peak, "overhead_seconds", x->seconds, "bound_seconds",
						       x->bound));
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:b, s:{s:I, s:f}, s:o, s:o}", "budget",
			 r->budget ? held + (json_int_t)r->budget : 0, "peak", held + (json_int_t)e->transient_bytes, "persistent", held,
			 "peak_all_kept", held + (json_int_t)r->most, "peak_least", held + (json_int_t)r->least, "peak_none_below",
			 held + (json_int_t)r->none_below, "step_seconds", r->step_seconds, "overhead_seconds", r->seconds, "bound_seconds", r->bound, "fits", (int)r->fits, "blocks", "peak",
			 held + (json_int_t)r->blocks.peak, "overhead_seconds", r->blocks.seconds, "values", value,
			 "curve", curve);
}

/* ---- SVG ---- */

enum { WIDTH = 720, HEIGHT = 420, LEFT = 80, RIGHT = 40, TOP = 40, BOTTOM = 60 };

typedef struct Frame {
	f64 low, high, most; /* bytes; percent */
} Frame;

static f64 at_x(const Frame *f, f64 bytes)
{
	return LEFT + (WIDTH - LEFT - RIGHT) * (f->high > f->low ? (bytes - f->low) / (f->high - f->low) : 0);
}

static f64 at_y(const Frame *f, f64 percent)
{
	return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (f->most > 0 ? percent / f->most : 0);
}

static void put_line(Buf *b, const Frame *f, const Plan *p, const PlanRemat *r, bool bound, const char *style)
{
	buf_printf(b, "<polyline fill=\"none\" %s points=\"", style);
	for (u32 i = 0; i < r->curve.n; i++) {
		const PlanPoint *x = &r->curve.v[i];
		buf_printf(b, "%.1f,%.1f ", at_x(f, (f64)(p->persistent_bytes + x->budget)), at_y(f, share(bound ? x->bound : x->seconds, r)));
	}
	buf_printf(b, "\"/>\n");
}

Status fit_svg(Arena *a, const Plan *p, const EntryPlan *e, const char *path)
{
	const PlanRemat *r = e->remat;
	if (!r->curve.n)
		return FAIL(STATUS_INPUT, "there is no curve to draw: --sweep makes one");
	Frame f = { .low = (f64)(p->persistent_bytes + r->least), .high = (f64)(p->persistent_bytes + r->most) };
	for (u32 i = 0; i < r->curve.n; i++)
		f.most = MAX(f.most, share(r->curve.v[i].seconds, r));
	Buf b = { .arena = a };
	buf_printf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"
		       "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
		       "<text x=\"%d\" y=\"22\" font-size=\"15\">%s: memory against time</text>\n",
		   WIDTH, HEIGHT, LEFT, p->program->name);
	for (u32 i = 0; i <= 4; i++) {
		f64 bytes = f.low + (f.high - f.low) * i / 4, percent = f.most * i / 4;
		buf_printf(&b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", at_x(&f, bytes), HEIGHT - BOTTOM + 18,
			   lm_bytes(a, (u64)bytes));
		buf_printf(&b, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.1f%%</text>\n", LEFT - 8, at_y(&f, percent) + 4, percent);
		buf_printf(&b, "<path d=\"M%d %.1f H%d\" stroke=\"#ddd\"/>\n", LEFT, at_y(&f, percent), WIDTH - RIGHT);
	}
	put_line(&b, &f, p, r, true, "stroke=\"#888\" stroke-dasharray=\"5 4\"");
	put_line(&b, &f, p, r, false, "stroke=\"#1460aa\" stroke-width=\"2\"");
	buf_printf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">memory of the step; above it, time added (line) and the least that "
		       "can be (dashes)</text>\n</svg>\n",
		   (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16);
	return io_write(path, (Blob){ (u8 *)b.text, b.n });
}
