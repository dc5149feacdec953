/* support/io.h: files. Reads are whole or mapped; writes are atomic: a file appears complete under
 * its name or not at all, whatever happens in between. Paths are as the user gave them. */
#ifndef PL_IO_H
#define PL_IO_H
#include "support/status.h"
#include "support/str.h"

/* The failure that errno tells: "cannot <what> <path>: <why>; <what to do>". */
PL_MUST_USE Status io_cannot(const char *what, const char *path);

/* The whole file in `a`, with a terminating zero that is not counted in text->n. */
PL_MUST_USE Status io_read(Arena *a, const char *path, Str *text);

/* A file mapped read-only; `bytes` is valid until io_unmap. An empty file maps to n = 0. */
typedef struct Mapping {
	Blob bytes;
} Mapping;
PL_MUST_USE Status io_map(const char *path, Mapping *out);
void io_unmap(Mapping *m);
/* The file that is mapped at `address`, or NULL: for a handler of SIGBUS, which is what comes of a file that was cut
 * off, or of a disk that failed, while it was mapped. */
const char *io_mapped_file(const void *address);

/* A file without a name in $TMPDIR, or /tmp, for what may be larger than memory; it goes when it is closed, or unmapped. */
PL_MUST_USE Status io_scratch(FILE **out);
/* What was written to it, mapped; it is closed, also after a failure. `path` is told where its bytes cannot be had. */
PL_MUST_USE Status io_map_scratch(FILE *f, const char *path, Mapping *out);

/* A file being written: to a temporary beside `path`, which io_commit syncs and renames onto it
 * (and then syncs the folder); io_abandon removes it, and so does the next io_create of that path where a
 * process was killed in between. Errors are sticky: a failed write makes the
 * commit fail, so only the commit needs looking at. A file that was there keeps its permissions, and links to it
 * stay; one that may not be written is left alone. What is there already and no file (/dev/null, a pipe), or is open
 * already (/dev/stdout, with `>> log` behind what is there), is written to at once. */
#define IO_TEMPORARY ".tmp." /* behind a name, and before the number of the process that writes */
typedef struct AtomicFile {
	FILE *file; /* fwrite and fprintf go here; offset and size are its own */
	char path[4096], temporary[4200]; /* `temporary` is empty where `path` is no file */
} AtomicFile;
PL_MUST_USE Status io_create(const char *path, AtomicFile *out);
PL_MUST_USE Status io_commit(AtomicFile *f);
void io_abandon(AtomicFile *f);

/* Can io_create and io_commit make a file there? To be asked before the work that there is to write. */
PL_MUST_USE Status io_writable(const char *path);
/* Can io_make_folder make it, and files be made in it? Nothing is made. */
PL_MUST_USE Status io_folder_writable(const char *path);

/* io_create, one write, io_commit. */
PL_MUST_USE Status io_write(const char *path, Blob bytes);

/* Is `name` that of something temporary whose writer is no more? */
bool io_is_left(const char *name);

/* Makes a folder and those above it; one that exists is fine. */
PL_MUST_USE Status io_make_folder(const char *path);
/* Makes what was renamed or created in a folder survive a power cut. */
PL_MUST_USE Status io_sync_folder(const char *path);
/* Removes a folder with all it holds, following no links; one that is not there is fine. */
PL_MUST_USE Status io_remove_folder(const char *path);
/* False: there is no such file. One that cannot be looked at is there. */
bool io_exists(const char *path);
/* $XDG_CACHE_HOME/plinth or ~/.cache/plinth, made if missing. */
PL_MUST_USE Status io_cache_folder(Arena *a, const char **out);

#endif
