/* tools/mesh.c: see mesh.h. */
#include "tools/mesh.h"
#include "runtime/comm/launch.h"

#include <stdlib.h>
#include <string.h>

enum { AXES = 6, MOST_DEVICES = 1 << 24 };

typedef struct Axes {
	const char *name[AXES];
	u32 size[AXES], n, devices;
} Axes;

static Status check_size(Str name, i64 size)
{
	if (size < 1 || size > 1 << 20)
		return FAIL(STATUS_INPUT, "the mesh axis %.*s must have at least 1 device, and at most %d, not %lld", STR_ARG(name), 1 << 20,
			    (long long)size);
	return OK;
}

Status mesh_axis(const char *mesh, const char **at, Str *name, i64 *size)
{
	size_t n = strcspn(*at, ",");
	const char *equals = memchr(*at, '=', n);
	char *end = NULL;
	*size = equals ? strtol(equals + 1, &end, 10) : 0;
	if (!equals || equals == *at || end != *at + n)
		return FAIL(STATUS_INPUT, "--mesh is written data=2,tensor=2, not %s", mesh);
	*name = (Str){ *at, (size_t)(equals - *at) };
	*at += n + ((*at)[n] == ',');
	return check_size(*name, *size);
}

static Status add_axis(Axes *a, const char *name, i64 size)
{
	if (a->n == AXES)
		return FAIL(STATUS_INPUT, "a mesh has at most %d axes", AXES);
	for (u32 i = 0; i < a->n; i++)
		if (!strcmp(a->name[i], name))
			return FAIL(STATUS_INPUT, "the mesh has the axis %s twice", name);
	if ((u64)a->devices * (u64)size > MOST_DEVICES)
		return FAIL(STATUS_INPUT, "a mesh has at most %d devices", MOST_DEVICES);
	a->name[a->n] = name;
	a->size[a->n++] = (u32)size;
	a->devices *= (u32)size;
	return OK;
}

static Status read_axes(Arena *arena, const char *mesh, Axes *a)
{
	Str name;
	i64 size;
	for (const char *at = mesh; *at;) {
		TRY(mesh_axis(mesh, &at, &name, &size));
		TRY(add_axis(a, arena_strn(arena, name), size));
	}
	return OK;
}

static Status find_axes(Lm *lm, const char *mesh, Axes *a)
{
	*a = (Axes){ .devices = 1 };
	if (mesh)
		return read_axes(&lm->arena, mesh, a);
	static const char prefix[] = "shard.mesh.";
	for (u32 i = 0; lm->model && i < lm->model->setting.n; i++) {
		const Setting *s = &lm->model->setting.v[i];
		if (strncmp(s->key, prefix, sizeof prefix - 1))
			continue;
		const char *name = s->key + sizeof prefix - 1;
		i64 size = s->is_number ? (i64)s->number : 0;
		TRY(check_size(str_of(name), size));
		TRY(add_axis(a, name, size));
	}
	return OK;
}

static bool has_axis(const Axes *a, Str name)
{
	for (u32 i = 0; i < a->n; i++)
		if (str_equal(str_of(a->name[i]), name))
			return true;
	return false;
}

/* An axis of one device divides nothing: without it a program has no messages along it, which would stand between kernels. */
static void drop_single(Axes *a)
{
	u32 kept = 0;
	for (u32 i = 0; i < a->n; i++)
		if (a->size[i] > 1) {
			a->name[kept] = a->name[i];
			a->size[kept++] = a->size[i];
		}
	a->n = kept;
}

typedef struct Rules {
	Buf text;
	u32 used;     /* axes of the mesh (bits) that some rule divides over */
	u32 features; /* those among them that divide other axes than B */
	const Axes *axes;
} Rules;

/* axis -> each word of `to` that the mesh has. */
static void add_rule(Rules *r, Str axis, const char *to)
{
	bool features = rule_of(axis) == RULE_OF_AXIS && !str_equal(axis, STR("B"));
	while (*to) {
		size_t n = strcspn(to, " ()");
		for (u32 i = 0; n && i < r->axes->n; i++) {
			if (!str_equal(str_of(r->axes->name[i]), (Str){ to, n }))
				continue;
			buf_printf(&r->text, ",%.*s=%.*s", STR_ARG(axis), (int)n, to);
			r->used |= 1u << i;
			r->features |= features ? 1u << i : 0;
		}
		to += n + (to[n] != 0);
	}
}

