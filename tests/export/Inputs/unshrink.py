"""unshrink.py STORED ORIGINAL OUT: the weights that a file of `plinth export --store` stands for, in f32, as OUT; says
how far they are from ORIGINAL, and whether that is within half a step of what they are stored in."""

import json
import struct
import sys

import numpy

TYPES = {"F32": numpy.float32, "F16": numpy.float16, "BF16": numpy.uint16, "I8": numpy.int8, "U8": numpy.uint8}


def read(path):
    data = open(path, "rb").read()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    header.pop("__metadata__", None)
    return {
        k: (v["dtype"], numpy.frombuffer(data[8 + n + v["data_offsets"][0] : 8 + n + v["data_offsets"][1]], TYPES[v["dtype"]]).reshape(v["shape"]))
        for k, v in header.items()
    }


stored, original = read(sys.argv[1]), read(sys.argv[2])
out, fine, kinds = {}, True, set()
for name, (dtype, x) in stored.items():
    if name.endswith(".factor"):
        continue
    kinds.add(dtype)
    was = original[name][1]
    step = numpy.zeros_like(was)
    if dtype == "BF16":
        value = (x.astype(numpy.uint32) << 16).view(numpy.float32)
        step = abs(was) * 2.0**-7
    elif dtype == "F16":
        value = x.astype(numpy.float32)
        step = abs(was) * 2.0**-10 + 2.0**-24
    elif dtype in ("I8", "U8"):
        factor = stored[name + ".factor"][1].astype(numpy.float32)
        if dtype == "U8":  # of each group, its first half in the lower halves of bytes
            x = x.reshape(*factor.shape, -1)
            x = numpy.concatenate([x & 15, x >> 4], -1).reshape(was.shape).astype(numpy.float32) - 8
        q = x.astype(numpy.float32)
        factor = numpy.repeat(factor, was.shape[-1] // factor.shape[-1], -1)
        value = q * factor
        # the largest weight may be a step away: 7 where 8 was wanted, or by the factor's own rounding
        step = 2 * abs(factor) * (1.02 if dtype == "U8" else 0.6)
    else:
        value = x
    fine = fine and bool((abs(value - was) <= step / 2 + 1e-12).all()) and value.shape == was.shape
    out[name] = numpy.ascontiguousarray(value, numpy.float32)
header, data = {}, b""
for name, x in out.items():
    header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [len(data), len(data) + x.nbytes]}
    data += x.tobytes()
text = json.dumps(header).encode()
open(sys.argv[3], "wb").write(struct.pack("<Q", len(text)) + text + data)
print(" ".join(sorted(kinds)), "within half a step:", fine)
