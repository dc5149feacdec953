/* runtime/checkpoint/verify.c: see verify.h. */
#include "runtime/checkpoint/verify.h"
#include "runtime/checkpoint/checkpoint.h"

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

static Status verify_checkpoint(Arena *a, const char *path, VerifyReport *out)
{
	CheckpointRecord record;
	out->is_checkpoint = true;
	Status recorded = state_read(a, path, &record);
	if (recorded)
		problem(a, out, (VerifyProblem){ .file = arena_printf(a, "%s/" CHECKPOINT_STATE, path),
						 .text = arena_strn(a, str_of(recorded->text)) });
	else
		out->nfile++;
	out->step = record.state.step;
	for (u32 i = 0; i < CHECKPOINT_FILES; i++) {
		const char *file = arena_printf(a, "%s/%s", path, checkpoint_file_name[i]);
		Safetensors s;
		Status wrong = safetensors_open(a, file, &s);
		if (wrong) {
			problem(a, out, (VerifyProblem){ .file = file,
							 .text = arena_strn(a, str_of(wrong->text)) });
			continue;
		}
		if (!recorded && (wrong = state_check_file(&record.file[i], &s)) != OK)
			problem(a, out, (VerifyProblem){ .file = file, .begin = 0,
							 .end = s.file[0].header,
							 .text = arena_strn(a, str_of(wrong->text)) });
		verify_tensors(a, &s, out);
		safetensors_close(&s);
	}
	return OK;
}

Status verify(Arena *a, const char *path, VerifyReport *out)
{
	*out = (VerifyReport){ .path = path };
	bool checkpoint = checkpoint_is_run(path) ||
			  io_exists(arena_printf(a, "%s/" CHECKPOINT_STATE, path));
	if (checkpoint)
		TRY(checkpoint_resolve(a, path, &out->path));
	/* a checkpoint that lost a file is one still */
	if (io_exists(arena_printf(a, "%s/%s", path, checkpoint_file_name[CHECKPOINT_OPTIMIZER])))
		checkpoint = true;
	if (checkpoint)
		return verify_checkpoint(a, out->path, out);
	Safetensors s;
	TRY(safetensors_open(a, path, &s));
	verify_tensors(a, &s, out);
	safetensors_close(&s);
	return OK;
}
