"""use.py LIBRARY WEIGHTS: a library through ctypes, on NumPy's own memory."""

import ctypes
import math
import sys

import numpy

library = ctypes.CDLL(sys.argv[1])
library.tiny_workspace_bytes.restype = ctypes.c_size_t
model, why = ctypes.c_void_p(), ctypes.create_string_buffer(200)
if library.tiny_create(sys.argv[2].encode(), ctypes.byref(model), why, ctypes.c_size_t(200)):
    sys.exit(why.value.decode())
x = numpy.array([[1, 2, 3], [-1, -2, -3]], numpy.float32)
k = numpy.array([1, 2], numpy.int32)
y = numpy.zeros((2, 3), numpy.float32)


def at(array):
    return array.ctypes.data_as(ctypes.c_void_p)


size = library.tiny_workspace_bytes(model, 1)
room = numpy.empty(size + 64, numpy.uint8)
workspace = room[-room.ctypes.data % 64 :][:size]
assert library.tiny_forward(model, at(x), at(k), at(y), at(workspace), ctypes.c_size_t(size), None) == 0
w = numpy.arange(1, 10).reshape(3, 3) * 0.01
b = numpy.arange(1, 4) * 0.01
z = x.astype(float) @ w + b
expected = 0.5 * z * (1 + numpy.vectorize(math.erf)(z / math.sqrt(2))) * k[:, None]
print("largest difference is small:", bool(abs(y - expected).max() < 1e-6 * abs(expected).max()))
# what is written to x is what the library reads: nothing was copied
x[:] = 0
assert library.tiny_forward(model, at(x), at(k), at(y), at(workspace), ctypes.c_size_t(size), None) == 0
print("rows differ by the factor:", bool(numpy.allclose(2 * y[0], y[1])))
library.tiny_destroy(model)
