"""What `plinth bench` says of itself must add up: bench.py BENCH.json TRACE.json"""
import json
import math
import sys

bench = json.load(open(sys.argv[1]))
trace = json.load(open(sys.argv[2]))


def near(a, b):
    assert math.isclose(a, b, rel_tol=1e-6), (a, b)


assert bench["model"] == "tiny" and bench["entry"] == "step" and bench["precision"] == "f32"
[point] = bench["points"]
assert point["sizes"] == "B=2,T=16"
step, kernels, machine = point["step"], point["kernels"], point["machine"]
assert len(step["runs"]) == step["seconds"]["measurements"] == 1
near(step["runs"][0], step["seconds"]["median"])
assert step["tokens"] == 2 * 2 * 16  # two micro-steps
near(step["tokens_per_second"], 64 / step["seconds"]["median"])
near(step["flops_per_second"], step["flops"] / step["seconds"]["median"])
assert step["flops"] < step["flops_full_square"] and step["flops"] <= step["kernel_flops"]
# one run: sums of medians are medians of sums
near(point["kernels_seconds"]["median"], sum(k["seconds"]["median"] for k in kernels))
near(step["kernel_flops"], sum(k["flops"] for k in kernels))
near(step["kernel_bytes"], sum(k["bytes"] for k in kernels))
near(step["roofline_seconds"], sum(k["bound_seconds"] for k in kernels))
peak = machine["peak_flops"]["median"]
bandwidth = max(b["median"] for b in machine["bandwidth"].values())
for k in kernels:
    assert k["seconds"]["least"] <= k["seconds"]["median"] <= k["seconds"]["most"]
    # equal launches: the bound of all is the sum of theirs, and never more than that
    assert max(k["flops"] / peak, k["bytes"] / bandwidth) <= k["bound_seconds"] * (1 + 1e-6)
    if k["calls"] == 1:
        near(max(k["flops"] / peak, k["bytes"] / bandwidth), k["bound_seconds"])
    assert k["bound_by"] == ("flops" if k["flops"] / peak > k["bytes"] / bandwidth else "bytes")
    assert not k["line"] or k["file"].endswith(".plinth")
limit = step["flops"] / step["sustained_flops"]["median"] + step["optimizer_bytes"] / bandwidth
near(step["limit_seconds"]["median"], limit)  # one run
near(step["of_limit"]["median"], limit / step["seconds"]["median"])
near(step["of_best_limit"]["median"], (step["flops"] / peak + step["optimizer_bytes"] / bandwidth) / step["seconds"]["median"])
# AdamW reads the parameter, its gradient and two moments and writes three of them; the gradient's norm is not the optimizer's
updates = sum(k["bytes"] for k in kernels if k["entry"] == "update" and k["class"] == "map")
assert 0.9 * updates < step["optimizer_bytes"] <= updates, (updates, step["optimizer_bytes"])
near(step["of_measured_peak"], step["flops_per_second"] / peak)
assert sorted((k["seconds"]["median"] for k in kernels), reverse=True) == [k["seconds"]["median"] for k in kernels]
# accumulated gradients: the second micro-step's kernels run once more; dropout and loss of one layer
dots = [k for k in kernels if k["class"] == "dot"]
assert dots and all(k["calls"] >= 2 and k["entry"] == "micro" for k in dots)
# 2 m n k each
for k in dots:
    m, n, inner = [int(x) for x in k["shape"].split(" x ")[-3:]]
    batch = int(k["shape"].split(" x ")[0]) if k["shape"].count(" x ") == 3 else 1
    assert k["flops"] >= 2 * batch * m * n * inner * k["calls"]
memory = point["memory"]
assert memory["persistent_bytes"] < memory["planned_bytes"] <= memory["held_bytes"] < memory["resident_bytes"]
compile = point["compile"]
assert compile["units"] > 0 and compile["from_cache"] == 0  # --cold
assert compile["seconds"] >= compile["passes_seconds"] + compile["plan_seconds"] + compile["code_seconds"] - 1e-6
assert compile["first_launch_seconds"] > compile["seconds"]
assert compile["first_step_seconds"] > sum(compile[k] for k in ("first_launch_seconds", "memory_seconds", "values_seconds"))
assert compile["memory_page_faults"] > 0
assert all(math.isfinite(x) for x in step["loss"])

events = trace["traceEvents"]
entries = [e for e in events if e.get("cat") == "entry"]
assert [e["name"] for e in entries] == ["micro_first", "micro", "update"]
inner = [e for e in events if e["ph"] == "X" and e.get("cat") != "entry"]
assert len(inner) == sum(k["calls"] for k in kernels), (len(inner), sum(k["calls"] for k in kernels))
for e in inner:
    assert any(o["ts"] <= e["ts"] + 1e-3 and e["ts"] + e["dur"] <= o["ts"] + o["dur"] + 1e-3 for o in entries)
layers = {e["args"]["layer"] for e in inner}
assert any(l.startswith("h.0.attn") for l in layers), layers
assert any(e["args"]["source"].split(":")[0].endswith("tiny.plinth") for e in inner)
assert {e["name"] for e in events if e["ph"] == "C"} == {"TFLOPS", "GB/s"}
print("adds up")
