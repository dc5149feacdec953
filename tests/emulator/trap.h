/* tests/emulator/trap.h: instructions that the emulated processor lacks or gets wrong, done in a handler of SIGILL as
 * Intel's manual, volume 2, defines them, while everything around them runs as it is:
 *
 *   vdpbf16ps        AVX512_BF16, which Bochs 2.7 does not have;
 *   vcvtps2ph        where its opcode 1D was replaced by 1C, which is none: Bochs 2.7 rounds ties up;
 *   kshiftrw, -lw    where their opcodes 30 and 32 were replaced by 34 and 36: in Bochs 2.7 a shift by 15 gives 0;
 *   gathers, scatters whose indices are in registers 16 to 31, which Bochs 2.7 takes for invalid.
 *
 * boot.py does the replacing. */
#ifndef PL_TEST_TRAP_H
#define PL_TEST_TRAP_H
#include "support/base.h"

#include <setjmp.h>

typedef enum TrapKind { TRAP_DOT_BF16, TRAP_TO_F16, TRAP_SHIFT_RIGHT, TRAP_SHIFT_LEFT, TRAP_GATHER, TRAP_SCATTER, TRAPS } TrapKind;

void trap_install(void);
/* Where to go on when it was another instruction, whose bytes are printed. Must be set before code runs. */
extern sigjmp_buf trap_unknown;
/* How many were done so far. */
extern u64 trap_count[TRAPS];

#endif
