"""collect.py FOLDER RESULT.json [--what TEXT]: gathers what a benchmark script left in FOLDER, writes it as one JSON
file, and prints tables.

FOLDER holds NAME.json, each one JSON document of `plinth bench --json` or lines of a peer, and NAME.out, what other
programs printed: lines that are JSON objects are kept, or else the text. NAME is ROUND-CONFIGURATION-WHO, as "2-gpt2 small B=4,T=64 f32-torch";
ratios are formed within a round, and the median over rounds counts. FOLDER/left-out, if there: NAME, a tab, why it has no result or not all.
"""
import argparse
import json
import os
import re
import statistics

BYTES = 1 << 30


def documents(path):
    """One JSON document, or one in each line that is an object; what is cut off is left out."""
    with open(path, errors="replace") as f:
        text = f.read()
    try:
        return [json.loads(text)]
    except ValueError:
        pass
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
    return found


def step_rows(rows):
    """Of `plinth bench` and of the peers, in one form."""
    for r in rows:
        d = r["data"]
        if "plinth" in d:
            for p in d["points"]:
                if "failed" in p:
                    yield {**r, "failed": p["failed"]}
                    continue
                s = p["step"]
                yield {**r, "seconds": s["seconds"], "tokens_per_second": s["tokens_per_second"], "first": p["compile"]["first_step_seconds"],
                       "memory": p["memory"]["held_bytes"] if p["machine"]["device"] != "cpu" else p["memory"]["resident_bytes"],
                       "flops": s["flops"], "roofline": s["of_roofline"], "peak": s["of_measured_peak"], "mfu": s["mfu"],
                       "mfu_square": s["mfu"] and s["mfu"] * s["flops_full_square"] / s["flops"]}
        elif "peer" in d and "tokens_per_second" in d:
            yield {**r, "seconds": d["seconds"], "tokens_per_second": d["tokens_per_second"], "first": d["first_step_seconds"],
                   "memory": d["memory_bytes"]}


def table(head, rows):
    wide = [max(len(str(x)) for x in column) for column in zip(head, *rows)]
    for row in [head, *rows]:
        print("  ".join(str(x).ljust(w) if i == 0 or i == 1 else str(x).rjust(w) for i, (x, w) in enumerate(zip(row, wide))))


def steps(rows):
    configurations = list(dict.fromkeys(r["configuration"] for r in rows))
    out, lines = [], []
    for c in configurations:
        mine = [r for r in rows if r["configuration"] == c]
        flops = next((r["flops"] for r in mine if "flops" in r), None)
        # of the published peak, attention counted as the full square: who takes longer has less of it
        square = next((r["mfu_square"] * r["seconds"]["median"] for r in mine if r.get("mfu_square")), None)
        for who in dict.fromkeys(r["who"] for r in mine):
            good = [r for r in mine if r["who"] == who and "seconds" in r]
            if not good:
                why = next((r["failed"] for r in mine if r["who"] == who), "")
                lines.append([c, who, *"--------", why[:60]])
                continue
            medians = [r["seconds"]["median"] for r in good]
            s = statistics.median(medians)
            # a ratio within each round: how many times as long as Plinth in the same round
            plinth = {r["round"]: r["seconds"]["median"] for r in mine if r["who"] == "plinth" and "seconds" in r}
            ratios = [r["seconds"]["median"] / plinth[r["round"]] for r in good if r["round"] in plinth]
            ratio = statistics.median(ratios) if ratios else None
            out.append({"configuration": c, "who": who, "seconds": s, "least": min(r["seconds"]["least"] for r in good),
                        "most": max(r["seconds"]["most"] for r in good), "rounds": len(good), "times_plinth": ratio,
                        "tokens_per_second": statistics.median(r["tokens_per_second"] for r in good),
                        "first_step_seconds": min(r["first"] for r in good), "first_step_of_first_round_seconds": good[0]["first"],
                        "memory_bytes": max(r["memory"] for r in good),
                        "tflops": flops / s * 1e-12 if flops else None, "of_roofline": good[0].get("roofline"), "mfu": good[0].get("mfu"),
                        "mfu_full_square": square / s if square else None})
            lines.append([c, who, f"{s * 1e3:.4g}", f"{min(medians) * 1e3:.4g}-{max(medians) * 1e3:.4g}", f"{out[-1]['tokens_per_second']:.4g}",
                          f"{flops / s * 1e-12:.4g}" if flops else "-", f"{square / s * 100:.1f}%" if square else "-", f"{ratio:.2f}" if ratio else "-",
                          f"{good[0]['first']:.1f}" + (f", {min(r['first'] for r in good[1:]):.1f}" if good[1:] else ""), f"{max(r['memory'] for r in good) / BYTES:.2f}",
                          f"{good[0]['roofline'] * 100:.0f}%" if good[0].get("roofline") else "-"])
    if lines:
        print("\ntraining steps; x: times Plinth's milliseconds in the same round; first: seconds from start to the end of the first step, of the first round and the least of others; "
              "MFU: attention as the full square")
        table(["configuration", "who", "ms", "rounds", "tokens/s", "TFLOPS", "MFU", "x", "first", "GiB", "roofline"], lines)
    return out


