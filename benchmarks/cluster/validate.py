#!/usr/bin/env python3
"""Predicted against published: every run of runs.csv, planned by `plinth plan` from a model of the repository.

  validate.py split            chooses the test rows (a random third, by a fixed seed) and writes test_rows.txt
  validate.py fit MACHINE      fits one machine file to its training rows; test rows are never read
  validate.py report           predicts all rows and writes ../cluster.md and ../cluster.svg

A row's model, mesh, micro-batch, recomputation and precision are the row's; what a machine file holds is of its machine
alone: one file for each value of the column `gpu`, and for Jean Zay one more, of the days before it was improved. No constant
belongs to a row or to a model."""
import csv, json, math, os, random, re, subprocess, sys, tempfile
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


# Jean Zay's log, of 25 February 2022: "A100s PCI-Express/NUMA was improved today so all TFLOPs have changed for the better (1-5%) - thus do
# not compare today's numbers to yesterday's" (bigscience, chronicles-prequel.md). What was measured until then is of another machine.
IMPROVED = {"a100_jean_zay": ("02-25", "a100_jean_zay_before")}
MACHINES = sorted(set(MACHINE.values()) | {name for _, name in IMPROVED.values()})


def machine(r):
    """The machine file that is of the row's machine, as that was on the day of the run, where the row has one."""
    name = MACHINE[r["gpu"]]
    day = re.search(r"run date (\d\d-\d\d)", r["notes"])
    return IMPROVED[name][1] if name in IMPROVED and day and day.group(1) < IMPROVED[name][0] else name


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
    if r["framework"] == "Megatron-LM":
        # the column is empty, and so is seq_parallel: the launcher of these runs says --use-distributed-optimizer and --sequence-parallel
        divided = ["optimizer_state"]
    sequence = ["sequence=tensor"] if tp > 1 and (r["seq_parallel"] == "yes" or r["framework"] == "Megatron-LM") else []
    run = dict(name=r["row_id"], model=os.path.join(ROOT, "models", model + ".plinth"),
               set=["%s=%d" % kv for kv in config.items()],
               mesh="data=%d%s,tensor=%d,pipe=%d" % (dp, ",context=%d" % cp if cp > 1 else "", tp, pp),
               # who has other tokens divides states, along both axes; FSDP sends a layer at once, others more
               shard=["%s=%s" % (what, axis) for axis, n in (("data", dp), ("context", cp)) if n > 1 for what in divided]
               # the source's name for its runs on divided texts is "CP A2A": attention divides heads
               + (["T=context", "attention_heads=context"] if cp > 1 else []) + sequence + ["bucket=16GiB"],
               sizes="T=%d" % number(r, "seq_len"), batch=number(r, "global_batch_seqs"), micro=number(r, "micro_batch"),
               precision="fp8" if "fp8" in r["precision"] else "autocast", loss="whole", recompute="whole" if r["recompute"] == "full" else "none", seconds=seconds(r))
    if r["framework"].startswith("Megatron"):  # 16-bit parameters; gradients summed in f32 where the run is in bf16
        run["masters"] = "bf16" if r["precision"] == "fp16" else "bf16,f32" if r["framework"] == "Megatron-LM" else "bf16,bf16+f32"
    if "FSDP" in r["framework"]:  # f32 parameters are gathered in 16 bits, and so are all values of layers
        run["masters"] = "f32"
    if r["framework"] == "Megatron-LM":  # its products are Transformer Engine's (2.11): they add up gradients, and autograd is given placeholders
        run["placeholders"] = "bf16"
    if r["framework"] == "Megatron-DeepSpeed":  # of 2022: without FlashAttention
        run["attention"] = "scores"
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
        names = sorted(set(machine(r) for r in some))
        for part in pool.map(lambda n: plan([r for r in some if machine(r) == n], machine_file(n)), names):
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
    return [r for r in rows() if r["row_id"] not in test and (not name or machine(r) == name)]


