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
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	sigemptyset(&action.sa_mask);
	atomic_store(&requested, 0);
	if (sigaction(SIGINT, &action, NULL) != 0 || sigaction(SIGTERM, &action, NULL) != 0)
		return FAIL(STATUS_UNSUPPORTED, "cannot handle SIGINT and SIGTERM: %s", strerror(errno));
	return OK;
}

int signals_requested(void)
{
	return atomic_load_explicit(&requested, memory_order_relaxed);
}

const char *signals_name(int number)
{
	return number == SIGINT ? "SIGINT" : number == SIGTERM ? "SIGTERM" : "a signal";
}
