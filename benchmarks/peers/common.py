"""What the PyTorch peers share: a training step, its measurement, and one line of JSON about it.

The step is nanoGPT's: zero_grad, forward, backward, clipping to norm 1, a fused AdamW step, on random tokens or pictures that
are drawn beforehand. Times are of whole steps with the device synchronized at the end of each run of some steps.
"""
import functools
import os
import sys

import shared
import torch
import torch.utils.checkpoint


def optimizer(model):
    """AdamW in one fused kernel."""
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": shared.DECAY}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=shared.RATE, betas=shared.BETAS, eps=shared.EPSILON, fused=True)


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
    return torch.cuda.max_memory_allocated() if device == "cuda" else shared.resident()


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


def measure(model_class, configuration, batches, a, what):
    """Runs the step, and prints what it took. batches: arguments of the model, which gives the loss."""
    environment = tuned(a.device)
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    with torch.device(a.device):
        model = model_class(**configuration)
    if a.checkpoint:
        checkpointed(model)
    if a.check:
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(torch.from_numpy(shared.number(name, tuple(p.shape))))
    layout = torch.channels_last if getattr(a, "channels_last", False) else torch.contiguous_format
    model = model.to(memory_format=layout)
    update = optimizer(model)
    call = torch.compile(model) if a.compile else model
    data = [[torch.from_numpy(x).to(a.device) for x in batch] for batch in batches]
    data = [[x.contiguous(memory_format=layout) if x.dim() == 4 else x for x in batch] for batch in data]
    narrow = torch.autocast(a.device, dtype=torch.bfloat16, enabled=a.precision == "bf16")

    def step(i):
        with narrow:
            loss = call(*data[i % len(data)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), shared.CLIP)
        update.step()
        update.zero_grad(set_to_none=not a.transient)  # gradients stay, for the memory that is measured to be the other
        return loss.detach()

    line = shared.head(a, "torch.compile" if a.compile else "torch", what)
    if a.check:
        shared.report({**line, "loss": [step(i).item() for i in range(shared.CHECKED)]})
        return
    if a.transient:
        step(0)
        before = memory(a.device)
        most, left, events = transient(lambda: step(1))
        stays = sum(p.numel() * p.element_size() for p in model.parameters())
        shared.report({**line, "checkpoint": a.checkpoint, "torch": torch.__version__, "transient_bytes": most, "left_bytes": left,
                       "events": events, "resident_most_bytes": before, "parameters_gradients_optimizer_bytes": 4 * stays})
        return
    result = shared.measure(a, step, lambda: synchronize(a.device))
    name = torch.cuda.get_device_name() if a.device == "cuda" else f"{torch.get_num_threads()} threads"
    shared.report({
        **line, **result, "name": name, "memory_bytes": memory(a.device), "parameters": sum(p.numel() for p in model.parameters()),
        "environment": environment,
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0], "cuda": torch.version.cuda if a.device == "cuda" else None},
    })