Str mesh_over(const Lm *lm, const TextList *more, const char *axis, u32 i)
{
	for (u32 k = 0; k < lm->model->shard.n; k++) {
		const ShardLine *line = &lm->model->shard.v[k];
		for (const char *to = line->mesh; !strcmp(line->axis, axis) && *to;) {
			size_t n = strcspn(to, " ()");
			if (n && !i--)
				return (Str){ to, n };
			to += n + (to[n] != 0);
		}
	}
	size_t n = strlen(axis);
	for (int k = 0; more && k < more->n; k++)
		if (!strncmp(more->v[k], axis, n) && more->v[k][n] == '=' && !i--)
			return str_of(more->v[k] + n + 1);
	return (Str){ 0 };
}

/* A rule of the command line names what it divides: an axis of the model, or what belongs to parameters. */
static Status check_divided(Lm *lm, Str axis)
{
	const Ir *ir = lm->model->program->ir;
	VEC(const char *) all = { 0 };
	Buf others = { .arena = &lm->arena };
	for (u32 i = 0; i < RULE_OF_AXIS; i++) {
		VEC_PUSH(&lm->arena, &all, rule_of_name[i]);
		buf_printf(&others, "%s%s", i ? ", " : ", or ", rule_of_name[i]);
	}
	for (u32 i = 1; i < ir->axis.n; i++)
		for (u32 k = 0; k < ir->axis.v[i].names.n && !ir->axis.v[i].alias; k++) {
			const char *name = ir->axis.v[i].names.v[k], *dot = strrchr(name, '.');
			VEC_PUSH(&lm->arena, &all, name);
			if (dot)
				VEC_PUSH(&lm->arena, &all, dot + 1);
		}
	for (u32 i = 0; i < all.n; i++)
		if (str_equal(axis, str_of(all.v[i])))
			return OK;
	const char *near = nearest_name(arena_strn(&lm->arena, axis), all.v, all.n);
	return FAIL(STATUS_INPUT, "--shard %.*s=: the model has no axis '%.*s'%s", STR_ARG(axis), STR_ARG(axis),
		    near ? arena_printf(&lm->arena, "; did you mean '%s'?", near) :
			   arena_printf(&lm->arena, ": it is one of its own, such as B or Attention.H%s", others.text));
}

typedef VEC(const char *) Names;

/* The axes that the model's rules divide over: "data, tensor". */
static const char *axes_of_rules(Lm *lm, Names *names)
{
	Buf b = { .arena = &lm->arena };
	for (u32 i = 0; i < lm->model->shard.n; i++)
		for (const char *to = lm->model->shard.v[i].mesh; *to;) {
			size_t n = strcspn(to, " ()");
			const char *name = arena_strn(&lm->arena, (Str){ to, n });
			bool known = !n;
			for (u32 k = 0; k < names->n; k++)
				known |= !strcmp(names->v[k], name);
			if (!known) {
				buf_printf(&b, "%s%s", b.n ? ", " : "", name);
				VEC_PUSH(&lm->arena, names, name);
			}
			to += n + (to[n] != 0);
		}
	return b.n ? b.text : "data";
}

/* Which mesh axis layers go to: as a line says, else that of the name `pipe`; NULL: none. */
static const char *layers_axis(const Lm *lm, const TextList *more, const Axes *a)
{
	const char *to = has_axis(a, STR("pipe")) ? "pipe" : NULL;
	for (u32 i = 0; i < lm->model->shard.n; i++)
		if (!strcmp(lm->model->shard.v[i].axis, "layers") && has_axis(a, str_of(lm->model->shard.v[i].mesh)))
			to = lm->model->shard.v[i].mesh;
	for (int i = 0; more && i < more->n; i++)
		if (str_starts(str_of(more->v[i]), STR("layers=")))
			to = more->v[i] + strlen("layers=");
	return to;
}

