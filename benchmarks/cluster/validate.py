#!/usr/bin/env python3
"""Predicted against published: every run of runs.csv, planned by `plinth plan` from a model of the repository.

  validate.py split            chooses the test rows (a random third, by a fixed seed) and writes test_rows.txt
  validate.py fit MACHINE      fits one machine file to its training rows; test rows are never read
  validate.py report           predicts all rows and writes ../cluster.md and ../cluster.svg

A row's model, mesh, micro-batch, recomputation and precision are the row's; what a machine file holds is of its machine
alone: one file for each value of the column `gpu`. No constant belongs to a row or to a model."""
import csv, json, math, os, random, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PLINTH = os.environ.get("PLINTH", os.path.join(ROOT, "build", "plinth"))
SEED = 2026
MACHINE = {
    "A100-40GB": "a100_40gb_fsdp",
    "A100-80GB": "a100_80gb_fsdp",
    "H100-80GB": "h100_fsdp",
    "A100 (8/node, 800 Gbps inter-node)": "a100_800gbps",
    "A100-80GB SXM (Jean Zay, NVLink + 4x OmniPath)": "a100_jean_zay",
    "A100-80GB SXM (Jean Zay)": "a100_jean_zay",
    "B200 SXM (one 8-GPU node)": "b200_node",
}


def rows():
    return list(csv.DictReader(open(os.path.join(HERE, "runs.csv"))))


def test_ids():
    return {line.strip() for line in open(os.path.join(HERE, "test_rows.txt")) if line.strip() and line[0] != "#"}


def seconds(r):
    return float(r["iter_time_s"] or r["iter_time_s_derived"])


def machine_file(name, folder="machines"):
    return os.path.join(HERE, folder, name + ".plinth")


def number(r, key, otherwise=1):
    return int(r[key] or otherwise)


def why_not(r):
    """What of a row Plinth cannot plan; None: nothing."""
    if "fp8" in r["precision"]:
        return "fp8: Plinth has no such type"
    if number(r, "cp") > 1:
        return "attention over a divided sequence: Plinth does not plan it"
    return None


def as_run(r):
    """The row as a line of `plinth plan --runs`: everything here is a column of the row."""
    tp, pp, cp, vpp = number(r, "tp"), number(r, "pp"), number(r, "cp"), number(r, "vpp")
    dp = number(r, "n_gpus") // (tp * pp * cp)  # the column dp of one row contradicts its number of devices
    heads = number(r, "heads", 64)              # one row does not say; 64 is what its log tries first
    pad = 128 * tp                              # as Megatron-LM pads vocabularies
    vocab = (number(r, "vocab") + pad - 1) // pad * pad
    config = dict(vocab=vocab, layers=number(r, "layers"), width=number(r, "hidden"), heads=heads)
    if "Llama" in r["model"]:
        model = "llama"
        config.update(hidden=number(r, "ffn_hidden"), groups=number(r, "kv_heads"))
    else:
        model = "gpt2"
        config.update(context=number(r, "seq_len"))
    divided = {"none": [], "": [], "ZeRO-1": ["optimizer_state"], "FSDP FULL_SHARD": ["parameters", "gradients", "optimizer_state"],
               "FSDP SHARD_GRAD_OP": ["gradients", "optimizer_state"]}[r["dp_sharding"]]
    run = dict(name=r["row_id"], model=os.path.join(ROOT, "models", model + ".plinth"),
               set=["%s=%d" % kv for kv in config.items()],
               mesh="data=%d%s,tensor=%d,pipe=%d" % (dp, ",context=%d" % cp if cp > 1 else "", tp, pp),
               shard=(["%s=data" % what for what in divided] if dp > 1 else []) + (["T=context"] if cp > 1 else []),
               sizes="T=%d" % number(r, "seq_len"), batch=number(r, "global_batch_seqs"), micro=number(r, "micro_batch"),
               precision="autocast", recompute="whole" if r["recompute"] == "full" else "none", seconds=seconds(r))
    if vpp > 1:
        run["schedule"] = "interleaved:%d" % vpp
    return run


