/* ir/eval.h: the reference evaluator: the slow, plain definition of what a graph means, against which
 * passes and targets are tested. Every element is an f64, whatever its type.
 *
 * Two modes. Exact: floats are not rounded, but for what `cast` makes narrow; integers and b1
 * always are. Rounding: every float result is rounded to its type, as a target that stores it would
 * (what is inside an op stays exact: a dot accumulates in f64).
 *
 * Sizes must be bound. A composite without an eval of its own is evaluated by its expansion. Only
 * what the asked-for values need is evaluated, and a tensor is dropped after its last use. */
#ifndef PL_EVAL_H
#define PL_EVAL_H
#include "ir/op.h"

typedef struct EvalOptions {
	bool round;
} EvalOptions;

/* Zeros of this type. */
Tensor tensor_new(Arena *a, const Type *t);

/* The nodes that take their value from outside, `input` and `read`, in order: written to `node`
 * unless that is NULL; how many. */
u32 graph_sources(const Graph *g, const Node **node);

/* The values `want`, in `a`. source[i] is that of graph_sources' node i. */
void eval_values(Arena *a, const Graph *g, const Tensor *source, const Val *want, u32 n, Tensor *out,
		 EvalOptions options);

/* The graph's results, in order. */
void eval_graph(Arena *a, const Graph *g, const Tensor *source, Tensor *result, EvalOptions options);

/* One entry of a program. `input` are its input nodes' values in order; `buffer` all persistent
 * buffers, [p->buffer.n]: read as they are, and replaced by the entry's results at the end. `result`
 * has room for all of the entry's results, in order. */
void eval_entry(Arena *a, const Program *p, const Graph *entry, const Tensor *input, Tensor *buffer,
		Tensor *result, EvalOptions options);

/* The same of a partitioned program, on all devices of its mesh at once: input[r], buffer[r] and result[r] are device
 * r's. */
void eval_mesh_entry(Arena *a, const Program *p, const Graph *entry, const Tensor *const *input, Tensor *const *buffer,
		     Tensor *const *result, EvalOptions options);

/* The stages of a pipeline (passes/graph/stage.c): program[s] is that of stage s, entry[s] what it runs now, NULL: nothing;
 * its devices are those of the mesh that have its coordinate: input[s][r] and so on, in order. What was sent and not received
 * yet stays in `mail` between calls; a stage that waits for what nobody has sent or will send is a mistake (asserted). */
typedef struct EvalMail EvalMail;
EvalMail *eval_mail_new(Arena *a);
void eval_stage_entries(Arena *a, EvalMail *mail, u32 stages, const Program *const *program, const Graph *const *entry,
			const Tensor *const *const *input, Tensor *const *const *buffer, Tensor *const *const *result,
			EvalOptions options);
/* Messages that nobody has received. */
u32 eval_mail_left(const EvalMail *mail);

#endif
