#!/usr/bin/env python3
"""The matrix products of a GPT-2 training step by PyTorch on the CPU, f32: the table that benchmarks/kernels.c prints of
Plinth. `matmul.py [M [turns]]`. The least of the turns' times counts, as there."""
import sys
import time

import torch

LAYERS = [("qkv", 768, 2304), ("aproj", 768, 768), ("fc", 768, 3072), ("fcproj", 3072, 768), ("lmhead", 768, 50257)]
FORMS = [("x W", lambda x, w, dy: x @ w), ("dy W^T", lambda x, w, dy: dy @ w.t()), ("x^T dy", lambda x, w, dy: x.t() @ dy)]


def main():
    rows, turns = int(sys.argv[1]) if len(sys.argv) > 1 else 256, int(sys.argv[2]) if len(sys.argv) > 2 else 10
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, M = {rows}")
    seconds, work = [0.0] * len(FORMS), [0.0] * len(FORMS)
    for layer, inputs, outputs in LAYERS:
        x, w, dy = torch.randn(rows, inputs), torch.randn(inputs, outputs), torch.randn(rows, outputs)
        for i, (form, product) in enumerate(FORMS):
            best = float("inf")
            for _ in range(turns):
                begun = time.perf_counter()
                product(x, w, dy)
                best = min(best, time.perf_counter() - begun)
            flops = 2.0 * rows * inputs * outputs
            print(f"{layer:8} {form:8} {best * 1e3:9.3f} ms {flops / best * 1e-9:8.1f} GFLOP/s")
            times = 1 if layer == "lmhead" else 12  # layers, and one head
            seconds[i] += times * best
            work[i] += times * flops
    for (form, _), s in zip(FORMS, seconds):
        print(f"step: {form:8} {s * 1e3:.1f} ms")
    print(f"step: all      {sum(seconds) * 1e3:.1f} ms, {sum(work) / sum(seconds) * 1e-9:.1f} GFLOP/s")


if __name__ == "__main__":
    main()
