"""Folders that `plinth convert` writes open with from_pretrained of transformers, diffusers and peft, and give what `plinth run`
gives.

  pip install transformers diffusers peft torch
  python tests/golden/from_pretrained.py build/plinth [NAME...]

Of each family, the small model of its golden, whose weights are perturbed (biases and norms are not what they begin with):
`plinth convert`, from_pretrained of the published class, and both models' outputs for the same inputs, in f32. Exits with 1 where they
differ by more than 1e-4 of the largest, or a key is missing or too many; what the published class has beside the model (a
pooler that its outputs do not use) may be missing.
"""
import os
import re
import subprocess
import sys
import tempfile

import diffusers
import numpy
import peft
import torch
import transformers
from safetensors.numpy import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
DRAW = numpy.random.default_rng(5)


def ids(vocabulary, *shape):
    return DRAW.integers(3, vocabulary, shape).astype(numpy.int32)


def text(vocabulary=61, masked=False):
    """One text of 9 tokens; `masked`: two, and the second is shorter."""
    if not masked:
        return {"tokens": ids(vocabulary, 1, 9)}, ["input_ids"]
    keep = numpy.ones([2, 9], bool)
    keep[1, 6:] = False
    tokens = numpy.where(keep, ids(vocabulary, 2, 9), 1).astype(numpy.int32)
    return {"tokens": tokens, "types": numpy.zeros([2, 9], numpy.int32), "keep": keep}, ["input_ids", "token_type_ids", "attention_mask"]


def pairs():
    keep = numpy.ones([2, 9], bool)
    keep[1, 6:] = False
    return ({"source": ids(61, 2, 9), "keep": keep, "previous": ids(61, 2, 5)}, ["input_ids", "attention_mask", "decoder_input_ids"])


def heard():
    mel = DRAW.normal(size=[2, 6, 20]).astype(numpy.float32)
    return {"mel": mel, "previous": ids(60, 2, 5)}, ["input_features", "decoder_input_ids"]


def images(size, channels=3):
    return {"images": DRAW.normal(size=[2, channels, size, size]).astype(numpy.float32)}, ["pixel_values"]


def captions():
    tokens = ids(58, 2, 9)
    tokens[0, 8] = tokens[1, 5] = 60
    return {"tokens": tokens} | images(12)[0], ["input_ids", "pixel_values"]


def noisy():
    pictures = DRAW.normal(size=[2, 4, 6, 8]).astype(numpy.float32)
    context = DRAW.normal(size=[2, 5, 6]).astype(numpy.float32)
    return ({"x": pictures, "t": numpy.array([3, 801], numpy.int32), "context": context}, ["sample", "timestep", "encoder_hidden_states"])


def classed():
    pictures = DRAW.normal(size=[2, 3, 8, 8]).astype(numpy.float32)
    return ({"x": pictures, "t": numpy.array([3, 801], numpy.int32), "labels": ids(7, 2)}, ["hidden_states", "timestep", "class_labels"])


def latent():
    return ({"x": DRAW.normal(size=[2, 3, 6, 8]).astype(numpy.float32), "noise": DRAW.normal(size=[2, 2, 3, 4]).astype(numpy.float32)},
            ["x", "noise"])


class Adapted:
    """An adapter's folder, opened upon the folder of the model that it adapts."""

    @staticmethod
    def from_pretrained(name, output_loading_info):
        return peft.PeftModel.from_pretrained(CAUSAL.from_pretrained("base"), name), dict.fromkeys(KEYS, ())


