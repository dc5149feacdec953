/* runtime/comm/mpi.c: MPI as a transport, loaded when a run has several ranks (dlopen; Open MPI's binary interface, in
 * which handles are addresses of data symbols). Collectives are begun without blocking, so that whoever waits can look
 * whether the others are alive. Only bytes are moved: MPI never adds. */
#include "runtime/comm/comm.h"
#include "support/library.h"

#include <stdlib.h>
#include <string.h>

enum { MPI_SERIALIZED = 2 }; /* any thread may call, one at a time */

/* Every function and object that is used, by name. */
#define MPI_FUNCTIONS(X)                                                                                              \
	X(int, Init_thread, (int *, char ***, int, int *))                                                            \
	X(int, Comm_rank, (void *, int *))                                                                            \
	X(int, Comm_size, (void *, int *))                                                                            \
	X(int, Comm_split, (void *, int, int, void **))                                                               \
	X(int, Comm_set_errhandler, (void *, void *))                                                                 \
	X(int, Ialltoallv, (const void *, const int *, const int *, void *, void *, const int *, const int *, void *, \
			    void *, void **))                                                                         \
	X(int, Iallgather, (const void *, int, void *, void *, int, void *, void *, void **))                         \
	X(int, Isend, (const void *, int, void *, int, int, void *, void **))                                         \
	X(int, Irecv, (void *, int, void *, int, int, void *, void **))                                               \
	X(int, Test, (void **, int *, void *))                                                                        \
	X(int, Error_string, (int, char *, int *))                                                                    \
	X(int, Abort, (void *, int))                                                                                  \
	X(int, Finalize, (void))

typedef struct Mpi {
	void *world, *byte, *errors_return;
	void *request;
#define X(result, name, arguments) result(*name) arguments;
	MPI_FUNCTIONS(X)
#undef X
} Mpi;

static Status load(Mpi *m)
{
	static const char *const names[] = { "libmpi.so.40", "libmpi.so", NULL };
	Library l;
	Status s = library_open("PLINTH_MPI", names, RTLD_GLOBAL, &l);
	if (s)
		return FAIL(STATUS_UNSUPPORTED, "several ranks speak by MPI, and Open MPI cannot be loaded (%s): on Debian, "
						"apt-get install openmpi-bin; PLINTH_MPI names another file", s->text);
	bool all = library_find(&l, "ompi_mpi_comm_world", &m->world) && library_find(&l, "ompi_mpi_byte", &m->byte) &&
		   library_find(&l, "ompi_mpi_errors_return", &m->errors_return);
#define X(result, name, arguments) all &= library_find(&l, "MPI_" #name, &m->name);
	MPI_FUNCTIONS(X)
#undef X
	if (!all)
		return FAIL(STATUS_UNSUPPORTED, "%s is not Open MPI, whose binary interface is known here: another MPI cannot be used",
			    l.path);
	return OK;
}

static Status checked(const Mpi *m, int code, const char *what)
{
	char text[512] = "";
	int n = 0;
	if (code == 0)
		return OK;
	m->Error_string(code, text, &n);
	return FAIL(STATUS_IO, "MPI: %s: %s", what, text);
}

static Status mpi_open(void **state, u32 *rank, u32 *ranks)
{
	Mpi *m = calloc(1, sizeof *m);
	int provided, r = 0, n = 0;
	if (!m)
		return FAIL(STATUS_MEMORY, "no memory for MPI");
	Status s = load(m);
	if (!s)
		s = checked(m, m->Init_thread(NULL, NULL, MPI_SERIALIZED, &provided), "MPI_Init_thread");
	if (!s && provided < MPI_SERIALIZED)
		s = FAIL(STATUS_UNSUPPORTED, "this MPI is for one thread alone, and messages have their own: an Open MPI with MPI_THREAD_SERIALIZED "
					     "(any since 3.0)");
	if (!s)
		s = checked(m, m->Comm_set_errhandler(m->world, m->errors_return), "MPI_Comm_set_errhandler");
	if (!s)
		s = checked(m, m->Comm_rank(m->world, &r), "MPI_Comm_rank");
	if (!s)
		s = checked(m, m->Comm_size(m->world, &n), "MPI_Comm_size");
	if (s) {
		free(m);
		return s;
	}
	*rank = (u32)r;
	*ranks = (u32)n;
	*state = m;
	return OK;
}

static void mpi_close(void *state)
{
	Mpi *m = state;
	m->Finalize();
	free(m);
}

static void mpi_abort(void *state, int status)
{
	Mpi *m = state;
	m->Abort(m->world, status);
}

static Status mpi_group(void *state, u32 color, u32 key, void **group)
{
	Mpi *m = state;
	TRY(checked(m, m->Comm_split(m->world, (int)color, (int)key, group), "MPI_Comm_split"));
	return checked(m, m->Comm_set_errhandler(*group, m->errors_return), "MPI_Comm_set_errhandler");
}

static Status mpi_all_to_all(void *state, void *group, const void *send, const int *send_bytes, const int *send_at, void *receive,
			     const int *receive_bytes, const int *receive_at)
{
	Mpi *m = state;
	return checked(m, m->Ialltoallv(send, send_bytes, send_at, m->byte, receive, receive_bytes, receive_at, m->byte,
					group ? group : m->world, &m->request), "MPI_Ialltoallv");
}

static Status mpi_all_gather(void *state, void *group, const void *send, int bytes, void *receive)
{
	Mpi *m = state;
	return checked(m, m->Iallgather(send, bytes, m->byte, receive, bytes, m->byte, group ? group : m->world, &m->request),
		       "MPI_Iallgather");
}

static Status mpi_test(void *state, bool *done)
{
	Mpi *m = state;
	int flag = 0;
	TRY(checked(m, m->Test(&m->request, &flag, NULL), "MPI_Test")); /* NULL: MPI_STATUS_IGNORE of Open MPI */
	*done = flag;
	return OK;
}

static Status mpi_send(void *state, void *group, u32 to, u32 tag, const void *bytes, int n, void **message)
{
	Mpi *m = state;
	return checked(m, m->Isend(bytes, n, m->byte, (int)to, (int)tag, group, message), "MPI_Isend");
}

static Status mpi_receive(void *state, void *group, u32 from, u32 tag, void *bytes, int n, void **message)
{
	Mpi *m = state;
	return checked(m, m->Irecv(bytes, n, m->byte, (int)from, (int)tag, group, message), "MPI_Irecv");
}

static Status mpi_test_message(void *state, void **message, bool *done)
{
	Mpi *m = state;
	int flag = 0;
	TRY(checked(m, m->Test(message, &flag, NULL), "MPI_Test"));
	*done = flag;
	return OK;
}

const Transport transport_mpi = {
	.name = "MPI",
	.open = mpi_open,
	.close = mpi_close,
	.abort = mpi_abort,
	.group = mpi_group,
	.all_to_all = mpi_all_to_all,
	.all_gather = mpi_all_gather,
	.test = mpi_test,
	.send = mpi_send,
	.receive = mpi_receive,
	.test_message = mpi_test_message,
};
