"""A parameter f8e5m2[33, 40] of every byte, and whether what was written of it is its transpose, bit by bit: infinity is one of the
type's values. NaN has several patterns, of which any will do."""
import json
import struct
import sys

ROWS, COLUMNS = 33, 40
data = bytes(i * 7 % 256 for i in range(ROWS * COLUMNS))
if sys.argv[1] == "make":
    text = json.dumps({"a": {"dtype": "F8_E5M2", "shape": [ROWS, COLUMNS], "data_offsets": [0, len(data)]}}).encode()
    text += b" " * (-len(text) % 8)
    open("a.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
else:
    saved = open(sys.argv[2], "rb").read()
    n = struct.unpack("<Q", saved[:8])[0]
    first, last = json.loads(saved[8:8 + n])["turned"]["data_offsets"]
    turned = saved[8 + n + first:8 + n + last]
    want = bytes(data[row * COLUMNS + column] for column in range(COLUMNS) for row in range(ROWS))
    is_nan = lambda c: c & 0x7F > 0x7C
    assert len(turned) == len(want) and all(a == b or (is_nan(a) and is_nan(b)) for a, b in zip(turned, want)), turned
