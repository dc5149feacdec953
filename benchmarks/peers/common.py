"""What the PyTorch peers share: the options, a training step, its measurement, and one line of JSON about it.

The step is nanoGPT's: zero_grad, forward, backward, clipping to norm 1, a fused AdamW step, on random tokens that are
drawn beforehand. Times are of whole steps with the device synchronized at the end of each run of some steps.
"""
import argparse
import functools
import json
import os
import statistics
import sys
import time

started = time.perf_counter()
try:  # when the process began, so that the imports count towards the first step
    with open("/proc/self/stat") as f:
        ticks = float(f.read().rsplit(")", 1)[1].split()[19])
    with open("/proc/uptime") as f:
        started -= float(f.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
except (OSError, ValueError, IndexError):
    pass

import torch  # noqa: E402
import torch.utils.checkpoint  # noqa: E402


def arguments(description, presets):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--preset", default=next(iter(presets)), choices=list(presets))
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--seq", type=int, default=64)
    p.add_argument("--steps", type=int, default=0, help="of a run; 0: as many as take a second")
    p.add_argument("--runs", type=int, default=5, help="whose median counts")
    p.add_argument("--precision", default="f32", choices=["f32", "bf16"], help="bf16: autocast, with parameters in f32")
    p.add_argument("--compile", action="store_true", help="torch.compile, its default mode")
    p.add_argument("--checkpoint", action="store_true", help="each block is computed again in backward (torch.utils.checkpoint)")
    p.add_argument("--transient", action="store_true", help="the memory of one step, beside what stays, in place of its time")
    p.add_argument("--threads", type=int, default=0)
    return p.parse_args()


def optimizer(model, device):
    """AdamW as nanoGPT has it: weight decay on matrices alone, one fused kernel."""
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)


def tuned(device):
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False  # f32 means f32, on both sides
        torch.backends.cudnn.allow_tf32 = False
    return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", ""),
            "MALLOC_TRIM_THRESHOLD_": os.environ.get("MALLOC_TRIM_THRESHOLD_", ""),
            "MALLOC_MMAP_MAX_": os.environ.get("MALLOC_MMAP_MAX_", "")}


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def memory(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def checkpointed(model):
    """Has each block of the model keep its input alone."""
    for block in getattr(model, "h", None) or model.layers:
        block.forward = functools.partial(torch.utils.checkpoint.checkpoint, block.forward, use_reentrant=False)


def transient(step):
    """The most that PyTorch's allocator has given out at once during a step, beyond what it had given out before: its profiler
    tells each allocation and release. What libraries (oneDNN, MKL) allocate for themselves is not in it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    now = most = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most, now, len(events)


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "measurements": len(values)}


def measure(model_class, configuration, vocabulary, a, what):
    """Runs the step, and prints what it took."""
    environment = tuned(a.device)
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    with torch.device(a.device):
        model = model_class(**configuration)
    if a.checkpoint:
        checkpointed(model)
    update = optimizer(model, a.device)
    call = torch.compile(model) if a.compile else model
    data = [torch.randint(0, vocabulary, (2, a.batch, a.seq), device=a.device) for _ in range(4)]
    narrow = torch.autocast(a.device, dtype=torch.bfloat16, enabled=a.precision == "bf16")
    losses = []

    def step(i):
        tokens, targets = data[i % len(data)]
        with narrow:
            loss = call(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        update.step()
        update.zero_grad(set_to_none=not a.transient)  # gradients stay, for the memory that is measured to be the other
        return loss

    if a.transient:
        step(0)
        before = memory(a.device)
        most, left, events = transient(lambda: step(1))
        stays = sum(p.numel() * p.element_size() for p in model.parameters())
        print(json.dumps({
            "peer": "torch", "checkpoint": a.checkpoint, "model": what, "preset": a.preset, "batch": a.batch, "seq": a.seq,
            "precision": a.precision, "torch": torch.__version__, "transient_bytes": most, "left_bytes": left, "events": events,
            "resident_most_bytes": before, "parameters_gradients_optimizer_bytes": 4 * stays}))
        return

    losses.append(step(0).item())
    synchronize(a.device)
    first = time.perf_counter() - started
    step(1)
    synchronize(a.device)
    begun = time.perf_counter()
    step(2)
    synchronize(a.device)
    steps = a.steps or max(1, min(1000, int(1 / (time.perf_counter() - begun)) + 1))
    runs = []
    for _ in range(a.runs):
        begun = time.perf_counter()
        for i in range(steps):
            loss = step(i)
        loss = loss.item()
        synchronize(a.device)
        runs.append((time.perf_counter() - begun) / steps)
    losses.append(loss)
    seconds = spread(runs)
    name = torch.cuda.get_device_name() if a.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(json.dumps({
        "peer": "torch.compile" if a.compile else "torch", "model": what, "preset": a.preset, "device": a.device, "name": name,
        "batch": a.batch, "seq": a.seq, "precision": a.precision, "seconds": seconds, "steps_of_a_run": steps,
        "tokens_per_second": a.batch * a.seq / seconds["median"], "memory_bytes": memory(a.device),
        "first_step_seconds": first, "parameters": sum(p.numel() for p in model.parameters()), "loss": losses,
        "load": os.getloadavg()[0], "environment": environment,
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0], "cuda": torch.version.cuda if a.device == "cuda" else None},
    }))
