/* nccl.c: a stand-in for libnccl.so.2 beside the stand-in driver: the part of its interface that Plinth uses, with the values of
 * nccl.h, for processes of one machine. Ranks meet at the address in their id, by TCP, and each is connected with each. A
 * collective is one piece of work of the stream, in which all exchange their operands and each computes for itself, in order
 * of ranks. Every piece begins with what it is, so that ranks which call different things, or different sizes, are told. A
 * connection that ends is an error of the communicator and of the stream, where NCCL would wait for ever. */
#include "cuda_abi.h"
#include "formats.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6 };
enum { RANKS = 64, LISTENERS = 64 };

typedef struct Comm {
	int n, rank, error;
	int fd[RANKS]; /* of each other rank */
	u64 sequence;
} Comm;

typedef struct Id {
	char text[128]; /* host:port */
} Id;

/* ---- meeting ---- */

static struct {
	int port, fd;
} listener[LISTENERS];
static u32 nlistener;

static int listen_at(int port, int *bound)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((u16)port), .sin_addr.s_addr = htonl(INADDR_ANY) };
	socklen_t size = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (fd < 0 || bind(fd, (void *)&a, sizeof a) || listen(fd, RANKS) || getsockname(fd, (void *)&a, &size))
		return -1;
	*bound = ntohs(a.sin_port);
	return fd;
}

static int connect_once(const char *host, const char *port)
{
	struct addrinfo hint = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found = NULL;
	if (getaddrinfo(host, port, &hint, &found))
		return -1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen)) {
		close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd;
}

/* Rank 0 may come later. */
static int connect_to(const char *address)
{
	enum { TRIES = 600 };
	char host[128];
	snprintf(host, sizeof host, "%s", address);
	char *colon = strrchr(host, ':');
	if (!colon)
		return -1;
	*colon = 0;
	int fd = -1;
	for (u32 i = 0; i < TRIES && fd < 0; i++) {
		fd = connect_once(host, colon + 1);
		if (fd < 0)
			nanosleep(&(struct timespec){ 0, 100000000 }, NULL);
	}
	return fd;
}

static bool whole(int fd, void *p, size_t n, bool out)
{
	for (u8 *at = p; n;) {
		ssize_t k = out ? send(fd, at, n, MSG_NOSIGNAL) : recv(fd, at, n, 0);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		at += k;
		n -= (size_t)k;
	}
	return true;
}

typedef struct Hello {
	int rank, port;
} Hello;

static bool accept_one(Comm *c, int at, int *port)
{
	Hello h;
	int fd = accept4(at, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || !whole(fd, &h, sizeof h, false) || h.rank < 0 || h.rank >= c->n || c->fd[h.rank] >= 0)
		return false;
	c->fd[h.rank] = fd;
	*port = h.port;
	return true;
}

static bool meet(Comm *c, const char *address)
{
	int port[RANKS] = { 0 }, own, mine, unused;
	if (c->rank == 0) {
		int wanted = atoi(strrchr(address, ':') + 1), at = -1;
		for (u32 i = 0; i < nlistener; i++)
			at = listener[i].port == wanted ? listener[i].fd : at;
		if (at < 0)
			at = listen_at(wanted, &unused);
		if (at < 0)
			return false;
		for (int r = 1; r < c->n; r++) {
			int its;
			if (!accept_one(c, at, &its))
				return false;
			for (int k = 1; k < c->n; k++)
				if (c->fd[k] >= 0 && !port[k])
					port[k] = its;
		}
		close(at);
		for (u32 i = 0; i < nlistener; i++)
			if (listener[i].port == wanted)
				listener[i] = listener[--nlistener];
		for (int r = 1; r < c->n; r++)
			if (!whole(c->fd[r], port, sizeof port, true))
				return false;
		return true;
	}
	own = listen_at(0, &mine);
	c->fd[0] = connect_to(address);
	Hello hello = { c->rank, mine };
	if (own < 0 || c->fd[0] < 0 || !whole(c->fd[0], &hello, sizeof hello, true) || !whole(c->fd[0], port, sizeof port, false))
		return false;
	for (int r = 1; r < c->rank; r++) {
		char text[40];
		snprintf(text, sizeof text, "127.0.0.1:%d", port[r]);
		c->fd[r] = connect_to(text);
		if (c->fd[r] < 0 || !whole(c->fd[r], &hello, sizeof hello, true))
			return false;
	}
	for (int r = c->rank + 1; r < c->n; r++)
		if (!accept_one(c, own, &unused))
			return false;
	close(own);
	return true;
}

