/* runtime/checkpoint/state.c: see state.h. */
#include "runtime/checkpoint/state.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define OWN_HASH "xxh3-128"
enum { FORMAT = 1 };

const char *const checkpoint_file_name[CHECKPOINT_FILES] = { "model", "optimizer" };

#define INDEX_END ".safetensors.index.json"

const char *checkpoint_part_name(Arena *a, u32 which, u32 rank, u32 ranks)
{
	if (ranks == 1)
		return arena_printf(a, "%s.safetensors", checkpoint_file_name[which]);
	return arena_printf(a, "%s-%05u-of-%05u.safetensors", checkpoint_file_name[which], rank + 1, ranks);
}

const char *checkpoint_index_name(Arena *a, u32 which)
{
	return arena_printf(a, "%s" INDEX_END, checkpoint_file_name[which]);
}

u32 checkpoint_file_kind(const char *name)
{
	u32 which = 0;
	for (; which < CHECKPOINT_FILES; which++) {
		size_t n = strlen(checkpoint_file_name[which]);
		if (!strncmp(name, checkpoint_file_name[which], n) && (name[n] == '.' || name[n] == '-'))
			break;
	}
	return which;
}

bool checkpoint_is_index(const char *name)
{
	return str_ends(str_of(name), STR(INDEX_END));
}

static int put_text(const char *text, size_t n, void *buf)
{
	buf_put(buf, (Str){ text, n });
	return 0;
}

