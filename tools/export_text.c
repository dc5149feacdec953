/* tools/export_text.c: the texts of an exported library: its header, in which every function says what it takes and
 * gives, and an example program. See export.h; the structures are those of runtime/library/library.h. */
#include "tools/export.h"

#include <string.h>

/* Sizes that runs are given, each behind its type. */
static void put_sizes(const Export *x, Buf *b, const char *type)
{
	const Package *p = x->variant[0].package;
	for (u32 i = 0; i < p->naxis; i++)
		buf_printf(b, ", %s%s", type, export_identifier(x->arena, p->axis[i].name));
}

/* Text in which @ stands for the library's name, ^ for it in capitals, $ for the parameters
 * of sizes and ~ for them as arguments. What is between one of these marks and END is for libraries of that kind alone; SIZED, within
 * others too: those whose runs are given sizes. */
#define CPU "\1"
#define GPU "\2"
#define SIZED "\4"
#define END "\3"
static void put(const Export *x, Buf *b, const char *text)
{
	char kind = *END;
	bool sized = false;
	for (const char *c = text; *c; c++) {
		if (*c == *CPU || *c == *GPU || *c == *SIZED || *c == *END) {
			sized = *c == *SIZED;
			kind = sized ? kind : *c;
			continue;
		}
		if ((sized && !x->variant[0].package->naxis) || (kind != *END && (kind == *GPU) != x->cuda))
			continue;
		if (*c == '$' || *c == '~')
			put_sizes(x, b, *c == '$' ? "int64_t " : "");
		else if (*c == '@')
			buf_put(b, str_of(x->name));
		else if (*c == '^')
			buf_put(b, str_of(x->upper));
		else
			buf_char(b, *c);
	}
}

static const char *c_type(u8 dtype)
{
	static const char *const type[] = { [PACKAGE_B1] = "uint8_t", [PACKAGE_U8] = "uint8_t", [PACKAGE_U32] = "uint32_t",
					    [PACKAGE_I8] = "int8_t", [PACKAGE_I32] = "int32_t", [PACKAGE_I64] = "int64_t",
					    [PACKAGE_F8E4M3] = "uint8_t", [PACKAGE_F8E5M2] = "uint8_t", [PACKAGE_F16] = "uint16_t", [PACKAGE_BF16] = "uint16_t", [PACKAGE_F32] = "float",
					    [PACKAGE_F64] = "double" };
	return type[dtype];
}

static void put_shape(const Export *x, Buf *b, const PackageTensor *t)
{
	for (u32 d = 0; d < t->rank; d++)
		if (t->formula[d])
			buf_printf(b, "[%s]", x->variant[0].package->formula[t->formula[d] - 1].text);
		else
			buf_printf(b, "[%lld]", (long long)t->dim[d]);
	if (!t->rank)
		buf_printf(b, " (one number)");
}

static bool is_sized(const PackageTensor *t)
{
	bool sized = false;
	for (u32 d = 0; d < t->rank; d++)
		sized |= t->formula[d] != 0;
	return sized;
}

static void put_tensor(const Export *x, Buf *b, const char *entry, const PackageTensor *t, bool input)
{
	const char *written = export_type(x, entry, t->name, input);
	buf_printf(b, " *   %s: %s, %s", export_identifier(x->arena, t->name), input ? "given" : "written", c_type(t->dtype));
	put_shape(x, b, t);
	buf_printf(b, ", %s%llu bytes", is_sized(t) ? "at most " : "", (unsigned long long)t->bytes);
	if (written)
		buf_printf(b, "; in the model %s", written);
	if (t->dtype == PACKAGE_BF16)
		buf_printf(b, "; bfloat16: the upper half of a float");
	if (t->dtype == PACKAGE_F16)
		buf_printf(b, "; IEEE half precision, as bits");
	if (t->dtype == PACKAGE_F8E4M3 || t->dtype == PACKAGE_F8E5M2)
		buf_printf(b, "; %s of OCP's 8-bit floats, as bits", t->dtype == PACKAGE_F8E4M3 ? "E4M3" : "E5M2");
	if (t->dtype == PACKAGE_B1)
		buf_printf(b, "; 0 or 1");
	buf_printf(b, "\n");
}

