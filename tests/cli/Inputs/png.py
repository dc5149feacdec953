"""png.py FILE: width, height and the bytes of a grey PNG picture."""

import struct
import sys
import zlib

data, at, body = open(sys.argv[1], "rb").read(), 8, b""
while at < len(data):
    n, kind = struct.unpack(">I4s", data[at:at + 8])
    if kind == b"IHDR":
        width, height = struct.unpack(">II", data[at + 8:at + 16])
    body += data[at + 8:at + 8 + n] if kind == b"IDAT" else b""
    at += 12 + n
rows, above, out = zlib.decompress(body), [0] * width, []
for y in range(height):
    kind, *row = rows[y * (width + 1):(y + 1) * (width + 1)]
    for x in range(width):
        left, up, corner = row[x - 1] if x else 0, above[x], above[x - 1] if x else 0
        near = min((abs(up - corner), 0, left), (abs(left - corner), 1, up), (abs(left + up - 2 * corner), 2, corner))[2]
        row[x] = (row[x] + (0, left, up, (left + up) // 2, near)[kind]) % 256
    above = row
    out += row
print(width, height, out)
