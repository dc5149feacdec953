"""rows.py FOLDER: safetensors files of rows, r.train and r.val, and wrong ones; prints the mean square of r.val as rows.plinth has it."""
import json
import struct
import sys


def write(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, form, values) in tensors.items():
        part = struct.pack(f"<{len(values)}{form}", *values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)


def rows(n):
    x = [0.5 * (i * 7 % 5) - 1 for i in range(3 * n)]
    return {"x": ("F64", [n, 3], "d", x), "place": ("I64", [n, 2], "q", [i % 4 for i in range(2 * n)]),
            "y": ("F32", [n], "f", [0.25 * i for i in range(n)]), "label": ("I64", [n], "q", [1 + i % 2 for i in range(n)])}


folder = sys.argv[1]
write(f"{folder}/r.train.safetensors", rows(8))
write(f"{folder}/r.val.safetensors", rows(5))
write(f"{folder}/large.train.safetensors", {**rows(8), "place": ("I64", [8, 2], "q", [1 << 31] * 16)})
write(f"{folder}/uneven.train.safetensors", {**rows(8), "y": ("F32", [7], "f", [0.0] * 7)})
write(f"{folder}/kind.train.safetensors", {**rows(8), "y": ("I32", [8], "i", [0] * 8)})
write(f"{folder}/lacks.train.safetensors", {k: v for k, v in rows(8).items() if k != "y"})
val = rows(5)
x, y = val["x"][3], val["y"][3]
print("%.5f" % (sum((sum(x[3 * i:3 * i + 3]) - y[i]) ** 2 for i in range(5)) / 5))
