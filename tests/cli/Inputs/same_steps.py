# same_steps.py A B: are the steps of two runs (`plinth train --json`) the same but for rounding? Exits with 1 if not.
import json
import sys


def steps(path):
    with open(path) as f:
        return [(s["train_loss"], s["gradient_norm"]) for s in map(json.loads, f)]


a, b = (steps(path) for path in sys.argv[1:])
assert len(a) == len(b) > 0
sys.exit(any(abs(x - y) > 1e-5 * abs(x) for one, other in zip(a, b) for x, y in zip(one, other)))
