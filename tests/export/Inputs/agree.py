"""agree.py A B [MOST]: do two results of `plinth run --json` agree, to MOST (1e-5) of the largest number? NAME.f32: as numbers' bytes."""

import json
import sys

import numpy


def numbers(x):
    if isinstance(x, dict):
        return [y for v in x.values() for y in numbers(v)]
    if isinstance(x, list):
        return [y for v in x for y in numbers(v)]
    return [float(x)] if isinstance(x, (int, float)) else []


def result(path):
    return numpy.fromfile(path, numpy.float32) if path.endswith(".f32") else numpy.array(numbers(json.load(open(path))))


a, b = map(result, sys.argv[1:3])
most = float(sys.argv[3]) if len(sys.argv) > 3 else 1e-5
if a.shape != b.shape or not a.size or not abs(a).max() > 0 or not abs(a - b).max() <= most * abs(a).max():
    sys.exit(f"{a.shape} and {b.shape} differ by {abs(a - b).max() if a.shape == b.shape else 'their shapes'}")