def fit(name):
    """start/NAME.plinth is the data sheet and estimates: where the fit begins, and what it is held near to."""
    some = training(name)
    told = plan(some, machine_file(name, "start"), machine_file(name))
    lines = open(machine_file(name)).read().split("\n")
    lines[0] = "# Fitted by `benchmarks/cluster.sh --fit` to the training rows of ../runs.csv on this machine; what no row tells is as in ../start."
    with open(machine_file(name), "w") as f:
        f.write("\n".join(lines))
    fit_reserved(name)
    pairs = [(told[r["row_id"]]["step_seconds"], seconds(r)) for r in some if "error" not in told[r["row_id"]]]
    print("%-16s %3d rows, mean absolute error %.2f%%" % (name, len(pairs), 100 * error(pairs)))


# ---- the report ----


def groups(some, told, key):
    """Test rows by `key`: (name, rows, mean absolute error, rank correlation of those with at least 5)."""
    by = {}
    for r in some:
        by.setdefault(key(r), []).append((told[r["row_id"]]["step_seconds"], seconds(r)))
    for name, pairs in sorted(by.items()):
        rho = correlation(ranks([p for p, t in pairs]), ranks([t for p, t in pairs])) if len(pairs) > 4 else float("nan")
        yield name, len(pairs), error(pairs), rho


def repeated(some):
    """Groups of rows that have one configuration: all that as_run() says but name and seconds."""
    by = {}
    for r in some:
        key = {k: x for k, x in as_run(r).items() if k not in ("name", "seconds")}
        by.setdefault((machine(r), json.dumps(key, sort_keys=True)), []).append(r)
    return list(by.values())


def scatter(some):
    """Standard deviation of the logarithm of a time that is measured again, of all configurations that were."""
    again = [[math.log(seconds(r)) for r in same] for same in repeated(some) if len(same) > 1]
    return math.sqrt(sum((x - sum(g) / len(g)) ** 2 for g in again for x in g) / sum(len(g) - 1 for g in again))


