/* codegen/cpu/llvm_api.c: see llvm_api.h. */
#include "codegen/cpu/llvm_api.h"
#include "support/library.h"
#include "support/no_memory.h"
#include "support/str.h"

#include <llvm/Config/llvm-config.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

LlvmApi llvm_api;

static void no_memory(void)
{
	pl_out_of_memory("the host has no more for LLVM, which makes code");
}

static void no_memory_of_llvm(void *context, const char *why, bool dump)
{
	(void)context, (void)why, (void)dump;
	no_memory();
}

/* What asks in vain for memory, in LLVM or in C++'s library beneath it, tells a handler before it ends the process. There is none in LLVM's C
 * API: these are of C++, by the names that its compilers give them; without them the process aborts as before. */
static void handle_no_memory(const Library *l)
{
	void (*(*of_cpp)(void (*)(void)))(void);
	void (*of_llvm)(void (*)(void *, const char *, bool), void *);
	if (library_find(l, "_ZSt15set_new_handlerPFvvE", &of_cpp))
		of_cpp(no_memory);
	if (library_find(l, "_ZN4llvm31install_bad_alloc_error_handlerEPFvPvPKcbES0_", &of_llvm))
		of_llvm(no_memory_of_llvm, NULL);
}

static Status load(void)
{
	/* where it was when Plinth was built, then wherever the system finds this version */
	static const char *const name[] = { PLINTH_LLVM_LIBRARY, "libLLVM.so.19.1", "libLLVM-19.so.1", NULL };
	Library l;
	const char *missing = NULL;
	Status s = library_open("PLINTH_LIBLLVM", name, RTLD_LOCAL, &l);
	if (s)
		return FAIL(STATUS_UNSUPPORTED,
			    "LLVM, which makes code for CPUs, cannot be loaded (%s): install LLVM 19 (Debian: libllvm19), or say where "
			    "it is in PLINTH_LIBLLVM",
			    s->text);
#define LLVM_FUNCTION(function)                     \
	if (!library_find(&l, #function, &function)) \
		missing = #function;
#include "codegen/cpu/llvm_functions.def"
	if (missing)
		return FAIL(STATUS_UNSUPPORTED, "%s has no %s: it is not LLVM %d", l.path, missing, LLVM_VERSION_MAJOR);
	unsigned major, minor, patch;
	LLVMGetVersion(&major, &minor, &patch);
	if (major != LLVM_VERSION_MAJOR)
		return FAIL(STATUS_UNSUPPORTED, "%s is LLVM %u; this plinth was built for LLVM %d", l.path, major, LLVM_VERSION_MAJOR);
	handle_no_memory(&l);
	return OK;
}

u64 llvm_stamp(void)
{
	const char *given = getenv("PLINTH_LIBLLVM"), *path = given && *given ? given : PLINTH_LLVM_LIBRARY;
	struct stat st = { 0 };
	u64 h = hash_bytes(HASH_SEED, path, strlen(path));
	if (stat(path, &st) != 0) /* the system finds it somewhere */
		return h;
	i64 of[] = { st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec };
	return hash_bytes(h, of, sizeof of);
}

Status llvm_load(void)
{
	static LibraryOnce once = LIBRARY_ONCE;
	return library_once(&once, load);
}
