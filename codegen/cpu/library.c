/* codegen/cpu/library.c: see library.h. The structures are those of runtime/library/library.h, field by field. */
#include "codegen/cpu/library.h"

#include <string.h>

typedef LLVMValueRef V;

/* What each function of the interface is in the runtime: its result and arguments by letter (p: pointer, i: int,
 * z: size_t, v: nothing; s: the sizes, one argument each, and S: a pointer to them, which the runtime takes as a pointer, NULL where
 * there are none). `model`: the runtime's takes the model's table in front. */
static const struct {
	const char *name, *runtime, *types;
	bool model;
	enum { EITHER, CPU, CUDA } on;
} function[] = {
	{ "create", "create", "ipppz", true, CPU },
	{ "create", "cuda_create", "ipippz", true, CUDA },
	{ "verify", "verify", "ippz", true, EITHER },
	{ "destroy", "destroy", "vp", false, CPU },
	{ "destroy", "cuda_destroy", "vp", false, CUDA },
	{ "describe", "describe", "pp", false, EITHER },
	{ "workspace_bytes", "workspace_bytes", "zpsi", false, CPU },
	{ "workspace_bytes", "cuda_workspace_bytes", "zps", false, CUDA },
	{ "state_bytes", "state_bytes", "zp", false, EITHER },
	{ "run", "run", "ipiSppppzp", false, CPU },
	{ "run", "cuda_run", "ipiSppppzp", false, CUDA },
	{ "threads_create", "threads_create", "iip", false, CPU },
	{ "threads_destroy", "threads_destroy", "vp", false, CPU },
	{ "memory", "cuda_memory", "ipzp", false, CUDA },
	{ "release", "cuda_release", "vpp", false, CUDA },
	{ "upload", "cuda_upload", "ipppzp", false, CUDA },
	{ "download", "cuda_download", "ipppzp", false, CUDA },
	{ "error", "error", "pi", false, EITHER },
};

static bool has_function(const CpuLibrary *l, u32 i)
{
	return function[i].on == EITHER || (function[i].on == CUDA) == l->cuda;
}

static LLVMTypeRef type_of(const CpuModule *m, char letter)
{
	return letter == 'p' ? m->pointer : letter == 'i' ? m->i32 : letter == 'z' ? m->i64 : m->none;
}

static V runtime_function(CpuModule *m, const char *name, LLVMTypeRef type)
{
	char symbol[64];
	snprintf(symbol, sizeof symbol, "plinth_library_1_%s", name);
	V f = LLVMGetNamedFunction(m->module, symbol);
	if (!f) {
		f = LLVMAddFunction(m->module, symbol, type);
		LLVMSetVisibility(f, LLVMHiddenVisibility);
	}
	return f;
}

static V text(CpuModule *m, const char *s)
{
	V value = LLVMConstStringInContext(m->context, s, (u32)strlen(s), false);
	V at = LLVMAddGlobal(m->module, LLVMTypeOf(value), "text");
	LLVMSetInitializer(at, value);
	LLVMSetGlobalConstant(at, true);
	LLVMSetLinkage(at, LLVMPrivateLinkage);
	return at;
}

/* Bytes of another object. */
static V elsewhere(CpuModule *m, const char *symbol)
{
	V at = LLVMAddGlobal(m->module, m->i8, symbol);
	LLVMSetGlobalConstant(at, true);
	LLVMSetVisibility(at, LLVMHiddenVisibility);
	return at;
}

static V constant(CpuModule *m, V value)
{
	V at = LLVMAddGlobal(m->module, LLVMTypeOf(value), "model");
	LLVMSetInitializer(at, value);
	LLVMSetGlobalConstant(at, true);
	LLVMSetLinkage(at, LLVMPrivateLinkage);
	return at;
}

static V functions(CpuModule *m, const Package *p)
{
	LLVMTypeRef argument[] = { m->pointer, m->pointer, m->pointer, m->pointer, m->i64, m->i64, m->i64 };
	LLVMTypeRef type = LLVMFunctionType(m->none, argument, COUNT(argument), false);
	Arena tmp = ARENA("functions");
	V *value = NEWN(&tmp, V, p->nsymbol + 1);
	for (u32 i = 0; i < p->nsymbol; i++) {
		value[i] = LLVMAddFunction(m->module, p->symbol[i], type);
		LLVMSetVisibility(value[i], LLVMHiddenVisibility);
	}
	V table = constant(m, LLVMConstArray2(m->pointer, value, p->nsymbol));
	arena_free(&tmp);
	return table;
}

/* A LibraryModel. */
static V model(CpuModule *m, const CpuLibrary *l)
{
	Arena tmp = ARENA("model");
	V *variant = NEWN(&tmp, V, l->nvariant + 1);
	for (u32 i = 0; i < l->nvariant; i++) {
		const CpuLibraryVariant *v = &l->variant[i];
		V field[] = { text(m, v->cpu), text(m, v->features), elsewhere(m, v->package_symbol), cpu_i64(m, (i64)v->package_bytes),
			      functions(m, v->package), cpu_i64(m, v->package->nsymbol) };
		variant[i] = LLVMConstStructInContext(m->context, field, COUNT(field), false);
	}
	V none = LLVMConstNull(m->pointer);
	V field[] = { text(m, l->name), constant(m, LLVMConstArray2(LLVMTypeOf(variant[0]), variant, l->nvariant)),
		      cpu_i64(m, l->nvariant), l->weights_symbol ? elsewhere(m, l->weights_symbol) : none,
		      cpu_i64(m, (i64)l->weights_bytes) };
	V value = constant(m, LLVMConstStructInContext(m->context, field, COUNT(field), false));
	arena_free(&tmp);
	return value;
}

