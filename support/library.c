/* support/library.c: see library.h. */
#include "support/library.h"

#include <stdlib.h>
#include <string.h>

Status library_open(const char *variable, const char *const *name, int scope, Library *out)
{
	const char *given = getenv(variable), *const only[] = { given, NULL };
	Status why = OK;
	*out = (Library){ 0 };
	for (const char *const *n = given && *given ? only : name; *n; n++) {
		void *handle = dlopen(*n, RTLD_NOW | scope);
		if (handle) {
			*out = (Library){ handle, *n };
			return OK;
		}
		if (!why)
			why = FAIL(STATUS_UNSUPPORTED, "%s", dlerror());
	}
	return why;
}

bool library_find(const Library *l, const char *name, void *to)
{
	void *at = dlsym(l->handle, name);
	memcpy(to, &at, sizeof at); /* a pointer to a function is none to an object */
	return at != NULL;
}

Status library_once(LibraryOnce *once, Status (*load)(void))
{
	pthread_mutex_lock(&once->lock);
	if (!once->tried) {
		Status s = load();
		once->tried = true;
		once->failed = s != NULL;
		if (s)
			once->failure = *s;
	}
	pthread_mutex_unlock(&once->lock);
	return once->failed ? &once->failure : OK;
}
