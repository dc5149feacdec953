"""peer.py BENCH.json TIMES: a line as benchmarks/peers/ print it, of a peer that takes so many times as long."""
import json
import sys

step = json.load(open(sys.argv[1]))["points"][0]["step"]
times = float(sys.argv[2])
seconds = {k: v * times for k, v in step["seconds"].items()}
print("a warning\nand another")
print(json.dumps({"peer": "torch", "seconds": seconds, "tokens_per_second": step["tokens_per_second"] / times, "memory_bytes": 1 << 30,
                  "first_step_seconds": 2.0}))
