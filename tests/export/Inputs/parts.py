"""parts.py MODULES KERNELS: what exported parts of the tiny GPT-2 compute, against NumPy in f64."""

import ctypes
import json
import os
import struct
import sys

import numpy


def weights(path):
    data = open(path, "rb").read()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    return {
        k: numpy.frombuffer(data, numpy.float32, offset=8 + n + v["data_offsets"][0], count=int(numpy.prod(v["shape"]))).reshape(v["shape"])
        for k, v in header.items()
        if k != "__metadata__"
    }


class Library:
    def __init__(self, folder):
        self.lib = ctypes.CDLL(os.path.join(folder, "libgpt2.so"))
        self.lib.gpt2_workspace_bytes.restype = ctypes.c_size_t
        path = os.path.join(folder, "weights.safetensors")
        self.model, why = ctypes.c_void_p(), ctypes.create_string_buffer(200)
        path = path.encode() if os.path.exists(path) else None
        if self.lib.gpt2_create(path, ctypes.byref(self.model), why, ctypes.c_size_t(200)):
            sys.exit(why.value.decode())

    def call(self, name, inputs, results):
        size = self.lib.gpt2_workspace_bytes(self.model, 1)
        room = numpy.empty(size + 64, numpy.uint8)
        workspace = room[-room.ctypes.data % 64 :][:size]
        at = lambda a: a.ctypes.data_as(ctypes.c_void_p)
        code = getattr(self.lib, "gpt2_" + name)(self.model, *[at(a) for a in inputs + results], at(workspace), ctypes.c_size_t(size), None)
        assert code == 0, code


def normal(x, w, b):
    m = x.mean(-1, keepdims=True)
    return (x - m) / numpy.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + 1e-5) * w + b


def gelu(x):
    return 0.5 * x * (1 + numpy.tanh(numpy.sqrt(2 / numpy.pi) * (x + 0.044715 * x**3)))


def block(x, w, path):
    w = {k[len(path) + 1 :]: v.astype(float) for k, v in w.items() if k.startswith(path + ".")}
    B, T, D = x.shape
    heads = 4
    a = normal(x, w["ln_1.weight"], w["ln_1.bias"]) @ w["attn.c_attn.weight"] + w["attn.c_attn.bias"]
    q, k, v = [p.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3) for p in numpy.split(a, 3, -1)]
    s = q @ k.transpose(0, 1, 3, 2) / numpy.sqrt(D // heads)
    s = numpy.where(numpy.tril(numpy.ones((T, T))) > 0, s, -numpy.inf)
    p = numpy.exp(s - s.max(-1, keepdims=True))
    y = (p / p.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(B, T, D)
    x = x + y @ w["attn.c_proj.weight"] + w["attn.c_proj.bias"]
    h = gelu(normal(x, w["ln_2.weight"], w["ln_2.bias"]) @ w["mlp.c_fc.weight"] + w["mlp.c_fc.bias"])
    return x + h @ w["mlp.c_proj.weight"] + w["mlp.c_proj.bias"]


def near(a, b):
    return bool(abs(a - b).max() <= 1e-5 * abs(b).max())


r = numpy.random.default_rng(1)
x = r.standard_normal((2, 8, 32)).astype(numpy.float32)
y = numpy.zeros_like(x)
w = weights(os.path.join(sys.argv[1], "weights.safetensors"))
print("weights:", all(k.startswith(("h.0.", "h.1.mlp.")) for k in w))
modules = Library(sys.argv[1])
modules.call("h_0", [x], [y])
print("block:", near(y, block(x.astype(float), w, "h.0")))
modules.call("h_1_mlp", [x], [y])
m = {k[8:]: v.astype(float) for k, v in w.items() if k.startswith("h.1.mlp.")}
print("mlp:", near(y, gelu(x.astype(float) @ m["c_fc.weight"] + m["c_fc.bias"]) @ m["c_proj.weight"] + m["c_proj.bias"]))
mean, scale = numpy.zeros((2, 8), numpy.float32), numpy.zeros((2, 8), numpy.float32)
Library(sys.argv[2]).call("h_1_ln_2_sum", [x], [mean, scale])
print("kernel:", near(mean, x.astype(float).mean(-1)), near(scale, 1 / numpy.sqrt(x.astype(float).var(-1) + 1e-5)))
