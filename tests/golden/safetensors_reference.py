"""Makes safetensors_reference.safetensors with the reference library, and checks a file of Plinth's.

    python safetensors_reference.py             writes the golden beside this script
    python safetensors_reference.py FILE        opens FILE with the library and compares it with the
                                                same tensors (test_safetensors writes such a file when
                                                PLINTH_REFERENCE_OUT names it)

Made with safetensors 0.8.0, torch 2.15.0+cu132. Values are small integers and fractions, so that each dtype holds
them exactly; the test knows them by formula.
"""

import os
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def tensors():
    ramp = torch.arange(24, dtype=torch.float64) - 8
    made = {
        "f64": (ramp / 4).reshape(2, 3, 4),
        "f32": (ramp / 4).float().reshape(4, 6),
        "f16": (ramp / 4).half().reshape(24),
        "bf16": (ramp / 4).bfloat16().reshape(2, 12),
        "i64": ramp.long() * 3,
        "i32": ramp.int().reshape(3, 8),
        "i16": ramp.short(),
        "i8": ramp.char(),
        "u8": (ramp + 8).byte(),
        "bool": ramp % 2 == 0,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        'naïve "name"': torch.ones(1),
    }
    return made


def main():
    if len(sys.argv) == 1:
        here = os.path.dirname(os.path.abspath(__file__))
        save_file(tensors(), os.path.join(here, "safetensors_reference.safetensors"),
                  metadata={"format": "pt", "note": "a reference"})
        return
    found = load_file(sys.argv[1])
    for name, want in tensors().items():
        got = found.pop(name)
        assert got.dtype == want.dtype and got.shape == want.shape, name
        assert torch.equal(got, want), name
    assert not found, found.keys()
    with safe_open(sys.argv[1], "pt") as f:
        assert f.metadata()["note"] == "a reference"
    print("equal")


if __name__ == "__main__":
    main()
