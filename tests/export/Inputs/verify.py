"""verify.py LIBRARY WEIGHTS|-: what NAME_verify says of a weights file, and of one with a byte changed in each of its tensors;
-: of the weights in the library."""

import ctypes
import json
import struct
import sys

library = ctypes.CDLL(sys.argv[1])
why = ctypes.create_string_buffer(300)


def verify(path):
    code = library.tiny_verify(path and path.encode(), why, ctypes.c_size_t(300))
    return code, why.value.decode()


if sys.argv[2] == "-":
    print(*verify(None))
    sys.exit()
print(*verify(sys.argv[2]))
data = open(sys.argv[2], "rb").read()
(n,) = struct.unpack_from("<Q", data)
for name, tensor in sorted(json.loads(data[8:8 + n]).items()):
    if name != "__metadata__":
        changed = bytearray(data)
        changed[8 + n + tensor["data_offsets"][1] - 1] ^= 1
        open(sys.argv[2] + ".changed", "wb").write(changed)
        print(*verify(sys.argv[2] + ".changed"))
for most in (len(data) - 1, 8 + n // 2, 4):
    open(sys.argv[2] + ".changed", "wb").write(data[:most])
    print(*verify(sys.argv[2] + ".changed"))
