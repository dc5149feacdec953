#!/usr/bin/env python3
"""Ids of Plinth beside those of Hugging Face's tokenizers on 10 MB of text in several scripts.

  apt-get install manpages-ja manpages-zh manpages-ru manpages-de hunspell-hi hunspell-ar hunspell-ko hunspell-th
  pip install tokenizers==0.23.3 sentencepiece==0.2.3
  benchmarks/tokenizers/compare.py build/plinth [FILE...]

Without FILEs: the kinds of tests/golden/published_tokenizers.py, each trained on a part of the text; with them: these tokenizer.json
files. Each line is a text, with its special tokens; then the whole text is one. Says how many texts differ, and the first
that does; exits with 1 if any does. --root DIR finds the packages unpacked there (dpkg -x).
"""
import argparse
import glob
import gzip
import os
import random
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "golden"))
import published_tokenizers as published  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402


def gather(root):
    """About 10 MB: manual pages, words of spelling dictionaries, every character there is, and random ones."""
    draw = random.Random(1)
    parts = []
    for language in ("ja", "zh_CN", "ru", "de"):
        pages = sorted(glob.glob(f"{root}/usr/share/man/{language}/man[1-8]/*.gz"))
        text = ""
        for page in pages:
            if len(text) > 1_000_000:
                break
            with gzip.open(page, "rt", encoding="utf-8", errors="ignore") as f:
                text += f.read()
        parts.append(text)
    for language in ("hi_IN", "ar", "ko_KR", "th_TH"):
        for path in glob.glob(f"{root}/usr/share/hunspell/{language}.dic"):
            with open(path, encoding="utf-8", errors="ignore") as f:
                found = [line.split("/")[0].strip() for line in f][1:]
            draw.shuffle(found)
            parts.append("".join(w + draw.choice([" ", " ", ", ", ". ", "\n", "  "]) for w in found[:40_000]))
    parts.append("".join(chr(c) + draw.choice(["", " ", "a", "\n"]) for c in range(1, 0x20000) if not 0xd800 <= c < 0xe000))
    odd = [(32, 127), (32, 0x250), (32, 0x3000), (0x1f300, 0x1fa00), (0x300, 0x370), (0x200b, 0x2030), (9, 33)]
    parts.append("".join(chr(draw.randrange(*draw.choice(odd))) for _ in range(300_000)))
    return "\n".join(parts).replace("\r", "")


def ids_of(plinth, tokenizer, path, lines):
    started = time.time()
    out = subprocess.run([plinth, "data", "encode", "--tokenizer", tokenizer, path] + (["--lines"] if lines else []),
                         capture_output=True, text=True)
    if out.returncode:
        sys.exit(out.stderr)
    return [[int(x) for x in line.split()] for line in out.stdout.split("\n")[:-1]], time.time() - started


def compare(plinth, name, path, text, texts, file):
    t = Tokenizer.from_file(path)
    t.no_truncation()
    t.no_padding()
    mine, seconds = ids_of(plinth, path, file, True)
    started = time.time()
    theirs = [e.ids for e in t.encode_batch(texts)]
    their_seconds = time.time() - started
    wrong = [i for i in range(len(texts)) if i >= len(mine) or mine[i] != theirs[i]]
    whole, _ = ids_of(plinth, path, file, False)
    one = t.encode(text).ids
    print(f"{name:12} {len(texts)} lines, {sum(map(len, theirs))} ids, {len(wrong)} lines differ; as one text "
          f"{'the same' if whole[0] == one else 'it differs'}; {seconds:.1f} s beside {their_seconds:.1f} s", flush=True)
    for i in wrong[:3]:
        k = next((k for k, (a, b) in enumerate(zip(mine[i], theirs[i])) if a != b), min(len(mine[i]), len(theirs[i])))
        print(f"  line {i}: {texts[i][:80]!r}\n    at {k}: {mine[i][k:k + 8]} beside {theirs[i][k:k + 8]}"
              f" {[t.id_to_token(x) for x in theirs[i][max(0, k - 1):k + 4]]}")
    if not wrong and whole[0] != one:
        k = next((k for k, (a, b) in enumerate(zip(whole[0], one)) if a != b), 0)
        print(f"  at {k}: {[t.id_to_token(x) for x in whole[0][k - 3:k + 8]]} beside {[t.id_to_token(x) for x in one[k - 3:k + 8]]}")
    return bool(wrong) or whole[0] != one


def main():
    p = argparse.ArgumentParser()
    p.add_argument("plinth")
    p.add_argument("files", nargs="*")
    p.add_argument("--root", default="")
    p.add_argument("--kinds", help="only these, with commas between")
    p.add_argument("--size", type=int, default=4000, help="of the vocabularies, beside a token for each character")
    p.add_argument("--share", type=float, default=1, help="of the text")
    o = p.parse_intermixed_args()
    text = gather(o.root)
    text = text[:int(len(text) * o.share)]
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "text.txt")
        with open(file, "w", encoding="utf-8", newline="") as f:
            f.write(text)
        texts = text.split("\n")
        if not texts[-1]:
            texts.pop()
        print(f"{os.path.getsize(file) / 1e6:.1f} MB, {len(text)} characters", flush=True)
        if o.files:
            return max([compare(o.plinth, os.path.basename(f), f, text, texts, file) for f in o.files])
        sample = random.Random(2).sample(texts, min(len(texts), 6000))
        size = o.size + len(set("".join(sample)))  # those that do not begin with bytes have each character
        published.sentencepiece_models(published.CORPUS * 3, 200, folder)  # for its table of characters
        bad = False
        for name, make in published.kinds(folder).items():
            if o.kinds and name not in o.kinds.split(","):
                continue
            path = os.path.join(folder, f"{name}.json")
            make(sample, size).save(path)
            bad |= compare(o.plinth, name, path, text, texts, file)
    return bad


if __name__ == "__main__":
    sys.exit(main())
