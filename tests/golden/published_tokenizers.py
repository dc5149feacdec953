"""published/: tokenizers of the kinds that published models have, and what Hugging Face's `tokenizers` makes of texts.

For each kind (the steps of Llama 3, Qwen, SmolLM, RoBERTa, GPT-NeoX, CLIP, BERT, T5, ALBERT, XLM-RoBERTa, Llama 2, Gemma,
Mistral, and whole words) a small tokenizer is trained on the texts of tokenizer.py, with the published normalizer,
pre-tokenizer, post-processor and added tokens. Writes
  published/KIND.json     the tokenizer
  published/*.model       two of SentencePiece's own: unigram with its nmt_nfkc table, byte pairs with byte fallback
  published/cases.json    versions; texts; for each tokenizer the ids of each text and of two pairs
Run: pip install tokenizers==0.23.3 sentencepiece==0.2.3; python tests/golden/published_tokenizers.py
benchmarks/tokenizers/compare.py takes the same kinds over much more text.
"""
import base64
import json
import os
import random
import sys

import sentencepiece
import tokenizers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizer import CORPUS, TEXTS  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "published")

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
BYTES = pre_tokenizers.ByteLevel.alphabet()
MARK = "\u2581"


def special(text, **how):
    return AddedToken(text, special=True, normalized=False, **how)


def byte_level(corpus, size, before, normalizer=None, tokens=(), ignore_merges=False, after=None):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = before
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, initial_alphabet=BYTES, show_progress=False))
    for one in tokens:
        t.add_special_tokens([one]) if one.special else t.add_tokens([one])
    if after:
        t.post_processor = after(t)
    return t


def llama3(corpus, size):
    before = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    bos = "<|begin_of_text|>"
    return byte_level(corpus, size, before, tokens=[special(bos), special("<|end_of_text|>")], ignore_merges=True,
                      after=lambda t: processors.Sequence([
                          processors.ByteLevel(trim_offsets=False),
                          processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
                                                        special_tokens=[(bos, t.token_to_id(bos))])]))


def qwen(corpus, size):
    before = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN), "isolated"),
                                      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return byte_level(corpus, size, before, normalizers.NFC(),
                      [special("<|endoftext|>"), AddedToken("<tool_call>", special=False, normalized=False)],
                      after=lambda t: processors.ByteLevel(trim_offsets=False))


def smollm(corpus, size):
    before = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                      pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return byte_level(corpus, size, before, tokens=[special("<|endoftext|>")])


def roberta(corpus, size):
    return byte_level(corpus, size, pre_tokenizers.ByteLevel(add_prefix_space=True),
                      tokens=[special("<s>"), special("</s>"), special("<mask>", lstrip=True)],
                      after=lambda t: processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>"))))


def neox(corpus, size):
    spaces = [AddedToken(" " * n, special=False, normalized=True) for n in range(8, 1, -1)]
    return byte_level(corpus, size, pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC(),
                      [special("<|endoftext|>"), AddedToken("wind", special=False, single_word=True, rstrip=True)] + spaces)


def clip(corpus, size):
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CLIP), "removed", invert=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size + 256, end_of_word_suffix="</w>", initial_alphabet=BYTES,
                                                      special_tokens=["<|startoftext|>", "<|endoftext|>"], show_progress=False))
    t.post_processor = processors.RobertaProcessing(("<|endoftext|>", 1), ("<|startoftext|>", 0), False, False)
    return t


def bert(lowercase):
    def make(corpus, size):
        t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        t.decoder = decoders.WordPiece()
        t.train_from_iterator(corpus, trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
        t.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        return t
    return make


def unigram(normalizer, before, tokens, single, pair):
    def make(corpus, size):
        t = Tokenizer(models.Unigram())
        t.normalizer = normalizer()
        t.pre_tokenizer = before
        t.decoder = decoders.Metaspace()
        t.train_from_iterator(corpus, trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>", special_tokens=tokens,
                                                              show_progress=False))
        t.post_processor = processors.TemplateProcessing(single=single, pair=pair,
                                                         special_tokens=[(x, t.token_to_id(x)) for x in tokens])
        return t
    return make


