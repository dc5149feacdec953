"""tokenizer.json and friends: byte-pair encoding as Hugging Face's `tokenizers` does it.

Trains a small byte-level BPE on texts in several scripts and writes
  tokenizer.bpe.json     the tokenizer, with <|endoftext|> added
  tokenizer.vocab.json, tokenizer.merges.txt    the same as GPT-2's pair of files
  tokenizer.cases.json   versions; the corpus; texts with their words and ids
Run: pip install tokenizers==0.23.3; python tests/golden/tokenizer.py
"""
import json
import os
import random
import shutil
import sys
import tempfile

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))

# Written for this file. Many pairs tie, so that the order of equals is tested too.
CORPUS = [
    "The river runs to the sea, and the sea is never full; the rivers return whence they came.\n"
    "Whoever watches the wind won't sow, and whoever regards the clouds won't reap.\n",
    "Река течёт к морю, а море не переполняется; реки возвращаются туда, откуда пришли.\n"
    "Кто наблюдает ветер, тому не сеять.\n",
    "江河都往海里流,海却不满;江河从何处流,仍归还何处。\n看风的必不撒种,望云的必不收割。\n",
    "الأنهار كلها تجري إلى البحر والبحر ليس بملآن\n",
    "सब नदियाँ समुद्र में जा मिलती हैं, तौभी समुद्र भर नहीं जाता\n",
    "for (int i = 0; i < 100; i++) {\n\tsum += x[i] * y[i];\n\tif (!sum)   break;\n}\n",
    "🌊🌊 waves 🌊🌊🏞️ river 👩‍🚀👩‍🚀 e\u0301te\u0301 cafe\u0301 café\n",
    "aaaa aaaaaaaa abababab abcabcabc bcbcbc aaa\n",
]

TEXTS = [
    "",
    " ",
    "The rivers",
    "the sea, and the clouds",
    "won't it's they're we've I'm you'll he'd WON'T 'tis 's't",
    "   leading, trailing   ",
    "a  b   c\n\n\nd \n e\t\tf\r\ng",
    "x=1234567890 12.5e-3 ½ Ⅳ ٣٤ 五",
    "Кто наблюдает реки, тому море",
    "海里的江河,不满。从何处",
    "البحر والأنهار",
    "समुद्र में नदियाँ",
    "e\u0301te\u0301 e\u0301\u0302\u0323 a\u0308 n\u0303",
    "👩‍🚀🌊🏞️🇨🇭👍🏽",
    "nb\u00a0sp thin\u2009sp ideo\u3000sp nel\u0085x ls\u2028y zwsp\u200bz mvs\u180ew",
    "a \u0085b \u00a0c \u3000d \u2028e \u180ef \u200bg \u1680h \u001fi",
    "ctrl \u0001\u001c\u001f\u007f end",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abcabcababcbcbcaaabcc" * 20,
    "====----____####    ////",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ﷽ ﬁ ß İ ı",
    "<|endoftext",
    "😀" * 40 + "é" * 40,
]


def random_texts():
    rng = random.Random(20240607)
    pools = ["abc ", "ab\n ", "река море,.", "江河海 a1", "e\u0301 \u0308🌊\u200d", "0123 ab'st"]
    for i in range(60):
        pool = pools[i % len(pools)]
        yield "".join(rng.choice(pool) for _ in range(rng.randrange(1, 60)))


def main():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator(CORPUS, trainer)
    texts = TEXTS + CORPUS + list(random_texts())
    cases = []
    for text in texts:
        cases.append({"text": text,
                      "words": [w for w, _ in t.pre_tokenizer.pre_tokenize_str(text)],
                      "ids": t.encode(text).ids})
        assert t.decode(cases[-1]["ids"], skip_special_tokens=False) == text, text
    with tempfile.TemporaryDirectory() as d:
        t.model.save(d)
        with open(os.path.join(d, "vocab.json"), encoding="utf-8") as f:
            vocabulary = json.load(f)
        shutil.copy(os.path.join(d, "merges.txt"), os.path.join(HERE, "tokenizer.merges.txt"))
    t.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    t.save(os.path.join(HERE, "tokenizer.bpe.json"), pretty=False)
    # as in GPT-2's, where the end of text is one of the vocabulary
    vocabulary["<|endoftext|>"] = t.token_to_id("<|endoftext|>")
    with open(os.path.join(HERE, "tokenizer.vocab.json"), "w", encoding="utf-8") as f:
        json.dump(dict(sorted(vocabulary.items(), key=lambda kv: kv[1])), f, ensure_ascii=True)
        f.write("\n")
    with open(os.path.join(HERE, "tokenizer.cases.json"), "w", encoding="utf-8") as f:
        json.dump({"versions": {"python": sys.version.split()[0], "tokenizers": tokenizers.__version__},
                   "vocabulary": t.get_vocab_size(), "corpus": CORPUS, "cases": cases}, f, indent=0)
        f.write("\n")


main()
