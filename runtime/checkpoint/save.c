/* runtime/checkpoint/save.c: saving a checkpoint so that no crash, kill, full disk or power cut leaves
 * a run without one; see checkpoint.h. The order carries it: write and sync the files under a
 * temporary folder name, rename the folder, sync the run's folder, replace `latest`, sync again, and
 * only then remove what is old. What a killed save leaves behind has a name that nothing reads, and
 * the next save removes it. Of several ranks, rank 0 does all that but each writing its files: it makes the folder
 * before, and goes on when all are done. */
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/save.h"
#include "runtime/comm/comm.h"
#include "support/vec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef VEC(const char *) Names;

static Status list(Arena *a, const char *folder, Names *out)
{
	DIR *d = opendir(folder);
	if (!d)
		return io_cannot("open", folder);
	Status s = OK;
	for (;;) {
		errno = 0;
		const struct dirent *e = readdir(d);
		if (!e) {
			if (errno)
				s = io_cannot("read", folder);
			break;
		}
		VEC_PUSH(a, out, arena_strn(a, str_of(e->d_name)));
	}
	closedir(d);
	return s;
}

/* Was `name` left by a save that was killed? */
static bool is_stale(const char *name)
{
	bool ours = !strncmp(name, "step-", 5) || !strncmp(name, CHECKPOINT_LATEST, 6) || !strncmp(name, CHECKPOINT_BEST, 4);
	return ours && io_is_left(name);
}

static Status remove_stale(Arena *a, const char *run)
{
	Names names = { 0 };
	TRY(list(a, run, &names));
	for (u32 i = 0; i < names.n; i++) {
		if (!is_stale(names.v[i]))
			continue;
		const char *path = arena_printf(a, "%s/%s", run, names.v[i]);
		struct stat st;
		if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
			TRY(io_remove_folder(path));
		else if (unlink(path) != 0 && errno != ENOENT)
			return io_cannot("remove", path);
	}
	return OK;
}

/* Removes a checkpoint: under another name first, so that half of one is never taken for one. */
static Status remove_checkpoint(Arena *a, const char *run, const char *name)
{
	const char *path = arena_printf(a, "%s/%s", run, name);
	const char *doomed = arena_printf(a, "%s" IO_TEMPORARY "%ld", path, (long)getpid());
	if (rename(path, doomed) != 0)
		return io_cannot("rename", path);
	return io_remove_folder(doomed);
}

static int newest_first(const void *pa, const void *pb)
{
	u64 a = 0, b = 0;
	checkpoint_step_of(*(const char *const *)pa, &a);
	checkpoint_step_of(*(const char *const *)pb, &b);
	return a > b ? -1 : a < b;
}

/* What `best` links to; empty where it is not there. */
static const char *best_name(Arena *a, const char *run)
{
	char name[256];
	ssize_t n = readlink(arena_printf(a, "%s/" CHECKPOINT_BEST, run), name, sizeof name);
	return arena_strn(a, (Str){ name, n > 0 ? (size_t)n : 0 });
}

Status checkpoint_set_best(const char *run, u64 step)
{
	Arena tmp = ARENA("best");
	const char *name = arena_printf(&tmp, CHECKPOINT_FOLDER, (unsigned long long)step);
	const char *link = arena_printf(&tmp, "%s/" CHECKPOINT_BEST, run);
	const char *temporary = arena_printf(&tmp, "%s" IO_TEMPORARY "%ld", link, (long)getpid());
	Status s = OK;
	if ((unlink(temporary) != 0 && errno != ENOENT) || symlink(name, temporary) != 0)
		s = io_cannot("create", temporary);
	else if (rename(temporary, link) != 0)
		s = io_cannot("replace", link);
	if (!s)
		s = io_sync_folder(run);
	arena_free(&tmp);
	return s;
}

Status checkpoint_best(Arena *a, const char *run, CheckpointState *out, bool *found)
{
	CheckpointRecord record;
	const char *name = best_name(a, run), *path = arena_printf(a, "%s/%s", run, name);
	*found = *name && io_exists(path);
	if (!*found)
		return OK;
	TRY(state_read(a, path, &record));
	*out = record.state;
	return OK;
}

/* Keeps the one just saved and the newest others, `keep` in all, and the best. Those of later steps, from before a
 * resume at an earlier one, count as the newest: removing them is for the user to decide. */
