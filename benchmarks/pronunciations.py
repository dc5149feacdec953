#!/usr/bin/env python3
"""An n-gram model's word error on the words that scripts/pronunciations holds out: a yardstick for models/t5.plinth.

  scripts/pronunciations cmu
  benchmarks/pronunciations.py cmu [--words N] [--context N]

Each letter becomes none, one or two phones. Letters and phones are aligned by expectation maximization over the training
words (as in Black, Lenzo and Pagel 1998); then a letter's phones are those seen most often in its context: the letters
around it and the phones said so far, as wide as was ever seen in training, narrower where it was not. A word is wrong
when any of its phones is.
"""
import argparse
import collections
import math
import sys


def read(path, most=None):
    with open(path, encoding="ascii") as f:
        return [(a.split(), tuple(b.split())) for a, b in (line.rstrip("\n").split("\t") for line in f)][:most]


def align(letters, phones, score):
    """The best way to cut the phones into one piece of at most two for each letter; None where there is none."""
    n, m = len(letters), len(phones)
    best = [{0: (0.0, None)}]
    for i, letter in enumerate(letters):
        row = {}
        for j, (s, _) in best[-1].items():
            for k in range(0, 3):
                if j + k > m or m - j - k > 2 * (n - i - 1):
                    continue
                now = s + score(letter, phones[j:j + k])
                if j + k not in row or now > row[j + k][0]:
                    row[j + k] = (now, j)
        best.append(row)
    if m not in best[n]:
        return None
    pieces, j = [], m
    for i in range(n, 0, -1):
        before = best[i][j][1]
        pieces.append(phones[before:j])
        j = before
    return pieces[::-1]


def contexts(letters, i, said, widest):
    """From wide to narrow: letters on both sides, and the last phones."""
    padded = ["^"] * widest + letters + ["$"] * widest
    at = i + widest
    for w in range(widest, -1, -1):
        around = tuple(padded[at - w:at + w + 1])
        yield ("both", around, said[-2:])
        yield ("letters", around)
        if w:
            yield ("left", tuple(padded[at - w + 1:at + w + 1]))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("prefix")
    p.add_argument("--words", type=int, help="learn from so many alone")
    p.add_argument("--context", type=int, default=4)
    p.add_argument("--rounds", type=int, default=4)
    o = p.parse_args()
    train, held = read(f"{o.prefix}.train.tsv", o.words), read(f"{o.prefix}.val.tsv")
    table = {}

    def score(letter, piece):
        if not table:
            return -0.5 * abs(len(piece) - 1)
        return table.get((letter, piece), -20.0)
    for _ in range(o.rounds):
        counts = collections.Counter()
        aligned = []
        for letters, phones in train:
            pieces = align(letters, phones, score)
            if pieces:
                aligned.append((letters, pieces))
                counts.update(zip(letters, pieces))
        total = collections.Counter()
        for (letter, _), n in counts.items():
            total[letter] += n
        table = {k: math.log(n / total[k[0]]) for k, n in counts.items()}
    seen = collections.defaultdict(collections.Counter)
    for letters, pieces in aligned:
        said = ()
        for i, piece in enumerate(pieces):
            for c in contexts(letters, i, said, o.context):
                seen[c][piece] += 1
            said += piece
    choice = {c: max(n.items(), key=lambda x: (x[1], x[0]))[0] for c, n in seen.items()}
    wrong = 0
    for letters, phones in held:
        said = ()
        for i in range(len(letters)):
            said += next((choice[c] for c in contexts(letters, i, said, o.context) if c in choice), ())
        wrong += said != phones
    print(f"{len(aligned)} of {len(train)} words aligned; word error {wrong / len(held):.4f} of {len(held)} held out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
