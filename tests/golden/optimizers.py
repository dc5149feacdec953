"""Ten steps of each optimizer on a few small matrices, in f64.

The gradients are drawn at random (and are in the file), so that an optimizer is tested by itself.
AdamW (Loshchilov and Hutter 2019) and SGD with momentum are PyTorch's own. Muon is as Keller Jordan
published it (https://kellerjordan.github.io/posts/muon/, and muon.py of github.com/KellerJordan/Muon):
momentum by interpolation, Nesterov, five Newton-Schulz steps with the quintic 3.4445, -4.7750, 2.0315,
and the update scaled by sqrt(max(1, rows / columns)). It is written out here, in f64 where the
published code uses bf16; torch.optim.Muon (same formula, kept in bf16) is compared with as a check.
"""

import math

import torch

from common import save

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
STEPS = 10
generator = torch.Generator().manual_seed(30)
SHAPES = {"square": (8, 8), "tall": (12, 5), "wide": (6, 16), "row": (1, 7)}
VECTORS = {"bias": (9,)}
tensors, cases = {}, {}
for name, shape in {**SHAPES, **VECTORS}.items():
    tensors[f"{name}/start"] = torch.randn(shape, generator=generator)
    # A drift plus noise, as gradients have; and one step with a gradient of zero.
    gradient = torch.randn(shape, generator=generator) + torch.randn(STEPS, *shape, generator=generator)
    gradient[6] = 0
    tensors[f"{name}/gradients"] = gradient


def newton_schulz(g, steps=5, eps=1e-7):
    """Nearly U V^T of g = U S V^T: the singular values come to about 0.7 to 1.2."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + eps)
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if g.shape[0] > g.shape[1] else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr, momentum=0.95, nesterov=True, weight_decay=0.0):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, nesterov=nesterov,
                                          weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            mu = group["momentum"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - mu)
                u = newton_schulz(p.grad.lerp(m, mu) if group["nesterov"] else m)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(u, alpha=-group["lr"] * math.sqrt(max(1, p.shape[0] / p.shape[1])))


def case(name, make, only=None, schedule=None, **attributes):
    for parameter in only or [*SHAPES, *VECTORS]:
        p = torch.nn.Parameter(tensors[f"{parameter}/start"].clone())
        optimizer = make(p)
        after = []
        for step, gradient in enumerate(tensors[f"{parameter}/gradients"]):
            if schedule:
                optimizer.param_groups[0]["lr"] = schedule(step)
            p.grad = gradient.clone()
            optimizer.step()
            after.append(p.detach().clone())
        tensors[f"{name}/{parameter}/after"] = torch.stack(after)
    cases[name] = attributes


case("adamw", lambda p: torch.optim.AdamW([p], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
     optimizer="adamw", lr=0.01, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1)
case("adamw_default", lambda p: torch.optim.AdamW([p], lr=0.001),
     optimizer="adamw", lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01)
rates = [0.01 * (step + 1) / STEPS for step in range(STEPS)]
case("adamw_schedule", lambda p: torch.optim.AdamW([p], weight_decay=0.1), schedule=rates.__getitem__,
     optimizer="adamw", lr=rates, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1)
case("sgd", lambda p: torch.optim.SGD([p], lr=0.1), optimizer="sgd", lr=0.1)
case("sgd_momentum", lambda p: torch.optim.SGD([p], lr=0.1, momentum=0.9),
     optimizer="sgd", lr=0.1, momentum=0.9)
case("sgd_nesterov", lambda p: torch.optim.SGD([p], lr=0.1, momentum=0.9, nesterov=True),
     optimizer="sgd", lr=0.1, momentum=0.9, nesterov=True)
case("sgd_decay", lambda p: torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.05),
     optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.05)  # added to the gradient, as PyTorch does
for name, options in (("muon", {}), ("muon_plain", {"nesterov": False}),
                      ("muon_decay", {"weight_decay": 0.1})):
    case(name, lambda p, o=options: Muon([p], lr=0.02, **o), only=SHAPES, optimizer="muon",
         **{"lr": 0.02, "momentum": 0.95, "nesterov": True, "weight_decay": 0.0} | options)
case("newton_schulz", lambda p: Muon([p], lr=1.0, momentum=0.0, nesterov=False), only=SHAPES,
     optimizer="muon", lr=1.0, momentum=0.0, nesterov=False, weight_decay=0.0)

if hasattr(torch.optim, "Muon"):
    far = 0.0
    for parameter in SHAPES:
        p = torch.nn.Parameter(tensors[f"{parameter}/start"].clone())
        other = torch.optim.Muon([p], lr=0.02, momentum=0.95, nesterov=True, weight_decay=0.0)
        for gradient in tensors[f"{parameter}/gradients"]:
            p.grad = gradient.clone()
            other.step()
        mine = tensors[f"muon/{parameter}/after"][-1] - tensors[f"{parameter}/start"]
        theirs = p.detach() - tensors[f"{parameter}/start"]
        far = max(far, float((mine - theirs).norm() / mine.norm()))
    cases["torch_optim_muon"] = {"relative_difference_of_ten_updates": far}
    print("torch.optim.Muon differs by", far)
    assert far < 0.03, "more than bf16 explains"

if __name__ == "__main__":
    save("optimizers.safetensors", tensors, cases)
