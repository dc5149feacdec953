"""Greedy decoding of a GPT-2 with random weights in plain PyTorch, keys and values kept in buffers of full length: the
peer of `plinth generate`. Prints one line of JSON: milliseconds to the first token and for each one after it, and the
time in which memory gives as many bytes as the weights have.

    python3 gpt2_decode.py --save weights.safetensors          # once: the weights that both sides use
    python3 gpt2_decode.py --weights weights.safetensors --text "what the text begins with" --tokens 64 --threads 2
"""
import argparse
import json
import time

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

LAYERS, HEADS, WIDTH, VOCABULARY, CONTEXT = 12, 12, 768, 50257, 1024


def random_weights():
    torch.manual_seed(0)
    shapes = {"wte.weight": (VOCABULARY, WIDTH), "wpe.weight": (CONTEXT, WIDTH)}
    for i in range(LAYERS):
        shapes |= {f"h.{i}.attn.c_attn.weight": (WIDTH, 3 * WIDTH), f"h.{i}.attn.c_proj.weight": (WIDTH, WIDTH),
                   f"h.{i}.mlp.c_fc.weight": (WIDTH, 4 * WIDTH), f"h.{i}.mlp.c_proj.weight": (4 * WIDTH, WIDTH)}
    w = {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}
    for name in list(w):
        if name.startswith("h."):
            w[name.replace(".weight", ".bias")] = 0.02 * torch.randn(w[name].shape[1])
    for name in [f"h.{i}.ln_{k}" for i in range(LAYERS) for k in (1, 2)] + ["ln_f"]:
        w[f"{name}.weight"], w[f"{name}.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)
    return w


class Gpt2:
    def __init__(self, w, capacity, turned):
        self.w = w
        if turned:  # as torch's Linear has them, which its products of one row read faster
            self.w = {n: x.t().contiguous().t() if n.startswith("h.") and x.dim() == 2 else x for n, x in w.items()}
        self.kept = torch.zeros(LAYERS, 2, 1, HEADS, capacity, WIDTH // HEADS)

    def linear(self, x, name):
        return torch.addmm(self.w[name + ".bias"], x, self.w[name + ".weight"])

    def norm(self, x, name):
        return F.layer_norm(x, (WIDTH,), self.w[name + ".weight"], self.w[name + ".bias"])

    def __call__(self, tokens, past):
        n = tokens.shape[0]
        x = self.w["wte.weight"][tokens] + self.w["wpe.weight"][past:past + n]
        for i in range(LAYERS):
            q, k, v = (y.view(1, n, HEADS, -1).transpose(1, 2)
                       for y in self.linear(self.norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").split(WIDTH, dim=1))
            self.kept[i, 0, :, :, past:past + n] = k
            self.kept[i, 1, :, :, past:past + n] = v
            k, v = self.kept[i, 0, :, :, :past + n], self.kept[i, 1, :, :, :past + n]
            y = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
            x = x + self.linear(y.transpose(1, 2).reshape(n, WIDTH), f"h.{i}.attn.c_proj")
            h = F.gelu(self.linear(self.norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"), approximate="tanh")
            x = x + self.linear(h, f"h.{i}.mlp.c_proj")
        return self.norm(x[-1:], "ln_f") @ self.w["wte.weight"].t()


def seconds_to_read(size):
    """The least of some sums over memory, which read it once."""
    x = torch.ones(size // 4)
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        x.sum()
        best = min(best, time.perf_counter() - begun)
    return best


@torch.inference_mode()
def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--save")
    p.add_argument("--weights")
    p.add_argument("--text", default="The quick brown fox")
    p.add_argument("--tokens", type=int, default=64)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--turned", action="store_true", help="matrices stored as torch's Linear has them")
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    if a.save:
        save_file(random_weights(), a.save)
        return
    w = load_file(a.weights)
    size = sum(x.numel() * 4 for x in w.values())
    prompt = torch.tensor(list(a.text.encode()))
    model = Gpt2(w, len(prompt) + a.tokens, a.turned)
    for _ in range(2):  # the second time counts
        begun = time.perf_counter()
        tokens, at = [model(prompt, 0).argmax().item()], []
        first = time.perf_counter() - begun
        for t in range(a.tokens - 1):
            begun = time.perf_counter()
            tokens.append(model(torch.tensor(tokens[-1:]), len(prompt) + t).argmax().item())
            at.append(time.perf_counter() - begun)
    at.sort()
    print(json.dumps({"what": "pytorch" + (" turned" if a.turned else ""), "version": torch.__version__,
                      "threads": torch.get_num_threads(), "prompt_tokens": len(prompt), "first_ms": 1e3 * first,
                      "token_ms": 1e3 * at[len(at) // 2], "least_ms": 1e3 * at[0], "weight_bytes": size,
                      "bytes_ms": 1e3 * seconds_to_read(size), "tokens": tokens}))


main()
