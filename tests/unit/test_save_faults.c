/* A save meets the world: each of its system calls fails in turn (a child is traced, and the call
 * replaced by an error before the kernel sees it), and it is killed at random moments. After each, the
 * run has a whole checkpoint, nothing unfinished passes for one, and the error names a path. */
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/save.h"
#include "runtime/checkpoint/verify.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { ELEMENTS = 20000 };
static char folder[64], run[80];

/* Contents that tell the step they belong to. */
static Status save(u64 step, u32 keep)
{
	static f32 x[ELEMENTS], y[ELEMENTS];
	static const i64 dim[] = { ELEMENTS };
	for (u32 i = 0; i < ELEMENTS; i++) {
		x[i] = (f32)(step * 100000 + i);
		y[i] = -x[i];
	}
	NamedBuffer parameter = { "x", SAFE_F32, 1, dim, x, NULL, 0, false, NULL, NULL }, other = { "m/x", SAFE_F32, 1, dim, y, NULL, 0, false, NULL, NULL };
	CheckpointSave s = { .run = run, .state.step = step, .parameter = &parameter, .nparameter = 1,
			     .other = &other, .nother = 1, .keep = keep };
	return checkpoint_save(&s);
}

/* Loads a checkpoint, compares every value; gives its step. */
static u64 load(const char *path)
{
	static f32 x[ELEMENTS], y[ELEMENTS];
	static const i64 dim[] = { ELEMENTS };
	Arena a = ARENA("load");
	Diag d = { .arena = &a };
	NamedBuffer parameter = { "x", SAFE_F32, 1, dim, x, NULL, 0, false, NULL, NULL }, other = { "m/x", SAFE_F32, 1, dim, y, NULL, 0, false, NULL, NULL };
	Checkpoint c;
	Status s = checkpoint_open(&a, path, &c);
	if (!s)
		s = checkpoint_load(&c, &parameter, 1, &other, 1, &d);
	if (s)
		fail_msg("%s", s->text);
	u64 step = c.state.step;
	checkpoint_close(&c);
	for (u32 i = 0; i < ELEMENTS; i++) {
		assert_true(x[i] == (f32)(step * 100000 + i));
		assert_true(y[i] == -x[i]);
	}
	VerifyReport r;
	assert_null(verify(&a, path, &r));
	assert_int_equal(r.problem.n, 0);
	arena_free(&a);
	return step;
}

/* Everything in the run's folder that has a checkpoint's name is one; gives how many there are. */
static u32 load_all(bool *temporaries)
{
	u32 n = 0;
	*temporaries = false;
	DIR *d = opendir(run);
	for (const struct dirent *e; d && (e = readdir(d));) {
		u64 step;
		char path[400];
		snprintf(path, sizeof path, "%s/%s", run, e->d_name);
		*temporaries |= checkpoint_is_temporary(e->d_name);
		if (!checkpoint_step_of(e->d_name, &step))
			continue;
		assert_int_equal(load(path), step);
		n++;
	}
	if (d)
		closedir(d);
	return n;
}

/* ---- a failure at each system call ---- */

#if defined __x86_64__

/* Shared with the child, which needs no system call to answer through it. */
typedef struct Answer {
	volatile bool done, failed;
	char text[1000];
} Answer;

/* Not the file system's business: memory, signals, threads, names of processes. */
static bool counts(const struct user_regs_struct *r)
{
	switch (r->orig_rax) {
	case SYS_brk: case SYS_munmap: case SYS_mremap: case SYS_mprotect: case SYS_madvise:
	case SYS_futex: case SYS_rt_sigaction: case SYS_rt_sigprocmask: case SYS_rt_sigreturn:
	case SYS_getpid: case SYS_gettid: case SYS_kill: case SYS_tgkill: case SYS_sched_yield:
	case SYS_getrandom: case SYS_exit: case SYS_exit_group: case SYS_restart_syscall:
	case SYS_clock_gettime: case SYS_sigaltstack: case SYS_prctl: case SYS_clock_nanosleep:
		return false;
	case SYS_mmap:
		return (i32)r->r8 >= 0;
	default:
		return true;
	}
}

/* Calls whose failure cannot be without consequence: the save must say so. */
static bool must_be_told(const struct user_regs_struct *r)
{
	switch (r->orig_rax) {
	case SYS_write: case SYS_writev: case SYS_fsync: case SYS_rename: case SYS_renameat:
	case SYS_renameat2: case SYS_mkdir: case SYS_open: case SYS_openat: case SYS_lseek:
	case SYS_getdents64: case SYS_rmdir: case SYS_unlink:
		return true;
	default:
		return false;
	}
}

