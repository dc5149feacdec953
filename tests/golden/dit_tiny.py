"""A tiny Diffusion Transformer by diffusers' DiTTransformer2DModel, by the loss of its recipe with times and noise given. Classes are
all told (in training the published class draws those that are not).

Writes dit_tiny.
"""

import math

import diffusers
import torch
import torch.nn.functional as F
from torch.func import functional_call

from published import perturbed, published_golden

CONFIG = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 3, "out_channels": 6, "num_layers": 2,
          "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 7, "norm_eps": 1e-4}
STEPS, B, C, N = 10, 2, CONFIG["in_channels"], CONFIG["sample_size"]


class Times(torch.nn.Module):
    """diffusers' sinusoids of the time in f64: it takes angles of up to 999 in f32 whatever it computes in."""

    def forward(self, t):
        angle = t[:, None].double() * torch.exp(torch.arange(128, dtype=torch.float64) * (-math.log(10000) / 127))
        return torch.cat([angle.cos(), angle.sin()], -1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    model = diffusers.DiTTransformer2DModel(**CONFIG).eval()
    for block in model.transformer_blocks:
        assert (block.norm1.emb.time_proj(torch.arange(999)) - Times()(torch.arange(999))).abs().max() < 1e-4
        block.norm1.emb.time_proj = Times()
    generator = torch.Generator().manual_seed(1)
    names = {n for n, _ in model.named_parameters()}
    start = {n: p for n, p in perturbed(model, generator).items() if n in names}
    for n in start:  # what opens branches is small, as where it begins with 0: else outputs are large, and steps far apart
        start[n] *= 0.2 if n.endswith(("norm1.linear.weight", "proj_out_1.weight", "proj_out_2.weight")) else 1
    inputs = {"x": torch.randn(STEPS, B, C, N, N, generator=generator),
              "noise": torch.randn(STEPS, B, C, N, N, generator=generator),
              "t": torch.randint(1000, (STEPS, B), generator=generator),
              "labels": torch.randint(1 + CONFIG["num_embeds_ada_norm"], (STEPS, B), generator=generator)}

    def run(p, batch):
        output = functional_call(model, p, (batch["x"].double(), batch["t"], batch["labels"])).sample
        return {"output": output}, F.mse_loss(output[:, :C], batch["noise"].double())

    published_golden("dit_tiny", start, run, inputs, {"config": CONFIG, "diffusers": diffusers.__version__})
