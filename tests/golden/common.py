"""What every golden script shares: a deterministic safetensors writer and the optimizer's recipe.

A golden is a small safetensors file that PyTorch computed and that Plinth is compared with. The
writer here sorts tensors and metadata, so that running a script again on the same versions gives
the same bytes; the file is then read back with the safetensors library, which is what says that it
is well formed.
"""

import json
import os
import platform
import struct

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
RECIPE = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "clip": 1.0}
DTYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "bool": "BOOL"}


def versions():
    return f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"


def to_numpy(value):
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    value = np.asarray(value)
    if value.dtype == np.int64:
        value = value.astype(np.int32)  # indices and tokens are i32 in Plinth
    return value if value.ndim == 0 else np.ascontiguousarray(value)


def save(name, tensors, metadata):
    """Write tests/golden/NAME. Tensors are sorted by name, widest dtype first, so all are aligned."""
    arrays = {key: to_numpy(value) for key, value in tensors.items()}
    order = sorted(arrays, key=lambda key: (-arrays[key].dtype.itemsize, key))
    meta = {key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            for key, value in metadata.items()}
    meta["versions"] = versions()
    meta["format"] = "pt"
    header, offset = {"__metadata__": dict(sorted(meta.items()))}, 0
    for key in order:
        array = arrays[key]
        header[key] = {"dtype": DTYPES[str(array.dtype)], "shape": list(array.shape),
                       "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = os.path.join(HERE, name)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key in order:
            file.write(arrays[key].tobytes())

    from safetensors.numpy import load_file
    read = load_file(path)
    assert set(read) == set(arrays)
    assert all(np.array_equal(read[key], arrays[key]) for key in read)
    print(f"{name}: {len(arrays)} tensors, {os.path.getsize(path)} bytes")


def windows(generator, steps, batch, length, vocab):
    """Token windows [steps, batch, length + 1] of a sequence that can be learnt: three times in four
    the next token follows from the last one, else it is drawn at random."""
    count = (steps, batch)
    tokens = torch.zeros(*count, length + 1, dtype=torch.long)
    tokens[..., 0] = torch.randint(vocab, count, generator=generator)
    for t in range(length):
        noise = torch.randint(vocab, count, generator=generator)
        known = torch.rand(count, generator=generator) < 0.75
        tokens[..., t + 1] = torch.where(known, (5 * tokens[..., t] + 7) % vocab, noise)
    return tokens


def decays(name):
    """Weight decay falls on everything but biases and the gains of norms."""
    return not (name.endswith("bias") or "ln_" in name or "norm" in name.lower())


def adamw(parameters, recipe):
    groups = [
        {"params": [p for n, p in parameters.items() if decays(n)],
         "weight_decay": recipe["weight_decay"]},
        {"params": [p for n, p in parameters.items() if not decays(n)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe["lr"], betas=(recipe["beta1"], recipe["beta2"]),
                             eps=recipe["eps"], foreach=False, fused=False)


def loss_sum(logits, targets, ignore=-100):
    """Cross-entropy as Plinth defines it: a sum and a count, over positions that are not ignored."""
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=ignore, reduction="sum")
    return total, int((targets != ignore).sum())


def train(forward, parameters, data, targets, recipe, accumulate=1, autocast=False):
    """Losses and gradient norms (before clipping) of training on data[step], in place.

    With `accumulate`, a batch is split into that many equal micro-batches; sums and counts are added up
    over them before the division, so the result is that of the whole batch.
    """
    optimizer = adamw(parameters, recipe)
    losses, norms = [], []
    for tokens, wanted in zip(data, targets):
        optimizer.zero_grad()
        count = int((wanted != -100).sum())
        loss = 0.0
        for x, y in zip(tokens.chunk(accumulate), wanted.chunk(accumulate)):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                logits = forward(parameters, x)
            total, _ = loss_sum(logits.to(next(iter(parameters.values())).dtype), y)
            (total / count).backward()
            loss += float(total.detach()) / count
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(parameters.values()), recipe["clip"])))
        losses.append(loss)
        optimizer.step()
    return losses, norms


def clone(parameters, dtype=None):
    return {name: p.detach().clone().to(dtype or p.dtype).requires_grad_()
            for name, p in parameters.items()}


def parity(got, reference):
    """max|g - r| / max(max|r|, 1e-3 * largest gradient), the measure that gradients are held to."""
    largest = max(float(r.abs().max()) for r in reference.values())
    return max(float((got[n].double() - r.double()).abs().max())
               / max(float(r.abs().max()), 1e-3 * largest) for n, r in reference.items())


