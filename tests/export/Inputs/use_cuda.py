"""use_cuda.py GPU CPU: the tiny GPT-2 as a library for GPUs, on a stream made by the driver, against the library for CPUs."""

import ctypes
import os
import sys

import numpy

p = ctypes.c_void_p
n = ctypes.c_size_t
driver = ctypes.CDLL(os.environ["PLINTH_LIBCUDA"])
gpu, cpu = [ctypes.CDLL(os.path.join(f, "libgpt2.so")) for f in sys.argv[1:3]]
for lib in (gpu, cpu):
    lib.gpt2_workspace_bytes.restype = lib.gpt2_state_bytes.restype = n
weights = os.path.join(sys.argv[1], "weights.safetensors").encode()
why = ctypes.create_string_buffer(300)
g, c = p(), p()
assert gpu.gpt2_create(weights, 7, ctypes.byref(g), why, n(300)) == 4
print(why.value.decode())
if gpu.gpt2_create(weights, 0, ctypes.byref(g), why, n(300)) or cpu.gpt2_create(weights, ctypes.byref(c), why, n(300)):
    sys.exit(why.value.decode())
stream = p()
assert driver.cuStreamCreate(ctypes.byref(stream), 1) == 0


def memory(size):
    out = p()
    assert gpu.gpt2_memory(g, n(size), ctypes.byref(out)) == 0
    return out


def host(array):
    return array.ctypes.data_as(p)


tokens = (numpy.arange(8, dtype=numpy.int32) * 37 + 5) % 101
size = gpu.gpt2_workspace_bytes(g)
state, workspace = memory(gpu.gpt2_state_bytes(g)), memory(size)
room = numpy.zeros(cpu.gpt2_workspace_bytes(c, 1) + 64, numpy.uint8)
room = room[-room.ctypes.data % 64 :][: cpu.gpt2_workspace_bytes(c, 1)]
kept = numpy.zeros(cpu.gpt2_state_bytes(c) + 64, numpy.uint8)
kept = kept[-kept.ctypes.data % 64 :][: cpu.gpt2_state_bytes(c)]
on_gpu, on_cpu = numpy.zeros(101, numpy.float32), numpy.zeros(101, numpy.float32)
places = {k: memory(v) for k, v in {"past": 4, "last": 4, "tokens": 32, "logits": 404}.items()}
fine = True
for name, past, values in (("prefill", 0, tokens), ("step", 8, tokens[:1]), ("step", 9, tokens[1:2])):
    past, last, values = numpy.array(past, numpy.int32), numpy.array(7, numpy.int32), values.copy()
    given = [("past", past)] + ([("last", last)] if name == "prefill" else []) + [("tokens", values)]
    for k, v in given:
        assert gpu.gpt2_upload(g, places[k], host(v), n(v.nbytes), stream) == 0
    arguments = [places[k] for k, _ in given] + [places["logits"], state, workspace, n(size), stream]
    assert getattr(gpu, "gpt2_" + name)(g, *arguments) == 0
    assert gpu.gpt2_download(g, host(on_gpu), places["logits"], n(404), stream) == 0
    arguments = [host(v) for _, v in given] + [host(on_cpu), host(kept), host(room), n(room.nbytes), None]
    assert getattr(cpu, "gpt2_" + name)(c, *arguments) == 0
    fine = fine and bool(abs(on_gpu - on_cpu).max() <= 1e-5 * abs(on_cpu).max() and abs(on_cpu).max() > 0.1)
print("the same as on the CPU:", fine)
assert gpu.gpt2_step(g, places["past"], p(places["tokens"].value + 4), places["logits"], state, workspace, n(size), stream) == 1
gpu.gpt2_destroy(g)
