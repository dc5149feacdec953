"""A tiny Mixtral by Hugging Face's MixtralForCausalLM, whose loss has the load-balancing term.

Published checkpoints have one tensor for each expert's matrix; the module has them stacked, w1 and w3
in one, so they are put together on the way.
"""

import torch
import transformers
from torch.func import functional_call

from common import windows
from published import perturbed, published_golden

CONFIG = {"model_type": "mixtral", "vocab_size": 61, "max_position_embeddings": 32, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 24, "intermediate_size": 20,
          "num_local_experts": 4, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.02,
          "rms_norm_eps": 1e-5, "rope_theta": 1e6, "tie_word_embeddings": False}
STEPS, B, T, E = 10, 2, 12, CONFIG["num_local_experts"]


def published(name):
    return name.replace(".mlp.", ".block_sparse_moe.")


def split(state):
    """The module's parameters under the checkpoints' names."""
    out = {}
    for name, p in state.items():
        base = published(name).rsplit(".", 1)[0]
        for e in range(E if p.dim() == 3 else 0):
            if name.endswith("gate_up_proj"):
                out[f"{base}.{e}.w1.weight"], out[f"{base}.{e}.w3.weight"] = p[e].chunk(2)
            else:
                out[f"{base}.{e}.w2.weight"] = p[e]
        if p.dim() < 3:
            out[published(name)] = p
    return out


def join(p, names):
    out = {}
    for name in names:
        base = published(name).rsplit(".", 1)[0]
        if name.endswith("gate_up_proj"):
            out[name] = torch.stack([torch.cat([p[f"{base}.{e}.w1.weight"], p[f"{base}.{e}.w3.weight"]])
                                     for e in range(E)])
        elif name.endswith("down_proj"):
            out[name] = torch.stack([p[f"{base}.{e}.w2.weight"] for e in range(E)])
        else:
            out[name] = p[published(name)]
    return out


if __name__ == "__main__":
    torch.set_num_threads(1)
    config = transformers.MixtralConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"},
                                        output_router_logits=True, attn_implementation="eager",
                                        experts_implementation="eager")
    model = transformers.MixtralForCausalLM(config).train()
    names = list(model.state_dict())
    start = split(perturbed(model, torch.Generator().manual_seed(1)))
    data = windows(torch.Generator().manual_seed(7), STEPS, B, T, CONFIG["vocab_size"])

    def run(p, batch):
        out = functional_call(model, join(p, names), (batch["tokens"],))
        loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), batch["targets"].flatten())
        uneven = transformers.models.mixtral.modeling_mixtral.load_balancing_loss_func(
            out.router_logits, E, CONFIG["num_experts_per_tok"])
        return {"logits": out.logits, "uneven": uneven}, loss + CONFIG["router_aux_loss_coef"] * uneven

    published_golden("mixtral_tiny", start, run, {"tokens": data[..., :-1], "targets": data[..., 1:]},
                     {"config": CONFIG, "transformers": transformers.__version__})