static void put_entry(const Export *x, Buf *b, const PackageEntry *e)
{
	const Package *p = x->variant[0].package;
	buf_printf(b, "/* Runs `%s` once: %.4g GFLOP%s.\n", e->name, e->model_flops / 1e9, p->naxis ? " at most" : "");
	for (u32 i = 0; i < p->naxis; i++)
		buf_printf(b, " *   %s: a size, 1 to %lld\n", export_identifier(x->arena, p->axis[i].name), (long long)p->axis[i].most);
	for (u32 i = 0; i < e->ninput; i++)
		put_tensor(x, b, e->name, &e->input[i], true);
	for (u32 i = 0; i < e->nresult; i++)
		put_tensor(x, b, e->name, &e->result[i], false);
	const char *about = !x->has_state ? "" :
		!strcmp(e->name, "prefill") ?
			" * Gives the logits of the position number `last` (0: the first) of those in `tokens`, which stand at places past,\n"
			" * past + 1, ... of the text; what is behind `last` does not count. A text begins with past = 0.\n" :
		!strcmp(e->name, "step") ? " * The same for one position, at place `past`: the count of those that came before.\n" : "";
	buf_put(b, str_of(about));
	if (*about)
		buf_printf(b, " * state: of the text. All places, those behind `last` too, must be below %lld.%s\n", (long long)x->capacity,
			   p->naxis ? " Of texts side by side there are\n * as many in each run, until they begin anew." : "");
	put(x, b, " * Tensors are dense and row-major, " CPU "aligned to their elements" END GPU "in the GPU's memory, aligned to 64" END
		  "; they are read and written where they are, and\n"
		  " * must not overlap each other or the workspace. Integers that select (tokens) must be in range.\n"
		  " * workspace: @_workspace_bytes() bytes" GPU " of the GPU's memory, aligned to 256" END CPU ", aligned to 64" END
		  "; contents do not matter before and after.\n"
		  CPU " * threads: NULL runs in the calling thread. Results are the same bits for any number of threads.\n" END
		  GPU " * stream: a CUstream or cudaStream_t, on which kernels are launched; NULL is the default one. The call does not wait\n"
		  " * for them, and may be captured into a graph. ^_ERROR_DEVICE: the driver refuses a launch.\n" END
		  SIZED " * ^_ERROR_SIZE: a size is out of its range; nothing was done.\n" END
		  " * ^_ERROR_ARGUMENT: a pointer is NULL or not aligned, or the workspace too small; nothing was done. */\n");
	buf_printf(b, "int %s_%s(const %s *model", x->name, e->name, x->name);
	put_sizes(x, b, "int64_t ");
	for (u32 i = 0; i < e->ninput; i++)
		buf_printf(b, ", const %s *%s", c_type(e->input[i].dtype), export_identifier(x->arena, e->input[i].name));
	for (u32 i = 0; i < e->nresult; i++)
		buf_printf(b, ", %s *%s", c_type(e->result[i].dtype), export_identifier(x->arena, e->result[i].name));
	buf_printf(b, ",\n\t%s", x->has_state ? "void *state, " : "");
	put(x, b, "void *workspace, size_t workspace_bytes, " CPU "@_threads *threads" END GPU "void *stream" END ");\n\n");
}

