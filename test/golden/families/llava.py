"""LLaVA with a Qwen2 decoder in the layout of transformers 5: CLIP, a two-layer projector, ordinary positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from families.base import CLIP_MEAN, CLIP_STD, Family, Hook, Options, argument, decoder_hooks, load_json, output


@dataclass
class LlavaOptions(Options):
    side: int = 56
    patch: int = 14
    shortest_edge: int = 56
    pad: bool = True  # to a square; else the longer side is cropped
    feature_layer: int = -2


class Llava(Family):
    name = "llava"
    options = LlavaOptions
    model_class = LlavaForConditionalGeneration

    def files(self, options: LlavaOptions) -> dict[str, dict]:
        return {
            "config.json": {
                "architectures": ["LlavaForConditionalGeneration"],
                "dtype": options.dtype,
                "image_seq_length": (options.side // options.patch) ** 2,
                "image_token_index": options.special("image"),
                "model_type": "llava",
                "multimodal_projector_bias": True,
                "projector_hidden_act": "gelu",
                "text_config": {
                    **self.decoder(options),
                    "layer_types": ["full_attention"] * options.layers,
                    "model_type": "qwen2",
                    "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
                    "sliding_window": None,
                },
                "tie_word_embeddings": options.tied,
                "vision_config": self.tower(options),
                "vision_feature_layer": options.feature_layer,
                "vision_feature_select_strategy": "default",
            },
            "preprocessor_config.json": {
                **self.preprocessor(options),
                "do_pad": options.pad,
                "image_processor_type": "LlavaImageProcessor",
            },
            "generation_config.json": {"eos_token_id": options.special("end"), "pad_token_id": options.special("pad")},
        }

    def decoder(self, options: LlavaOptions) -> dict:
        return {
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

    def tower(self, options: LlavaOptions) -> dict:
        return {
            "attention_dropout": 0.0,
            "hidden_act": "quick_gelu",
            "hidden_size": options.vision_hidden,
            "image_size": options.side,
            "intermediate_size": options.vision_intermediate,
            "layer_norm_eps": 1e-5,
            "model_type": "clip_vision_model",
            "num_attention_heads": options.vision_heads,
            "num_channels": 3,
            "num_hidden_layers": options.vision_depth,
            "patch_size": options.patch,
            "projection_dim": 32,
        }

    def preprocessor(self, options: LlavaOptions) -> dict:
        return {
            "crop_size": {"height": options.side, "width": options.side},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"shortest_edge": options.shortest_edge},
        }

    def config(self, folder: Path):
        return LlavaConfig(**load_json(folder / "config.json"))

    def stored_name(self, name: str, options: LlavaOptions) -> str:
        """As save_pretrained writes it; `old_names`: as the modules have it, with CLIP's own level."""
        if options.old_names:
            return name.replace("model.vision_tower.", "model.vision_tower.vision_model.")
        name = name.replace("model.language_model.", "language_model.model.")
        return name.replace("lm_head.", "language_model.lm_head.").removeprefix("model.")

    def module_name(self, name: str) -> str:
        name = name.replace("vision_tower.vision_model.", "vision_tower.").removeprefix("model.")
        if "lm_head." in name:
            return "lm_head.weight"
        return "model." + name.replace("language_model.model.", "language_model.")

    def processing(self, folder: Path) -> dict:
        return load_json(folder / "preprocessor_config.json")

    def preprocess(self, folder: Path, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        raw = self.processing(folder)
        keys = ("size", "crop_size", "image_mean", "image_std", "do_pad")
        processor = LlavaImageProcessorPil(**{key: raw[key] for key in keys})
        done = processor(images=images, input_data_format="channels_last", return_tensors="pt")
        side = raw["crop_size"]["height"] // self.config(folder).vision_config.patch_size
        return done["pixel_values"], torch.tensor([[1, side, side]] * len(images))

    def token_grid(self, config, patches: torch.Tensor) -> tuple[int, int]:
        return int(patches[1]), int(patches[2])

    def area(self, folder: Path, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """A square in the middle: around the image where it was padded, inside it where it was cropped."""
        raw = self.processing(folder)
        scaled = max(size) if raw["do_pad"] else min(size)
        edge = scaled * raw["crop_size"]["height"] / raw["size"]["shortest_edge"]
        return (size[0] - edge) / 2, (size[1] - edge) / 2, edge, edge

    def inputs(self, ids: torch.Tensor, pixels: torch.Tensor, grid: torch.Tensor, image_id: int) -> dict:
        return {"pixel_values": pixels}

    def positions(self, model, ids: torch.Tensor, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"position_ids": torch.arange(len(ids))}

    def hooks(self, model) -> Iterator[Hook]:
        tower = model.model.vision_tower
        yield output("vision.embeddings", tower.embeddings)
        yield output("vision.pre_layernorm", tower.pre_layrnorm)
        for i, layer in enumerate(tower.encoder.layers):
            yield output(f"vision.layer_out.{i}", layer)
        yield argument("vision.selected", model.model.multi_modal_projector)
        yield output("vision.projected", model.model.multi_modal_projector)
        yield from decoder_hooks(model.model.language_model, 1)
