"""A tiny CLIP by Hugging Face's CLIPModel: texts of several lengths and their images, the loss over the batch."""

import torch
import transformers
from torch.func import functional_call

from published import perturbed, published_golden

TOWER = {"num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 24, "intermediate_size": 40,
         "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
END = 60
CONFIG = {"model_type": "clip", "projection_dim": 16,
          "text_config": TOWER | {"vocab_size": 61, "max_position_embeddings": 16, "bos_token_id": 59,
                                  "eos_token_id": END, "pad_token_id": END},
          "vision_config": TOWER | {"image_size": 12, "patch_size": 4, "num_channels": 3}}
STEPS, B, T = 10, 3, 12


if __name__ == "__main__":
    torch.set_num_threads(1)
    model = transformers.CLIPModel(transformers.CLIPConfig(
        **{k: v for k, v in CONFIG.items() if k != "model_type"}, attn_implementation="eager")).train()
    generator = torch.Generator().manual_seed(1)
    start = perturbed(model, generator)
    start["logit_scale"] = torch.tensor(1.5)
    start["vision_model.embeddings.class_embedding"] = torch.randn(24, generator=generator) * 0.5
    tokens = torch.randint(END, (STEPS, B, T), generator=generator)
    length = torch.randint(3, T, (STEPS, B, 1), generator=generator)
    tokens = torch.where(torch.arange(T) < length, tokens, END)
    images = torch.randn(STEPS, B, 3, 12, 12, generator=generator)

    def run(p, batch):
        out = functional_call(model, p, (), {"input_ids": batch["tokens"], "pixel_values": batch["images"],
                                             "return_loss": True})
        return {"logits": out.logits_per_image, "image": out.image_embeds, "text": out.text_embeds}, out.loss

    published_golden("clip_tiny", start, run, {"tokens": tokens, "images": images},
                     {"config": CONFIG, "transformers": transformers.__version__})
