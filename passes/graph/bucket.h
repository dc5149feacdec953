/* passes/graph/bucket.h: how large messages become when they are put together: see bucket.c. */
#ifndef PL_PASSES_BUCKET_H
#define PL_PASSES_BUCKET_H

/* Of whole tensors, as PyTorch's DDP: large enough to use a link's whole width, small enough to begin early. */
enum { BUCKET_BYTES = 25 << 20 };

#endif
