#!/usr/bin/env python3
"""planning.py [MODEL...]: see planning.sh. A row for each model and size; what cannot be planned or run is told with its reason."""
import json, os, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PLINTH = os.environ["PLINTH"]
MACHINE = os.environ["MACHINE"]
RANKS = os.environ.get("RANKS")
# model, options, sizes
CASES = [
    ("gpt2", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("gpt2", ["--preset", "tiny"], ["B=4,T=64", "B=8,T=256"]),
    ("gpt2", ["--set", "layers=4"], ["B=1,T=64", "B=4,T=128"]),
    ("llama", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("llama", ["--preset", "tiny"], ["B=4,T=64", "B=8,T=256"]),
    ("llama", ["--preset", "smollm_135m", "--set", "layers=4"], ["B=1,T=64", "B=4,T=128"]),
    ("bible", [], ["B=4,T=128", "B=16,T=256"]),
    ("mixtral", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("lora", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("bert", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("roberta", ["--preset", "test", "--forward"], ["B=4,T=64", "B=16,T=64"]),
    ("t5", ["--preset", "test"], ["B=4,T=32,S=32", "B=16,T=32,S=32"]),
    ("fashion", ["--preset", "test"], ["B=8", "B=32"]),
    ("vit", ["--preset", "test"], ["B=4", "B=32"]),
    ("clip", ["--preset", "test"], ["B=4", "B=16"]),
    ("unet", ["--preset", "test"], ["B=1", "B=4"]),
    ("vae", ["--preset", "test"], ["B=1", "B=4"]),
]
# on two ranks; sizes are both ranks' together
TWO = [
    ("gpt2", ["--preset", "test"], "data=2", ["B=4,T=64", "B=16,T=64"]),
    ("gpt2", ["--preset", "test"], "tensor=2", ["B=16,T=64"]),
    ("gpt2", ["--set", "layers=4"], "data=2", ["B=2,T=64", "B=8,T=128"]),
    ("gpt2", ["--set", "layers=4"], "tensor=2", ["B=8,T=128"]),
    ("llama", ["--preset", "tiny"], "data=2", ["B=4,T=64", "B=8,T=256"]),
    ("llama", ["--preset", "smollm_135m", "--set", "layers=4"], "data=2", ["B=2,T=64", "B=8,T=128"]),
    ("mixtral", ["--preset", "test"], "data=2", ["B=16,T=64"]),
]
ABOUT = """The machine file is measured once, before; nothing is fitted to steps. On a machine that others share a step's time may change by half
between two runs of this script. What is missed beside that, by what `plinth bench` says of kernels:

* Convolutions (fashion, unet, vae): products that read through windows reach a fifth of what plain ones of the same size do, and
  kernels of some microseconds cost about ten more with two threads than the same one again and again.
* Small matrices (M N K of 128^3) in a step's forward half, and scatters (embeddings' gradients), are slower than alone.
* Two ranks: a message that is waited for by a thread which sleeps costs a turn of the scheduler's where ranks and their threads
  are as many as cores; the link is measured without that.
"""
VOCABULARY = 320
STEPS = 20


def run(args):
    p = subprocess.run([PLINTH] + args, capture_output=True, text=True)
    if not p.stdout.startswith("{"):
        raise RuntimeError((p.stderr or p.stdout).strip().splitlines()[0])
    return json.loads(p.stdout)


def one_device(model, options, sizes):
    args = [os.path.join(ROOT, "models", model + ".plinth"), "--precision", "f32", "--json", "--sizes", sizes] + options
    predicted = run(["plan", "--machine", MACHINE] + args)["step_seconds"]
    point = run(["bench", "--no-probes"] + args)["points"][0]
    if "failed" in point:
        raise RuntimeError(point["failed"])
    return predicted, point["step"]["seconds"]["median"]


def two_ranks(model, options, mesh, sizes, folder):
    """Steps as `plinth train` makes them: of a run's, the median, without the first quarter."""
    args = [os.path.join(ROOT, "models", model + ".plinth"), "--precision", "f32", "--mesh", mesh, "--json"] + options + ["--set", "vocab=%d" % VOCABULARY]
    predicted = run(["plan", "--machine", RANKS, "--sizes", sizes] + args)["step_seconds"]
    data, out = os.path.join(folder, "text"), os.path.join(tempfile.mkdtemp(dir=folder), "run")
    if not os.path.exists(data + ".tokenizer.json"):
        subprocess.run([PLINTH, "data", "tokenize", os.path.join(ROOT, "LICENSE"), "--tokenizer", "bpe", "--vocab", str(VOCABULARY), "-o", data],
                       check=True, capture_output=True)
    batch = [x for size in sizes.split(",") for x in ("--set", "train.batch." + size)]
    p = subprocess.run(os.environ["MPIRUN"].split() + ["-n", "2", PLINTH, "train"] + args + batch + ["--data", data, "--steps", str(STEPS), "-o", out],
                       capture_output=True, text=True)
    steps = [json.loads(line)["step_ms"] / 1e3 for line in p.stdout.splitlines() if line.startswith("{") and "step_ms" in line]
    if p.returncode or len(steps) < STEPS:
        raise RuntimeError((p.stderr or p.stdout).strip().splitlines()[0])
    return predicted, statistics.median(steps[STEPS // 4:])


def main(only):
    cases = [(model, options, "", sizes) for model, options, all_sizes in CASES for sizes in all_sizes]
    cases += [(model, options, mesh, sizes) for model, options, mesh, all_sizes in TWO for sizes in all_sizes if RANKS]
    lines, missing, errors = {}, [], {}
    with tempfile.TemporaryDirectory() as folder:
        for model, options, mesh, sizes in cases:
            if only and model not in only:
                continue
            try:
                p, t = two_ranks(model, options, mesh, sizes, folder) if mesh else one_device(model, options, sizes)
            except RuntimeError as why:
                missing.append("* %s %s %s %s: %s" % (model, " ".join(options), mesh, sizes, why))
                print(missing[-1], flush=True)
                continue
            kind = "two ranks" if mesh else "one device"
            errors.setdefault(kind, []).append(abs(p / t - 1))
            line = "| %s | %s | %s | %.3g | %.3g | %+.1f%% |" % (model, " ".join(options + [mesh]), sizes, 1e3 * p, 1e3 * t, 100 * (p / t - 1))
            lines.setdefault(kind, []).append(line)
            print(line, flush=True)
    summary = "; ".join("%s: %d steps, **mean absolute error %.1f%%**" % (kind, len(e), 100 * sum(e) / len(e)) for kind, e in errors.items())
    print(summary)
    if only:
        return
    head = "| model | options | sizes | predicted ms | measured ms | error |\n| --- | --- | --- | --- | --- | --- |\n"
    with open(MACHINE) as f:
        machine = f.read()
    with open(os.path.join(HERE, "planning.md"), "w") as f:
        f.write("# Predicted beside measured on one machine\n\nMade by `benchmarks/planning.sh`. %s.\n\n%s" % (summary, ABOUT))
        for kind, some in lines.items():
            f.write("\n## %s\n\n%s%s\n" % (kind.capitalize(), head, "\n".join(some)))
        if missing:
            f.write("\nNot measured:\n\n%s\n" % "\n".join(missing))
        f.write("\nThe machine, as it was measured beside:\n\n```\n%s```\n" % machine)
        if RANKS:
            with open(RANKS) as ranks:
                f.write("\nAs two ranks:\n\n```\n%s```\n" % ranks.read())


main(sys.argv[1:])
