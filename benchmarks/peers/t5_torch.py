"""T5 in plain PyTorch: the peer of models/t5.plinth, without dropout.

    python3 t5_torch.py --preset flan_small --batch 8 --seq 128 --target 32 [--device cuda] [--precision bf16] [--compile]
"""
import math

import common
import shared
import torch
from torch import nn
from torch.nn import functional as F


def buckets(t, s, both, count, furthest, device):
    """Of each distance from t places to s places, on a logarithmic scale beyond the near ones."""
    ahead = torch.arange(s, device=device) - torch.arange(t, device=device)[:, None]
    n = count // 2 if both else count
    near = n // 2
    far = ahead.abs() if both else (-ahead).clamp(min=0)
    log = near + (torch.log(far.clamp(min=1).float() / near) / math.log(furthest / near) * (n - near)).long()
    index = torch.where(far < near, far, log.clamp(max=n - 1))
    return index + torch.where(ahead > 0, n, 0) if both else index


class Attention(nn.Module):
    """x asks, y answers; scores are not scaled."""

    def __init__(self, width, heads, head, biased=None):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, heads * head, bias=False) for _ in range(3))
        self.o = nn.Linear(heads * head, width, bias=False)
        if biased:
            self.relative_attention_bias = nn.Embedding(biased, heads)

    def forward(self, x, y, mask):
        q, k, v = (f(z).unflatten(2, (self.heads, -1)).transpose(1, 2) for f, z in ((self.q, x), (self.k, y), (self.v, y)))
        return self.o(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.wi_0, self.wi_1 = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.wo = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class Part(nn.Module):
    """A norm and what comes behind it, under the published names."""

    def __init__(self, name, part, width):
        super().__init__()
        self.layer_norm = nn.RMSNorm(width, 1e-6)
        self.add_module(name, part)
        self.name = name

    def forward(self, x, *others):
        y = self.layer_norm(x)
        part = getattr(self, self.name)
        if self.name == "SelfAttention":
            return x + part(y, y, *others)
        return x + part(y, *others)


class Stack(nn.Module):
    def __init__(self, c, layers, decoder):
        super().__init__()
        width, heads, head = c["width"], c["heads"], c["head"]
        self.decoder, self.count, self.furthest = decoder, c["buckets"], c["furthest"]
        self.block = nn.ModuleList()
        for i in range(layers):
            parts = [Part("SelfAttention", Attention(width, heads, head, None if i else self.count), width)]
            if decoder:
                parts.append(Part("EncDecAttention", Attention(width, heads, head), width))
            parts.append(Part("DenseReluDense", Gated(width, c["hidden"]), width))
            self.block.append(nn.ModuleDict({"layer": nn.ModuleList(parts)}))
        self.final_layer_norm = nn.RMSNorm(width, 1e-6)

    def forward(self, x, keep, memory=None):
        t = x.shape[1]
        table = self.block[0]["layer"][0].SelfAttention.relative_attention_bias.weight
        bias = table[buckets(t, t, not self.decoder, self.count, self.furthest, x.device)].permute(2, 0, 1)[None]
        off = torch.full((), -math.inf, dtype=bias.dtype, device=x.device)
        seen = torch.ones(t, t, dtype=torch.bool, device=x.device).tril() if self.decoder else keep[:, None, None]
        mask = torch.where(seen, bias, off).type_as(x)
        for block in self.block:
            x = block["layer"][0](x, mask)
            if self.decoder:
                x = block["layer"][1](x, memory, keep[:, None, None])
            x = block["layer"][-1](x)
        return self.final_layer_norm(x)


class T5(nn.Module):
    def __init__(self, vocabulary, layers, heads, head, width, hidden, buckets=32, furthest=128):
        super().__init__()
        c = dict(width=width, heads=heads, head=head, hidden=hidden, buckets=buckets, furthest=furthest)
        self.shared = nn.Embedding(vocabulary, width)
        self.encoder, self.decoder = Stack(c, layers, False), Stack(c, layers, True)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        for name, p in self.named_parameters():
            if p.dim() >= 2:
                wide = width * head if name.endswith(".q.weight") else p.shape[1]
                nn.init.normal_(p, std=1.0 if name == "shared.weight" else wide**-0.5)

    def forward(self, source, keep, previous, targets):
        memory = self.encoder(self.shared(source), keep)
        logits = self.lm_head(self.decoder(self.shared(previous), keep, memory))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


if __name__ == "__main__":
    a = shared.arguments(__doc__, shared.T5, target=True)
    c = shared.T5[a.preset]
    common.measure(T5, c, shared.pairs(a, c["vocabulary"]), a, "t5")
