"""CLIP in plain PyTorch: the peer of models/clip.plinth.

    python3 clip_torch.py --preset base_32 --batch 4 [--device cuda] [--precision bf16] [--compile]
"""
import common
import shared
import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, causal):
        q, k, v = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h))


class Layer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.layer_norm1, self.self_attn = nn.LayerNorm(width), Attention(width, heads)
        self.layer_norm2, self.mlp = nn.LayerNorm(width), Mlp(width, hidden)

    def forward(self, x, causal):
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


def layers(c):
    return nn.ModuleDict({"layers": nn.ModuleList(Layer(c["width"], c["heads"], c["hidden"]) for _ in range(c["layers"]))})


class Text(nn.Module):
    def __init__(self, c, end):
        super().__init__()
        self.end = end
        self.embeddings = nn.ModuleDict({"token_embedding": nn.Embedding(c["vocabulary"], c["width"]),
                                         "position_embedding": nn.Embedding(c["context"], c["width"])})
        self.encoder = layers(c)
        self.final_layer_norm = nn.LayerNorm(c["width"])

    def forward(self, tokens):
        at = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embeddings["token_embedding"](tokens) + self.embeddings["position_embedding"](at)
        for layer in self.encoder["layers"]:
            x = layer(x, True)
        last = (tokens == self.end).int().argmax(1)  # the first one that ends
        return self.final_layer_norm(x)[torch.arange(len(x), device=x.device), last]


class Patches(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(c["width"]).normal_(std=c["width"]**-0.5))
        self.patch_embedding = nn.Conv2d(3, c["width"], c["patch"], c["patch"], bias=False)
        self.position_embedding = nn.Embedding((c["image"] // c["patch"])**2 + 1, c["width"])

    def forward(self, images):
        x = self.patch_embedding(images).flatten(2).transpose(1, 2)
        return torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.position_embedding.weight


class Vision(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embeddings = Patches(c)
        self.pre_layrnorm = nn.LayerNorm(c["width"])
        self.encoder = layers(c)
        self.post_layernorm = nn.LayerNorm(c["width"])

    def forward(self, images):
        x = self.pre_layrnorm(self.embeddings(images))
        for layer in self.encoder["layers"]:
            x = layer(x, False)
        return self.post_layernorm(x[:, 0])


class Clip(nn.Module):
    def __init__(self, space, end, text, vision):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))
        self.text_model, self.vision_model = Text(text, end), Vision(vision)
        self.text_projection = nn.Linear(text["width"], space, bias=False)
        self.visual_projection = nn.Linear(vision["width"], space, bias=False)

    def forward(self, tokens, images):
        t = self.text_projection(self.text_model(tokens))
        v = self.visual_projection(self.vision_model(images))
        logits = self.logit_scale.exp() * F.normalize(v, dim=-1) @ F.normalize(t, dim=-1).T
        own = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


if __name__ == "__main__":
    a = shared.arguments(__doc__, shared.CLIP_MODEL)
    c = shared.CLIP_MODEL[a.preset]
    common.measure(Clip, c, shared.captions(a, c), a, "clip")