/* The pipeline's schedule: --schedule, or what the shard block has in brackets: pipe(schedule = 1f1b, interleave = 2). */
static Status find_schedule(const Lm *lm, const char *schedule, DriverPipe *out)
{
	u64 chunks;
	TRY(lm_count(lm, "shard.layers.interleave", 1, 1, &chunks));
	const char *kind = lm_text(lm, "shard.layers.schedule", chunks > 1 ? "interleaved" : "1f1b");
	/* 1f1b with chunks is what interleaved is */
	if (chunks > 1 && strcmp(kind, "gpipe"))
		kind = arena_printf((Arena *)(uintptr_t)&lm->arena, "%s:%llu", strcmp(kind, "1f1b") ? kind : "interleaved", (unsigned long long)chunks);
	kind = schedule ? schedule : kind;
	if (!pipe_kind_read(kind, &out->kind, &out->chunks) || (!schedule && chunks > 1 && out->kind == PIPE_GPIPE))
		return FAIL(STATUS_INPUT, "a schedule is gpipe, 1f1b, or interleaved:2 with 2 chunks for each stage, not %s", kind);
	return OK;
}

/* The pipeline, if there is one, whose axis is taken out of the mesh that values are divided over. */
static Status find_pipe(Lm *lm, const TextList *more, const char *schedule, Axes *a, DriverPipe *out)
{
	const char *over = layers_axis(lm, more, a);
	u32 at = 0;
	while (over && at < a->n && strcmp(a->name[at], over))
		at++;
	if (!over || at == a->n)
		return schedule ? FAIL(STATUS_INPUT, "--schedule is of a mesh with pipe: --mesh pipe=2") : OK;
	u64 micro;
	TRY(lm_count(lm, "shard.layers.micro", 1, (u64)lm->model->accumulate, &micro));
	if (micro != (u64)lm->model->accumulate)
		return FAIL(STATUS_INPUT, "layers -> %s(micro = %llu), and a step has %lld micro-batches: --set train.batch.accumulate=%llu",
			    over, (unsigned long long)micro, (long long)lm->model->accumulate, (unsigned long long)micro);
	*out = (DriverPipe){ .over = over, .stages = a->size[at], .micros = (u32)micro };
	for (u32 i = 0; i < at; i++)
		out->axis += a->size[i] > 1; /* where it was among the axes that are left */
	TRY(find_schedule(lm, schedule, out));
	if (out->stages > 64)
		return FAIL(STATUS_UNSUPPORTED, "a pipeline has at most 64 stages, not %u", out->stages);
	for (a->n--; at < a->n; at++) {
		a->name[at] = a->name[at + 1];
		a->size[at] = a->size[at + 1];
	}
	if (out->stages == 1)
		*out = (DriverPipe){ 0 };
	return OK;
}

static const char bucket_line[] = "bucket=";

/* "4MiB", "0" */
static bool read_bytes(const char *text, f64 *out)
{
	static const char *const unit[] = { "", "KiB", "MiB", "GiB" };
	char *end;
	*out = strtod(text, &end);
	for (u32 i = 0; i < COUNT(unit); i++)
		if (end > text && !strcmp(end, unit[i])) {
			*out *= (f64)(1ull << 10 * i);
			return *out >= 0 && *out < 0x1p62;
		}
	return false;
}

/* How many bytes of messages are put together: as the block says, else the last line of --shard; 0: nobody says. */
static Status find_bucket(const Lm *lm, const TextList *more, u64 *out)
{
	const Setting *s = model_setting(lm->model, "shard.bucket");
	f64 bytes = s ? s->number : 0;
	const char *wrong = s && (!s->is_number || !(bytes >= 0 && bytes < 0x1p62)) ? s->text : NULL;
	bool said = s != NULL;
	for (int i = 0; more && i < more->n; i++)
		if (str_starts(str_of(more->v[i]), str_of(bucket_line))) {
			said = true;
			wrong = read_bytes(more->v[i] + strlen(bucket_line), &bytes) ? NULL : more->v[i] + strlen(bucket_line);
		}
	if (wrong)
		return FAIL(STATUS_INPUT, "bucket is an amount of memory, such as 25 MiB, or 0 for each message by itself, not %s", wrong);
	*out = said ? MAX((u64)bytes, 1) : 0;
	return OK;
}

