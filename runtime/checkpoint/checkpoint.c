/* runtime/checkpoint/checkpoint.c: finding, opening and restoring a checkpoint; see checkpoint.h.
 * Saving is in save.c. */
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/save.h"
#include "runtime/checkpoint/weights.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool checkpoint_step_of(const char *name, u64 *step)
{
	if (strncmp(name, "step-", 5) != 0 || strlen(name) > 24)
		return false;
	char again[40];
	*step = strtoull(name + 5, NULL, 10);
	snprintf(again, sizeof again, CHECKPOINT_FOLDER, (unsigned long long)*step);
	return !strcmp(name, again);
}

bool checkpoint_is_temporary(const char *name)
{
	return strstr(name, IO_TEMPORARY) != NULL;
}

bool checkpoint_is_run(const char *path)
{
	char latest[4200];
	snprintf(latest, sizeof latest, "%s/" CHECKPOINT_LATEST, path);
	return io_exists(latest);
}

/* The newest whole checkpoint's name, for advice, or NULL. */
static const char *newest(Arena *a, const char *run)
{
	DIR *d = opendir(run);
	const char *best = NULL;
	u64 most = 0, step;
	for (const struct dirent *e; d && (e = readdir(d));)
		if (checkpoint_step_of(e->d_name, &step) && (!best || step > most)) {
			best = arena_strn(a, str_of(e->d_name));
			most = step;
		}
	if (d)
		closedir(d);
	return best;
}

/* What `latest` names. */
static Status named(Arena *a, const char *pointer, const char **out)
{
	Str name;
	u64 step;
	TRY(io_read(a, pointer, &name));
	if (name.n && name.s[name.n - 1] == '\n')
		name.n--;
	*out = arena_strn(a, name);
	if (strlen(*out) != name.n || !checkpoint_step_of(*out, &step))
		return FAIL(STATUS_INPUT, "%s: names %s, which is no checkpoint's name", pointer,
			    safe_quoted(a, name));
	return OK;
}

Status checkpoint_resolve(Arena *a, const char *path, const char **out)
{
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	path = arena_strn(a, (Str){ path, n });
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	if (checkpoint_is_temporary(base))
		return FAIL(STATUS_INPUT, "%s: is an unfinished save, not a checkpoint", path);
	*out = path;
	if (io_exists(arena_printf(a, "%s/" CHECKPOINT_STATE, path)))
		return OK;
	if (!checkpoint_is_run(path)) {
		const char *found = newest(a, path);
		if (found)
			return FAIL(STATUS_INPUT,
				    "%s: has no `latest` in it, which a run's folder has from its first "
				    "save on; name the checkpoint itself: %s/%s",
				    path, path, found);
		return FAIL(STATUS_INPUT, "%s: %s", path,
			    io_exists(path) ? "is no checkpoint: there is neither " CHECKPOINT_STATE
					      " nor `latest` in it" :
					      "there is no such checkpoint");
	}
	const char *pointer = arena_printf(a, "%s/" CHECKPOINT_LATEST, path), *folder, *before = "";
	for (;; before = folder) { /* again, where the run that goes on has removed it meanwhile */
		TRY(named(a, pointer, &folder));
		*out = arena_printf(a, "%s/%s", path, folder);
		if (io_exists(*out))
			return OK;
		if (!strcmp(folder, before))
			return FAIL(STATUS_INPUT, "%s: names %s, which is not there", pointer, folder);
	}
}

/* The folder's own number; 0: there is none, and errno says why. */
static u64 folder_number(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

Status checkpoint_find(Arena *a, const char *path, CheckpointPlace *out)
{
	do {
		TRY(checkpoint_resolve(a, path, &out->path));
		out->number = folder_number(out->path);
	} while (!out->number && errno == ENOENT); /* removed meanwhile: by now there is another, or it is told that there is none */
	return out->number ? OK : io_cannot("read", out->path);
}

bool checkpoint_is_gone(const CheckpointPlace *p)
{
	return folder_number(p->path) != p->number;
}

static Status open_at(Arena *a, const char *path, Checkpoint *out)
{
	*out = (Checkpoint){ 0 };
	CheckpointRecord record;
	TRY(state_read(a, path, &record));
	out->path = path;
	out->state = record.state;
	Safetensors *file[CHECKPOINT_FILES] = { &out->model, &out->optimizer };
	Status s = OK;
	for (u32 i = 0; i < CHECKPOINT_FILES && !s; i++)
		s = state_open(a, path, &record, i, file[i]);
	if (s)
		checkpoint_close(out);
	return s;
}

Status checkpoint_open(Arena *a, const char *path, Checkpoint *out)
{
	CheckpointPlace place;
	Status s;
	do {
		TRY(checkpoint_find(a, path, &place));
		s = open_at(a, place.path, out);
	} while (s && checkpoint_is_gone(&place));
	return s;
}

void checkpoint_close(Checkpoint *c)
{
	safetensors_close(&c->model);
	safetensors_close(&c->optimizer);
	*c = (Checkpoint){ 0 };
}

/* Every tensor of a checkpoint has a hash: the header's own hash says that none was taken away. */
Status checkpoint_load(const Checkpoint *c, const NamedBuffer *parameter, u32 nparameter,
		       const NamedBuffer *other, u32 nother, Diag *d)
{
	Arena tmp = ARENA("checkpoint_load");
	const Safetensors *file[CHECKPOINT_FILES] = { &c->model, &c->optimizer };
	const NamedBuffer *want[CHECKPOINT_FILES] = { parameter, other };
	u32 n[CHECKPOINT_FILES] = { nparameter, nother };
	const SafeTensor **match[CHECKPOINT_FILES];
	Buf note = { .arena = &tmp };
	u32 misfits = 0;
	for (u32 i = 0; i < CHECKPOINT_FILES; i++) {
		match[i] = NEWN(&tmp, const SafeTensor *, n[i]);
		FitRequest r = { .path = c->path, .have = file[i], .want = want[i], .n = n[i] };
		misfits += weights_fit(&tmp, &r, match[i], &note);
	}
	Status s = misfits ? weights_misfit(d, E0901, c->path, misfits, &note) : OK;
	for (u32 i = 0; i < CHECKPOINT_FILES && !s; i++)
		s = weights_check(&tmp, file[i], want[i], match[i], n[i]);
	for (u32 i = 0; i < CHECKPOINT_FILES && !s; i++)
		s = weights_copy(want[i], match[i], n[i]);
	arena_free(&tmp);
	return s;
}
