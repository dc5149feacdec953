/* tests/fuzz/replay.c: runs a fuzz target over files and folders of files, without a fuzzer: the
 * regression test that any compiler can build. A target that faults names its input by then: each
 * is printed before it runs. */
#include "support/io.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u32 replay_file(const char *path)
{
	Arena arena = ARENA("replay");
	Str text;
	Status s = io_read(&arena, path, &text);
	if (s) {
		fprintf(stderr, "%s\n", s->text);
		exit(2);
	}
	printf("%s\n", path);
	fflush(stdout);
	/* Of the exact size, so that a sanitizer sees a read past the end. */
	u8 *copy = malloc(text.n ? text.n : 1);
	if (!copy)
		exit(2);
	memcpy(copy, text.s, text.n);
	LLVMFuzzerTestOneInput(copy, text.n);
	free(copy);
	arena_free(&arena);
	return 1;
}

static u32 replay(const char *path)
{
	DIR *folder = opendir(path);
	if (!folder)
		return replay_file(path);
	u32 n = 0;
	for (const struct dirent *e; (e = readdir(folder));) {
		char file[4096];
		if (e->d_name[0] == '.')
			continue;
		snprintf(file, sizeof file, "%s/%s", path, e->d_name);
		n += replay_file(file);
	}
	closedir(folder);
	return n;
}

int main(int argc, char **argv)
{
	u32 n = 0;
	for (int i = 1; i < argc; i++)
		n += replay(argv[i]);
	printf("%u inputs\n", n);
	return n ? 0 : 1;
}
