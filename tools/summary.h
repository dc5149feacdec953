/* tools/summary.h: a model's modules as a table: parameters, FLOPs per token, bytes kept for the backward half.
 *
 * All of it is read off the IR: parameters are the program's buffers, FLOPs the costs of its nodes (before composites are
 * expanded, as the field counts them), and what is kept are the plan's own buffers: made by a step that the loss needs,
 * and read by one that it does not. Each node, buffer and value says which module it belongs to. */
#ifndef PL_SUMMARY_H
#define PL_SUMMARY_H
#include "tools/driver.h"

typedef struct SummaryNumbers {
	f64 parameters, trained; /* elements; of those, how many training changes */
	f64 forward, training;   /* FLOPs of the entry `forward`, and of a micro-step: forward and backward */
	f64 kept;                /* bytes */
} SummaryNumbers;

/* A module, or several of one form that were put together. */
typedef struct SummaryPart {
	const char *name;           /* "attn", "{0..11}" */
	SummaryNumbers own, all;    /* its own; with all below it */
	VEC(struct SummaryPart *) part; /* in order of first mention */
	VEC(const char *) parameter;    /* its own parameters' names, relative to it */
} SummaryPart;

typedef struct Summary {
	const char *model;
	SummaryPart *root;
	bool has_forward, has_training; /* which columns there are */
	const char *unit;         /* "token": an element of the first input where that is of integers; else "sample" */
	f64 units;                /* how many there are in a micro-step */
	f64 parameter_bytes;
	EntryFlops forward, training, update;
	u64 arena_bytes, persistent_bytes; /* of the plan; 0 where there is none */
} Summary;

/* `planned` NULL, or its plan: sizes are not known, and only parameters are counted. */
Summary *summarize(Arena *arena, const Program *program, const Compiled *planned);

/* Parts that repeat as one row: h.{0..11}. */
void summary_print(const Summary *s, FILE *to);
/* The same as one JSON object, every module a row of its own. */
void summary_print_json(const Summary *s, FILE *to);

#endif
