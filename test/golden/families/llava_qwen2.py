"""The model of llava.py as HuatuoGPT-Vision is published, LlavaQwen2ForCausalLM: the decoder's config at the top, the
tower's in a folder of its own, other tensor names, images padded to squares, -200 in a prompt where an image goes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlavaConfig

from families.base import RESERVED_IDS, load_json
from families.llava import Llava, LlavaOptions

TOWER = "vit/clip_tiny"
SENTINEL = -200
# of the published names; the model's are those of transformers
NAMES = {
    "model.vision_tower.vision_tower.vision_model.": "model.vision_tower.",
    "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
    "lm_head.": "lm_head.",
    "model.": "model.language_model.",
}


class LlavaQwen2(Llava):
    name = "llava_qwen2"

    def files(self, options: LlavaOptions) -> dict[str, dict]:
        return {
            "config.json": {
                "architectures": ["LlavaQwen2ForCausalLM"],
                "model_type": "llava_qwen2",
                **self.decoder(options),
                "rope_theta": 1000000.0,
                "sliding_window": 4096,
                "tie_word_embeddings": options.tied,
                "torch_dtype": options.dtype,
                "image_aspect_ratio": "pad",
                "use_mm_proj": True,
                "mm_hidden_size": options.vision_hidden,
                "mm_projector_type": "mlp2x_gelu",
                "mm_vision_select_layer": options.feature_layer,
                "mm_vision_select_feature": "patch",
                "mm_vision_tower": TOWER,
            },
            f"{TOWER}/config.json": {"model_type": "clip", "vision_config": self.tower(options)},
            f"{TOWER}/preprocessor_config.json": {
                **self.preprocessor(options),
                "image_processor_type": "CLIPImageProcessor",
            },
        }

    def config(self, folder: Path):
        raw = load_json(folder / "config.json")
        tower = load_json(folder / raw["mm_vision_tower"] / "config.json")
        return LlavaConfig(
            text_config=raw | {"model_type": "qwen2"},
            vision_config=tower.get("vision_config", tower),
            image_token_index=raw["vocab_size"] - RESERVED_IDS,  # the golden folders' own; the published model has none
            vision_feature_layer=raw["mm_vision_select_layer"],
            tie_word_embeddings=raw["tie_word_embeddings"],
        )

    def stored_name(self, name: str, options: LlavaOptions) -> str:
        for stored, module in NAMES.items():
            if name.startswith(module):
                return stored + name.removeprefix(module)
        raise KeyError(name)

    def module_name(self, name: str) -> str:
        for stored, module in NAMES.items():
            if name.startswith(stored):
                return module + name.removeprefix(stored)
        raise KeyError(name)

    def processing(self, folder: Path) -> dict:
        tower = load_json(folder / "config.json")["mm_vision_tower"]
        return load_json(folder / tower / "preprocessor_config.json") | {"do_pad": True}

    def stored_prompt(self, prompt: torch.Tensor, image_id: int, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        """The prompt as LLaVA's own code has it: one -200 for each image."""
        short, ids, image = [], prompt.tolist(), 0
        while ids:
            if ids[0] == image_id:
                short.append(SENTINEL)
                ids = ids[int(grid[image].prod()) :]
                image += 1
            else:
                short.append(ids.pop(0))
        return {"prompt_ids_sentinel": torch.tensor(short)}
