/* driver_graph.c: stream capture and graphs: a list of operations, each with the nodes it comes after.
 * A launch does them in an order that these allow and the schedule chooses. */
#include "driver.h"
#include <stdlib.h>

typedef struct Node {
	Op op;
	NodeList after;
} Node;

typedef struct Graph {
	Node *node;
	u32 n, room;
	u32 owners; /* the handle, and executables made of it */
	bool invalid;
} Graph;

typedef struct GraphExec {
	Graph *graph;
} GraphExec;

static NodeList list_copy(NodeList a)
{
	NodeList b = { malloc((a.n + 1) * sizeof *b.v), a.n };
	if (!b.v)
		NEVER("out of host memory");
	memcpy(b.v, a.v ? a.v : b.v, a.n * sizeof *b.v);
	return b;
}

static void list_add(NodeList *a, u32 node)
{
	for (u32 i = 0; i < a->n; i++)
		if (a->v[i] == node)
			return;
	a->v = realloc(a->v, (a->n + 1) * sizeof *a->v);
	if (!a->v)
		NEVER("out of host memory");
	a->v[a->n++] = node;
}

static void list_clear(NodeList *a)
{
	free(a->v);
	*a = (NodeList){ 0 };
}

static void graph_release(Graph *g)
{
	if (--g->owners)
		return;
	for (u32 i = 0; i < g->n; i++) {
		op_free(&g->node[i].op);
		list_clear(&g->node[i].after);
	}
	free(g->node);
	free(g);
}

CUresult graph_capture(Stream *s, Op op)
{
	Graph *g = s->capture;
	if (g->n == g->room) {
		g->room = g->room ? g->room * 2 : 64;
		g->node = realloc(g->node, g->room * sizeof *g->node);
		if (!g->node)
			NEVER("out of host memory");
	}
	g->node[g->n] = (Node){ op, list_copy(s->tail) };
	list_clear(&s->tail);
	list_add(&s->tail, g->n);
	g->n++;
	return CUDA_SUCCESS;
}

CUresult graph_record(Stream *s, Event *event)
{
	list_clear(&event->nodes);
	event->capture = s->capture;
	event->nodes = list_copy(s->tail);
	return CUDA_SUCCESS;
}

CUresult graph_wait(Stream *s, Event *event)
{
	if (!event->capture) {
		s->capture->invalid = true;
		return driver_fail(CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
				   "cuStreamWaitEvent: a capture waits for an event that was recorded outside of it");
	}
	if (s->capture && s->capture != event->capture)
		return CUDA_ERROR_STREAM_CAPTURE_MERGE;
	if (!s->capture) {
		if (s == &default_stream)
			return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
		s->capture = event->capture;
		s->origin = false;
		list_clear(&s->tail);
	}
	for (u32 i = 0; i < event->nodes.n; i++)
		list_add(&s->tail, event->nodes.v[i]);
	return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, int mode)
{
	(void)mode;
	ENTER;
	Stream *s = stream_of(stream);
	if (s == &default_stream)
		LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	if (s->capture)
		LEAVE(CUDA_ERROR_ILLEGAL_STATE);
	s->capture = calloc(1, sizeof *s->capture);
	if (!s->capture)
		NEVER("out of host memory");
	s->capture->owners = 1;
	s->origin = true;
	list_clear(&s->tail);
	LEAVE(CUDA_SUCCESS);
}

static void mark_before(const Graph *g, NodeList list, u8 *seen)
{
	for (u32 i = 0; i < list.n; i++)
		if (!seen[list.v[i]]) {
			seen[list.v[i]] = 1;
			mark_before(g, g->node[list.v[i]].after, seen);
		}
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
	ENTER;
	Stream *s = stream_of(stream);
	Graph *g = s->capture;
	*graph = NULL;
	if (!g)
		LEAVE(CUDA_ERROR_ILLEGAL_STATE);
	if (!s->origin)
		LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
	u8 *seen = calloc(g->n + 1, 1);
	if (!seen)
		NEVER("out of host memory");
	mark_before(g, s->tail, seen);
	bool joined = true;
	for (Stream *x = streams; x; x = x->next) {
		if (x->capture != g)
			continue;
		for (u32 i = 0; x != s && i < x->tail.n; i++)
			joined = joined && seen[x->tail.v[i]];
		x->capture = NULL;
		list_clear(&x->tail);
	}
	free(seen);
	if (!joined || g->invalid) {
		CUresult r = g->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
		graph_release(g);
		LEAVE(driver_fail(r, "cuStreamEndCapture: %s", r == CUDA_ERROR_STREAM_CAPTURE_UNJOINED
								       ? "work of another stream was not waited for"
								       : "the capture became invalid"));
	}
	*graph = g;
	LEAVE(CUDA_SUCCESS);
}

CUresult cuStreamIsCapturing(CUstream stream, int *status)
{
	ENTER;
	*status = stream_of(stream)->capture != NULL;
	LEAVE(CUDA_SUCCESS);
}

CUresult cuThreadExchangeStreamCaptureMode(int *mode)
{
	(void)mode;
	return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, u64 flags)
{
	(void)flags;
	ENTER;
	*exec = malloc(sizeof **exec);
	if (!*exec)
		NEVER("out of host memory");
	(*exec)->graph = graph;
	graph->owners++;
	LEAVE(CUDA_SUCCESS);
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
	ENTER;
	LEAVE(stream_push(stream_of(stream), (Op){ .kind = OP_GRAPH, .graph = exec }));
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream)
{
	(void)exec;
	(void)stream;
	return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph)
{
	ENTER;
	graph_release(graph);
	LEAVE(CUDA_SUCCESS);
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	ENTER;
	CUresult r = stream_drain_all();
	graph_release(exec->graph);
	free(exec);
	LEAVE(r);
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
	ENTER;
	for (size_t i = 0; nodes && i < *count && i < graph->n; i++)
		nodes[i] = (CUgraphNode)&graph->node[i];
	*count = nodes ? MIN(*count, graph->n) : graph->n;
	LEAVE(CUDA_SUCCESS);
}

CUresult graph_run(GraphExec *exec)
{
	const Graph *g = exec->graph;
	static u64 launches;
	Block dice = { .random = settings()->seed + launches++ };
	u8 *done = calloc(g->n + 1, 1);
	u32 *ready = calloc(g->n + 1, sizeof *ready);
	if (!done || !ready)
		NEVER("out of host memory");
	CUresult r = CUDA_SUCCESS;
	for (u32 k = 0; !r && k < g->n; k++) {
		u32 n = 0;
		for (u32 i = 0; i < g->n && (!n || settings()->schedule != SCHEDULE_ASCENDING); i++) {
			bool free_to_run = !done[i];
			for (u32 a = 0; free_to_run && a < g->node[i].after.n; a++)
				free_to_run = done[g->node[i].after.v[a]];
			if (free_to_run)
				ready[n++] = i;
		}
		u32 pick = settings()->schedule == SCHEDULE_RANDOM ? (u32)(block_random(&dice) % n)
			 : settings()->schedule == SCHEDULE_DESCENDING ? n - 1 : 0;
		done[ready[pick]] = 1;
		r = op_run(&g->node[ready[pick]].op);
	}
	free(done);
	free(ready);
	return r;
}
