"""GPT-2 in plain JAX, parameter for parameter that of gpt2_torch.py: a peer of models/gpt2.plinth.

    python3 gpt2_jax.py --preset small --batch 4 --seq 64 [--device cuda] [--precision bf16]
"""
import common_jax as common
import shared


def shapes(layers, heads, width, vocabulary=50257, context=1024):
    out = {"wte.weight": (vocabulary, width), "wpe.weight": (context, width)}

    def norm(name):
        out[name + ".weight"] = out[name + ".bias"] = (width,)

    def linear(name, inner, outer):
        out[name + ".weight"], out[name + ".bias"] = (outer, inner), (outer,)

    for i in range(layers):
        norm(f"h.{i}.ln_1")
        linear(f"h.{i}.attn.c_attn", width, 3 * width)
        linear(f"h.{i}.attn.c_proj", width, width)
        norm(f"h.{i}.ln_2")
        linear(f"h.{i}.mlp.c_fc", width, 4 * width)
        linear(f"h.{i}.mlp.c_proj", 4 * width, width)
    norm("ln_f")
    return out


def forward(p, tokens, targets, narrow, block, layers, heads):
    import jax
    linear = common.linear

    def attention(p, name, x):
        b, t, d = x.shape
        q, k, v = (y.reshape(b, t, heads, d // heads) for y in jax.numpy.split(linear(p, name + ".c_attn", x, narrow), 3, axis=-1))
        return linear(p, name + ".c_proj", common.attend(q, k, v).reshape(b, t, d), narrow)

    def mlp(p, name, x):
        return linear(p, name + ".c_proj", jax.nn.gelu(linear(p, name + ".c_fc", x, narrow), approximate=True), narrow)

    def layer(p, i, x):
        x = x + attention(p, f"h.{i}.attn", common.layer_norm(p, f"h.{i}.ln_1", x))
        return x + mlp(p, f"h.{i}.mlp", common.layer_norm(p, f"h.{i}.ln_2", x))

    x = p["wte.weight"][tokens] + p["wpe.weight"][: tokens.shape[1]]
    for i in range(layers):
        x = block(lambda p, x, i=i: layer(p, i, x))(p, x)
    return common.head_loss(p, "wte.weight", common.layer_norm(p, "ln_f", x), targets, narrow)


if __name__ == "__main__":
    a = common.begin(__doc__, shared.GPT2)
    c = shared.GPT2[a.preset]

    def loss(*arguments, **options):
        return forward(*arguments, **options, layers=c["layers"], heads=c["heads"])

    common.measure(shapes(**c), "c_proj.weight", loss, a, "gpt2", c["layers"], c.get("vocabulary", 50257))
