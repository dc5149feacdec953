#!/usr/bin/env python3
"""Where published plans stand among all that the search finds: `search_ranks.py [--again] [MODEL...]` writes search_ranks.csv,
which `validate.py report` reads. Of each model on each machine the published plan is the run with the most tokens a second and device;
its predicted time is compared with those of every division of as many devices and the same batch that `plinth plan --mesh auto --all`
finds to fit: once among all that Plinth has, and once among what the run's framework had (HAD). Rows of the table are kept, so that it
can be made model by model; with --again they are made anew. PLINTH: the binary."""
import csv, json, os, subprocess, sys
import validate as v

PATH = os.path.join(v.HERE, "search_ranks.csv")
COLUMNS = ["row", "model", "machine", "devices", "published_s", "predicted_s", "found", "faster", "best_s", "best", "had_found", "had_faster", "had_best_s", "had_best"]
# Options of the search that leave what a framework had when the runs were made: FSDP of PyTorch 2.1 in LLM Foundry divides over data alone;
# DeepSpeed's pipelines have 1F1B and optimizer states divided at most (ZeRO-1), and Megatron-DeepSpeed computed whole layers again or
# nothing; Megatron-LM divides optimizer states at most beside tensor and pipe.
HAD = {
    "LLM Foundry / Composer FSDP": ["--mesh", "auto,tensor=1,pipe=1", "--recompute", "none,whole"],
    "Megatron-DeepSpeed": ["--mesh", "auto", "--recompute", "none,whole", "--schedule", "1f1b", "--divided", "optimizer_state"],
    "Megatron-LM": ["--mesh", "auto", "--recompute", "none,needed,whole", "--divided", "optimizer_state"],
}


def published():
    """The fastest run of each model on each machine."""
    best = {}
    for r in v.rows():
        if v.why_not(r):
            continue
        key, speed = (r["model"], v.MACHINE[r["gpu"]]), v.number(r, "global_batch_seqs") * v.number(r, "seq_len") / v.seconds(r) / v.number(r, "n_gpus")
        if key not in best or speed > best[key][0]:
            best[key] = speed, r
    return [r for _, r in best.values()]


def search(r, among):
    run = v.as_run(r)
    command = [v.PLINTH, "plan", run["model"], "--machine", v.machine_file(v.MACHINE[r["gpu"]])] + among + ["--devices", r["n_gpus"],
               "--batch", str(run["batch"]), "--sizes", run["sizes"], "--precision", run["precision"], "--all", "--json"]
    command += [x for key in ("masters", "attention", "loss") if key in run for x in ("--" + key, run[key])]
    command += [x for s in run["shard"] if not s.endswith("=data") for x in ("--shard", s)]  # what of it holds for all divisions
    p = subprocess.run(command + [x for s in run["set"] for x in ("--set", s)], capture_output=True, text=True)
    return json.loads(p.stdout)["plans"] if p.returncode == 0 else p.stderr.strip()


def as_text(p):
    return "%d / %d / %d, micro %d, %s again, %s divided" % (p["data"], p["tensor"], p["pipe"], p["micro"], p["recompute"], p["divided"]) + (
        ", %d chunks" % p["chunks"] if p["chunks"] > 1 else "")


def rank(row, prefix, seconds, plans):
    row[prefix + "found"] = 0 if isinstance(plans, str) else len(plans)
    row[prefix + "best"] = plans if isinstance(plans, str) else as_text(plans[0])
    if row[prefix + "found"]:
        row[prefix + "faster"] = sum(p["step_seconds"] < seconds for p in plans)
        row[prefix + "best_s"] = "%.4g" % plans[0]["step_seconds"]


def main(models, again):
    done = {r["row"]: r for r in csv.DictReader(open(PATH))} if os.path.exists(PATH) else {}
    for r in sorted(published(), key=lambda r: r["row_id"] in done):
        if (models and r["model"] not in models) or (done.get(r["row_id"], {}).get("had_found") and not again):
            continue
        seconds = v.plan([r], v.machine_file(v.MACHINE[r["gpu"]]))[r["row_id"]]["step_seconds"]
        row = dict(row=r["row_id"], model=r["model"], machine=v.MACHINE[r["gpu"]], devices=r["n_gpus"], published_s="%.4g" % v.seconds(r),
                   predicted_s="%.4g" % seconds)
        rank(row, "", seconds, search(r, ["--mesh", "auto"]))
        rank(row, "had_", seconds, search(r, HAD[r["framework"]]))
        done[r["row_id"]] = row
        print(row, flush=True)
        with open(PATH, "w") as f:
            w = csv.DictWriter(f, COLUMNS, lineterminator="\n", extrasaction="ignore")
            w.writeheader()
            w.writerows(done[k] for k in sorted(done, key=int))


if __name__ == "__main__":
    main([x for x in sys.argv[1:] if x != "--again"], "--again" in sys.argv)
