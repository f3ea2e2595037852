"""Qwen3-VL: learned and rotary positions in the tower, deepstack levels, a decoder with interleaved MRoPE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

from families.base import Hook, Options, argument, decoder_hooks, output
from families.qwen_vl import QwenVL, generation_config, special_ids


@dataclass
class Qwen3VLOptions(Options):
    head_dim: int = 16
    sections: list[int] = field(default_factory=lambda: [4, 2, 2])
    patch: int = 16
    position_embeddings: int = 64
    deepstack: list[int] = field(default_factory=lambda: [0, 1, 2])
    min_pixels: int = 4096
    max_pixels: int = 16384


class Qwen3VL(QwenVL):
    name = "qwen3_vl"
    options = Qwen3VLOptions
    config_class = Qwen3VLConfig
    model_class = Qwen3VLForConditionalGeneration

    def files(self, options: Qwen3VLOptions) -> dict[str, dict]:
        return {
            "config.json": self.config_json(options),
            "preprocessor_config.json": {
                "size": {"longest_edge": options.max_pixels, "shortest_edge": options.min_pixels},
                "patch_size": options.patch,
                "temporal_patch_size": 2,
                "merge_size": 2,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "processor_class": "Qwen3VLProcessor",
                "image_processor_type": "Qwen2VLImageProcessorFast",
            },
            "generation_config.json": generation_config(options),
        }

    def config_json(self, options: Qwen3VLOptions) -> dict:
        """With the keys of the published checkpoint."""
        return {
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "model_type": "qwen3_vl",
            **special_ids(options),
            "tie_word_embeddings": options.tied,
            "text_config": {
                "model_type": "qwen3_vl_text",
                "attention_bias": False,
                "attention_dropout": 0.0,
                "dtype": options.dtype,
                "bos_token_id": options.special("pad"),
                "eos_token_id": options.special("end"),
                "hidden_act": "silu",
                "head_dim": options.head_dim,
                "hidden_size": options.hidden,
                "intermediate_size": options.intermediate,
                "num_attention_heads": options.heads,
                "num_hidden_layers": options.layers,
                "num_key_value_heads": options.kv_heads,
                "vocab_size": options.vocab,
                "initializer_range": 0.02,
                "max_position_embeddings": 4096,
                "rms_norm_eps": 1e-6,
                "rope_scaling": {"mrope_interleaved": True, "mrope_section": options.sections, "rope_type": "default"},
                "rope_theta": 5000000,
                "tie_word_embeddings": options.tied,
                "use_cache": True,
            },
            "vision_config": {
                "model_type": "qwen3_vl",
                "hidden_act": "gelu_pytorch_tanh",
                "in_channels": 3,
                "initializer_range": 0.02,
                "deepstack_visual_indexes": options.deepstack,
                "depth": options.vision_depth,
                "hidden_size": options.vision_hidden,
                "intermediate_size": options.vision_intermediate,
                "num_heads": options.vision_heads,
                "num_position_embeddings": options.position_embeddings,
                "out_hidden_size": options.hidden,
                "patch_size": options.patch,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            },
        }

    def hooks(self, model) -> Iterator[Hook]:
        visual = model.model.visual
        yield output("vision.patch_embed", visual.patch_embed)
        yield output("vision.rope_cos", visual.rotary_pos_emb, lambda pair: pair[0])
        yield output("vision.rope_sin", visual.rotary_pos_emb, lambda pair: pair[1])
        yield argument("vision.block_in.0", visual.blocks[0])
        for i, block in enumerate(visual.blocks):
            yield output(f"vision.block_out.{i}", block)
        yield output("vision.merged", visual.merger)
        for j, merger in enumerate(visual.deepstack_merger_list):
            yield output(f"vision.deepstack.{j}", merger)
        yield from decoder_hooks(model.model.language_model, 1 + len(visual.deepstack_merger_list))

    def extra_tensors(self, model, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        visual = model.model.visual
        indices, weights = get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=visual.config.spatial_merge_size,
        )
        return {"vision.pos_embeds": (visual.pos_embed(indices) * weights[:, :, None]).sum(1)}
