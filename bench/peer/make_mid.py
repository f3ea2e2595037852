"""Writes the random mid-size benchmark model, a LoRA adapter and four tokenised preference pairs.

    python make_mid.py --out DIR [--seed 0] [--spec mid.json]

DIR/model is a checkpoint in Hugging Face layout, DIR/adapter a PEFT folder, DIR/pairs.safetensors the pairs in the
format that torch_step.py reads. All sizes come from mid.json. Needs torch, transformers and safetensors.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def skeleton(config: dict) -> Qwen3VLForConditionalGeneration:
    """The model without storage: names and shapes only."""
    with torch.device("meta"):
        return Qwen3VLForConditionalGeneration._from_config(Qwen3VLConfig(**config))


def write_model(folder: Path, spec: dict, draw: torch.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", spec["config"])
    write_json(folder / "preprocessor_config.json", spec["preprocessor"])
    write_json(folder / "generation_config.json", spec["generation"])
    weights = {}
    for name, slot in skeleton(spec["config"]).state_dict().items():
        if name == "lm_head.weight" and spec["config"]["tie_word_embeddings"]:
            continue
        rule = next(rule for rule in spec["weights"]["rules"] if re.search(rule["pattern"], name))
        std = rule["std"] if "std" in rule else rule["gain"] / slot[0].numel() ** 0.5
        value = rule.get("mean", 0) + std * torch.randn(slot.shape, generator=draw)
        weights[name] = value.to(getattr(torch, spec["weights"]["dtype"]))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_adapter(folder: Path, spec: dict, draw: torch.Generator) -> None:
    """A uniform in +-1/sqrt(in) as PEFT draws it, B normal instead of zero so that margins and KL are not trivial."""
    folder.mkdir(parents=True, exist_ok=True)
    adapter = spec["adapter"]
    settings = {key: adapter[key] for key in ("r", "lora_alpha", "lora_dropout", "target_modules")}
    write_json(
        folder / "adapter_config.json",
        {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "inference_mode": True} | settings,
    )
    tensors = {}
    for name, module in skeleton(spec["config"]).named_modules():
        if "language_model.layers." not in name or name.rsplit(".", 1)[-1] not in adapter["target_modules"]:
            continue
        outputs, inputs = module.weight.shape
        a = (torch.rand(adapter["r"], inputs, generator=draw) * 2 - 1) * inputs**-0.5
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        b = adapter["b_std"] * torch.randn(outputs, adapter["r"], generator=draw)
        tensors[f"base_model.model.{name}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def random_image(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W, 3]: coarse random squares with pixel noise."""
    coarse = rng.uniform(30, 225, (height // 32, width // 32, 3))
    image = np.kron(coarse, np.ones((32, 32, 1))) + rng.normal(0, 10, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def write_pairs(path: Path, spec: dict, rng: np.random.Generator) -> None:
    pairs, config = spec["pairs"], spec["config"]
    height, width = pairs["image"]
    cell = 2 * config["vision_config"]["patch_size"]
    image_tokens = (height // cell) * (width // cell)
    start, user, assistant, newline = (pairs["structure"][n] for n in ("turn_start", "user", "assistant", "newline"))
    end = config["text_config"]["eos_token_id"]
    tensors = {}

    def words(count: int) -> list[int]:
        return rng.integers(*pairs["text_token_ids"], count).tolist()

    for k in range(pairs["count"]):
        clean = random_image(height, width, rng)
        x0, y0, x1, y1 = pairs["corruption"]["box"]
        noisy = clean.astype(np.float64)
        noisy[y0:y1, x0:x1] += rng.normal(0, pairs["corruption"]["sigma"], noisy[y0:y1, x0:x1].shape)
        image = [config["image_token_id"]] * image_tokens
        image = [config["vision_start_token_id"], *image, config["vision_end_token_id"]]
        question = words(pairs["question_tokens"])
        prompt = [start, user, newline, *image, *question, end, newline, start, assistant, newline]
        template = pairs["answers"][k % len(pairs["answers"])]
        shared = [words(count) for count in template["common"]]
        arrays = {"prompt": prompt}
        for side, answer in enumerate(("chosen", "rejected")):
            ids, mask = list(shared[0]), [0] * len(shared[0])
            for after, phrase in zip(shared[1:], template["phrases"]):
                ids += words(phrase[side]) + after
                mask += [1] * phrase[side] + [0] * len(after)
            arrays[answer] = [*ids, end]
            arrays[f"{answer}_mask"] = [*mask, 0]
        arrays.update({"images": [2 * k], "corrupted": [2 * k + 1]})
        tensors.update({f"pair{k}.{name}": torch.tensor(values) for name, values in arrays.items()})
        tensors[f"image{2 * k}.rgb"] = torch.from_numpy(clean)
        tensors[f"image{2 * k + 1}.rgb"] = torch.from_numpy(np.clip(noisy, 0, 255).astype(np.uint8))
    save_file(tensors, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spec", type=Path, default=Path(__file__).with_name("mid.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    spec, draw = json.loads(arguments.spec.read_text()), torch.Generator().manual_seed(arguments.seed)
    write_model(arguments.out / "model", spec, draw)
    write_adapter(arguments.out / "adapter", spec, draw)
    write_pairs(arguments.out / "pairs.safetensors", spec, np.random.default_rng(arguments.seed))


if __name__ == "__main__":
    main()
