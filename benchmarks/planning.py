#!/usr/bin/env python3
"""planning.py [MODEL...]: see planning.sh. A row for each model and size; what cannot be planned or run is told with its reason."""
import json, os, shutil, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PLINTH = os.environ["PLINTH"]
MPIRUN = os.environ["MPIRUN"].split()
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
    ("gemma", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("moe", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("deepseek", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("lora", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("bert", ["--preset", "test"], ["B=4,T=64", "B=16,T=64"]),
    ("roberta", ["--preset", "test", "--forward"], ["B=4,T=64", "B=16,T=64"]),
    ("t5", ["--preset", "test"], ["B=4,T=32,S=32", "B=16,T=32,S=32"]),
    ("whisper", ["--preset", "test"], ["B=4,T=32", "B=16,T=32"]),
    ("fashion", ["--preset", "test"], ["B=8", "B=32"]),
    ("vit", ["--preset", "test"], ["B=4", "B=32"]),
    ("clip", ["--preset", "test"], ["B=4", "B=16"]),
    ("dit", ["--preset", "test"], ["B=8", "B=32"]),
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
ABOUT = """Machine and steps are measured in turns: in each round the machine, whole and as two ranks, then every step beside what is predicted
for that round's machine. Rows have medians over rounds. Nothing is fitted to steps. On a machine that others share a step's time may
change by half between two runs of this script. Calibration leaves out what others add where it can tell (tools/turns.h), and so a step is measured
three times in a round, and told by the same rule: the median of three, or the least where no other comes within 15% of it. (Told by one measurement,
as this page had it before, steps of a day on which the host was busy were 11.0, 11.1 and 12.2% off in three rounds, nearly all of them slower
than predicted, and two ranks 8.1, 11.0 and 9.9%.) What is missed beside that, by what `plinth bench` says of kernels:

* The machine's measurement itself, where a neighbour of the host takes its turn: each number is the median of three turns, and
  those of products still move by a tenth between rounds. Steps of the same program moved by 15% within a minute (llama tiny, B=8,T=256).
* Convolutions (fashion, unet, vae): images' edges in rows of 7 to 30 take two to three times what their activation does in whole
  rows: masks, jumps and addresses of each row, not the function.
* Of two functions between which places choose (halves of a gated activation, what rotary positions turn beside what they do not: DeepSeek's concat, 2.6 ms of
  14, is predicted as 5.8) both are counted, and one is worked out.
* Two ranks wait for one another in every step, so that each has what disturbs either: `uneven` is what calibration finds of that, and the
  link is measured by medians. Nothing else may run on either core: these rows are the first to move.
* A sum of ranks' values that are still in the cores' caches takes up to twice what the link says, which is measured with gradients that are in none.
"""
VOCABULARY = 320
STEPS = 12
TURNS = 3
ROUNDS = int(os.environ.get("ROUNDS", "3"))


def run(args):
    p = subprocess.run([PLINTH] + args, capture_output=True, text=True)
    if not p.stdout.startswith("{"):
        raise RuntimeError((p.stderr or p.stdout).strip().splitlines()[0])
    return json.loads(p.stdout)


def measured(name, folder, launcher):
    """The machine's file: the one that the environment names, or measured now."""
    if name in os.environ:
        return os.environ[name]
    out = os.path.join(folder, name + ".plinth")
    subprocess.run(launcher + [PLINTH, "doctor", "--calibrate", "--output", out], check=True, capture_output=True)
    return out


def settled(measure):
    """Of TURNS measurements what calibration takes of a machine's (tools/turns.c): the median of three, or the least where others come nowhere near."""
    some = sorted(measure() for _ in range(TURNS))
    return some[1] if some[1] <= 1.15 * some[0] else some[0]


def one_device(machine, model, options, sizes):
    args = [os.path.join(ROOT, "models", model + ".plinth"), "--precision", "f32", "--json", "--sizes", sizes] + options
    predicted = run(["plan", "--machine", machine] + args)["step_seconds"]

    def step():
        point = run(["bench", "--no-probes", "--runs", "1"] + args)["points"][0]
        if "failed" in point:
            raise RuntimeError(point["failed"])
        return point["step"]["seconds"]["median"]

    return predicted, settled(step)


def two_ranks(machine, model, options, mesh, sizes, folder):
    """Steps as `plinth train` makes them: of a run's, the median, without the first quarter."""
    args = [os.path.join(ROOT, "models", model + ".plinth"), "--precision", "f32", "--mesh", mesh, "--json"] + options + ["--set", "vocab=%d" % VOCABULARY]
    predicted = run(["plan", "--machine", machine, "--sizes", sizes] + args)["step_seconds"]
    data = os.path.join(folder, "text")
    if not os.path.exists(data + ".tokenizer.json"):
        subprocess.run([PLINTH, "data", "tokenize", os.path.join(ROOT, "LICENSE"), "--tokenizer", "bpe", "--vocab", str(VOCABULARY), "-o", data],
                       check=True, capture_output=True)
    batch = [x for size in sizes.split(",") for x in ("--set", "train.batch." + size)]

    def step():
        out = os.path.join(tempfile.mkdtemp(dir=folder), "run")
        p = subprocess.run(MPIRUN + ["-n", "2", PLINTH, "train"] + args + batch + ["--data", data, "--steps", str(STEPS), "-o", out],
                           capture_output=True, text=True)
        steps = [json.loads(line)["step_ms"] / 1e3 for line in p.stdout.splitlines() if line.startswith("{") and "step_ms" in line]
        if p.returncode or len(steps) < STEPS:
            raise RuntimeError((p.stderr or p.stdout).strip().splitlines()[0])
        return statistics.median(steps[STEPS // 4:])

    return predicted, settled(step)


def single(rows, mesh):
    """The mean absolute error of each round that all rows have, without medians."""
    some = [pairs for case, pairs in rows.items() if bool(case[2]) == mesh]
    return [sum(abs(pairs[i][0] / pairs[i][1] - 1) for pairs in some) / len(some) * 100 for i in range(min(map(len, some)))]


def report(rows, missing, machines):
    errors, lines = {}, {}
    for (model, options, mesh, sizes), pairs in rows.items():
        p, t = (statistics.median(x) for x in zip(*pairs))
        kind = "two ranks" if mesh else "one device"
        errors.setdefault(kind, []).append(p / t - 1)
        line = "| %s | %s | %s | %.3g | %.3g | %+.1f%% |" % (model, " ".join(options + (mesh,)), sizes, 1e3 * p, 1e3 * t, 100 * (p / t - 1))
        lines.setdefault(kind, []).append(line)
    summary = "; ".join("%s: %d steps, **mean absolute error %.1f%%** (mean %+.1f%%)" % (kind, len(e), 100 * sum(map(abs, e)) / len(e), 100 * sum(e) / len(e))
                        for kind, e in errors.items())
    alone = "; ".join("%s: %s" % (kind, ", ".join("%.1f%%" % x for x in single(rows, bool(kind == "two ranks")))) for kind in errors)
    head = "| model | options | sizes | predicted ms | measured ms | error |\n| --- | --- | --- | --- | --- | --- |\n"
    text = "# Predicted beside measured on one machine\n\nMade by `benchmarks/planning.sh`. %s.\nEach round alone: %s.\n\n%s" % (summary, alone, ABOUT)
    for kind, some in lines.items():
        text += "\n## %s\n\n%s%s\n" % (kind.capitalize(), head, "\n".join(some))
    if missing:
        text += "\nNot measured:\n\n%s\n" % "\n".join(missing)
    text += "\nEach step was measured %d to %d times. Machines, as they were measured last:\n" % (min(map(len, rows.values())), max(map(len, rows.values())))
    for kind in machines:
        text += "\n```\n%s```\n" % machines[kind]
    return summary, text


def main(only):
    ranks = shutil.which(MPIRUN[0])
    cases = [(model, tuple(options), "", sizes) for model, options, all_sizes in CASES for sizes in all_sizes]
    cases += [(model, tuple(options), mesh, sizes) for model, options, mesh, all_sizes in TWO for sizes in all_sizes if ranks]
    cases = [case for case in cases if not only or case[0] in only]
    keep = os.environ.get("KEEP")
    known = json.load(open(keep)) if keep and os.path.exists(keep) else {"rows": [], "machines": {}}
    rows = {(model, tuple(options), mesh, sizes): pairs for model, options, mesh, sizes, pairs in known["rows"]}
    texts = known["machines"]
    missing = ["* %s: no case of this script's names it" % model for model in sorted(os.path.splitext(f)[0] for f in os.listdir(os.path.join(ROOT, "models")))
               if model not in (case[0] for case in CASES)]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            machine = {}
            least = min(len(rows.get(case, [])) for case in cases)
            for case in [case for case in cases if len(rows.get(case, [])) == least]: # what an earlier call left of a round comes first
                model, options, mesh, sizes = case
                name = "%s %s %s %s" % (model, " ".join(options), mesh, sizes)
                kind = "RANKS" if mesh else "MACHINE"
                if kind not in machine:
                    machine[kind] = measured(kind, folder, MPIRUN + ["-n", "2"] if mesh else [])
                    texts[kind] = open(machine[kind]).read()
                try:
                    if mesh:
                        p, t = two_ranks(machine[kind], model, list(options), mesh, sizes, folder)
                    else:
                        p, t = one_device(machine[kind], model, list(options), sizes)
                except RuntimeError as why:
                    missing.append("* %s: %s" % (name, why))
                    cases.remove(case)
                    print(missing[-1], flush=True)
                    continue
                rows.setdefault(case, []).append((p, t))
                print("%d  %-70s %9.2f %9.2f ms  %+.1f%%" % (len(rows[case]), name, 1e3 * p, 1e3 * t, 100 * (p / t - 1)), flush=True)
                if keep:
                    with open(keep, "w") as f:
                        json.dump({"rows": [list(key) + [pairs] for key, pairs in rows.items()], "machines": texts}, f)
            summary, text = report(rows, missing, texts)
            print(summary, flush=True)
            if not only:
                with open(os.path.join(HERE, "planning.md"), "w") as f:
                    f.write(text)


main(sys.argv[1:])
