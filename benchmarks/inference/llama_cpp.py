"""A Llama beside llama.cpp, in turns within one process: exported libraries of Plinth whose matrices are stored as f32, bf16, f16, int8
and int4, and llama.cpp with the same weights in f32, f16, bf16, Q8_0 and Q4_0, which take as many bytes. Weights are random; logits
are compared. The bound beside each is the time in which the same threads read as many bytes as the file of weights has, in the same round.

    python3 llama_cpp.py --plinth build/plinth --out /tmp/run [--rounds 5] [--tokens 24] [--threads 2] [--only int8] [--json FILE]
"""

import argparse
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import threading
import time

import gguf
import numpy
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "export", "Inputs"))
from interface import Info  # noqa: E402
MODEL = os.path.join(HERE, "..", "..", "models", "llama.plinth")
PROMPT = 128
VOCABULARY, LAYERS, WIDTH, HIDDEN, HEADS, GROUPS, EPS, BASE = 49152, 30, 576, 1536, 9, 3, 1e-5, 10000.0  # preset smollm_135m
PEER = {"f32": "F32", "bf16": "BF16", "f16": "F16", "int8": "Q8_0", "int4": "Q4_0"}


def random_weights():
    r = numpy.random.default_rng(0)
    head = WIDTH // HEADS
    shapes = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (GROUPS * head, WIDTH), "self_attn.v_proj": (GROUPS * head, WIDTH),
              "self_attn.o_proj": (WIDTH, WIDTH), "mlp.gate_proj": (HIDDEN, WIDTH), "mlp.up_proj": (HIDDEN, WIDTH),
              "mlp.down_proj": (WIDTH, HIDDEN)}
    w = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)}
    for i in range(LAYERS):
        w |= {f"model.layers.{i}.{n}.weight": s for n, s in shapes.items()}
        w |= {f"model.layers.{i}.{n}.weight": (WIDTH,) for n in ("input_layernorm", "post_attention_layernorm")}
    return {n: numpy.float32(0.04) * r.standard_normal(s, numpy.float32) if len(s) > 1 else numpy.ones(s, numpy.float32)
            for n, s in w.items()}


