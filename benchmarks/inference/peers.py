"""Inference beside PyTorch and ONNX Runtime, in turns within one process: exported libraries of Plinth, Hugging Face's models in
PyTorch (eager, scaled_dot_product_attention), and for encoders their ONNX form in ONNX Runtime. Weights are random, the same for
all, and results are compared. Threads sleep while they wait (OMP_WAIT_POLICY=PASSIVE; ONNX Runtime without spinning): who waits
would else take the time of whose turn it is. peers.sh makes the environment.

    python3 peers.py --plinth build/plinth --out /tmp/peers-run [--rounds 5] [--runs 3] [--tokens 24] [--threads 2] [--only bert] [--json FILE]
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import numpy  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "export", "Inputs"))
from interface import Info  # noqa: E402
MODELS = os.path.join(HERE, "..", "..", "models")
PROMPT = 128  # tokens of a decoder's prompt
DTYPE = {"f32": numpy.float32, "i32": numpy.int32, "b1": numpy.uint8}


def aligned(size):
    room = numpy.zeros(size + 64, numpy.uint8)
    return room[-room.ctypes.data % 64:][:size]


class Library:
    """An exported library: its entries by name, called with NumPy arrays."""

    def __init__(self, plinth, folder, model, options, weights, threads):
        source = os.path.join(MODELS, model + ".plinth")
        subprocess.run([plinth, "export", source, *options, "--precision", "f32", "--weights", weights, "--name", "it", "-o", folder],
                       check=True, stdout=subprocess.DEVNULL)
        self.c = ctypes.CDLL(os.path.join(folder, "libit.so"))
        self.c.it_workspace_bytes.restype = self.c.it_state_bytes.restype = ctypes.c_size_t
        self.c.it_describe.restype = ctypes.POINTER(Info)
        self.model, self.threads, why = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.create_string_buffer(300)
        path = os.path.join(folder, "weights.safetensors")
        if self.c.it_create(path.encode(), ctypes.byref(self.model), why, ctypes.c_size_t(300)):
            sys.exit(why.value.decode())
        self.c.it_threads_create(threads, ctypes.byref(self.threads))
        self.workspace = aligned(self.c.it_workspace_bytes(self.model, threads))
        self.state = aligned(self.c.it_state_bytes(self.model) + 64)
        info = self.c.it_describe(self.model).contents
        self.entry = {info.entry[i].name.decode(): (i, info.entry[i]) for i in range(info.nentry)}

    def __call__(self, name, **inputs):
        index, e = self.entry[name]
        given = []
        for i in range(e.ninput):
            t = e.input[i]
            x = numpy.ascontiguousarray(inputs[t.name.decode()], DTYPE[t.dtype.decode()])
            assert x.nbytes == t.bytes, (t.name, x.shape)
            given.append(x)
        result = [numpy.empty(e.result[i].dim[: e.result[i].rank], DTYPE[e.result[i].dtype.decode()]) for i in range(e.nresult)]
        at = lambda xs: (ctypes.c_void_p * max(len(xs), 1))(*(x.ctypes.data for x in xs))
        status = self.c.it_run(self.model, index, at(given), at(result), ctypes.c_void_p(self.state.ctypes.data),
                               ctypes.c_void_p(self.workspace.ctypes.data), ctypes.c_size_t(self.workspace.nbytes), self.threads)
        assert status == 0, status
        return result[0]


def saved(model, out, name):
    """As it is published: under these names."""
    folder = os.path.join(out, name + " published")
    model.save_pretrained(folder)
    return os.path.join(folder, "model.safetensors")


def onnx_session(model, inputs, out, name, threads):
    import onnxruntime
    path = os.path.join(out, name + ".onnx")
    torch.onnx.export(model, tuple(inputs.values()), path, input_names=list(inputs), output_names=["logits"], dynamo=True,
                      external_data=False, verbose=False)
    o = onnxruntime.SessionOptions()
    o.intra_op_num_threads = threads
    o.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    feed = {k: v.numpy() for k, v in inputs.items()}
    return lambda: session.run(None, feed)[0]


class Logits(torch.nn.Module):
    """A model's logits by place, as exporters want them."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        return self.model(**dict(zip(self.names, inputs)), return_dict=False)[0]


def encoder(a, name, model, plinth_model, options, inputs, mine):
    """Each way of running it, and that they agree."""
    weights = saved(model, a.out, name)
    library = Library(a.plinth, os.path.join(a.out, name), plinth_model, options, weights, a.threads)
    net = Logits(model, list(inputs)).eval()
    ways = {"plinth": lambda: library("forward", **mine), "pytorch": lambda: net(*inputs.values()).numpy(),
            "onnxruntime": onnx_session(net, inputs, a.out, name, a.threads)}
    want = ways["pytorch"]()
    for way, run in ways.items():
        off = abs(run() - want).max() / abs(want).max()
        assert off < 1e-3, (name, way, off)
    return {name: ways}


