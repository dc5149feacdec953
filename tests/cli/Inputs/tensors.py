"""tensors.py FILE: the tensors of a safetensors file. tensors.py FILE OUT OTHER NAME: writes OUT, which is FILE with one
tensor of OTHER. tensors.py FILE OUT --prefix TEXT: with TEXT before each name."""

import json
import struct
import sys


def read(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in header.items()}


tensors = read(sys.argv[1])
if len(sys.argv) == 2:
    for name in sorted(tensors):
        print(name, tensors[name][1])
else:
    if sys.argv[3] == "--prefix":
        tensors = {sys.argv[4] + name: t for name, t in tensors.items()}
    else:
        tensors[sys.argv[4]] = read(sys.argv[3])[sys.argv[4]]
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + body)