/* The hash of everything but the hash: of the compact form with sorted keys. */
static void own_hash(json_t *root, char out[SAFE_HASH_TEXT])
{
	Arena tmp = ARENA("state");
	Buf b = { .arena = &tmp };
	json_t *rest = json_copy(root);
	json_object_del(rest, OWN_HASH);
	json_dump_callback(rest, put_text, &b, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(rest);
	safe_hash((Blob){ (const u8 *)b.text, b.n }, out);
	arena_free(&tmp);
}

Status state_write(const char *path, const CheckpointState *state, const CheckpointFile *file, u32 nfile)
{
	json_error_t e;
	json_t *loader = state->loader ? json_loads(state->loader, JSON_DECODE_ANY, &e) : json_null();
	if (!loader)
		return FAIL(STATUS_INPUT, "cannot write %s: the loader's position is no JSON: %s", path,
			    e.text);
	Arena tmp = ARENA("state_write");
	json_t *tuning = json_object(), *files = json_object();
	for (u32 i = 0; i < state->ntuning; i++)
		json_object_set_new(tuning, state->tuning[i].key, json_string(state->tuning[i].value));
	for (u32 i = 0; i < nfile; i++)
		json_object_set_new(files, file[i].name,
				    json_pack("{s:I, s:s}", "bytes", (json_int_t)file[i].bytes, "header",
					      file[i].header_hash));
	json_t *root = json_pack(
		"{s:i, s:s, s:I, s:s, s:s, s:I, s:o, s:o, s:o}", "format", FORMAT, "plinth",
		PLINTH_VERSION, "step", (json_int_t)state->step, "seed",
		arena_printf(&tmp, "%llu", (unsigned long long)state->seed), "program",
		state->program ? state->program : "", "metrics_bytes",
		(json_int_t)state->metrics_bytes, "loader", loader, "tuning", tuning, "files", files);
	if (root && state->validated)
		json_object_set_new(root, "validation_loss", json_real(state->validation_loss));
	Status s = OK;
	if (!root || json_object_size(tuning) != state->ntuning) {
		s = FAIL(STATUS_INPUT, "cannot write %s: a text in it is not UTF-8, or there twice", path);
	} else {
		char hash[SAFE_HASH_TEXT];
		own_hash(root, hash);
		json_object_set_new(root, OWN_HASH, json_string(hash));
		Buf b = { .arena = &tmp };
		json_dump_callback(root, put_text, &b, JSON_INDENT(2));
		buf_char(&b, '\n');
		s = io_write(path, (Blob){ (const u8 *)b.text, b.n });
	}
	json_decref(root);
	arena_free(&tmp);
	return s;
}

static const char *text_at(Arena *a, const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? arena_strn(a, str_of(text)) : NULL;
}

static bool count_at(const json_t *object, const char *key, u64 *out)
{
	const json_t *v = json_object_get(object, key);
	*out = (u64)json_integer_value(v);
	return json_is_integer(v) && json_integer_value(v) >= 0;
}

static Status read_root(Arena *a, const char *path, json_t *root, CheckpointRecord *out)
{
	u64 format;
	if (!count_at(root, "format", &format))
		return FAIL(STATUS_INPUT, "%s: has no \"format\": it is not a checkpoint's state", path);
	if (format != FORMAT)
		return FAIL(STATUS_INPUT,
			    "%s: is of format %llu, and this Plinth (" PLINTH_VERSION ") reads format %d",
			    path, (unsigned long long)format, FORMAT);
	char hash[SAFE_HASH_TEXT];
	own_hash(root, hash);
	const char *stated = json_string_value(json_object_get(root, OWN_HASH));
	if (!stated || strcmp(stated, hash) != 0)
		return FAIL(STATUS_INPUT, "%s: is damaged or was edited: its hash is %s, not as stated", path,
			    hash);

	CheckpointState *st = &out->state;
	st->program = text_at(a, root, "program");
	st->version = text_at(a, root, "plinth");
	const char *seed = text_at(a, root, "seed");
	const json_t *loader = json_object_get(root, "loader");
	json_t *files = json_object_get(root, "files");
	json_t *tuning = json_object_get(root, "tuning");
	bool whole = count_at(root, "step", &st->step) &&
		     count_at(root, "metrics_bytes", &st->metrics_bytes) && st->program &&
		     st->version && seed && loader && json_is_object(tuning);
	bool found[CHECKPOINT_FILES + 1] = { 0 };
	out->file = NEWN(a, CheckpointFile, json_object_size(files) + 1);
	for (void *i = json_object_iter(files); i && whole; i = json_object_iter_next(files, i)) {
		const json_t *entry = json_object_iter_value(i);
		CheckpointFile *f = &out->file[out->nfile++];
		f->name = arena_strn(a, str_of(json_object_iter_key(i)));
		f->header_hash = text_at(a, entry, "header");
		found[checkpoint_file_kind(f->name)] = true;
		whole = count_at(entry, "bytes", &f->bytes) && f->header_hash && !strchr(f->name, '/');
	}
	whole &= found[CHECKPOINT_MODEL] && found[CHECKPOINT_OPTIMIZER] && !found[CHECKPOINT_FILES];
	if (!whole)
		return FAIL(STATUS_INPUT, "%s: lacks an entry that a checkpoint's state has", path);
	st->seed = strtoull(seed, NULL, 10);
	const json_t *loss = json_object_get(root, "validation_loss");
	st->validated = json_is_number(loss);
	st->validation_loss = json_number_value(loss);
	if (!json_is_null(loader)) {
		Buf b = { .arena = a };
		json_dump_callback(loader, put_text, &b, JSON_COMPACT | JSON_ENCODE_ANY);
		st->loader = b.text;
	}
	TextPair *pair = NEWN(a, TextPair, json_object_size(tuning));
	for (void *i = json_object_iter(tuning); i; i = json_object_iter_next(tuning, i)) {
		const char *key = json_object_iter_key(i), *value = text_at(a, tuning, key);
		if (!value)
			return FAIL(STATUS_INPUT, "%s: a tuning choice is not a string", path);
		pair[st->ntuning++] = (TextPair){ arena_strn(a, str_of(key)), value };
	}
	st->tuning = pair;
	return OK;
}

Status state_read(Arena *a, const char *folder, CheckpointRecord *out)
{
	*out = (CheckpointRecord){ 0 };
	const char *path = arena_printf(a, "%s/" CHECKPOINT_STATE, folder);
	Str text;
	TRY(io_read(a, path, &text));
	json_error_t e;
	json_t *root = json_loadb(text.s, text.n, JSON_REJECT_DUPLICATES, &e);
	Status s = root ? read_root(a, path, root, out) :
			  FAIL(STATUS_INPUT, "%s:%d:%d: no JSON: %s", path, e.line, e.column,
			       safe_quoted(a, str_of(e.text)));
	json_decref(root);
	return s;
}

/* Is the file what was recorded, by its size and the hash of its first `hashed` bytes? */
static Status check(const CheckpointFile *recorded, const char *path, Blob all, u64 hashed)
{
	if (all.n != recorded->bytes)
		return FAIL(STATUS_INPUT, "%s: has %zu bytes, and %llu when it was saved", path, all.n,
			    (unsigned long long)recorded->bytes);
	char hash[SAFE_HASH_TEXT];
	safe_hash((Blob){ all.p, hashed }, hash);
	if (strcmp(hash, recorded->header_hash) != 0)
		return FAIL(STATUS_INPUT,
			    "%s: its header (bytes 0 to %llu) is damaged, or the file is of another "
			    "checkpoint: its hash is %s, not %s as saved",
			    path, (unsigned long long)hashed, hash, recorded->header_hash);
	return OK;
}

Status state_check_file(const CheckpointFile *recorded, const SafeFile *f)
{
	return check(recorded, f->path, f->bytes, f->header);
}

Status state_check_index(Arena *a, const char *folder, const CheckpointFile *recorded)
{
	const char *path = arena_printf(a, "%s/%s", folder, recorded->name);
	Str text;
	TRY(io_read(a, path, &text));
	return check(recorded, path, (Blob){ (const u8 *)text.s, text.n }, text.n);
}

Status state_open(Arena *a, const char *folder, const CheckpointRecord *r, u32 which, Safetensors *out)
{
	const char **path = NEWN(a, const char *, r->nfile);
	const CheckpointFile **file = NEWN(a, const CheckpointFile *, r->nfile);
	u32 n = 0;
	for (u32 i = 0; i < r->nfile; i++) {
		if (checkpoint_file_kind(r->file[i].name) != which || checkpoint_is_index(r->file[i].name))
			continue;
		path[n] = arena_printf(a, "%s/%s", folder, r->file[i].name);
		file[n++] = &r->file[i];
	}
	TRY(safetensors_open_all(a, path, n, out));
	Status s = OK;
	for (u32 i = 0; i < n && !s; i++)
		s = state_check_file(file[i], &out->file[i]);
	if (s)
		safetensors_close(out);
	return s;
}