def bert(a, batch):
    config = transformers.BertConfig(num_labels=2, attn_implementation="sdpa")
    model = transformers.BertForSequenceClassification(config).eval()
    ids = torch.randint(1000, 20000, (batch, 128))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    mine = {"tokens": ids.numpy(), "types": numpy.zeros((batch, 128)), "keep": numpy.ones((batch, 128))}
    options = ["--preset", "base", "--set", 'task="classify"', "--set", "classes=2", "--sizes", f"B={batch},T=128"]
    return encoder(a, f"bert base, batch {batch}, 128 tokens", model, "bert", options, inputs, mine)


def vit(a, batch):
    config = transformers.ViTConfig(num_labels=1000, attn_implementation="sdpa")
    model = transformers.ViTForImageClassification(config).eval()
    images = torch.randn(batch, 3, 224, 224)
    return encoder(a, f"vit base, batch {batch}", model, "vit", ["--preset", "base", "--sizes", f"B={batch}"],
                   {"pixel_values": images}, {"images": images.numpy()})


def decoder(a, name, model, published, plinth_model, options):
    """A prompt's tokens at once, and a.tokens after it one by one, the same ones on both sides."""
    weights = saved(published, a.out, name)
    options = [*options, "--sizes", f"B=1,T={PROMPT}", "--capacity", str(PROMPT + a.tokens + 8)]
    library = Library(a.plinth, os.path.join(a.out, name), plinth_model, options, weights, a.threads)
    ids = torch.randint(100, 20000, (1, PROMPT + a.tokens))
    mine = ids.numpy().astype(numpy.int32)
    kept = {}

    def prefill_torch():
        kept["cache"] = transformers.DynamicCache()
        return model(input_ids=ids[:, :PROMPT], past_key_values=kept["cache"], use_cache=True, logits_to_keep=1).logits.numpy()

    def decode_torch():
        for i in range(a.tokens):
            y = model(input_ids=ids[:, PROMPT + i:PROMPT + i + 1], past_key_values=kept["cache"], use_cache=True).logits
        kept["cache"].crop(-a.tokens)
        return y.numpy()

    def prefill():
        return library("prefill", past=0, last=PROMPT - 1, tokens=mine[:, :PROMPT])

    def decode():
        for i in range(a.tokens):
            y = library("step", past=PROMPT + i, tokens=mine[:, PROMPT + i:PROMPT + i + 1])
        return y

    for x, y in (prefill, prefill_torch), (decode, decode_torch):
        got, want = x().ravel(), y().ravel()
        assert abs(got - want).max() < 1e-3 * abs(want).max(), name
    return {f"{name}, prompt of {PROMPT}": {"plinth": prefill, "pytorch": prefill_torch},
            f"{name}, {a.tokens} tokens": {"plinth": decode, "pytorch": decode_torch}}


def gpt2(a):
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(attn_implementation="sdpa")).eval()
    return decoder(a, "gpt2 124M", model, model.transformer, "gpt2", [])


def llama(a):
    config = transformers.LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                                      num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, rms_norm_eps=1e-5,
                                      attn_implementation="sdpa")
    model = transformers.LlamaForCausalLM(config).eval()
    return decoder(a, "llama 135M", model, model, "llama", ["--preset", "smollm_135m"])


def seconds(run):
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


@torch.inference_mode()
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--plinth", default="build/plinth")
    p.add_argument("--out", required=True)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--runs", type=int, default=3, help="of a turn, of which the fastest counts")
    p.add_argument("--tokens", type=int, default=24, help="that decoders write, one by one")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--only", default="")
    p.add_argument("--json")
    a = p.parse_args()
    a.plinth = os.path.abspath(a.plinth)
    os.makedirs(a.out, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(a.threads)
    cases = [("bert", lambda: bert(a, 1)), ("bert", lambda: bert(a, 8)), ("vit", lambda: vit(a, 1)), ("gpt2", lambda: gpt2(a)),
             ("llama", lambda: llama(a))]
    table = []
    for word, make in cases:
        if a.only not in word:
            continue
        for name, ways in make().items():
            took = {way: [] for way in ways}
            for _ in range(a.rounds):
                for way, run in ways.items():
                    took[way].append(min(seconds(run) for _ in range(a.runs)))
            row = {"case": name, "ms": {w: 1e3 * statistics.median(t) for w, t in took.items()},
                   "ratio": {w: statistics.median(x / y for x, y in zip(t, took["plinth"])) for w, t in took.items() if w != "plinth"}}
            table.append(row)
            print(f"{name}: " + ", ".join(f"{w} {t:.1f} ms" for w, t in row["ms"].items()) + "; plinth is "
                  + ", ".join(f"{r:.2f}x {w}" for w, r in row["ratio"].items()), flush=True)
    if a.json:
        versions = {m.__name__: m.__version__ for m in (torch, transformers, numpy)}
        try:
            import onnxruntime
            versions["onnxruntime"] = onnxruntime.__version__
        except ImportError:
            pass
        with open(a.json, "w") as f:
            json.dump({"versions": versions, "threads": a.threads, "rounds": a.rounds, "runs": a.runs, "load": os.getloadavg(), "rows": table}, f, indent=1)


main()
