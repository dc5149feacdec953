/* tools/plan_scale.c: see plan_scale.h. */
#include "tools/mesh.h"
#include "tools/plan_scale.h"
#include "support/io.h"
#include "tools/cluster_report.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIZES = 21 };

typedef struct Point {
	i64 devices;
	struct {
		i64 batch;
		f64 seconds, rate, mfu, efficiency; /* seconds 0: the batch does not divide */
		f64 run, dollars;                   /* of --tokens, in seconds */
		u64 bucket;                         /* a larger one that would spare time, and the step's seconds with it; or 0 */
		f64 bucketed;
		bool fits;
	} of[2]; /* strong, weak */
} Point;

static const char *const kind_name[2] = { "strong", "weak" };

/* The mesh with so many devices in all, and those along data. */
static Status with_data(Arena *a, const char *mesh, i64 devices, const char **out, i64 *data)
{
	i64 others = 1, size;
	Buf rest = { .arena = a };
	Str name;
	for (const char *at = mesh; *at;) {
		TRY(mesh_axis(mesh, &at, &name, &size));
		if (str_equal(name, STR("data")))
			continue;
		others *= size;
		buf_printf(&rest, ",%.*s=%lld", STR_ARG(name), (long long)size);
	}
	if (devices % others)
		return FAIL(STATUS_INPUT, "%lld devices are no multiple of those along the other axes of %s", (long long)devices, mesh);
	*data = devices / others;
	*out = arena_printf(a, "data=%lld%s", (long long)*data, rest.n ? rest.text : "");
	return OK;
}

static Status predict(Arena *a, const ClusterOptions *o, const Machine *m, i64 batch, const char *mesh, Point *p, u32 kind)
{
	ClusterOptions own = *o;
	ClusterRun run;
	own.mesh = mesh;
	own.batch = batch;
	p->of[kind].batch = batch;
	Status s = cluster_prepare(&own, m, &run);
	if (!s) {
		ClusterStep step = cluster_step(a, m, run.planned.work, &run.shape);
		ClusterReport r = { .arena = a, .lm = &run.model.lm, .machine = m, .planned = &run.planned, .step = &step, .precision = run.precision,
				    .tokens = o->tokens, .price = o->price };
		ClusterNumbers n = cluster_numbers(&r);
		p->of[kind].run = n.seconds;
		p->of[kind].dollars = n.dollars;
		p->of[kind].seconds = step.seconds;
		p->of[kind].rate = n.tokens / step.seconds;
		p->of[kind].mfu = n.mfu;
		p->of[kind].bucket = cluster_larger_bucket(&r, &p->of[kind].bucketed);
		p->of[kind].fits = step.memory <= n.room;
	} else if (run.model.lm.source.diag.nerror) {
		lm_failed("plan", &run.model.lm, s);
	}
	lm_close(&run.model.lm);
	return s;
}

/* Days and money of a run, where it was asked for, and whether it fits. */
static const char *rest_of_row(Arena *a, const Point *p, u32 kind)
{
	const char *run = p->of[kind].run > 0 ? arena_printf(a, "%.4g days", p->of[kind].run / 86400) : "";
	const char *price = p->of[kind].dollars > 0 ? arena_printf(a, ", $%s", lm_scaled(a, p->of[kind].dollars)) : "";
	const char *fits = p->of[kind].fits ? "" : *run ? "; does not fit" : "does not fit";
	return *run || *fits ? arena_printf(a, "  %s%s%s", run, price, fits) : "";
}

/* Of the most devices that have one. */
static void print_bucket(const Point *p, u32 n, u32 k)
{
	while (n && !p[n - 1].of[k].bucket)
		n--;
	if (n)
		printf("with --shard bucket=%lluMiB, messages of a layer in fewer pieces, %lld devices take %.4g s: %.1f%% less\n",
		       (unsigned long long)(p[n - 1].of[k].bucket >> 20), (long long)p[n - 1].devices, p[n - 1].of[k].bucketed,
		       100 * (1 - p[n - 1].of[k].bucketed / p[n - 1].of[k].seconds));
}

static void print_table(Arena *a, const Point *p, u32 n)
{
	for (u32 k = 0; k < 2; k++) {
		printf("%s scaling: the batch %s\n%9s %9s %11s %14s %7s %11s\n", kind_name[k], k ? "grows with the devices" : "stays", "devices",
		       "batch", "step", "tokens/s", "MFU", "efficiency");
		for (u32 i = 0; i < n; i++)
			if (p[i].of[k].seconds > 0)
				printf("%9lld %9lld %9.4g s %14s %6.1f%% %10.1f%%%s\n", (long long)p[i].devices, (long long)p[i].of[k].batch,
				       p[i].of[k].seconds, lm_scaled(a, p[i].of[k].rate), 100 * p[i].of[k].mfu, 100 * p[i].of[k].efficiency,
				       rest_of_row(a, &p[i], k));
		print_bucket(p, n, k);
		printf("%s", k ? "" : "\n");
	}
}

