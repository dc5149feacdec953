"""Tiny DeepSeeks by Hugging Face's transformers: V3 with a query latent, YaRN, groups of experts and biases that choose; V2 with
softmax and groups; V2-Lite without groups and query latents.

Writes deepseek_tiny, deepseek_v2 and deepseek_lite. As in mixtral_tiny.py, a checkpoint's tensors for each expert are put together
on the way. Biases that choose stand in buffers: they have no gradient. The published classes have no load-balancing loss: it is
computed here from what their routers give (Shazeer et al. 2017; of V3's sigmoids, from what each is of their sum).
"""

import torch
import transformers
from torch.func import functional_call

from common import windows
from moe_tiny import join, split
from published import perturbed, published_golden

CONFIG = {"vocab_size": 61, "max_position_embeddings": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 4, "hidden_size": 24, "intermediate_size": 40, "first_k_dense_replace": 1,
          "kv_lora_rank": 14, "qk_nope_head_dim": 6, "qk_rope_head_dim": 8, "v_head_dim": 10, "n_routed_experts": 6,
          "num_experts_per_tok": 3, "moe_intermediate_size": 20, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
          "pad_token_id": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
YARN = {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 4, "beta_slow": 0.25, "mscale": 0.8,
                            "mscale_all_dim": 0.5, "original_max_position_embeddings": 64}}
STEPS, B, T, E, BALANCE = 10, 2, 12, CONFIG["n_routed_experts"], 0.02


def golden(name, config_class, model_class, more, seed):
    config = CONFIG | more
    model = model_class(config_class(**config, attn_implementation="eager", use_cache=False, experts_implementation="eager")).train()
    names, generator = [n for n, _ in model.named_parameters()], torch.Generator().manual_seed(seed)
    drawn = {n: p.float() for n, p in perturbed(model, generator).items()}
    start = split(drawn)
    routed, V3 = [], config_class is transformers.DeepseekV3Config
    for m in model.modules():
        if type(m).__name__.endswith("TopkRouter"):
            m.register_forward_hook(lambda m, given, out: routed.append((out[0], out[2])))
    data = windows(torch.Generator().manual_seed(7), STEPS, B, T, CONFIG["vocab_size"])

    def run(p, batch):
        biases = {n: p[n] for n in drawn if n not in names}
        routed.clear()
        out = functional_call(model, join(p, names) | biases, (batch["tokens"],))
        uneven = torch.zeros([], dtype=out.logits.dtype)
        for scores, chosen in routed:
            scores = scores.sigmoid() if V3 else scores.softmax(-1)
            share = torch.nn.functional.one_hot(chosen, E).to(scores.dtype).sum(1).mean(0)
            uneven = uneven + E * (share * (scores / scores.sum(-1, keepdim=True)).mean(0)).sum() / len(routed)
        loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), batch["targets"].flatten())
        return {"logits": out.logits, "uneven": uneven, "excess": torch.zeros([])}, loss + BALANCE * uneven

    published_golden(name, start, run, {"tokens": data[..., :-1], "targets": data[..., 1:]},
                     {"config": config | {"model_type": config_class.model_type}, "transformers": transformers.__version__},
                     trained=[n for n in start if "correction_bias" not in n])


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden("deepseek_tiny", transformers.DeepseekV3Config, transformers.DeepseekV3ForCausalLM,
           YARN | {"q_lora_rank": 16, "n_shared_experts": 1, "n_group": 3, "topk_group": 2, "routed_scaling_factor": 2.5,
                   "norm_topk_prob": True}, 1)
    golden("deepseek_v2", transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM,
           YARN | {"q_lora_rank": 16, "n_shared_experts": 2, "n_group": 3, "topk_group": 2, "routed_scaling_factor": 4.0,
                   "topk_method": "group_limited_greedy"}, 2)
    golden("deepseek_lite", transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM,
           {"q_lora_rank": None, "n_shared_experts": 2, "n_group": 1, "topk_group": 1, "topk_method": "greedy"}, 3)
