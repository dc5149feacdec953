"""A tiny U-Net of Stable Diffusion's by diffusers' UNet2DConditionModel, which predicts noise in pictures at
times of the schedule of its DDPMScheduler. Writes unet_tiny and, with linear projections and other heads as in
Stable Diffusion 2, unet_linear.
"""

import math

import diffusers
import torch
import torch.nn.functional as F
from torch.func import functional_call

from published import perturbed, published_golden

CONFIG = {"in_channels": 4, "out_channels": 4, "block_out_channels": [4, 8], "layers_per_block": 1,
          "cross_attention_dim": 6, "norm_num_groups": 2,
          "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
          "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
STEPS, B, H, W, S = 10, 2, 6, 8, 5


class Times(torch.nn.Module):
    """diffusers' sinusoids of the time in f64: it takes angles of up to 999 in f32 whatever it computes in."""

    def __init__(self, theirs, width):
        super().__init__()
        self.frequency = torch.exp(torch.arange(width // 2, dtype=torch.float64) * (-math.log(10000) / (width // 2)))
        t = torch.arange(0, 1000, 37)
        assert (theirs(t) - self(t)).abs().max() < 1e-4

    def forward(self, t):
        angle = t[:, None] * self.frequency
        return torch.cat([angle.cos(), angle.sin()], 1)


def schedule():
    """Its noise schedule, in f64 too."""
    ddpm = diffusers.DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    kept = torch.cumprod(1 - torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2, 0)
    assert (kept - ddpm.alphas_cumprod).abs().max() < 1e-5
    ddpm.alphas_cumprod = kept
    return ddpm


def golden(name, seed, **more):
    config = CONFIG | more
    model = diffusers.UNet2DConditionModel(**config).train()
    ddpm = schedule()
    generator = torch.Generator().manual_seed(seed)
    start = perturbed(model, generator)
    model.time_proj = Times(model.time_proj, config["block_out_channels"][0])
    clean, noise = (torch.randn(STEPS, B, 4, H, W, generator=generator) for _ in range(2))
    inputs = {"clean": clean, "noise": noise, "t": torch.randint(1000, (STEPS, B), generator=generator),
              "context": torch.randn(STEPS, B, S, config["cross_attention_dim"], generator=generator)}
    inputs["x"] = torch.stack([ddpm.add_noise(*each) for each in zip(clean, noise, inputs["t"])])

    def run(p, batch):
        x = ddpm.add_noise(batch["clean"].double(), batch["noise"].double(), batch["t"])
        out = functional_call(model, p, (x, batch["t"], batch["context"].double())).sample
        return {"output": out}, F.mse_loss(out, batch["noise"].double())

    published_golden(name, start, run, inputs, {"config": config, "diffusers": diffusers.__version__})


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden("unet_tiny", 1, attention_head_dim=2)
    golden("unet_linear", 2, attention_head_dim=[2, 4], use_linear_projection=True)
