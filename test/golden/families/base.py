"""What one family of models tells the scripts: its options, its files, its names, and how transformers runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

RESERVED_IDS = 12  # the last ids of the vocabulary are special tokens; 0..9 are structural text tokens
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
ALL_LINEARS = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"


def default_items() -> list[dict]:
    return [
        {"images": [[64, 96]], "question": 7, "answer": "3 [2|2] 3 [2|3] 3"},
        {"images": [[96, 70]], "question": 5, "answer": "2 [2|2] 2 [2|3] 1"},
    ]


@dataclass
class Options:
    """What every family can vary. A family adds its own fields."""

    seed: int = 1
    # text decoder
    hidden: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 160
    vocab: int = 512
    tied: bool = True
    # vision tower
    vision_hidden: int = 48
    vision_depth: int = 4
    vision_heads: int = 3
    vision_intermediate: int = 96
    # adapter
    rank: int = 8
    lora_alpha: int = 16
    rslora: bool = False
    targets: str | list[str] = ALL_LINEARS
    # storage: float32 or bfloat16 weights; 1 file or more shards; the other spelling of tensor names and config
    dtype: str = "float32"
    shards: int = 1
    old_names: bool = False
    # pairs and objective
    items: list[dict] = field(default_factory=default_items)
    hyper: dict = field(default_factory=dict)
    # every greedy step must be decided by at least this much, else other random numbers are drawn
    min_margin: float = 0.02

    def special(self, name: str) -> int:
        order = ("image", "video", "vision_start", "vision_end", "end", "pad", "turn_start")
        return self.vocab - RESERVED_IDS + order.index(name)


class Hook(NamedTuple):
    """One intermediate: `pick(args, kwargs, output)` of a module's forward call; `before` sees it ahead of the call."""

    name: str
    module: torch.nn.Module
    pick: Callable[[tuple, dict, object], torch.Tensor]
    before: bool = False


def output(name: str, module: torch.nn.Module, pick: Callable = lambda value: value) -> Hook:
    return Hook(name, module, lambda _a, _k, value: pick(value))


def argument(name: str, module: torch.nn.Module, pick: Callable = lambda value: value) -> Hook:
    """The first one, which a layer may overwrite: kept before the call."""
    return Hook(name, module, lambda args, kwargs, _v: pick(args[0] if args else kwargs["hidden_states"]), before=True)


def decoder_hooks(text: torch.nn.Module, first_inputs: int) -> Iterator[Hook]:
    """Rotary tables, inputs of the first layers, outputs of all, and the final norm of a decoder."""
    yield output("text.rope_cos", text.rotary_emb, lambda pair: pair[0][0])
    yield output("text.rope_sin", text.rotary_emb, lambda pair: pair[1][0])
    for i, layer in enumerate(text.layers):
        if i < first_inputs:
            yield argument(f"text.layer_in.{i}", layer, lambda x: x[0])
        yield output(f"text.layer_out.{i}", layer, lambda x: x[0])
    yield output("text.final_norm", text.norm, lambda x: x[0])


class Family:
    """Subclasses fill in the names below. `model` is always the whole model of transformers, without PEFT."""

    name: str
    options: type[Options]
    model_class: type
    around_image: tuple[str, ...] = ()  # special tokens before and after an image's placeholders

    # --- files ---
    def files(self, options: Options) -> dict[str, dict]:
        """config.json and its companions, by path in the folder."""
        raise NotImplementedError

    def config(self, folder: Path):
        """What `model_class` is built from."""
        raise NotImplementedError

    def stored_name(self, name: str, options: Options) -> str:
        """How the checkpoint calls a tensor of the model."""
        raise NotImplementedError

    def module_name(self, name: str) -> str:
        """How the model calls a tensor of the checkpoint."""
        raise NotImplementedError

    # --- images: grid holds one row of (1, rows, columns) of patches per image ---
    def preprocess(self, folder: Path, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def token_grid(self, config, patches: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of placeholders for one row of the grid."""
        raise NotImplementedError

    def area(self, folder: Path, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """What the tokens of an image of this height and width see: top, left, height and width in source pixels."""
        return 0.0, 0.0, float(size[0]), float(size[1])

    # --- running ---
    def inputs(self, ids: torch.Tensor, pixels: torch.Tensor, grid: torch.Tensor, image_id: int) -> dict:
        """Arguments of the model's forward beside ids and mask."""
        raise NotImplementedError

    def positions(self, model, ids: torch.Tensor, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def hooks(self, model) -> Iterator[Hook]:
        raise NotImplementedError

    def extra_tensors(self, model, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        """Intermediates that no module returns."""
        return {}

    # --- what a folder holds beside ---
    def stored_grid(self, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}

    def stored_prompt(self, prompt: torch.Tensor, image_id: int, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}

    def summary(self, options: Options, rng: np.random.Generator) -> dict:
        """Entries of golden.json."""
        return {}


def load_json(path: Path) -> dict:
    return json.loads(path.read_text())
