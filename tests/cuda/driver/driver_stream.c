/* driver_stream.c: streams and events. What is pushed into a stream is done as late as the order allows:
 * when a call waits for it, or when work that is being done must come after it. So work that lacks a
 * dependency runs before what it should have waited for. */
#include "driver.h"
#include <stdlib.h>
#include <time.h>

Stream default_stream = { .blocking = true };
Stream *streams;
static u64 sequence;

Stream *stream_of(CUstream handle)
{
	return (uintptr_t)handle <= 2 ? &default_stream : handle;
}

void op_free(Op *op)
{
	free(op->params);
	free(op->staged);
	if (op->release)
		op->release(op->data);
}

static CUresult drain_until(Stream *s, u64 until);

/* What must be done before the first operation of `s`, by the default stream's order. */
static CUresult drain_before(Stream *s, u64 before)
{
	if (s != &default_stream)
		return s->blocking ? drain_until(&default_stream, before - 1) : CUDA_SUCCESS;
	for (Stream *x = streams; x; x = x->next) {
		CUresult r = x->blocking ? drain_until(x, before - 1) : CUDA_SUCCESS;
		if (r)
			return r;
	}
	return CUDA_SUCCESS;
}

static CUresult run_now(Op *op)
{
	struct timespec t;
	switch (op->kind) {
	case OP_RECORD:
		clock_gettime(CLOCK_MONOTONIC, &t);
		op->event->done = op->ticket;
		op->event->seconds = (f64)t.tv_sec + 1e-9 * (f64)t.tv_nsec;
		return CUDA_SUCCESS;
	case OP_WAIT: {
		/* Everything of the other stream up to the record. */
		Stream *other = op->stream;
		while (op->event->done < op->ticket && other->first) {
			CUresult r = drain_until(other, other->first->sequence);
			if (r)
				return r;
		}
		return CUDA_SUCCESS;
	}
	case OP_GRAPH:
		return graph_run(op->graph);
	default:
		return op_run(op);
	}
}

static CUresult drain_until(Stream *s, u64 until)
{
	while (s->first && s->first->sequence <= until) {
		Op *op = s->first;
		CUresult r = drain_before(s, op->sequence);
		if (r)
			return r;
		if (s->first != op)
			continue; /* done on the way */
		s->first = op->next;
		if (!s->first)
			s->last = NULL;
		bool within = s->busy;
		s->busy = true;
		r = run_now(op);
		s->busy = within;
		op_free(op);
		free(op);
		if (r) {
			context.failed = context.failed ? context.failed : r;
			return r;
		}
	}
	return CUDA_SUCCESS;
}

CUresult stream_drain(Stream *s)
{
	return drain_until(s ? s : &default_stream, ~(u64)0);
}

CUresult stream_drain_all(void)
{
	/* Streams have no order among themselves. */
	u32 n = 1;
	for (Stream *s = streams; s; s = s->next)
		n++;
	for (u32 i = 0; i < n; i++) {
		u32 at = settings()->schedule == SCHEDULE_DESCENDING ? n - 1 - i : i;
		Stream *s = &default_stream;
		for (u32 k = 0; k < at; k++)
			s = k ? s->next : streams;
		CUresult r = stream_drain(s);
		if (r)
			return r;
	}
	return CUDA_SUCCESS;
}

CUresult stream_push(Stream *s, Op op)
{
	if (s->capture)
		return graph_capture(s, op);
	Op *o = malloc(sizeof *o);
	if (!o)
		NEVER("out of host memory");
	*o = op;
	o->sequence = ++sequence;
	o->next = NULL;
	if (s->last)
		s->last->next = o;
	else
		s->first = o;
	s->last = o;
	return settings()->streams_eager ? stream_drain(s) : CUDA_SUCCESS;
}

bool stream_is_capturing(const Stream *s)
{
	return s->capture != NULL;
}

CUresult cuStreamCreate(CUstream *stream, u32 flags)
{
	ENTER;
	Stream *s = calloc(1, sizeof *s), **at = &streams;
	if (!stream || !s)
		LEAVE(CUDA_ERROR_INVALID_VALUE);
	s->blocking = !(flags & 1);
	while (*at)
		at = &(*at)->next;
	*at = s;
	*stream = s;
	LEAVE(CUDA_SUCCESS);
}

CUresult cuStreamCreateWithPriority(CUstream *stream, u32 flags, int priority)
{
	(void)priority;
	return cuStreamCreate(stream, flags);
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
	ENTER;
	if ((uintptr_t)stream <= 2)
		LEAVE(CUDA_ERROR_INVALID_HANDLE);
	CUresult r = stream_drain(stream);
	for (Stream **at = &streams; *at; at = &(*at)->next)
		if (*at == stream) {
			*at = stream->next;
			free(stream->tail.v);
			/* Events that remember it are done, and do not look; after a failure they may not be. */
			if (!r)
				free(stream);
			LEAVE(r);
		}
	LEAVE(CUDA_ERROR_INVALID_HANDLE);
}

