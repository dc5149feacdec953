"""A tiny T5 (tied head, ReLU) and a tiny Flan-T5 (its own head, gated GELU) by Hugging Face's transformers: padded sources,
targets that end early, distances in the logarithmic buckets.

Writes t5_tiny and flan_tiny.
"""

import torch
import torch.nn.functional as F
import transformers
from torch.func import functional_call

from common import windows
from published import perturbed, published_golden

CONFIG = {"model_type": "t5", "vocab_size": 61, "d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2,
          "num_heads": 3, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
          "layer_norm_epsilon": 1e-6, "dropout_rate": 0.0}
STEPS, B, S, T = 10, 2, 18, 16


def golden(name, more, seed):
    config = CONFIG | more
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(
        **{k: v for k, v in config.items() if k != "model_type"}, attn_implementation="eager",
        use_cache=False)).train()
    if not config["tie_word_embeddings"]:
        model.lm_head.weight = torch.nn.Parameter(model.shared.weight.detach().clone())
    names = {n for n, _ in model.named_parameters()}
    generator = torch.Generator().manual_seed(seed)
    start = {n: p for n, p in perturbed(model, generator).items() if n in names}
    source = 1 + windows(generator, STEPS, B, S - 1, CONFIG["vocab_size"] - 1)
    keep = torch.arange(S) < torch.randint(S // 2, S + 1, (STEPS, B, 1), generator=generator)
    said = 1 + windows(generator, STEPS, B, T - 1, CONFIG["vocab_size"] - 1)
    wanted = torch.arange(T) < torch.randint(T // 2, T + 1, (STEPS, B, 1), generator=generator)
    inputs = {"source": torch.where(keep, source, 0), "keep": keep, "previous": F.pad(said, (1, 0))[..., :-1],
              "targets": torch.where(wanted, said, -100)}

    def run(p, batch):
        logits = functional_call(model, p, (), {
            "input_ids": batch["source"], "attention_mask": batch["keep"].long(),
            "decoder_input_ids": batch["previous"]}).logits
        return {"output": logits}, F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())

    published_golden(name, start, run, inputs, {"config": config, "transformers": transformers.__version__})


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden("t5_tiny", {"feed_forward_proj": "relu", "tie_word_embeddings": True, "num_decoder_layers": 2}, 1)
    golden("flan_tiny", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
                         "num_decoder_layers": 1}, 2)
