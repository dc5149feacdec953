"""Ops on small random inputs in f64, with the gradients of a random cotangent.

Each case is computed with PyTorch's own operator where it has one, and with the few lines that define
the op where it has not (a wholly masked attention row gives 0, rope, local attention). README.md says
how the tensors are named; the metadata holds one JSON object per case with the op and its attributes.
"""

import math

import torch
import torch.nn.functional as F

from common import save

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(20)
tensors, cases = {}, {}


def random(*shape, scale=1.0, mean=0.0):
    return mean + scale * torch.randn(shape, generator=generator)


def integers(high, *shape):
    return torch.randint(high, shape, generator=generator)


def distinct(*shape):
    """Values no two of which are equal along any axis, so that order and maximum are never ties."""
    count = math.prod(shape)
    return (torch.randperm(count, generator=generator).double() / count * 4 - 2).view(shape)


def case(name, op, function, inputs, **attributes):
    """`inputs` are (name, tensor); gradients are made for those that are floating point."""
    assert name not in cases
    values = [t.clone().requires_grad_(t.is_floating_point()) for _, t in inputs]
    outputs = function(*values)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for i, value in enumerate(values):
        tensors[f"{name}/in{i}"] = value
    differentiable = []
    for i, value in enumerate(outputs):
        tensors[f"{name}/out{i}"] = value
        if value.is_floating_point() and value.requires_grad:
            tensors[f"{name}/dout{i}"] = cotangent = random(*value.shape)
            differentiable.append((value * cotangent).sum())
    if differentiable:
        sum(differentiable).backward()
    for i, value in enumerate(values):
        if value.grad is not None:
            tensors[f"{name}/din{i}"] = value.grad
            assert torch.isfinite(value.grad).all(), name
    cases[name] = {"op": op, "inputs": [n for n, _ in inputs], "attributes": attributes}


# Norms ---------------------------------------------------------------------------------------------
for name, shape, eps in (("basic", (2, 3, 8), 1e-5), ("odd", (3, 7), 1e-5), ("large_eps", (2, 5), 0.1)):
    D = shape[-1]
    case(f"layer_norm.{name}", "layer_norm",
         lambda x, w, b, D=D, eps=eps: F.layer_norm(x, (D,), w, b, eps),
         [("x", random(*shape, mean=0.5)), ("weight", random(D, mean=1)), ("bias", random(D))], eps=eps)
    case(f"rms_norm.{name}", "rms_norm", lambda x, w, D=D, eps=eps: F.rms_norm(x, (D,), w, eps),
         [("x", random(*shape, mean=0.5)), ("weight", random(D, mean=1))], eps=eps)
case("layer_norm.far_mean", "layer_norm", lambda x, w, b: F.layer_norm(x, (16,), w, b, 1e-5),
     [("x", random(2, 16, mean=1000)), ("weight", random(16, mean=1)), ("bias", random(16))], eps=1e-5)
for groups in (1, 2, 6):
    case(f"group_norm.groups{groups}", "group_norm",
         lambda x, w, b, n=groups: F.group_norm(x, n, w, b, 1e-5),
         [("x", random(2, 6, 3, 4, mean=0.5)), ("weight", random(6, mean=1)), ("bias", random(6))],
         groups=groups, eps=1e-5)

# Softmax and activations ---------------------------------------------------------------------------
for op in ("softmax", "log_softmax"):
    function = getattr(F, op)
    case(f"{op}.last", op, lambda x: function(x, -1), [("x", random(3, 9, scale=2))], axis=-1)
    case(f"{op}.middle", op, lambda x: function(x, 1), [("x", random(2, 5, 3, scale=2))], axis=1)
    case(f"{op}.large", op, lambda x: function(x, -1), [("x", random(2, 6, scale=300))], axis=-1)
wide = torch.cat((torch.linspace(-12, 12, 25), torch.tensor([-0.0, 1e-3, -1e-3, 40.0, -40.0])))
case("gelu.tanh", "gelu", lambda x: F.gelu(x, approximate="tanh"), [("x", wide)], approximate="tanh")
case("gelu.erf", "gelu", lambda x: F.gelu(x), [("x", wide)], approximate="none")
case("silu", "silu", F.silu, [("x", wide)])


