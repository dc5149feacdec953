/* tools/verb_convert.c: `plinth convert MODEL --weights FILE -o FOLDER`: what `from_pretrained` opens: model.safetensors,
 * config.json (the config's values that say `from "key"`, and what the source's published block says besides), and the
 * tokenizer. Nothing is compiled: the parameters are those of the source, by their published names. Of an adapted model
 * that saves what is trained alone, so does the folder: its file is an adapter's, and its config what the block says. */
#include "runtime/checkpoint/stacked.h"
#include "runtime/checkpoint/weights.h"
#include "runtime/data/tokenizer.h"
#include "runtime/views.h"
#include "tools/lm.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static SourceOptions source;
static const char *weights, *tokenizer, *output;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	{ "weights", 'w', OPTION_TEXT, &weights, "FILE", "parameters: a checkpoint, a run's folder, safetensors; several, with commas" },
	{ "tokenizer", 0, OPTION_TEXT, &tokenizer, "FILE", "tokenizer.json, *.model or vocab.txt; a run's own, or that beside the weights, by default" },
	{ "output", 'o', OPTION_FOLDER, &output, "FOLDER", "made if missing" },
};

static const Command command = {
	.name = "convert",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Writes parameters as published models have them: FOLDER/model.safetensors, config.json\n"
		 "and tokenizer.json, which `AutoModel.from_pretrained(FOLDER)` of Hugging Face's\n"
		 "transformers opens. MODEL is a source, or the folder of a run. The values of its config\n"
		 "that say `from \"key\"` are those of config.json; what it needs besides, such as\n"
		 "model_type, the source says in a block `published { }`, or --hf-config, and where diffusers or peft open\n"
		 "the folder what they call its files. Of an adapted model that saves what is trained\n"
		 "alone, that alone is written.",
	.example = "  plinth convert runs/gpt2 -o published/gpt2\n"
		   "  plinth convert models/bert.plinth --preset minilm --weights model.safetensors -o minilm",
	.option = options,
	.noption = COUNT(options),
};

/* ---- config.json ---- */

/* A value as the language writes it, which but for `none` is how JSON does. */
static json_t *json_of(const char *text)
{
	if (!strcmp(text, "none"))
		return json_null();
	return json_loads(text, JSON_DECODE_ANY, NULL);
}

/* Sets `key`, in which a dot means an entry of an object. */
static Status set(Arena *a, json_t *root, const char *key, const char *text)
{
	json_t *v = json_of(text), *at = root;
	if (!v)
		return FAIL(STATUS_INPUT, "the value %s of %s cannot be said in a config.json", text, key);
	for (const char *dot; (dot = strchr(key, '.')); key = dot + 1) {
		const char *name = arena_strn(a, (Str){ key, (size_t)(dot - key) });
		json_t *inner = json_object_get(at, name);
		if (!json_is_object(inner)) {
			inner = json_object();
			json_object_set_new(at, name, inner);
		}
		at = inner;
	}
	json_object_set_new(at, key, v);
	return OK;
}

static Status write_json(Arena *a, const char *name, json_t *root)
{
	char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
	json_decref(root);
	if (!text)
		return FAIL(STATUS_MEMORY, "no memory to write %s", name);
	Status s = io_write(arena_printf(a, "%s/%s", output, name), (Blob){ (const u8 *)text, strlen(text) });
	free(text);
	return s;
}

/* Does a published config say what the program's value is? An object, which stands for how many entries it has, does if that is so. */
static bool agrees(const json_t *given, const char *text)
{
	json_t *own = json_of(text);
	bool same = own && (json_is_object(given) ? json_is_integer(own) && (json_int_t)json_object_size(given) == json_integer_value(own) :
			    json_is_number(own)   ? json_is_number(given) && json_number_value(given) == json_number_value(own) :
						    json_equal(own, given));
	json_decref(own);
	return same;
}

/* What --hf-config says and the source does not: ids of tokens, names of classes, how long texts may be. Of the values that the source
 * has, those by the same and by other names stay where they are as they were. */
static Status kept_config(Lm *lm, json_t **out)
{
	static const char *const renewed[] = { "dtype", "torch_dtype", "quantization_config", "transformers_version", "_name_or_path" };
	const Model *m = lm->model;
	if (!source.config || m->published_config || m->published_file) {
		*out = json_object();
		return OK;
	}
	TRY(source_read_config(&lm->arena, source.config, out));
	for (u32 i = 0; i < COUNT(renewed); i++)
		json_object_del(*out, renewed[i]);
	for (u32 i = 0; i < m->config.n; i++) {
		const ConfigValue *v = &m->config.v[i];
		const char *key = v->key;
		for (u32 k = 0; key; key = v->also ? v->also[k++] : NULL) {
			const json_t *given = source_config_entry(&lm->arena, *out, key);
			if (given && !json_is_null(given) && !agrees(given, v->text))
				json_object_del(*out, arena_printf(&lm->arena, "%.*s", (int)strcspn(key, "."), key));
		}
	}
	return OK;
}

static Status write_config(Lm *lm)
{
	const Model *m = lm->model;
	json_t *root;
	Status s = kept_config(lm, &root);
	if (s)
		return s;
	for (u32 i = 0; i < m->config.n && !s; i++)
		if (m->config.v[i].key && !m->published_config)
			s = set(&lm->arena, root, m->config.v[i].key, m->config.v[i].text);
	for (u32 i = 0; i < m->published.n && !s; i++)
		s = set(&lm->arena, root, m->published.v[i].key, m->published.v[i].text);
	if (!s && !m->published_file && !json_object_get(root, "torch_dtype"))
		json_object_set_new(root, "torch_dtype", json_string("float32"));
	if (s) {
		json_decref(root);
		return s;
	}
	return write_json(&lm->arena, m->published_config ? m->published_config : "config.json", root);
}