typedef struct Injected {
	u32 calls;     /* made by the save */
	bool happened; /* the call to fail was reached */
	bool must_tell;
	u64 call;
	char order[200]; /* of what makes it last: 's' for a sync, 'r' for a renaming */
} Injected;

static void note_order(Injected *in, u64 call)
{
	char letter = call == SYS_fsync ? 's' : call == SYS_rename ? 'r' : 0;
	size_t n = strlen(in->order);
	if (letter && n + 1 < sizeof in->order)
		in->order[n] = letter;
}

/* Saves `step` in a child whose `which`-th call (from 0) fails with `error`. */
static Injected save_with_failure(u64 step, u32 keep, u32 which, int error, Answer *answer)
{
	*answer = (Answer){ 0 };
	Injected out = { 0 };
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(9);
		raise(SIGSTOP);
		Status s = save(step, keep);
		answer->failed = s != OK;
		if (s)
			memcpy(answer->text, s->text, sizeof answer->text);
		answer->done = true;
		_exit(0);
	}
	int status;
	bool inside = false, replace = false;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSTOPPED(status));
	ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
	for (;;) {
		ptrace(PTRACE_SYSCALL, child, NULL, NULL);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status) || WIFSIGNALED(status))
			break;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			continue;
		struct user_regs_struct r;
		ptrace(PTRACE_GETREGS, child, NULL, &r);
		inside = !inside;
		if (inside && !answer->done && counts(&r)) {
			note_order(&out, r.orig_rax);
			replace = out.calls++ == which;
			if (replace) {
				out.happened = true;
				out.must_tell = must_be_told(&r);
				out.call = r.orig_rax;
				r.orig_rax = (u64)-1;
				ptrace(PTRACE_SETREGS, child, NULL, &r);
			}
		} else if (!inside && replace) {
			replace = false;
			r.rax = (u64)(i64)-error;
			ptrace(PTRACE_SETREGS, child, NULL, &r);
		}
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(answer->done);
	return out;
}

/* `before` saves, then one of `step` that fails at each of its calls in turn. */
static void fail_everywhere(u32 before, u64 step, u32 keep, int error)
{
	Answer *answer = mmap(NULL, sizeof *answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			      -1, 0);
	assert_true(answer != MAP_FAILED);
	u32 told = 0;
	for (u32 which = 0;; which++) {
		assert_null(io_remove_folder(run));
		for (u64 i = 1; i <= before; i++)
			assert_null(save(i, 0));
		Injected in = save_with_failure(step, keep, which, error, answer);
		bool temporaries;
		u32 n = load_all(&temporaries);
		char latest[120];
		snprintf(latest, sizeof latest, "%s/" CHECKPOINT_LATEST, run);
		if (io_exists(latest)) {
			u64 found = load(run);
			assert_true(found == step || (answer->failed && found == before));
		} else {
			assert_int_equal(before, 0);
			assert_true(answer->failed);
		}
		if (answer->failed) {
			told++;
			if (!strstr(answer->text, run))
				fail_msg("call %u (number %llu): the error names no path: %s", which,
					 (unsigned long long)in.call, answer->text);
			if (error == ENOSPC && in.must_tell && strstr(answer->text, "No space left"))
				assert_non_null(strstr(answer->text, "free some space"));
			assert_true(n >= MIN(before, keep ? keep : before));
		} else if (in.must_tell) {
			fail_msg("call %u (number %llu) failed and nothing was said", which,
				 (unsigned long long)in.call);
		}
		/* the next save goes on as if nothing had been, and leaves nothing behind */
		assert_null(save(step + 1, keep));
		assert_int_equal(load(run), step + 1);
		load_all(&temporaries);
		assert_false(temporaries);
		if (!in.happened) {
			assert_false(answer->failed);
			assert_true(which > 40); /* the calls of a save; fewer would mean that few are seen */
			break;
		}
	}
	assert_true(told > 30);
	munmap(answer, sizeof *answer);
}

