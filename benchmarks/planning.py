#!/usr/bin/env python3
"""planning.py [MODEL...]: see planning.sh. A row for each model and size; what cannot be planned or run is told with its reason."""
import json, os, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PLINTH = os.environ["PLINTH"]
MACHINE = os.environ.get("MACHINE", "host")
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
    ("vit", ["--preset", "test"], ["B=4", "B=32"]),
    ("clip", ["--preset", "test"], ["B=4", "B=16"]),
    ("unet", ["--preset", "test"], ["B=1", "B=4"]),
    ("vae", ["--preset", "test"], ["B=1", "B=4"]),
]


def run(args):
    p = subprocess.run([PLINTH] + args, capture_output=True, text=True)
    if not p.stdout.startswith("{"):
        raise RuntimeError((p.stderr or p.stdout).strip().splitlines()[0])
    return json.loads(p.stdout)


def case(model, options, sizes):
    args = [os.path.join(ROOT, "models", model + ".plinth"), "--precision", "f32", "--json", "--sizes", sizes] + options
    predicted = run(["plan", "--machine", MACHINE] + args)["step_seconds"]
    point = run(["bench"] + args)["points"][0]
    if "failed" in point:
        raise RuntimeError(point["failed"])
    return predicted, point["step"]["seconds"]["median"]


def main(only):
    lines = ["| model | options | sizes | predicted ms | measured ms | error |", "| --- | --- | --- | --- | --- | --- |"]
    missing, errors = [], []
    for model, options, all_sizes in CASES:
        for sizes in all_sizes:
            if only and model not in only:
                continue
            try:
                p, t = case(model, options, sizes)
            except RuntimeError as why:
                missing.append("* %s %s %s: %s" % (model, " ".join(options), sizes, why))
                print(missing[-1], flush=True)
                continue
            errors.append(abs(p / t - 1))
            lines.append("| %s | %s | %s | %.3g | %.3g | %+.1f%% |" % (model, " ".join(options), sizes, 1e3 * p, 1e3 * t, 100 * (p / t - 1)))
            print(lines[-1], flush=True)
    summary = "%d steps, **mean absolute error %.1f%%**" % (len(errors), 100 * sum(errors) / max(len(errors), 1))
    print(summary)
    if not only:
        with open(os.path.join(HERE, "planning.md"), "w") as f:
            f.write("# Predicted beside measured on one machine\n\nMade by `benchmarks/planning.sh`: %s.\n\n%s\n" % (summary, "\n".join(lines)))
            if missing:
                f.write("\nNot measured:\n\n%s\n" % "\n".join(missing))


main(sys.argv[1:])