CAUSAL, MASKED, LABELS = transformers.AutoModelForCausalLM, transformers.AutoModelForMaskedLM, transformers.AutoModelForSequenceClassification
# golden: its source, its preset, what opens it, inputs and what they are called there, the result there
MODELS = {
    "gpt2_tiny": ("gpt2_tiny", "golden", CAUSAL, lambda: text(101), "logits"),
    "llama_tiny": ("llama_tiny", "golden", CAUSAL, lambda: text(101), "logits"),
    "llama3_tiny": ("llama_variants", "llama3", CAUSAL, text, "logits"),
    "mistral_tiny": ("llama_variants", "mistral", CAUSAL, text, "logits"),
    "llama_bias": ("llama_variants", "bias", CAUSAL, text, "logits"),
    "qwen2_tiny": ("llama_variants", "qwen2", CAUSAL, text, "logits"),
    "qwen3_tiny": ("llama_variants", "qwen3", CAUSAL, text, "logits"),
    "mixtral_tiny": ("mixtral_tiny", "golden", CAUSAL, text, "logits"),
    "moe_tiny": ("moe_tiny", "golden", CAUSAL, text, "logits"),
    "moe_qwen3": ("moe_tiny", "qwen3", CAUSAL, text, "logits"),
    "moe_olmoe": ("moe_tiny", "olmoe", CAUSAL, text, "logits"),
    "deepseek_tiny": ("deepseek_tiny", "golden", CAUSAL, text, "logits"),
    "deepseek_v2": ("deepseek_tiny", "v2", CAUSAL, text, "logits"),
    "deepseek_lite": ("deepseek_tiny", "lite", CAUSAL, text, "logits"),
    "gemma_tiny": ("gemma_tiny", "golden", CAUSAL, text, "logits"),
    "gemma3_tiny": ("gemma_tiny", "gemma3", CAUSAL, text, "logits"),
    "bert_tiny": ("bert_tiny", "golden", MASKED, lambda: text(masked=True), "logits"),
    "bert_classify": ("bert_tiny", "classify", LABELS, lambda: text(masked=True), "logits"),
    "bert_embed": ("bert_tiny", "embed", transformers.AutoModel, lambda: text(masked=True), "mean"),
    "roberta_tiny": ("roberta_tiny", "golden", MASKED, lambda: text(masked=True), "logits"),
    "roberta_classify": ("roberta_tiny", "classify", LABELS, lambda: text(masked=True), "logits"),
    "vit_tiny": ("vit_tiny", "golden", transformers.AutoModelForImageClassification, lambda: images(16), "logits"),
    "whisper_tiny": ("whisper_tiny", "golden", transformers.AutoModelForSpeechSeq2Seq, heard, "logits"),
    "clip_tiny": ("clip_tiny", "golden", transformers.AutoModel, captions, "logits_per_image"),
    "t5_tiny": ("t5_tiny", "golden", transformers.AutoModelForSeq2SeqLM, pairs, "logits"),
    "flan_tiny": ("t5_tiny", "flan", transformers.AutoModelForSeq2SeqLM, pairs, "logits"),
    "unet_tiny": ("unet_tiny", "golden", diffusers.UNet2DConditionModel, noisy, "sample"),
    "unet_linear": ("unet_tiny", "linear", diffusers.UNet2DConditionModel, noisy, "sample"),
    "dit_tiny": ("dit_tiny", "golden", diffusers.DiTTransformer2DModel, classed, "sample"),
    "vae_tiny": ("vae_tiny", "golden", diffusers.AutoencoderKL, latent, "picture"),
    "lora_tiny": ("../../models/lora", None, Adapted, text, "logits"),
    "prompt_tiny": ("prompt_tiny", "golden", Adapted, text, "logits"),
}
KEYS = "missing_keys", "unexpected_keys", "mismatched_keys"
LLAMA = [f"--set={x}" for x in ("vocab=61", "layers=2", "width=24", "hidden=40", "heads=4", "groups=2")]  # of what lora_tiny adapts


def run(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def theirs(model, given, names, result):
    call = {k: torch.tensor(v) for k, v in zip(names, given.values())}
    call |= {k: v.long() for k, v in call.items() if v.dtype in (torch.int32, torch.bool)}
    with torch.no_grad():
        if result == "picture":
            latents = model.eval().encode(call["x"]).latent_dist
            return model.decode(latents.mean + latents.std * call["noise"]).sample
        out = model.eval()(**call)
    if result != "mean":
        found = getattr(out, result)
        return found[:, -given["tokens"].shape[1]:] if isinstance(model, peft.PeftModel) else found  # without a prompt's places
    keep = call["attention_mask"][:, :, None]
    mean = (out.last_hidden_state * keep).sum(1) / keep.sum(1)
    return mean / mean.norm(dim=1, keepdim=True)


def adapted(plinth, name, weights):
    """The folder `base`, of the model beneath the adapters of a golden."""
    save_file({k: v for k, v in load_file(weights).items() if "lora_" not in k and "prompt" not in k}, "base.safetensors")
    run(plinth, "convert", os.path.join(HERE, "..", "..", "models", "llama.plinth"), *LLAMA, "--weights", "base.safetensors", "-o", "base")


def main():
    plinth, chosen = os.path.abspath(sys.argv[1]), sys.argv[2:] or list(MODELS)
    os.environ["PLINTH_PATH"] = os.path.join(HERE, "..", "..", "models")  # what the goldens' sources use
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in chosen:
            source, preset, kind, make, result = MODELS[name]
            weights = os.path.join(HERE, f"{name}.weights.safetensors")
            sizes = ["--preset", preset] if preset else [*LLAMA, "--set=rank=4", "--set=alpha=8.0"]
            model = [os.path.join(HERE, f"{source}.plinth"), *sizes, "--weights", weights]
            if kind is Adapted:
                adapted(plinth, name, weights)
            run(plinth, "convert", *model, "-o", name)
            published, info = kind.from_pretrained(name, output_loading_info=True)
            given, names = make()
            inputs = []
            for key, value in given.items():
                numpy.save(f"{key}.npy", value)
                inputs += ["--input", f"{key}={key}.npy"]
            run(plinth, "run", *model, *inputs, "-o", "mine.safetensors")
            mine = load_file("mine.safetensors")
            mine = torch.tensor(mine[next(k for k in (result, "logits", *mine) if k in mine)])
            other = theirs(published, given, names, result)
            worst = float((mine - other).abs().max() / other.abs().max())
            keys = {k: [x for x in sorted(info[k]) if not re.search(r"(^|\.)pooler\.", str(x))] for k in KEYS}
            keys = {k: v for k, v in keys.items() if v}
            print(f"{name}: {type(published).__name__}, largest difference {worst:.2e} of the largest {keys or ''}", flush=True)
            bad |= not worst <= 1e-4 or bool(keys)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