static bool can_trace(void)
{
	pid_t child = fork();
	if (child == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 9);
	int status;
	waitpid(child, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#define NEEDS_TRACE()                                                          \
	do {                                                                   \
		if (!can_trace()) {                                            \
			print_message("this machine does not allow ptrace\n"); \
			skip();                                                \
		}                                                              \
	} while (0)

/* A power cut is not a kill: what was not synced may be gone, and renamings may change their order.
 * Each file is synced before it is renamed and its folder after; the checkpoint's folder is renamed
 * last, and that synced before `latest` is replaced. */
static void everything_is_synced_in_order(void **state)
{
	(void)state;
	NEEDS_TRACE();
	Answer *answer = mmap(NULL, sizeof *answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			      -1, 0);
	assert_true(answer != MAP_FAILED);
	assert_null(io_remove_folder(run));
	assert_null(save(1, 0));
	Injected in = save_with_failure(2, 0, 1000000, EIO, answer);
	assert_false(answer->failed);
	assert_string_equal(in.order, "srs" "srs" "srs" "rs" "srs");
	munmap(answer, sizeof *answer);
}

static void the_first_save_fails(void **state)
{
	(void)state;
	NEEDS_TRACE();
	fail_everywhere(0, 1, 1, EIO);
}

static void a_later_save_fails(void **state)
{
	(void)state;
	NEEDS_TRACE();
	fail_everywhere(2, 3, 1, EIO);
}

static void a_later_save_meets_a_full_disk(void **state)
{
	(void)state;
	NEEDS_TRACE();
	fail_everywhere(1, 2, 2, ENOSPC);
}

static void replacing_the_latest_fails(void **state)
{
	(void)state;
	NEEDS_TRACE();
	fail_everywhere(1, 1, 2, EIO);
}

#else

static void only_on_x86_64(void **state)
{
	(void)state;
	print_message("replacing system calls is written for x86-64 only\n");
	skip();
}

#endif

/* ---- killed at random moments ---- */

static void killed_at_any_moment(void **state)
{
	(void)state;
	u64 seed = 20;
	assert_null(io_remove_folder(run));
	assert_null(save(1, 2));
	u64 last = 1;
	for (u32 i = 0; i < 20; i++) {
		int ready[2];
		assert_int_equal(pipe(ready), 0);
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			if (write(ready[1], "x", 1) != 1)
				_exit(1);
			for (u64 step = last + 1;; step++)
				if (save(step, 2))
					_exit(1);
		}
		char byte;
		assert_int_equal(read(ready[0], &byte, 1), 1);
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		usleep((useconds_t)(seed >> 40) % 30000);
		kill(child, SIGKILL);
		int status;
		waitpid(child, &status, 0);
		assert_true(WIFSIGNALED(status)); /* the save itself never failed */
		close(ready[0]);
		close(ready[1]);
		u64 step = load(run);
		assert_true(step >= last);
		last = step;
		bool temporaries;
		assert_true(load_all(&temporaries) >= 1);
	}
	assert_true(last > 20);
	assert_null(save(last + 1, 2));
	bool temporaries;
	assert_int_equal(load_all(&temporaries), 2);
	assert_false(temporaries);
}

/* Whoever reads the latest checkpoint of a run that goes on, and keeps one only, reads a whole one. */
static void read_while_it_goes_on(void **state)
{
	(void)state;
	assert_null(io_remove_folder(run));
	assert_null(save(1, 1));
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0)
		for (u64 step = 2;; step++)
			if (save(step, 1) || (step % 3 == 0 && save(step, 1)))
				_exit(1);
	u64 last = 0;
	for (u32 i = 0; i < 300 || last < 50; i++) {
		u64 step = load(run);
		assert_true(step >= last);
		last = step;
	}
	kill(child, SIGKILL);
	int status;
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status));
}

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "%s/plinth-faults-XXXXXX",
		 io_exists("/dev/shm") ? "/dev/shm" : "/tmp");
	if (!mkdtemp(folder))
		return -1;
	snprintf(run, sizeof run, "%s/run", folder);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return io_remove_folder(folder) ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#if defined __x86_64__
		cmocka_unit_test(everything_is_synced_in_order),
		cmocka_unit_test(the_first_save_fails),
		cmocka_unit_test(a_later_save_fails),
		cmocka_unit_test(a_later_save_meets_a_full_disk),
		cmocka_unit_test(replacing_the_latest_fails),
#else
		cmocka_unit_test(only_on_x86_64),
#endif
		cmocka_unit_test(killed_at_any_moment),
		cmocka_unit_test(read_while_it_goes_on),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