def kernels(rows):
    """Kernels alone (`plinth bench --kernels`): each family beside its bound."""
    for r in rows:
        for p in r["data"].get("points", []) if "plinth" in r["data"] else []:
            if not p.get("alone"):
                continue
            limit = max(b["median"] for b in p["machine"]["bandwidth"].values())
            lines = []
            for k in p["kernels"][:24]:
                s = k["seconds"]["median"]
                if s > 0:
                    lines.append([k["class"] if k["entry"] != "update" else "update " + k["class"], k["shape"], k["calls"], f"{s * 1e3:.4g}",
                                  f"{k['flops'] / s * 1e-12:.4g}", f"{k['bytes'] / s * 1e-9:.4g}", f"{(k['of_bound'] or 0) * 100:.0f}%", k["bound_by"]])
            print(f"\nkernels of {r['configuration']}, alone; memory moves {limit * 1e-9:.0f} GB/s")
            table(["class", "shape", "calls", "ms", "TFLOPS", "GB/s", "of bound", "by"], lines)


def attention(rows):
    """Of cuda_attention and peers/attention.py: each size, by Plinth and by the others."""
    found = [r["data"] for r in rows if "attention" in r["data"]]
    lines = []
    for size in dict.fromkeys(tuple(d["attention"]) for d in found):
        mine = [d for d in found if tuple(d["attention"]) == size]
        plinth = next((d for d in mine if d["who"] == "plinth"), None)
        for d in mine:
            share = [f"{d[way] / plinth[way] * 100:.0f}%" if plinth else "-" for way in ("forward_ms", "backward_ms")]
            lines.append([" ".join(map(str, size)), d["who"], f"{d['forward_ms']:.4g}", f"{d['forward_tflops']:.4g}", share[0],
                          f"{d['backward_ms']:.4g}", f"{d['backward_tflops']:.4g}", share[1]])
    if lines:
        print("\nattention, causal, bf16; x: Plinth's TFLOPS as a share of theirs")
        table(["B H T K", "who", "forward ms", "TFLOPS", "x", "backward ms", "TFLOPS", "x"], lines)


def left_out(folder):
    """What was stopped or not begun, and why."""
    try:
        with open(os.path.join(folder, "left-out")) as f:
            rows = [line.rstrip("\n").split("\t", 1) for line in f]
    except FileNotFoundError:
        return []
    print("\nnot measured, or not to the end")
    table(["what", "why"], rows)
    return [{"what": what, "why": why} for what, why in rows]


def others(rows):
    """What other programs said: JSON a line each, of text the end."""
    rest = [r for r in rows if "plinth" not in r["data"] and "attention" not in r["data"] and
            not ("peer" in r["data"] and "tokens_per_second" in r["data"])]
    for name in dict.fromkeys((r["configuration"], r["who"]) for r in rest):
        print(f"\n{name[0]}, {name[1]}")
        for d in [r["data"] for r in rest if (r["configuration"], r["who"]) == name][:40]:
            if "text" in d:
                print("\n".join("  " + line[:180] for line in d["text"][-24:]))
            else:
                print("  " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in d.items() if not isinstance(v, (dict, list))))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("result")
    p.add_argument("--what", default="")
    a = p.parse_args()
    rows = []
    for name in sorted(os.listdir(a.folder), key=lambda n: [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", n)]):
        stem, kind = os.path.splitext(name)
        parts = stem.split("-", 2)
        if kind not in (".json", ".out") or len(parts) != 3:
            continue
        found = [d for d in documents(os.path.join(a.folder, name)) if isinstance(d, dict)]
        if not found and kind == ".out":
            with open(os.path.join(a.folder, name), errors="replace") as f:
                text = f.read().strip("\n")
            found = [{"text": text[-20000:].split("\n")}] if text else []
        rows += [{"round": parts[0], "configuration": parts[1], "who": parts[2], "data": d} for d in found]
    print(a.what)
    summary = steps(list(step_rows(rows)))
    kernels(rows)
    attention(rows)
    others(rows)
    missing = left_out(a.folder)
    with open(a.result + ".part", "w") as f:
        json.dump({"what": a.what, "summary": summary, "left_out": missing, "runs": rows}, f, indent=1)
        f.write("\n")
    os.replace(a.result + ".part", a.result)
    print(f"\nall of it: {a.result}")


if __name__ == "__main__":
    main()