def plan(some, machine, fit=None):
    """What `plinth plan` says of these rows on a machine file, by row_id."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
        for r in some:
            f.write(json.dumps(as_run(r)) + "\n")
        f.flush()
        p = subprocess.run([PLINTH, "plan", "--runs", f.name, "--machine", machine] + (["--fit", fit] if fit else []), capture_output=True, text=True)
    if p.returncode:
        sys.exit(p.stderr)
    return {j["name"]: j for j in map(json.loads, p.stdout.splitlines())}


def plan_all(some):
    out = {}
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        names = sorted(set(MACHINE[r["gpu"]] for r in some))
        for part in pool.map(lambda n: plan([r for r in some if MACHINE[r["gpu"]] == n], machine_file(n)), names):
            out.update(part)
    return out


# ---- the split ----


def split():
    ids = sorted((r["row_id"] for r in rows()), key=int)
    chosen = sorted(random.Random(SEED).sample(ids, len(ids) // 3), key=int)
    with open(os.path.join(HERE, "test_rows.txt"), "w") as f:
        f.write("# row_id of the runs that no machine file was fitted to: random.Random(%d).sample of all ids in order, a third\n" % SEED)
        f.write("\n".join(chosen) + "\n")


# ---- numbers ----


def ranks(x):
    order = sorted(range(len(x)), key=lambda i: x[i])
    out = [0.0] * len(x)
    i = 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and x[order[j + 1]] == x[order[i]]:
            j += 1
        for k in range(i, j + 1):
            out[order[k]] = (i + j) / 2
        i = j + 1
    return out


def correlation(x, y):
    n = len(x)
    mx, my = sum(x) / n, sum(y) / n
    sx = math.sqrt(sum((a - mx) ** 2 for a in x))
    sy = math.sqrt(sum((b - my) ** 2 for b in y))
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / (sx * sy) if sx * sy > 0 else float("nan")


def error(pairs):
    return sum(abs(p / t - 1) for p, t in pairs) / len(pairs) if pairs else float("nan")


def training(name=None):
    test = test_ids()
    return [r for r in rows() if r["row_id"] not in test and not why_not(r) and (not name or MACHINE[r["gpu"]] == name)]


def fit(name):
    """start/NAME.plinth is the data sheet and estimates: where the fit begins, and what it is held near to."""
    some = training(name)
    told = plan(some, machine_file(name, "start"), machine_file(name))
    pairs = [(told[r["row_id"]]["step_seconds"], seconds(r)) for r in some if "error" not in told[r["row_id"]]]
    print("%-16s %3d rows, mean absolute error %.2f%%" % (name, len(pairs), 100 * error(pairs)))


def residuals(names):
    some = [r for r in training() if not names or MACHINE[r["gpu"]] in names]
    told = plan_all(some)
    by = {}
    for r in some:
        p = told[r["row_id"]]
        if "error" in p:
            print(r["row_id"], p["error"][:200])
            continue
        t = p["step_seconds"]
        by.setdefault(MACHINE[r["gpu"]], []).append((t, seconds(r)))
        print("%s %-20s %-14s n%s L%s h%s a%s s%s mb%s gb%s tp%s pp%s dp%s %s %s | %8.3f %8.3f %+6.1f%% bub %.2f exp %.2f upd %.2f ar %.2f bw %.2f mem %.1f / %s" % (
            r["row_id"], r["model"][-20:], MACHINE[r["gpu"]], r["n_gpus"], r["layers"], r["hidden"], r["heads"], r["seq_len"], r["micro_batch"],
            r["global_batch_seqs"], r["tp"], r["pp"], r["dp"], r["recompute"], r["precision"][:14], seconds(r), t, 100 * (t / seconds(r) - 1),
            p["bubble"], p["exposed_seconds"] / t, p["update_seconds"] / t, p["arithmetic_seconds"] / t, p["bandwidth_seconds"] / t,
            p["memory_bytes"] / 2**30, r["mem_per_gpu_gib"]))
    for name, pairs in sorted(by.items()):
        print("%-16s %3d rows, mean absolute error %.2f%%, mean %.3f" % (name, len(pairs), 100 * error(pairs), sum(math.log(a / b) for a, b in pairs) / len(pairs)))


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "split":
        split()
    elif what == "residuals":
        residuals(sys.argv[2:])
    elif what == "fit":
        for name in sys.argv[2:] or sorted(set(MACHINE.values())):
            fit(name)
    else:
        sys.exit(__doc__)