static const char before[] =
	"#ifndef ^_H\n"
	"#define ^_H\n"
	"#include <stddef.h>\n"
	"#include <stdint.h>\n"
	"#ifdef __cplusplus\n"
	"extern \"C\" {\n"
	"#endif\n"
	"\n"
	"/* What functions return; @_error() says it in words. */\n"
	"enum {\n"
	"\t^_OK = 0,\n"
	"\t^_ERROR_ARGUMENT = 1,    /* an argument is wrong: nothing was done */\n"
	"\t^_ERROR_FILE = 2,        /* the weights file is missing, damaged, or of another model */\n"
	"\t^_ERROR_MEMORY = 3,\n"
	"\t^_ERROR_UNSUPPORTED = 4, /* this processor or GPU cannot run the library's code */\n"
	"\t^_ERROR_DEVICE = 5,      /* the GPU refuses */\n"
	"\t^_ERROR_SIZE = 6         /* a size is out of its range: nothing was done */\n"
	"};\n"
	"\n"
	"/* The model with its weights. It does not change: any number of threads may run it at once, each with a\n"
	" * workspace of its own. */\n"
	"typedef struct @ @;\n"
	CPU "/* Threads that runs are divided among. One run at a time may use them. */\n"
	"typedef struct @_threads @_threads;\n" END
	"\n"
	"typedef struct @_tensor {\n"
	"\tconst char *name, *dtype; /* dtype: \"f32\", \"i32\", ... */\n"
	"\tint rank;\n"
	"\tint64_t dim[10];          /* [rank] */\n"
	"\tsize_t bytes;\n"
	"\tconst char *shape;        /* \"B, T, 768\": where sizes are given to runs, dim and bytes are those at most */\n"
	"} @_tensor;\n"
	"\n"
	"typedef struct @_entry {\n"
	"\tconst char *name;\n"
	"\tint ninput, nresult;\n"
	"\tconst @_tensor *input, *result;\n"
	"\tdouble flops;             /* floating-point operations of one run */\n"
	"} @_entry;\n"
	"\n"
	"/* A size that runs are given: 1 to `most`. */\n"
	"typedef struct @_axis {\n"
	"\tconst char *name;\n"
	"\tint64_t most;\n"
	"} @_axis;\n"
	"\n"
	"typedef struct @_info {\n"
	"\tconst char *model, *plinth, *cpu; /* its name; the version that made it; the processor or GPU its code is for */\n"
	"\tint nentry;\n"
	"\tconst @_entry *entry;\n"
	"\tsize_t weights_bytes, state_bytes;\n"
	"\tint naxis;                /* sizes that runs are given, in this order */\n"
	"\tconst @_axis *axis;\n"
	"} @_info;\n"
	"\n";

static const char create_file[] =
	"/* Makes the model. weights: the path of weights.safetensors, or of another file with the same tensors; it is\n"
	" * " CPU "mapped, read as runs need it, and must not change while the model is there." END GPU "uploaded." END " On failure *out is NULL, and\n"
	" * `error`, if not NULL, says why in at most error_bytes bytes, a final zero among them.\n"
	" * ^_ERROR_FILE, ^_ERROR_MEMORY, ^_ERROR_UNSUPPORTED. */\n";
static const char create_embedded[] =
	"/* Makes the model. weights: NULL for those in the library, or the path of another safetensors file with the same\n"
	" * tensors; " CPU "it is mapped, and must not change while the model is there. " END "On failure *out is NULL, and `error`, if\n"
	" * not NULL, says why in at most error_bytes bytes, a final zero among them.\n"
	" * ^_ERROR_FILE, ^_ERROR_MEMORY, ^_ERROR_UNSUPPORTED. */\n";

static const char create_none[] =
	"/* Makes it. weights: NULL, it has none. On failure *out is NULL, and `error`, if not NULL, says why in at most\n"
	" * error_bytes bytes, a final zero among them. ^_ERROR_MEMORY, ^_ERROR_UNSUPPORTED. */\n";

