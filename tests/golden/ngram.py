"""Modified Kneser-Ney as Chen and Goodman (1998) define it, by sets and loops: slow, and plainly right.

    ngram.py ORDER FILE

prints the bits per character of the last tenth of FILE, trained on the rest; tests/CMakeLists.txt holds
what it says of a small file, and benchmarks/demo/ngram.c must say the same.
"""

import math
import sys
from collections import defaultdict


def count(text, order):
    """By length, how often each string of ORDER characters occurs, and in how many contexts each
    shorter one does."""
    counts = {order: defaultdict(int)}
    for end in range(order, len(text) + 1):
        counts[order][text[end - order:end]] += 1
    for length in range(order - 1, 0, -1):
        before = defaultdict(set)
        for gram in counts[length + 1]:
            before[gram[1:]].add(gram[0])
        counts[length] = {gram: len(found) for gram, found in before.items()}
    return counts


def discounts(counts):
    n = [sum(1 for c in counts.values() if c == k) for k in range(5)]
    y = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
    d = [k - (k + 1) * y * n[k + 1] / n[k] if n[k] else y * k for k in (1, 2, 3)]
    return [0] + [min(max(x, 0.1), k + 1) for k, x in enumerate(d)]


def probability(counts, context, character):
    p = 1 / 256
    for length in range(1, len(counts) + 1):
        start = context[len(context) - (length - 1):]
        children = {g: c for g, c in counts[length].items() if g[:-1] == start}
        if not children:
            break
        d = discounts(counts[length])
        c, total = children.get(start + character, 0), sum(children.values())
        p = (c - d[min(c, 3)] + p * sum(d[min(c, 3)] for c in children.values())) / total
    return p


if __name__ == "__main__":
    order, text = int(sys.argv[1]), open(sys.argv[2], "rb").read()
    split = len(text) * 9 // 10
    counts = count(text[:split], order)
    every = sum(probability(counts, text[split - order:split], bytes([c])) for c in range(256))
    assert abs(every - 1) < 1e-12
    bits = sum(-math.log2(probability(counts, text[i - order:i], text[i:i + 1]))
               for i in range(split, len(text)))
    print(f"{bits / (len(text) - split):.4f} bits per character")
