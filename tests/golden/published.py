"""Goldens of a family from its published implementation (Hugging Face's transformers, diffusers, peft).

`start` holds the parameters under the names and layouts of published checkpoints; `run(parameters,
batch)` computes the outputs and the mean loss from them by the published implementation, usually
`torch.func.functional_call` on a module into which they are mapped, so that gradients come under the
published names. tests/golden/README.md lists the tensors.
"""

from contextlib import contextmanager

import torch

from common import RECIPE, adamw, clone, save


@contextmanager
def exactly():
    """Published code computes softmax and norms in f32 whatever it is given: here those stay in f64."""
    softmax, to, as_float = torch.nn.functional.softmax, torch.Tensor.to, torch.Tensor.float

    def keeps(x, dtypes):
        return x.dtype == torch.float64 and torch.float32 in dtypes

    torch.nn.functional.softmax = lambda x, *a, dtype=None, **k: softmax(
        x, *a, dtype=None if keeps(x, (dtype,)) else dtype, **k)
    torch.Tensor.to = lambda x, *a, **k: x if keeps(x, (*a, k.get("dtype"))) else to(x, *a, **k)
    torch.Tensor.float = lambda x: x if x.dtype == torch.float64 else as_float(x)
    try:
        yield
    finally:
        torch.nn.functional.softmax, torch.Tensor.to, torch.Tensor.float = softmax, to, as_float


def perturbed(module, generator):
    """The parameters of a module, drawn again: biases and the gains of norms too, which start as 0 and
    1 and would hide that one is forgotten."""
    out = {}
    for name, p in module.state_dict().items():
        draw = torch.randn(p.shape, generator=generator)
        fan_in = p.shape[2] if p.dim() == 3 else p[0].numel() if p.dim() > 1 else 0  # 3: matrices, stacked
        if "embed" in name and p.dim() == 2:
            out[name] = 0.5 * draw
        elif fan_in:
            out[name] = fan_in ** -0.5 * draw
        else:
            out[name] = (1.0 if name.endswith("weight") else 0.0) + 0.1 * draw
    return out


def renamed(names, rules):
    """Published names by the module's: `rules` are (what, by what) for texts within a name."""
    out = {}
    for name in names:
        published = name
        for before, after in rules:
            published = published.replace(before, after)
        out[name] = published
    assert len(set(out.values())) == len(out)
    return out


def published_golden(name, start, run, inputs, notes, trained=None, recipe=RECIPE):
    """`inputs`: one entry a step, [steps, ...]. `trained`: names of the parameters that are (all). Computed in f64,
    so that what rounding leaves of a gradient that is zero does not go through Adam; stored in f32."""
    steps = len(next(iter(inputs.values())))
    trained = list(start) if trained is None else trained
    out = dict(inputs)

    def leaves():
        p = clone(start, torch.float64)
        for n in p:
            p[n].requires_grad_(n in trained)
        return p

    def batch(step):
        return {n: x[step].double() if x.is_floating_point() else x[step] for n, x in inputs.items()}

    p = leaves()
    with exactly():
        outputs, loss = run(p, batch(0))
    loss.backward()
    out |= {"output/" + n: x.detach() for n, x in outputs.items()} | {"loss": loss.detach()}
    out |= {"grad/" + n: p[n].grad for n in trained}

    p = leaves()
    mine = {n: p[n] for n in trained}
    optimizer = adamw(mine, recipe)
    losses, norms = [], []
    for step in range(steps):
        optimizer.zero_grad()
        with exactly():
            _, loss = run(p, batch(step))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(list(mine.values()), recipe["clip"]).detach())
        losses.append(loss.detach())
        optimizer.step()
    out["adamw/losses"], out["adamw/grad_norms"] = torch.stack(losses), torch.stack(norms)
    out |= {"adamw/after/" + n: x for n, x in mine.items()}
    out = {n: x.float() if x.dtype == torch.float64 else x for n, x in out.items()}
    save(name + ".safetensors", out, notes | {"recipe": recipe})
    save(name + ".weights.safetensors", start, {"config": notes["config"]})
