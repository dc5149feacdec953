"""One linear layer forwards and backwards with operands of 8 bits, by NumPy and ml_dtypes: what `scaled_dot` is compared with.

Written after the recipe, not after Plinth: each tensor is scaled by 2 ** floor(log2(largest of the type / its largest
magnitude)), rounded to e4m3 (values, weights) or e5m2 (cotangents), multiplied, and the product divided by both scales.
Results are sums in f64. Writes float8.safetensors beside this file: README.md says what is in it."""
import json
import pathlib

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

TYPES = {"f8e4m3": (ml_dtypes.float8_e4m3fn, 448.0), "f8e5m2": (ml_dtypes.float8_e5m2, 57344.0)}
rng = np.random.default_rng(5)
tensors, cases = {}, {}


def rounded(x, kind):
    """What the scaled and rounded x stands for, and what it was scaled by."""
    dtype, largest = TYPES[kind]
    most = max(float(np.abs(x).max()), 2.0 ** -60)
    scale = 2.0 ** np.floor(np.log2(largest / most))
    y = np.float32(x * scale).astype(dtype).astype(np.float64)
    assert np.isfinite(y).all() and np.abs(y).max() <= largest
    return y, scale


def product(spec, a, kind_a, b, kind_b):
    (p, s), (q, t) = rounded(a, kind_a), rounded(b, kind_b)
    return np.einsum(spec, p, q) / (s * t)


def case(name, spec, x, w, dy):
    """x[.., i] w -> y by an einsum; all inputs are values of bf16."""
    x, w, dy = (np.float32(t).astype(ml_dtypes.bfloat16).astype(np.float64) for t in (x, w, dy))
    a, rest = spec.split(",")
    b, c = rest.split("->")
    tensors.update({f"{name}/in0": x, f"{name}/in1": w, f"{name}/dout0": dy,
                    f"{name}/out0": product(spec, x, "f8e4m3", w, "f8e4m3"),
                    f"{name}/din0": product(f"{c},{b}->{a}", dy, "f8e5m2", w, "f8e4m3"),
                    f"{name}/din1": product(f"{a},{c}->{b}", x, "f8e4m3", dy, "f8e5m2")})
    cases[name] = {"op": "scaled_dot", "attributes": {"spec": spec}}


def normal(*shape, scale=1.0):
    return scale * rng.standard_normal(shape)


case("linear", "bti,io->bto", normal(2, 12, 32), normal(32, 48, scale=0.02), normal(2, 12, 48, scale=1e-4))
case("turned", "mi,oi->mo", normal(24, 32, scale=30), normal(48, 32), normal(24, 48, scale=1e-9))
case("wide", "mi,io->mo", np.exp(normal(16, 16, scale=6)) * np.sign(normal(16, 16)), normal(16, 16) * 1e-3, np.exp(normal(16, 16, scale=8)))
case("edge", "mi,io->mo", np.full((16, 16), 448.0), np.full((16, 16), -1.75), np.full((16, 16), 57344.0))
case("zeros", "mi,io->mo", np.zeros((16, 16)), normal(16, 16), np.zeros((16, 16)))

metadata = {name: json.dumps(meta) for name, meta in cases.items()}
metadata["versions"] = json.dumps({"numpy": np.__version__, "ml_dtypes": ml_dtypes.__version__})
save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, pathlib.Path(__file__).with_suffix(".safetensors"), metadata)