static const char after[] =
	GPU "/* device: the number of the GPU. Its primary context is used, as by the CUDA runtime. ^_ERROR_DEVICE. */\n" END
	"int @_create(const char *weights, " GPU "int device, " END "@ **out, char *error, size_t error_bytes);\n"
	"/* Reads all of a weights file once (NULL: of those in the library) and compares it with the hashes that it states\n"
	" * itself: @_create looks at its structure alone, so that it takes no time. As there on failure. ^_ERROR_FILE. */\n"
	"int @_verify(const char *weights, char *error, size_t error_bytes);\n"
	"/* No run may be under way; NULL does nothing. */\n"
	"void @_destroy(@ *model);\n"
	"/* What it takes and gives; valid until @_destroy. */\n"
	"const @_info *@_describe(const @ *model);\n"
	CPU "/* The bytes of a workspace for runs with so many threads (0 and 1: the calling thread alone)" SIZED "; 0: a size is out\n"
	" * of its range" CPU ". */\n"
	"size_t @_workspace_bytes(const @ *model$, unsigned threads);\n" END
	GPU "/* The bytes of a workspace" SIZED "; 0: a size is out of its range" GPU ". */\n"
	"size_t @_workspace_bytes(const @ *model$);\n" END
	"/* What entries keep between runs: one for each text that is under way, aligned to 64, zeros at first; 0 where\n"
	" * nothing is kept. A text may begin anew in it at any time. */\n"
	"size_t @_state_bytes(const @ *model);\n"
	CPU "/* Threads to run with: `count` of them, the calling one among them, at least 1. They sleep between runs.\n"
	" * ^_ERROR_ARGUMENT, ^_ERROR_MEMORY. */\n"
	"int @_threads_create(unsigned count, @_threads **out);\n"
	"void @_threads_destroy(@_threads *threads);\n" END
	GPU "/* The GPU's memory, for programs that have no other way to it: bytes of zeros, aligned to 256; back again; from the\n"
	" * host in the stream's order, `from` not to be changed before that came; to the host, where it waits for the stream.\n"
	" * ^_ERROR_MEMORY, ^_ERROR_DEVICE. */\n"
	"int @_memory(const @ *model, size_t bytes, void **out);\n"
	"void @_release(const @ *model, void *memory);\n"
	"int @_upload(const @ *model, void *to, const void *from, size_t bytes, void *stream);\n"
	"int @_download(const @ *model, void *to, const void *from, size_t bytes, void *stream);\n" END
	"/* What an error code means; never NULL. */\n"
	"const char *@_error(int code);\n"
	"\n";

static const char last[] =
	"/* Any entry, by its place in @_info, with its inputs and results as two lists in the order of @_entry" SIZED ", and the sizes in\n"
	" * that of @_info.axis" END ": for\n"
	" * bindings to other languages. The same as the function of that entry. */\n"
	"int @_run(const @ *model, unsigned entry, " SIZED "const int64_t *size, " END "const void *const *input, void *const *result,\n"
	"\tvoid *state, void *workspace, size_t workspace_bytes, " CPU "@_threads *threads" END GPU "void *stream" END
	"); /* state: may be NULL where it has no bytes */\n"
	"\n"
	"#ifdef __cplusplus\n"
	"}\n"
	"#endif\n"
	"#endif\n";

Status export_header(const Export *x)
{
	Buf b = { .arena = x->arena };
	const Package *p = x->variant[0].package;
	buf_printf(&b, "/* %s.h: the model %s (%s%s%s) as a library, made by Plinth " PLINTH_VERSION ".\n * Link with lib%s.so, or with lib%s.a, -lm and "
		       "-lpthread; both depend on the C library alone. */\n",
		   x->name, x->model, x->source, *x->sizes ? ", " : "", x->sizes, x->name, x->name);
	put(x, &b, before);
	put(x, &b, x->embedded ? create_embedded : x->weights_bytes ? create_file : create_none);
	put(x, &b, after);
	for (u32 i = 0; i < p->nentry; i++)
		put_entry(x, &b, &p->entry[i]);
	put(x, &b, last);
	Str text = buf_str(&b);
	return export_write(x, arena_printf(x->arena, "%s.h", x->name), (Blob){ (const u8 *)text.s, text.n });
}

/* ---- the example ---- */

