/* runtime/checkpoint/save.c: saving a checkpoint so that no crash, kill, full disk or power cut leaves
 * a run without one; see checkpoint.h. The order carries it: write and sync the files under a
 * temporary folder name, rename the folder, sync the run's folder, replace `latest`, sync again, and
 * only then remove what is old. What a killed save leaves behind has a name that nothing reads, and
 * the next save removes it. */
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/save.h"
#include "support/vec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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

/* Was `name` left by a save that was killed? Its end is the process that wrote it. */
static bool is_stale(const char *name)
{
	bool ours = !strncmp(name, "step-", 5) || !strncmp(name, CHECKPOINT_LATEST, 6);
	if (!ours || !checkpoint_is_temporary(name))
		return false;
	long writer = strtol(strstr(name, ".tmp.") + 5, NULL, 10);
	return writer == (long)getpid() || (kill((pid_t)writer, 0) != 0 && errno == ESRCH);
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
	const char *doomed = arena_printf(a, "%s.tmp.%ld", path, (long)getpid());
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

/* Keeps the one just saved and the newest others, `keep` in all. Those of later steps, from before a
 * resume at an earlier one, count as the newest: removing them is for the user to decide. */
static Status prune(Arena *a, const CheckpointSave *save, const char *saved)
{
	Names names = { 0 };
	TRY(list(a, save->run, &names));
	u64 step;
	u32 n = 0;
	for (u32 i = 0; i < names.n; i++)
		if (checkpoint_step_of(names.v[i], &step) && strcmp(names.v[i], saved) != 0)
			names.v[n++] = names.v[i];
	if (n)
		qsort(names.v, n, sizeof *names.v, newest_first);
	for (u32 i = save->keep - 1; i < n; i++)
		TRY(remove_checkpoint(a, save->run, names.v[i]));
	return OK;
}

static Status write_files(const CheckpointSave *save, Arena *a, const char *folder)
{
	static const TextPair meta[] = { { "format", "pt" }, { "plinth", PLINTH_VERSION } };
	const NamedBuffer *buffer[CHECKPOINT_FILES] = { save->parameter, save->other };
	u32 n[CHECKPOINT_FILES] = { save->nparameter, save->nother };
	SafeWritten written[CHECKPOINT_FILES];
	if (mkdir(folder, 0777) != 0)
		return io_cannot("create", folder);
	for (u32 i = 0; i < CHECKPOINT_FILES; i++)
		TRY(safetensors_write(arena_printf(a, "%s/%s", folder, checkpoint_file_name[i]), buffer[i],
				      n[i], meta, COUNT(meta), &written[i]));
	return state_write(arena_printf(a, "%s/" CHECKPOINT_STATE, folder), &save->state, written);
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

static Status save_folder(const CheckpointSave *save, Arena *a, const char *name)
{
	const char *final = arena_printf(a, "%s/%s", save->run, name);
	const char *temporary = arena_printf(a, "%s.tmp.%ld", final, (long)getpid());
	Status s = write_files(save, a, temporary);
	if (!s)
		s = publish(temporary, final);
	if (!s)
		return io_sync_folder(save->run);
	/* What was written is of no use. That it could not be removed either is not the news. */
	Status removed = io_remove_folder(temporary);
	(void)removed;
	return s;
}

static Status save_all(const CheckpointSave *save, Arena *a, const char *name)
{
	TRY(io_make_folder(save->run));
	TRY(remove_stale(a, save->run));
	TRY(save_folder(save, a, name));
	const char *line = arena_printf(a, "%s\n", name);
	return io_write(arena_printf(a, "%s/" CHECKPOINT_LATEST, save->run),
			(Blob){ (const u8 *)line, strlen(line) });
}

static u64 size_of(const NamedBuffer *b, u32 n)
{
	u64 bytes = 0;
	for (u32 i = 0; i < n; i++)
		bytes += safe_buffer_bytes(&b[i]);
	return bytes;
}

Status checkpoint_save(const CheckpointSave *save)
{
	Arena tmp = ARENA("checkpoint_save");
	const char *name = arena_printf(&tmp, CHECKPOINT_FOLDER, (unsigned long long)save->state.step);
	Status s = save_all(save, &tmp, name);
	if (s) {
		u64 bytes = size_of(save->parameter, save->nparameter) +
			    size_of(save->other, save->nother);
		s = status_context(s, "saving %s/%s (%.1f MB)", save->run, name, (f64)bytes / 1e6);
	} else if (save->keep) {
		s = status_context(prune(&tmp, save, name),
				   "%s/%s is saved, but an older checkpoint could not be removed",
				   save->run, name);
	}
	arena_free(&tmp);
	return s;
}
