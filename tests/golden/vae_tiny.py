"""A tiny autoencoder of Stable Diffusion's by diffusers' AutoencoderKL, with the noise of its latents given.
Writes vae_tiny.
"""

import diffusers
import torch
import torch.nn.functional as F
from torch.func import functional_call

from published import perturbed, published_golden

CONFIG = {"in_channels": 3, "out_channels": 3, "latent_channels": 2, "block_out_channels": [4, 8],
          "layers_per_block": 1, "norm_num_groups": 2, "down_block_types": ["DownEncoderBlock2D"] * 2,
          "up_block_types": ["UpDecoderBlock2D"] * 2}
STEPS, B, H, W, KL = 10, 2, 6, 8, 1e-2


class Whole(torch.nn.Module):
    """Through the latents and back: what the training of such a model runs."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, x, noise):
        latent = self.vae.encode(x).latent_dist
        return self.vae.decode(latent.mean + latent.std * noise).sample, latent


if __name__ == "__main__":
    torch.set_num_threads(1)
    model = Whole(diffusers.AutoencoderKL(**CONFIG)).train()
    generator = torch.Generator().manual_seed(1)
    start = {n.removeprefix("vae."): p for n, p in perturbed(model, generator).items()}
    inputs = {"x": torch.rand(STEPS, B, 3, H, W, generator=generator) * 2 - 1,
              "noise": torch.randn(STEPS, B, 2, H // 2, W // 2, generator=generator)}

    def run(p, batch):
        x = batch["x"].double()
        picture, latent = functional_call(model, {"vae." + n: v for n, v in p.items()}, (x, batch["noise"].double()))
        loss = F.mse_loss(picture, x) + KL * latent.kl().sum() / B
        return {"picture": picture, "mean": latent.mean, "log_variance": latent.logvar}, loss

    published_golden("vae_tiny", start, run, inputs, {"config": CONFIG, "diffusers": diffusers.__version__})
