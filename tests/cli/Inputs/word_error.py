# word_error.py WRITTEN PAIRS: which share of what `plinth generate --prompts` wrote is not what the pairs say.
import sys

with open(sys.argv[1]) as f:
    written = f.read().removesuffix("\n").split("\n-----\n")
with open(sys.argv[2]) as f:
    meant = [line.rstrip("\n").split("\t")[1] for line in f]
assert len(written) == len(meant)
print(f"generated {sum(a != b for a, b in zip(written, meant)) / len(meant):.5f}")
