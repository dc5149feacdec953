/* tools/export_manifest.c: manifest.json of an exported library: what it takes and gives, what it needs, and what
 * it does, for programs that choose, check or report. */
#include "tools/export.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static json_t *tensor_json(const Export *x, const char *entry, const PackageTensor *t, bool input)
{
	json_t *dim = json_array();
	for (u32 d = 0; d < t->rank; d++)
		json_array_append_new(dim, t->formula[d] ? json_string(x->variant[0].package->formula[t->formula[d] - 1].text) :
						       json_integer(t->dim[d]));
	json_t *o = json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "dtype", dtype_info[t->dtype].name, "shape", dim, "bytes",
			      (json_int_t)t->bytes);
	const char *written = entry ? export_type(x, entry, t->name, input) : NULL;
	if (written)
		json_object_set_new(o, "type", json_string(written));
	return o;
}

static json_t *tensors_json(const Export *x, const char *entry, const PackageTensor *t, u32 n, bool input)
{
	json_t *list = json_array();
	for (u32 i = 0; i < n; i++)
		json_array_append_new(list, tensor_json(x, entry, &t[i], input));
	return list;
}

static json_t *kernels_json(const Package *p, const PackageEntry *e)
{
	json_t *list = json_array();
	for (u32 i = 0; i < e->nstep; i++) {
		const PackageStep *s = &e->step[i];
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:f, s:f}", "name", s->name, "symbol",
						      s->grid ? s->grid[0].symbol : p->symbol[s->code], "file",
						      s->file, "line", (int)s->line, "flops", s->flops, "bytes", s->bytes));
	}
	return list;
}

static json_t *entry_json(const Export *x, const Package *p, const PackageEntry *e)
{
	return json_pack("{s:s, s:o, s:o, s:f, s:f, s:o}", "name", e->name, "inputs", tensors_json(x, e->name, e->input, e->ninput, true),
			 "results", tensors_json(x, e->name, e->result, e->nresult, false), "flops", e->model_flops, "hardware_flops",
			 e->hardware_flops, "kernels", kernels_json(p, e));
}

static json_t *variant_json(const Export *x, const ExportVariant *v)
{
	const Package *p = v->package;
	json_t *entries = json_array();
	for (u32 i = 0; i < p->nentry; i++)
		json_array_append_new(entries, entry_json(x, p, &p->entry[i]));
	return json_pack("{s:s, s:s, s:s, s:{s:I, s:I}, s:o}", "device", x->cuda ? "cuda" : "cpu", x->cuda ? "arch" : "cpu", v->cpu, "needs", v->features, "workspace", "values",
			 (json_int_t)(p->arena_bytes - p->persistent_bytes), "each_thread", (json_int_t)p->thread_scratch, "entries",
			 entries);
}

/* Sizes that runs are given; shapes are in their terms, and bytes and FLOPs those at most. */
static json_t *ranges_json(const Package *p)
{
	json_t *ranges = json_object();
	for (u32 i = 0; i < p->naxis; i++)
		json_object_set_new(ranges, p->axis[i].name, json_pack("[i, I]", 1, (json_int_t)p->axis[i].most));
	return ranges;
}

Status export_manifest(const Export *x)
{
	const Package *p = x->variant[0].package;
	json_t *weights = json_array(), *variants = json_array();
	for (u32 i = 0; i < p->nbuffer; i++)
		json_array_append_new(weights, tensor_json(x, NULL, &p->buffer[i].tensor, false));
	for (u32 i = 0; i < x->nvariant; i++)
		json_array_append_new(variants, variant_json(x, &x->variant[i]));
	json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:I, s:b, s:I, s:o, s:o}", "plinth", PLINTH_VERSION, "model", x->model,
				 "name", x->name, "source", x->source, "sizes", x->sizes, "ranges", ranges_json(p), "precision", x->precision, "machine", x->machine,
				 "library_bytes", (json_int_t)x->library_bytes, "embedded", (int)x->embedded, "weights_bytes",
				 (json_int_t)x->weights_bytes, "variants", variants, "weights", weights);
	char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) : NULL;
	json_decref(root);
	if (!text)
		return FAIL(STATUS_INPUT, "a name in %s cannot be written as JSON", x->source);
	const char *whole = arena_printf(x->arena, "%s\n", text);
	free(text);
	return export_write(x, "manifest.json", (Blob){ (const u8 *)whole, strlen(whole) });
}
