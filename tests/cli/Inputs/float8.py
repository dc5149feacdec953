"""Arrays for float8.test, and what must come of them. Values of 8 bits are written out by the OCP specification's definition:
1 sign, 4 or 5 bits of exponent with bias 7 or 15, 3 or 2 of fraction; largest 448 and 57344, beyond which it saturates."""
import json
import math
import random
import struct
import sys

SHAPE = {"e4m3": (4, 3, 7, 448.0), "e5m2": (5, 2, 15, 57344.0)}


def value(bits, kind):
    exponent_bits, fraction_bits, bias, _ = SHAPE[kind]
    exponent, fraction = (bits & 127) >> fraction_bits, bits & ((1 << fraction_bits) - 1)
    size = (fraction + (1 << fraction_bits)) * 2.0 ** (exponent - bias - fraction_bits) if exponent else \
        fraction * 2.0 ** (1 - bias - fraction_bits)
    return -size if bits & 128 else size


def rounded(x, kind):
    largest = SHAPE[kind][3]
    codes = [c for c in range(127) if value(c, kind) <= largest]
    size = min(abs(x), largest)
    best = min(codes, key=lambda c: (abs(value(c, kind) - size), c & 1))
    return math.copysign(value(best, kind), x)


def near(got, want):
    most = max(abs(v) for row in want for v in row)
    return all(abs(g - w) <= 1e-5 * most for a, b in zip(got, want) for g, w in zip(a, b))


def times(x, w):
    return [[sum(u * v for u, v in zip(row, column)) for column in w] for row in x]


random.seed(1)
a = [[random.randrange(0x7B) | 128 * random.randrange(2) for _ in range(6)] for _ in range(3)]
b = [[random.randrange(0x7E) for _ in range(6)] for _ in range(3)]
x = [[0.1, -3.3, 1.0625, 1.1875, 465, -1e9], [2.0 ** -10, 3 * 2.0 ** -10, 2.0 ** -17, -1e-4, 17, 60000]]
x = [[struct.unpack("f", struct.pack("f", v))[0] for v in row] for row in x]
if sys.argv[1] == "make":
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 6), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    open("x.npy", "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header +
                              b"".join(struct.pack("<f", v) for row in x for v in row))
    text = json.dumps({"a": {"dtype": "F8_E5M2", "shape": [3, 6], "data_offsets": [0, 18]},
                       "b": {"dtype": "F8_E4M3", "shape": [3, 6], "data_offsets": [18, 36]}}).encode()
    text += b" " * (-len(text) % 8)
    open("w.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + bytes(c for row in a + b for c in row))
else:
    got = json.load(open("y.json"))
    for kind in SHAPE:
        want = [[rounded(v, kind) for v in row] for row in x]
        same = all(math.isclose(g, w, rel_tol=1e-8) for u, v in zip(got[kind], want) for g, w in zip(u, v))  # of 9 digits
        assert same, (kind, got[kind], want)
    wide = times(x, [[value(c, "e5m2") for c in row] for row in a])
    narrow = times(got["e4m3"], [[value(c, "e4m3") for c in row] for row in b])
    assert near(got["wide"], wide), (got["wide"], wide)
    assert near(got["narrow"], narrow), (got["narrow"], narrow)
    saved = open("y.safetensors", "rb").read()
    header = json.loads(saved[8:8 + struct.unpack("<Q", saved[:8])[0]])
    assert [header[k]["dtype"] for k in ("e4m3", "e5m2")] == ["F8_E4M3", "F8_E5M2"], header
