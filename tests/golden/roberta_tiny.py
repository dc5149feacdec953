"""A tiny RoBERTa by Hugging Face's transformers, as a masked language model of padded texts, and a classifier.

Writes roberta_tiny and roberta_classify.
"""

import torch
import transformers

from bert_tiny import B, CONFIG, STEPS, classify, golden, hidden, mask, texts

if __name__ == "__main__":
    torch.set_num_threads(1)
    own = {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
    config = transformers.RobertaConfig(**{k: v for k, v in (CONFIG | own).items() if k != "model_type"},
                                        attn_implementation="eager", num_labels=5)
    inputs, generator = texts(7, padding=1)
    inputs["types"] = torch.zeros_like(inputs["types"])
    golden("roberta_tiny", transformers.RobertaForMaskedLM(config).train(), mask, hidden(inputs, generator), 1)
    inputs, generator = texts(8, padding=1)
    inputs["types"] = torch.zeros_like(inputs["types"])
    labels = torch.randint(5, (STEPS, B), generator=generator)
    golden("roberta_classify", transformers.RobertaForSequenceClassification(config).train(), classify,
           inputs | {"labels": labels}, 2)