/* ---- the tokenizer ---- */

static Status write_tokenizer(Arena *a, const Tokenizer *t)
{
	static const struct {
		const char *key, *names[4];
	} role[] = { { "unk_token", { "[UNK]", "<unk>" } },
		     { "pad_token", { "[PAD]", "<pad>" } },
		     { "cls_token", { "[CLS]" } },
		     { "sep_token", { "[SEP]" } },
		     { "mask_token", { "[MASK]", "<mask>" } },
		     { "bos_token", { "<s>", "<|begin_of_text|>", END_OF_TEXT } },
		     { "eos_token", { "</s>", "<|end_of_text|>", END_OF_TEXT } } };
	Status s = tokenizer_save(t, arena_printf(a, "%s/tokenizer.json", output));
	json_t *root = json_pack("{s:s}", "tokenizer_class", "PreTrainedTokenizerFast");
	for (u32 r = 0; r < COUNT(role); r++)
		for (u32 k = 0; k < COUNT(role[r].names) && role[r].names[k] && !json_object_get(root, role[r].key); k++)
			if (tokenizer_special(t, role[r].names[k]) != TOKEN_NONE)
				json_object_set_new(root, role[r].key, json_string(role[r].names[k]));
	if (s) {
		json_decref(root);
		return s;
	}
	return write_json(a, "tokenizer_config.json", root);
}

/* ---- the parameters ---- */

/* Those of the program, in memory of their own, as files have them; `trained` counts those that are not frozen, which come first. */
static BufferViews parameters(Lm *lm, u32 *trained)
{
	const Program *p = lm->model->program;
	Arena *a = &lm->arena;
	NamedBuffer *whole = NEWN(a, NamedBuffer, p->buffer.n + 1);
	u32 n = 0, parts = 0;
	for (u32 i = 0; i < 2 * p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i % p->buffer.n];
		if (i == p->buffer.n)
			*trained = parts;
		if (b->kind != BUFFER_PARAMETER || b->frozen != (i >= p->buffer.n))
			continue;
		i64 *dim = NEWN(a, i64, b->type->rank + 1);
		for (u32 d = 0; d < b->type->rank; d++)
			dim[d] = type_extent(b->type, d);
		whole[n] = (NamedBuffer){ .name = b->name, .dtype = safe_dtype_of((PackageDtype)b->type->dtype), .rank = b->type->rank, .dim = dim };
		whole[n].data = arena_push(a, 1, safe_buffer_bytes(&whole[n]) + 1, 16);
		parts += stacked_count(&whole[n++]);
	}
	BufferViews out = { .v = NEWN(a, NamedBuffer, parts + 1) };
	for (u32 i = 0; i < n; i++) {
		stacked_parts(a, &whole[i], out.v + out.n);
		out.n += stacked_count(&whole[i]);
	}
	return out;
}

static Status run(Lm *lm)
{
	const char *from = weights ? weights : lm->operand.checkpoint;
	if (!from)
		return FAIL(STATUS_INPUT, "which parameters? --weights FILE, or a run's folder in place of the source");
	if (lm->file)
		return FAIL(STATUS_INPUT, "%s is a package, which has no source: its config and names are wanted", lm->operand.source);
	const Model *m = lm->model;
	if (lm_saves_trained(lm) && !m->published_file)
		return FAIL(STATUS_INPUT, "%s saves what is trained alone, which is no model that from_pretrained opens: a block published { } says what "
					  "an adapter's folder has, with file, config and rename, as models/lora.plinth does",
			    lm->operand.source);
	u32 trained = 0;
	BufferViews p = parameters(lm, &trained);
	if (lm_saves_trained(lm) && !weights) {
		p.n = trained;
		TRY(weights_load(&lm->arena, from, NULL, 0, p.v, p.n, &lm->source.diag));
	} else {
		TRY(lm_weights_into(lm, p, from));
		p.n = lm_saves_trained(lm) ? trained : p.n;
	}
	WeightRule *rule = NEWN(&lm->arena, WeightRule, m->published_name.n + 1);
	for (u32 i = 0; i < m->published_name.n; i++)
		rule[i] = (WeightRule){ m->published_name.v[i].pattern, m->published_name.v[i].replacement };
	for (u32 i = 0; i < p.n; i++)
		p.v[i].name = weights_rename(&lm->arena, rule, m->published_name.n, p.v[i].name);
	Tokenizer *t;
	TRY(lm_tokenizer(lm, tokenizer, weights, &t)); /* before the first file is written */
	Status s = io_make_folder(output);
	const char *file = m->published_file ? m->published_file : "model.safetensors";
	if (!s)
		s = safetensors_write(arena_printf(&lm->arena, "%s/%s", output, file), p.v, p.n, &(TextPair){ "format", "pt" }, 1, NULL);
	if (!s)
		s = write_config(lm);
	if (!s && t)
		s = write_tokenizer(&lm->arena, t);
	tokenizer_close(t);
	return s;
}

int verb_convert(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	if (!output)
		return verb_misused("convert", "where to? -o FOLDER is missing");
	Lm lm;
	Status s = lm_open_source(operand[0], &source, &lm);
	if (!s)
		s = run(&lm);
	status = s ? lm_failed("convert", &lm, s) : 0;
	lm_close(&lm);
	return status;
}
