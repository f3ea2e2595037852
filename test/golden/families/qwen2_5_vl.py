"""Qwen2.5-VL: a tower with RMSNorm, SwiGLU and attention inside windows, a Qwen2 decoder with MRoPE in sections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from families.base import CLIP_MEAN, CLIP_STD, Hook, Options, argument, decoder_hooks, output
from families.qwen_vl import QwenVL, generation_config, special_ids


@dataclass
class Qwen25VLOptions(Options):
    sections: list[int] = field(default_factory=lambda: [2, 3, 3])
    patch: int = 14
    window: int = 56
    full_blocks: list[int] = field(default_factory=lambda: [1, 3])
    min_pixels: int = 3136
    max_pixels: int = 25088
    nested: bool = False  # config.json as transformers 5 writes it; published ones keep the decoder at the top


class Qwen25VL(QwenVL):
    name = "qwen2_5_vl"
    options = Qwen25VLOptions
    config_class = Qwen2_5_VLConfig
    model_class = Qwen2_5_VLForConditionalGeneration

    def files(self, options: Qwen25VLOptions) -> dict[str, dict]:
        return {
            "config.json": self.config_json(options),
            "preprocessor_config.json": {
                "min_pixels": options.min_pixels,
                "max_pixels": options.max_pixels,
                "patch_size": options.patch,
                "temporal_patch_size": 2,
                "merge_size": 2,
                "image_mean": CLIP_MEAN,
                "image_std": CLIP_STD,
                "image_processor_type": "Qwen2VLImageProcessor",
                "processor_class": "Qwen2_5_VLProcessor",
            },
            "generation_config.json": generation_config(options),
        }

    def config_json(self, options: Qwen25VLOptions) -> dict:
        """With the keys of the published checkpoint, or of one that transformers 5 saved."""
        decoder = {
            "attention_dropout": 0.0,
            "bos_token_id": options.special("pad"),
            "eos_token_id": options.special("end"),
            "hidden_act": "silu",
            "hidden_size": options.hidden,
            "initializer_range": 0.02,
            "intermediate_size": options.intermediate,
            "max_position_embeddings": 4096,
            "max_window_layers": options.layers,
            "num_attention_heads": options.heads,
            "num_hidden_layers": options.layers,
            "num_key_value_heads": options.kv_heads,
            "rms_norm_eps": 1e-6,
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": options.vocab,
        }
        vision = {
            "depth": options.vision_depth,
            "hidden_act": "silu",
            "hidden_size": options.vision_hidden,
            "intermediate_size": options.vision_intermediate,
            "num_heads": options.vision_heads,
            "out_hidden_size": options.hidden,
            "patch_size": options.patch,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": options.window,
            "fullatt_block_indexes": options.full_blocks,
            "tokens_per_second": 2,
        }
        top = {
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            "model_type": "qwen2_5_vl",
            **special_ids(options),
            "tie_word_embeddings": options.tied,
        }
        if options.nested:
            rope = {"mrope_section": options.sections, "rope_theta": 1e6, "rope_type": "default", "type": "mrope"}
            axial = {"rope_theta": 10000.0, "rope_type": "axial"}
            more = {"model_type": "qwen2_5_vl_text", "layer_types": ["full_attention"] * options.layers}
            return top | {
                "dtype": options.dtype,
                "text_config": decoder | more | {"sliding_window": None, "rope_parameters": rope},
                "vision_config": vision
                | {"in_channels": 3, "model_type": "qwen2_5_vl_vision", "rope_parameters": axial},
            }
        rope = {"type": "mrope", "mrope_section": options.sections}
        more = {"rope_theta": 1e6, "rope_scaling": rope, "sliding_window": 4096, "torch_dtype": options.dtype}
        return top | decoder | more | {"vision_config": vision | {"in_chans": 3, "spatial_patch_size": options.patch}}

    def hooks(self, model) -> Iterator[Hook]:
        # From the first block on patches are in the order of their windows, and so are the rotary tables.
        visual = model.model.visual
        first = visual.blocks[0]
        yield output("vision.patch_embed", visual.patch_embed)
        yield Hook("vision.rope_cos", first, lambda _a, kwargs, _v: kwargs["position_embeddings"][0])
        yield Hook("vision.rope_sin", first, lambda _a, kwargs, _v: kwargs["position_embeddings"][1])
        yield argument("vision.block_in.0", first)
        for i, block in enumerate(visual.blocks):
            yield output(f"vision.block_out.{i}", block)
        yield Hook("vision.merged", visual, lambda _a, _k, value: value.pooler_output)
        yield from decoder_hooks(model.model.language_model, 1)
