"""A tiny Whisper by Hugging Face's transformers: twenty frames, texts that end early.

Writes whisper_tiny. The encoder's positions are in files and not trained.
"""

import torch
import torch.nn.functional as F
import transformers
from torch.func import functional_call

from common import windows
from published import perturbed, published_golden

CONFIG = {"vocab_size": 61, "num_mel_bins": 6, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 3,
          "decoder_attention_heads": 2, "d_model": 24, "encoder_ffn_dim": 40, "decoder_ffn_dim": 36, "max_source_positions": 10,
          "max_target_positions": 20, "pad_token_id": 60, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
STEPS, B, T = 10, 2, 14


def main():
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(
        **CONFIG, attn_implementation="eager", use_cache=False)).train()
    names = {n for n, _ in model.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    start = {n: p for n, p in perturbed(model, generator).items() if n in names}
    said = windows(generator, STEPS, B, T - 1, CONFIG["pad_token_id"])  # whose embedding PyTorch gives no gradient
    wanted = torch.arange(T) < torch.randint(T // 2, T + 1, (STEPS, B, 1), generator=generator)
    frames = 2 * CONFIG["max_source_positions"]
    inputs = {"mel": torch.randn(STEPS, B, CONFIG["num_mel_bins"], frames, generator=generator),
              "previous": F.pad(said, (1, 0), value=1)[..., :-1], "targets": torch.where(wanted, said, -100)}

    def run(p, batch):
        logits = functional_call(model, p, (), {"input_features": batch["mel"], "decoder_input_ids": batch["previous"]}).logits
        return {"output": logits}, F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())

    published_golden("whisper_tiny", start, run, inputs, {"config": CONFIG, "transformers": transformers.__version__},
                     trained=[n for n in start if n != "model.encoder.embed_positions.weight"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