API int ncclGetVersion(int *out);
int ncclGetVersion(int *out)
{
	*out = 22809;
	return SUCCESS;
}

API const char *ncclGetErrorString(int code);
const char *ncclGetErrorString(int code)
{
	static const char *const text[] = { "no error", "unhandled cuda error", "unhandled system error", "internal error", "invalid argument",
					    "invalid usage", "remote process exited or there was a network error", "in progress" };
	return code >= 0 && code < (int)COUNT(text) ? text[code] : "unknown";
}

API int ncclGetUniqueId(Id *id);
int ncclGetUniqueId(Id *id)
{
	const char *given = getenv("NCCL_COMM_ID");
	memset(id, 0, sizeof *id);
	if (given) {
		if (!strrchr(given, ':') || strlen(given) >= sizeof id->text)
			return INVALID_ARGUMENT;
		snprintf(id->text, sizeof id->text, "%s", given);
		return SUCCESS;
	}
	int port, fd = nlistener < LISTENERS ? listen_at(0, &port) : -1;
	if (fd < 0)
		return SYSTEM_ERROR;
	listener[nlistener].port = port;
	listener[nlistener++].fd = fd;
	snprintf(id->text, sizeof id->text, "127.0.0.1:%d", port);
	return SUCCESS;
}

static void hang_up(Comm *c)
{
	for (int r = 0; r < c->n; r++)
		if (c->fd[r] >= 0)
			close(c->fd[r]);
	free(c);
}

