"""What models of Llama's shape add to it, by Hugging Face's transformers: Llama 3.1's scaled rotary frequencies and a tied
head; Qwen2's biases; Qwen3's normalized queries and keys, and heads that are not the width divided by their number; Mistral's
layers that see a window; a Llama with biases, another function between its matrices and positions that count a part of one.

Writes llama3_tiny, qwen2_tiny, qwen3_tiny, mistral_tiny and llama_bias.
"""

import torch
import torch.nn.functional as F
import transformers
from torch.func import functional_call

from common import windows
from published import perturbed, published_golden

CONFIG = {"vocab_size": 61, "max_position_embeddings": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "hidden_size": 24, "intermediate_size": 40}
STEPS, B, T = 10, 2, 16


def golden(name, config_class, model_class, more, seed):
    config = CONFIG | more
    model = model_class(config_class(**config, attn_implementation="eager", use_cache=False)).train()
    names = {n for n, _ in model.named_parameters()}
    generator = torch.Generator().manual_seed(seed)
    start = {n: p for n, p in perturbed(model, generator).items() if n in names}
    data = windows(generator, STEPS, B, T, CONFIG["vocab_size"])

    def run(p, batch):
        logits = functional_call(model, p, (batch["tokens"],)).logits
        return {"output": logits}, F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())

    published_golden(name, start, run, {"tokens": data[..., :-1], "targets": data[..., 1:]},
                     {"config": config, "transformers": transformers.__version__})


if __name__ == "__main__":
    torch.set_num_threads(1)
    scaled = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    golden("llama3_tiny", transformers.LlamaConfig, transformers.LlamaForCausalLM,
           {"rms_norm_eps": 1e-5, "rope_parameters": scaled, "tie_word_embeddings": True}, 1)
    plain = {"rms_norm_eps": 1e-6, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    golden("qwen2_tiny", transformers.Qwen2Config, transformers.Qwen2ForCausalLM,
           plain | {"tie_word_embeddings": True}, 2)
    golden("qwen3_tiny", transformers.Qwen3Config, transformers.Qwen3ForCausalLM,
           plain | {"tie_word_embeddings": False, "head_dim": 10}, 3)
    golden("mistral_tiny", transformers.MistralConfig, transformers.MistralForCausalLM,
           plain | {"tie_word_embeddings": False, "sliding_window": 5}, 4)
    golden("llama_bias", transformers.LlamaConfig, transformers.LlamaForCausalLM,
           {"rms_norm_eps": 1e-6, "rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0},
            "attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"}, 5)
