"""A tiny BERT by Hugging Face's transformers: the masked language model, a classifier, and the mean of the hidden
states as sentence embeddings; padded texts, two token types.

Writes bert_tiny, bert_classify and bert_embed.
"""

import torch
import torch.nn.functional as F
import transformers
from torch.func import functional_call

from common import windows
from published import perturbed, published_golden

CONFIG = {"model_type": "bert", "vocab_size": 61, "max_position_embeddings": 16, "type_vocab_size": 2,
          "num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 24, "intermediate_size": 40,
          "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
STEPS, B, T = 10, 3, 12


def texts(seed, padding=0):
    """Token windows, each text's own length and where its second part begins. The padding token is padding alone:
    its embedding has no gradient."""
    generator = torch.Generator().manual_seed(seed)
    first = padding + 1
    tokens = first + windows(generator, STEPS, B, T - 1, CONFIG["vocab_size"] - first)
    length = torch.randint(T // 2, T + 1, (STEPS, B, 1), generator=generator)
    second = torch.randint(2, T // 2, (STEPS, B, 1), generator=generator)
    place = torch.arange(T)
    keep = place < length
    return {"tokens": torch.where(keep, tokens, padding), "types": (place >= second).long(), "keep": keep}, generator


def arguments(batch):
    return {"input_ids": batch["tokens"], "token_type_ids": batch["types"],
            "attention_mask": batch["keep"].long()}


def hidden(inputs, generator):
    """Some tokens hidden, which the masked language model is to say."""
    chosen = (torch.rand(STEPS, B, T, generator=generator) < 0.3) & inputs["keep"]
    chosen[:, :, 1] = True
    return inputs | {"tokens": torch.where(chosen, CONFIG["vocab_size"] - 1, inputs["tokens"]),
                     "targets": torch.where(chosen, inputs["tokens"], -100)}


def golden(name, model, run, inputs, seed):
    names = {n for n, _ in model.named_parameters()}  # each tied one once
    start = {n: p for n, p in perturbed(model, torch.Generator().manual_seed(seed)).items() if n in names}
    published_golden(name, start, lambda p, batch: run(lambda **a: functional_call(model, p, (), a), batch), inputs,
                     {"config": model.config.to_diff_dict(), "transformers": transformers.__version__})


def mask(call, batch):
    logits = call(**arguments(batch)).logits
    return {"output": logits}, F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())


def classify(call, batch):
    logits = call(**arguments(batch)).logits
    return {"output": logits}, F.cross_entropy(logits, batch["labels"])


def embed(call, batch):
    """Mean pooling as the package sentence-transformers has it, and its loss for pairs of texts."""
    def embedding(tokens, keep):
        hidden = call(input_ids=tokens, attention_mask=keep.long()).last_hidden_state
        weight = keep[:, :, None].to(hidden.dtype)
        return F.normalize((hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9))

    a, b = (embedding(batch[n + "tokens"], batch[n + "keep"]) for n in ("", "other_"))
    return {"output": a}, F.cross_entropy(20 * a @ b.T, torch.arange(B))


if __name__ == "__main__":
    torch.set_num_threads(1)
    config = transformers.BertConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"},
                                     attn_implementation="eager", num_labels=5)
    inputs, generator = texts(7)
    golden("bert_tiny", transformers.BertForMaskedLM(config).train(), mask, hidden(inputs, generator), 1)
    inputs, generator = texts(8)
    labels = torch.randint(5, (STEPS, B), generator=generator)
    golden("bert_classify", transformers.BertForSequenceClassification(config).train(), classify,
           inputs | {"labels": labels}, 2)
    inputs, other = texts(9)[0], texts(10)[0]
    inputs["types"] = torch.zeros_like(inputs["types"])  # one text, not two
    golden("bert_embed", transformers.BertModel(config, add_pooling_layer=False).train(), embed,
           inputs | {"other_tokens": other["tokens"], "other_keep": other["keep"]}, 3)