static json_t *point_json(const Point *p, u32 k)
{
	json_t *j = json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:b}", "devices", (json_int_t)p->devices, "batch", (json_int_t)p->of[k].batch,
			      "step_seconds", p->of[k].seconds, "tokens_per_second", p->of[k].rate, "mfu", p->of[k].mfu, "efficiency",
			      p->of[k].efficiency, "fits", (int)p->of[k].fits);
	if (p->of[k].bucket)
		json_object_set_new(j, "larger_bucket", json_pack("{s:I, s:f}", "bytes", (json_int_t)p->of[k].bucket, "step_seconds", p->of[k].bucketed));
	if (p->of[k].run > 0)
		json_object_set_new(j, "run", json_pack("{s:f, s:f}", "seconds", p->of[k].run, "dollars", p->of[k].dollars));
	return j;
}

static void print_json(const Point *p, u32 n)
{
	json_t *root = json_object();
	for (u32 k = 0; k < 2; k++) {
		json_t *list = json_array();
		for (u32 i = 0; i < n; i++)
			if (p[i].of[k].seconds > 0)
				json_array_append_new(list, point_json(&p[i], k));
		json_object_set_new(root, kind_name[k], list);
	}
	json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	putchar('\n');
	json_decref(root);
}

/* Efficiency over the logarithm of devices. */
static Status write_svg(Arena *a, const Point *p, u32 n, const char *path)
{
	enum { WIDE = 640, HIGH = 400, EDGE = 60 };
	static const char *const color[2] = { "#cc0000", "#3465a4" };
	f64 low = log2((f64)p[0].devices), wide = MAX(log2((f64)p[n - 1].devices) - low, 1e-9);
	Buf b = { .arena = a };
	buf_printf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
		       "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", WIDE, HIGH);
	for (u32 i = 0; i <= 4; i++)
		buf_printf(&b, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%u%%</text>\n",
			   EDGE, HIGH - EDGE - (HIGH - 2 * EDGE) * (int)i / 4, WIDE - EDGE, HIGH - EDGE - (HIGH - 2 * EDGE) * (int)i / 4, EDGE - 6,
			   HIGH - EDGE - (HIGH - 2 * EDGE) * (int)i / 4 + 4, 25 * i);
	for (u32 i = 0; i < n; i++)
		buf_printf(&b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%lld</text>\n",
			   EDGE + (log2((f64)p[i].devices) - low) / wide * (WIDE - 2 * EDGE), HIGH - EDGE + 18, (long long)p[i].devices);
	for (u32 k = 0; k < 2; k++) {
		buf_printf(&b, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", color[k]);
		for (u32 i = 0; i < n; i++)
			if (p[i].of[k].seconds > 0)
				buf_printf(&b, "%.1f,%.1f ", EDGE + (log2((f64)p[i].devices) - low) / wide * (WIDE - 2 * EDGE),
					   HIGH - EDGE - (HIGH - 2 * EDGE) * MIN(p[i].of[k].efficiency, 1.1));
		buf_printf(&b, "\"/><text x=\"%d\" y=\"%u\" fill=\"%s\">%s scaling</text>\n", EDGE + 12, HIGH - EDGE - 12 - 18 * k, color[k], kind_name[k]);
	}
	buf_printf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">devices</text><text x=\"%d\" y=\"24\">efficiency</text></svg>\n", WIDE / 2, HIGH - 16, EDGE);
	return io_write(path, (Blob){ (const u8 *)b.text, b.n });
}

int plan_scale(const ClusterOptions *o, const Machine *machine, i64 least, i64 most, const char *svg)
{
	Arena a = ARENA("scale");
	Point point[SIZES] = { 0 };
	u32 n = 0;
	Status s = OK;
	f64 first[2] = { 0 };
	i64 data = 1, batch = o->batch;
	const char *mesh;
	if (!batch) {
		i64 top = least;
		while (top <= most / 2)
			top *= 2;
		s = with_data(&a, o->mesh, top, &mesh, &data);
		batch = MAX(o->micro, 1) * data;
	}
	for (i64 devices = least; devices <= most && n < SIZES && !s; devices *= 2, n++) {
		point[n].devices = devices;
		s = with_data(&a, o->mesh, devices, &mesh, &data);
		for (u32 k = 0; k < 2 && !s; k++) {
			Status one = predict(&a, o, machine, k ? batch * devices / least : batch, mesh, &point[n], k);
			if (one && (k || !n)) /* strong scaling ends where the batch is used up */
				s = one;
			f64 each = point[n].of[k].rate / (f64)devices;
			first[k] = n ? first[k] : each;
			point[n].of[k].efficiency = first[k] > 0 ? each / first[k] : 0;
		}
	}
	if (!s && svg)
		s = write_svg(&a, point, n, svg);
	if (!s && o->json)
		print_json(point, n);
	else if (!s)
		print_table(&a, point, n);
	int status = s ? verb_failed("plan", s) : 0;
	arena_free(&a);
	return status;
}
