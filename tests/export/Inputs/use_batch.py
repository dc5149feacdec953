"""use_batch.py KEPT WHOLE: the tiny GPT-2 with keys and values kept, the number of texts and of tokens given to runs, against the
whole of each text computed anew."""

import ctypes
import os
import sys

import numpy

p, n, i = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
VOCABULARY, LONGEST = 101, 24
kept, whole = [ctypes.CDLL(os.path.join(folder, "libgpt2.so")) for folder in sys.argv[1:3]]
weights = os.path.join(sys.argv[1], "weights.safetensors").encode()
model = {}
for library in kept, whole:
    library.gpt2_workspace_bytes.restype = library.gpt2_state_bytes.restype = n
    library.gpt2_error.restype = ctypes.c_char_p
    model[library] = p()
    assert library.gpt2_create(weights, ctypes.byref(model[library]), None, n(0)) == 0


def aligned(size):
    room = numpy.zeros(size + 64, numpy.uint8)
    return room[-room.ctypes.data % 64 :][:size]


def at(array):
    return array.ctypes.data_as(p)


def run(library, function, batch, length, *arrays):
    room = aligned(library.gpt2_workspace_bytes(model[library], i(batch), i(length), 1))
    return getattr(library, function)(model[library], i(batch), i(length), *map(at, arrays), at(room), n(room.nbytes), None)


def number(x):
    return numpy.array(x, numpy.int32)


state = aligned(kept.gpt2_state_bytes(model[kept]))
off = 0
for batch, pieces in (4, [16, 8]), (1, [5, 1, 7]), (3, [1, 16]), (2, [7, 7, 7]):
    tokens = ((numpy.arange(batch * LONGEST) * 37 + 5) % VOCABULARY).astype(numpy.int32).reshape(batch, LONGEST)
    want = numpy.empty((batch, LONGEST, VOCABULARY), numpy.float32)
    assert run(whole, "gpt2_forward", batch, LONGEST, tokens, want) == 0
    got, past = numpy.empty((batch, 1, VOCABULARY), numpy.float32), 0
    for length in pieces:
        piece = numpy.ascontiguousarray(tokens[:, past : past + length])
        assert run(kept, "gpt2_prefill", batch, length, number(past), number(length - 1), piece, got, state) == 0
        past += length
        off = max(off, abs(got[:, 0] - want[:, past - 1]).max())
    while past < LONGEST:
        assert run(kept, "gpt2_step", batch, 1, number(past), numpy.ascontiguousarray(tokens[:, past]), got, state) == 0
        past += 1
        off = max(off, abs(got[:, 0] - want[:, past - 1]).max())
    assert abs(want).max() > 0.1
print("the same as computed anew:", bool(off < 1e-5))
code = kept.gpt2_step(model[kept], i(5), i(1), at(number(0)), at(tokens), at(got), at(state), at(state), n(state.nbytes), None)
print("5 texts:", kept.gpt2_error(code).decode())
