"""A model of Llama's shape in plain PyTorch: the peer of models/llama.plinth.

    python3 llama_torch.py --preset llama_110m --batch 4 --seq 64 [--device cuda] [--precision bf16] [--compile]
"""
import math

import common
import shared
import torch
from torch import nn
from torch.nn import functional as F


def turned(x, cos, sin):
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).type_as(x)


class Attention(nn.Module):
    def __init__(self, width, heads, groups):
        super().__init__()
        self.heads, self.groups, self.head = heads, groups, width // heads
        self.q_proj = nn.Linear(width, heads * self.head, bias=False)
        self.k_proj = nn.Linear(width, groups * self.head, bias=False)
        self.v_proj = nn.Linear(width, groups * self.head, bias=False)
        self.o_proj = nn.Linear(heads * self.head, width, bias=False)

    def forward(self, x, cos, sin):
        b, t, d = x.shape
        q = turned(self.q_proj(x).view(b, t, self.heads, self.head).transpose(1, 2), cos, sin)
        k = turned(self.k_proj(x).view(b, t, self.groups, self.head).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, t, self.groups, self.head).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.groups != self.heads)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, width, hidden, heads, groups):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(width, eps=1e-5)
        self.self_attn = Attention(width, heads, groups)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=1e-5)
        self.mlp = Mlp(width, hidden)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, layers, width, hidden, heads, groups, vocabulary):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Block(width, hidden, heads, groups) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.frequency = [10000.0 ** (-2 * i / (width // heads)) for i in range(width // heads // 2)]
        for name, p in self.named_parameters():
            if p.dim() >= 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * layers) if last else 0.02)

    def forward(self, tokens, targets):
        angle = torch.outer(torch.arange(tokens.shape[1], device=tokens.device, dtype=torch.float32),
                            torch.tensor(self.frequency, device=tokens.device))
        cos, sin = angle.cos(), angle.sin()
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits = F.linear(self.norm(x), self.embed_tokens.weight)  # the head is the embedding
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


if __name__ == "__main__":
    a = shared.arguments(__doc__, shared.LLAMA)
    c = shared.LLAMA[a.preset]
    common.measure(Llama, c, shared.tokens(c["vocabulary"], a), a, "llama")
