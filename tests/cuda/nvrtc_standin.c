/* tests/cuda/nvrtc_standin.c: NVRTC of CUDA 12.0 as far as options go: it compiles nothing, gives an image of one byte, and refuses options that
 * its manual (NVRTC 12.0, supported compile options) does not have. */
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { SUCCESS = 0, INVALID_OPTION = 5 };

static const char *const known[] = {
	"--gpu-architecture=", "-arch=", "--std=", "--default-device", "-default-device", "--fmad=", "--prec-div=", "--prec-sqrt=", "--ftz=",
	"--diag-suppress=", "--ptxas-options=", "--use_fast_math", "--maxrregcount=", "--device-debug", "--generate-line-info",
};

EXPORT int nvrtcVersion(int *major, int *minor)
{
	*major = 12;
	*minor = 0;
	return SUCCESS;
}

EXPORT const char *nvrtcGetErrorString(int code)
{
	return code == INVALID_OPTION ? "NVRTC_ERROR_INVALID_OPTION" : "NVRTC_SUCCESS";
}

static const char *refused;

EXPORT int nvrtcCreateProgram(void **out, const char *text, const char *name, int headers, const char *const *header, const char *const *include)
{
	static int program;
	(void)text, (void)name, (void)headers, (void)header, (void)include;
	*out = &program;
	refused = "";
	return SUCCESS;
}

EXPORT int nvrtcDestroyProgram(void **program)
{
	*program = 0;
	return SUCCESS;
}

EXPORT int nvrtcCompileProgram(void *program, int n, const char *const *option)
{
	(void)program;
	for (int i = 0; i < n; i++) {
		int found = 0;
		for (unsigned k = 0; k < sizeof known / sizeof *known; k++)
			found |= !strncmp(option[i], known[k], strlen(known[k]));
		if (!found) {
			refused = option[i];
			return INVALID_OPTION;
		}
	}
	return SUCCESS;
}

static int copy(char *to, const char *text)
{
	strcpy(to, text);
	return SUCCESS;
}

EXPORT int nvrtcGetProgramLogSize(void *program, size_t *out)
{
	(void)program;
	*out = strlen(refused) + 1;
	return SUCCESS;
}

EXPORT int nvrtcGetProgramLog(void *program, char *to)
{
	(void)program;
	return copy(to, refused);
}

static const char image[] = "x";

static int image_size(size_t *out)
{
	*out = sizeof image;
	return SUCCESS;
}

EXPORT int nvrtcGetPTXSize(void *program, size_t *out)
{
	(void)program;
	return image_size(out);
}

EXPORT int nvrtcGetPTX(void *program, char *to)
{
	(void)program;
	return copy(to, image);
}

EXPORT int nvrtcGetCUBINSize(void *program, size_t *out)
{
	(void)program;
	return image_size(out);
}

EXPORT int nvrtcGetCUBIN(void *program, char *to)
{
	(void)program;
	return copy(to, image);
}
