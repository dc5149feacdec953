"""A tiny Llama of Hugging Face's, frozen, and adapted by the package peft: LoRA and DoRA of queries and
values, and prompt tuning. Writes lora_tiny, dora_tiny and prompt_tiny.
"""

import peft
import torch
import torch.nn.functional as F
import transformers
from torch.func import functional_call

from common import windows
from published import perturbed, published_golden

CONFIG = {"model_type": "llama", "vocab_size": 61, "max_position_embeddings": 32, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 24, "intermediate_size": 40,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False}
STEPS, B, T, RANK, PROMPT = 10, 3, 12, 4, 5


def plain(name):
    """Of peft's module: as its files have it, without what stands before the model's own names."""
    return (name.replace("base_model.model.", "", 1).replace(".base_layer.", ".").replace(".default", "")
            .replace("lora_magnitude_vector.weight", "lora_magnitude"))


def golden(name, adapter, trained, peft_name=plain):
    config = transformers.LlamaConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"},
                                      attn_implementation="eager")
    model = peft.get_peft_model(transformers.LlamaForCausalLM(config), adapter).train()
    names = {peft_name(n): n for n, _ in model.named_parameters()}
    values = {peft_name(n): p for n, p in perturbed(model, torch.Generator().manual_seed(1)).items()}
    start = {n: values[n] for n in names}  # no buffers
    for n in start:  # what is beyond the norms of the rows, see dora_tiny.plinth
        if n.endswith("lora_magnitude"):
            start[n] = start[n] - 1
    data = windows(torch.Generator().manual_seed(7), STEPS, B, T, CONFIG["vocab_size"])

    def run(p, batch):
        theirs = {names[n]: x for n, x in p.items()}
        for n in p:
            if n.endswith("lora_magnitude"):
                theirs[names[n]] = p[n] + p[n.replace("lora_magnitude", "weight")].norm(dim=1)
        logits = functional_call(model, theirs, (), {"input_ids": batch["tokens"]}).logits[:, -T:]
        return {"output": logits}, F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())

    published_golden(name, start, run, {"tokens": data[..., :-1], "targets": data[..., 1:]},
                     {"config": CONFIG, "peft": peft.__version__, "transformers": transformers.__version__},
                     trained=[n for n in start if trained in n])


if __name__ == "__main__":
    torch.set_num_threads(1)
    for dora in (False, True):
        lora = peft.LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=8, target_modules=["q_proj", "v_proj"],
                               use_dora=dora)
        golden("dora_tiny" if dora else "lora_tiny", lora, "lora_")
    golden("prompt_tiny", peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=PROMPT),
           "prompt", lambda n: n.replace("base_model.", "", 1).replace("prompt_encoder.default.embedding.weight",
                                                                          "model.layers.0.prompt_embeddings"))
