/* runtime/data/unpack.h: data files as they are or compressed by gzip, which their first two bytes say, whatever their names. What is
 * compressed is unpacked once, into a file without a name in $TMPDIR (or /tmp), and mapped like any other: a corpus is gone through
 * several times, and may be larger than memory. Its checksums must hold. */
#ifndef PL_DATA_UNPACK_H
#define PL_DATA_UNPACK_H
#include "support/io.h"

/* io_map; the bytes are those that were compressed. */
PL_MUST_USE Status unpack_map(const char *path, Mapping *out);
/* The same of what was read already (standard input); `bytes` as they are where they are not compressed. */
PL_MUST_USE Status unpack_bytes(const char *path, Blob bytes, Mapping *scratch, Blob *out);

#endif
