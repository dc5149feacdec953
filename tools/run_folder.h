/* tools/run_folder.h: what a training run leaves for those who come after it. `plinth train` puts into the
 * run's folder, beside checkpoints and metrics,
 *
 *     model.plinth     the source, and the files that it uses beside it
 *     run.json         preset, settings, data, and where frozen parameters are that checkpoints lack
 *     tokenizer.json   of data that is text
 *
 * so that the folder, or a checkpoint in it, stands for the model wherever a verb takes one. */
#ifndef PL_RUN_FOLDER_H
#define PL_RUN_FOLDER_H
#include "tools/source.h"

#define RUN_MODEL     "model.plinth"
#define RUN_SETTINGS  "run.json"
#define RUN_TOKENIZER "tokenizer.json"

/* What the operand MODEL stands for: a source, a run's folder, or a checkpoint in one (runs/x/best). */
typedef struct ModelOperand {
	const char *source;    /* the path of the .plinth file */
	const char *run;       /* the folder, or NULL */
	const char *checkpoint; /* of the run, where the operand is one of its checkpoints; else the run's folder: its latest */
	const char *data;      /* prefix of the run's shards, or NULL */
	const char *weights;   /* what the run's frozen parameters came from, where its checkpoints lack them; or NULL */
	SourceOptions options; /* of the run, then those given now, which stand before them */
} ModelOperand;

/* Of a checkpoint's folder the run's, which has what belongs to all of its checkpoints; else the folder itself. */
const char *run_folder_around(Arena *a, const char *folder);
PL_MUST_USE Status model_operand(Arena *a, const char *operand, const SourceOptions *given, ModelOperand *out);

/* Writes the three; `tokenizer` is the path of the one to copy, NULL where the data has none. */
PL_MUST_USE Status run_folder_write(const char *folder, const SourceFile *source, const ModelOperand *model,
				    const char *tokenizer);

#endif
