/* The header is C++ too. */
#include "tiny.h"

#include <cstdio>
#include <cstring>
#include <vector>

int main(int argc, char **argv)
{
	char why[200];
	tiny *model;
	if (argc != 2 || tiny_create(argv[1], &model, why, sizeof why) != TINY_OK) {
		std::printf("failed: %s\n", why);
		return 1;
	}
	const tiny_entry &e = tiny_describe(model)->entry[0];
	std::printf("%s takes %s %s[%d][%d], gives %s\n", e.name, e.input[0].dtype, e.input[0].name, (int)e.input[0].dim[0],
		    (int)e.input[0].dim[1], e.result[0].name);
	std::vector<float> x = { 1, 2, 3, -1, -2, -3 }, y(6), z(6);
	std::vector<int32_t> k = { 1, 2 };
	size_t bytes = tiny_workspace_bytes(model, 2);
	std::vector<unsigned char> memory(bytes + 64);
	void *workspace = (void *)(((uintptr_t)memory.data() + 63) & ~(uintptr_t)63);
	tiny_threads *threads;
	tiny_threads_create(2, &threads);
	int code = tiny_forward(model, x.data(), k.data(), y.data(), workspace, bytes, threads);
	const void *input[] = { x.data(), k.data() };
	void *result[] = { z.data() };
	int again = tiny_run(model, 0, input, result, nullptr, workspace, bytes, nullptr);
	std::printf("%d %d, %s: %.4f %.4f, %.4f %.4f\n", code, again, std::memcmp(&y[0], &z[0], 24) ? "different" : "the same", y[0], y[2],
		    y[3], y[5]);
	std::printf("%d: %s\n", tiny_run(model, 7, input, result, nullptr, workspace, bytes, nullptr), tiny_error(TINY_ERROR_ARGUMENT));
	tiny_threads_destroy(threads);
	tiny_destroy(model);
	return 0;
}
