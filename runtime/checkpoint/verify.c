/* runtime/checkpoint/verify.c: see verify.h. */
#include "runtime/checkpoint/verify.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/part.h"

#include <string.h>

static void problem(Arena *a, VerifyReport *out, VerifyProblem p)
{
	p.file = arena_strn(a, str_of(p.file));
	VEC_PUSH(a, &out->problem, p);
}

/* Every tensor of an open file; in a checkpoint each must state a hash. */
static void verify_tensors(Arena *a, const Safetensors *s, VerifyReport *out)
{
	for (u32 i = 0; i < s->ntensor; i++) {
		const SafeTensor *t = &s->tensor[i];
		char found[SAFE_HASH_TEXT];
		out->ntensor++;
		out->count[t->dtype]++;
		out->elements += t->data.n / safe_dtype_size(t->dtype);
		out->nhashed += t->hash != NULL;
		VerifyProblem p = { .file = s->file[t->file].path,
				    .tensor = t->name,
				    .begin = t->begin,
				    .end = t->begin + t->data.n };
		if (t->hash) {
			safe_hash(t->data, found);
			if (strcmp(found, t->hash) != 0)
				p.text = arena_printf(a, "its hash is %s, not %s as saved", found,
						      safe_quoted(a, str_of(t->hash)));
		} else if (out->is_checkpoint) {
			p.text = "states no hash, as every tensor of a checkpoint does";
		}
		if (p.text)
			problem(a, out, p);
	}
	for (u32 i = 0; i < s->nfile; i++)
		out->bytes += s->file[i].bytes.n;
	out->nfile += s->nfile;
}

/* Where state.json cannot be read: the file, or the files of the index. */
static const char *unrecorded(Arena *a, const char *path, u32 which)
{
	const char *file = arena_printf(a, "%s/%s", path, checkpoint_part_name(a, which, 0, 1));
	const char *index = arena_printf(a, "%s/%s", path, checkpoint_index_name(a, which));
	return io_exists(index) ? index : file;
}

/* A file of the checkpoint; `recorded` is NULL where state.json cannot be read. Says whether it is what it was. */
static bool verify_file(Arena *a, const char *path, const CheckpointFile *recorded, VerifyReport *out)
{
	u32 before = out->problem.n;
	Safetensors s = { 0 };
	Status wrong = recorded && checkpoint_is_index(recorded->name) ? OK : safetensors_open(a, path, &s);
	if (wrong) {
		problem(a, out, (VerifyProblem){ .file = path, .text = arena_strn(a, str_of(wrong->text)) });
		return false;
	}
	if (recorded) {
		const char *folder = arena_strn(a, (Str){ path, strlen(path) - strlen(recorded->name) - 1 });
		wrong = s.nfile ? state_check_file(recorded, &s.file[0]) : state_check_index(a, folder, recorded);
		out->nfile += !s.nfile;
	}
	if (wrong)
		problem(a, out, (VerifyProblem){ .file = path, .end = s.nfile ? s.file[0].header : 0,
						 .text = arena_strn(a, str_of(wrong->text)) });
	verify_tensors(a, &s, out);
	safetensors_close(&s);
	return out->problem.n == before;
}

/* Do tensors that lie in parts have all of them? */
static void verify_parts(Arena *a, const char *path, const CheckpointRecord *record, u32 which, VerifyReport *out)
{
	Safetensors s;
	Buf note = { .arena = a };
	u32 n, misfits = 0;
	Status wrong = state_open(a, path, record, which, &s);
	if (wrong) {
		problem(a, out, (VerifyProblem){ .file = path, .text = arena_strn(a, str_of(wrong->text)) });
		return;
	}
	part_tensors(a, &s, &n, &note, &misfits);
	Str text = buf_str(&note);
	for (const char *line = text.s, *end; line < text.s + text.n; line = end + 1) {
		end = strchr(line, '\n');
		problem(a, out, (VerifyProblem){ .file = path, .text = arena_strn(a, (Str){ line, (size_t)(end - line) }) });
	}
	safetensors_close(&s);
}

static Status verify_checkpoint(Arena *a, const char *path, VerifyReport *out)
{
	CheckpointRecord record;
	out->is_checkpoint = true;
	Status recorded = state_read(a, path, &record);
	out->step = record.state.step;
	if (recorded) {
		problem(a, out, (VerifyProblem){ .file = arena_printf(a, "%s/" CHECKPOINT_STATE, path),
						 .text = arena_strn(a, str_of(recorded->text)) });
		for (u32 i = 0; i < CHECKPOINT_FILES; i++)
			verify_file(a, unrecorded(a, path, i), NULL, out);
		return OK;
	}
	out->nfile++;
	bool whole = true;
	for (u32 i = 0; i < record.nfile; i++)
		whole &= verify_file(a, arena_printf(a, "%s/%s", path, record.file[i].name), &record.file[i], out);
	for (u32 i = 0; i < CHECKPOINT_FILES && whole; i++)
		verify_parts(a, path, &record, i, out);
	return OK;
}

static Status verify_found(Arena *a, const char *path, bool checkpoint, VerifyReport *out)
{
	*out = (VerifyReport){ .path = path };
	if (checkpoint)
		return verify_checkpoint(a, path, out);
	Safetensors s;
	TRY(safetensors_open(a, path, &s));
	verify_tensors(a, &s, out);
	safetensors_close(&s);
	return OK;
}

Status verify(Arena *a, const char *path, VerifyReport *out)
{
	/* a checkpoint that lost a file is one still */
	if (!checkpoint_is_run(path) && !io_exists(arena_printf(a, "%s/" CHECKPOINT_STATE, path)))
		return verify_found(a, path, io_exists(unrecorded(a, path, CHECKPOINT_OPTIMIZER)), out);
	CheckpointPlace place;
	Status s;
	do {
		TRY(checkpoint_find(a, path, &place));
		s = verify_found(a, place.path, true, out);
	} while ((s || out->problem.n) && checkpoint_is_gone(&place));
	return s;
}