def turned(w, heads):
    """Rows of queries and keys in the order in which llama.cpp turns them: neighbours where the model turns halves."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def write_gguf(path, weights, kind):
    f = gguf.GGUFWriter(path, "llama")
    f.add_context_length(2048)
    f.add_embedding_length(WIDTH)
    f.add_block_count(LAYERS)
    f.add_feed_forward_length(HIDDEN)
    f.add_head_count(HEADS)
    f.add_head_count_kv(GROUPS)
    f.add_layer_norm_rms_eps(EPS)
    f.add_rope_freq_base(BASE)
    f.add_rope_dimension_count(WIDTH // HEADS)
    f.add_vocab_size(VOCABULARY)
    f.add_tokenizer_model("none")
    kind = gguf.GGMLQuantizationType[kind]
    theirs = {"embed_tokens": "token_embd", "norm": "output_norm", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
              "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
              "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    for name, w in weights.items():
        part = name.split(".")
        to = f"{'blk.' + part[2] + '.' if part[1] == 'layers' else ''}{theirs[part[-2]]}.weight"
        if part[-2] in ("q_proj", "k_proj"):
            w = turned(w, HEADS if part[-2] == "q_proj" else GROUPS)
        if w.ndim == 1:
            f.add_tensor(to, w)
        else:
            f.add_tensor(to, gguf.quants.quantize(w, kind), raw_dtype=kind)
    f.write_header_to_file()
    f.write_kv_data_to_file()
    f.write_tensors_to_file()
    f.close()


def aligned(size):
    room = numpy.zeros(size + 64, numpy.uint8)
    return room[-room.ctypes.data % 64:][:size]


class Plinth:
    """An exported library: a prompt at once, then tokens one by one."""

    def __init__(self, a, store, weights):
        folder = os.path.join(a.out, store)
        subprocess.run([a.plinth, "export", MODEL, "--preset", "smollm_135m", "--precision", "f32", "--store", store, "--weights", weights,
                        "--sizes", f"B=1,T={PROMPT}", "--capacity", str(PROMPT + a.tokens + 8), "--name", "it", "-o", folder],
                       check=True, stdout=subprocess.DEVNULL)
        self.c = ctypes.CDLL(os.path.join(folder, "libit.so"))
        self.c.it_workspace_bytes.restype = self.c.it_state_bytes.restype = ctypes.c_size_t
        self.c.it_describe.restype = ctypes.POINTER(Info)
        self.model, self.threads, why = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.create_string_buffer(300)
        path = os.path.join(folder, "weights.safetensors")
        if self.c.it_create(path.encode(), ctypes.byref(self.model), why, ctypes.c_size_t(300)):
            sys.exit(why.value.decode())
        self.c.it_threads_create(a.threads, ctypes.byref(self.threads))
        self.workspace = aligned(self.c.it_workspace_bytes(self.model, a.threads))
        self.state = aligned(self.c.it_state_bytes(self.model) + 64)
        self.bytes = os.path.getsize(path)
        info = self.c.it_describe(self.model).contents
        self.entry = {info.entry[i].name.decode(): i for i in range(info.nentry)}
        self.order = {n: [info.entry[i].input[k].name.decode() for k in range(info.entry[i].ninput)] for n, i in self.entry.items()}
        self.logits = numpy.empty(VOCABULARY, numpy.float32)

    def run(self, entry, **inputs):
        given = [numpy.ascontiguousarray(inputs[n], numpy.int32) for n in self.order[entry]]
        at = lambda xs: (ctypes.c_void_p * len(xs))(*(x.ctypes.data for x in xs))
        status = self.c.it_run(self.model, self.entry[entry], at(given), at([self.logits]), ctypes.c_void_p(self.state.ctypes.data),
                               ctypes.c_void_p(self.workspace.ctypes.data), ctypes.c_size_t(self.workspace.nbytes), self.threads)
        assert status == 0, status

    def prompt(self, ids):
        self.run("prefill", past=0, last=len(ids) - 1, tokens=ids)

    def token(self, past, id):
        self.run("step", past=past, tokens=id)

    def seen(self):
        return self.logits.copy()


class Settings(ctypes.Structure):
    """llama_model_params or llama_context_params, passed as values: of the latter the first three are set; more room than they take does no harm."""
    _fields_ = [("n_ctx", ctypes.c_uint32), ("n_batch", ctypes.c_uint32), ("n_ubatch", ctypes.c_uint32), ("rest", ctypes.c_uint32 * 125)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("pointers", ctypes.c_void_p * 6)]


def llama_cpp():
    """llama.cpp's C interface, as the module that holds it exports it."""
    c = ctypes.CDLL(importlib.util.find_spec("xllamacpp.xllamacpp").origin)
    c.llama_model_default_params.restype = c.llama_context_default_params.restype = Settings
    c.llama_model_load_from_file.restype = c.llama_init_from_model.restype = c.llama_get_memory.restype = ctypes.c_void_p
    c.llama_model_load_from_file.argtypes, c.llama_init_from_model.argtypes = [ctypes.c_char_p, Settings], [ctypes.c_void_p, Settings]
    c.llama_batch_get_one.restype, c.llama_decode.argtypes = Batch, [ctypes.c_void_p, Batch]
    c.llama_get_logits_ith.restype = ctypes.POINTER(ctypes.c_float)
    c.llama_get_logits_ith.argtypes = c.llama_memory_clear.argtypes = [ctypes.c_void_p, ctypes.c_int]
    c.llama_get_memory.argtypes, c.llama_set_n_threads.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    c.llama_memory_seq_rm.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    c.llama_print_system_info.restype = ctypes.c_char_p
    c.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    c.llama_log_set(c.quiet, None)
    c.llama_backend_init()
    return c


class LlamaCpp:
    """As it comes: keys and values in f16, matrices put in the order that it likes best when they are read."""

    def __init__(self, a, store, weights):
        path = os.path.join(a.out, store + ".gguf")
        if not os.path.exists(path):
            write_gguf(path, weights, PEER[store])
        self.c = a.llama_cpp
        self.model = self.c.llama_model_load_from_file(path.encode(), self.c.llama_model_default_params())
        how = self.c.llama_context_default_params()
        how.n_ctx, how.n_batch, how.n_ubatch = PROMPT + a.tokens + 8, PROMPT, PROMPT
        self.context = self.c.llama_init_from_model(self.model, how)
        self.c.llama_set_n_threads(self.context, a.threads, a.threads)
        self.bytes = os.path.getsize(path)

    def decode(self, ids):
        assert self.c.llama_decode(self.context, self.c.llama_batch_get_one(ctypes.c_void_p(ids.ctypes.data), len(ids))) == 0
        self.logits = self.c.llama_get_logits_ith(self.context, -1)

    def prompt(self, ids):
        self.c.llama_memory_clear(self.c.llama_get_memory(self.context), 0)
        self.decode(ids)

    def token(self, past, id):
        if past == PROMPT:  # behind the prompt alone
            self.c.llama_memory_seq_rm(self.c.llama_get_memory(self.context), 0, PROMPT, -1)
        self.decode(id.reshape(1))

    def seen(self):
        return numpy.ctypeslib.as_array(self.logits, (VOCABULARY,)).copy()


