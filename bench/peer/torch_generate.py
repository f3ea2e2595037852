"""`generate` of transformers, the peer of `bench generate`.

    python torch_generate.py --model DIR --questions FILE [--dtype float32|bfloat16] [--threads N] [--tokens N]
                             [--batch N]

Greedy answers of exactly N tokens to every question, `--batch` questions at a time in one left-padded batch with a KV
cache and sdpa attention, without an adapter. Images are cut into patches before the clock starts.

Prints one JSON line {"ready": ...}, then for each line "step" on standard input one line: step, seconds, tokens (new
ones), peak_rss (bytes, VmHWM), answers. FILE: see README.md, "Questions file".
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


def peak_rss() -> int:
    """High-water mark of resident memory in bytes; ru_maxrss would include the parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def load_batches(path: Path, model_folder: Path, size: int, pad: int, image_token: int) -> list[dict]:
    stored = load_file(path)
    raw = json.loads((model_folder / "preprocessor_config.json").read_text())
    keys = ("size", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    processor = Qwen2VLImageProcessorPil(**{key: raw[key] for key in keys})
    images = []
    while f"image{len(images)}.rgb" in stored:
        rgb = stored[f"image{len(images)}.rgb"].numpy()
        images.append(processor(images=[rgb], input_data_format="channels_last", return_tensors="pt"))
    prompts = []
    while f"question{len(prompts)}.prompt" in stored:
        k = len(prompts)
        prompts.append((stored[f"question{k}.prompt"], int(stored[f"question{k}.image"][0])))
    batches = []
    for begin in range(0, len(prompts), size):
        part = prompts[begin : begin + size]
        length = max(len(ids) for ids, _ in part)
        ids = torch.full((len(part), length), pad, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, (prompt, _) in enumerate(part):
            ids[row, length - len(prompt) :] = prompt
            mask[row, length - len(prompt) :] = 1
        shown = [images[image] for _, image in part]
        batches.append(
            {
                "input_ids": ids,
                "attention_mask": mask,
                "mm_token_type_ids": (ids == image_token).long(),
                "pixel_values": torch.cat([image["pixel_values"] for image in shown]),
                "image_grid_thw": torch.cat([image["image_grid_thw"] for image in shown]),
            }
        )
    return batches


class Generator:
    def __init__(self, arguments: argparse.Namespace) -> None:
        dtype = getattr(torch, arguments.dtype)
        self.model = AutoModelForImageTextToText.from_pretrained(
            arguments.model, dtype=dtype, attn_implementation="sdpa"
        ).eval()
        settings = self.model.generation_config
        pad = settings.pad_token_id
        # every answer has its full length, whatever the random model says
        settings.eos_token_id = None
        folder = Path(arguments.model)
        self.batches = load_batches(
            Path(arguments.questions), folder, arguments.batch, pad, self.model.config.image_token_id
        )
        self.tokens, self.count = arguments.tokens, 0

    @torch.inference_mode()
    def step(self) -> dict:
        start = time.perf_counter()
        answers = []
        for batch in self.batches:
            new = self.model.generate(**batch, max_new_tokens=self.tokens, do_sample=False, use_cache=True)
            answers += new[:, batch["input_ids"].shape[1] :].tolist()
        seconds = time.perf_counter() - start
        self.count += 1
        tokens = sum(len(answer) for answer in answers)
        return {"step": self.count, "seconds": seconds, "tokens": tokens, "peak_rss": peak_rss(), "answers": answers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = Generator(arguments)
    ready = {"ready": True, "variant": "peer", "torch": torch.__version__, "dtype": arguments.dtype}
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        if line.strip() == "step":
            print(json.dumps(generator.step()), flush=True)


if __name__ == "__main__":
    main()
