#!/usr/bin/env python3
"""Where published plans stand among all that the search finds: `search_ranks.py [MODEL...]` writes search_ranks.csv, which
`validate.py report` reads. Of each model on each machine the published plan is the run with the most tokens a second and device; its
predicted time is compared with those of every division of as many devices and the same batch that `plinth plan --mesh auto --all`
finds to fit. The search computes less again and divides more than Megatron could in 2022: its runs are also ranked among all
divisions (data, tensor, pipe, micro-batch) that do as the run does in these. Rows of the table are kept, so that it can be made model
by model. PLINTH: the binary."""
import csv, json, os, re, subprocess, sys, tempfile
import validate as v

PATH = os.path.join(v.HERE, "search_ranks.csv")
COLUMNS = ["row", "model", "machine", "devices", "published_s", "predicted_s", "found", "faster", "best_s", "best", "alike", "alike_faster", "alike_best_s", "alike_best"]


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


def search(r):
    run = v.as_run(r)
    command = [v.PLINTH, "plan", run["model"], "--machine", v.machine_file(v.MACHINE[r["gpu"]]), "--mesh", "auto", "--devices", r["n_gpus"],
               "--batch", str(run["batch"]), "--sizes", run["sizes"], "--precision", run["precision"], "--all", "--json"]
    command += [x for key in ("masters", "attention", "loss") if key in run for x in ("--" + key, run[key])]
    command += [x for s in run["shard"] if not s.endswith("=data") for x in ("--shard", s)]  # what of it holds for all divisions
    p = subprocess.run(command + [x for s in run["set"] for x in ("--set", s)], capture_output=True, text=True)
    return json.loads(p.stdout)["plans"] if p.returncode == 0 else p.stderr.strip()


def divisions(r):
    """The row's run divided otherwise: as many devices, the same batch; what is computed again and what data divides are as in the run."""
    run, n, batch = v.as_run(r), v.number(r, "n_gpus"), v.number(r, "global_batch_seqs")
    run.pop("schedule", None)
    micros = sorted({1, 2, 4, 8, 16, run["micro"]})
    for tensor in (t for t in range(1, 17) if n % t == 0):
        for pipe in (p for p in range(1, v.number(r, "layers") + 1) if n // tensor % p == 0):
            data = n // tensor // pipe
            shard = [s for s in run["shard"] if (data > 1 or not s.endswith("=data")) and (tensor > 1 or not s.endswith("=tensor"))]
            for micro in (m for m in micros if batch % (m * data) == 0):
                yield dict(run, name="%d / %d / %d, micro %d" % (data, tensor, pipe, micro), shard=shard, micro=micro,
                           mesh="data=%d,tensor=%d,pipe=%d" % (data, tensor, pipe))


def alike(r):
    """All of these that fit: (seconds, name), fastest first."""
    machine = v.machine_file(v.MACHINE[r["gpu"]])
    room = float(re.search(r"^ *memory *= *(\S+)", open(machine).read(), re.M).group(1)) - v.reserved(v.MACHINE[r["gpu"]])
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
        f.write("\n".join(map(json.dumps, divisions(r))) + "\n")
        f.flush()
        out = subprocess.run([v.PLINTH, "plan", "--runs", f.name, "--machine", machine], capture_output=True, text=True, check=True).stdout
    told = map(json.loads, out.splitlines())
    return sorted((j["step_seconds"], j["name"]) for j in told if "error" not in j and j["memory_bytes"] <= room)


def as_text(p):
    return "%d / %d / %d, micro %d, %s again, %s divided" % (p["data"], p["tensor"], p["pipe"], p["micro"], p["recompute"], p["divided"]) + (
        ", %d chunks" % p["chunks"] if p["chunks"] > 1 else "")


def main(models):
    done = {r["row"]: r for r in csv.DictReader(open(PATH))} if os.path.exists(PATH) else {}
    for r in published():
        if r["model"] not in models if models else r["row_id"] in done:
            continue
        told = v.plan([r], v.machine_file(v.MACHINE[r["gpu"]]))[r["row_id"]]
        plans = search(r)
        row = dict(row=r["row_id"], model=r["model"], machine=v.MACHINE[r["gpu"]], devices=r["n_gpus"], published_s="%.4g" % v.seconds(r),
                   predicted_s="%.4g" % told["step_seconds"])
        if isinstance(plans, str):
            row.update(found=0, best=plans)
        else:
            row.update(found=len(plans), faster=sum(p["step_seconds"] < told["step_seconds"] for p in plans),
                       best_s="%.4g" % plans[0]["step_seconds"], best=as_text(plans[0]))
        if r["framework"].startswith("Megatron-DeepSpeed"):
            some = alike(r)
            row.update(alike=len(some), alike_faster=sum(t < told["step_seconds"] for t, _ in some))
            if some:
                row.update(alike_best_s="%.4g" % some[0][0], alike_best=some[0][1])
        done[r["row_id"]] = row
        print(row, flush=True)
        with open(PATH, "w") as f:
            w = csv.DictWriter(f, COLUMNS, lineterminator="\n")
            w.writeheader()
            w.writerows(done[k] for k in sorted(done, key=int))


if __name__ == "__main__":
    main(sys.argv[1:])