def char_bpe(before, normalizer, template):
    def make(corpus, size):
        t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        t.pre_tokenizer = pre_tokenizers.Metaspace()
        names = ["<unk>", "<s>", "</s>"]
        t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, special_tokens=names + [f"<0x{i:02X}>" for i in range(256)],
                                                          limit_alphabet=150, show_progress=False))
        # bytes are pieces, and no special tokens
        state = json.loads(t.to_str())
        state["added_tokens"] = state["added_tokens"][:3]
        t = Tokenizer.from_str(json.dumps(state))
        t.normalizer = normalizer
        t.pre_tokenizer = before
        t.decoder = decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        if before is None:
            del_pre(t)
        if template:
            t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
        return t
    return make


def del_pre(t):
    t.pre_tokenizer = None


def words(corpus, size):
    t = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Strip(), normalizers.Prepend("x ")])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.CharDelimiterSplit("="), pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("merged_with_previous"),
        pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split("er", "merged_with_next"),
        pre_tokenizers.Split(Regex("[aeiou]"), "contiguous")])
    t.train_from_iterator(corpus, trainers.WordLevelTrainer(vocab_size=size, special_tokens=["[UNK]"], show_progress=False))
    return t


def sentencepiece_models(corpus, size, out):
    """Writes unigram.model and bpe.model; gives their bytes."""
    lines = "\n".join(corpus).split("\n")
    usual = dict(sentence_iterator=iter(lines), hard_vocab_limit=False, minloglevel=2, num_threads=1)
    from io import BytesIO
    for name, how in (("unigram", dict(model_type="unigram", vocab_size=size)),
                      ("bpe", dict(model_type="bpe", vocab_size=size + 256, byte_fallback=True, normalization_rule_name="identity",
                                   remove_extra_whitespaces=False, character_coverage=0.99))):
        made = BytesIO()
        sentencepiece.SentencePieceTrainer.train(model_writer=made, **{**usual, "sentence_iterator": iter(lines)}, **how)
        with open(os.path.join(out, f"{name}.model"), "wb") as f:
            f.write(made.getvalue())


def fields(data):
    """A protocol buffer's fields: number, value."""
    at = 0

    def varint():
        nonlocal at
        x = shift = 0
        while True:
            b = data[at]
            at += 1
            x |= (b & 127) << shift
            shift += 7
            if b < 128:
                return x
    while at < len(data):
        key = varint()
        wire = key & 7
        size = {0: 0, 1: 8, 5: 4}.get(wire)
        if wire == 0:
            yield key >> 3, varint()
            continue
        size = varint() if size is None else size
        yield key >> 3, data[at:at + size]
        at += size


def charsmap(path):
    """nmt_nfkc's table, as SentencePiece keeps it in a model."""
    with open(path, "rb") as f:
        model = f.read()
    normalizer = [v for n, v in fields(model) if n == 3][0]
    return [v for n, v in fields(normalizer) if n == 2][0]


