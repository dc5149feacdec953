#!/usr/bin/env python3
"""Causal attention by PyTorch's scaled_dot_product_attention, forward and backward, bf16: the table that
benchmarks/cuda_attention.c prints of Plinth. `attention.py [--json] [B H T K]...`. FLOPs are those of what is visible: 2 products
forward, 5 backward. Medians of 20 by events. --json: an object a line, which collect.py reads."""
import json
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

SIZES = [(64, 12, 1024, 64), (16, 16, 2048, 128), (4, 16, 8192, 64)]
BACKENDS = {
    "flash": [SDPBackend.FLASH_ATTENTION],
    "cudnn": [SDPBackend.CUDNN_ATTENTION],
    "default": None,
}


def median(f, turns=20):
    times = []
    for turn in range(turns + 2):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        f()
        end.record()
        end.synchronize()
        if turn >= 2:
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def measure(name, backends, size, as_json):
    B, H, T, K = size
    q, k, v = (torch.randn(B, H, T, K, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    dout = torch.randn(B, H, T, K, device="cuda", dtype=torch.bfloat16)

    def forward():
        return scaled_dot_product_attention(q, k, v, is_causal=True)

    def both():
        with torch.no_grad():
            f = median(forward)
        out = forward()
        b = median(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
        return f, b

    if backends:
        with sdpa_kernel(backends):
            f, b = both()
    else:
        f, b = both()
    product = B * H * T * (T + 1) * K * 1e-9
    if as_json:
        print(json.dumps({"attention": [B, H, T, K], "who": f"torch {name}", "forward_ms": f, "backward_ms": b,
                          "forward_tflops": 2 * product / f, "backward_tflops": 5 * product / b}), flush=True)
        return
    print(f"{B:3} {H:3} {T:5} {K:4}   {f:8.3f} {2 * product / f:7.1f}   {b:8.3f} {5 * product / b:7.1f}   {name}", flush=True)


def main():
    as_json = "--json" in sys.argv[1:]
    n = [int(x) for x in sys.argv[1:] if x != "--json"]
    sizes = [tuple(n[i:i + 4]) for i in range(0, len(n), 4)] or SIZES
    if not as_json:
        print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}: causal attention, bf16")
        print("  B   H     T    K    forward                backward")
        print("                          ms TFLOP/s         ms TFLOP/s")
    for size in sizes:
        for name, backends in BACKENDS.items():
            try:
                measure(name, backends, size, as_json)
            except RuntimeError as e:
                print(f"{size}: {name}: {str(e).splitlines()[0]}", file=sys.stderr if as_json else sys.stdout)


if __name__ == "__main__":
    main()