def seconds(run):
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


class Memory:
    """The time in which threads read so many bytes once."""

    def __init__(self, a, size):
        self.c = ctypes.CDLL(os.path.join(a.out, "read.so"))
        self.c.read_once.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.room, self.threads = aligned(size), a.threads
        self.room[:] = 1

    def __call__(self, size):
        part = size // self.threads // 64 * 64
        ts = [threading.Thread(target=self.c.read_once, args=(self.room.ctypes.data + i * part, part)) for i in range(1, self.threads)]
        for t in ts:
            t.start()
        self.c.read_once(self.room.ctypes.data, part)
        for t in ts:
            t.join()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--plinth", default="build/plinth")
    p.add_argument("--out", required=True)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--tokens", type=int, default=24, help="that are written, one by one")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--only", default="", help="kinds of weights, with commas")
    p.add_argument("--prepare", action="store_true", help="write and compile what is measured, and compare logits; measure nothing")
    p.add_argument("--json")
    a = p.parse_args()
    a.plinth = os.path.abspath(a.plinth)
    a.llama_cpp = llama_cpp()
    w = random_weights()
    weights = os.path.join(a.out, "weights.safetensors")
    if not os.path.exists(weights):
        save_file(w, weights)
    ids = numpy.random.default_rng(1).integers(100, 20000, PROMPT + a.tokens).astype(numpy.int32)
    table = []
    for store in a.only.split(",") if a.only else PEER:
        ways = {"plinth": Plinth(a, store, weights), "llama.cpp": LlamaCpp(a, store, w)}
        memory = Memory(a, max(x.bytes for x in ways.values()))
        logits = {}
        for way, x in ways.items():
            x.prompt(ids[:PROMPT])
            logits[way] = [x.seen()]
            x.token(PROMPT, ids[PROMPT:PROMPT + 1])
            logits[way].append(x.seen())
        off = max(numpy.linalg.norm(x - y) / numpy.linalg.norm(x) for x, y in zip(*logits.values()))
        print(f"{store} and {PEER[store]}: {ways['plinth'].bytes / 1e6:.1f} and {ways['llama.cpp'].bytes / 1e6:.1f} MB, logits differ by {off:.2g}", flush=True)
        assert off < {"f32": 3e-2, "bf16": 3e-2, "f16": 3e-2, "int8": 0.1, "int4": 0.5}[store], off
        if a.prepare:
            continue
        first, token, reading = {k: [] for k in ways}, {k: [] for k in ways}, {k: [] for k in ways}
        for _ in range(a.rounds):
            for way, x in ways.items():
                x.token(PROMPT, ids[PROMPT:PROMPT + 1])  # the threads are awake
                first[way].append(seconds(lambda: x.prompt(ids[:PROMPT])))
                each = [seconds(lambda: x.token(PROMPT + i, ids[PROMPT + i:PROMPT + i + 1])) for i in range(a.tokens)]
                token[way].append(statistics.median(each))
                reading[way].append(min(seconds(lambda: memory(x.bytes)) for _ in range(3)))
        ms = lambda v: {k: 1e3 * statistics.median(t) for k, t in v.items()}
        ratio = lambda v: statistics.median(y / x for x, y in zip(v["plinth"], v["llama.cpp"]))
        row = {"store": store, "peer": PEER[store], "bytes": {k: x.bytes for k, x in ways.items()}, "logits_differ": float(off),
               "first_ms": ms(first), "token_ms": ms(token), "reading_ms": ms(reading), "first_ratio": ratio(first), "token_ratio": ratio(token)}
        table.append(row)
        print("  ".join(f"{k}: prompt {row['first_ms'][k]:.1f} ms, token {row['token_ms'][k]:.2f} ms, reading {row['reading_ms'][k]:.2f} ms;"
                        for k in ways) + f"  llama.cpp by plinth: prompt {row['first_ratio']:.2f}, token {row['token_ratio']:.2f}", flush=True)
    if a.json and table:
        with open(a.json, "w") as f:
            json.dump({"versions": {p: importlib.metadata.version(p) for p in ("xllamacpp", "gguf", "numpy")}, "threads": a.threads,
                       "rounds": a.rounds, "tokens": a.tokens, "load": os.getloadavg(), "system": a.llama_cpp.llama_print_system_info().decode(),
                       "rows": table}, f, indent=1)


main()