static const char *symbol(Arena *a, const CpuLibrary *l, const char *name)
{
	return arena_printf(a, "%s_%s", l->name, name);
}

/* Parameters [first, first + n) in a list: its address, NULL where there are none. */
static V sizes(CpuModule *m, u32 first, u32 n)
{
	if (!n)
		return LLVMConstNull(m->pointer);
	V list = cpu_stack(m, m->i64, n, 8);
	for (u32 i = 0; i < n; i++)
		LLVMBuildStore(m->builder, cpu_parameter(m, first + i), cpu_at(m, m->i64, list, cpu_i64(m, i)));
	return list;
}

/* The function of `name` calls the runtime's, `table` in front where it is not NULL. */
static void forward(CpuModule *m, const char *name, const char *runtime, const char *types, V table, u32 naxis)
{
	CpuParameter parameter[16 + PACKAGE_AXES];
	LLVMTypeRef type[16];
	V argument[16];
	u32 n = (u32)strlen(types + 1), in_front = table != NULL, nparameter = 0;
	for (u32 i = 0; i < n; i++) {
		char letter = types[1 + i];
		u32 each = letter == 's' ? naxis : letter == 'S' ? naxis > 0 : 1;
		type[in_front + i] = letter == 's' || letter == 'S' ? m->pointer : type_of(m, letter);
		for (u32 k = 0; k < each; k++)
			parameter[nparameter++] = (CpuParameter){ .type = letter == 's' ? m->i64 : type[in_front + i] };
	}
	LLVMTypeRef result = type_of(m, types[0]);
	cpu_function_begin(m, name, result, nparameter, parameter, false);
	for (u32 i = 0, at = 0; i < n; i++) {
		bool in_list = types[1 + i] == 's' || (types[1 + i] == 'S' && !naxis);
		argument[in_front + i] = in_list ? sizes(m, at, naxis) : cpu_parameter(m, at);
		at += in_list ? naxis : 1;
	}
	if (table) {
		type[0] = m->pointer;
		argument[0] = table;
	}
	V f = runtime_function(m, runtime, LLVMFunctionType(result, type, n + in_front, false));
	V value = LLVMBuildCall2(m->builder, LLVMGlobalGetValueType(f), f, argument, n + in_front, "");
	cpu_function_end(m, result == m->none ? NULL : value);
}

/* int NAME_entry(model, sizes..., inputs..., results..., [state,] workspace, bytes, threads or stream) */
static void entry(CpuModule *m, const char *name, u32 index, const PackageEntry *e, const CpuLibrary *l)
{
	bool has_state = l->has_state;
	u32 naxis = l->variant[0].package->naxis, n = e->ninput + e->nresult, first = 1 + naxis;
	u32 rest = first + n + has_state; /* where the workspace is */
	Arena tmp = ARENA("entry");
	CpuParameter *parameter = NEWN(&tmp, CpuParameter, rest + 3);
	for (u32 i = 0; i < rest + 3; i++)
		parameter[i].type = i == rest + 1 || (i >= 1 && i < first) ? m->i64 : m->pointer;
	cpu_function_begin(m, name, m->i32, rest + 3, parameter, false);
	V input = cpu_stack(m, m->pointer, e->ninput + 1, 8), result = cpu_stack(m, m->pointer, e->nresult + 1, 8);
	for (u32 i = 0; i < n; i++) {
		bool in = i < e->ninput;
		LLVMBuildStore(m->builder, cpu_parameter(m, first + i),
			       cpu_at(m, m->pointer, in ? input : result, cpu_i64(m, in ? i : i - e->ninput)));
	}
	V state = has_state ? cpu_parameter(m, rest - 1) : LLVMConstNull(m->pointer), argument[9];
	LLVMTypeRef type[9];
	u32 count = 0;
	argument[count++] = cpu_parameter(m, 0);
	argument[count++] = cpu_i32(m, index);
	argument[count++] = sizes(m, 1, naxis);
	argument[count++] = input;
	argument[count++] = result;
	argument[count++] = state;
	for (u32 i = 0; i < 3; i++)
		argument[count++] = cpu_parameter(m, rest + i);
	for (u32 i = 0; i < count; i++)
		type[i] = LLVMTypeOf(argument[i]);
	V f = runtime_function(m, l->cuda ? "cuda_run" : "run", LLVMFunctionType(m->i32, type, count, false));
	cpu_function_end(m, LLVMBuildCall2(m->builder, LLVMGlobalGetValueType(f), f, argument, count, ""));
	arena_free(&tmp);
}

void cpu_library_emit(CpuModule *m, const void *library)
{
	const CpuLibrary *l = library;
	const Package *p = l->variant[0].package;
	Arena tmp = ARENA("library");
	V table = model(m, l);
	for (u32 i = 0; i < COUNT(function); i++)
		if (has_function(l, i))
			forward(m, symbol(&tmp, l, function[i].name), function[i].runtime, function[i].types,
				function[i].model ? table : NULL, p->naxis);
	for (u32 i = 0; i < p->nentry; i++)
		entry(m, symbol(&tmp, l, p->entry[i].name), i, &p->entry[i], l);
	arena_free(&tmp);
}

const char **cpu_library_symbols(Arena *arena, const CpuLibrary *library, u32 *n)
{
	const Package *p = library->variant[0].package;
	const char **name = NEWN(arena, const char *, COUNT(function) + p->nentry + 1);
	*n = 0;
	for (u32 i = 0; i < COUNT(function); i++)
		if (has_function(library, i))
			name[(*n)++] = symbol(arena, library, function[i].name);
	for (u32 i = 0; i < p->nentry; i++)
		name[(*n)++] = symbol(arena, library, p->entry[i].name);
	return name;
}