static Status no_rule(Lm *lm, const char *axis)
{
	Names known = { 0 };
	const char *all = axes_of_rules(lm, &known);
	VEC_PUSH(&lm->arena, &known, "pipe");
	const char *near = nearest_name(axis, known.v, known.n);
	return FAIL(STATUS_INPUT, "no rule divides anything over the mesh axis '%s'%s This model's are over %s; pipe is the pipeline. Or a line of the shard block says "
				  "what it divides, or --shard T=%s (texts), --shard Attention.H=%s (heads)", axis,
		    near ? arena_printf(&lm->arena, "; did you mean '%s'?", near) : ".", all, axis, axis);
}

Status mesh_rules(Lm *lm, const char *mesh, const TextList *more, const char *schedule, MeshRun *out)
{
	Axes axes;
	*out = (MeshRun){ .devices = 1 };
	TRY(find_axes(lm, mesh, &axes));
	out->devices = axes.devices;
	if (axes.devices == 1)
		return OK;
	if (!lm->model)
		return FAIL(STATUS_UNSUPPORTED, "a package is of one device: a mesh needs the model's source");
	TRY(find_bucket(lm, more, &out->bucket));
	TRY(find_pipe(lm, more, schedule, &axes, &out->pipe));
	if (out->devices == out->pipe.stages)
		return OK;
	const Axes named = axes;
	drop_single(&axes);
	Rules r = { .text.arena = &lm->arena, .axes = &axes };
	for (u32 i = 0; i < axes.n; i++)
		buf_printf(&r.text, "%smesh=%s:%u", i ? "," : "", axes.name[i], axes.size[i]);
	for (u32 i = 0; i < lm->model->shard.n; i++)
		add_rule(&r, str_of(lm->model->shard.v[i].axis), lm->model->shard.v[i].mesh);
	for (int i = 0; more && i < more->n; i++) {
		const char *equals = strchr(more->v[i], '=');
		if ((out->pipe.stages && str_starts(str_of(more->v[i]), STR("layers="))) || str_starts(str_of(more->v[i]), str_of(bucket_line)))
			continue;
		if (!equals || !has_axis(&named, str_of(equals + 1)))
			return FAIL(STATUS_INPUT, "--shard is written AXIS=MESH, such as parameters=data, with an axis of the mesh: not %s",
				    more->v[i]);
		TRY(check_divided(lm, (Str){ more->v[i], (size_t)(equals - more->v[i]) }));
		add_rule(&r, (Str){ more->v[i], (size_t)(equals - more->v[i]) }, equals + 1);
	}
	for (u32 i = 0; i < axes.n; i++) {
		if (r.used >> i & 1)
			continue;
		if (strcmp(axes.name[i], "data") != 0)
			return no_rule(lm, axes.name[i]);
		add_rule(&r, STR("B"), "data"); /* what data parallelism is, for models without a shard block */
	}
	const Setting *sequence = model_setting(lm->model, "shard.sequence");
	for (u32 i = 0; i < axes.n && sequence && !strcmp(sequence->text, "true"); i++)
		if (r.features >> i & 1)
			buf_printf(&r.text, ",sequence=%s", axes.name[i]);
	out->rules = r.text.text;
	return OK;
}

/* ---- what stays whole ---- */

/* Do the rules divide buffers of this kind over the axis? Who divides parameters divides gradients and states too. */
static bool asks(const char *rules, BufferKind kind, const char *axis)
{
	RuleOf first = kind == BUFFER_STATE ? RULE_OF_OPTIMIZER_STATE : kind == BUFFER_GRADIENT ? RULE_OF_GRADIENTS : RULE_OF_PARAMETERS;
	for (const char *at = rules; at && *at;) {
		size_t n = strcspn(at, ","), name = strcspn(at, "=");
		RuleOf of = rule_of((Str){ at, name });
		if (of >= first && of <= RULE_OF_PARAMETERS && str_equal((Str){ at + name + 1, n - name - 1 }, str_of(axis)))
			return true;
		at += n + (at[n] == ',');
	}
	return false;
}

