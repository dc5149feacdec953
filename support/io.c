/* support/io.c: see io.h. The order in io_commit (flush, fsync, rename, fsync of the folder) is
 * what makes a power cut leave either the old file or the new one. */
#include "support/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

Status io_cannot(const char *what, const char *path)
{
	const char *advice = "";
	if (errno == ENOENT)
		advice = "; check the path";
	else if (errno == EACCES || errno == EPERM)
		advice = "; check its permissions";
	else if (errno == ENOSPC || errno == EDQUOT)
		advice = "; free some space on that disk";
	else if (errno == EMFILE)
		advice = "; raise `ulimit -n`";
	else if (errno == EROFS)
		advice = "; name a place on another disk";
	else if (errno == ENAMETOOLONG)
		advice = "; choose a shorter name";
	else if (errno == EFBIG)
		advice = "; `ulimit -f` or the file system allows no more";
	return FAIL(STATUS_IO, "cannot %s %s: %s%s", what, path, strerror(errno), advice);
}

Status io_read(Arena *a, const char *path, Str *text)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return io_cannot("open", path);
	struct stat st;
	if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) {
		fclose(f);
		errno = EISDIR;
		return io_cannot("read", path);
	}
	Buf b = { .arena = a };
	char chunk[1 << 16];
	size_t n;
	while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
		buf_put(&b, (Str){ chunk, n });
	bool failed = ferror(f);
	int why = errno;
	fclose(f);
	errno = why;
	if (failed)
		return io_cannot("read", path);
	*text = buf_str(&b);
	return OK;
}

/* What is mapped, for whoever touches what is no longer there: a handler of signals reads it, which can wait for
 * nobody, so entries are filled before they are told and never freed. */
typedef struct Mapped Mapped;
struct Mapped {
	const u8 *_Atomic begin; /* NULL: free */
	size_t n;
	char path[4096];
	Mapped *next;
};
static Mapped *_Atomic mapped;
static pthread_mutex_t mapped_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_mapped(Blob bytes, const char *path)
{
	pthread_mutex_lock(&mapped_lock);
	Mapped *m = atomic_load(&mapped);
	while (m && atomic_load(&m->begin))
		m = m->next;
	bool more = !m;
	if (more && (m = calloc(1, sizeof *m)))
		m->next = atomic_load(&mapped);
	if (m) { /* else such a failure is told without a name */
		m->n = bytes.n;
		snprintf(m->path, sizeof m->path, "%s", path);
		atomic_store(&m->begin, bytes.p);
	}
	if (m && more)
		atomic_store(&mapped, m);
	pthread_mutex_unlock(&mapped_lock);
}

static void forget_mapped(const u8 *begin)
{
	pthread_mutex_lock(&mapped_lock);
	for (Mapped *m = atomic_load(&mapped); m; m = m->next)
		if (atomic_load(&m->begin) == begin)
			atomic_store(&m->begin, NULL);
	pthread_mutex_unlock(&mapped_lock);
}

const char *io_mapped_file(const void *address)
{
	for (const Mapped *m = atomic_load(&mapped); m; m = m->next) {
		const u8 *begin = atomic_load(&m->begin);
		if (begin && (uintptr_t)address - (uintptr_t)begin < m->n)
			return m->path;
	}
	return NULL;
}

static Status map_file(int fd, const char *path, Mapping *out)
{
	struct stat st;
	if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
		if (S_ISDIR(st.st_mode))
			errno = EISDIR;
		return io_cannot("read", path);
	}
	if (st.st_size > 0) {
		void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED)
			return io_cannot("map", path);
		out->bytes = (Blob){ p, (size_t)st.st_size };
		note_mapped(out->bytes, path);
	}
	return OK;
}

Status io_scratch(FILE **out)
{
	const char *folder = getenv("TMPDIR");
	char path[4096];
	if (snprintf(path, sizeof path, "%s/plinth.XXXXXX", folder && *folder ? folder : "/tmp") >= (int)sizeof path)
		return FAIL(STATUS_IO, "TMPDIR is too long a path");
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return io_cannot("create a temporary file,", path);
	unlink(path);
	*out = fdopen(fd, "wb");
	if (*out)
		return OK;
	close(fd);
	return FAIL(STATUS_MEMORY, "no memory for a temporary file");
}

Status io_map_scratch(FILE *f, const char *path, Mapping *out)
{
	*out = (Mapping){ 0 };
	Status s = fflush(f) ? io_cannot("unpack", path) : map_file(fileno(f), path, out);
	fclose(f);
	return s;
}