# Attention -----------------------------------------------------------------------------------------
def attention(q, k, v, causal=False, mask=None, bias=None, window=None, scale=None, softcap=None):
    """[B, H, T, K], [B, G, S, K], [B, G, S, K'] -> [B, H, T, K']. Query t stands at position
    t + S - T, so that the last query sees the last key (a cache of S - T earlier keys). Head h reads
    group h * G / H. `window` w lets a query see its own position and the w - 1 before it."""
    H, T, S = q.shape[1], q.shape[2], k.shape[2]
    k, v = (z.repeat_interleave(H // z.shape[1], dim=1) for z in (k, v))
    scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    keep = torch.ones(T, S, dtype=torch.bool)
    at, key = torch.arange(T)[:, None] + S - T, torch.arange(S)
    if causal:
        keep &= key <= at
    if window is not None:
        keep &= key > at - window
    if mask is not None:
        keep = keep & mask
    keep = keep.expand_as(scores)
    weights = torch.where(keep, scores, -1e300).softmax(-1) * keep  # a row with nothing kept is 0
    return weights @ v


def qkv(B=2, H=2, G=2, T=6, S=6, K=4, KV=None):
    return [("q", random(B, H, T, K)), ("k", random(B, G, S, K)), ("v", random(B, G, S, KV or K))]


case("attention.full", "attention", attention, qkv())
case("attention.causal", "attention", lambda *x: attention(*x, causal=True), qkv(T=7, S=7), causal=True)
case("attention.scale", "attention", lambda *x: attention(*x, causal=True, scale=0.3), qkv(),
     causal=True, scale=0.3)
case("attention.large_scores", "attention", lambda q, k, v: attention(q, k, v, causal=True),
     [(n, 30 * t if n == "q" else t) for n, t in qkv()], causal=True)
case("attention.long", "attention", lambda *x: attention(*x, causal=True), qkv(B=1, H=1, G=1, T=67, S=67),
     causal=True)
case("attention.cross", "attention", attention, qkv(T=3, S=8, KV=5))
case("attention.causal_past", "attention", lambda *x: attention(*x, causal=True), qkv(T=3, S=8),
     causal=True)
for G in (1, 2):
    case(f"attention.grouped{G}", "attention", lambda *x: attention(*x, causal=True), qkv(H=4, G=G),
         causal=True)
for w in (1, 3):
    case(f"attention.window{w}", "attention", lambda *x, w=w: attention(*x, causal=True, window=w),
         qkv(T=8, S=8), causal=True, window=w)
lengths = torch.tensor([4, 6])  # a padding mask; below, a row and a whole sequence masked
case("attention.mask_padding", "attention", lambda q, k, v, m: attention(q, k, v, mask=m),
     qkv() + [("mask", (torch.arange(6) < lengths[:, None])[:, None, None, :])])
rows = torch.rand(2, 1, 6, 6, generator=generator) < 0.6
rows[0, 0, 2], rows[1] = False, False
case("attention.mask_empty_row", "attention", lambda q, k, v, m: attention(q, k, v, mask=m),
     qkv() + [("mask", rows)])
case("attention.causal_mask", "attention", lambda q, k, v, m: attention(q, k, v, causal=True, mask=m),
     qkv() + [("mask", (torch.arange(6) >= torch.tensor([2, 0])[:, None])[:, None, None, :])],
     causal=True)  # left padding: the first rows of the first sequence see nothing
case("attention.bias", "attention", lambda q, k, v, b: attention(q, k, v, bias=b),
     qkv(T=5) + [("bias", random(1, 2, 5, 6))])
case("attention.causal_bias", "attention", lambda q, k, v, b: attention(q, k, v, causal=True, bias=b),
     qkv() + [("bias", random(2, 2, 6, 6))], causal=True)
case("attention.scale_bias_mask", "attention",
     lambda q, k, v, m, b: attention(q, k, v, mask=m, bias=b, scale=1.0),
     qkv() + [("mask", rows), ("bias", random(2, 1, 6, 6))], scale=1.0)
q, k, v = (t for _, t in qkv(H=4, G=2))
assert torch.allclose(attention(q, k, v, causal=True), F.scaled_dot_product_attention(
    q, k, v, is_causal=True, enable_gqa=True), rtol=1e-12, atol=1e-12)


def rope(x, positions, theta=10000.0, interleaved=False):
    """[..., T, K]. Half-split: component i turns with i + K / 2 (GPT-NeoX, Hugging Face's Llama).
    Interleaved: 2 i turns with 2 i + 1 (the paper, GPT-J)."""
    K = x.shape[-1]
    angle = positions[:, None] * theta ** (-torch.arange(0, K, 2) / K)
    cos, sin = angle.cos(), angle.sin()
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    turned = a * cos - b * sin, b * cos + a * sin
    return torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)


case("rope.half", "rope", lambda x: rope(x, torch.arange(5.0)), [("x", random(2, 3, 5, 8))],
     theta=10000.0, interleaved=False)
case("rope.interleaved", "rope", lambda x: rope(x, torch.arange(5.0), interleaved=True),
     [("x", random(2, 3, 5, 8))], theta=10000.0, interleaved=True)
case("rope.positions", "rope", lambda x, p: rope(x, p.double(), theta=500.0),
     [("x", random(2, 4, 6)), ("positions", torch.tensor([3, 900, 0, 17]))],
     theta=500.0, interleaved=False)

# Convolution, pooling, up-sampling: [B, C, H, W] -----------------------------------------------------
for name, shape, kernel, options in (
        ("plain", (2, 3, 6, 7), (4, 3, 3, 3), {}),
        ("padding", (2, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
        ("stride", (2, 3, 7, 8), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
        ("patches", (2, 3, 8, 8), (5, 3, 4, 4), {"stride": 4}),
        ("point", (2, 4, 3, 3), (5, 4, 1, 1), {}),
        ("groups", (2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
        ("depthwise", (1, 4, 6, 6), (4, 1, 3, 3), {"groups": 4, "padding": 1, "stride": 2}),
        ("dilation", (2, 2, 8, 8), (3, 2, 3, 3), {"dilation": 2, "padding": 2}),
        ("uneven", (1, 2, 6, 9), (3, 2, 2, 3), {"stride": [2, 3], "padding": [1, 2], "dilation": [2, 1]})):
    case(f"conv2d.{name}", "conv2d", lambda x, w, b, o=options: F.conv2d(x, w, b, **o),
         [("x", random(*shape)), ("weight", random(*kernel)), ("bias", random(kernel[0]))], **options)
for name, options in (("plain", {"kernel_size": 2, "stride": 2}),
                      ("overlap", {"kernel_size": 3, "stride": 2, "padding": 1})):
    case(f"max_pool2d.{name}", "max_pool2d", lambda x, o=options: F.max_pool2d(x, **o),
         [("x", distinct(2, 3, 6, 6))], **options)
    case(f"avg_pool2d.{name}", "avg_pool2d", lambda x, o=options: F.avg_pool2d(x, **o),
         [("x", random(2, 3, 6, 6))], count_include_pad=True, **options)
case("avg_pool2d.without_padding", "avg_pool2d",
     lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
     [("x", random(1, 2, 6, 6))], kernel_size=3, stride=2, padding=1, count_include_pad=False)
case("upsample_nearest", "upsample_nearest", lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
     [("x", random(2, 3, 3, 4))], scale=2)


# Losses: a sum and a count -------------------------------------------------------------------------
def cross_entropy(logits, targets, ignore=-100):
    total = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=ignore,
                            reduction="sum")
    return total, (targets != ignore).sum()


case("cross_entropy.plain", "cross_entropy", cross_entropy,
     [("logits", random(2, 5, 11, scale=2)), ("targets", integers(11, 2, 5))], ignore=-100)
targets = integers(11, 2, 5)
targets[0, 1:3], targets[1, 4] = -100, -100
case("cross_entropy.ignore", "cross_entropy", cross_entropy,
     [("logits", random(2, 5, 11, scale=2)), ("targets", targets)], ignore=-100)
targets = integers(7, 9)
targets[2] = targets[5] = 0
case("cross_entropy.ignore_zero", "cross_entropy", lambda x, y: cross_entropy(x, y, 0),
     [("logits", random(9, 7)), ("targets", targets)], ignore=0)
case("cross_entropy.all_ignored", "cross_entropy", cross_entropy,
     [("logits", random(3, 7)), ("targets", torch.full((3,), -100))], ignore=-100)
case("cross_entropy.large", "cross_entropy", cross_entropy,
     [("logits", random(4, 6, scale=400)), ("targets", integers(6, 4))], ignore=-100)

# Indexing, sums along an axis, order ---------------------------------------------------------------
case("embedding", "embedding", lambda w, i: w[i],
     [("table", random(7, 3)), ("index", torch.tensor([[0, 6, 2], [2, 2, 5]]))])
case("scatter_add", "scatter_add",
     lambda x, i: torch.zeros(6, 3).index_add(0, i, x),
     [("x", random(5, 3)), ("index", torch.tensor([4, 0, 4, 4, 1]))], size=6)
case("cumsum.last", "cumsum", lambda x: x.cumsum(-1), [("x", random(3, 7))], axis=-1)
case("cumsum.first", "cumsum", lambda x: x.cumsum(0), [("x", random(5, 2, 3))], axis=0)
for k in (1, 3):
    case(f"top_k.{k}", "top_k", lambda x, k=k: tuple(x.topk(k, -1)), [("x", distinct(4, 9))], k=k)
case("top_k.softmax", "top_k", lambda x: tuple(x.softmax(-1).topk(2, -1)), [("x", distinct(5, 6))],
     k=2, of="softmax(x)")
for descending in (False, True):
    case(f"sort.{'descending' if descending else 'ascending'}", "sort",
         lambda x, d=descending: tuple(x.sort(-1, descending=d)), [("x", distinct(3, 8))],
         axis=-1, descending=descending)
case("sort.stable", "sort", lambda x: tuple(x.sort(stable=True, dim=-1)),
     [("x", integers(3, 2, 12).double())], axis=-1, descending=False)
case("attention.softcap", "attention", lambda *x: attention(*x, causal=True, window=4, scale=0.9, softcap=0.7), qkv(H=4, T=8, S=8),
     causal=True, window=4, scale=0.9, softcap=0.7)
case("attention.softcap_bias", "attention", lambda q, k, v, b: attention(q, k, v, bias=b, softcap=0.7),
     qkv() + [("bias", random(2, 1, 6, 6))], softcap=0.7)

if __name__ == "__main__":
    save("ops.safetensors", tensors, cases)
    print(len(cases), "cases")
