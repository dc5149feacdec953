/* codegen/cpu/llvm_api.h: LLVM's C API, loaded when code is first made, so that what runs compiled packages (and what
 * looks at models only) does without it and starts in a moment. Whoever calls LLVM includes this and none of LLVM's
 * headers: the names become those of the functions found (generated/codegen/llvm_names.h is made of llvm_functions.def). */
#ifndef PL_CPU_LLVM_API_H
#define PL_CPU_LLVM_API_H
#include "support/status.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/BitWriter.h>
#include <llvm-c/Core.h>
#include <llvm-c/DebugInfo.h>
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>

typedef struct LlvmApi {
#define LLVM_FUNCTION(name) __typeof__(name) *name;
#include "codegen/cpu/llvm_functions.def"
} LlvmApi;

extern LlvmApi llvm_api;

/* Before any other function of LLVM is called; cpu_machine() does it for all that emit. $PLINTH_LIBLLVM names the
 * library where it is none of the usual. */
PL_MUST_USE Status llvm_load(void);
/* Of the file that would be loaded: other code may come from it where this is another number. Loads nothing. */
u64 llvm_stamp(void);

#include "codegen/llvm_names.h"

#endif
