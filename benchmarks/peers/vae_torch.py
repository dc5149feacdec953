"""The autoencoder of Stable Diffusion in plain PyTorch: the peer of models/vae.plinth.

    python3 vae_torch.py --preset sd --batch 1 --size 64 [--channels-last] [--compile]
"""
import common
import shared
import torch
from torch import nn
from torch.nn import functional as F
from unet_torch import Level, ResBlock


class Spatial(nn.Module):
    """Of all positions to all positions, with one head."""

    def __init__(self, width, groups, eps):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x):
        y = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (f(y)[:, None] for f in (self.to_q, self.to_k, self.to_v))
        y = self.to_out[0](F.scaled_dot_product_attention(q, k, v)[:, 0])
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:])


class Half(nn.Module):
    """What encoder and decoder share: two ends and a middle."""

    def __init__(self, first, wide, last, out, groups, eps):
        super().__init__()
        self.conv_in = nn.Conv2d(first, wide[0], 3, padding=1)
        self.mid_block = Level([ResBlock(wide[1], wide[1], groups, eps) for _ in range(2)], [Spatial(wide[1], groups, eps)])
        self.conv_norm_out = nn.GroupNorm(groups, last, eps)
        self.conv_out = nn.Conv2d(last, out, 3, padding=1)

    def middle(self, x):
        return self.mid_block.resnets[1](self.mid_block.attentions[0](self.mid_block.resnets[0](x)))

    def end(self, x):
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Encoder(Half):
    def __init__(self, first, channels, layers, out, groups, eps):
        super().__init__(first, (channels[0], channels[-1]), channels[-1], out, groups, eps)
        self.down_blocks = nn.ModuleList()
        wide = channels[0]
        for i, c in enumerate(channels):
            blocks = [ResBlock(wide if j == 0 else c, c, groups, eps) for j in range(layers)]
            down = (nn.Conv2d(c, c, 3, stride=2), "downsamplers") if i + 1 < len(channels) else (None, None)
            self.down_blocks.append(Level(blocks, [], *down))
            wide = c

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down_blocks:
            for block in level.resnets:
                x = block(x)
            if hasattr(level, "downsamplers"):
                x = level.downsamplers[0]["conv"](F.pad(x, (0, 1, 0, 1)))
        return self.end(self.middle(x))


class Decoder(Half):
    def __init__(self, first, channels, layers, out, groups, eps):
        super().__init__(first, (channels[-1], channels[-1]), channels[0], out, groups, eps)
        self.up_blocks = nn.ModuleList()
        wide = channels[-1]
        for i, c in reversed(list(enumerate(channels))):
            blocks = [ResBlock(wide if j == 0 else c, c, groups, eps) for j in range(layers + 1)]
            up = (nn.Conv2d(c, c, 3, padding=1), "upsamplers") if i > 0 else (None, None)
            self.up_blocks.append(Level(blocks, [], *up))
            wide = c

    def forward(self, x):
        x = self.middle(self.conv_in(x))
        for level in self.up_blocks:
            for block in level.resnets:
                x = block(x)
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0]["conv"](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.end(x)


class Vae(nn.Module):
    def __init__(self, channels, layers, groups, latents, colours=3, eps=1e-6, kl=1e-6):
        super().__init__()
        self.kl = kl
        self.encoder = Encoder(colours, channels, layers, 2 * latents, groups, eps)
        self.decoder = Decoder(latents, channels, layers, colours, groups, eps)
        self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = nn.Conv2d(latents, latents, 1)

    def forward(self, images, noise):
        x = 2 * images - 1
        mean, log_variance = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        latent = mean + torch.exp(0.5 * log_variance) * noise
        picture = self.decoder(self.post_quant_conv(latent))
        far = 0.5 * (mean * mean + log_variance.exp() - 1 - log_variance).sum()
        return F.mse_loss(picture, x) + self.kl * far / x.shape[0]


if __name__ == "__main__":
    a = shared.arguments(__doc__, shared.VAE, pictures=True)
    c = shared.VAE[a.preset]
    common.measure(Vae, c, shared.pictures(a, c["latents"], 2 ** (len(c["channels"]) - 1)), a, "vae")
