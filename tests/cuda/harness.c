/* harness.c: see harness.h. */
#include "harness.h"
#include <dlfcn.h>
#include <stdlib.h>

typedef struct Nvrtc {
	int (*create)(void **program, const char *source, const char *name, int n, const char *const *headers,
		      const char *const *names);
	int (*compile)(void *program, int n, const char *const *options);
	int (*ptx_size)(void *program, size_t *size);
	int (*ptx)(void *program, char *out);
	int (*log_size)(void *program, size_t *size);
	int (*log)(void *program, char *out);
	int (*destroy)(void **program);
} Nvrtc;

static const Nvrtc *nvrtc(void)
{
	static Nvrtc n;
	static bool tried, found;
	static const char *const names[] = { "libnvrtc.so.13", "/usr/local/cuda/lib64/libnvrtc.so.13", "libnvrtc.so.12",
					     "/usr/local/cuda/lib64/libnvrtc.so.12" };
	void *library = NULL;
	const char *given = getenv("PLINTH_NVRTC"); /* as codegen/cuda/nvrtc.c has it */
	for (u32 i = 0; !tried && !library && i < COUNT(names); i++)
		library = dlopen(given && *given ? given : names[i], RTLD_NOW);
	if (library) {
		*(void **)&n.create = dlsym(library, "nvrtcCreateProgram");
		*(void **)&n.compile = dlsym(library, "nvrtcCompileProgram");
		*(void **)&n.ptx_size = dlsym(library, "nvrtcGetPTXSize");
		*(void **)&n.ptx = dlsym(library, "nvrtcGetPTX");
		*(void **)&n.log_size = dlsym(library, "nvrtcGetProgramLogSize");
		*(void **)&n.log = dlsym(library, "nvrtcGetProgramLog");
		*(void **)&n.destroy = dlsym(library, "nvrtcDestroyProgram");
		found = n.create && n.compile && n.ptx_size && n.ptx && n.log_size && n.log && n.destroy;
	}
	tried = true;
	return found ? &n : NULL;
}

bool nvrtc_present(void)
{
	return nvrtc() != NULL;
}

char *nvrtc_ptx(const char *source, const char *arch)
{
	const Nvrtc *n = nvrtc();
	if (!n) {
		print_message("skipped: a test that compiles CUDA C, and there is no NVRTC\n");
		skip();
	}
	char target[64];
	snprintf(target, sizeof target, "--gpu-architecture=%s", arch);
	const char *options[] = { target, "--no-cache" };
	void *program;
	size_t size;
	assert_int_equal(n->create(&program, source, "test.cu", 0, NULL, NULL), 0);
	int r = n->compile(program, COUNT(options), options);
	if (r) {
		n->log_size(program, &size);
		char *log = malloc(size + 1);
		n->log(program, log);
		fail_msg("NVRTC: %s", log);
	}
	assert_int_equal(n->ptx_size(program, &size), 0);
	char *ptx = malloc(size + 1);
	assert_int_equal(n->ptx(program, ptx), 0);
	ptx[size] = 0;
	n->destroy(&program);
	return ptx;
}

void standin_set(const char *settings)
{
	setenv("PLINTH_STANDIN", settings, 1);
	standinReadSettings();
	standinForget();
}

int standin_setup(void **state)
{
	(void)state;
	CUcontext c;
	standin_set("");
	return cuInit(0) || cuDevicePrimaryCtxRetain(&c, 0) || cuCtxSetCurrent(c);
}

char *ptx_kernel(const char *declarations, const char *body)
{
	static const char head[] = ".version 8.5\n.target sm_90a\n.address_size 64\n%s\n"
				   ".visible .entry k(.param .u64 p0, .param .u64 p1, .param .u64 p2)\n{\n"
				   ".reg .pred %%p<16>;\n.reg .b16 %%h<32>;\n.reg .b32 %%r<64>;\n.reg .f32 %%f<64>;\n"
				   ".reg .b64 %%d<32>;\n.reg .f64 %%g<16>;\n%s\nret;\n}\n";
	size_t n = sizeof head + strlen(declarations) + strlen(body);
	char *text = malloc(n);
	snprintf(text, n, head, declarations, body);
	return text;
}

u32 bits_of_integer(FloatFormat format, i32 v)
{
	if (!v)
		return 0;
	u32 a = (u32)abs(v), e = 31 - (u32)__builtin_clz(a), bias = (1u << (format.exponent - 1)) - 1;
	u32 fraction = (u32)((u64)(a - (1u << e)) << format.fraction >> e);
	return (u32)(v < 0) << (format.exponent + format.fraction) | (e + bias) << format.fraction | fraction;
}

CUfunction load_function(const char *ptx, const char *name, CUmodule *module)
{
	CUfunction f;
	CU(cuModuleLoadData(module, ptx));
	CU(cuModuleGetFunction(&f, *module, name));
	return f;
}

CUdeviceptr device_copy(const void *bytes, size_t n)
{
	CUdeviceptr p;
	CU(cuMemAlloc_v2(&p, n));
	if (bytes)
		CU(cuMemcpyHtoD_v2(p, bytes, n));
	return p;
}

CUresult run_kernel(CUfunction f, u32 blocks, u32 threads, u32 shared, const u64 *params, u32 nparams)
{
	void *pointers[16];
	for (u32 i = 0; i < nparams; i++)
		pointers[i] = (void *)(uintptr_t)&params[i];
	CUresult r = cuLaunchKernel(f, blocks, 1, 1, threads, 1, 1, shared, NULL, pointers, NULL);
	return r ? r : cuCtxSynchronize();
}
