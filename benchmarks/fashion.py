#!/usr/bin/env python3
"""What a U-Net trained on Fashion-MNIST paints, judged by a ViT trained on it and by the pictures it learned from.

  plinth train models/vit.plinth --preset fashion --precision f32 --data /usr/share/datasets/fashion-mnist
  plinth train models/fashion.plinth --precision f32 --data /usr/share/datasets/fashion-mnist
  benchmarks/fashion.py build/plinth runs/fashion runs/vit [--samples N] [--pictures FILE.png]

Needs numpy and Pillow. Samples of `plinth sample`, 100 at a time, each hundred with its own seed; `plinth run` says what
the ViT takes each for. A sample is a near copy where its distance (of pixels) to the nearest training picture is below
half the mean distance to the 50 nearest (Carlini et al. 2023, Extracting Training Data from Diffusion Models, section
5.1); the same is said of test pictures, which nobody copied. Exits with 1 where a class is missing or a sample is a copy.
"""
import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

SIZE = 28
CLASSES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


def idx(path):
    with gzip.open(path) as f:
        data = f.read()
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, SIZE * SIZE).astype(np.float32) / 255


def nearest(pictures, known):
    """For each picture: the nearest known one, its distance, and that as a share of half the mean of the 50 nearest."""
    squares = (known ** 2).sum(1)
    which, distance, share = [], [], []
    for x in np.array_split(pictures, max(1, len(pictures) // 250)):
        d = squares[None] - 2 * x @ known.T
        near = np.argpartition(d, 50, axis=1)[:, :50]
        exact = np.sqrt(((x[:, None] - known[near]) ** 2).sum(2))
        which.append(near[np.arange(len(x)), exact.argmin(1)])
        distance.append(exact.min(1))
        share.append(exact.min(1) / (0.5 * exact.mean(1)))
    return np.concatenate(which), np.concatenate(distance), np.concatenate(share)


def main():
    o = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    o.add_argument("plinth")
    o.add_argument("painter", help="the run of models/fashion.plinth")
    o.add_argument("judge", help="the run of models/vit.plinth --preset fashion")
    o.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    o.add_argument("--samples", type=int, default=1000)
    o.add_argument("--pictures", help="write the first hundred samples here, above the nearest training pictures")
    o = o.parse_args()
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        png = os.path.join(folder, "samples.png")
        for seed in range((o.samples + 99) // 100):
            subprocess.run([o.plinth, "sample", o.painter, "--batch", "100", "--seed", str(seed), "-o", png], check=True, stdout=subprocess.DEVNULL)
            sheet = np.asarray(Image.open(png), np.float32) / 255
            rows, columns = sheet.shape[0] // SIZE, sheet.shape[1] // SIZE
            samples.append(sheet.reshape(rows, SIZE, columns, SIZE).swapaxes(1, 2).reshape(-1, SIZE * SIZE)[:100])
            print(f"{(seed + 1) * 100} samples", file=sys.stderr)
        samples = np.concatenate(samples)[:o.samples]
        np.save(os.path.join(folder, "x.npy"), samples.reshape(-1, 1, SIZE, SIZE) * 2 - 1)
        judged = subprocess.run([o.plinth, "run", o.judge, "--input", f"images={folder}/x.npy", "--json"], check=True, capture_output=True, text=True)
    logits = np.array(json.loads(judged.stdout)["output"], np.float32)
    probability = np.exp(logits - logits.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    taken = probability.argmax(1)
    train, test = idx(f"{o.data}/train-images-idx3-ubyte.gz"), idx(f"{o.data}/t10k-images-idx3-ubyte.gz")
    which, distance, share = nearest(samples, train)
    _, usual, usual_share = nearest(test[:2000], train)
    print(f"{len(samples)} samples; the judge's own certainty {probability.max(1).mean():.3f} on average")
    for c, name in enumerate(CLASSES):
        print(f"  {name:9} {(taken == c).sum():5}   certain (over 0.9) {((taken == c) & (probability.max(1) > 0.9)).sum():5}")
    print("distance to the nearest training picture: least, a hundredth, median; near copies")
    for name, d, r in [("samples", distance, share), ("test pictures", usual, usual_share)]:
        print(f"  {name:14} {d.min():6.2f} {np.quantile(d, 0.01):6.2f} {np.median(d):6.2f}  {(r < 1).sum():4} of {len(d)}")
    if o.pictures:
        pairs = [np.concatenate([samples[i].reshape(SIZE, SIZE), train[which[i]].reshape(SIZE, SIZE)]) for i in range(100)]
        sheet = np.concatenate([np.concatenate(pairs[i:i + 20], 1) for i in range(0, 100, 20)])
        Image.fromarray((sheet * 255).round().astype(np.uint8)).save(o.pictures)
    return (share < 1).any() or len(set(taken)) < len(CLASSES)


if __name__ == "__main__":
    sys.exit(main())
