/* runtime/comm/queue.h: collectives that are under way: a thread of their own runs them, one behind the other in the order in
 * which they were begun, while whoever began them computes. */
#ifndef PL_COMM_QUEUE_H
#define PL_COMM_QUEUE_H
#include "codegen/package.h"

typedef struct Queue Queue;
/* Runs a collective to its end; slots are in `memory`. On the queue's thread. */
typedef Status SpeakFunction(void *cx, const PackageStep *step, u8 *memory);

PL_MUST_USE Status queue_open(SpeakFunction *speak, void *cx, Queue **out);
/* What is under way ends as soon as it asks queue_stops, and what has not begun does not; NULL is fine. */
void queue_close(Queue *q);
/* Whether the queue is to close: for those who wait in `speak`. */
bool queue_stops(Queue *q);

/* Does not wait, unless very many are under way. */
void queue_begin(Queue *q, const PackageStep *step, u8 *memory);
/* Until at most `left` of those that were begun are not done. After a failure nothing more is run, and each wait fails as that did. */
PL_MUST_USE Status queue_wait(Queue *q, u32 left);

#endif