def expected(some, asked, errors):
    """Rank correlations of times with themselves when each is off by one of `errors(row)`, a logarithm, drawn anew: (model, mean of
    1000 draws), and the mean over models: of all draws, and what one in twenty is below and above. What is published has errors already, so that times are
    further apart here than the true ones are: somewhat too high."""
    dice, by = random.Random(SEED), {}
    mean = {r["row_id"]: sum(map(seconds, same)) / len(same) for same in repeated(some) for r in same}
    for r in asked:
        by.setdefault(r["model"], []).append(r)
    by = {m: g for m, g in by.items() if len(g) > 4}
    draws = []
    for _ in range(1000):
        draws.append([correlation(ranks([mean[r["row_id"]] for r in g]), ranks([mean[r["row_id"]] * math.exp(errors(r, dice)) for r in g])) for g in by.values()])
    means = sorted(sum(d) / len(d) for d in draws)
    return [(m, sum(d[i] for d in draws) / len(draws)) for i, m in enumerate(by)], sum(means) / len(means), means[len(means) // 20], means[len(means) * 19 // 20]


def expected_text(found):
    each, mean, low, high = found
    return "%.3f (nine times in ten %.3f to %.3f): " % (mean, low, high) + ", ".join("%s %.2f" % (m, x) for m, x in each if x < 0.95)


def effects(train, told):
    """Mean errors of training rows by machine and column of the configuration, at least 5 rows each, in standard errors: the largest first."""
    by = {}
    for r in train:
        off = math.log(told[r["row_id"]]["step_seconds"] / seconds(r))
        micros = number(r, "global_batch_seqs") // (number(r, "dp") * number(r, "micro_batch"))
        for column, x in [(c, r[c]) for c in ("tp", "pp", "dp", "micro_batch", "heads")] + [("micro-batches", micros)]:
            by.setdefault((machine(r), column, x), []).append(off)
    found = []
    for key, x in by.items():
        mean = sum(x) / len(x)
        if len(x) >= 5:
            found.append((abs(mean) / math.sqrt(sum((a - mean) ** 2 for a in x) / (len(x) - 1) / len(x)), mean, key))
    return sorted(found, reverse=True)


def rank_lines(out, some, asked, told):
    """Rank correlation within models, and what the rows themselves allow."""
    by_model = list(groups(asked, told, lambda r: r["model"]))
    most = [max(map(seconds, same)) / min(map(seconds, same)) - 1 for same in repeated(some) if len(same) > 1]
    rhos = [x[3] for x in by_model if x[3] == x[3]]
    rows_of = [x[1] for x in by_model if x[3] == x[3]]
    train = [r for r in some if r not in asked]
    trained = [x[3] for x in groups(train, told, lambda r: r["model"]) if x[3] == x[3]]
    off = {}
    for r in train:
        off.setdefault(machine(r), []).append(math.log(told[r["row_id"]]["step_seconds"] / seconds(r)))
    sd = scatter(some)
    worst = effects([r for r in train if r["framework"] == "Megatron-DeepSpeed"], told)
    out += ["* Rank correlation within a model: Spearman's, ties at their mean rank, of a model's test rows on all its machines, for models with at least",
            "  5 of them; all models count alike. Mean **%.3f**, least %.3f; %d of %d at least 0.9 (each model counted by its rows: %.3f; training rows: %.3f)." % (
                sum(rhos) / len(rhos), min(rhos), sum(x >= 0.9 for x in rhos), len(rhos), sum(a * b for a, b in zip(rhos, rows_of)) / sum(rows_of),
                sum(trained) / len(trained)),
            "* What the rows allow: %d configurations were measured more than once; their times differ by up to %.1f%% (%d of them by more than 3%%), with a" % (
                len(most), 100 * max(most), sum(x > 0.03 for x in most)),
            "  standard deviation of %.1f%%. Who knew every true time would, with rows off by so much, have on these test rows (simulated)" % (100 * sd),
            "  %s." % (expected_text(expected(some, asked, lambda r, dice: dice.gauss(0, sd)))),
            "  Who was off by what the fitted machines are off by on training rows (one drawn of those of the row's machine) would have",
            "  %s." % expected_text(expected(some, asked, lambda r, dice: dice.choice(off[machine(r)]))),
            "* GPT 39.1B's rows 537 and 540 (data 16 and 8, pipe 8 and 16, all else equal) would by their bubbles be 3% apart and are 35%; its rows of",
            "  tensor 2 and 4 lie up to 60% above those of tensor 8. Training rows contradict whatever rises or falls with the micro-batch: of tensor 4 and micro-batches",
            "  of 3, 4 and 6, pipe 8 takes 17.6, 17.4 and 16.1 s (503, 506, 517); of 2, 4 and 6, pipe 16 takes 14.5, 15.6 and 20.0 (504, 515, 525), pipe 4 13.9, 15.6 and 18.5",
            "  (497, 500, 507), the same sums of gradients each time. No message is so slow: 528 (tensor 1, pipe 16) hands on more and is 2% off, where 498 (tensor 2, pipe 16) takes",
            "  60% more than predicted; nor is a host: a micro-batch of 475 takes 278 ms, of 480, which launches as much for it, 211. 43 quantities of a row and of its plan were",
            "  looked at, each alone (time of a host by micro-batch, layer and stage, and in the bubble; bytes from stage to stage, whole, in parts and by node; of sums of",
            "  gradients, by group, layer and micro-batch, and their latencies; of tensor's sums; embedding, head, parameters, update; exposed and hidden messages; memory, values",
            "  in flight, devices), with one factor fitted to three quarters of the training rows: the last quarter is 3.3% off without, and with none better (tensor 2",
            "  and 4 of GPT 39.1B: 9.9%, and 9.6% at best). What the source says of these runs is their division, not their nodes, network or repetitions. Of GPT 175B six",
            "  of eight test rows lie within 4% of one another. In their training rows columns of the configuration (tensor, pipe, data, micro-batch, their",
            "  number, heads) are left with small effects: the clearest, of those of at least 5 rows, is %+.1f%% (%s %s on %s), %.1f standard" % (
                100 * worst[0][1], worst[0][2][1], worst[0][2][2], worst[0][2][0], worst[0][0]),
            "  errors, of %d that were looked at. Products that lose time to the beginning and end of their sums (K / (K + depth)) were tried, and made" % len(worst),
            "  training rows no better. Where training rows that are left out of a fit (a quarter each time) are predicted better for it, the curve of products",
            "  has a point at 16384: a100_80gb_fsdp (their error 5.0 to 4.0%), h100_fsdp (4.6 to 4.0), a100_40gb_fsdp (3.2 to 2.9), a100_800gbps (4.10 to 4.06);",
            "  on b200_node and Jean Zay's it made them worse (5.1 to 5.3, 3.5 to 3.8, 3.79 to 3.80), and points between (5793, 11585) did on a100_800gbps."]


def reserved(name):
    """What a machine file says that drivers, libraries and allocators hold of a device."""
    return float(re.search(r"^ *reserved *= *(\S+)", open(machine_file(name)).read(), re.M).group(1))


WORKSPACES = 2 * 2**25  # cuBLAS's, of PyTorch and of Transformer Engine: 32 MiB each since Hopper, from the allocator that the rows count


def memory(r, told):
    """GiB as the row counts them: B200's are what an allocator gave out at most, the log of Jean Zay's shows the whole device's use."""
    beside = WORKSPACES if r["framework"] == "Megatron-LM" else reserved(machine(r))
    return (told[r["row_id"]]["memory_bytes"] + beside) / 2**30


def fit_reserved(name):
    """So much that no training row lies higher than what is predicted, of that machine on any day."""
    hardware = {before: now for now, (_, before) in IMPROVED.items()}.get(name, name)
    same = [r for r in training() if MACHINE[r["gpu"]] == hardware]
    told = plan(same, machine_file(name))
    beside = [float(r["mem_per_gpu_gib"]) * 2**30 - told[r["row_id"]]["memory_bytes"] for r in same
              if r["mem_per_gpu_gib"] and r["framework"] != "Megatron-LM" and "error" not in told[r["row_id"]]]
    if beside:
        text = open(machine_file(name)).read()
        with open(machine_file(name), "w") as f:
            f.write(re.sub(r"(?m)^( *reserved *= *)\S+", r"\g<1>%.0f" % max(beside), text))


def memory_error(r, told, more=0):
    return (memory(r, told) + more) / float(r["mem_per_gpu_gib"]) - 1


def memory_table(out, some, told):
    """Rows whose memory is published, by what they count and how the framework stores gradients."""
    kinds = {}
    for r in some:
        if r["mem_per_gpu_gib"]:
            even = r["dp_sharding"] != "ZeRO-1" or int(r["hidden"]) % int(r["dp"]) == 0
            kinds.setdefault((machine(r), r["framework"], r["precision"].split()[0] if even else "states that do not divide"), []).append(memory_error(r, told))
    out += ["", "## Memory", "",
            "Jean Zay's rows are whole GiB of an engineer's log, and contradict one another: rows 402 and 403 have the same configuration, and 44 and 38 GiB; row 364",
            "takes 65 GiB with a micro-batch of 2, row 365 56 GiB with one of 4, all else equal. No prediction lies within 5% above both. DeepSpeed divides",
            "optimizer states as one long vector over 6, 12 or 24 devices; Plinth divides tensors, of which 14336 is no multiple of these, and pads them.", "",
            "B200's rows are what PyTorch's allocator gave out at most, so that nothing is added for drivers, only two workspaces of cuBLAS, 32 MiB each. What",
            "Megatron-LM holds is planned from its source and from that of Transformer Engine: what a divided sequence's products take is gathered again in the",
            "backward half (Plinth does so everywhere); sums of gradients over devices lie where the gradients do (`--masters`); and each distinct weight of a layer, and",
            "the head's, has a placeholder in 16 bits for autograd, since products add up gradients themselves (`--placeholders bf16`): 10 GiB over tensor on the rows of 405B.",
            "These have 16 groups of keys, as the launcher says that their source names, and not 8, as the model does. No number here is fitted.", "",
            "Of Jean Zay's rows, one decides what is reserved: 382, whose twin with other heads (383) takes 5 GiB less. Beside what is planned, rows in fp16 hold",
            "5 to 16 GiB (without 403): least where tensor is 1 or 2 (410, 408), whose first stage is planned with the gradient of the whole tied table at work in f32, 11 and",
            "7 GiB, where PyTorch has that of the embedding alone, in 16 bits. Rows in bf16 hold 9 GiB with 2 billion parameters on a device and 14 with 4, as if 2.5 bytes of",
            "each were held that nothing here explains. With tensor 8, seven of eleven training rows in fp16 hold 10.0 to 10.8 GiB, of micro-batches of 1 to 4, with 6 and 12 stages",
            "and 2.2 to 4.2 billion parameters on a device alike; 376 and 382, of other heads than 378 and 383 and else the same, hold 2 and 5 GiB more."]
    table(out, ["machine", "framework", "stores", "rows", "below", "0 to 5% above", "more", "mean error", "least", "most"],
          [k + (len(e), sum(x < 0 for x in e), sum(0 <= x <= 0.05 for x in e), sum(x > 0.05 for x in e), "%+.1f%%" % (100 * sum(e) / len(e)),
                "%+.2f%%" % (100 * min(e)), "%+.1f%%" % (100 * max(e))) for k, e in sorted(kinds.items())])


def room(name):
    """Bytes that a machine file leaves to a program."""
    text = open(machine_file(name)).read()
    of = lambda key: float(re.search(r"^ *%s *= *([0-9.e+]+)$" % key, text, re.M).group(1))
    return of("memory") - of("reserved")


def too_large(some, told):
    ids = [r["row_id"] for r in some if told[r["row_id"]]["memory_bytes"] > room(machine(r))]
    over = max(told[r["row_id"]]["memory_bytes"] / room(machine(r)) - 1 for r in some)
    return ("* All of these programs ran, so that each fits into its device, and many of FSDP's had the largest micro-batch that does. Of %d planned, those that are said\n"
            "  not to fit are %d (%s), by up to %.1f%%: Jean Zay's reserved memory is that of the row that holds most beside what is planned." % (len(some), len(ids), ", ".join(ids), 100 * over))


def maxima(r):
    """Of a micro-batch of the row, on one device, the share of its time that kernels take which find the largest magnitude of an operand of 8 bits."""
    run = as_run(r)
    command = [PLINTH, "plan", run["model"], "--machine", machine_file(machine(r)), "--precision", run["precision"], "--json",
               "--sizes", "B=%d,%s" % (run["micro"], run["sizes"])]
    kernels = json.loads(subprocess.run(command + [x for s in run["set"] for x in ("--set", s)], capture_output=True, text=True).stdout)["kernels"]
    time = lambda some: sum(k["seconds"] for k in some)
    micro = [k for k in kernels if k["entry"] == "micro"]
    return time(k for k in micro if k["name"].endswith("reduce_max")) / time(micro)


def eight_bits(some, told):
    ours = [r for r in some if as_run(r)["precision"] == "fp8"]
    off = lambda of: ", ".join("%+.1f%% (%s)" % (100 * (told[r["row_id"]]["step_seconds"] / seconds(r) - 1), r["row_id"]) for r in of)
    train, test = [[r for r in ours if (r["row_id"] in test_ids()) == of] for of in (False, True)]
    peak = {where: float(re.search(r"f8e4m3 = ([0-9.e+]+)", open(machine_file("h100_fsdp", where)).read()).group(1)) / 1e12 for where in ("start", "machines")}
    share = [100 * maxima(r) for r in ours]
    by_id = {r["row_id"]: r for r in some}
    return ("* Products of 8 bits (%d rows, amp_fp8 by Transformer Engine: `--precision fp8`): training rows are off by %s;\n"
            "  test rows by %s. Of h100_fsdp they alone tell one number, the peak of such products: %.0f TFLOPS, of %.0f by the data sheet, under the curve that\n"
            "  products of bf16 have too. Transformer Engine scales by largest magnitudes of earlier steps, which it finds as it rounds; Plinth finds each step's own first,\n"
            "  and passes over operands that do nothing else are %.1f to %.1f%% of these rows' micro-batches. If the runs have none of it, their products took longer by as much than\n"
            "  the peak that is fitted says. Row 140, which computes layers again, took %.1f%% more than the same run in bf16 (111): what 8 bits spare in its linear layers went elsewhere, and its source does not say where." % (
                len(ours), off(train), off(test), peak["machines"], peak["start"], min(share), max(share), 100 * (seconds(by_id["140"]) / seconds(by_id["111"]) - 1)))


def long_texts(some, told):
    off = sorted(100 * (told[r["row_id"]]["step_seconds"] / seconds(r) - 1) for r in some if number(r, "cp") > 1)
    return ("* Texts of 32768 and 131072 tokens, divided over 4 or 8 B200 (%d rows, four of them training rows): %+.0f to %+.0f%%. Their source calls them \"CP A2A\",\n"
            "  and attention's heads are divided so (`--shard attention_heads=context`). They alone say what attention takes: of steps of texts of 4096 tokens it is little." % (
                len(off), off[0], off[-1]))


def table(lines, head, some):
    lines += ["", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(c) for c in x) + " |" for x in some]


