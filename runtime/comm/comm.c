/* runtime/comm/comm.c: see comm.h. */
#include "runtime/comm/state.h"
#include "runtime/comm/share.h"
#include "support/clock.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

u32 comm_launched(void)
{
	static const char *const name[] = { "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "PMI_SIZE" };
	for (u32 i = 0; i < COUNT(name); i++)
		if (getenv(name[i]))
			return (u32)strtoul(getenv(name[i]), NULL, 10);
	return 0;
}

/* ---- waiting ---- */

static void pause_for(f64 seconds)
{
	nanosleep(&(struct timespec){ 0, (long)(seconds * 1e9) }, NULL);
}

/* One that has ended and that its parent has not asked for yet is gone too, and kill(2) would still find it. */
static bool is_gone(i64 process)
{
	int watch = (int)syscall(SYS_pidfd_open, (pid_t)process, 0);
	if (watch < 0) /* before Linux 5.3, and where it is forbidden */
		return kill((pid_t)process, 0) != 0 && errno == ESRCH;
	struct pollfd ended = { .fd = watch, .events = POLLIN };
	bool gone = poll(&ended, 1, 0) > 0;
	close(watch);
	return gone;
}

/* A rank on this host whose process is gone, or NONE. */
static u32 dead_rank(const Comm *c)
{
	for (u32 r = 0; c->peer && r < c->ranks; r++)
		if (r != c->rank && !strcmp(c->peer[r].host, c->peer[c->rank].host) && is_gone(c->peer[r].process))
			return r;
	return UINT32_MAX;
}

Status comm_alive(Comm *c, const char *what, f64 seconds)
{
	u32 dead = dead_rank(c);
	if (dead == UINT32_MAX)
		return OK;
	char doing[300] = "";
	if (c->doing)
		c->doing(c->doing_cx, doing, sizeof doing);
	return FAIL(STATUS_IO, "rank %u (process %lld on %s) is gone; rank %u was in %s, for %.1f s%s%s", dead, (long long)c->peer[dead].process,
		    c->peer[dead].host, c->rank, what, seconds, *doing ? "; its GPU was in " : "", doing);
}

Status comm_failed(Comm *c, Status s, const char *what, f64 seconds)
{
	/* a dying process closes its connections before it is gone */
	for (f64 begun = clock_seconds(); s && clock_seconds() - begun < 1; pause_for(0.01))
		TRY(comm_alive(c, what, seconds));
	return s;
}

Status comm_said_failed(Comm *c, Status s, f64 seconds)
{
	return s ? comm_failed(c, status_context(s, "rank %u in %s", c->rank, c->what), c->what, seconds) : OK;
}

/* Spins a little, then sleeps, for ranks may be more than cores. */
Status comm_wait_message(Comm *c, void **message)
{
	f64 begun = clock_seconds(), looked = begun;
	for (u32 tries = 0;; tries++) {
		bool done = false;
		Status s = message ? c->transport->test_message(c->state, message, &done) : c->transport->test(c->state, &done);
		f64 now = clock_seconds();
		if (s)
			return comm_said_failed(c, s, now - begun);
		if (done)
			return OK;
		if (c->queue && queue_stops(c->queue))
			return FAIL(STATUS_IO, "rank %u was in %s, for %.1f s, when it was to end", c->rank, c->what, now - begun);
		if (now - looked > 0.1) {
			looked = now;
			TRY(comm_alive(c, c->what, now - begun));
		}
		if (tries < 64)
			sched_yield();
		else
			pause_for(now - begun < 0.01 ? 20e-6 : 200e-6);
	}
}

static Status wait_done(Comm *c)
{
	return comm_wait_message(c, NULL);
}

static void waiting_for(Comm *c, const char *what)
{
	snprintf(c->what, sizeof c->what, "%s", what);
}

void comm_step_text(const Comm *c, const PackageStep *step, char *to, size_t size)
{
	const char *over = c->mesh.axis[step->collective->mesh].name;
	if (step->line)
		snprintf(to, size, "%s over %s (%s:%u)", step->name, over, step->file, step->line);
	else
		snprintf(to, size, "%s over %s", step->name, over);
}

/* Does one take what another makes, or write what it reads? A buffer has one place in memory for as long as something of it is under way. */
static bool touches(const PackageStep *a, const PackageStep *b)
{
	for (u32 i = 0; i < a->nslot; i++)
		for (u32 k = 0; k < b->nslot; k++)
			if (a->slot[i] == b->slot[k])
				return true;
	return false;
}

/* Those of the queue come one behind the other, and those of an axis that is shared; otherwise what this one takes must be there. */
static Status wait_for_operands(Comm *c, const Flow *f)
{
	for (u32 i = c->begun; i-- != c->done;) {
		const Flow *was = &c->flow[i % COMM_ROOM];
		bool behind = was->share == f->share && (!f->share || was->step->collective->mesh == f->step->collective->mesh);
		if (!behind && touches(was->step, f->step))
			return comm_wait(c, c->begun - i - 1);
	}
	return OK;
}

Status comm_begin(Comm *c, Share *share, const PackageStep *step, u8 *memory)
{
	Flow f = { share && share_takes(share, step->collective) ? share : NULL, step };
	TRY(comm_wait(c, COMM_ROOM - 1));
	TRY(wait_for_operands(c, &f));
	if (!f.share && !c->queue)
		TRY(queue_open(collective_run, c, &c->queue));
	if (f.share)
		share_begin(f.share, step);
	else
		queue_begin(c->queue, step, memory);
	c->queued += !f.share;
	c->flow[c->begun++ % COMM_ROOM] = f;
	return OK;
}

Status comm_wait(Comm *c, u32 left)
{
	for (; c->begun - c->done > left; c->done++) {
		Share *share = c->flow[c->done % COMM_ROOM].share;
		TRY(share ? share_end(share) : queue_wait(c->queue, c->queued - 1));
		c->queued -= !share;
	}
	return OK;
}

void comm_forget(Comm *c, const Share *share)
{
	u32 kept = c->done;
	for (u32 i = c->done; i != c->begun; i++)
		if (c->flow[i % COMM_ROOM].share != share)
			c->flow[kept++ % COMM_ROOM] = c->flow[i % COMM_ROOM];
	c->begun = kept;
}

/* ---- joining and leaving ---- */

static Status meet(Comm *c)
{
	Peer me = { .process = (i64)getpid() };
	if (gethostname(me.host, sizeof me.host - 1) != 0)
		snprintf(me.host, sizeof me.host, "?");
	waiting_for(c, "the start");
	Peer *peer = calloc(c->ranks, sizeof *peer);
	Status s = messages_open(&c->messages, c->ranks);
	if (!peer || s) {
		free(peer);
		return FAIL(STATUS_MEMORY, "no memory for %u ranks", c->ranks);
	}
	s = c->transport->all_gather(c->state, NULL, &me, sizeof me, peer);
	if (!s)
		s = wait_done(c);
	c->peer = peer;
	TRY(s);
	for (u32 r = 0; r < c->ranks; r++)
		if (!strcmp(peer[r].host, me.host)) {
			c->local_rank += r < c->rank;
			c->local_ranks++;
		}
	return OK;
}

Status comm_open(const Transport *by, Comm **out)
{
	Comm *c = calloc(1, sizeof *c);
	if (!c)
		return FAIL(STATUS_MEMORY, "no memory");
	c->transport = by;
	Status s = c->transport->open(&c->state, &c->rank, &c->ranks);
	if (s) {
		free(c);
		return s;
	}
	*out = c;
	return meet(c);
}

static void drop(Comm *c)
{
	messages_close(&c->messages);
	free(c->peer);
	free(c);
}

void comm_close(Comm *c)
{
	if (!c)
		return;
	queue_close(c->queue);
	c->transport->close(c->state);
	drop(c);
}

void comm_abort(Comm *c, int status)
{
	/* a transport is for one thread at a time */
	queue_close(c->queue);
	c->queue = NULL;
	c->transport->abort(c->state, status);
}

void comm_order(Comm *c, void *stream, void (*doing)(void *cx, char *to, size_t size), void *cx)
{
	c->doing = doing;
	c->doing_cx = cx;
	if (c->transport->order)
		c->transport->order(c->state, stream);
}

u32 comm_rank(const Comm *c)
{
	return c ? c->rank : 0;
}

u32 comm_ranks(const Comm *c)
{
	return c ? c->ranks : 1;
}

u32 comm_local_rank(const Comm *c)
{
	return c->local_rank;
}

u32 comm_local_ranks(const Comm *c)
{
	return c->local_ranks;
}

bool comm_beside(const Comm *c, u32 rank)
{
	return !strcmp(c->peer[rank].host, c->peer[c->rank].host);
}

i64 comm_process(const Comm *c, u32 rank)
{
	return c->peer[rank].process;
}

u32 comm_coordinate(const Comm *c, u32 m)
{
	return c->at[m];
}

static u32 stride_of(const Comm *c, u32 m)
{
	u32 stride = 1;
	for (u32 k = m + 1; k < c->mesh.n; k++)
		stride *= c->mesh.axis[k].size;
	return stride;
}

u32 comm_rank_at(const Comm *c, u32 m, u32 coordinate)
{
	return c->rank + (coordinate - c->at[m]) * stride_of(c, m);
}

u32 comm_coordinate_of(const Comm *c, u32 rank, u32 m)
{
	return rank / stride_of(c, m) % c->mesh.axis[m].size;
}

Status comm_mesh(Comm *c, const PackageMesh *mesh)
{
	if (c->mesh.n)
		return OK;
	c->mesh = *mesh;
	u32 stride = 1;
	for (u32 m = mesh->n; m-- > 0;) {
		u32 n = mesh->axis[m].size;
		c->at[m] = c->rank / stride % n;
		/* ranks that agree in all else, by coordinate */
		if (c->transport->group)
			TRY(c->transport->group(c->state, c->rank - c->at[m] * stride, c->at[m], &c->group[m]));
		stride *= n;
	}
	if (stride != c->ranks)
		return FAIL(STATUS_INPUT, "the mesh has %u devices, and there are %u ranks", stride, c->ranks);
	return OK;
}

/* ---- around the run ---- */

Status comm_gather(Comm *c, const char *what, const void *mine, u32 bytes, void *all)
{
	TRY(comm_wait(c, 0));
	waiting_for(c, what);
	TRY(comm_said_failed(c, c->transport->all_gather(c->state, NULL, mine, (int)bytes, all), 0));
	return wait_done(c);
}

Status comm_first(Comm *c, u32 role, bool *first)
{
	*first = true;
	u32 *all = calloc(c->ranks, sizeof *all);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory");
	Status s = comm_gather(c, "telling who compiles", &role, sizeof role, all);
	for (u32 r = 0; r < c->rank; r++)
		*first &= all[r] != role || strcmp(c->peer[r].host, c->peer[c->rank].host);
	free(all);
	return s;
}

Status comm_barrier(Comm *c, const char *what)
{
	u8 mine = 0, *all = calloc(c->ranks, 1);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory");
	Status s = comm_gather(c, what, &mine, 1, all);
	free(all);
	return s;
}

Status comm_any(Comm *c, const char *what, bool mine, bool *any)
{
	*any = mine;
	if (!c)
		return OK;
	u8 one = mine, *all = calloc(c->ranks, 1);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory");
	Status s = comm_gather(c, what, &one, 1, all);
	for (u32 r = 0; r < c->ranks; r++)
		*any |= all[r];
	free(all);
	return s;
}

Status comm_together(Comm *c, const char *what, Status mine)
{
	if (!c)
		return mine;
	u8 failed = mine != NULL, *all = calloc(c->ranks, 1);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory");
	Status s = comm_gather(c, what, &failed, 1, all);
	for (u32 r = 0; r < c->ranks && !s && !mine; r++)
		if (all[r])
			s = FAIL(STATUS_IO, "rank %u failed in %s", r, what);
	free(all);
	return mine ? mine : s;
}

Status comm_agree(Comm *c, const CommFact *fact, u32 n)
{
	u64 *mine = calloc(n, sizeof *mine), *all = calloc((size_t)n * c->ranks, sizeof *all);
	Status s = mine && all ? OK : FAIL(STATUS_MEMORY, "no memory");
	for (u32 i = 0; i < n && !s; i++)
		mine[i] = fact[i].hash;
	if (!s)
		s = comm_gather(c, "comparing what ranks are to run", mine, (u32)(n * sizeof *mine), all);
	for (u32 r = 1; r < c->ranks && !s; r++)
		for (u32 i = 0; i < n && !s; i++)
			if (all[r * n + i] != all[i])
				s = FAIL(STATUS_INPUT, "rank %u (on %s) has another %s than rank 0 (on %s): all must run the same", r,
					 c->peer[r].host, fact[i].name, c->peer[0].host);
	free(mine);
	free(all);
	return s;
}

void comm_whole_dims(const Comm *c, const PackageTensor *t, i64 *dim)
{
	for (u32 d = 0; d < t->rank; d++)
		dim[d] = t->dim[d];
	for (u32 k = 0; c && k < t->ndigit; k++) {
		i64 *to = &dim[t->digit[k].dim];
		*to = t->digit[k].whole ? t->digit[k].whole : *to * c->mesh.axis[t->digit[k].mesh].size;
	}
}
