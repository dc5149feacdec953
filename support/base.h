/* support/base.h: the few words every file may use. Includes nothing of ours. */
#ifndef PL_BASE_H
#define PL_BASE_H
#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
typedef float f32;
typedef double f64;

/* A piece of text: not owned, not terminated. */
typedef struct Str {
	const char *s;
	size_t n;
} Str;

/* Bytes: not owned. */
typedef struct Blob {
	const u8 *p;
	size_t n;
} Blob;

#define STR(literal)  ((Str){ (literal), sizeof(literal) - 1 })
#define STR_ARG(str)  (int)(str).n, (str).s /* for "%.*s" */
#define COUNT(a)      (sizeof(a) / sizeof((a)[0]))
#define UNWRAP(...)   __VA_ARGS__
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))
/* Up to a multiple of `to`, a power of two. */
#define ALIGN_UP(n, to) (((n) + ((to) - 1)) & ~(size_t)((to) - 1))

#define PL_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define PL_MUST_USE                   __attribute__((warn_unused_result))
#define PL_NORETURN                   __attribute__((noreturn))
#define PL_UNUSED                     __attribute__((unused))

/* What cannot happen: stops in every build, with place and reason. */
#define NEVER(why) pl_never(__FILE__, __LINE__, (why))
PL_NORETURN void pl_never(const char *file, int line, const char *why);

#endif
