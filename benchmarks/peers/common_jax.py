"""What the JAX peers share: layers as functions of a table of parameters, a training step, its measurement.

Parameters have PyTorch's names; matrices of linear layers are [in, out], as Flax keeps them, all else as PyTorch does. One
jitted function is the step: forward, backward, clipping to norm 1, AdamW, with the old parameters' and moments' memory given
to the new. bf16 casts what PyTorch's autocast does: operands and results of linear layers and attention.
"""
import functools
import os
import sys

import numpy
import shared


def begin(description, presets):
    """Before JAX is imported: it takes as many threads as there are cores that it may run on."""
    a = shared.arguments(description, presets, compiles=False)
    if a.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:a.threads])
    os.environ["JAX_PLATFORMS"] = a.device
    global jax, jnp
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_default_matmul_precision", "highest")  # f32 means f32, on both sides
    return a


# ---- layers ----

def linear(p, name, x, narrow):
    """narrow: what operands are cast to, or None."""
    w, b = p[name + ".weight"], p.get(name + ".bias")
    if narrow:
        x, w, b = x.astype(narrow), w.astype(narrow), b if b is None else b.astype(narrow)
    return x @ w if b is None else x @ w + b


def attend(q, k, v):
    """Causal, of [B, T, heads, features]; keys and values may have fewer heads."""
    return jax.nn.dot_product_attention(q, k, v, is_causal=True)


def layer_norm(p, name, x, epsilon=1e-5):
    mean = x.mean(-1, keepdims=True)
    rest = x - mean
    return rest * jax.lax.rsqrt((rest * rest).mean(-1, keepdims=True) + epsilon) * p[name + ".weight"] + p[name + ".bias"]


def rms_norm(p, name, x, epsilon=1e-5):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + epsilon) * p[name + ".weight"]


def head_loss(p, name, x, targets, narrow):
    """The head is the embedding."""
    w = p[name]
    if narrow:
        x, w = x.astype(narrow), w.astype(narrow)
    logits = (x @ w.T).astype(jnp.float32)
    right = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return (jax.nn.logsumexp(logits, axis=-1) - right).mean()


# ---- the step ----

def is_linear(name, shape):
    return len(shape) == 2 and name.split(".")[-2] not in ("wte", "wpe", "embed_tokens")


def initial(shapes, last, layers, check):
    """Of {name: shape as PyTorch has it}; last: ends of the names of matrices that write to the residual stream."""
    draw = numpy.random.default_rng(0)
    out = {}
    for name, shape in shapes.items():
        if check:
            x = shared.number(name, shape)
        elif len(shape) == 2:
            x = draw.standard_normal(shape, dtype=numpy.float32) * numpy.float32(0.02 / (2 * layers) ** 0.5 if name.endswith(last) else 0.02)
        else:
            x = numpy.full(shape, name.endswith("weight"), numpy.float32)
        out[name] = jnp.asarray(x.T.copy() if is_linear(name, shape) else x)
    return out


def update(p, g, m, v, count):
    """Clipping, then AdamW."""
    norm = jnp.sqrt(sum(jnp.vdot(x, x) for x in g.values()))
    scale = jnp.minimum(shared.CLIP / (norm + 1e-6), 1)
    count = count + 1
    one, two = (1 - b ** count.astype(jnp.float32) for b in shared.BETAS)
    new = {}, {}, {}
    for n, x in p.items():
        by = g[n] * scale
        new[1][n] = shared.BETAS[0] * m[n] + (1 - shared.BETAS[0]) * by
        new[2][n] = shared.BETAS[1] * v[n] + (1 - shared.BETAS[1]) * by * by
        decayed = x * (1 - shared.RATE * shared.DECAY) if x.ndim >= 2 else x
        new[0][n] = decayed - shared.RATE * (new[1][n] / one) / (jnp.sqrt(new[2][n] / two) + shared.EPSILON)
    return *new, count


def measure(shapes, last, forward, a, what, layers, vocabulary):
    """forward(parameters, tokens, targets, narrow, block): the mean loss; block(f) is around each block's function."""
    narrow = jnp.bfloat16 if a.precision == "bf16" else None
    block = jax.checkpoint if a.checkpoint else lambda f: f
    loss = functools.partial(forward, narrow=narrow, block=block)

    @functools.partial(jax.jit, donate_argnums=0)
    def train(state, tokens, targets):
        p, m, v, count = state
        value, g = jax.value_and_grad(loss)(p, tokens, targets)
        return update(p, g, m, v, count), value

    p = initial(shapes, last, layers, a.check)
    zeros = ({n: jnp.zeros_like(x) for n, x in p.items()} for _ in range(2))
    state = [(p, *zeros, jnp.int32(0))]
    data = [(jnp.asarray(x[0], jnp.int32), jnp.asarray(x[1], jnp.int32)) for x in shared.tokens(vocabulary, a)]

    def step(i):
        state[0], value = train(state[0], *data[i % len(data)])
        return value

    line = shared.head(a, "jax", what)
    if a.check:
        shared.report({**line, "loss": [float(step(i)) for i in range(shared.CHECKED)]})
        return
    versions = {"jax": jax.__version__, "jaxlib": sys.modules["jaxlib"].__version__, "python": sys.version.split()[0]}
    if a.transient:
        # XLA plans memory as it compiles; gradients are among what it plans
        planned = train.lower(state[0], *data[0]).compile().memory_analysis()
        stays = sum(x.nbytes for x in p.values())
        shared.report({**line, "checkpoint": a.checkpoint, **versions, "transient_bytes": planned.temp_size_in_bytes,
                       "parameters_gradients_optimizer_bytes": 3 * stays})
        return
    result = shared.measure(a, step, lambda: jax.block_until_ready(state[0]))
    device = jax.devices()[0]
    memory = shared.resident() if a.device == "cpu" else device.memory_stats()["peak_bytes_in_use"]
    threads = f"{len(os.sched_getaffinity(0))} threads"
    shared.report({**line, **result, "name": threads if a.device == "cpu" else device.device_kind, "memory_bytes": memory,
                   "parameters": sum(x.size for x in state[0][0].values()), "environment": {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")},
                   "versions": versions})
