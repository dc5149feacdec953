"""A model of Llama's shape in plain JAX, parameter for parameter that of llama_torch.py: a peer of models/llama.plinth.

    python3 llama_jax.py --preset llama_110m --batch 4 --seq 64 [--device cuda] [--precision bf16]
"""
import common_jax as common
import shared


def shapes(layers, width, hidden, heads, groups, vocabulary):
    head = width // heads
    out = {"embed_tokens.weight": (vocabulary, width)}
    for i in range(layers):
        out |= {
            f"layers.{i}.input_layernorm.weight": (width,),
            f"layers.{i}.self_attn.q_proj.weight": (heads * head, width),
            f"layers.{i}.self_attn.k_proj.weight": (groups * head, width),
            f"layers.{i}.self_attn.v_proj.weight": (groups * head, width),
            f"layers.{i}.self_attn.o_proj.weight": (width, heads * head),
            f"layers.{i}.post_attention_layernorm.weight": (width,),
            f"layers.{i}.mlp.gate_proj.weight": (hidden, width),
            f"layers.{i}.mlp.up_proj.weight": (hidden, width),
            f"layers.{i}.mlp.down_proj.weight": (width, hidden),
        }
    out["norm.weight"] = (width,)
    return out


def forward(p, tokens, targets, narrow, block, layers, width, heads, groups, **_):
    import jax
    import jax.numpy as jnp
    linear, head = common.linear, width // heads
    frequency = jnp.asarray([10000.0 ** (-2 * i / head) for i in range(head // 2)], jnp.float32)
    angle = jnp.outer(jnp.arange(tokens.shape[1], dtype=jnp.float32), frequency)[:, None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)

    def turned(x):
        a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)

    def attention(p, name, x):
        b, t, _ = x.shape
        q = turned(linear(p, name + ".q_proj", x, narrow).reshape(b, t, heads, head))
        k = turned(linear(p, name + ".k_proj", x, narrow).reshape(b, t, groups, head))
        v = linear(p, name + ".v_proj", x, narrow).reshape(b, t, groups, head)
        return linear(p, name + ".o_proj", common.attend(q, k, v).reshape(b, t, heads * head), narrow)

    def mlp(p, name, x):
        return linear(p, name + ".down_proj", jax.nn.silu(linear(p, name + ".gate_proj", x, narrow)) * linear(p, name + ".up_proj", x, narrow),
                      narrow)

    def layer(p, i, x):
        x = x + attention(p, f"layers.{i}.self_attn", common.rms_norm(p, f"layers.{i}.input_layernorm", x))
        return x + mlp(p, f"layers.{i}.mlp", common.rms_norm(p, f"layers.{i}.post_attention_layernorm", x))

    x = p["embed_tokens.weight"][tokens]
    for i in range(layers):
        x = block(lambda p, x, i=i: layer(p, i, x))(p, x)
    return common.head_loss(p, "embed_tokens.weight", common.rms_norm(p, "norm", x), targets, narrow)


if __name__ == "__main__":
    a = common.begin(__doc__, shared.LLAMA)
    c = shared.LLAMA[a.preset]

    def loss(*arguments, **options):
        return forward(*arguments, **options, **c)

    common.measure(shapes(**c), ("o_proj.weight", "down_proj.weight"), loss, a, "llama", c["layers"], c["vocabulary"])
