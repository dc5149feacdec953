"""A tiny Vision Transformer by Hugging Face's ViTForImageClassification: at the size of image that it was made for, and
at a larger one, to which the positions are interpolated.

Writes vit_tiny and vit_resized.
"""

import torch
import torch.nn.functional as F
import transformers
from torch.func import functional_call

from published import perturbed, published_golden, renamed

CONFIG = {"model_type": "vit", "image_size": 16, "patch_size": 4, "num_channels": 3, "num_hidden_layers": 2,
          "num_attention_heads": 3, "hidden_size": 24, "intermediate_size": 40, "layer_norm_eps": 1e-12,
          "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
STEPS, B, CLASSES = 10, 2, 5
RULES = (("vit.layers.", "vit.encoder.layer."), ("attention.q_proj", "attention.attention.query"),
         ("attention.k_proj", "attention.attention.key"), ("attention.v_proj", "attention.attention.value"),
         ("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"),
         ("mlp.fc2", "output.dense"))


def golden(name, size, seed):
    config = transformers.ViTConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"}, num_labels=CLASSES,
                                    attn_implementation="eager")
    model = transformers.ViTForImageClassification(config).train()
    generator = torch.Generator().manual_seed(seed)
    drawn = perturbed(model, generator)
    for n in ("vit.embeddings.cls_token", "vit.embeddings.position_embeddings"):
        drawn[n] = torch.randn(drawn[n].shape, generator=generator) * 0.5
    published = renamed(drawn, RULES)

    def run(p, batch):
        own = {n: p[published[n]] for n in drawn}
        logits = functional_call(model, own, (batch["images"],), {"interpolate_pos_encoding": True}).logits
        return {"output": logits}, F.cross_entropy(logits, batch["labels"])

    images = torch.randn(STEPS, B, 3, size, size, generator=generator)
    labels = torch.randint(CLASSES, (STEPS, B), generator=generator)
    published_golden(name, {published[n]: x for n, x in drawn.items()}, run, {"images": images, "labels": labels},
                     {"config": CONFIG, "transformers": transformers.__version__})


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden("vit_tiny", 16, 1)
    golden("vit_resized", 24, 2)