API int ncclCommInitRank(Comm **out, int n, Id id, int rank);
int ncclCommInitRank(Comm **out, int n, Id id, int rank)
{
	if (n < 1 || n > RANKS || rank < 0 || rank >= n || !strrchr(id.text, ':'))
		return INVALID_ARGUMENT;
	Comm *c = calloc(1, sizeof *c);
	if (!c)
		return SYSTEM_ERROR;
	c->n = n;
	c->rank = rank;
	memset(c->fd, 0xff, sizeof c->fd);
	if (n > 1 && !meet(c, id.text)) {
		hang_up(c);
		return SYSTEM_ERROR;
	}
	for (int r = 0; r < n; r++)
		if (c->fd[r] >= 0) {
			int yes = 1;
			setsockopt(c->fd[r], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
			fcntl(c->fd[r], F_SETFL, O_NONBLOCK);
		}
	*out = c;
	return SUCCESS;
}

API int ncclCommDestroy(Comm *c);
int ncclCommDestroy(Comm *c)
{
	hang_up(c);
	return SUCCESS;
}

API int ncclCommAbort(Comm *c);
int ncclCommAbort(Comm *c)
{
	hang_up(c);
	return SUCCESS;
}

API int ncclCommGetAsyncError(Comm *c, int *out);
int ncclCommGetAsyncError(Comm *c, int *out)
{
	*out = c->error;
	return SUCCESS;
}

/* ---- exchanging ---- */

typedef struct Piece {
	u8 *p;
	u64 n;
} Piece;

/* One connection as far as it can go; false where it ended. */
static bool go_on(int fd, Piece *x, bool out)
{
	while (x->n) {
		ssize_t k = out ? send(fd, x->p, x->n, MSG_NOSIGNAL) : recv(fd, x->p, x->n, 0);
		if (k < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (k <= 0)
			return false;
		x->p += k;
		x->n -= (u64)k;
	}
	return true;
}

/* out[r] to rank r, and in[r] from it; all at once. */
static bool exchange(Comm *c, Piece *out, Piece *in)
{
	for (;;) {
		struct pollfd p[RANKS] = { 0 };
		bool left = false;
		for (int r = 0; r < c->n; r++) {
			p[r].fd = -1;
			if (r == c->rank)
				continue;
			if (!go_on(c->fd[r], &out[r], true) || !go_on(c->fd[r], &in[r], false))
				return false;
			if (!out[r].n && !in[r].n)
				continue;
			p[r] = (struct pollfd){ .fd = c->fd[r], .events = (short)((out[r].n ? POLLOUT : 0) | (in[r].n ? POLLIN : 0)) };
			left = true;
		}
		if (!left)
			return true;
		poll(p, (nfds_t)c->n, 1000);
	}
}

/* ---- calls ---- */

typedef enum Kind { ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, SEND, RECEIVE } Kind;
static const char *const kind_name[] = { "ncclAllReduce", "ncclAllGather", "ncclReduceScatter", "ncclSend", "ncclRecv" };

typedef struct Call {
	Kind kind;
	u64 from, to, count;
	int dtype, op, peer;
	Comm *comm;
	CUstream stream;
} Call;

typedef struct Work {
	u32 n;
	Call call[];
} Work;

/* What ranks tell one another first. */
typedef struct Head {
	u64 kind, count, dtype, op, sequence;
} Head;

static u64 dtype_bytes(int dtype)
{
	static const u8 bytes[] = { 1, 1, 4, 4, 8, 8, 2, 4, 8, 2 };
	return bytes[dtype];
}

static CUresult lost(Comm *c, Kind kind)
{
	char text[200];
	c->error = REMOTE_ERROR;
	snprintf(text, sizeof text, "%s of rank %d of %d: another rank hung up", kind_name[kind], c->rank, c->n);
	return standinReport(CUDA_ERROR_LAUNCH_FAILED, text);
}

static u8 *device(u64 address, u64 bytes, Kind kind, CUresult *failed)
{
	u8 *p = bytes ? standinHostPointer(address, bytes) : NULL;
	char text[200];
	if (p || !bytes)
		return p;
	snprintf(text, sizeof text, "%s: %llu bytes at 0x%llx are not all in one allocation", kind_name[kind], (unsigned long long)bytes,
		 (unsigned long long)address);
	*failed = standinReport(CUDA_ERROR_ILLEGAL_ADDRESS, text);
	return NULL;
}

#define COMBINE(T)                                                                                    \
	do {                                                                                          \
		T a, b;                                                                               \
		memcpy(&a, to + i * sizeof a, sizeof a);                                              \
		memcpy(&b, from + i * sizeof b, sizeof b);                                            \
		a = op == 0 ? (T)(a + b) : op == 2 ? (a > b ? a : b) : (a < b ? a : b);               \
		memcpy(to + i * sizeof a, &a, sizeof a);                                              \
	} while (0)

static void combine_narrow(u8 *to, const u8 *from, const Format *format, int op)
{
	u16 x, y;
	memcpy(&x, to, sizeof x);
	memcpy(&y, from, sizeof y);
	f64 a = format_decode(format, x), b = format_decode(format, y);
	x = (u16)format_encode(format, op == 0 ? a + b : op == 2 ? MAX(a, b) : MIN(a, b), ROUND_NEAREST, false);
	memcpy(to, &x, sizeof x);
}

/* Element i: to = to (+) from. */
static void combine(u8 *to, const u8 *from, u64 i, int dtype, int op)
{
	switch (dtype) {
	case 0: COMBINE(i8); break;
	case 1: COMBINE(u8); break;
	case 2: COMBINE(i32); break;
	case 3: COMBINE(u32); break;
	case 4: COMBINE(i64); break;
	case 6: combine_narrow(to + i * 2, from + i * 2, &format_f16, op); break;
	case 7: COMBINE(f32); break;
	case 8: COMBINE(f64); break;
	case 9: combine_narrow(to + i * 2, from + i * 2, &format_bf16, op); break;
	default: NEVER("a type that cannot be added");
	}
}

/* Do all ranks call the same? */
static CUresult agree(const Call *x)
{
	Comm *c = x->comm;
	Head mine = { x->kind, x->count, (u64)x->dtype, (u64)x->op, c->sequence++ }, its[RANKS];
	Piece out[RANKS], in[RANKS];
	for (int r = 0; r < c->n; r++) {
		out[r] = (Piece){ (u8 *)&mine, sizeof mine };
		in[r] = (Piece){ (u8 *)&its[r], sizeof its[r] };
	}
	if (!exchange(c, out, in))
		return lost(c, x->kind);
	for (int r = 0; r < c->n; r++)
		if (r != c->rank && memcmp(&mine, &its[r], sizeof mine) != 0) {
			char text[300];
			snprintf(text, sizeof text, "call %llu of rank %d is %s of %llu elements, that of rank %d is %s of %llu",
				 (unsigned long long)mine.sequence, c->rank, kind_name[x->kind], (unsigned long long)x->count, r,
				 its[r].kind < COUNT(kind_name) ? kind_name[its[r].kind] : "?", (unsigned long long)its[r].count);
			return standinReport(CUDA_ERROR_LAUNCH_FAILED, text);
		}
	return CUDA_SUCCESS;
}

static CUresult collective(const Call *x)
{
	Comm *c = x->comm;
	u64 n = (u64)c->n, size = dtype_bytes(x->dtype), bytes = x->count * size, me = (u64)c->rank;
	CUresult failed = agree(x);
	if (failed)
		return failed;
	u8 *from = device(x->from, x->kind == REDUCE_SCATTER ? bytes * n : bytes, x->kind, &failed);
	u8 *to = device(x->to, x->kind == ALL_GATHER ? bytes * n : bytes, x->kind, &failed);
	u8 *all = malloc(bytes * n + 1);
	if (failed || !all) {
		free(all);
		return failed ? failed : CUDA_ERROR_OUT_OF_MEMORY;
	}
	Piece out[RANKS], in[RANKS];
	for (u64 r = 0; r < n; r++) {
		out[r] = (Piece){ x->kind == REDUCE_SCATTER ? from + r * bytes : from, bytes };
		in[r] = (Piece){ all + r * bytes, bytes };
	}
	if (bytes)
		memcpy(all + me * bytes, out[me].p, bytes);
	if (!exchange(c, out, in))
		failed = lost(c, x->kind);
	for (u64 r = 1; !failed && x->kind != ALL_GATHER && r < n; r++)
		for (u64 i = 0; i < x->count; i++)
			combine(all, all + r * bytes, i, x->dtype, x->op);
	if (!failed && bytes)
		memcpy(to, all, x->kind == ALL_GATHER ? bytes * n : bytes);
	free(all);
	return failed;
}

/* All sends and receives of a group, in order for each pair of ranks; a message says its size first. */
static CUresult messages(const Call *call, u32 n)
{
	Comm *c = call->comm;
	CUresult failed = CUDA_SUCCESS;
	Piece out[RANKS] = { 0 }, in[RANKS] = { 0 };
	u8 *buffer[2][RANKS] = { { 0 } };
	for (u32 pass = 0; pass < 2; pass++) { /* sizes, then places */
		for (int r = 0; pass && r < c->n; r++) {
			out[r].p = buffer[0][r] = malloc(out[r].n + 1);
			in[r].p = buffer[1][r] = malloc(in[r].n + 1);
			if (!out[r].p || !in[r].p)
				NEVER("out of host memory");
			out[r].n = in[r].n = 0;
		}
		for (u32 i = 0; i < n; i++) {
			const Call *x = &call[i];
			u64 bytes = x->count * dtype_bytes(x->dtype);
			Piece *to = x->kind == SEND ? &out[x->peer] : &in[x->peer];
			if (pass && x->kind == SEND) {
				const u8 *from = device(x->from, bytes, SEND, &failed);
				memcpy(to->p + to->n, &bytes, sizeof bytes);
				if (from)
					memcpy(to->p + to->n + sizeof bytes, from, bytes);
			}
			to->n += sizeof bytes + bytes;
		}
	}
	if (out[c->rank].n != in[c->rank].n)
		failed = standinReport(CUDA_ERROR_LAUNCH_FAILED, "ncclSend and ncclRecv of a rank to itself differ in size");
	else if (out[c->rank].n)
		memcpy(in[c->rank].p, out[c->rank].p, out[c->rank].n);
	if (!failed && !exchange(c, out, in))
		failed = lost(c, call->kind);
	u64 at[RANKS] = { 0 };
	for (u32 i = 0; i < n && !failed; i++) {
		const Call *x = &call[i];
		u64 bytes = x->count * dtype_bytes(x->dtype), said;
		if (x->kind == SEND)
			continue;
		u8 *to = device(x->to, bytes, RECEIVE, &failed);
		memcpy(&said, buffer[1][x->peer] + at[x->peer], sizeof said);
		if (said != bytes)
			failed = standinReport(CUDA_ERROR_LAUNCH_FAILED, "ncclRecv: what was sent has another size");
		else if (to)
			memcpy(to, buffer[1][x->peer] + at[x->peer] + sizeof said, bytes);
		at[x->peer] += sizeof said + bytes;
	}
	for (int r = 0; r < c->n; r++) {
		free(buffer[0][r]);
		free(buffer[1][r]);
	}
	return failed;
}

/* Does it only send? */
static bool posts(const Work *w)
{
	bool all = true;
	for (u32 i = 0; i < w->n; i++)
		all &= w->call[i].kind == SEND;
	return all;
}

static CUresult run(void *data)
{
	const Work *w = data;
	if (!posts(w))
		standinPost();
	return w->call[0].kind >= SEND ? messages(w->call, w->n) : collective(w->call);
}

/* ---- groups ---- */

static _Thread_local Call pending[4096];
static _Thread_local u32 npending, depth;

static int enqueue(const Call *call, u32 n)
{
	Work *w = malloc(sizeof *w + n * sizeof *call);
	if (!w)
		return SYSTEM_ERROR;
	w->n = n;
	memcpy(w->call, call, n * sizeof *call);
	CUresult failed = posts(w) ? standinEnqueuePost(call->stream, run, w, free) : standinEnqueue(call->stream, run, w, free);
	return failed ? SYSTEM_ERROR : SUCCESS;
}

/* Collectives one by one; then what is sent and received, together. */
static int flush(void)
{
	Call *message = malloc((npending + 1) * sizeof *message);
	u32 n = 0;
	int failed = message ? SUCCESS : SYSTEM_ERROR;
	for (u32 i = 0; i < npending && !failed; i++) {
		if (pending[i].kind < SEND)
			failed = enqueue(&pending[i], 1);
		else if (n && (pending[i].comm != message->comm || pending[i].stream != message->stream))
			failed = INVALID_USAGE; /* the stand-in's limit */
		else
			message[n++] = pending[i];
	}
	npending = 0;
	if (!failed && n)
		failed = enqueue(message, n);
	free(message);
	return failed;
}

API int ncclGroupStart(void);
int ncclGroupStart(void)
{
	depth++;
	return SUCCESS;
}

API int ncclGroupEnd(void);
int ncclGroupEnd(void)
{
	if (!depth)
		return INVALID_USAGE;
	return --depth ? SUCCESS : flush();
}

static int call(Call x)
{
	if (!x.comm || x.dtype < 0 || x.dtype > 9 || (x.kind >= SEND && (x.peer < 0 || x.peer >= x.comm->n)))
		return INVALID_ARGUMENT;
	if (npending == COUNT(pending))
		return INVALID_USAGE;
	pending[npending++] = x;
	return depth ? SUCCESS : flush();
}

API int ncclAllReduce(u64 from, u64 to, size_t n, int dtype, int op, Comm *c, CUstream s);
int ncclAllReduce(u64 from, u64 to, size_t n, int dtype, int op, Comm *c, CUstream s)
{
	return call((Call){ ALL_REDUCE, from, to, n, dtype, op, 0, c, s });
}

API int ncclAllGather(u64 from, u64 to, size_t n, int dtype, Comm *c, CUstream s);
int ncclAllGather(u64 from, u64 to, size_t n, int dtype, Comm *c, CUstream s)
{
	return call((Call){ ALL_GATHER, from, to, n, dtype, 0, 0, c, s });
}

API int ncclReduceScatter(u64 from, u64 to, size_t n, int dtype, int op, Comm *c, CUstream s);
int ncclReduceScatter(u64 from, u64 to, size_t n, int dtype, int op, Comm *c, CUstream s)
{
	return call((Call){ REDUCE_SCATTER, from, to, n, dtype, op, 0, c, s });
}

API int ncclSend(u64 from, size_t n, int dtype, int peer, Comm *c, CUstream s);
int ncclSend(u64 from, size_t n, int dtype, int peer, Comm *c, CUstream s)
{
	return call((Call){ SEND, from, 0, n, dtype, 0, peer, c, s });
}

API int ncclRecv(u64 to, size_t n, int dtype, int peer, Comm *c, CUstream s);
int ncclRecv(u64 to, size_t n, int dtype, int peer, Comm *c, CUstream s)
{
	return call((Call){ RECEIVE, 0, to, n, dtype, 0, peer, c, s });
}