u32 mesh_whole(const Program *p, const char *rules, MeshWhole out[3 * MESH_AXES])
{
	static const BufferKind kind[] = { BUFFER_PARAMETER, BUFFER_STATE, BUFFER_GRADIENT };
	u32 n = 0;
	for (u32 k = 0; k < COUNT(kind); k++)
		for (u32 m = 0; m < p->mesh.n; m++) {
			MeshWhole w = { .kind = kind[k], .over = p->mesh.axis[m].name };
			for (u32 i = 0; i < p->buffer.n && asks(rules, w.kind, w.over); i++) {
				const Buffer *b = &p->buffer.v[i];
				Place place[MESH_AXES];
				if (b->kind != w.kind || buffer_away(p, b) || !places_read(&p->mesh, b->split, place))
					continue;
				bool whole = place[m].kind != PLACE_SPLIT;
				w.of++;
				w.of_bytes += (u64)type_bytes(b->type);
				w.tensors += whole;
				w.bytes += whole ? (u64)type_bytes(b->type) : 0;
			}
			if (w.tensors)
				out[n++] = w;
		}
	return n;
}

/* ---- ranks ---- */

/* Meshes over the same axes that have as many devices as there are ranks: "data=4,tensor=1, data=2,tensor=2, ..." */
static void list_meshes(Buf *to, const Axes *a, u32 axis, u32 left, Buf *head, u32 *told)
{
	if (*told >= 8)
		return;
	if (axis + 1 >= a->n) {
		buf_printf(to, "%s%.*s%s%s=%u", (*told)++ ? "; " : "", STR_ARG(buf_str(head)), head->n ? "," : "", a->n ? a->name[axis] : "data", left);
		return;
	}
	for (u32 n = left; n >= 1; n--) {
		if (left % n)
			continue;
		Buf with = { .arena = to->arena };
		buf_printf(&with, "%.*s%s%s=%u", STR_ARG(buf_str(head)), head->n ? "," : "", a->name[axis], n);
		list_meshes(to, a, axis + 1, left / n, &with, told);
	}
}

static Status wrong_count(Lm *lm, const char *mesh, u32 ranks)
{
	Axes axes;
	TRY(find_axes(lm, mesh, &axes));
	Buf choices = { .arena = &lm->arena }, head = { .arena = &lm->arena };
	u32 told = 0;
	list_meshes(&choices, &axes, 0, ranks, &head, &told);
	/* launchers whose ranks MPI does not know: CPUs have no other way to speak */
	const char *other = getenv("WORLD_SIZE") ? "WORLD_SIZE" : getenv("SLURM_NTASKS") ? "SLURM_NTASKS" : NULL;
	if (ranks == 1)
		return FAIL(STATUS_INPUT, "the mesh has %u devices, and this is one process%s%s%s: start it as mpirun -n %u plinth train ..., or give "
					  "--mesh %s", axes.devices, other ? " (" : "", other ? other : "",
			    other ? " is set, but ranks on CPUs meet by MPI: under Slurm, srun --mpi=pmix)" : "", axes.devices, choices.text);
	return FAIL(STATUS_INPUT, "the mesh has %u device%s, and there are %u ranks: mpirun -n %u, or --mesh %s", axes.devices,
		    axes.devices == 1 ? "" : "s", ranks, axes.devices, choices.text);
}

static u64 hash_text(const char *text)
{
	return hash_bytes(HASH_SEED, text ? text : "", text ? strlen(text) : 0);
}

/* What all ranks must have in common. */
static Status compare(Lm *lm, const MeshRun *m)
{
	u64 settings = HASH_SEED;
	for (u32 i = 0; i < lm->model->setting.n; i++)
		settings = hash_bytes(settings, &(u64[]){ hash_text(lm->model->setting.v[i].key), hash_text(lm->model->setting.v[i].text) },
				      2 * sizeof(u64));
	const u32 pipe[] = { m->pipe.axis, m->pipe.stages, m->pipe.kind, m->pipe.chunks, m->pipe.micros };
	CommFact fact[] = {
		{ "version of plinth", hash_text(PLINTH_VERSION) },
		{ "model", program_hash(lm->model->program) },
		{ "configuration (settings of the train, data or shard block)", settings },
		{ "mesh, or rules of division", hash_bytes(hash_text(m->rules), pipe, sizeof pipe) },
	};
	return comm_agree(m->comm, fact, COUNT(fact));
}

/* This rank's stage: its coordinate along the pipeline's axis, the last axis being the one along which ranks count up. */
static Status find_stage(Lm *lm, const char *mesh, MeshRun *m)
{
	Axes axes;
	u32 stride = 1;
	TRY(find_axes(lm, mesh, &axes));
	drop_single(&axes);
	for (u32 i = m->pipe.axis + 1; i < axes.n; i++)
		stride *= axes.size[i];
	m->pipe.at = m->pipe.stages ? comm_rank(m->comm) / stride % m->pipe.stages : 0;
	return comm_first(m->comm, m->pipe.at, &m->first);
}

