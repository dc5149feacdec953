# run.py make|check|texts: arrays for tests/cli/run.test, and what `plinth run` must give for them.
import json
import struct
import sys

import numpy as np


def read(path):
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    return {k: np.frombuffer(data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]], {"F32": "<f4"}[v["dtype"]]).reshape(v["shape"])
            for k, v in json.loads(data[8:8 + n]).items() if k != "__metadata__"}


def write(path, name, x):
    header = json.dumps({name: {"dtype": "F32", "shape": x.shape, "data_offsets": [0, x.nbytes]}}).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + x.tobytes())


if sys.argv[1] == "make":
    x = np.random.default_rng(1).random((5, 1, 6, 6))
    np.save("x.npy", x)  # f64, which the model's f32 is made of
    np.save("flat.npy", x.astype("f4").reshape(5, 36))
    np.save("wide.npy", np.zeros((5, 1, 6, 7), "f4"))
    write("x.safetensors", "images", x.astype("<f4"))
    with open("x.npy", "rb") as f, open("short.npy", "wb") as g:
        g.write(f.read() + b"more")
elif sys.argv[1] == "check":
    x = np.load("x.npy").reshape(5, 36)
    with open("trained/latest") as f:
        w = read(f"trained/{f.read().strip()}/model.safetensors")
    y = x.astype("f4").astype("f8") @ w["head.weight"].T.astype("f8") + w["head.bias"]
    with open("y.json") as f:
        a = np.array(json.load(f)["output"])
    b = read("y.safetensors")["output"]
    assert a.shape == b.shape == (5, 3) and (a.astype("f4") == b).all()
    assert np.abs(a - y).max() < 1e-5 * np.abs(y).max(), np.abs(a - y).max()
else:
    both, first, second = (np.array(json.load(open(f"{n}.json"))["output"]) for n in ("both", "first", "second"))
    assert both.shape[:2] == (2, 7) and first.shape[:2] == (1, 7) and second.shape[:2] == (1, 3)
    scale = np.abs(both).max()
    assert np.abs(both[0] - first[0]).max() < 1e-5 * scale and np.abs(both[1, :3] - second[0]).max() < 1e-5 * scale
