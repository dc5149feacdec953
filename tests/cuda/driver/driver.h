/* driver.h: what the driver's files share: one device, one context, memory, streams. Every call holds one
 * lock; work is deferred and done by the call that waits for it. */
#ifndef STANDIN_DRIVER_H
#define STANDIN_DRIVER_H
#include "cuda_abi.h"
#include "exec.h"

typedef struct Context {
	bool initialized;
	u32 retained;
	CUresult failed;       /* a launch that went wrong: every later call gives this */
	char report[1200];
} Context;

extern Context context;
extern _Thread_local Context *current_context;

void driver_lock(void);
void driver_unlock(void);
/* CUDA_SUCCESS if a context is current and nothing has failed. */
CUresult driver_check(void);
PL_PRINTF(2, 3) CUresult driver_fail(CUresult error, const char *format, ...); /* reports; gives the error */

/* One API function's body: the lock held, the context checked. */
#define ENTER                                   \
	do {                                    \
		driver_lock();                  \
		CUresult entered_ = driver_check(); \
		if (entered_) {                 \
			driver_unlock();        \
			return entered_;        \
		}                               \
	} while (0)
#define LEAVE(result)                           \
	do {                                    \
		CUresult left_ = (result);      \
		driver_unlock();                \
		return left_;                   \
	} while (0)

/* driver_memory.c */
CUresult memory_allocate(u64 *address, u64 bytes);
bool memory_free(u64 address);
u8 *memory_host(u64 address, u64 bytes);  /* NULL: not allocated */
const Range *memory_ranges(u32 *n);
intptr_t memory_to_host(void);
bool memory_is_pinned(const void *p, size_t bytes);

/* driver_stream.c: an operation of a stream. */
typedef enum OpKind { OP_KERNEL, OP_COPY, OP_SET, OP_RECORD, OP_WAIT, OP_GRAPH, OP_HOST, OP_WORK } OpKind;

typedef struct Op {
	OpKind kind;
	u64 sequence;
	struct Op *next;
	/* kernel: the launch, and whose it is */
	struct LoadedFunction *function;
	u32 grid[3], threads[3], dynamic;
	u8 *params;            /* owned */
	/* copy, set: addresses are of the device where to_device/from_device */
	bool to_device, from_device;
	u64 to, from, bytes;
	u8 *staged;            /* owned copy of pageable host memory, or NULL */
	u32 value, width;
	/* record, wait */
	struct Event *event;
	struct Stream *stream; /* of the event's record */
	u64 ticket;            /* which record */
	struct GraphExec *graph;
	CUhostFn host;
	CUresult (*work)(void *data);
	void (*release)(void *data);
	void *data;
	bool posts;            /* another process may wait for it, and it waits for nobody */
} Op;

CUresult stream_push(struct Stream *stream, Op op);   /* takes op's memory; NULL is the default stream */
CUresult stream_drain(struct Stream *stream);         /* all that is in it */
CUresult stream_drain_all(void);
bool stream_is_capturing(const struct Stream *stream);
CUresult op_run(Op *op);                              /* performs it, but for records, waits and graphs */
void op_free(Op *op);

/* driver_graph.c */
CUresult graph_capture(struct Stream *stream, Op op); /* adds a node to what the stream captures */
CUresult graph_run(struct GraphExec *exec);
CUresult graph_record(struct Stream *stream, struct Event *event);
CUresult graph_wait(struct Stream *stream, struct Event *event);

typedef struct NodeList {
	u32 *v;
	u32 n;
} NodeList;

typedef struct Stream {
	bool blocking;         /* in order with the default stream */
	bool busy;             /* is doing something */
	Op *first, *last;
	struct Graph *capture;
	NodeList tail;         /* the nodes that the next one depends on */
	bool origin;
	struct Stream *next;
} Stream;

typedef struct Event {
	u64 recorded, done;    /* tickets */
	f64 seconds;
	Stream *stream;        /* of the last record */
	struct Graph *capture;
	NodeList nodes;
} Event;

extern Stream default_stream;
extern Stream *streams;    /* all others, in order of creation */
Stream *stream_of(CUstream handle); /* handles 0, 1 and 2 are the default stream */

typedef struct LoadedFunction {
	Kernel *kernel;
	struct LoadedModule *module;
} LoadedFunction;

typedef struct LoadedModule {
	Module m;
	char *text;
	LoadedFunction *function;
	u32 nfunction;
} LoadedModule;
#endif