CUresult cuStreamSynchronize(CUstream stream)
{
	ENTER;
	Stream *s = stream_of(stream);
	LEAVE(s->capture ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : stream_drain(s));
}

/* Each question lets one operation be done, so that who asks again and again gets on. */
CUresult cuStreamQuery(CUstream stream)
{
	ENTER;
	Stream *s = stream_of(stream);
	if (s->capture)
		LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	if (!s->first)
		LEAVE(CUDA_SUCCESS);
	CUresult r = drain_until(s, s->first->sequence);
	LEAVE(r ? r : CUDA_ERROR_NOT_READY);
}

CUresult cuCtxSynchronize(void)
{
	ENTER;
	for (Stream *s = streams; s; s = s->next)
		if (s->capture)
			LEAVE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	LEAVE(stream_drain_all());
}

CUresult cuEventCreate(CUevent *event, u32 flags)
{
	(void)flags;
	ENTER;
	*event = calloc(1, sizeof **event);
	LEAVE(*event ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

CUresult cuEventDestroy_v2(CUevent event)
{
	ENTER;
	/* Operations under way name it. */
	CUresult r = stream_drain_all();
	free(event->nodes.v);
	free(event);
	LEAVE(r);
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	ENTER;
	Stream *s = stream_of(stream);
	if (s->capture)
		LEAVE(graph_record(s, event));
	event->capture = NULL;
	event->stream = s;
	LEAVE(stream_push(s, (Op){ .kind = OP_RECORD, .event = event, .ticket = ++event->recorded }));
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, u32 flags)
{
	(void)flags;
	return cuEventRecord(event, stream);
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, u32 flags)
{
	(void)flags;
	ENTER;
	Stream *s = stream_of(stream);
	if (s->capture || event->capture)
		LEAVE(graph_wait(s, event));
	if (event->done == event->recorded)
		LEAVE(CUDA_SUCCESS);
	LEAVE(stream_push(s, (Op){ .kind = OP_WAIT, .event = event, .ticket = event->recorded, .stream = event->stream }));
}

CUresult cuEventSynchronize(CUevent event)
{
	ENTER;
	if (event->capture)
		LEAVE(CUDA_ERROR_CAPTURED_EVENT);
	while (event->done < event->recorded && event->stream->first) {
		CUresult r = drain_until(event->stream, event->stream->first->sequence);
		if (r)
			LEAVE(r);
	}
	LEAVE(CUDA_SUCCESS);
}

CUresult cuEventQuery(CUevent event)
{
	ENTER;
	if (event->capture)
		LEAVE(CUDA_ERROR_CAPTURED_EVENT);
	if (event->done == event->recorded)
		LEAVE(CUDA_SUCCESS);
	CUresult r = drain_until(event->stream, event->stream->first->sequence);
	LEAVE(r ? r : CUDA_ERROR_NOT_READY);
}

CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent from, CUevent to)
{
	ENTER;
	if (!from->recorded || !to->recorded)
		LEAVE(CUDA_ERROR_INVALID_HANDLE);
	if (from->done < from->recorded || to->done < to->recorded)
		LEAVE(CUDA_ERROR_NOT_READY);
	*milliseconds = (float)(1e3 * (to->seconds - from->seconds));
	LEAVE(CUDA_SUCCESS);
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to)
{
	return cuEventElapsedTime_v2(milliseconds, from, to);
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data)
{
	ENTER;
	LEAVE(stream_push(stream_of(stream), (Op){ .kind = OP_HOST, .host = function, .data = data }));
}

/* Could it be done now, by a stream that does nothing else? */
static bool is_ready(const Op *op)
{
	if (op->kind == OP_WAIT)
		return op->event->done >= op->ticket;
	return op->kind != OP_GRAPH && (op->kind != OP_WORK || op->posts);
}

static bool will_post(const Stream *s)
{
	for (const Op *op = s->first; op && !s->busy; op = op->next)
		if (op->posts)
			return true;
	return false;
}

void standinPost(void)
{
	for (Stream *s = streams; s; s = s->next)
		while (will_post(s) && is_ready(s->first) && !drain_until(s, s->first->sequence))
			;
}

CUresult standinEnqueuePost(CUstream stream, CUresult (*function)(void *data), void *data, void (*release)(void *data))
{
	ENTER;
	LEAVE(stream_push(stream_of(stream), (Op){ .kind = OP_WORK, .work = function, .data = data, .release = release, .posts = true }));
}

CUresult standinEnqueue(CUstream stream, CUresult (*function)(void *data), void *data, void (*release)(void *data))
{
	ENTER;
	LEAVE(stream_push(stream_of(stream), (Op){ .kind = OP_WORK, .work = function, .data = data, .release = release }));
}
