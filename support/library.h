/* support/library.h: shared libraries that are loaded while Plinth runs, because a machine may lack them: the GPU's driver,
 * NVRTC, cuBLASLt, NCCL, MPI. What is found is never unloaded. */
#ifndef PL_LIBRARY_H
#define PL_LIBRARY_H
#include "support/status.h"

#include <dlfcn.h>
#include <pthread.h>

typedef struct Library {
	void *handle;
	const char *path; /* as it was opened */
} Library;

/* The file that the environment's `variable` names, and no other; where it names none, the first of `name`, which ends with
 * NULL. `scope`: RTLD_LOCAL or RTLD_GLOBAL. A failure's text is what the system said of the first name. */
PL_MUST_USE Status library_open(const char *variable, const char *const *name, int scope, Library *out);

/* *to, a pointer, becomes the address of that name; NULL, and false, where the library has none. */
bool library_find(const Library *l, const char *name, void *to);

/* Loading that is tried once in a process, whoever asks first. */
typedef struct LibraryOnce {
	pthread_mutex_t lock;
	bool tried, failed;
	Failure failure;
} LibraryOnce;

#define LIBRARY_ONCE { .lock = PTHREAD_MUTEX_INITIALIZER }

/* What load() says, or said. */
PL_MUST_USE Status library_once(LibraryOnce *once, Status (*load)(void));

#endif
