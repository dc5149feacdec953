"""use_sizes.py LIBRARY WEIGHTS: a library whose runs are given a size, at every size."""

import ctypes
import math
import sys

import numpy

from interface import Info

library = ctypes.CDLL(sys.argv[1])
library.tiny_workspace_bytes.restype = ctypes.c_size_t
library.tiny_error.restype = ctypes.c_char_p
library.tiny_describe.restype = ctypes.POINTER(Info)
model, why = ctypes.c_void_p(), ctypes.create_string_buffer(200)
if library.tiny_create(sys.argv[2].encode(), ctypes.byref(model), why, ctypes.c_size_t(200)):
    sys.exit(why.value.decode())
info = library.tiny_describe(model).contents
x = info.entry[0].input[0]
print(f"axes: {info.axis[0].name.decode()} 1 to {info.axis[0].most}; {x.name.decode()} is [{x.shape.decode()}]")


def at(array):
    return array.ctypes.data_as(ctypes.c_void_p)


w = numpy.arange(1, 10).reshape(3, 3) * 0.01
b = numpy.arange(1, 4) * 0.01
erf = numpy.vectorize(math.erf)
agrees, beyond = True, True
for rows in range(1, 41):
    x = numpy.linspace(-3, 3, rows * 3).reshape(rows, 3).astype(numpy.float32)
    k = (numpy.arange(rows).reshape(rows, 1) % 5).astype(numpy.int32)
    y = numpy.full((41, 3), 77, numpy.float32)
    size = library.tiny_workspace_bytes(model, ctypes.c_int64(rows), 1)
    room = numpy.empty(size + 64, numpy.uint8)
    workspace = room[-room.ctypes.data % 64 :][:size]
    assert library.tiny_forward(model, ctypes.c_int64(rows), at(x), at(k), at(y), at(workspace), ctypes.c_size_t(size), None) == 0
    z = x.astype(float) @ w + b
    expected = 0.5 * z * (1 + erf(z / math.sqrt(2))) * k
    agrees &= bool(abs(y[:rows] - expected).max() <= 1e-6 * max(1e-3, abs(expected).max()))
    beyond &= bool((y[rows:] == 77).all())
print("every size agrees:", agrees)
print("nothing is written behind the result:", beyond)
wrong = set()
for rows in 0, 41:
    assert library.tiny_workspace_bytes(model, ctypes.c_int64(rows), 1) == 0
    wrong.add(library.tiny_forward(model, ctypes.c_int64(rows), at(x), at(k), at(y), at(workspace), ctypes.c_size_t(size), None))
print("0 and 41:", *(library.tiny_error(code).decode() for code in wrong))
library.tiny_destroy(model)
