/* tools/verb_verify.c: `plinth verify CHECKPOINT...`: is every byte what it was when it was saved? */
#include "runtime/checkpoint/verify.h"
#include "tools/verbs.h"

#include <jansson.h>

static bool json;

static const Option option[] = {
	{ .name = "json", .kind = OPTION_FLAG, .to = &json, .help = "one JSON object for each operand" },
};

static const Command command = {
	.name = "verify",
	.operands = "CHECKPOINT...",
	.least = 1,
	.most = -1,
	.about = "Checks the hash of every tensor of a checkpoint, and the files' structure. Takes a\n"
		 "checkpoint's folder, a run's folder (its latest checkpoint is meant), a safetensors\n"
		 "file or its index, or the folder of a published model; where a file states no\n"
		 "hashes, its structure is checked and a summary printed. Exit status 1 says that\n"
		 "something is damaged; each such tensor is listed with its file and byte range.",
	.example = "  plinth verify run/step-000500     one checkpoint\n"
		   "  plinth verify run                 the latest of a run\n"
		   "  plinth verify model.safetensors   a published file",
	.option = option,
	.noption = COUNT(option),
};

static void print_text(const VerifyReport *r)
{
	for (u32 i = 0; i < r->problem.n; i++) {
		const VerifyProblem *p = &r->problem.v[i];
		if (p->tensor)
			printf("%s: tensor %s (bytes %llu to %llu): %s\n", p->file, p->tensor,
			       (unsigned long long)p->begin, (unsigned long long)p->end, p->text);
		else
			printf("%s\n", p->text);
	}
	printf("%s: ", r->path);
	if (r->is_checkpoint)
		printf("checkpoint of step %llu, ", (unsigned long long)r->step);
	printf("%u file%s, %.1f MB, %u tensors of %llu elements (", r->nfile, r->nfile == 1 ? "" : "s",
	       (f64)r->bytes / 1e6, r->ntensor, (unsigned long long)r->elements);
	const char *comma = "";
	for (SafeDtype d = 0; d < SAFE_DTYPE_COUNT; d++)
		if (r->count[d]) {
			printf("%s%u %s", comma, r->count[d], safe_dtype_name(d));
			comma = ", ";
		}
	printf("): ");
	if (r->problem.n)
		printf("%u damaged\n", r->problem.n);
	else if (r->nhashed)
		printf("%s%u hashes hold\n", r->nhashed == r->ntensor ? "all " : "", r->nhashed);
	else
		printf("the structure is sound; it states no hashes\n");
}

static void print_json(const VerifyReport *r)
{
	json_t *problems = json_array();
	for (u32 i = 0; i < r->problem.n; i++) {
		const VerifyProblem *p = &r->problem.v[i];
		json_array_append_new(problems,
				      json_pack("{s:s, s:s*, s:I, s:I, s:s}", "file", p->file, "tensor",
						p->tensor, "begin", (json_int_t)p->begin, "end",
						(json_int_t)p->end, "text", p->text));
	}
	json_t *root = json_pack("{s:s, s:i, s:i, s:i, s:I, s:I, s:o}", "path", r->path, "files",
				 (int)r->nfile, "tensors", (int)r->ntensor, "hashed", (int)r->nhashed,
				 "bytes", (json_int_t)r->bytes, "elements", (json_int_t)r->elements,
				 "problems", problems);
	if (r->is_checkpoint)
		json_object_set_new(root, "step", json_integer((json_int_t)r->step));
	json_dumpf(root, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(root);
}

int verb_verify(int argc, char **argv)
{
	char **path;
	int n, status;
	if (!options_parse(&command, argc, argv, &path, &n, &status))
		return status;
	for (int i = 0; i < n; i++) {
		Arena a = ARENA("verify");
		VerifyReport r;
		Status failed = verify(&a, path[i], &r);
		int one = 0;
		if (failed) {
			one = verb_failed("verify", failed);
		} else {
			(json ? print_json : print_text)(&r);
			one = r.problem.n ? 1 : 0;
		}
		status = MAX(status, one);
		arena_free(&a);
	}
	return status;
}
