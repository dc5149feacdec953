# images.py FOLDER: idx files of 6 x 6 images with a light row, column or diagonal in noise, which a linear model can
# tell apart; and turned.*: words and the same words backwards, with the characters' tokenizer.
import gzip
import json
import os
import random
import sys

draw = random.Random(1)
folder = sys.argv[1]
os.makedirs(folder)
for part, n in ("train", 200), ("t10k", 50):
    images, labels = b"", b""
    for i in range(n):
        kind = i % 3
        pixel = [[draw.randrange(60) for _ in range(6)] for _ in range(6)]
        for k in range(6):
            pixel[2 if kind == 0 else k][2 if kind == 1 else k] = 255
        images += bytes(sum(pixel, []))
        labels += bytes([kind])
    with gzip.open(f"{folder}/{part}-images-idx3-ubyte.gz", "wb") as f:
        f.write(b"\0\0\x08\x03" + b"".join(d.to_bytes(4, "big") for d in (n, 6, 6)) + images)
    with open(f"{folder}/{part}-labels-idx1-ubyte", "wb") as f:
        f.write(b"\0\0\x08\x01" + n.to_bytes(4, "big") + labels)

letters = "abcdefgh"
for part, n in ("train", 300), ("val", 40):
    with open(f"turned.{part}.tsv", "w") as f:
        for _ in range(n):
            word = "".join(draw.choice(letters) for _ in range(5))
            f.write(f"{word}\t{word[::-1]}\n")
vocabulary = {c: i for i, c in enumerate(letters)} | {"</s>": 8}
with open("turned.tokenizer.json", "w") as f:
    json.dump({"version": "1.0", "normalizer": None, "pre_tokenizer": None, "post_processor": None,
               "decoder": {"type": "Fuse"},
               "added_tokens": [{"id": 8, "content": "</s>", "single_word": False, "lstrip": False, "rstrip": False,
                                 "normalized": False, "special": True}],
               "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                         "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                         "merges": []}}, f)