static Status prune(Arena *a, const CheckpointSave *save, const char *saved)
{
	Names names = { 0 };
	TRY(list(a, save->run, &names));
	u64 step;
	u32 n = 0;
	const char *best = best_name(a, save->run);
	for (u32 i = 0; i < names.n; i++)
		if (checkpoint_step_of(names.v[i], &step) && strcmp(names.v[i], saved) != 0 && strcmp(names.v[i], best) != 0)
			names.v[n++] = names.v[i];
	if (n)
		qsort(names.v, n, sizeof *names.v, newest_first);
	for (u32 i = save->keep - 1; i < n; i++)
		TRY(remove_checkpoint(a, save->run, names.v[i]));
	return OK;
}

/* This rank's file of one kind; none (`bytes` is 0) where there is nothing to write, unless it is the first. */
static Status write_file(const CheckpointSave *save, Arena *a, const char *folder, u32 which, u32 rank, u32 ranks,
			 SafeWritten *out)
{
	static const TextPair meta[] = { { "format", "pt" }, { "plinth", PLINTH_VERSION } };
	const NamedBuffer *buffer = which == CHECKPOINT_MODEL ? save->parameter : save->other;
	u32 n = which == CHECKPOINT_MODEL ? save->nparameter : save->nother;
	*out = (SafeWritten){ 0 };
	if (!n && rank)
		return OK;
	const char *path = arena_printf(a, "%s/%s", folder, checkpoint_part_name(a, which, rank, ranks));
	return safetensors_write(path, buffer, n, meta, COUNT(meta), out);
}

static Status write_files(const CheckpointSave *save, Arena *a, const char *folder)
{
	SafeWritten written[CHECKPOINT_FILES];
	CheckpointFile file[CHECKPOINT_FILES];
	if (mkdir(folder, 0777) != 0)
		return io_cannot("create", folder);
	for (u32 i = 0; i < CHECKPOINT_FILES; i++) {
		TRY(write_file(save, a, folder, i, 0, 1, &written[i]));
		file[i] = (CheckpointFile){ checkpoint_part_name(a, i, 0, 1), written[i].bytes, written[i].header_hash };
	}
	return state_write(arena_printf(a, "%s/" CHECKPOINT_STATE, folder), &save->state, file, CHECKPOINT_FILES);
}

/* Gives the finished folder its name. One of that name that is there already is exchanged for it, so
 * that the name is never without a checkpoint. */
static Status publish(const char *temporary, const char *final)
{
	if (!io_exists(final))
		return rename(temporary, final) != 0 ? io_cannot("rename", temporary) : OK;
	if (renameat2(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_EXCHANGE) == 0)
		return io_remove_folder(temporary);
	if (errno == EINVAL || errno == ENOSYS)
		return FAIL(STATUS_UNSUPPORTED,
			    "%s exists, and this file system cannot exchange it for the new one: "
			    "remove it, or save elsewhere",
			    final);
	return io_cannot("replace", final);
}

/* Of a folder that is written: its name, and the run's `latest`. One that is not whole is removed. */
static Status finish(const CheckpointSave *save, Arena *a, const char *temporary, const char *name, Status written)
{
	Status s = written ? written : publish(temporary, arena_printf(a, "%s/%s", save->run, name));
	if (s) {
		/* What was written is of no use. That it could not be removed either is not the news. */
		Status removed = io_remove_folder(temporary);
		(void)removed;
		return s;
	}
	TRY(io_sync_folder(save->run));
	const char *line = arena_printf(a, "%s\n", name);
	return io_write(arena_printf(a, "%s/" CHECKPOINT_LATEST, save->run), (Blob){ (const u8 *)line, strlen(line) });
}

static const char *temporary_folder(const CheckpointSave *save, Arena *a, const char *name, long process)
{
	return arena_printf(a, "%s/%s" IO_TEMPORARY "%ld", save->run, name, process);
}

static Status save_all(const CheckpointSave *save, Arena *a, const char *name)
{
	TRY(io_make_folder(save->run));
	TRY(remove_stale(a, save->run));
	const char *temporary = temporary_folder(save, a, name, (long)getpid());
	return finish(save, a, temporary, name, write_files(save, a, temporary));
}

static u64 size_of(const NamedBuffer *b, u32 n)
{
	u64 bytes = 0;
	for (u32 i = 0; i < n; i++)
		bytes += safe_buffer_bytes(&b[i]);
	return bytes;
}

