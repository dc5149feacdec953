/* dump.c WEIGHTS: runs every entry of a library once on inputs made by formula, and writes its results as bytes. -DNAME=gpt2
 * -DHEADER='"gpt2.h"' */
#include HEADER

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)
#define F(name)     JOIN(JOIN(NAME, _), name)

static void *memory(size_t n)
{
	void *p = aligned_alloc(64, (n + 64) / 64 * 64);
	memset(p, 0, n);
	return p;
}

static void *filled(const F(tensor) *t)
{
	void *p = memory(t->bytes);
	for (size_t i = 0; i < t->bytes / 4; i++) {
		if (!strcmp(t->dtype, "i32"))
			((int *)p)[i] = (int)(i * 37 % 61);
		else
			((float *)p)[i] = (float)(i * 37 % 101) / 64 - 0.75f;
	}
	return p;
}

int main(int argc, char **argv)
{
	char why[300];
	NAME *model;
	if (F(create)(argc > 1 ? argv[1] : NULL, &model, why, sizeof why)) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	const F(info) *info = F(describe)(model);
	F(threads) *threads;
	F(threads_create)(2, &threads);
	size_t bytes = F(workspace_bytes)(model, 2);
	void *workspace = memory(bytes), *state = memory(F(state_bytes)(model));
	for (int e = 0; e < info->nentry; e++) {
		const F(entry) *entry = &info->entry[e];
		const void *input[16];
		void *result[16];
		for (int i = 0; i < entry->ninput; i++)
			input[i] = filled(&entry->input[i]);
		for (int i = 0; i < entry->nresult; i++)
			result[i] = memory(entry->result[i].bytes);
		if (F(run)(model, (unsigned)e, input, result, state, workspace, bytes, threads))
			return 2;
		for (int i = 0; i < entry->nresult; i++)
			fwrite(result[i], 1, entry->result[i].bytes, stdout);
	}
	return 0;
}