static const char begin[] =
	"#include \"@.h\"\n"
	"\n"
	"#include <stdio.h>\n"
	"#include <stdlib.h>\n"
	"#include <string.h>\n"
	"#include <time.h>\n"
	"\n"
	"static void fail(const char *what, const char *why)\n"
	"{\n"
	"\tfprintf(stderr, \"%s: %s\\n\", what, why);\n"
	"\texit(1);\n"
	"}\n"
	"\n"
	"static void *memory(size_t bytes)\n"
	"{\n"
	"\tvoid *p = aligned_alloc(64, (bytes + 63) / 64 * 64);\n"
	"\tif (!p)\n"
	"\t\tfail(\"memory\", \"there is not enough\");\n"
	"\treturn p;\n"
	"}\n"
	"\n"
	GPU "static void *device_memory(const @ *model, size_t bytes)\n"
	"{\n"
	"\tvoid *p;\n"
	"\tif (@_memory(model, bytes, &p))\n"
	"\t\tfail(\"@_memory\", \"the GPU has not enough\");\n"
	"\treturn p;\n"
	"}\n"
	"\n" END
	"static double seconds(void)\n"
	"{\n"
	"\tstruct timespec t;\n"
	"\ttimespec_get(&t, TIME_UTC);\n"
	"\treturn (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;\n"
	"}\n"
	"\n"
	"int main(int argc, char **argv)\n"
	"{\n"
	"\tconst char *weights = argc > 1 ? argv[1] : %;\n"
	CPU "\tunsigned threads = argc > 2 ? (unsigned)atoi(argv[2]) : 1;\n" END
	"\tchar why[500];\n"
	"\t@ *model;\n"
	"\tdouble start = seconds();\n"
	"\tif (@_create(weights, " GPU "0, " END "&model, why, sizeof why))\n"
	"\t\tfail(\"@_create\", why);\n"
	"\tprintf(\"loaded in %.1f ms: code for %s\\n\", 1e3 * (seconds() - start), @_describe(model)->cpu);\n"
	CPU "\t@_threads *pool = NULL;\n"
	"\tif (threads > 1 && @_threads_create(threads, &pool))\n"
	"\t\tfail(\"@_threads_create\", \"no threads\");\n"
	"\tsize_t workspace_bytes = @_workspace_bytes(model~, threads);\n"
	"\tvoid *workspace = memory(workspace_bytes);\n" END
	GPU "\tsize_t workspace_bytes = @_workspace_bytes(model~);\n"
	"\tvoid *workspace = device_memory(model, workspace_bytes), *stream = NULL;\n" END;

enum { USUAL = 16 }; /* a size to run at, where it is in range */

static u64 elements(const PackageTensor *t)
{
	u64 n = 1;
	for (u32 d = 0; d < t->rank; d++)
		n *= (u64)t->dim[d];
	return n;
}

