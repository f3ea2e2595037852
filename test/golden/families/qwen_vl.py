"""What Qwen2.5-VL and Qwen3-VL share: image processing, three-axis positions, tokens around an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from families.base import Family, Options, load_json


def generation_config(options: Options) -> dict:
    end, pad = options.special("end"), options.special("pad")
    sampling = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.0}
    return {"bos_token_id": pad, "pad_token_id": pad, "eos_token_id": [end, pad], **sampling}


def special_ids(options: Options) -> dict:
    names = ("image", "video", "vision_start", "vision_end")
    return {f"{name}_token_id": options.special(name) for name in names}


def resize_table(options: Options, rng: np.random.Generator) -> list[list[int]]:
    """[height, width, min_pixels, max_pixels, out height, out width] for fixed and random sizes."""
    factor = 2 * options.patch
    fixed = [(400, 512), (48, 80), (16, 900), (336, 304), (1, 1), (1, 200), (7 * factor // 2, 5 * factor // 2)]
    sizes = fixed + [tuple(rng.integers(40, 2600, 2).tolist()) for _ in range(20)]
    limits = [(65536, 16777216), (784, 50176), (options.min_pixels, options.max_pixels)]
    return [
        [h, w, low, high, *smart_resize(h, w, factor, low, high)]
        for h, w in sizes
        for low, high in limits
        if max(h, w) / min(h, w) <= 200
    ]


class QwenVL(Family):
    config_class: type
    around_image = ("vision_start", "vision_end")

    def config(self, folder: Path):
        return self.config_class(**load_json(folder / "config.json"))

    def stored_name(self, name: str, options: Options) -> str:
        if not options.old_names:
            return name
        return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")

    def module_name(self, name: str) -> str:
        if name.startswith("visual."):
            return "model." + name
        if name.startswith("model.") and not name.startswith(("model.visual.", "model.language_model.")):
            return "model.language_model." + name.removeprefix("model.")
        return name

    def preprocess(self, folder: Path, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        raw = load_json(folder / "preprocessor_config.json")
        if "size" not in raw:
            raw["size"] = {"shortest_edge": raw["min_pixels"], "longest_edge": raw["max_pixels"]}
        keys = ("size", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
        processor = Qwen2VLImageProcessorPil(**{key: raw[key] for key in keys})
        # the layout is stated, because an image 1 or 3 pixels high would be taken for channels first
        done = processor(images=images, input_data_format="channels_last", return_tensors="pt")
        return done["pixel_values"], done["image_grid_thw"]

    def token_grid(self, config, patches: torch.Tensor) -> tuple[int, int]:
        rows, columns = (patches[1:] // config.vision_config.spatial_merge_size).tolist()
        return rows, columns

    def inputs(self, ids: torch.Tensor, pixels: torch.Tensor, grid: torch.Tensor, image_id: int) -> dict:
        return {
            "mm_token_type_ids": (ids == image_id).int()[None],
            "pixel_values": pixels,
            "image_grid_thw": grid,
        }

    def positions(self, model, ids: torch.Tensor, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        kinds = (ids == model.config.image_token_id).int()[None]
        positions, delta = model.model.get_rope_index(ids[None], kinds, image_grid_thw=grid)
        return {"position_ids": positions[:, 0], "rope_delta": delta[0]}

    def stored_grid(self, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"image_grid_thw": grid}

    def summary(self, options: Options, rng: np.random.Generator) -> dict:
        return {"smart_resize_h_w_min_max_outh_outw": resize_table(options, rng)}
