# What exported libraries consist of besides their kernels (runtime/library/), compiled here once for each machine that
# a compiler is at hand for: one object, in which only the library's functions can be seen. It becomes part of the
# binary, so that who exports a model needs no compiler.
set(PLINTH_RUNTIME_SOURCES runtime/library/library.c runtime/library/weights.c runtime/library/status.c
  runtime/library/cuda.c runtime/cuda/driver.c
  runtime/cpu/threads.c support/control_group.c support/cores.c support/cpu_features.c support/library.c codegen/package_codec.c codegen/package_sizes.c support/arena.c)
file(GLOB PLINTH_RUNTIME_HEADERS CONFIGURE_DEPENDS runtime/library/*.h runtime/cpu/*.h runtime/cuda/driver.h support/*.h codegen/package.h)

function(plinth_runtime out compiler linker objcopy)
  set(objects)
  set(commands)
  set(sources)
  foreach(source ${PLINTH_RUNTIME_SOURCES})
    string(REPLACE "/" "_" object ${source})
    set(object ${out}.${object}.o)
    list(APPEND objects ${object})
    list(APPEND sources ${CMAKE_SOURCE_DIR}/${source})
    # no assertions, no variables of threads, no helpers of the compiler's library: see codegen/elf.h
    list(APPEND commands COMMAND ${compiler} -std=c11 -O2 -fPIC -fvisibility=hidden -fno-asynchronous-unwind-tables
      -fno-stack-protector -ffp-contract=off -DNDEBUG -DARENA_POOL=0 -D_GNU_SOURCE -DPLINTH_VERSION=\"${PROJECT_VERSION}\" ${ARGN}
      -I${CMAKE_SOURCE_DIR} -c ${CMAKE_SOURCE_DIR}/${source} -o ${object})
  endforeach()
  add_custom_command(OUTPUT ${out} ${commands}
    COMMAND ${linker} -r -o ${out} ${objects}
    COMMAND ${objcopy} --wildcard --keep-global-symbol=plinth_library_* --strip-debug --remove-section=.comment
      --remove-section=.note.gnu.* ${out}
    DEPENDS ${sources} ${PLINTH_RUNTIME_HEADERS} VERBATIM)
endfunction()

# The compiler of this build if it makes code for Linux on x86-64, and Debian's cross compiler.
set(PLINTH_RUNTIME_OBJECTS)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64" OR CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
  set(object ${CMAKE_BINARY_DIR}/generated/codegen/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu.o)
  plinth_runtime(${object} ${CMAKE_C_COMPILER} ${CMAKE_LINKER} ${CMAKE_OBJCOPY})
  list(APPEND PLINTH_RUNTIME_OBJECTS ${object})
endif()
find_program(PLINTH_ARM_CC aarch64-linux-gnu-gcc)
if(PLINTH_ARM_CC AND NOT CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
  set(object ${CMAKE_BINARY_DIR}/generated/codegen/aarch64-linux-gnu.o)
  plinth_runtime(${object} ${PLINTH_ARM_CC} aarch64-linux-gnu-ld aarch64-linux-gnu-objcopy -mno-outline-atomics)
  list(APPEND PLINTH_RUNTIME_OBJECTS ${object})
else()
  message(STATUS "aarch64-linux-gnu-gcc: not found; `plinth export --target aarch64-linux-gnu` needs a build with it")
endif()
