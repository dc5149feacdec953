"""published/unicode/: characters that the versions of Unicode disagree about, as Hugging Face's `tokenizers` cuts them.

Each tokenizer has one of the published normalizers and pre-tokenizers, and behind them a byte-level BPE without merges whose
tokens say where a word ends: its ids are the normalized text and all its cuts, of characters too that no vocabulary has. Writes
  KIND.json     the tokenizers; table.json lacks its normalizer, which is that of published/t5.json
  text.txt      a line for the first and last character of each row of runtime/data/unicode_tables.def, between letters,
                after a letter with an accent, beside a digit
  expected      of each kind, the hash of its ids as `plinth data encode --lines` prints them
Run: pip install tokenizers==0.23.3; python tests/golden/unicode_tokenizers.py
With FOLDER, writes there, and a line for every character there is.
"""
import hashlib
import json
import os
import re
import sys

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
TABLES = os.path.join(HERE, "..", "..", "runtime", "data", "unicode_tables.def")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CATEGORIES = r"\p{Lu}+|\p{Ll}+|\p{Lo}+|\p{M}+|\p{P}+|\p{S}+|\p{Nd}+"


def kinds():
    split = pre_tokenizers.Split
    with open(os.path.join(HERE, "published", "t5.json"), encoding="utf-8") as f:
        table = Tokenizer.from_str(f.read()).normalizer
    return {
        "bert": (normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
        "accents": (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
                    pre_tokenizers.Digits(individual_digits=True)),
        "words": (normalizers.NFKC(), pre_tokenizers.Whitespace()),
        "punctuation": (normalizers.NFC(), pre_tokenizers.Punctuation()),
        "llama3": (None, split(Regex(LLAMA3), "isolated")),
        "categories": (None, split(Regex(CATEGORIES), "isolated")),
        "gpt2": (normalizers.NFKD(), pre_tokenizers.ByteLevel(add_prefix_space=False)),
        "table": (table, pre_tokenizers.WhitespaceSplit()),
    }


def make(normalizer, before):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {t: i for i, t in enumerate(alphabet + [c + "</w>" for c in alphabet])}
    t = Tokenizer(models.BPE(vocabulary, [], end_of_word_suffix="</w>"))
    if normalizer:
        t.normalizer = normalizer
    bytes_last = [] if isinstance(before, pre_tokenizers.ByteLevel) else [
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    t.pre_tokenizer = pre_tokenizers.Sequence([before] + bytes_last)
    return t


def characters(everything):
    if everything:
        return [c for c in range(1, 0x110000) if not 0xd800 <= c < 0xe000 and c not in (10, 13)]
    with open(TABLES, encoding="utf-8") as f:
        rows = re.findall(r"SINCE\(0x(\w+), 0x(\w+)", f.read())
    return sorted({int(c, 16) for row in rows for c in row})


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "published", "unicode")
    os.makedirs(out, exist_ok=True)
    texts = [f"a{chr(c)}b e\u0301{chr(c)}9 \u00e9{chr(c)}\u0316" for c in characters(len(sys.argv) > 1)]
    with open(os.path.join(out, "text.txt"), "w", encoding="utf-8", newline="") as f:
        f.write("\n".join(texts) + "\n")
    expected = []
    for name, (normalizer, before) in kinds().items():
        t = make(normalizer, before)
        with open(os.path.join(out, f"{name}.json"), "w", encoding="utf-8") as f:
            made = json.loads(t.to_str())
            if name == "table" and len(sys.argv) < 2:
                made["normalizer"] = None  # that of published/t5.json, which has it already
            json.dump(made, f, ensure_ascii=False, separators=(",", ":"))
        lines = [" ".join(map(str, t.encode(text).ids)) + "\n" for text in texts]
        if len(sys.argv) > 1:
            with open(os.path.join(out, f"{name}.ids"), "w", encoding="utf-8") as f:
                f.writelines(lines)
        expected.append(f"{name} {hashlib.sha256(''.join(lines).encode()).hexdigest()}\n")
    with open(os.path.join(out, "expected"), "w", encoding="utf-8") as f:
        f.writelines(expected)


if __name__ == "__main__":
    main()
