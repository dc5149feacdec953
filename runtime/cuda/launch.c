/* runtime/cuda/launch.c: steps onto the stream. An entry's launches are captured into a graph the first time, and
 * replayed from then on: one call of the driver in place of thousands. Collectives are captured too (NCCL allows it), from the
 * second time on; on a stream of their own, which leaves the step's where one begins and joins it where it is waited for, so that
 * the graph has them beside kernels. Messages between stages of a pipeline are not (stages.c), and part an entry into graphs. A run
 * that is watched launches its steps one by one, with an event before and after each, because a graph has no times of its parts. */
#include "runtime/comm/blocks.h"
#include "runtime/cuda/cuda.h"

static Status launch_grid(Cuda *c, const CudaStep *s, u32 phase)
{
	const PackageGrid *g = &s->step->grid[phase];
	CudaLaunchAttribute cluster = { .id = CUDA_LAUNCH_CLUSTER, .value.cluster = { g->cluster, 1, 1 } };
	CudaLaunchConfig config = {
		.grid = { g->grid[0], g->grid[1], g->grid[2] },
		.block = { g->block[0], g->block[1], g->block[2] },
		.shared = g->shared,
		.stream = c->stream,
		.attribute = &cluster,
		.nattribute = g->cluster > 1,
	};
	if (!g->grid[0] || !g->grid[1] || !g->grid[2])
		return OK;
	int code = c->d->launch(&config, s->function[phase], s->parameter, NULL);
	return code ? status_context(cuda_failed(c->d, code, "launch a kernel"), "%s", s->step->name) : OK;
}

Status cuda_launch(Cuda *c, const CudaStep *s)
{
	if (cuda_between_stages(s->step->collective))
		return cuda_message(c, s);
	if (s->step->collective)
		return cuda_say(c, s, c->stream);
	if (s->way != CUDA_BY_CODE)
		TRY(status_context(cublas_run(c->cublas, s->matmul[s->way], c->arena, c->workspace, c->workspace_bytes, c->stream), "%s",
				   s->step->name));
	u32 first = s->way == CUDA_BY_LIBRARY ? s->step->nphase : s->way == CUDA_BY_BOTH ? s->step->matmul->sum_phase : 0;
	for (u32 i = first; i < s->step->nphase; i++)
		TRY(launch_grid(c, s, i));
	return OK;
}

/* All that is on the stream from now on comes behind what step i must find done. */
static Status wait_for_others(Cuda *c, const CudaEntry *e, u32 i, UnderWay *said)
{
	u32 last = under_way_end(said, e->entry, i);
	return last == NO_STEP ? OK : cuda_hear(c, &e->step[last]);
}

/* Nothing is under way at the end of a part. */
static Status launch_all(Cuda *c, const CudaEntry *e, const CudaPart *p)
{
	UnderWay said = { 0 };
	for (u32 i = p->from; i < p->to; i++) {
		TRY(wait_for_others(c, e, i, &said));
		if (!e->step[i].step->collective) {
			TRY(cuda_launch(c, &e->step[i]));
			continue;
		}
		TRY(cuda_say_beside(c, &e->step[i]));
		under_way_begin(&said, i);
	}
	return wait_for_others(c, e, e->entry->nstep, &said);
}

static Status capture(Cuda *c, const CudaEntry *e, CudaPart *p)
{
	CudaGraph *graph = NULL;
	CU(c->d, "capture a run", c->d->capture_begin(c->stream, CUDA_CAPTURE_RELAXED));
	Status s = launch_all(c, e, p);
	int code = c->d->capture_end(c->stream, &graph);
	if (!s && code)
		s = cuda_failed(c->d, code, "capture a run");
	if (!s) {
		code = c->d->graph_instantiate(&p->graph, graph, 0);
		if (code)
			s = cuda_failed(c->d, code, "make a graph of a run");
	}
	if (graph)
		c->d->graph_destroy(graph);
	return status_context(s, "entry '%s'", e->entry->name);
}

static Status run_watched(Cuda *c, const CudaEntry *e, StepHook *hook, void *cx)
{
	for (u32 i = 0; i < e->entry->nstep; i++) {
		f32 milliseconds = 0;
		CU(c->d, "time a step", c->d->event_record(c->from, c->stream));
		TRY(cuda_launch(c, &e->step[i]));
		CU(c->d, "time a step", c->d->event_record(c->to, c->stream));
		Status s = cuda_wait(c, c->to);
		if (s)
			return status_context(s, "%s", e->step[i].step->name);
		CU(c->d, "time a step", c->d->event_elapsed(&milliseconds, c->from, c->to));
		if (!hook(cx, e->entry, i, (f64)milliseconds * 1e-3))
			break;
	}
	return OK;
}

static Status run_part(Cuda *c, const CudaEntry *e, CudaPart *p)
{
	if (p->message)
		return cuda_message(c, &e->step[p->from]);
	/* the first time, NCCL connects the ranks as they speak: not while a graph is made */
	if (p->says && !p->said) {
		p->said = true;
		return launch_all(c, e, p);
	}
	if (!p->graph)
		TRY(capture(c, e, p));
	CU(c->d, "start a run", c->d->graph_launch(p->graph, c->stream));
	return OK;
}

Status cuda_run(Cuda *c, const PackageEntry *entry, StepHook *hook, void *cx)
{
	CudaEntry *e = &c->entry[entry - c->package->entry];
	c->ran = true;
	if (hook)
		return run_watched(c, e, hook, cx);
	for (u32 i = 0; i < e->npart; i++)
		TRY(run_part(c, e, &e->part[i]));
	return OK;
}

void cuda_drop_graphs(Cuda *c)
{
	for (u32 i = 0; c->entry && i < c->package->nentry; i++)
		for (u32 k = 0; k < c->entry[i].npart; k++) {
			CudaPart *p = &c->entry[i].part[k];
			if (p->graph)
				c->d->graph_release(p->graph);
			p->graph = NULL;
		}
}
