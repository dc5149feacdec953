/* support/cpu_features.h: does this processor have what code was compiled for? */
#ifndef PL_SUPPORT_CPU_FEATURES_H
#define PL_SUPPORT_CPU_FEATURES_H
#include "support/base.h"

/* `list`: names as LLVM has them, between commas: "avx2,fma". The first that this processor (or its operating
 * system) lacks, or NULL where it has all. Names that are not known here count as missing. */
const char *cpu_lacks(const char *list, char *name, size_t room);
/* Can cpu_lacks tell? */
bool cpu_feature_known(const char *name, size_t n);
/* The machine that this program runs on: "x86_64-linux-gnu", "aarch64-linux-gnu". */
const char *cpu_machine_name(void);
/* All that the processor says of itself, which one it is and what it has, to tell it from others. */
enum { CPU_WORDS = 44 };
void cpu_words(u32 word[CPU_WORDS]);

#endif
