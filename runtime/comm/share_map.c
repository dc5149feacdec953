/* runtime/comm/share_map.c: see share_map.h. */
#include "runtime/comm/share_map.h"
#include "runtime/comm/blocks.h"
#include "support/cores.h"
#include "support/str.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE = 64 };

/* ---- what is shared ---- */

static u64 meeting_at(const PackageMesh *mesh, u32 axis)
{
	u64 at = LINE; /* the first line has the rank's mark */
	for (u32 m = 0; m < axis; m++)
		at += share_meeting_bytes(mesh->axis[m].size);
	return at;
}

u64 share_map_room(const PackageMesh *mesh)
{
	return meeting_at(mesh, mesh->n);
}

static bool sharable(const PackageStep *s)
{
	return s->collective && s->collective->kind <= PACKAGE_PERMUTE;
}

/* Of a result, or else an operand; results of a gather have all members' parts, those of what scatters less than the operand. */
static u64 slot_bytes(const Package *p, const PackageCollective *w, u32 i)
{
	u64 bytes = said_bytes(&w->tensor[i % w->n]);
	return i >= w->n && w->kind == PACKAGE_ALL_GATHER ? bytes * p->mesh.axis[w->mesh].size : bytes;
}

HostRange *share_map_parts(Arena *a, const Package *p, u64 room, u32 *n)
{
	u32 most = 1;
	for (u32 e = 0; e < p->nentry; e++)
		for (u32 i = 0; i < p->entry[e].nstep; i++)
			most += sharable(&p->entry[e].step[i]) ? 2 * p->entry[e].step[i].collective->n : 0;
	HostRange *part = NEWN(a, HostRange, most);
	*n = 0;
	part[(*n)++] = (HostRange){ room, share_map_room(&p->mesh) };
	for (u32 e = 0; e < p->nentry; e++)
		for (u32 i = 0; i < p->entry[e].nstep; i++) {
			const PackageStep *s = &p->entry[e].step[i];
			for (u32 k = 0; sharable(s) && k < 2 * s->collective->n; k++)
				part[(*n)++] = (HostRange){ s->slot[k], MIN(slot_bytes(p, s->collective, k), p->arena_bytes - s->slot[k]) };
		}
	return part;
}

/* What members of an axis must have alike: all that shared collectives are made of. */
static u64 collectives_hash(const Package *p, u32 axis)
{
	u64 h = p->arena_bytes;
	for (u32 e = 0; e < p->nentry; e++)
		for (u32 i = 0; i < p->entry[e].nstep; i++) {
			const PackageStep *s = &p->entry[e].step[i];
			if (!sharable(s) || s->collective->mesh != axis)
				continue;
			const PackageCollective *w = s->collective;
			u64 what[] = { e, i, w->kind, w->reduce, (u64)w->shift, w->n };
			h = hash_bytes(h, what, sizeof what);
			h = hash_bytes(h, s->slot, s->nslot * sizeof *s->slot);
			for (u32 k = 0; k < w->n; k++) {
				const PackageCollectiveTensor *t = &w->tensor[k];
				u64 tensor[] = { t->dtype, t->axis, t->to, (u64)t->outer, (u64)t->to_outer };
				h = hash_bytes(h, tensor, sizeof tensor);
				h = hash_bytes(h, t->dim, t->rank * sizeof *t->dim);
			}
		}
	return h;
}

/* ---- telling one another ---- */

typedef struct Told {
	i64 file; /* its number in that rank's process; -1: it has none */
	u64 bytes, room, mark; /* the mark is random, and stands where ranks meet: a process of that number may be another one */
	u64 hash[6];
} Told;

static u8 *map_other(const Comm *c, u32 rank, const Told *t)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)comm_process(c, rank), (long long)t->file);
	int file = open(path, O_RDWR | O_CLOEXEC);
	if (file < 0)
		return NULL;
	struct stat is;
	void *p = MAP_FAILED;
	if (fstat(file, &is) == 0 && (u64)is.st_size == t->bytes)
		p = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
	close(file);
	if (p == MAP_FAILED)
		return NULL;
	u64 mark;
	memcpy(&mark, (u8 *)p + t->room, sizeof mark);
	if (mark == t->mark)
		return p;
	munmap(p, t->bytes);
	return NULL;
}

