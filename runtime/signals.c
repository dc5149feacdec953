/* runtime/signals.c: see signals.h. The handler uses what POSIX allows in one: a lock-free atomic,
 * signal and raise. */
#include "runtime/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int requested;
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "the handler needs a lock-free int");

static void on_signal(int number)
{
	int error = errno, none = 0;
	if (!atomic_compare_exchange_strong(&requested, &none, number) && number == SIGINT) {
		signal(SIGINT, SIG_DFL);
		raise(SIGINT); /* delivered when the handler returns */
	}
	errno = error;
}

Status signals_install(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, was;
	sigemptyset(&action.sa_mask);
	atomic_store(&requested, 0);
	bool hangs_up = sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN; /* nohup: it is not to */
	if (sigaction(SIGINT, &action, NULL) != 0 || sigaction(SIGTERM, &action, NULL) != 0 ||
	    (hangs_up && sigaction(SIGHUP, &action, NULL) != 0))
		return FAIL(STATUS_UNSUPPORTED, "cannot handle SIGINT, SIGTERM and SIGHUP: %s", strerror(errno));
	return OK;
}

Status signals_outlive_readers(void)
{
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return FAIL(STATUS_UNSUPPORTED, "cannot ignore SIGPIPE: %s", strerror(errno));
	return OK;
}

int signals_requested(void)
{
	return atomic_load_explicit(&requested, memory_order_relaxed);
}

const char *signals_name(int number)
{
	return number == SIGINT ? "SIGINT" : number == SIGTERM ? "SIGTERM" : number == SIGHUP ? "SIGHUP" : "a signal";
}
