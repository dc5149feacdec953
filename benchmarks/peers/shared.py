"""What all peers share, whatever they are written with: sizes, options, how a process is looked at, and numbers for a check.

Nothing here imports a framework: the time of a peer's own import counts towards its first step.
"""
import argparse
import json
import os
import statistics
import time
import zlib

import numpy

started = time.perf_counter()
try:  # when the process began, so that the imports count towards the first step
    with open("/proc/self/stat") as f:
        ticks = float(f.read().rsplit(")", 1)[1].split()[19])
    with open("/proc/uptime") as f:
        started -= float(f.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
except (OSError, ValueError, IndexError):
    pass

GPT2 = {  # as models/gpt2.plinth has them
    "small": dict(layers=12, heads=12, width=768),
    "medium": dict(layers=24, heads=16, width=1024),
    "large": dict(layers=36, heads=20, width=1280),
    "xl": dict(layers=48, heads=25, width=1600),
    "test": dict(layers=2, heads=2, width=128, vocabulary=257, context=64),
}
LLAMA = {  # as models/llama.plinth has them
    "llama_110m": dict(layers=12, width=768, hidden=2048, heads=12, groups=12, vocabulary=32000),
    "llama_1b": dict(layers=22, width=2048, hidden=5632, heads=32, groups=4, vocabulary=32000),
    "test": dict(layers=2, width=128, hidden=176, heads=4, groups=2, vocabulary=257),
}
UNET = {  # as models/unet.plinth and models/fashion.plinth have them; positions: of the context
    "sd_1_5": dict(channels=[320, 640, 1280, 1280], attends=[1, 1, 1, 0], heads=[8, 8, 8, 8], layers=2, cross=768, groups=32, positions=77),
    "small": dict(channels=[96, 192, 384, 384], attends=[1, 1, 1, 0], heads=[2, 2, 2, 2], layers=2, cross=768, groups=32, positions=77),
    "fashion": dict(channels=[24, 48], attends=[0, 0], heads=[2, 2], layers=1, cross=8, groups=8, positions=1),
    "test": dict(channels=[16, 32], attends=[1, 0], heads=[2, 2], layers=2, cross=24, groups=4, positions=5),
}
VAE = {  # as models/vae.plinth has them
    "sd": dict(channels=[128, 256, 512, 512], layers=2, groups=32, latents=4),
    "test": dict(channels=[16, 32], layers=2, groups=4, latents=2),
}
BERT = {  # as models/bert.plinth has them
    "small": dict(layers=4, heads=8, width=512, hidden=2048, vocabulary=30522, context=512),
    "base": dict(layers=12, heads=12, width=768, hidden=3072, vocabulary=30522, context=512),
    "test": dict(layers=2, heads=2, width=128, hidden=256, vocabulary=257, context=64),
}
T5 = {  # as models/t5.plinth has them
    "flan_small": dict(layers=8, heads=6, head=64, width=512, hidden=1024, vocabulary=32128),
    "flan_base": dict(layers=12, heads=12, head=64, width=768, hidden=2048, vocabulary=32128),
    "test": dict(layers=2, heads=2, head=64, width=128, hidden=256, vocabulary=257),
}
CLIP_MODEL = {  # as models/clip.plinth has them
    "base_32": dict(space=512, end=49407,
                    text=dict(vocabulary=49408, context=77, layers=12, heads=8, width=512, hidden=2048),
                    vision=dict(image=224, patch=32, layers=12, heads=12, width=768, hidden=3072)),
    "test": dict(space=64, end=256,
                 text=dict(vocabulary=257, context=64, layers=2, heads=2, width=128, hidden=256),
                 vision=dict(image=16, patch=4, layers=2, heads=2, width=128, hidden=256)),
}
# AdamW as nanoGPT has it: weight decay on matrices alone
RATE, BETAS, EPSILON, DECAY, CLIP = 6e-4, (0.9, 0.95), 1e-8, 0.1, 1.0


def arguments(description, presets, compiles=True, pictures=False, target=False):
    """compiles: is there a choice whether the step is compiled? pictures: what is computed of, in place of tokens. target: are there
    two texts, one of which is made of the other?"""
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--preset", default=next(iter(presets)), choices=list(presets))
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--batch", type=int, default=4)
    if pictures:
        p.add_argument("--size", type=int, default=32, help="height and width")
        p.add_argument("--channels-last", action="store_true", help="how pictures and convolutions' weights lie in memory")
    else:
        p.add_argument("--seq", type=int, default=64)
    if target:
        p.add_argument("--target", type=int, default=32, help="tokens of the text that is made")
    p.add_argument("--steps", type=int, default=0, help="of a run; 0: as many as take a second")
    p.add_argument("--runs", type=int, default=5, help="whose median counts")
    p.add_argument("--precision", default="f32", choices=["f32", "bf16"], help="bf16: autocast, with parameters in f32")
    if compiles:
        p.add_argument("--compile", action="store_true", help="torch.compile, its default mode")
    p.add_argument("--checkpoint", action="store_true", help="each block is computed again in backward")
    p.add_argument("--transient", action="store_true", help="the memory of one step, beside what stays, in place of its time")
    p.add_argument("--check", action="store_true", help="losses of a few steps from numbers that all peers have, in place of its time")
    p.add_argument("--threads", type=int, default=0)
    return p.parse_args()


def number(name, shape):
    """A parameter's for --check, by its name and its shape as PyTorch has it: those of a norm's gain are near 1."""
    x = numpy.asarray(numpy.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=numpy.float32))
    gain = name.endswith("weight") and len(shape) == 1
    return numpy.asarray(1 + numpy.float32(0.1) * x if gain else numpy.float32(0.05) * x)


