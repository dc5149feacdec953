/* Units of runtime/signals.h, in children, as one of them is meant to die. */
#include "runtime/signals.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* Runs `body` in a child; gives its wait status. */
static int in_child(void (*body)(void))
{
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (signals_install())
			_exit(100);
		body();
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void once(void)
{
	if (signals_requested() != 0)
		_exit(1);
	raise(SIGINT);
	_exit(signals_requested() == SIGINT ? 42 : 2);
}

static void terminations(void)
{
	raise(SIGTERM);
	raise(SIGTERM);
	raise(SIGTERM);
	_exit(signals_requested() == SIGTERM ? 42 : 3);
}

static void twice(void)
{
	raise(SIGINT);
	raise(SIGINT);
}

static void interrupt_after_termination(void)
{
	raise(SIGTERM);
	raise(SIGINT);
}

static void hang_up(void)
{
	raise(SIGHUP);
	_exit(signals_requested() == SIGHUP ? 42 : 6);
}

static void without_readers(void)
{
	int ends[2];
	if (signals_outlive_readers() || pipe(ends) != 0 || close(ends[0]) != 0)
		_exit(7);
	_exit(write(ends[1], "x", 1) == -1 && errno == EPIPE ? 42 : 8);
}

static void one_sets_the_flag(void **state)
{
	(void)state;
	int status = in_child(once);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	status = in_child(terminations);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	assert_string_equal(signals_name(SIGTERM), "SIGTERM");
}

/* A terminal that closes asks to stop, too, unless nohup said that it does not matter. */
static void terminals_and_readers_go(void **state)
{
	(void)state;
	int status = in_child(hang_up);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	assert_string_equal(signals_name(SIGHUP), "SIGHUP");
	void (*was)(int) = signal(SIGHUP, SIG_IGN);
	status = in_child(hang_up);
	signal(SIGHUP, was);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 6);
	status = in_child(without_readers);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

static void a_second_interrupt_ends_it(void **state)
{
	(void)state;
	int status = in_child(twice);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGINT);
	status = in_child(interrupt_after_termination);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGINT);
}

/* A save in progress is not disturbed: a read that a signal interrupts goes on. */
static void slow_read(void)
{
	int ends[2];
	char byte = 0;
	if (pipe(ends) != 0)
		_exit(4);
	pid_t parent = getpid(), helper = fork();
	if (helper == 0) {
		usleep(20000);
		kill(parent, SIGTERM);
		usleep(20000);
		_exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
	}
	ssize_t n = read(ends[0], &byte, 1);
	_exit(n == 1 && byte == 'x' && signals_requested() == SIGTERM ? 42 : 5);
}

static void system_calls_go_on(void **state)
{
	(void)state;
	int status = in_child(slow_read);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_sets_the_flag),
		cmocka_unit_test(terminals_and_readers_go),
		cmocka_unit_test(a_second_interrupt_ends_it),
		cmocka_unit_test(system_calls_go_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
