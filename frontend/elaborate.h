/* frontend/elaborate.h: from a syntax tree to a program: names are resolved, modules applied, loops
 * unrolled, types and axes checked, once for all sizes that are not numbers yet.
 *
 * The program that comes out has these entries (those that the file can give):
 *   init     parameters, optimizer states and counters get their first values; input seed: i64[]
 *   forward  the model: its inputs, its results; what `generate` and `export` use
 *   eval     the train recipe's loss as it is outside training: results loss_sum, loss_count
 *   micro    the same in training: results loss_sum, loss_count; reads the seed and the count of
 *            micro-steps for its random draws. The pass `grad` adds the backward half.
 *   update   reads gradients and counters; writes parameters, states, step; results loss, grad_norm, lr
 * Gradients and the loss are sums; `update` divides by the count that all micro-steps added up.
 *
 * Errors go to ir->diag; every independent one is reported. */
#ifndef PL_ELABORATE_H
#define PL_ELABORATE_H
#include "frontend/ast.h"
#include "ir/machine.h"
#include "ir/op.h"

/* `weights { ignore "p"; rename "a" -> "b" }`: from what a published file calls a tensor. */
typedef struct WeightsLine {
	const char *pattern;
	const char *replacement; /* NULL: ignore */
} WeightsLine;
typedef VEC(WeightsLine) WeightsLines;

/* A setting of a recipe that is a plain value, for whoever runs it: batch.B, accumulate, memory, ...
 * Of a record, each entry is one. */
typedef struct Setting {
	const char *key;  /* "train.batch.B", "data.train" */
	const char *text; /* as it would be written */
	f64 number;       /* where it is one */
	bool is_number;
	Loc loc;
} Setting;

/* `H -> tensor` of a shard block. */
typedef struct ShardLine {
	const char *axis; /* "Attention.H", or parameters, gradients, optimizer_state, layers, attention_heads */
	const char *mesh; /* "tensor", "(pod data)" */
	Loc loc;
} ShardLine;

/* A value of the config: which key of a Hugging Face config sets it (`width = 768 from "n_embd"`) is for whoever
 * reads one: elaborate, then again with `--set path=value` for each key that it has. */
typedef struct ConfigValue {
	const char *path; /* "width", "text.width" */
	const char *key;  /* "n_embd", or NULL */
	const char *const *also; /* other names that files have for it, where they lack `key`; NULL ends them */
	const char *text; /* as it would be written */
	Loc loc;
} ConfigValue;

typedef struct Model {
	Program *program;
	VEC(ConfigValue) config;
	/* A published block: what config.json says besides (`path` is NULL), and other names for the folder's two files and for tensors */
	VEC(ConfigValue) published;
	const char *published_file, *published_config; /* NULL: as Hugging Face's transformers have them */
	WeightsLines published_name;                   /* from what the program calls a tensor */
	const char *name;              /* of the model, "" if the file has none */
	WeightsLines weight;
	WeightsLines begun;            /* parameters that training begins anew where a file has none that fit */
	VEC(const char *) added;       /* parameters that wrappers of an adapt block brought: files of the model lack them */
	VEC(Setting) setting;
	VEC(ShardLine) shard;
	/* symbols that the batch record gives numbers to */
	VEC(const char *) symbol;
	VEC(i64) symbol_value;
	i64 accumulate;                /* micro-steps of a step, at least 1 */
	const char *precision;         /* "f32", "bf16", "f16", "autocast": bf16 for results too, or "fp8": with 8 bits in linear layers */
	bool has_train;
	const Machine *machine;        /* of a machine block, or NULL */
} Model;

typedef struct ElaborateOptions {
	const char *preset;       /* NULL: none */
	const char *const *set;   /* "layers=24", "train.batch.B=16" */
	u32 nset;
	/* What `use name` means besides the standard library: gives the text of another source, NULL if
	 * there is none. `path` becomes the name shown in messages. */
	bool (*find)(void *cx, Arena *arena, const char *name, const char **path, Str *text);
	void *find_cx;
} ElaborateOptions;

/* NULL if nothing could be made; whole only if no error was added to ir->diag. */
Model *elaborate(Arena *arena, Ir *ir, const Ast *ast, const ElaborateOptions *options);

const Setting *model_setting(const Model *m, const char *key); /* or NULL */

#endif
