/* tools/verb_doctor.c: `plinth doctor`: what of this machine Plinth can use, what is missing, and what to do about it. */
#include "codegen/cuda/nvrtc.h"
#include "runtime/comm/comm.h"
#include "runtime/cpu/memory.h"
#include "runtime/cuda/cublaslt.h"
#include "runtime/cuda/nccl.h"
#include "runtime/cuda/nvml.h"
#include "support/cores.h"
#include "support/cpu_cache.h"
#include "support/io.h"
#include "support/library.h"
#include "tools/calibrate.h"
#include "tools/machine.h"
#include "tools/selftest.h"
#include "tools/tune.h"
#include "tools/verbs.h"

#include <jansson.h>
#include <string.h>
#include <unistd.h>

#if PLINTH_LLVM
#include "codegen/cpu/llvm.h"
#endif

static RunOptions where;
static const char *output;
static bool json, measure;

static const Option options[] = {
	{ "device", 0, OPTION_TEXT, &where.device, "NAME", "the one that must work; cpu by default, cuda in a build without LLVM" },
	{ "calibrate", 0, OPTION_FLAG, &measure, NULL, "measure the device: what `plinth plan --machine host` reads, and how products are cut" },
	{ "output", 'o', OPTION_FILE, &output, "FILE", "where that is written, instead of the one that `host` means" },
	{ "json", 'j', OPTION_FLAG, &json, NULL, "one JSON object" },
};

static const OptionRule rules[] = {
	{ RULE_NEEDS, "output", "calibrate", "what it measures is written there" },
	{ RULE_EXCLUDE, "calibrate", "json", NULL },
};

