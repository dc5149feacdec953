"""prompts.py FOLDER [FILE]: tokenizers of the 95 visible characters and <s>: FOLDER/around/tokenizer.json puts it before a text,
FOLDER/bare/tokenizer.json does not. With FILE, which has the id of a character, FOLDER/named/tokenizer.json calls it <end>."""
import json
import os
import sys

folder, *file = sys.argv[1:]
template = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
around = {"type": "TemplateProcessing", "single": template, "pair": template + [{"Sequence": {"id": "B", "type_id": 1}}],
          "special_tokens": {"<s>": {"id": "<s>", "ids": [95], "tokens": ["<s>"]}}}


def write(name, after, specials):
    pieces = {chr(32 + i): i for i in range(95) if i not in specials.values()}
    added = [{"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for name, i in specials.items()]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": pieces | specials, "merges": []}
    os.makedirs(f"{folder}/{name}", exist_ok=True)
    with open(f"{folder}/{name}/tokenizer.json", "w") as f:
        json.dump({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                   "pre_tokenizer": None, "post_processor": after, "decoder": {"type": "Fuse"}, "model": model}, f)


write("around", around, {"<s>": 95})
write("bare", None, {"<s>": 95})
if file:
    end = int(open(file[0]).read())
    write("named", around, {"<s>": 95, "<end>": end})
    with open(f"{folder}/around/generation_config.json", "w") as f:
        json.dump({"eos_token_id": [95, end]}, f)