def plot(path, some, told, test):
    """Predicted over published, both logarithmic: test rows full, training rows pale."""
    size, edge = 640, 56
    t = [seconds(r) for r in some] + [told[r["row_id"]]["step_seconds"] for r in some]
    low, high = math.log10(min(t)) - 0.05, math.log10(max(t)) + 0.05
    at = lambda v: edge + (math.log10(v) - low) / (high - low) * (size - 2 * edge)
    color = dict(zip(MACHINES, ("#3465a4", "#cc0000", "#4e9a06", "#75507b", "#c17d11", "#06989a", "#888a85")))
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">' % (size + 130, size),
           '<rect width="100%" height="100%" fill="white"/>']
    for share in (0.9, 1, 1.1):
        a, b = 10 ** low, 10 ** high
        out.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>' % (at(a), size - at(a) - 20 * math.log10(share) * 0 - (at(a * share) - at(a)),
                   at(b), size - at(b) - (at(a * share) - at(a)), "#888" if share == 1 else "#ddd"))
    for e in range(math.ceil(low), math.floor(high) + 1):
        v = 10.0 ** e
        out.append('<text x="%.1f" y="%d" text-anchor="middle">%g s</text><text x="%d" y="%.1f" text-anchor="end">%g s</text>' % (at(v), size - edge + 20, v, edge - 8, size - at(v) + 4, v))
    for r in sorted(some, key=lambda r: r["row_id"] in test):
        v = told[r["row_id"]]["step_seconds"]
        out.append('<circle cx="%.1f" cy="%.1f" r="3" fill="%s" fill-opacity="%s"/>' % (at(seconds(r)), size - at(v), color[machine(r)], 0.85 if r["row_id"] in test else 0.2))
    for i, (name, c) in enumerate(color.items()):
        out.append('<circle cx="%d" cy="%d" r="4" fill="%s"/><text x="%d" y="%d">%s</text>' % (size - edge + 10, edge + 18 * i, c, size - edge + 20, edge + 18 * i + 4, name))
    out.append('<text x="%d" y="%d" text-anchor="middle">published seconds of a step</text>' % (size // 2, size - 12))
    out.append('<text x="14" y="%d" text-anchor="middle" transform="rotate(-90 14 %d)">predicted</text></svg>' % (size // 2, size // 2))
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n")


def search_table(out):
    """search_ranks.csv, made by search_ranks.py."""
    path = os.path.join(HERE, "search_ranks.csv")
    some = list(csv.DictReader(open(path))) if os.path.exists(path) else []
    every = {(r["model"], MACHINE[r["gpu"]], as_run(r)["precision"]) for r in rows()}
    f8 = {r["row_id"] for r in rows() if as_run(r)["precision"] == "fp8"}
    model = lambda r: r["model"] + (", fp8" if r["row"] in f8 else "")
    share = lambda r, of: int(r[of + "faster"]) / int(r[of + "found"])
    text = lambda x: ("%.1f%%" if x <= 0.05 else "**%.1f%%**") % (100 * x)
    cells = lambda r, of: ((r[of + "found"], r[of + "faster"], text(share(r, of)), r[of + "best_s"] + " s: " + r[of + "best"]) if int(r.get(of + "found") or 0)
                           else ("", "", "", r.get(of + "best") or ""))
    within = lambda of: "%d of %d" % (sum(share(r, of) <= 0.05 for r in some if int(r.get(of + "found") or 0)), sum(int(r.get(of + "found") or 0) > 0 for r in some))
    out += ["", "## Published plans among those that the search finds", "",
            "Of each model on each machine, and of runs in 8 bits beside those in 16, the run with the most tokens a second and device, by its predicted time, among all divisions of as many",
            "devices and the same batch that `plinth plan --mesh auto --all` finds to fit (`benchmarks/cluster/search_ranks.py`); the first 5% are those than which",
            "at most one in twenty is faster. All that Plinth has includes what was settled before any published run: PyTorch's FSDP divided over data",
            "alone; all of GPT's and BLOOM's runs compute whole layers again, without interleaved stages, and divide nothing or optimizer states, and none divides",
            "the sequence along tensor (Korthikanti et al. 2022, later than most), with which the fastest plans of BLOOM take 12 to 26% less than the published ones, and 6 to 16% without: before the search had that,",
            "35 of 42 lay in the first 5%; B200's have",
            "micro-batches of 1 and compute nothing again. The second table holds what all runs with a framework on a machine have in common (`tried`).",
            "Many of its rows have few plans: %d have less than 20." % sum(int(r["tried_found"]) < 20 for r in some),
            "", "%d of %d are searched. In the first 5%% lie %s; of what was tried, %s. Nothing that was tried is faster than %d of them." % (
                len(some), len(every), within(""), within("tried_"), sum(r["tried_faster"] == "0" for r in some))]
    table(out, ["row", "model", "machine", "devices", "published s", "predicted s", "plans found", "faster", "share", "the fastest"],
          [(r["row"], model(r), r["machine"], r["devices"], r["published_s"], r["predicted_s"]) + cells(r, "") for r in some])
    out += ["", "Among what was tried:"]
    table(out, ["row", "model", "machine", "predicted s", "plans found", "faster", "share", "the fastest"],
          [(r["row"], model(r), r["machine"], r["predicted_s"]) + cells(r, "tried_") for r in some])


def report():
    test = test_ids()
    told = plan_all(rows())
    failed = [(r, told[r["row_id"]]["error"]) for r in rows() if "error" in told[r["row_id"]]]
    some = [r for r in rows() if "error" not in told[r["row_id"]]]
    asked = [r for r in some if r["row_id"] in test]
    pairs = [(told[r["row_id"]]["step_seconds"], seconds(r)) for r in asked]
    trained = [(told[r["row_id"]]["step_seconds"], seconds(r)) for r in some if r["row_id"] not in test]
    by_model = list(groups(asked, told, lambda r: r["model"]))
    held = [memory_error(r, told) for r in some if r["mem_per_gpu_gib"]]
    out = ["# Predicted against published training steps", "",
           "Made by `benchmarks/cluster.sh`. %d published runs ([runs.csv](cluster/runs.csv), with their sources) are planned by `plinth plan` from" % len(rows()),
           "`models/gpt2.plinth` and `models/llama.plinth` with each row's sizes, mesh, micro-batch, recomputation and precision. A random third",
           "([test_rows.txt](cluster/test_rows.txt), chosen by seed %d) was set aside; the machine files ([machines](cluster/machines), one for each" % SEED,
           "value of the column `gpu`) were fitted to the others alone, from the data sheets and estimates in [start](cluster/start). No constant belongs to a row or a model.",
           "Jean Zay is two machines: its log says of 25 February 2022 that \"A100s PCI-Express/NUMA was improved today so all TFLOPs have changed for the better",
           "(1-5%) - thus do not compare today's numbers to yesterday's\"; runs of the days before are planned on a100_jean_zay_before.", "",
           "* Test rows: %d, **mean absolute error of step time %.1f%%** (training rows: %d, %.1f%%)." % (len(pairs), 100 * error(pairs), len(trained), 100 * error(trained))]
    rank_lines(out, some, asked, told)
    out += ["* What a row's framework says is planned as such: Megatron's stores parameters in 16 bits beside f32 masters (`--masters`), and Megatron-DeepSpeed's",
           "  runs, of 2022, have no FlashAttention (`--attention scores`). B200's rows divide optimizer states and the sequence, as the launcher of their source",
           "  says, and their products are Transformer Engine's (`--placeholders`). FSDP's layers are 16 bits wide, as Composer has them (`--masters f32`). All hold a micro-batch's logits at once (`--loss whole`) and",
           "  send a layer's parameters or gradients together (`--shard bucket=16GiB`).",
           "* Groups of some of a node's devices, which divide a batch beside tensor 2 or 4, share its links: on a100_800gbps they reach 0.3 of what",
           "  their members' links would carry (`network.apart`, by its training rows, whose error fell from 4.5 to 3.5%); Jean Zay's rows show no such loss.",
           long_texts(some, told),
           "* Memory, where it is published (%d rows): %d lie 0 to 5%% above; %d are lower than the truth. Predicted is what Plinth's own plan" % (
               len(held), sum(0 <= m <= 0.05 for m in held), sum(m < 0 for m in held)),
           "  of that program takes; where the row is of the whole device (Jean Zay), and what the machine file says is reserved beside it: drivers, message",
           "  buffers and what a caching allocator holds, so much that no training row lies higher. The table below has them by what they count.",
           too_large(some, told),
           eight_bits(some, told)] + ["* Not predicted: %d rows." % len(failed)] * bool(failed) + ["", "![predicted over published](cluster.svg)"]
    table(out, ["machine", "test rows", "mean absolute error"], [(n, k, "%.1f%%" % (100 * e)) for n, k, e, _ in groups(asked, told, lambda r: machine(r))])
    table(out, ["model", "test rows", "mean absolute error", "rank correlation"], [(n, k, "%.1f%%" % (100 * e), "%.3f" % c if c == c else "") for n, k, e, c in by_model])
    memory_table(out, some, told)
    search_table(out)
    if failed:
        out += ["", "## Not predicted"]
        table(out, ["row", "model", "why"], [(r["row_id"], r["model"], e) for r, e in failed])
    out += ["", "## Every row", "", "`set`: test rows in bold; error: of step time; memory: GiB of a device, published and predicted."]
    def line(r):
        t, off = told[r["row_id"]]["step_seconds"], told[r["row_id"]]["step_seconds"] / seconds(r) - 1
        m = r["mem_per_gpu_gib"]
        return (r["row_id"], "**test**" if r["row_id"] in test else "training", r["model"], machine(r), r["n_gpus"], r["seq_len"],
                " / ".join(r[x] or "1" for x in ("dp", "cp", "tp", "pp")), r["micro_batch"], r["global_batch_seqs"], r["precision"].split()[0], r["recompute"], "%.4g" % seconds(r), "%.4g" % t,
                ("**%+.1f%%**" if abs(off) > 0.1 else "%+.1f%%") % (100 * off),
                "%s, %.1f (%+.0f%%)" % (m, memory(r, told), 100 * memory_error(r, told)) if m else "")
    table(out, ["row", "set", "model", "machine", "devices", "length", "data / context / tensor / pipe", "micro", "batch", "precision", "recompute", "published s", "predicted s", "error", "memory"], map(line, some))
    with open(os.path.join(os.path.dirname(HERE), "cluster.md"), "w") as f:
        f.write("\n".join(out) + "\n")
    plot(os.path.join(os.path.dirname(HERE), "cluster.svg"), some, told, test)
    print("\n".join(line for line in out[7:24] if line.startswith(("*", "  "))))


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "split":
        split()
    elif what == "report":
        report()
    elif what == "fit":
        for name in sys.argv[2:] or MACHINES:
            fit(name)
    else:
        sys.exit(__doc__)
