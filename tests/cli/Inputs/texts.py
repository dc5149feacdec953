# texts.py FOLDER: lab.*: texts whose label is which colour they name, alone or with a second text; rel.*: texts and the same
# words backwards; FOLDER/*-captions.txt: what the images of images.py show; and their tokenizers.
import json
import random
import sys

draw = random.Random(2)
words = "red blue green one two three big small".split()
for part, n in ("train", 200), ("val", 30):
    with open(f"lab.{part}.tsv", "w") as labelled, open(f"rel.{part}.tsv", "w") as related:
        for i in range(n):
            text = [draw.choice(words[3:]) for _ in range(draw.randrange(1, 6))]
            text.insert(draw.randrange(len(text) + 1), words[i % 3])
            second = f"\t{draw.choice(words[3:])}" if i % 2 else ""
            labelled.write(f"{' '.join(text)}{second}\t{i % 3}\n")
            related.write(f"{' '.join(text)}\t{' '.join(text[::-1])}\n")
for part, n in ("train", 200), ("t10k", 50):
    with open(f"{sys.argv[1]}/{part}-captions.txt", "w") as f:
        f.writelines(["a light row\n", "a column of light\n", "the diagonal\n"][i % 3] for i in range(n))


def tokenizer(path, special, rest, around):
    names = special + rest
    added = [{"id": i, "content": names[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i in range(len(special))]
    ids = {x: {"id": x, "ids": [names.index(x)], "tokens": [x]} for x in special}

    def template(text):
        return [{"Sequence": {"id": x, "type_id": int(x == "B")}} if len(x) == 1 else {"SpecialToken": {"id": x, "type_id": 0}}
                for x in text]
    with open(path, "w") as f:
        json.dump({"version": "1.0", "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None,
                   "post_processor": {"type": "TemplateProcessing", "single": template(around[0]), "pair": template(around[1]),
                                      "special_tokens": ids},
                   "added_tokens": added,
                   "model": {"type": "WordLevel", "unk_token": special[0], "vocab": {x: i for i, x in enumerate(names)}}}, f)


for name in "lab", "rel":
    tokenizer(f"{name}.tokenizer.json", ["[PAD]", "[CLS]", "[SEP]"], words,
              (["[CLS]", "A", "[SEP]"], ["[CLS]", "A", "[SEP]", "B", "[SEP]"]))
tokenizer(f"{sys.argv[1]}/tokenizer.json", ["</s>"], "a light row column of the diagonal".split(), (["A", "</s>"], ["A", "B", "</s>"]))
