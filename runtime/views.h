/* runtime/views.h: an executor's memory as other parts of the runtime name it: buffers as checkpoints know
 * them, and an entry's inputs as batches of tokens. */
#ifndef PL_VIEWS_H
#define PL_VIEWS_H
#include "runtime/checkpoint/safetensors.h"
#include "runtime/data/dataset.h"
#include "runtime/executor.h"

/* The element type of a safetensors file. */
SafeDtype safe_dtype_of(PackageDtype dtype);

/* What a file gives to an entry's input, by its name; the types must be equal. `who` needs it. */
PL_MUST_USE Status input_given(Arena *tmp, const Safetensors *file, const PackageTensor *t, const char *who, const void **out);

typedef struct BufferViews {
	NamedBuffer *v; /* as files have them */
	u32 n;
} BufferViews;

/* The buffers whose kind is in `kinds`, bits 1 << PackageBufferKind, in the package's order. Those of a device whose
 * memory the host cannot address are far (safetensors.h).
 * A stacked buffer is its parts (checkpoint/stacked.h). On a mesh they are the whole tensors' names, of which this rank has
 * a part (checkpoint/part.h), in a pipeline perhaps without elements. */
BufferViews buffer_views(Arena *a, Executor *x, u32 kinds);
enum {
	VIEW_PARAMETERS = 1 << PACKAGE_PARAMETER,
	VIEW_TRAINED = 1 << 16 | VIEW_PARAMETERS, /* of the parameters, those that are not frozen */
	VIEW_OTHERS = 1 << PACKAGE_STATE | 1 << PACKAGE_COUNTER /* what else a resume needs */
};
/* On a mesh: what this rank writes of a checkpoint, under the names of parts. What several ranks have one of them writes,
 * so that all write about as much: what all of them write is each element once. */
BufferViews saved_views(Arena *a, Executor *x, u32 kinds);

/* An entry that takes batches of a dataset (runtime/data/dataset.h), and host memory for one. */
typedef struct BatchInputs {
	const PackageEntry *entry;
	DataInputs input;
	u32 rows; /* of a batch, here */
	u32 rank, ranks; /* which part of the batch of all devices that is: block `rank` of `ranks` */
} BatchInputs;

/* Fails where the package has no such entry, or it takes no batches. */
PL_MUST_USE Status batch_inputs(const Executor *x, const char *entry, BatchInputs *out);
/* Room for the inputs of a batch, as loader_next fills it. */
u8 **batch_room(Arena *a, const BatchInputs *in);
/* Writes a batch and runs the entry. */
PL_MUST_USE Status batch_run(Executor *x, const BatchInputs *in, u8 *const *batch, StepHook *hook, void *cx);

/* Where an entry takes a batch of text: inputs `tokens` and `targets`, i32[B, T]; targets may be missing. */
typedef struct TokenInputs {
	const PackageEntry *entry;
	const PackageTensor *tokens, *targets;
	u32 batch, window;
} TokenInputs;

/* Fails where the package has no such entry, or the entry takes anything else. */
PL_MUST_USE Status token_inputs(const Executor *x, const char *entry, TokenInputs *out);
/* Writes a batch and runs the entry. */
PL_MUST_USE Status token_run(Executor *x, const TokenInputs *in, const i32 *tokens, const i32 *targets, StepHook *hook, void *cx);

#endif
