#!/usr/bin/env python3
"""Where published plans stand among all that the search finds: `search_ranks.py [--again] [MODEL, MACHINE or ROW...]` writes search_ranks.csv,
which `validate.py report` reads. Of each model on each machine, in 16 bits and in 8, the published plan is the run with the most tokens a second and device;
its predicted time is compared with those of every division of as many devices and the same batch that `plinth plan --mesh auto --all`
finds to fit: once among all that Plinth has, and once among what was tried in the published runs (`tried`). Rows of the table are kept, so that it
can be made model by model; with --again they are made anew. PLINTH: the binary."""
import csv, json, os, subprocess, sys
import validate as v

DIVIDED = ["nothing", "optimizer_state", "gradients", "parameters"]  # each with what comes before it
PATH = os.path.join(v.HERE, "search_ranks.csv")
COLUMNS = ["row", "model", "machine", "devices", "published_s", "predicted_s", "found", "faster", "best_s", "best", "tried_found", "tried_faster", "tried_best_s", "tried_best"]


def tried(r):
    """Options of the search that leave what was tried on the row's machine with its framework: what all of these runs have in common was
    settled before."""
    of = lambda x: (v.MACHINE[x["gpu"]], x["framework"])
    same = [x for x in v.rows() if of(x) == of(r)]
    runs = [v.as_run(x) for x in same]
    values = lambda key: {v.number(x, key) for x in same}
    held = ["%s=%d" % (axis, *values(key)) for axis, key in (("tensor", "tp"), ("pipe", "pp")) if len(values(key)) == 1]
    again = sorted({run["recompute"] for run in runs})
    divided = max(DIVIDED.index(d) for run in runs for d in [s.split("=")[0] for s in run["shard"]] + ["nothing"] if d in DIVIDED)
    options = ["--mesh", ",".join(["auto"] + held), "--recompute", ",".join(again), "--divided", DIVIDED[divided]]
    sequence = {"sequence=tensor" in run["shard"] for x, run in zip(same, runs) if v.number(x, "tp") > 1}
    if sequence == {True}:
        options += ["--shard", "sequence=tensor"]
    if values("vpp") == {1}:
        options += ["--schedule", "1f1b"]
    if len(values("micro_batch")) == 1:
        options += ["--micro", str(*values("micro_batch"))]
    return options


def published():
    """The fastest run of each model on each machine, in 16 bits and in 8."""
    best = {}
    for r in v.rows():
        key = r["model"], v.MACHINE[r["gpu"]], v.as_run(r)["precision"]
        speed = v.number(r, "global_batch_seqs") * v.number(r, "seq_len") / v.seconds(r) / v.number(r, "n_gpus")
        if key not in best or speed > best[key][0]:
            best[key] = speed, r
    return [r for _, r in best.values()]


def search(r, among):
    run = v.as_run(r)
    command = [v.PLINTH, "plan", run["model"], "--machine", v.machine_file(v.machine(r))] + among + ["--devices", r["n_gpus"],
               "--batch", str(run["batch"]), "--sizes", run["sizes"], "--precision", run["precision"], "--all", "--json"]
    command += [x for key in ("masters", "attention", "loss", "placeholders") if key in run for x in ("--" + key, run[key])]
    command += [x for s in run["shard"] if not s.endswith("=data") and s != "sequence=tensor" for x in ("--shard", s)]  # what of it holds for all divisions
    p = subprocess.run(command + [x for s in run["set"] for x in ("--set", s)], capture_output=True, text=True)
    return json.loads(p.stdout)["plans"] if p.returncode == 0 else p.stderr.strip()


def as_text(p):
    return "%d / %d / %d, micro %d, %s again, %s divided" % (p["data"], p["tensor"], p["pipe"], p["micro"], p["recompute"], p["divided"]) + (
        ", the sequence too" if p["sequence"] else "") + (
        ", %d chunks" % p["chunks"] if p["chunks"] > 1 else "")


def rank(row, prefix, seconds, plans):
    row[prefix + "found"] = 0 if isinstance(plans, str) else len(plans)
    row[prefix + "best"] = plans if isinstance(plans, str) else as_text(plans[0])
    if row[prefix + "found"]:
        row[prefix + "faster"] = sum(p["step_seconds"] < seconds for p in plans)
        row[prefix + "best_s"] = "%.4g" % plans[0]["step_seconds"]


def main(some, again):
    done = {r["row"]: r for r in csv.DictReader(open(PATH))} if os.path.exists(PATH) else {}
    for r in sorted(published(), key=lambda r: r["row_id"] in done):
        if (some and not {r["row_id"], r["model"], v.machine(r)} & set(some)) or (done.get(r["row_id"], {}).get("tried_found") and not again):
            continue
        seconds = v.plan([r], v.machine_file(v.machine(r)))[r["row_id"]]["step_seconds"]
        row = dict(row=r["row_id"], model=r["model"], machine=v.machine(r), devices=r["n_gpus"], published_s="%.4g" % v.seconds(r),
                   predicted_s="%.4g" % seconds)
        rank(row, "", seconds, search(r, ["--mesh", "auto"]))
        rank(row, "tried_", seconds, search(r, tried(r)))
        done[r["row_id"]] = row
        print(row, flush=True)
        with open(PATH, "w") as f:
            w = csv.DictWriter(f, COLUMNS, lineterminator="\n", extrasaction="ignore")
            w.writeheader()
            w.writerows(done[k] for k in sorted(done, key=int))


if __name__ == "__main__":
    main([x for x in sys.argv[1:] if x != "--again"], "--again" in sys.argv)
