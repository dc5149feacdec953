/* codegen/cuda/preamble.h: the pieces of CUDA C that generated functions stand on (preamble/<name>.cuh); they are part of
 * the binary (cmake/embed.cmake). */
#ifndef PL_CUDA_PREAMBLE_H
#define PL_CUDA_PREAMBLE_H
#include "support/embedded.h"

extern const Embedded cuda_preamble_files[]; /* ended by a NULL name */

#endif
