"""Recomputes a golden folder from its own weights, adapter, images and prompts and prints the differences.

    python check.py FOLDER [FOLDER ...]

Needs torch, transformers, peft, safetensors and Pillow. Exit status 1 when a group exceeds its tolerance.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import reference as ref
from families import family_of

# Largest accepted difference per group of tensors; integer tensors must be equal.
TOLERANCE = {
    "pixels": 0.0,
    "vision": 2e-4,
    "hidden": 2e-4,
    "logits": 1e-4,
    "logps": 1e-4,
    "objective": 1e-4,
    "loss": 5e-6,
    "grad (relative L2)": 1e-4,
    "step1": 2e-5,
    "step3": 2e-5,
    "attention": 1e-5,
    "attention metrics": 1e-4,
    "greedy margin": 2e-4,
    "train": 1e-4,
    "integers": 0.0,  # ids, masks, positions, greedy tokens, image bytes
}

OUTLIER_SHARE = {"step1": 1e-3, "step3": 1e-3}

GROUPS = (
    (r"pixel_values", "pixels"),
    (r"fwd\.vision", "vision"),
    (r"fwd\.text\.logits|lora_logits", "logits"),
    (r"fwd\.text", "hidden"),
    (r"logps?$", "logps"),
    (r"^mpo\.loss|train\.loss", "loss"),
    (r"\.mpo\.", "objective"),
    (r"^grad\.", "grad (relative L2)"),
    (r"^step1\.", "step1"),
    (r"^step\d+\.", "step3"),
    (r"ar\.attn", "attention"),
    (r"^ar\.", "attention metrics"),
    (r"margin$", "greedy margin"),
    (r"^train\.", "train"),
)


def stored_items(folder: Path, golden: ref.Tensors) -> list[ref.Item]:
    """The pairs of a folder, preprocessed anew from the stored source images."""
    items: list[ref.Item] = []
    while f"item{len(items)}.prompt_ids" in golden:
        k = len(items)
        count = sum(1 for name in golden if re.fullmatch(rf"item{k}\.image\d+\.rgb", name))
        images = [f"item{k}.image{i}" for i in range(count)]
        item = ref.Item(
            rgb=[golden[f"{name}.rgb"].numpy() for name in images],
            rgb_corrupt=[golden[f"{name}.rgb_corrupt"].numpy() for name in images],
            boxes=[golden[f"{name}.box_xyxy"].numpy() for name in images],
            prompt_ids=golden[f"item{k}.prompt_ids"],
            input_ids={y: golden[f"item{k}.{y}.input_ids"] for y in ref.ANSWERS},
            phrase_mask={y: golden[f"item{k}.{y}.phrase_mask"] for y in ref.ANSWERS},
        )
        item.preprocess(family_of(folder), folder)
        items.append(item)
    return items


def group_of(name: str, value: torch.Tensor) -> str:
    if not value.is_floating_point():
        return "integers"
    return next(group for pattern, group in GROUPS if re.search(pattern, name))


def difference(group: str, ours: torch.Tensor, stored: torch.Tensor) -> float:
    delta = (ours.double() - stored.double()).flatten()
    if group.startswith("grad"):
        return (delta.norm() / stored.double().norm()).item()
    return delta.abs().max().item()


def compare(ours: ref.Tensors, stored: ref.Tensors) -> dict[str, tuple[float, str]]:
    """Largest difference of every group and the tensor where it occurs.

    Of the parameters after an AdamW step one in a thousand may be off: where the gradient is near eps = 1e-8 the
    division by sqrt(v) + eps magnifies rounding. Their entry is the 99.9 % quantile over the whole group.
    """
    if ours.keys() != stored.keys():
        raise ValueError(f"tensor names differ: {sorted(ours.keys() ^ stored.keys())}")
    worst: dict[str, tuple[float, str]] = {}
    moved: dict[str, list[torch.Tensor]] = {}
    for name, value in stored.items():
        if ours[name].shape != value.shape or ours[name].dtype != value.dtype:
            raise ValueError(f"{name}: {ours[name].dtype} {ours[name].shape}, stored {value.dtype} {value.shape}")
        group = group_of(name, value)
        if group in OUTLIER_SHARE:
            moved.setdefault(group, []).append((ours[name] - value).abs().flatten())
            continue
        found = difference(group, ours[name], value)
        if found >= worst.get(group, (-1.0, ""))[0]:
            worst[group] = (found, name)
    for group, parts in moved.items():
        worst[group] = (torch.cat(parts).quantile(1 - OUTLIER_SHARE[group]).item(), "99.9 % quantile")
    return worst


def check(folder: Path) -> bool:
    golden = load_file(folder / "golden.safetensors")
    known = ref.Hyper.__dataclass_fields__
    settings = json.loads((folder / "golden.json").read_text())["hyper"]
    hyper = ref.Hyper(**{key: value for key, value in settings.items() if key in known})
    items = stored_items(folder, golden)
    ours = ref.reference_tensors(
        folder, ref.load_model(folder), items, golden["ar.general_prompt_ids"], hyper
    )
    worst = compare(ours, golden)
    print(folder)
    good = True
    for group, limit in TOLERANCE.items():
        found, name = worst[group]
        verdict = "ok" if found <= limit else "MISS"
        good = good and found <= limit
        print(f"  {group:20} {found:9.2e} <= {limit:7.0e} {verdict:4}  {name}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    torch.set_num_threads(1)
    return 0 if all([check(folder) for folder in parser.parse_args().folders]) else 1


if __name__ == "__main__":
    sys.exit(main())