/* False: the axis goes by messages. */
static bool map_axis(ShareMap *m, const Told *told, u8 *mine, u32 axis)
{
	Comm *c = m->comm;
	u32 me = comm_rank(c), n = m->n[axis];
	m->arena[axis] = calloc(n, sizeof(u8 *));
	m->bytes[axis] = calloc(n, sizeof(u64));
	bool all = m->arena[axis] && m->bytes[axis] && n > 1;
	for (u32 k = 0; k < n && all; k++) {
		u32 rank = comm_rank_at(c, axis, k);
		const Told *t = &told[rank];
		if (!comm_beside(c, rank) || t->file < 0 || t->hash[axis] != told[me].hash[axis])
			return false;
		m->bytes[axis][k] = rank == me ? 0 : t->bytes;
		m->arena[axis][k] = rank == me ? mine : map_other(c, rank, t);
		all = m->arena[axis][k] != NULL;
	}
	return all;
}

static Status alive(void *cx, const PackageStep *step, f64 seconds)
{
	char what[300];
	comm_step_text(cx, step, what, sizeof what);
	return comm_alive(cx, what, seconds);
}

static Status open_axes(ShareMap *m, const Told *told, const HostArena *arena, Threads *pool)
{
	Comm *c = m->comm;
	u32 ranks = comm_ranks(c), mine = 0;
	u8 *all = calloc(ranks, 1);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory for %u ranks", ranks);
	for (u32 x = 0; x < m->naxis; x++)
		mine |= (u32)map_axis(m, told, arena->base, x) << x;
	Status s = comm_gather(c, "sharing memory", &(u8){ (u8)mine }, 1, all);
	ShareAxis axis[6] = { 0 };
	bool any = false;
	for (u32 x = 0; x < m->naxis && !s; x++) {
		bool shared = true;
		for (u32 k = 0; k < m->n[x]; k++)
			shared &= all[comm_rank_at(c, x, k)] >> x & 1;
		if (!shared)
			continue;
		any = true;
		/* the first member's */
		u8 *meeting = m->arena[x][0] + told[comm_rank_at(c, x, 0)].room + m->meeting[x];
		axis[x] = (ShareAxis){ m->n[x], comm_coordinate(c, x), m->arena[x], meeting };
	}
	free(all);
	if (s || !any)
		return s;
	bool spins = (u64)comm_local_ranks(c) * threads_count(pool) <= cores_of_host();
	return share_open(&(ShareOptions){ axis, m->naxis, pool, spins, alive, c }, &m->share);
}

Status share_map_open(Comm *c, const Package *p, const HostArena *arena, u64 room, Threads *pool, ShareMap *out)
{
	*out = (ShareMap){ .comm = c, .naxis = p->mesh.n };
	TRY(comm_mesh(c, &p->mesh));
	Told mine = { .file = arena->file, .bytes = arena->file < 0 ? 0 : ALIGN_UP(arena->size, HOST_HUGE_PAGE), .room = room };
	for (u32 x = 0; x < p->mesh.n; x++) {
		out->n[x] = p->mesh.axis[x].size;
		out->meeting[x] = meeting_at(&p->mesh, x);
		mine.hash[x] = collectives_hash(p, x);
	}
	if (arena->file >= 0) {
		if (getrandom(&mine.mark, sizeof mine.mark, 0) != sizeof mine.mark)
			mine.file = -1;
		memcpy(arena->base + room, &mine.mark, sizeof mine.mark);
	}
	Told *all = calloc(comm_ranks(c), sizeof *all);
	if (!all)
		return FAIL(STATUS_MEMORY, "no memory for %u ranks", comm_ranks(c));
	Status s = comm_gather(c, "sharing memory", &mine, sizeof mine, all);
	if (!s)
		s = open_axes(out, all, arena, pool);
	free(all);
	if (s)
		share_map_close(out);
	return s;
}

void share_map_close(ShareMap *m)
{
	if (m->share)
		comm_forget(m->comm, m->share);
	share_close(m->share);
	for (u32 x = 0; x < m->naxis; x++) {
		for (u32 k = 0; k < m->n[x] && m->arena[x] && m->bytes[x]; k++)
			if (m->arena[x][k] && m->bytes[x][k])
				munmap(m->arena[x][k], m->bytes[x][k]);
		free(m->arena[x]);
		free(m->bytes[x]);
	}
	*m = (ShareMap){ 0 };
}