def model_golden(name, initial, forward, config, check=None):
    """Everything that is compared for a whole model; tests/golden/README.md lists the tensors."""
    recipe = RECIPE
    batch, length, steps, seeds = 4, 16, 20, 8
    generator = torch.Generator().manual_seed(7)
    data = windows(generator, 100, batch, length, config["vocab_size"])
    tokens, targets = data[..., :-1], data[..., 1:]
    start = initial(torch.Generator().manual_seed(1))
    out = {"tokens": tokens, "targets": targets}
    notes = {"config": config, "recipe": recipe}

    # One forward and backward, in f32 and in f64, on the first batch.
    gradients = {}
    for dtype, prefix in ((torch.float32, ""), (torch.float64, "ref64/")):
        parameters = clone(start, dtype)
        logits = forward(parameters, tokens[0])
        total, count = loss_sum(logits, targets[0])
        (total / count).backward()
        out[prefix + "logits"], out[prefix + "loss"] = logits, total / count
        gradients[prefix] = {n: p.grad for n, p in parameters.items()}
    out |= {"grad/" + n: g for n, g in gradients[""].items()}
    out = {key: value.detach() for key, value in out.items()}
    notes["f32_against_f64"] = {
        "logits": float((out["logits"].double() - out["ref64/logits"]).abs().max()
                        / out["ref64/logits"].abs().max()),
        "loss": float(abs(out["loss"].double() - out["ref64/loss"]) / out["ref64/loss"]),
        "gradients": parity(gradients[""], gradients["ref64/"])}
    if check:
        notes["hugging_face"] = check(start, out["logits"], tokens[0], gradients[""], targets[0])

    # Twenty steps; the same in two micro-batches; five steps with positions that are ignored.
    parameters = clone(start)
    losses, norms = train(forward, parameters, tokens[:steps], targets[:steps], recipe)
    out["adamw/losses"], out["adamw/grad_norms"] = np.float32(losses), np.float32(norms)
    out |= {"adamw/after/" + n: p for n, p in parameters.items()}
    parameters = clone(start, torch.float64)
    losses64, _ = train(forward, parameters, tokens[:steps], targets[:steps], recipe)
    out["ref64/adamw/losses"] = np.float64(losses64)
    parameters = clone(start)
    twice, _ = train(forward, parameters, tokens[:steps], targets[:steps], recipe, accumulate=2)
    out["accumulate2/losses"] = np.float32(twice)
    masked = targets[:5].clone()
    masked[:, 0, 3:] = -100  # uneven: a mean of the micro-batches' means would be wrong
    masked[:, 3, 14:] = -100
    out["ignore/targets"] = masked
    for accumulate in (1, 2):
        parameters = clone(start)
        losses, _ = train(forward, parameters, tokens[:5], masked, recipe, accumulate)
        key = "ignore/losses" if accumulate == 1 else "ignore/accumulate2_losses"
        out[key] = np.float32(losses)
    notes["relative_loss_difference"] = {
        "f32_f64": float(np.max(np.abs(out["adamw/losses"] / np.float64(losses64) - 1))),
        "accumulate": float(np.max(np.abs(out["accumulate2/losses"] / out["adamw/losses"] - 1)))}

    # A hundred steps in f32 and with bf16 matrix multiplies, from several starts. Seed 0 is the start
    # and the data that are in the file; the others only say how far bf16 strays from f32.
    curves = {False: [], True: []}
    for seed in range(seeds):
        if seed:
            start = initial(torch.Generator().manual_seed(100 + seed))
            data = windows(torch.Generator().manual_seed(200 + seed), 100, batch, length,
                           config["vocab_size"])
        for autocast in curves:
            losses, _ = train(forward, clone(start), data[..., :-1], data[..., 1:], recipe,
                              autocast=autocast)
            curves[autocast].append(losses)
    f32, bf16 = np.float32(curves[False]), np.float32(curves[True])
    out["curve/f32"], out["curve/bf16"] = f32, bf16
    away = np.abs(bf16 - f32)
    notes["bf16_spread"] = {
        "what": "|loss(bf16) - loss(f32)| of PyTorch's autocast over 100 steps",
        "max": float(away.max()), "mean": float(away.mean()),
        "max_by_seed": [float(x) for x in away.max(1)], "mean_by_seed": [float(x) for x in away.mean(1)],
        "mean_signed_by_seed": [float(x) for x in (bf16 - f32).mean(1)]}
    for key in notes:
        print(f"  {key}: {notes[key]}")
    save(name + ".safetensors", out, notes)
    start = initial(torch.Generator().manual_seed(1))
    save(name + ".weights.safetensors", start, {"config": config})
