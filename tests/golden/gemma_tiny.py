"""Tiny Gemmas by Hugging Face's transformers: of Gemma 2, with scores and logits that the caps bend (they are far below those
of published models, whose scores at random weights are too small for it), and of Gemma 3, with layers listed by name.

Writes gemma_tiny and gemma3_tiny.
"""

import torch
import torch.nn.functional as F
import transformers
from torch.func import functional_call

from common import windows
from published import perturbed, published_golden

CONFIG = {"vocab_size": 61, "max_position_embeddings": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "hidden_size": 24, "intermediate_size": 40, "head_dim": 10, "sliding_window": 5,
          "query_pre_attn_scalar": 7, "rms_norm_eps": 1e-6, "pad_token_id": None}
STEPS, B, T = 10, 2, 16


def golden(name, config_class, model_class, more, seed):
    config = CONFIG | more
    model = model_class(config_class(**config, attn_implementation="eager", use_cache=False)).train()
    names = {n for n, _ in model.named_parameters()}
    generator = torch.Generator().manual_seed(seed)
    start = {n: p for n, p in perturbed(model, generator).items() if n in names}
    for n in start:
        if n.endswith("norm.weight"):
            start[n] -= 1  # stored as what the gain is above 1
    data = windows(generator, STEPS, B, T, CONFIG["vocab_size"])

    def run(p, batch):
        logits = functional_call(model, p, (batch["tokens"],)).logits
        return {"output": logits}, F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())

    published_golden(name, start, run, {"tokens": data[..., :-1], "targets": data[..., 1:]},
                     {"config": config, "transformers": transformers.__version__})


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden("gemma_tiny", transformers.Gemma2Config, transformers.Gemma2ForCausalLM,
           {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 3.0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 1)
    golden("gemma3_tiny", transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM,
           {"layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {"full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                                "sliding_attention": {"rope_type": "default", "rope_theta": 1e3}}}, 2)