static const Command command = {
	.name = "doctor",
	.about = "Says what was found on this machine, what is missing, and what to do about it; and\n"
		 "compiles and runs one kernel on the default device. Exit status 0 when that works.\n\n"
		 "With --calibrate, measures the device instead: peaks, bandwidth and what of them work of\n"
		 "several sizes reaches, for plans; what others disturb meanwhile is measured again, and told\n"
		 "where they go on; and, of this processor, whether matrix products that\n"
		 "are cut otherwise than worked out from its caches take less time. That is kept in the cache\n"
		 "folder and holds for what is compiled for `host` from then on. Results are the same bits.\n"
		 "Code for a processor that is named (--cpu) does not depend on it. With --output only the\n"
		 "machine's file is written. Started by mpirun, it measures ranks that share this machine's\n"
		 "cores, all at the same time, and what they take to add up what each has: a machine whose\n"
		 "devices are ranks, for plan --mesh.",
	.example = "  plinth doctor\n"
		   "  plinth doctor --device cuda --json\n"
		   "  plinth doctor --calibrate\n"
		   "  mpirun -n 2 plinth doctor --calibrate --output ranks.plinth",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

typedef struct Finding {
	const char *what, *text;
	const char *advice; /* NULL: all is well */
	bool missing;
} Finding;

typedef struct Doctor {
	Arena arena;
	VEC(Finding) finding;
} Doctor;

static void found(Doctor *d, const char *what, const char *text)
{
	VEC_PUSH(&d->arena, &d->finding, ((Finding){ what, text, NULL, false }));
}

static void missing(Doctor *d, const char *what, const char *text, const char *advice)
{
	VEC_PUSH(&d->arena, &d->finding, ((Finding){ what, text, advice, true }));
}

/* ---- the host ---- */

static void look_at_cpu(Doctor *d)
{
	Arena *a = &d->arena;
	Buf b = { .arena = a };
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	buf_printf(&b, "%ld core%s", cores, cores == 1 ? "" : "s");
	if (cores_usable() < cores)
		buf_printf(&b, " (%u may be used)", cores_usable());
#if PLINTH_LLVM
	CpuMachine m;
	if (!cpu_machine(NULL, &m)) {
		static const char *const known[] = { "avx2", "fma", "avx512f", "avx512bf16", "avx512fp16", "amx-bf16", "neon", "sve" };
		buf_printf(&b, ", %s", m.name);
		for (u32 i = 0; i < COUNT(known); i++) {
			const char *at = strstr(m.features, arena_printf(a, "+%s", known[i]));
			char after = at ? at[1 + strlen(known[i])] : 0;
			if (at && (!after || after == ','))
				buf_printf(&b, " %s", known[i]);
		}
	}
#endif
	for (u32 level = 1; level <= 3; level++)
		if (cpu_cache_bytes(level))
			buf_printf(&b, ", L%u %s", level, lm_bytes(a, cpu_cache_bytes(level)));
	found(d, "CPU", b.text);
}

/* How matrix products are cut, and who says so. */
static void look_at_products(Doctor *d)
{
#if PLINTH_LLVM
	CpuMachine m;
	Arena *a = &d->arena;
	const char *path;
	Status s = cpu_machine(NULL, &m);
	if (!s)
		s = tuning_path(a, &m, &path);
	if (s)
		return;
	const char *who = tuning_any(&m.tuning) ? arena_printf(a, "measured: %s", path) :
			  io_exists(path)	 ? arena_printf(a, "worked out from caches, which nothing measured beats: %s", path) :
						   arena_printf(a, "worked out from caches; plinth doctor --calibrate measures, into %s", path);
	found(d, "products", arena_printf(a, "%s (%s)", products_text(a, &m), who));
#endif
}

static void look_at_llvm(Doctor *d)
{
#if PLINTH_LLVM
	Status s = llvm_load();
	if (s) {
		missing(d, "LLVM", arena_printf(&d->arena, "%s", s->text), "packages (plinth compile) run without it");
		return;
	}
	unsigned major, minor, patch;
	LLVMGetVersion(&major, &minor, &patch);
	found(d, "LLVM", arena_printf(&d->arena, "%u.%u.%u", major, minor, patch));
#else
	missing(d, "LLVM", "this build has none, and makes no code for CPUs", "build with PLINTH_LLVM=ON where LLVM 19 is (llvm-19-dev)");
#endif
}

static void look_at_memory(Doctor *d)
{
	found(d, "memory", arena_printf(&d->arena, "%s free", lm_bytes(&d->arena, host_memory_available())));
}

static void look_at_cache(Doctor *d)
{
	const char *folder;
	Status s = io_cache_folder(&d->arena, &folder);
	if (!s && access(folder, W_OK) == 0)
		found(d, "cache folder", folder);
	else
		missing(d, "cache folder", s ? arena_printf(&d->arena, "%s", s->text) : arena_printf(&d->arena, "%s cannot be written", folder),
			"set XDG_CACHE_HOME to a folder that can be written; without, every run compiles anew");
}

/* ---- GPUs ---- */

/* Whether `plinth bench` can tell clocks and power. */
static void look_at_clocks(Doctor *d, u32 index, const char *name)
{
	GpuWatch *w;
	Status s = gpu_watch_open(index, name, &w);
	if (s) {
		missing(d, "NVML", arena_printf(&d->arena, "%s", s->text), "for clocks and power in `plinth bench`; it comes with NVIDIA's driver");
		return;
	}
	found(d, "NVML", arena_printf(&d->arena, "clocks up to %.0f MHz, %.0f W", gpu_watch_most_mhz(w), gpu_watch_limit_watts(w)));
	gpu_watch_close(w);
}

static void look_at_gpus(Doctor *d)
{
	const CudaDriver *driver;
	Arena *a = &d->arena;
	Status s = cuda_driver(&driver);
	if (s) {
		missing(d, "CUDA driver", arena_printf(a, "%s", s->text), "for GPUs: install NVIDIA's driver");
		return;
	}
	found(d, "CUDA driver", arena_printf(a, "%s, CUDA %d.%d", driver->path, driver->number / 1000, driver->number % 1000 / 10));
	DeviceInfo info;
	for (u32 i = 0; !(s = device_cuda.info(i, &info)); i++) {
		Buf b = { .arena = a };
		buf_printf(&b, "%s, compute capability %u.%u, %u multiprocessors, %s of memory", info.name, info.major, info.minor,
			   info.multiprocessors, lm_bytes(a, info.memory));
		if (info.datasheet > 0)
			buf_printf(&b, ", %.0f TFLOPS bf16", info.datasheet * 1e-12);
		if (info.datasheet_f8 > 0)
			buf_printf(&b, ", %.0f TFLOPS f8", info.datasheet_f8 * 1e-12);
		if (info.datasheet > 0)
			buf_printf(&b, " by the datasheet");
		found(d, arena_printf(a, "cuda:%u", i), b.text);
		if (info.major < 8)
			d->finding.v[d->finding.n - 1].advice = "Plinth makes code for compute capability 8.0 and above";
		look_at_clocks(d, i, info.name);
	}
	const Finding *last = &d->finding.v[d->finding.n - 1];
	if (!strcmp(last->what, "CUDA driver"))
		missing(d, "cuda:0", arena_printf(a, "%s", s->text), "see nvidia-smi, and CUDA_VISIBLE_DEVICES");
}

static void look_at_nvrtc(Doctor *d)
{
	const Nvrtc *n;
	const CudaDriver *driver;
	Status s = nvrtc_open(&n);
	if (s) {
		missing(d, "NVRTC", arena_printf(&d->arena, "%s", s->text),
			"for GPUs: the CUDA toolkit has it, or `pip install nvidia-cuda-nvrtc` with PLINTH_NVRTC naming the file");
		return;
	}
	found(d, "NVRTC", arena_printf(&d->arena, "%s, %d.%d", n->path, n->major, n->minor));
	if (n->major == 12 && n->minor < 4) /* PTX has mma of 8 bits from 8.4 on, which CUDA 12.4 brought */
		d->finding.v[d->finding.n - 1].advice = "training by --precision fp8 on compute capability 8.9 and up needs that of CUDA 12.4 or later: "
							"this one knows no products of 8 bits";
	if (!cuda_driver(&driver) && driver->number / 1000 < n->major)
		d->finding.v[d->finding.n - 1].advice =
			arena_printf(&d->arena, "its code is too new for this driver (CUDA %d.%d): renew the driver, or let PLINTH_NVRTC name the "
						"libnvrtc.so.%d of CUDA %d",
				     driver->number / 1000, driver->number % 1000 / 10, driver->number / 1000, driver->number / 1000);
}

static void look_at_cublas(Doctor *d)
{
	Cublas *c;
	Status s = cublas_open(&c);
	if (!s) {
		found(d, "cuBLASLt", cublas_version_text(c, &d->arena));
		cublas_close(c);
		return;
	}
	missing(d, "cuBLASLt", arena_printf(&d->arena, "%s", s->text),
		"for GPUs, but not needed: matrix products are then generated code alone");
}

static void look_at_nccl(Doctor *d)
{
	const Nccl *n;
	Status s = nccl_library(&n);
	if (!s)
		found(d, "NCCL", arena_printf(&d->arena, "%s, %d.%d.%d", n->path, n->number / 10000, n->number / 100 % 100, n->number % 100));
	else
		missing(d, "NCCL", arena_printf(&d->arena, "%s", s->text), "for several GPUs (--device cuda --mesh data=2), and not needed for one");
}

static void look_at_mpi(Doctor *d)
{
	static const char *const name[] = { "libmpi.so.40", "libmpi.so", NULL };
	Library library;
	Status s = library_open("PLINTH_MPI", name, RTLD_LOCAL, &library);
	if (!s)
		found(d, "MPI", library.path);
	else
		missing(d, "MPI", arena_printf(&d->arena, "%s", s->text),
			"for several ranks on CPUs: apt-get install openmpi-bin; GPUs do without under srun or torchrun");
}

/* ---- does the default device work? ---- */

static Status try_device(const char *device, Agreement *out)
{
	Arena a = ARENA("doctor");
	Diag diag = { .arena = &a };
	Ir *ir = ir_new(&a, &diag);
	Random r = random_new(&a, 1);
	DriverOptions driver = { .device = device, .no_cache = true };
	DeviceOptions options;
	Status s = run_options(&(RunOptions){ .device = device, .threads = 1 }, &options);
	Tested t;
	if (!s && tested_open(&a, selftest_op(&a, ir, &r, OP_add), &driver, &options, &r, &t, &s)) {
		s = tested_entry(&a, &t, "entry", NULL, NULL, out);
		tested_close(&t);
	}
	arena_free(&a);
	return s;
}

static Status look_at_device(Doctor *d)
{
	const char *device = where.device ? where.device : driver_default_device();
	Agreement a = { 0 };
	Status s = try_device(device, &a);
	if (!s && (a.worst > 1 || !a.repeats))
		s = FAIL(STATUS_DEVICE, "a sum is %g, and should be %g", a.got, a.want);
	const char *what = arena_printf(&d->arena, "device %s", device);
	if (s)
		missing(d, what, arena_printf(&d->arena, "%s", s->text), "see above for what is missing; `plinth test` tells more");
	else
		found(d, what, "works: a kernel was compiled, and computed what it should");
	return s;
}

static void print(const Doctor *d)
{
	for (u32 i = 0; i < d->finding.n; i++) {
		const Finding *f = &d->finding.v[i];
		printf("%-14s %-8s %s\n", f->what, f->missing ? "missing" : "found", f->text);
		if (f->advice)
			printf("%-14s %-8s -> %s\n", "", "", f->advice);
	}
}

static void print_json(const Doctor *d, bool works)
{
	json_t *all = json_array();
	for (u32 i = 0; i < d->finding.n; i++) {
		const Finding *f = &d->finding.v[i];
		json_t *o = json_pack("{s:s, s:b, s:s}", "what", f->what, "found", (int)!f->missing, "text", f->text);
		if (f->advice)
			json_object_set_new(o, "advice", json_string(f->advice));
		json_array_append_new(all, o);
	}
	json_t *root = json_pack("{s:s, s:b, s:o}", "plinth", PLINTH_VERSION, "works", (int)works, "findings", all);
	json_dumpf(root, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(root);
}

static void say(const char *what)
{
	if (!where.comm || comm_rank(where.comm) == 0)
		fprintf(stderr, "measuring %s\n", what);
}

/* Of CPUs: how products are cut, for what is compiled from now on. */
static Status tune_products(Arena *a)
{
#if PLINTH_LLVM
	const char *device = where.device ? where.device : driver_default_device(), *path;
	DeviceOptions options;
	CpuMachine m;
	Tuned t;
	if (strcmp(device, "cpu") != 0)
		return OK;
	TRY(run_options(&where, &options));
	TRY(cpu_machine(NULL, &m));
	TRY(tune(a, &options, say, &t));
	TRY(tuning_path(a, &m, &path));
	const char *text = tuning_text(a, &t.tuning);
	TRY(io_write(path, (Blob){ (const u8 *)text, strlen(text) }));
	m.tuning = t.tuning;
	if (tuning_any(&t.tuning))
		printf("products: %s: %.1f%% less time (noise %.1f%%, %u candidates)\n", products_text(a, &m), 100 * (1 - t.ratio), 100 * t.noise,
		       t.tried);
	else
		printf("products: %s: none of %u candidates takes less time by more than noise (%.1f%%)\n", products_text(a, &m), t.tried,
		       100 * t.noise);
	printf("wrote %s\n", path);
#endif
	return OK;
}

/* As one of several ranks, each with its share of the cores. */
static Status join_ranks(void)
{
	const char *device = where.device ? where.device : driver_default_device();
	if (!str_starts(str_of(device), STR("cpu")))
		return FAIL(STATUS_UNSUPPORTED, "ranks with GPUs are not measured together: plinth doctor --calibrate, without mpirun");
	if (!output)
		return FAIL(STATUS_INPUT, "of ranks, --output says where: mpirun -n 2 plinth doctor --calibrate --output ranks.plinth");
	TRY(comm_open(&transport_mpi, &where.comm));
	where.threads = cores_of_rank(comm_local_ranks(where.comm));
	return OK;
}

/* Where the machine's file goes. The folder of the host's is made if it is missing; that nothing can be written there is said
 * before anything is measured. */
static Status place_of_machine(Arena *a, const char **path)
{
	*path = output ? output : machine_host_path(a);
	if (output)
		return OK; /* as options are */
	const char *slash = strrchr(*path, '/');
	if (slash)
		TRY(io_make_folder(arena_printf(a, "%.*s", (int)(slash - *path), *path)));
	return io_writable(*path);
}

/* The file appears whole or not at all. */
static Status write_machine(Arena *a, const char *path)
{
	const char *text, *disturbed;
	Status s = calibrate(a, &where, say, &text, &disturbed);
	if (where.comm) {
		TRY(comm_together(where.comm, "measuring", s));
		if (comm_rank(where.comm))
			return OK;
	}
	TRY(s);
	TRY(io_write(path, (Blob){ (const u8 *)text, strlen(text) }));
	printf("wrote %s\n", path);
	if (disturbed)
		fprintf(stderr, "plinth doctor: warning: others used this machine while it was measured, and times may be too long: %s\n"
				"  plans are off by about as much, and say so: stop what else computes here (top shows it), and measure again\n",
			disturbed);
	return OK;
}

int verb_doctor(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	Doctor d = { .arena = ARENA("doctor") };
	if (measure) {
		const char *path = NULL;
		Status s = comm_launched() > 1 ? join_ranks() : OK;
		if (!s)
			s = place_of_machine(&d.arena, &path);
		if (where.comm)
			s = comm_together(where.comm, "measuring", s);
		if (!s && !output)
			s = tune_products(&d.arena);
		if (!s)
			s = write_machine(&d.arena, path);
		comm_close(where.comm);
		arena_free(&d.arena);
		return s ? verb_failed("doctor", s) : 0;
	}
	look_at_cpu(&d);
	look_at_llvm(&d);
	look_at_products(&d);
	look_at_memory(&d);
	look_at_gpus(&d);
	look_at_nvrtc(&d);
	look_at_cublas(&d);
	look_at_nccl(&d);
	look_at_mpi(&d);
	look_at_cache(&d);
	Status s = look_at_device(&d);
	if (json)
		print_json(&d, !s);
	else
		print(&d);
	status = s ? status_exit(s) : 0;
	arena_free(&d.arena);
	return status;
}
