"""Tiny mixtures of many small experts by Hugging Face's transformers: Qwen2-MoE, with an expert that sees every token; Qwen3-MoE,
whose chosen experts count 1 together; OLMoE, which normalizes all heads of queries at once.

Writes moe_tiny, moe_qwen3 and moe_olmoe. As in mixtral_tiny.py, a checkpoint's tensors for each expert are put together on the way.
"""

import torch
import transformers
from torch.func import functional_call

from common import windows
from published import perturbed, published_golden

CONFIG = {"vocab_size": 61, "max_position_embeddings": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "hidden_size": 24, "num_experts": 6, "num_experts_per_tok": 3,
          "router_aux_loss_coef": 0.02, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "pad_token_id": None,
          "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
STEPS, B, T, E = 10, 2, 12, CONFIG["num_experts"]


def split(state):
    """The module's parameters under the checkpoints' names."""
    out = {}
    for name, p in state.items():
        base, last = name.rsplit(".", 1)
        for e in range(E if p.dim() == 3 else 0):
            if last == "gate_up_proj":
                out[f"{base}.{e}.gate_proj.weight"], out[f"{base}.{e}.up_proj.weight"] = p[e].chunk(2)
            else:
                out[f"{base}.{e}.{last}.weight"] = p[e]
        if p.dim() < 3:
            out[name] = p
    return out


def join(p, names):
    out = {}
    for name in names:
        base, last = name.rsplit(".", 1)
        if last == "gate_up_proj":
            out[name] = torch.stack([torch.cat([p[f"{base}.{e}.gate_proj.weight"], p[f"{base}.{e}.up_proj.weight"]])
                                     for e in range(E)])
        elif last == "down_proj":
            out[name] = torch.stack([p[f"{base}.{e}.down_proj.weight"] for e in range(E)])
        else:
            out[name] = p[name]
    return out


def golden(name, config_class, model_class, more, seed):
    config = CONFIG | more
    model = model_class(config_class(**config, output_router_logits=True, attn_implementation="eager", use_cache=False,
                                     experts_implementation="eager")).train()
    names = [n for n, _ in model.named_parameters()]
    start = split({n: p for n, p in perturbed(model, torch.Generator().manual_seed(seed)).items() if n in names})
    data = windows(torch.Generator().manual_seed(7), STEPS, B, T, CONFIG["vocab_size"])

    def run(p, batch):
        out = functional_call(model, join(p, names), (batch["tokens"],))
        loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), batch["targets"].flatten())
        uneven = transformers.models.mixtral.modeling_mixtral.load_balancing_loss_func(
            out.router_logits, E, CONFIG["num_experts_per_tok"])
        return {"logits": out.logits, "uneven": uneven}, loss + CONFIG["router_aux_loss_coef"] * uneven

    published_golden(name, start, run, {"tokens": data[..., :-1], "targets": data[..., 1:]},
                     {"config": config | {"model_type": config_class.model_type}, "transformers": transformers.__version__})


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden("moe_tiny", transformers.Qwen2MoeConfig, transformers.Qwen2MoeForCausalLM,
           {"moe_intermediate_size": 20, "shared_expert_intermediate_size": 28, "norm_topk_prob": False}, 1)
    golden("moe_qwen3", transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM,
           {"moe_intermediate_size": 20, "head_dim": 10, "norm_topk_prob": True}, 2)
    golden("moe_olmoe", transformers.OlmoeConfig, transformers.OlmoeForCausalLM,
           {"intermediate_size": 20, "norm_topk_prob": False}, 3)