static void example_entry(const Export *x, Buf *b, const PackageEntry *e)
{
	u32 n = e->ninput + e->nresult;
	const char **name = NEWN(x->arena, const char *, n + 1);
	const char *gpu = x->cuda ? "gpu_" : ""; /* in front of what is in the GPU's memory */
	for (u32 i = 0; i < n; i++) {
		const PackageTensor *t = i < e->ninput ? &e->input[i] : &e->result[i - e->ninput];
		u64 bytes = MAX(t->bytes, 1u);
		name[i] = arena_printf(x->arena, "%s_%s", e->name, export_identifier(x->arena, t->name));
		buf_printf(b, "\t%s *%s = memory(%llu); /* ", c_type(t->dtype), name[i], (unsigned long long)bytes);
		put_shape(x, b, t);
		buf_printf(b, "%s */\n", is_sized(t) ? ", at most" : "");
		if (x->cuda)
			buf_printf(b, "\t%s *gpu_%s = device_memory(model, %llu);\n", c_type(t->dtype), name[i], (unsigned long long)bytes);
		if (i >= e->ninput)
			continue;
		buf_printf(b, "\tfor (size_t i = 0; i < %llu; i++)\n\t\t%s[i] = %d; /* what the model is to be given */\n",
			   (unsigned long long)elements(t), name[i], x->has_state && !t->rank ? 0 : 1);
		if (x->cuda)
			buf_printf(b, "\tstatus = %s_upload(model, gpu_%s, %s, %llu, stream);\n", x->name, name[i], name[i],
				   (unsigned long long)t->bytes);
	}
	buf_printf(b, "\tstart = seconds();\n\tstatus = %s_%s(model", x->name, e->name);
	put_sizes(x, b, "");
	for (u32 i = 0; i < n; i++)
		buf_printf(b, ", %s%s", gpu, name[i]);
	buf_printf(b, "%s, workspace, workspace_bytes, %s);\n\tif (status)\n\t\tfail(\"%s_%s\", %s_error(status));\n",
		   x->has_state ? ", state" : "", x->cuda ? "stream" : "pool", x->name, e->name, x->name);
	for (u32 i = 0; x->cuda && i < e->nresult; i++)
		buf_printf(b, "\tstatus = %s_download(model, %s, gpu_%s, %llu, stream);\n\tif (status)\n\t\tfail(\"%s_%s\", %s_error(status));\n",
			   x->name, name[e->ninput + i], name[e->ninput + i], (unsigned long long)e->result[i].bytes, x->name, e->name, x->name);
	buf_printf(b, "\tprintf(\"%s: %%.1f ms\\n\", 1e3 * (seconds() - start));\n", e->name);
	for (u32 i = 0; i < e->nresult; i++) {
		bool real = e->result[i].dtype == PACKAGE_F32 || e->result[i].dtype == PACKAGE_F64;
		buf_printf(b, "\tprintf(\"  %s[0] = %%%s\\n\", %s%s[0]);\n", export_identifier(x->arena, e->result[i].name),
			   real ? ".9g" : "lld", real ? "" : "(long long)", name[e->ninput + i]);
	}
	for (u32 i = 0; i < n; i++) {
		buf_printf(b, "\tfree(%s);\n", name[i]);
		if (x->cuda)
			buf_printf(b, "\t%s_release(model, gpu_%s);\n", x->name, name[i]);
	}
}

Status export_example(const Export *x)
{
	Buf b = { .arena = x->arena };
	const Package *p = x->variant[0].package;
	buf_printf(&b, "/* example.c: runs the model once. In this folder:\n"
		       " *   cc -O2 example.c -o example -L. -l%s -Wl,-rpath,'$ORIGIN' && ./example%s\n"
		       " *   cc -O2 example.c -o example lib%s.a -lm -lpthread            (all in one file) */\n",
		   x->name, x->embedded || !x->weights_bytes ? "" : " weights.safetensors", x->name);
	put(x, &b, arena_printf(x->arena, "%.*s", (int)(strstr(begin, "%;") - begin), begin));
	buf_printf(&b, "%s", x->embedded || !x->weights_bytes ? "NULL" : "\"weights.safetensors\"");
	buf_printf(&b, ";\n");
	for (u32 i = 0; i < p->naxis; i++)
		buf_printf(&b, "\tconst int64_t %s = %lld; /* 1 to %lld */\n", export_identifier(x->arena, p->axis[i].name),
			   (long long)MIN(p->axis[i].most, USUAL), (long long)p->axis[i].most);
	put(x, &b, strstr(begin, "%;") + 3);
	if (x->has_state)
		put(x, &b, CPU "\tvoid *state = memory(@_state_bytes(model));\n\tmemset(state, 0, @_state_bytes(model));\n" END
			   GPU "\tvoid *state = device_memory(model, @_state_bytes(model));\n" END);
	buf_printf(&b, "\tint status;\n");
	for (u32 i = 0; i < p->nentry; i++)
		example_entry(x, &b, &p->entry[i]);
	if (x->has_state)
		put(x, &b, CPU "\tfree(state);\n" END GPU "\t@_release(model, state);\n" END);
	put(x, &b, CPU "\tfree(workspace);\n\t@_threads_destroy(pool);\n" END GPU "\t@_release(model, workspace);\n" END
		   "\t@_destroy(model);\n\treturn 0;\n}\n");
	Str text = buf_str(&b);
	return export_write(x, "example.c", (Blob){ (const u8 *)text.s, text.n });
}