Status io_map(const char *path, Mapping *out)
{
	*out = (Mapping){ 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return io_cannot("open", path);
	Status s = map_file(fd, path, out);
	close(fd);
	return s;
}

void io_unmap(Mapping *m)
{
	if (m->bytes.n) {
		forget_mapped(m->bytes.p);
		munmap((void *)(uintptr_t)m->bytes.p, m->bytes.n);
	}
	*m = (Mapping){ 0 };
}

/* Of what a path names the folder: "a/b/" of "a/b/c". */
static size_t folder_length(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? (size_t)(slash - path) + 1 : 0;
}

/* Of what this process has open, the number that `path` names (/dev/stdout, /dev/fd/3), through links; -1: it is no such name. What a shell opened
 * to be added to (`>> log`), or at some place, is written to there, and has perhaps no name of its own. */
static int descriptor_of(const char *path)
{
	char at[4096], folder[4096], link[4096];
	snprintf(at, sizeof at, "%s", path);
	for (u32 links = 0; links < 40; links++) {
		ssize_t n = readlink(at, link, sizeof link - 1);
		if (n <= 0)
			return -1;
		link[n] = 0;
		strcpy(folder, at);
		char *real = realpath(dirname(folder), NULL), own[64];
		snprintf(own, sizeof own, "/proc/%ld/fd", (long)getpid());
		bool is_own = real && !strcmp(real, own);
		free(real);
		if (is_own)
			return (int)strtol(at + folder_length(at), NULL, 10);
		strcpy(folder, at);
		const char *in = *link == '/' ? "" : dirname(folder);
		char next[sizeof folder + sizeof link];
		snprintf(next, sizeof next, "%s%s%s", in, *in ? "/" : "", link);
		if (strlen(next) >= sizeof at)
			return -1;
		strcpy(at, next);
	}
	return -1;
}

/* The file itself, where `path` is a link to one: the link stays. What it leads to and is no file has perhaps no name of
 * its own (a pipe, by `>(...)` of a shell). */
static Status follow(const char *path, char out[4096])
{
	struct stat st;
	if (strlen(path) >= 4096)
		return FAIL(STATUS_IO, "cannot create %.80s...: the path is too long", path);
	strcpy(out, path);
	if (lstat(path, &st) != 0 || !S_ISLNK(st.st_mode) || (stat(path, &st) == 0 && !S_ISREG(st.st_mode)))
		return OK;
	char *real = realpath(path, NULL);
	if (!real || strlen(real) >= 4096) {
		free(real);
		return io_cannot("follow the link", path);
	}
	strcpy(out, real);
	free(real);
	return OK;
}

bool io_is_left(const char *name)
{
	const char *mark = strstr(name, IO_TEMPORARY);
	if (!mark)
		return false;
	char *end;
	long writer = strtol(mark + strlen(IO_TEMPORARY), &end, 10);
	return writer > 0 && !*end && (writer == (long)getpid() || (kill((pid_t)writer, 0) != 0 && errno == ESRCH));
}

/* Folders in which nothing temporary lay when they were listed: whoever writes hundreds of files lists their folder once. */
static struct {
	pthread_mutex_t lock;
	struct {
		dev_t dev;
		ino_t ino;
	} of[64];
	u32 n;
} tidy = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool is_tidy(const struct stat *folder)
{
	bool found = false;
	pthread_mutex_lock(&tidy.lock);
	for (u32 i = 0; i < MIN(tidy.n, COUNT(tidy.of)) && !found; i++)
		found = tidy.of[i].dev == folder->st_dev && tidy.of[i].ino == folder->st_ino;
	pthread_mutex_unlock(&tidy.lock);
	return found;
}

static void note_tidy(const struct stat *folder)
{
	pthread_mutex_lock(&tidy.lock);
	u32 at = tidy.n++ % COUNT(tidy.of);
	tidy.of[at].dev = folder->st_dev;
	tidy.of[at].ino = folder->st_ino;
	pthread_mutex_unlock(&tidy.lock);
}

/* Another folder may have its number once it is removed. */
static void forget_tidy(const struct stat *folder)
{
	pthread_mutex_lock(&tidy.lock);
	for (u32 i = 0; i < COUNT(tidy.of); i++)
		if (tidy.of[i].dev == folder->st_dev && tidy.of[i].ino == folder->st_ino)
			tidy.of[i].ino = 0;
	pthread_mutex_unlock(&tidy.lock);
}

/* Removes temporaries of this very file that processes left which were killed: those that begin with `begin`. Where one may write but not list,
 * they stay. */
static Status remove_left(const char *path, const char *begin)
{
	char copy[4096];
	size_t n = strlen(begin);
	struct stat st;
	strcpy(copy, path);
	const char *folder = dirname(copy);
	bool tidied = false, seen = stat(folder, &st) == 0;
	if (seen && is_tidy(&st))
		return OK;
	DIR *d = opendir(folder);
	if (!d)
		return errno == EACCES ? OK : io_cannot("create", path);
	for (tidied = seen;;) {
		errno = 0;
		const struct dirent *e = readdir(d);
		if (!e)
			break;
		tidied &= !strstr(e->d_name, IO_TEMPORARY);
		if (!strncmp(e->d_name, begin, n) && io_is_left(e->d_name + n - strlen(IO_TEMPORARY)))
			unlinkat(dirfd(d), e->d_name, 0);
	}
	Status s = errno ? io_cannot("create", path) : OK;
	closedir(d);
	if (!s && tidied)
		note_tidy(&st);
	return s;
}

/* "<name>.tmp.", before the number of a process. The file's name, as far as there is room for it: what is cut off is told from others by its hash. */
static void temporary_name(const char *path, char out[NAME_MAX + 1])
{
	char hash[20] = "";
	const char *name = path + folder_length(path);
	size_t n = strlen(name), most = NAME_MAX - strlen(IO_TEMPORARY) - 20; /* digits of any process */
	if (n > most) {
		snprintf(hash, sizeof hash, "~%016llx", (unsigned long long)hash_bytes(HASH_SEED, name, n));
		n = most - strlen(hash);
	}
	snprintf(out, NAME_MAX + 1, "%.*s%s" IO_TEMPORARY, (int)n, name, hash);
}

/* Writes to what is open already; what this process printed there comes first. */
static Status write_to(int descriptor, const char *path, AtomicFile *out)
{
	fflush(stdout);
	int own = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
	out->file = own < 0 ? NULL : fdopen(own, "wb");
	if (out->file)
		return OK;
	Status s = io_cannot("write to", path);
	if (own >= 0)
		close(own);
	return s;
}

Status io_create(const char *path, AtomicFile *out)
{
	*out = (AtomicFile){ 0 };
	int open_already = strlen(path) < sizeof out->path ? descriptor_of(path) : -1;
	if (open_already >= 0) {
		strcpy(out->path, path);
		return write_to(open_already, path, out);
	}
	TRY(follow(path, out->path));
	/* a device or a pipe is written to; renaming a file onto /dev/null would be the end of it */
	struct stat st;
	bool is_there = stat(out->path, &st) == 0;
	if (is_there && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		out->file = fopen(path, "wbe");
		return out->file ? OK : io_cannot("open", path);
	}
	if (is_there && (S_ISDIR(st.st_mode) || access(out->path, W_OK) != 0)) {
		if (S_ISDIR(st.st_mode))
			errno = EISDIR;
		return io_cannot("write", path);
	}
	errno = ENAMETOOLONG;
	if (strlen(out->path + folder_length(out->path)) > NAME_MAX)
		return io_cannot("create", out->path);
	char begin[NAME_MAX + 1];
	temporary_name(out->path, begin);
	TRY(remove_left(out->path, begin));
	snprintf(out->temporary, sizeof out->temporary, "%.*s%s%ld", (int)folder_length(out->path), out->path, begin, (long)getpid());
	out->file = fopen(out->temporary, "wbxe");
	if (!out->file)
		return io_cannot("create", out->path);
	/* whose it is, where this process may say so, and who may read it */
	if (is_there && st.st_uid != geteuid() && fchown(fileno(out->file), st.st_uid, st.st_gid) != 0)
		errno = 0;
	if (is_there && fchmod(fileno(out->file), st.st_mode & 0777) != 0) {
		Status s = io_cannot("give its permissions to the new", out->path);
		io_abandon(out);
		return s;
	}
	return OK;
}

Status io_writable(const char *path)
{
	AtomicFile f;
	struct stat st;
	bool open_already = strlen(path) < sizeof f.path && descriptor_of(path) >= 0;
	if (!open_already && stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return access(path, W_OK) != 0 ? io_cannot("write", path) : OK;
	TRY(io_create(path, &f));
	io_abandon(&f);
	return OK;
}

Status io_folder_writable(const char *path)
{
	char copy[4096];
	struct stat st;
	if (strlen(path) >= sizeof copy)
		return FAIL(STATUS_IO, "cannot create %.80s...: the path is too long", path);
	strcpy(copy, path);
	/* the nearest one that is there: the folder itself, or what the missing ones are to be made in */
	const char *there = copy;
	while (stat(there, &st) != 0) {
		size_t n = strlen(copy);
		while (n > 1 && copy[n - 1] == '/')
			n--;
		copy[n] = 0;
		/* where a link leads nowhere no folder can be made */
		if (errno != ENOENT || there != copy || (lstat(copy, &st) == 0 && S_ISLNK(st.st_mode)))
			return io_cannot("create", path);
		while (n && copy[n - 1] != '/')
			n--;
		copy[n] = 0;
		there = n ? copy : ".";
	}
	errno = ENOTDIR;
	return !S_ISDIR(st.st_mode) || access(there, W_OK | X_OK) != 0 ? io_cannot(strcmp(there, path) ? "create" : "write to", path) : OK;
}

Status io_sync_folder(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) /* one that may be written to and not be read cannot be synced by name */
		return errno == EACCES ? OK : io_cannot("open", folder);
	/* some file systems cannot sync a folder, and say EINVAL: nothing more can be done there */
	Status s = fsync(fd) != 0 && errno != EINVAL ? io_cannot("sync", folder) : OK;
	close(fd);
	return s;
}

Status io_commit(AtomicFile *f)
{
	Status s = OK;
	if (ferror(f->file) || fflush(f->file) != 0)
		s = io_cannot("write", f->path);
	else if (*f->temporary && fsync(fileno(f->file)) != 0)
		s = io_cannot("sync", f->path);
	if (fclose(f->file) != 0 && !s)
		s = io_cannot("write", f->path);
	f->file = NULL;
	if (!*f->temporary)
		return s;
	if (!s && rename(f->temporary, f->path) != 0)
		s = io_cannot("replace", f->path);
	if (s) {
		unlink(f->temporary);
		return s;
	}
	char copy[sizeof f->path];
	strcpy(copy, f->path);
	return status_context(io_sync_folder(dirname(copy)), "%s is written, but a power cut may undo that", f->path);
}

void io_abandon(AtomicFile *f)
{
	if (!f->file)
		return;
	fclose(f->file);
	f->file = NULL;
	if (*f->temporary)
		unlink(f->temporary);
}

Status io_write(const char *path, Blob bytes)
{
	AtomicFile f;
	TRY(io_create(path, &f));
	if (bytes.n)
		fwrite(bytes.p, 1, bytes.n, f.file);
	return io_commit(&f);
}

Status io_make_folder(const char *path)
{
	char copy[4096];
	if (!*path)
		return FAIL(STATUS_INPUT, "a folder of no name cannot be created");
	if (strlen(path) >= sizeof copy)
		return FAIL(STATUS_IO, "cannot create %.80s...: the path is too long", path);
	strcpy(copy, path);
	for (char *p = copy + 1;; p++) {
		if (*p != '/' && *p != 0)
			continue;
		char was = *p;
		*p = 0;
		if (mkdir(copy, 0777) != 0 && errno != EEXIST)
			return io_cannot("create", copy);
		if (!was)
			break;
		*p = was;
	}
	struct stat st;
	if (stat(path, &st) != 0)
		return io_cannot("create", path);
	errno = ENOTDIR;
	return S_ISDIR(st.st_mode) ? OK : io_cannot("create", path);
}

Status io_remove_folder(const char *path)
{
	DIR *d = opendir(path);
	if (!d)
		return errno == ENOENT ? OK : io_cannot("open", path);
	Status s = OK;
	while (!s) {
		errno = 0;
		const struct dirent *e = readdir(d);
		if (!e) {
			if (errno)
				s = io_cannot("read", path);
			break;
		}
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		char inner[4096];
		struct stat st;
		if ((size_t)snprintf(inner, sizeof inner, "%s/%s", path, e->d_name) >= sizeof inner)
			s = FAIL(STATUS_IO, "cannot remove %.80s...: the path is too long", path);
		else if (lstat(inner, &st) != 0)
			s = io_cannot("read", inner);
		else if (S_ISDIR(st.st_mode))
			s = io_remove_folder(inner);
		else if (unlink(inner) != 0)
			s = io_cannot("remove", inner);
	}
	struct stat folder;
	if (!s && fstat(dirfd(d), &folder) == 0)
		forget_tidy(&folder);
	closedir(d);
	if (!s && rmdir(path) != 0)
		s = io_cannot("remove", path);
	return s;
}

bool io_exists(const char *path)
{
	/* what a failing disk or a folder without permission hides is there: whoever opens it is told why it cannot be read */
	return access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG);
}

Status io_cache_folder(Arena *a, const char **out)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	if (base && *base)
		*out = arena_printf(a, "%s/plinth", base);
	else if (home && *home)
		*out = arena_printf(a, "%s/.cache/plinth", home);
	else
		*out = "/tmp/plinth-cache";
	return io_make_folder(*out);
}
