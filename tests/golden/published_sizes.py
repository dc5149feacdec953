"""Parameters of the published models, counted on the published implementation: the column `published` of docs/models.md.

  pip install transformers diffusers torch
  python tests/golden/published_sizes.py build/plinth [--write]

Each model is built by transformers' or diffusers' own class on torch's meta device (shapes without memory) from the values
that its published config.json has; what its parameters come to is compared with the table's column, which --write puts in.
Then `plinth show --hf-config` is given that config as a file, without a preset, and must count as many: so a config.json
alone says a model's sizes. Exits with 1 where anything differs.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import diffusers
import torch
import transformers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PAGE = os.path.join(ROOT, "docs", "models.md")


def gpt2(width, layers, heads):
    return {"n_embd": width, "n_layer": layers, "n_head": heads}


def llama(vocab, layers, width, hidden, heads, groups, tied=False, **more):
    return {"vocab_size": vocab, "num_hidden_layers": layers, "hidden_size": width, "intermediate_size": hidden,
            "num_attention_heads": heads, "num_key_value_heads": groups, "tie_word_embeddings": tied} | more


def gemma2(layers, width, hidden, heads, groups, **more):
    return llama(256000, layers, width, hidden, heads, groups, tied=True, head_dim=256, query_pre_attn_scalar=256) | more


def gemma3(layers, width, hidden, heads, groups):
    return llama(262144, layers, width, hidden, heads, groups, tied=True, head_dim=256, query_pre_attn_scalar=256)


def deepseek(vocab, layers, width, inner, heads, experts, chosen, hidden, dense, **more):
    return llama(vocab, layers, width, inner, heads, heads, n_routed_experts=experts, num_experts_per_tok=chosen,
                 moe_intermediate_size=hidden, first_k_dense_replace=dense) | YARN | more


def bert(layers, width, heads, **more):
    return {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width} | more


def roberta(layers, width, heads):
    return bert(layers, width, heads, vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)


def vit(layers, width, heads, patch=16):
    return bert(layers, width, heads, patch_size=patch, num_labels=1000)


def clip(space=512, text=(12, 512, 8), vision=(12, 768, 12), patch=32, image=224):
    return {"projection_dim": space, "text_config": bert(*text),
            "vision_config": bert(*vision, patch_size=patch, image_size=image)}


def t5(layers, width, hidden, heads, head=64, **more):
    return {"num_layers": layers, "d_model": width, "d_ff": hidden, "num_heads": heads, "d_kv": head} | more


def flan(*sizes):
    return t5(*sizes, feed_forward_proj="gated-gelu", tie_word_embeddings=False)


def whisper(layers, heads, width, **more):
    return {"encoder_layers": layers, "decoder_layers": layers, "encoder_attention_heads": heads, "decoder_attention_heads": heads,
            "d_model": width, "encoder_ffn_dim": 4 * width, "decoder_ffn_dim": 4 * width} | more


def unet(**more):
    return {"sample_size": 64, "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "norm_num_groups": 32,
            "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
            "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3} | more


def dit(size):
    return {"num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": 8, "num_layers": 28,
            "sample_size": size, "patch_size": 2, "num_embeds_ada_norm": 1000, "norm_elementwise_affine": False}


def untied(config):
    """T5 with a head of its own: transformers 5 has it share the embedding until a file is read that has both."""
    model = transformers.T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    return model


LLAMA31 = {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                               "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}
QWEN3 = {"head_dim": 128}
YARN = {"rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707,
                         "original_max_position_embeddings": 4096}}
T = transformers
# file and preset: the published implementation's class, and what its config.json says besides the class's own first values
MODELS = {
    ("gpt2", "small"): (T.GPT2LMHeadModel, gpt2(768, 12, 12)),
    ("gpt2", "medium"): (T.GPT2LMHeadModel, gpt2(1024, 24, 16)),
    ("gpt2", "large"): (T.GPT2LMHeadModel, gpt2(1280, 36, 20)),
    ("gpt2", "xl"): (T.GPT2LMHeadModel, gpt2(1600, 48, 25)),
    ("llama", "smollm_135m"): (T.LlamaForCausalLM, llama(49152, 30, 576, 1536, 9, 3, True)),
    ("llama", "smollm_360m"): (T.LlamaForCausalLM, llama(49152, 32, 960, 2560, 15, 5, True)),
    ("llama", "smollm_1_7b"): (T.LlamaForCausalLM, llama(49152, 24, 2048, 8192, 32, 32, True)),
    ("llama", "smollm2_135m"): (T.LlamaForCausalLM, llama(49152, 30, 576, 1536, 9, 3, True)),
    ("llama", "smollm2_360m"): (T.LlamaForCausalLM, llama(49152, 32, 960, 2560, 15, 5, True)),
    ("llama", "tinyllama_1_1b"): (T.LlamaForCausalLM, llama(32000, 22, 2048, 5632, 32, 4)),
    ("llama", "llama2_7b"): (T.LlamaForCausalLM, llama(32000, 32, 4096, 11008, 32, 32)),
    ("llama", "llama2_13b"): (T.LlamaForCausalLM, llama(32000, 40, 5120, 13824, 40, 40)),
    ("llama", "llama2_70b"): (T.LlamaForCausalLM, llama(32000, 80, 8192, 28672, 64, 8)),
    ("llama", "mistral_7b"): (T.MistralForCausalLM, llama(32000, 32, 4096, 14336, 32, 8)),
    ("llama", "llama3_8b"): (T.LlamaForCausalLM, llama(128256, 32, 4096, 14336, 32, 8)),
    ("llama", "llama3_70b"): (T.LlamaForCausalLM, llama(128256, 80, 8192, 28672, 64, 8)),
    ("llama", "llama31_8b"): (T.LlamaForCausalLM, llama(128256, 32, 4096, 14336, 32, 8, **LLAMA31)),
    ("llama", "llama31_405b"): (T.LlamaForCausalLM, llama(128256, 126, 16384, 53248, 128, 8, **LLAMA31)),
    ("llama", "llama32_1b"): (T.LlamaForCausalLM, llama(128256, 16, 2048, 8192, 32, 8, True, **LLAMA31)),
    ("llama", "llama32_3b"): (T.LlamaForCausalLM, llama(128256, 28, 3072, 8192, 24, 8, True, **LLAMA31)),
    ("llama", "qwen2_0_5b"): (T.Qwen2ForCausalLM, llama(151936, 24, 896, 4864, 14, 2, True)),
    ("llama", "qwen25_1_5b"): (T.Qwen2ForCausalLM, llama(151936, 28, 1536, 8960, 12, 2, True)),
    ("llama", "qwen25_3b"): (T.Qwen2ForCausalLM, llama(151936, 36, 2048, 11008, 16, 2, True)),
    ("llama", "qwen25_7b"): (T.Qwen2ForCausalLM, llama(152064, 28, 3584, 18944, 28, 4)),
    ("llama", "qwen3_0_6b"): (T.Qwen3ForCausalLM, llama(151936, 28, 1024, 3072, 16, 8, True, **QWEN3)),
    ("llama", "qwen3_1_7b"): (T.Qwen3ForCausalLM, llama(151936, 28, 2048, 6144, 16, 8, True, **QWEN3)),
    ("llama", "qwen3_4b"): (T.Qwen3ForCausalLM, llama(151936, 36, 2560, 9728, 32, 8, True, **QWEN3)),
    ("llama", "qwen3_8b"): (T.Qwen3ForCausalLM, llama(151936, 36, 4096, 12288, 32, 8, **QWEN3)),
    ("mixtral", "mixtral_8x7b"): (T.MixtralForCausalLM, llama(32000, 32, 4096, 14336, 32, 8, num_local_experts=8)),
    ("moe", "qwen15_moe_a2_7b"): (T.Qwen2MoeForCausalLM, llama(151936, 24, 2048, 5632, 16, 16, num_experts=60, num_experts_per_tok=4,
                                                               moe_intermediate_size=1408, shared_expert_intermediate_size=5632)),
    ("moe", "qwen3_30b_a3b"): (T.Qwen3MoeForCausalLM, llama(151936, 48, 2048, 6144, 32, 4, head_dim=128, num_experts=128,
                                                            num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True)),
    ("moe", "qwen3_235b_a22b"): (T.Qwen3MoeForCausalLM, llama(151936, 94, 4096, 12288, 64, 4, head_dim=128, num_experts=128,
                                                              num_experts_per_tok=8, moe_intermediate_size=1536, norm_topk_prob=True)),
    ("moe", "olmoe_1b_7b"): (T.OlmoeForCausalLM, llama(50304, 16, 2048, 1024, 16, 16, num_experts=64, num_experts_per_tok=8)),
    ("deepseek", "deepseek_v2_lite"): (T.DeepseekV2ForCausalLM, deepseek(
        102400, 27, 2048, 10944, 16, 64, 6, 1408, 1, q_lora_rank=None, n_shared_experts=2, n_group=1, topk_group=1)),
    ("deepseek", "deepseek_v2"): (T.DeepseekV2ForCausalLM, deepseek(
        102400, 60, 5120, 12288, 128, 160, 6, 1536, 1, q_lora_rank=1536, n_shared_experts=2, n_group=8, topk_group=3,
        topk_method="group_limited_greedy", routed_scaling_factor=16.0)),
    ("deepseek", "deepseek_v3"): (T.DeepseekV3ForCausalLM, deepseek(129280, 61, 7168, 18432, 128, 256, 8, 2048, 3)),
    ("gemma", "gemma2_2b"): (T.Gemma2ForCausalLM, gemma2(26, 2304, 9216, 8, 4)),
    ("gemma", "gemma2_9b"): (T.Gemma2ForCausalLM, gemma2(42, 3584, 14336, 16, 8)),
    ("gemma", "gemma2_27b"): (T.Gemma2ForCausalLM, gemma2(46, 4608, 36864, 32, 16, head_dim=128, query_pre_attn_scalar=144)),
    ("gemma", "gemma3_270m"): (T.Gemma3ForCausalLM, gemma3(18, 640, 2048, 4, 1)),
    ("gemma", "gemma3_1b"): (T.Gemma3ForCausalLM, gemma3(26, 1152, 6912, 4, 1)),
    ("mixtral", "mixtral_8x22b"): (T.MixtralForCausalLM, llama(32768, 56, 6144, 16384, 48, 8, num_local_experts=8)),
    ("bert", "tiny"): (T.BertForMaskedLM, bert(2, 128, 2)),
    ("bert", "mini"): (T.BertForMaskedLM, bert(4, 256, 4)),
    ("bert", "small"): (T.BertForMaskedLM, bert(4, 512, 8)),
    ("bert", "medium"): (T.BertForMaskedLM, bert(8, 512, 8)),
    ("bert", "base"): (T.BertForMaskedLM, bert(12, 768, 12)),
    ("bert", "large"): (T.BertForMaskedLM, bert(24, 1024, 16)),
    ("bert", "minilm"): (lambda c: T.BertModel(c, add_pooling_layer=False), bert(6, 384, 12, model_type="bert")),
    ("roberta", "base"): (T.RobertaForMaskedLM, roberta(12, 768, 12)),
    ("roberta", "large"): (T.RobertaForMaskedLM, roberta(24, 1024, 16)),
    ("roberta", "distilroberta"): (T.RobertaForMaskedLM, roberta(6, 768, 12)),
    ("vit", "tiny"): (T.ViTForImageClassification, vit(12, 192, 3)),
    ("vit", "small"): (T.ViTForImageClassification, vit(12, 384, 6)),
    ("vit", "base"): (T.ViTForImageClassification, vit(12, 768, 12)),
    ("vit", "base_32"): (T.ViTForImageClassification, vit(12, 768, 12, patch=32)),
    ("vit", "large"): (T.ViTForImageClassification, vit(24, 1024, 16)),
    ("vit", "huge"): (T.ViTForImageClassification, vit(32, 1280, 16, patch=14)),
    ("clip", "base_32"): (T.CLIPModel, clip()),
    ("clip", "base_16"): (T.CLIPModel, clip(patch=16)),
    ("clip", "large_14"): (T.CLIPModel, clip(768, (12, 768, 12), (24, 1024, 16), 14)),
    ("clip", "large_14_336"): (T.CLIPModel, clip(768, (12, 768, 12), (24, 1024, 16), 14, 336)),
    ("t5", "small"): (T.T5ForConditionalGeneration, t5(6, 512, 2048, 8)),
    ("t5", "base"): (T.T5ForConditionalGeneration, t5(12, 768, 3072, 12)),
    ("t5", "large"): (T.T5ForConditionalGeneration, t5(24, 1024, 4096, 16)),
    ("t5", "t5_3b"): (T.T5ForConditionalGeneration, t5(24, 1024, 16384, 32, 128)),
    ("t5", "t5_11b"): (T.T5ForConditionalGeneration, t5(24, 1024, 65536, 128, 128)),
    ("t5", "flan_small"): (untied, flan(8, 512, 1024, 6)),
    ("t5", "flan_base"): (untied, flan(12, 768, 2048, 12)),
    ("t5", "flan_large"): (untied, flan(24, 1024, 2816, 16)),
    ("t5", "flan_xl"): (untied, flan(24, 2048, 5120, 32)),
    ("t5", "flan_xxl"): (untied, flan(24, 4096, 10240, 64)),
    ("whisper", "tiny"): (T.WhisperForConditionalGeneration, whisper(4, 6, 384)),
    ("whisper", "base"): (T.WhisperForConditionalGeneration, whisper(6, 8, 512)),
    ("whisper", "small"): (T.WhisperForConditionalGeneration, whisper(12, 12, 768)),
    ("whisper", "medium"): (T.WhisperForConditionalGeneration, whisper(24, 16, 1024)),
    ("whisper", "large_v2"): (T.WhisperForConditionalGeneration, whisper(32, 20, 1280)),
    ("whisper", "large_v3"): (T.WhisperForConditionalGeneration, whisper(32, 20, 1280, vocab_size=51866, num_mel_bins=128)),
    ("whisper", "large_v3_turbo"): (T.WhisperForConditionalGeneration, whisper(
        32, 20, 1280, vocab_size=51866, num_mel_bins=128, decoder_layers=4)),
    ("unet", "sd_1_5"): (diffusers.UNet2DConditionModel, unet(cross_attention_dim=768, attention_head_dim=8)),
    ("unet", "sd_2_1"): (diffusers.UNet2DConditionModel, unet(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20],
                                                              use_linear_projection=True)),
    ("dit", "dit_xl_2_256"): (diffusers.DiTTransformer2DModel, dit(32)),
    ("dit", "dit_xl_2_512"): (diffusers.DiTTransformer2DModel, dit(64)),
    ("vae", "sd"): (diffusers.AutoencoderKL, {"in_channels": 3, "latent_channels": 4, "block_out_channels": [128, 256, 512, 512],
                                              "layers_per_block": 2, "norm_num_groups": 32,
                                              "down_block_types": ["DownEncoderBlock2D"] * 4,
                                              "up_block_types": ["UpDecoderBlock2D"] * 4}),
}


def built(make, values):
    """The model without memory, and its config as a file says it."""
    with torch.device("meta"):
        if hasattr(make, "from_config"):
            model = make(**values)
            return model, json.dumps(dict(model.config), default=list)
        config = getattr(make, "config_class", None) or (transformers.T5Config if make is untied else transformers.BertConfig)
        model = make(config(**values))
        return model, model.config.to_json_string(use_diff=False)


def main():
    write = "--write" in sys.argv
    plinth, = [a for a in sys.argv[1:] if a != "--write"]
    page = open(PAGE).read()
    before, table, after = re.match(r"(.*<!-- sizes -->\n)(.*?)(<!-- end -->.*)", page, re.S).groups()
    lines, wrong = table.rstrip("\n").split("\n"), []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(2, len(lines)):
            cells = [c.strip() for c in lines[i].strip("|").split("|")]
            file, preset = cells[:2]
            model, config = built(*MODELS[file, preset])
            published = sum(p.numel() for p in model.parameters())
            published += sum(b.numel() for n, b in model.named_buffers() if n.endswith("correction_bias"))  # trained, without a gradient
            if f"{published:,}" != cells[3]:
                wrong.append(f"{file} {preset}: the page has {cells[3]}")
                cells[3] = f"{published:,}"
                lines[i] = "| " + " | ".join(cells) + " |"
            path = os.path.join(folder, "config.json")
            with open(path, "w") as f:
                f.write(config)
            more = ["--set", 'task="embed"', "--set", 'prefix=""'] if preset == "minilm" else []
            ran = subprocess.run([plinth, "show", os.path.join(ROOT, "models", f"{file}.plinth"), "--hf-config", path, *more, "--json"],
                                 capture_output=True, text=True)
            mine = json.loads(ran.stdout)["parameters"] if ran.returncode == 0 else ran.stderr.strip()
            if mine != published:
                wrong.append(f"{file} {preset}: by its config.json Plinth counts {mine}, and not {published}")
            print(f"{file} {preset}: {type(model).__name__} {published:,}", flush=True)
    if write:
        with open(PAGE, "w") as f:
            f.write(before + "\n".join(lines) + "\n" + after)
    print("\n".join(wrong) or f"{len(lines) - 2} sizes, all as on the page (transformers {transformers.__version__}, diffusers {diffusers.__version__})")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
