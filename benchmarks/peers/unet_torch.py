"""The U-Net of Stable Diffusion in plain PyTorch: the peer of models/unet.plinth and models/fashion.plinth.

    python3 unet_torch.py --preset sd_1_5 --batch 1 --size 32 [--channels-last] [--compile]
"""
import math

import common
import shared
import torch
from torch import nn
from torch.nn import functional as F


class ResBlock(nn.Module):
    """time: how wide what is said of the time is; None: nothing is said."""

    def __init__(self, wide, out, groups, eps, time=None):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, wide, eps)
        self.conv1 = nn.Conv2d(wide, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, out) if time else None
        self.norm2 = nn.GroupNorm(groups, out, eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(wide, out, 1) if wide != out else None

    def forward(self, x, time=None):
        y = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            y = y + self.time_emb_proj(F.silu(time))[:, :, None, None]
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.conv_shortcut(x) if self.conv_shortcut else x)


class Attention(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x, context):
        q, k, v = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in (self.to_q(x), self.to_k(context), self.to_v(context)))
        return self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.proj = nn.Linear(width, 2 * out)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.ModuleList([Gated(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1 = Attention(width, width, heads)
        self.attn2 = Attention(width, context, heads)
        self.ff = FeedForward(width)

    def forward(self, x, context):
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Spatial(nn.Module):
    def __init__(self, width, context, heads, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, 1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context, heads)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x, context):
        y = self.proj_in(self.norm(x))
        y = self.transformer_blocks[0](y.flatten(2).transpose(1, 2), context)
        return x + self.proj_out(y.transpose(1, 2).unflatten(2, x.shape[2:]))


class Level(nn.Module):
    """Of the way down or up, or the middle: blocks, each with attention or without, and a convolution to another size."""

    def __init__(self, blocks, attentions, scale=None, scaling=None):
        super().__init__()
        self.resnets = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        if scaling:
            self.add_module(scaling, nn.ModuleList([nn.ModuleDict({"conv": scale})]))


class Unet(nn.Module):
    def __init__(self, channels, attends, heads, layers, cross, groups, colours=4, eps=1e-5):
        super().__init__()
        self.frequencies = channels[0] // 2
        time, last = 4 * channels[0], len(channels) - 1

        def block(wide, out):
            return ResBlock(wide, out, groups, eps, time)

        def spatial(i):
            return Spatial(channels[i], cross, heads[i], groups)

        self.time_embedding = nn.ModuleDict({"linear_1": nn.Linear(channels[0], time), "linear_2": nn.Linear(time, time)})
        self.conv_in = nn.Conv2d(colours, channels[0], 3, padding=1)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        wide, skips = channels[0], [channels[0]]
        for i, out in enumerate(channels):
            blocks = [block(wide if j == 0 else out, out) for j in range(layers)]
            down = (nn.Conv2d(out, out, 3, stride=2, padding=1), "downsamplers") if i < last else (None, None)
            self.down_blocks.append(Level(blocks, [spatial(i) for _ in range(layers) if attends[i]], *down))
            skips += [out] * (layers + (i < last))
            wide = out
        self.mid_block = Level([block(wide, wide), block(wide, wide)], [spatial(last)])
        for i in reversed(range(last + 1)):
            out, blocks = channels[i], []
            for _ in range(layers + 1):
                blocks.append(block(wide + skips.pop(), out))
                wide = out
            up = (nn.Conv2d(out, out, 3, padding=1), "upsamplers") if i > 0 else (None, None)
            self.up_blocks.append(Level(blocks, [spatial(i) for _ in range(layers + 1) if attends[i]], *up))
        self.conv_norm_out = nn.GroupNorm(groups, channels[0], eps)
        self.conv_out = nn.Conv2d(channels[0], colours, 3, padding=1)
        root = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
        self.register_buffer("kept", torch.cumprod(1 - root * root, 0).float(), persistent=False)

    def predict(self, x, t, context):
        """The noise in x at time t."""
        angle = t[:, None] * torch.exp(torch.arange(self.frequencies, device=x.device) * (-math.log(10000) / self.frequencies))
        time = F.silu(self.time_embedding["linear_1"](torch.cat([angle.cos(), angle.sin()], 1)))
        time = self.time_embedding["linear_2"](time)

        def level(blocks, j, x):
            x = blocks.resnets[j](x, time)
            return blocks.attentions[j](x, context) if j < len(blocks.attentions) else x

        x = self.conv_in(x)
        skips = [x]
        for blocks in self.down_blocks:
            for j in range(len(blocks.resnets)):
                x = level(blocks, j, x)
                skips.append(x)
            if hasattr(blocks, "downsamplers"):
                x = blocks.downsamplers[0]["conv"](x)
                skips.append(x)
        x = self.mid_block.resnets[1](level(self.mid_block, 0, x), time)
        for blocks in self.up_blocks:
            for j in range(len(blocks.resnets)):
                x = level(blocks, j, torch.cat([x, skips.pop()], 1))
            if hasattr(blocks, "upsamplers"):
                x = blocks.upsamplers[0]["conv"](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def forward(self, x, noise, t, context):
        kept = self.kept[t][:, None, None, None]
        return F.mse_loss(self.predict(kept.sqrt() * x + (1 - kept).sqrt() * noise, t, context), noise)


if __name__ == "__main__":
    a = shared.arguments(__doc__, shared.UNET, pictures=True)
    c = dict(shared.UNET[a.preset])
    positions = c.pop("positions")
    common.measure(Unet, c, shared.noisy(a, c.get("colours", 4), positions, c["cross"]), a, "unet")
