"""A tiny Llama in plain PyTorch, with Hugging Face's parameter names and layouts.

Touvron et al., LLaMA (2023); rotary embedding in the half-split form that Hugging Face's checkpoints
are stored for; grouped-query attention (Ainslie et al. 2023); untied head. Writes
llama_tiny.weights.safetensors (a checkpoint) and llama_tiny.safetensors (what it computes).
If the package transformers is there, LlamaForCausalLM is compared with on the same weights.
"""

import math

import torch
import torch.nn.functional as F

from common import model_golden

CONFIG = {"model_type": "llama", "vocab_size": 101, "max_position_embeddings": 32,
          "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32,
          "intermediate_size": 88, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
          "tie_word_embeddings": False}
V, L, H, G, D, M = (CONFIG[k] for k in ("vocab_size", "num_hidden_layers", "num_attention_heads",
                                        "num_key_value_heads", "hidden_size", "intermediate_size"))
K = D // H


def initial(generator):
    def normal(*shape, std, mean=0.0):
        return mean + std * torch.randn(*shape, generator=generator)

    p = {"model.embed_tokens.weight": normal(V, D, std=0.5)}
    for i in range(L):
        h = f"model.layers.{i}."
        p[h + "input_layernorm.weight"] = normal(D, std=0.1, mean=1.0)
        for name, out, fan_in in (("self_attn.q_proj", H * K, D), ("self_attn.k_proj", G * K, D),
                                  ("self_attn.v_proj", G * K, D), ("self_attn.o_proj", D, H * K)):
            p[h + name + ".weight"] = normal(out, fan_in, std=fan_in ** -0.5)
        p[h + "post_attention_layernorm.weight"] = normal(D, std=0.1, mean=1.0)
        for name, out, fan_in in (("gate_proj", M, D), ("up_proj", M, D), ("down_proj", D, M)):
            p[h + f"mlp.{name}.weight"] = normal(out, fan_in, std=fan_in ** -0.5)
    p["model.norm.weight"] = normal(D, std=0.1, mean=1.0)
    p["lm_head.weight"] = normal(V, D, std=0.1)
    return p


def rope(x, theta=CONFIG["rope_theta"]):
    """[..., T, K]: component i turns with component i + K / 2 by position * theta^(-2 i / K)."""
    T, K = x.shape[-2:]
    frequency = theta ** (-torch.arange(0, K, 2, dtype=x.dtype) / K)
    angle = torch.arange(T, dtype=x.dtype)[:, None] * frequency
    cos, sin = angle.cos(), angle.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def forward(p, tokens):
    def norm(x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * p[name + ".weight"]

    def linear(x, name):
        return x @ p[name + ".weight"].T

    B, T = tokens.shape
    x = p["model.embed_tokens.weight"][tokens]
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    for i in range(L):
        h = f"model.layers.{i}."
        y = norm(x, h + "input_layernorm")
        q, k, v = (linear(y, h + f"self_attn.{n}_proj").view(B, T, -1, K).transpose(1, 2)
                   for n in "qkv")
        q, k = rope(q), rope(k)
        k, v = (z.repeat_interleave(H // G, dim=1) for z in (k, v))  # head h reads group h * G / H
        scores = (q @ k.transpose(2, 3) / math.sqrt(K)).masked_fill(~causal, -math.inf)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, H * K)
        x = x + linear(y, h + "self_attn.o_proj")
        y = norm(x, h + "post_attention_layernorm")
        x = x + linear(F.silu(linear(y, h + "mlp.gate_proj")) * linear(y, h + "mlp.up_proj"),
                       h + "mlp.down_proj")
    return linear(norm(x, "model.norm"), "lm_head")


def check(p, logits, tokens, gradients, targets):
    """The largest differences from Hugging Face's model, relative to the largest value."""
    try:
        import transformers
    except ImportError:
        return "not compared"
    config = transformers.LlamaConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"})
    config._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(config).train()
    model.load_state_dict(p)
    got = model(tokens).logits
    F.cross_entropy(got.flatten(0, 1), targets.flatten()).backward()
    largest = max(float(g.abs().max()) for g in gradients.values())
    named = dict(model.named_parameters())
    result = {"version": transformers.__version__,
              "logits": float((got - logits).abs().max() / logits.abs().max()),
              "gradients": max(float((named[n].grad - g).abs().max()) for n, g in gradients.items())
              / largest}
    assert result["logits"] < 1e-6 and result["gradients"] < 1e-6, result
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    model_golden("llama_tiny", initial, forward, CONFIG, check)