static Status told(const CheckpointSave *save, Arena *a, const char *name, Status s)
{
	u64 bytes = size_of(save->parameter, save->nparameter) + size_of(save->other, save->nother);
	if (s)
		return status_context(s, "saving %s/%s (%.1f MB)", save->run, name, (f64)bytes / 1e6);
	if (!save->keep)
		return OK;
	return status_context(prune(a, save, name), "%s/%s is saved, but an older checkpoint could not be removed", save->run,
			      name);
}

static const char *folder_name(const CheckpointSave *save, Arena *a)
{
	return arena_printf(a, CHECKPOINT_FOLDER, (unsigned long long)save->state.step);
}

Status checkpoint_save(const CheckpointSave *save)
{
	Arena tmp = ARENA("checkpoint_save");
	const char *name = folder_name(save, &tmp);
	Status s = told(save, &tmp, name, save_all(save, &tmp, name));
	arena_free(&tmp);
	return s;
}

/* ---- by several ranks ---- */

typedef VEC(CheckpointFile) Files;

/* The index of what the ranks wrote, which are looked at: what is not there as it was written is told now. */
static Status write_index(Arena *a, const char *folder, u32 which, Files *files)
{
	Safetensors s;
	CheckpointRecord r = { .file = files->v, .nfile = files->n };
	TRY(status_context(state_open(a, folder, &r, which, &s),
			   "looking at what the ranks wrote (the run's folder must be one that all ranks share)"));
	const char *name = checkpoint_index_name(a, which), *path = arena_printf(a, "%s/%s", folder, name);
	Str text = safetensors_index_text(a, &s);
	safetensors_close(&s);
	char *hash = arena_push(a, 1, SAFE_HASH_TEXT, 1);
	Blob bytes = { (const u8 *)text.s, text.n };
	safe_hash(bytes, hash);
	VEC_PUSH(a, files, ((CheckpointFile){ name, text.n, hash }));
	return io_write(path, bytes);
}

/* Rank 0, when all have written. */
static Status write_rest(const CheckpointSave *save, Arena *a, const char *folder, const SafeWritten *written, u32 ranks)
{
	Files files = { 0 };
	for (u32 i = 0; i < CHECKPOINT_FILES; i++)
		for (u32 r = 0; r < ranks; r++) {
			const SafeWritten *w = &written[r * CHECKPOINT_FILES + i];
			if (w->bytes)
				VEC_PUSH(a, &files, ((CheckpointFile){ checkpoint_part_name(a, i, r, ranks), w->bytes, w->header_hash }));
		}
	for (u32 i = 0; i < CHECKPOINT_FILES; i++)
		TRY(write_index(a, folder, i, &files));
	return state_write(arena_printf(a, "%s/" CHECKPOINT_STATE, folder), &save->state, files.v, files.n);
}

static Status begin_folder(const CheckpointSave *save, Arena *a, const char *temporary)
{
	TRY(io_make_folder(save->run));
	TRY(remove_stale(a, save->run));
	return mkdir(temporary, 0777) != 0 ? io_cannot("create", temporary) : OK;
}

static Status save_parts(const CheckpointSave *save, Arena *a, const char *name, Comm *c)
{
	static const char what[] = "saving a checkpoint";
	u32 rank = comm_rank(c), ranks = comm_ranks(c);
	i64 process = getpid(), *all = NEWN(a, i64, ranks);
	TRY(comm_gather(c, what, &process, sizeof process, all));
	const char *temporary = temporary_folder(save, a, name, (long)all[0]);
	TRY(comm_together(c, what, rank ? OK : begin_folder(save, a, temporary)));

	SafeWritten mine[CHECKPOINT_FILES], *written = NEWN(a, SafeWritten, CHECKPOINT_FILES * ranks);
	Status s = OK;
	for (u32 i = 0; i < CHECKPOINT_FILES && !s; i++)
		s = write_file(save, a, temporary, i, rank, ranks, &mine[i]);
	s = comm_together(c, what, s);
	if (!s)
		s = comm_gather(c, what, mine, sizeof mine, written);
	if (!rank && !s)
		s = write_rest(save, a, temporary, written, ranks);
	return rank ? s : finish(save, a, temporary, name, s);
}

Status checkpoint_save_parts(const CheckpointSave *save, Comm *c)
{
	Arena tmp = ARENA("checkpoint_save");
	const char *name = folder_name(save, &tmp);
	Status s = save_parts(save, &tmp, name, c);
	if (!comm_rank(c))
		s = told(save, &tmp, name, s);
	arena_free(&tmp);
	return s;
}