def kinds(out):
    """Every kind: a function of a corpus and a vocabulary's size. `out` is where unigram.model is."""
    def precompiled():
        return normalizers.Precompiled(charsmap(os.path.join(out, "unigram.model")))

    def t5():
        return normalizers.Sequence([precompiled(), normalizers.Strip(left=False, right=True),
                                     normalizers.Replace(Regex(" {2,}"), MARK)])

    def albert():
        return normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
                                     normalizers.StripAccents(), normalizers.Lowercase(), precompiled()])

    llama2_normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    return {
        "llama3": llama3, "qwen": qwen, "smollm": smollm, "roberta": roberta, "neox": neox, "clip": clip,
        "bert": bert(True), "bert_cased": bert(False),
        "t5": unigram(t5, pre_tokenizers.Metaspace(), ["<pad>", "</s>", "<unk>"], "$A </s>", "$A </s> $B </s>"),
        "albert": unigram(albert, pre_tokenizers.Metaspace(), ["<pad>", "<unk>", "[CLS]", "[SEP]"], "[CLS] $A [SEP]",
                          "[CLS] $A [SEP] $B:1 [SEP]:1"),
        "xlm_roberta": unigram(precompiled, pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
                               ["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>", "<s> $A </s> </s> $B </s>"),
        "llama2": char_bpe(None, llama2_normalizer, True),
        "gemma": char_bpe(pre_tokenizers.Split(" ", "merged_with_previous"), normalizers.Replace(" ", MARK), False),
        "mistral": char_bpe(pre_tokenizers.Metaspace(prepend_scheme="first", split=False), None, True),
        "words": words,
    }


def compact(t):
    return json.dumps(json.loads(t.to_str()), ensure_ascii=False, separators=(",", ":"))


MORE = [
    "<s>a</s><mask> the  <mask>river [CLS] [MASK].", "wind window wind  wind\twinds <tool_call>sea</tool_call>",
    "\u00c5ngstr\u00f6m \u0130stanbul \ufb01sh \u2460 \uff21\uff22 \u1e9b\u0323 \u0958 \uac00\u1100\u1161",
    "``quoted'' \u201cquoted\u201d a\u0300\u0301 \u4e2d\u6587abc\u6587 x\u00ady \ufffd z\u200d",
    "line\r\nline\rline\n\n\n  indented\n\ttab \u3000wide", "12345 1,234.5 \u0663\u0664 x1y2z3 \u00bd",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e8\U0001f1ed e\u0301\u0301\u0301 \u0915\u094d\u0937\u093f",
    "x" * 150 + " " + "\u00e9" * 120,
]


def main():
    os.makedirs(OUT, exist_ok=True)
    random.seed(5)
    sentencepiece_models(CORPUS * 3, 200, OUT)
    texts = TEXTS + MORE + ["".join(CORPUS)]
    pairs = [("The rivers", "the sea"), ("", "wind")]
    cases = {"tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__, "texts": texts, "pairs": pairs, "ids": {},
             "pair_ids": {}, "pair_types": {}}
    for name, make in kinds(OUT).items():
        t = make(CORPUS, 420 if name in ("llama3", "qwen", "smollm", "roberta", "neox", "clip") else 300 + 256 * (name in ("llama2", "gemma", "mistral")))
        if "_" not in name and name != "albert" or name == "bert_cased":  # the table of characters is large: once is enough
            with open(os.path.join(OUT, f"{name}.json"), "w") as f:
                f.write(compact(t))
            cases["ids"][name] = [t.encode(x).ids for x in texts]
            both = [t.encode(a, b) for a, b in pairs]
            cases["pair_ids"][name] = [e.ids for e in both]
            cases["pair_types"][name] = [e.type_ids for e in both]
    # SentencePiece replaces the longest prefix that its table has, Hugging Face's library graphemes: a unigram model is
    # read as the latter, as transformers reads it, and byte pairs without a table are the same in both
    p = sentencepiece.SentencePieceProcessor(os.path.join(OUT, "unigram.model"))
    t = Tokenizer(models.Unigram([(p.id_to_piece(i), p.get_score(i)) for i in range(len(p))], p.unk_id(), False))
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap(os.path.join(OUT, "unigram.model"))),
                                         normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), MARK)])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    cases["ids"]["unigram.model"] = [t.encode(x).ids for x in texts]
    p = sentencepiece.SentencePieceProcessor(os.path.join(OUT, "bpe.model"))
    # special tokens are not looked for by SentencePiece
    cases["ids"]["bpe.model"] = [p.encode(x) if "<s>" not in x else None for x in texts]
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump(cases, f, ensure_ascii=True, separators=(",", ":"))


if __name__ == "__main__":
    main()
