"""A tiny GPT-2 in plain PyTorch, with the parameter names and layouts of the published checkpoints.

Radford et al., Language Models are Unsupervised Multitask Learners (2019). Writes
gpt2_tiny.weights.safetensors (a checkpoint) and gpt2_tiny.safetensors (what it computes).
If the package transformers is there, GPT2LMHeadModel is compared with on the same weights.
"""

import math

import torch
import torch.nn.functional as F

from common import model_golden

CONFIG = {"model_type": "gpt2", "vocab_size": 101, "n_positions": 32, "n_layer": 2, "n_head": 4,
          "n_embd": 32, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}
V, C, L, H, D = (CONFIG[k] for k in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd"))


def initial(generator):
    """Larger than GPT-2's own start, and no gain is 1 and no bias 0, so that an error shows."""
    def normal(*shape, std, mean=0.0):
        return mean + std * torch.randn(*shape, generator=generator)

    p = {"wte.weight": normal(V, D, std=0.1), "wpe.weight": normal(C, D, std=0.1)}
    for i in range(L):
        for norm in ("ln_1", "ln_2"):
            p[f"h.{i}.{norm}.weight"] = normal(D, std=0.1, mean=1.0)
            p[f"h.{i}.{norm}.bias"] = normal(D, std=0.1)
        for name, fan_in, fan_out in (("attn.c_attn", D, 3 * D), ("attn.c_proj", D, D),
                                      ("mlp.c_fc", D, 4 * D), ("mlp.c_proj", 4 * D, D)):
            p[f"h.{i}.{name}.weight"] = normal(fan_in, fan_out, std=fan_in ** -0.5)
            p[f"h.{i}.{name}.bias"] = normal(fan_out, std=0.1)
    p["ln_f.weight"] = normal(D, std=0.1, mean=1.0)
    p["ln_f.bias"] = normal(D, std=0.1)
    return p


def forward(p, tokens):
    def norm(x, name):
        return F.layer_norm(x, (D,), p[name + ".weight"], p[name + ".bias"], 1e-5)

    def conv1d(x, name):
        return x @ p[name + ".weight"] + p[name + ".bias"]

    B, T = tokens.shape
    x = p["wte.weight"][tokens] + p["wpe.weight"][:T]
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    for i in range(L):
        h = f"h.{i}."
        q, k, v = (y.view(B, T, H, D // H).transpose(1, 2)
                   for y in conv1d(norm(x, h + "ln_1"), h + "attn.c_attn").split(D, dim=2))
        scores = (q @ k.transpose(2, 3) / math.sqrt(D // H)).masked_fill(~causal, -math.inf)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, D)
        x = x + conv1d(y, h + "attn.c_proj")
        y = F.gelu(conv1d(norm(x, h + "ln_2"), h + "mlp.c_fc"), approximate="tanh")
        x = x + conv1d(y, h + "mlp.c_proj")
    return norm(x, "ln_f") @ p["wte.weight"].T


def check(p, logits, tokens, gradients, targets):
    """The largest differences from Hugging Face's model, relative to the largest value."""
    try:
        import transformers
    except ImportError:
        return "not compared"
    config = transformers.GPT2Config(**{k: v for k, v in CONFIG.items() if k != "model_type"},
                                     resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    config._attn_implementation = "eager"
    model = transformers.GPT2LMHeadModel(config).train()
    missing, unexpected = model.load_state_dict({"transformer." + n: w for n, w in p.items()},
                                                strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected  # tied to wte
    got = model(tokens).logits
    F.cross_entropy(got.flatten(0, 1), targets.flatten()).backward()
    largest = max(float(g.abs().max()) for g in gradients.values())
    named = dict(model.transformer.named_parameters())
    result = {"version": transformers.__version__,
              "logits": float((got - logits).abs().max() / logits.abs().max()),
              "gradients": max(float((named[n].grad - g).abs().max()) for n, g in gradients.items())
              / largest}
    assert result["logits"] < 1e-6 and result["gradients"] < 1e-6, result
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    model_golden("gpt2_tiny", initial, forward, CONFIG, check)
