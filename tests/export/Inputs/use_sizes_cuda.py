"""use_sizes_cuda.py GPU CPU: the tiny GPT-2 as a library for GPUs whose runs are given sizes, keys and values kept, beside the
library for CPUs."""

import ctypes
import os
import sys

import numpy

p, n, i = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
gpu, cpu = [ctypes.CDLL(os.path.join(folder, "libgpt2.so")) for folder in sys.argv[1:3]]
for library in gpu, cpu:
    library.gpt2_workspace_bytes.restype = library.gpt2_state_bytes.restype = n
    library.gpt2_error.restype = ctypes.c_char_p
weights = os.path.join(sys.argv[1], "weights.safetensors").encode()
why, g, c = ctypes.create_string_buffer(300), p(), p()
if gpu.gpt2_create(weights, 0, ctypes.byref(g), why, n(300)) or cpu.gpt2_create(weights, ctypes.byref(c), why, n(300)):
    sys.exit(why.value.decode())


def memory(size):
    out = p()
    assert gpu.gpt2_memory(g, n(size), ctypes.byref(out)) == 0
    return out


def aligned(size):
    room = numpy.zeros(size + 64, numpy.uint8)
    return room[-room.ctypes.data % 64 :][:size]


def host(array):
    return array.ctypes.data_as(p)


state, kept = memory(gpu.gpt2_state_bytes(g)), aligned(cpu.gpt2_state_bytes(c))
off = most = 0
for batch, lengths in (3, [5, 1, 1]), (1, [1, 8]), (4, [8, 2]):
    past = 0
    for step, length in enumerate(lengths):
        entry = "prefill" if step == 0 or length > 1 else "step"
        tokens = ((numpy.arange(batch * length, dtype=numpy.int32) * 37 + 5 + past) % 101).reshape(batch, length)
        given = [numpy.array(past, numpy.int32)] + ([numpy.array(length - 1, numpy.int32)] if entry == "prefill" else []) + [tokens]
        logits = [numpy.zeros((batch, 101), numpy.float32) for _ in range(2)]
        size = gpu.gpt2_workspace_bytes(g, i(batch), i(length))
        places = [memory(x.nbytes) for x in given + logits[:1]]
        for place, x in zip(places, given):
            assert gpu.gpt2_upload(g, place, host(x), n(x.nbytes), None) == 0
        assert getattr(gpu, "gpt2_" + entry)(g, i(batch), i(length), *places, state, memory(size), n(size), None) == 0
        assert gpu.gpt2_download(g, host(logits[0]), places[-1], n(logits[0].nbytes), None) == 0
        room = aligned(cpu.gpt2_workspace_bytes(c, i(batch), i(length), 1))
        rest = [host(x) for x in given + logits[1:]] + [host(kept), host(room), n(room.nbytes), None]
        assert getattr(cpu, "gpt2_" + entry)(c, i(batch), i(length), *rest) == 0
        off, most = max(off, abs(logits[0] - logits[1]).max()), max(most, abs(logits[1]).max())
        past += length
print("the same as on the CPU:", bool(off <= 1e-5 * most and most > 0.1))
assert gpu.gpt2_workspace_bytes(g, i(5), i(1)) == 0
print("5 texts:", gpu.gpt2_error(gpu.gpt2_step(g, i(5), i(1), *places, state, state, n(size), None)).decode())
gpu.gpt2_destroy(g)
