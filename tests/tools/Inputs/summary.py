# What `plinth show --json` says of itself must add up; and training is about three times the forward pass.
import json
import sys

summary = json.load(sys.stdin)
modules = summary["modules"]
for key in ("parameters", "forward_flops", "training_flops", "kept_bytes"):
    own = sum(m["own"][key] for m in modules)
    assert abs(own - summary[key]) <= 1e-9 * summary[key] and summary[key] > 0, key
    for m in modules:
        below = [x for x in modules if m["path"] == "" or x["path"] == m["path"] or x["path"].startswith(m["path"] + ".")]
        assert abs(sum(x["own"][key] for x in below) - m[key]) <= 1e-9 * m[key], (key, m["path"])
assert 2.8 < summary["training_flops"] / summary["forward_flops"] < 3.2
assert summary["kept_bytes"] < summary["memory_bytes"] - summary["persistent_bytes"]