Status mesh_open(Lm *lm, const char *mesh, const TextList *more, const char *schedule, const char *device, MeshRun *out)
{
	const Transport *by = &transport_mpi;
	TRY(mesh_rules(lm, mesh, more, schedule, out));
	u32 launched = comm_launched();
	if (out->devices > 1 && launched < 2 && str_starts(str_of(device), STR("cuda"))) {
		Launch l;
		TRY(launch_read(&l));
		launched = l.ranks;
		by = &transport_nccl;
	}
	if (out->devices == 1 && launched < 2)
		return OK;
	if (launched < 2)
		return wrong_count(lm, mesh, 1);
	TRY(comm_open(by, &out->comm));
	if (comm_ranks(out->comm) != out->devices)
		return wrong_count(lm, mesh, comm_ranks(out->comm));
	TRY(find_stage(lm, mesh, out));
	return compare(lm, out);
}

Status mesh_turn(const MeshRun *m, bool done)
{
	if (!m->comm)
		return OK;
	/* one barrier: the first rank of a host (and stage) comes to it when it has compiled, the others before they do */
	return m->first == done ? comm_barrier(m->comm, "compiling") : OK;
}

/* The first rank that has this one's program: of a pipeline's stages each has its own. */
static u32 first_alike(const MeshRun *m, const Executor *x)
{
	const PackagePipe *pipe = &x->package->pipe;
	u32 r = 0;
	while (pipe->stages && comm_coordinate_of(m->comm, r, pipe->mesh) != comm_coordinate(m->comm, pipe->mesh))
		r++;
	return r;
}

/* Choices that bits depend on, which each rank has measured for itself: all take those of the first rank with the same program. */
static Status share_choices(const MeshRun *m, Executor *x, Arena *a)
{
	const DeviceChoice *mine;
	u32 n = x->device->choices(x->state, a, &mine), ranks = comm_ranks(m->comm);
	Buf text = { .arena = a };
	for (u32 i = 0; i < n; i++)
		buf_printf(&text, "%s%c%s%c", mine[i].what, 0, mine[i].chosen, 0);
	u32 bytes = (u32)text.n, *all = NEWN(a, u32, ranks), most = 0;
	TRY(comm_gather(m->comm, "comparing choices", &bytes, sizeof bytes, all));
	for (u32 r = 0; r < ranks; r++)
		most = MAX(most, all[r]);
	if (!most)
		return OK;
	u32 from = first_alike(m, x);
	char *sent = NEWN(a, char, most), *texts = NEWN(a, char, (size_t)most * ranks), *text_of = texts + (size_t)from * most, *at = text_of;
	if (bytes)
		memcpy(sent, text.text, bytes);
	TRY(comm_gather(m->comm, "comparing choices", sent, most, texts));
	DeviceChoice *first = NEWN(a, DeviceChoice, n + 1);
	u32 nfirst = 0;
	while (at < text_of + all[from] && nfirst < n) {
		first[nfirst].what = at;
		at += strlen(at) + 1;
		first[nfirst++].chosen = at;
		at += strlen(at) + 1;
	}
	return all[from] == bytes && !memcmp(text_of, sent, bytes) ? OK : x->device->choose(x->state, first, nfirst);
}

Status mesh_start(const MeshRun *m, Executor *x)
{
	if (!m->comm)
		return OK;
	TRY(comm_mesh(m->comm, &x->package->mesh));
	Arena tmp = ARENA("choices");
	Status s = share_choices(m, x, &tmp);
	arena_free(&tmp);
	TRY(s);
	for (u32 i = 0; i < x->package->mesh.n; i++) {
		char name[128];
		snprintf(name, sizeof name, "mesh.%s", x->package->mesh.axis[i].name);
		const PackageBuffer *b = executor_buffer(x, name);
		i64 at = comm_coordinate(m->comm, i);
		if (b)
			TRY(executor_write(x, &b->tensor, &at));
	}
	return OK;
}

void mesh_close(MeshRun *m)
{
	comm_close(m->comm);
	m->comm = NULL;
}
