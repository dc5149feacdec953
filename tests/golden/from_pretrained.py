"""Folders that `plinth convert` writes open with transformers' from_pretrained, and give the logits that `plinth run` gives.

  pip install transformers torch
  python tests/golden/from_pretrained.py build/plinth

For gpt2, llama, bert and t5 in their `test` presets: one training step from the seed (so that biases and norms are not
what they begin with), then `plinth convert` of the run's folder, `AutoModel...from_pretrained`, and both models' outputs
for a few texts, in f32. Exits with 1 where they differ by more than 1e-4 of the largest, or a key is missing or too many.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + "the license of a work and or to in any you for this that".split()
TEXTS = ["the license of a work", "any work"]
SMALL = ["--set", "train.batch.B=2", "--steps", "1", "--precision", "f32", "--set", "train.checkpoint.every=1", "--set", "train.seed=3"]
MODELS = {
    "gpt2": (["--set", "train.batch.T=16"], transformers.AutoModelForCausalLM),
    "llama": (["--set", "train.batch.T=16"], transformers.AutoModelForCausalLM),
    "bert": (["--set", "train.batch.T=16"], transformers.AutoModelForMaskedLM),
}


def run(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def main():
    plinth = os.path.abspath(sys.argv[1])
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("vocab.txt", "w") as f:
            f.write("\n".join(VOCABULARY) + "\n")
        run(plinth, "data", "tokenize", os.path.join(ROOT, "LICENSE"), "--tokenizer", "vocab.txt", "-o", "text")
        for name, (more, kind) in MODELS.items():
            if len(sys.argv) > 2 and name not in sys.argv[2:]:
                continue
            run(plinth, "train", os.path.join(ROOT, "models", f"{name}.plinth"), "--preset", "test", "--data", "text", "-o", name, *SMALL, *more)
            run(plinth, "convert", name, "-o", f"{name}.published")
            model, info = kind.from_pretrained(f"{name}.published", output_loading_info=True)
            words = transformers.AutoTokenizer.from_pretrained(f"{name}.published")
            worst = 0
            for text in TEXTS:
                mine = torch.tensor(json.loads(run(plinth, "run", name, "--input", text, "--json"))["output"])
                given = words(text, return_tensors="pt")
                with torch.no_grad():
                    theirs = model.eval()(**given).logits
                worst = max(worst, float((mine - theirs).abs().max() / theirs.abs().max()))
            keys = {k: sorted(info[k]) for k in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[k]}
            print(f"{name}: {type(model).__name__}, largest difference {worst:.2e} of the largest logit {keys or ''}", flush=True)
            bad |= worst > 1e-4 or bool(keys)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