def tokens(vocabulary, a):
    """Four batches: inputs and targets."""
    return numpy.random.default_rng(0).integers(0, vocabulary, (4, 2, a.batch, a.seq), dtype=numpy.int64)


def masked(a, vocabulary):
    """Four batches: tokens, their kinds, which are there (about half, as `plinth bench` draws them), and targets everywhere."""
    draw = numpy.random.default_rng(1)
    for texts, targets in tokens(vocabulary, a):
        yield texts, draw.integers(0, 2, texts.shape), draw.random(texts.shape) < 0.5, targets


def pairs(a, vocabulary):
    """Four batches: a text, which of its tokens are there (about half), what has been said of the other text, and what is to be."""
    draw = numpy.random.default_rng(0)
    for _ in range(4):
        source = draw.integers(0, vocabulary, (a.batch, a.seq), dtype=numpy.int64)
        previous, targets = draw.integers(0, vocabulary, (2, a.batch, a.target), dtype=numpy.int64)
        yield source, draw.random(source.shape) < 0.5, previous, targets


def captions(a, c):
    """Four batches: texts, each ending at its last token, and pictures."""
    draw = numpy.random.default_rng(0)
    size = c["vision"]["image"]
    for _ in range(4):
        texts = draw.integers(0, c["end"], (a.batch, c["text"]["context"]), dtype=numpy.int64)
        texts[:, -1] = c["end"]
        yield texts, draw.random((a.batch, 3, size, size), dtype=numpy.float32)


def noisy(a, colours, positions, cross):
    """Four batches: pictures, the noise in them, its times, and what is said of them."""
    draw = numpy.random.default_rng(0)
    shape = (a.batch, colours, a.size, a.size)
    for _ in range(4):
        x, noise = draw.standard_normal((2, *shape), dtype=numpy.float32)
        yield x, noise, draw.integers(0, 1000, a.batch), draw.standard_normal((a.batch, positions, cross), dtype=numpy.float32)


def pictures(a, latents, shrink, colours=3):
    """Four batches: pictures, and noise like their latents."""
    draw = numpy.random.default_rng(0)
    for _ in range(4):
        x = draw.random((a.batch, colours, a.size, a.size), dtype=numpy.float32)
        yield x, draw.standard_normal((a.batch, latents, a.size // shrink, a.size // shrink), dtype=numpy.float32)


CHECKED = 4  # steps


def resident():
    """The most bytes that the process has had in memory."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "measurements": len(values)}


def measure(a, step, wait):
    """Times step(i), which gives a loss that float() waits for; wait() waits for all that a step does. What a line of JSON has of it."""
    losses = [float(step(0))]
    wait()
    first = time.perf_counter() - started
    step(1)
    wait()
    begun = time.perf_counter()
    step(2)
    wait()
    steps = a.steps or max(1, min(1000, int(1 / (time.perf_counter() - begun)) + 1))
    runs = []
    for _ in range(a.runs):
        begun = time.perf_counter()
        for i in range(steps):
            loss = step(i)
        loss = float(loss)
        wait()
        runs.append((time.perf_counter() - begun) / steps)
    seconds = spread(runs)
    return {"seconds": seconds, "steps_of_a_run": steps, "tokens_per_second": a.batch * getattr(a, "seq", 1) / seconds["median"],
            "first_step_seconds": first, "loss": [*losses, loss], "load": os.getloadavg()[0]}


def head(a, peer, what):
    """With which a line of JSON begins."""
    of = {name: getattr(a, name) for name in ("batch", "seq", "size", "channels_last") if hasattr(a, name)}
    return {"peer": peer, "model": what, "preset": a.preset, "device": a.device, **of, "precision": a.precision}


def report(line):
    print(json.dumps(line))
