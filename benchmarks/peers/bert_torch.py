"""BERT as a masked language model in plain PyTorch: the peer of models/bert.plinth with `task = "mask"`.

    python3 bert_torch.py --preset small --batch 8 --seq 128 [--device cuda] [--precision bf16] [--compile]
"""
import common
import shared
import torch
from torch import nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x, keep):
        q, k, v = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keep).transpose(1, 2).flatten(2)


class Output(nn.Module):
    """A layer's output: a projection, added to what came in, and normalized."""

    def __init__(self, wide, width, eps):
        super().__init__()
        self.dense = nn.Linear(wide, width)
        self.LayerNorm = nn.LayerNorm(width, eps)

    def forward(self, x, before):
        return self.LayerNorm(before + self.dense(x))


class Layer(nn.Module):
    def __init__(self, width, hidden, heads, eps):
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(width, heads), "output": Output(width, width, eps)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, hidden)})
        self.output = Output(hidden, width, eps)

    def forward(self, x, keep):
        x = self.attention["output"](self.attention["self"](x, keep), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class Embeddings(nn.Module):
    def __init__(self, vocabulary, context, kinds, width, eps):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)
        self.position_embeddings = nn.Embedding(context, width)
        self.token_type_embeddings = nn.Embedding(kinds, width)
        self.LayerNorm = nn.LayerNorm(width, eps)

    def forward(self, tokens, types):
        at = torch.arange(tokens.shape[1], device=tokens.device)
        return self.LayerNorm(self.word_embeddings(tokens) + self.token_type_embeddings(types) + self.position_embeddings(at))


class Transform(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, eps)

    def forward(self, x):
        return self.LayerNorm(F.gelu(self.dense(x)))


class MaskHead(nn.Module):
    def __init__(self, vocabulary, width, eps):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.transform = Transform(width, eps)


class Bert(nn.Module):
    def __init__(self, vocabulary, context, layers, heads, width, hidden, kinds=2, eps=1e-12):
        super().__init__()
        self.bert = nn.ModuleDict({
            "embeddings": Embeddings(vocabulary, context, kinds, width, eps),
            "encoder": nn.ModuleDict({"layer": nn.ModuleList(Layer(width, hidden, heads, eps) for _ in range(layers))})})
        self.cls = nn.ModuleDict({"predictions": MaskHead(vocabulary, width, eps)})
        for p in self.parameters():
            if p.dim() >= 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens, types, keep, targets):
        x = self.bert["embeddings"](tokens, types)
        for layer in self.bert["encoder"]["layer"]:
            x = layer(x, keep[:, None, None])
        head = self.cls["predictions"]
        logits = F.linear(head.transform(x), self.bert["embeddings"].word_embeddings.weight, head.bias)  # the head's matrix is the embedding
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


if __name__ == "__main__":
    a = shared.arguments(__doc__, shared.BERT)
    c = shared.BERT[a.preset]
    common.measure(Bert, c, shared.masked(a, c["vocabulary"]), a, "bert")
