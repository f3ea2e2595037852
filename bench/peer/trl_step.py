"""TRL's own DPOTrainer, the peer of `bench step --objective dpo`.

    python trl_step.py --model DIR --adapter DIR --pairs FILE --texts FILE --steps N [--dtype float32|bfloat16]
                       [--threads N] [--beta X] [--lr X]

Trains from the adapter on all pairs at once, N steps, beside the model without adapter as the reference. Prints one JSON
line {"ready": ...}, then takes a step for each line "step" on standard input and prints its numbers before the update:
step, seconds, loss, grad_norm, logps/chosen, logps/rejected, rewards/margins, tokens, peak_rss (bytes, VmHWM).

--pairs: README.md, "Pairs file". --texts: JSON, a list with question, chosen and rejected of each pair. TRL tokenises them
itself; that its tokens are those of --pairs is checked. Needs torch, transformers, peft, trl and pillow.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
import trl
from datasets import Dataset
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from torch_step import ANSWERS, peak_rss, say
from transformers import AutoModelForImageTextToText, AutoTokenizer, PrinterCallback, Qwen3VLProcessor, TrainerCallback
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from trl import DPOConfig, DPOTrainer

METRICS = ("loss", "grad_norm", "logps/chosen", "logps/rejected", "rewards/margins")


class ImageProcessor(Qwen3VLProcessor):
    """Without the video part, which needs torchvision."""

    def __init__(self, image_processor: object, tokenizer: object, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)


def load_processor(model: Path) -> ImageProcessor:
    raw = json.loads((model / "preprocessor_config.json").read_text())
    keys = ("size", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    tokenizer = AutoTokenizer.from_pretrained(model)
    images = Qwen2VLImageProcessorPil(**{key: raw[key] for key in keys})
    return ImageProcessor(images, tokenizer, chat_template=tokenizer.chat_template)


def load_dataset(texts: Path, stored: dict[str, torch.Tensor], processor: ImageProcessor) -> Dataset:
    """
    TRL's plain form: prompt and answers are strings with all their special tokens. Of its conversational form it would also
    score the line break that the template puts behind the end token, which no model has to write.
    """
    end = processor.tokenizer.eos_token
    rows = []
    for k, pair in enumerate(json.loads(texts.read_text())):
        images = [Image.fromarray(stored[f"image{i}.rgb"].numpy()) for i in stored[f"pair{k}.images"].tolist()]
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": pair["question"]}]
        turn = [{"role": "user", "content": content}]
        prompt = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        rows.append({"images": images, "prompt": prompt} | {a: pair[a] + end for a in ANSWERS})
    return Dataset.from_list(rows)


def check_tokens(trainer: DPOTrainer, stored: dict[str, torch.Tensor]) -> int:
    """Raises unless TRL's batch holds the tokens of the pairs file; how many tokens it has, padding included."""
    batch = trainer.data_collator(list(trainer.train_dataset))
    count = len(trainer.train_dataset)
    for row, (ids, seen, scored) in enumerate(zip(*(batch[n] for n in ("input_ids", "attention_mask", "completion_mask")))):
        k, answer = row % count, ANSWERS[row // count]
        parts = {"prompt": ids[(seen == 1) & (scored == 0)], answer: ids[scored == 1]}
        for name, found in parts.items():
            if not torch.equal(found, stored[f"pair{k}.{name}"]):
                raise SystemExit(f"TRL's tokens of pair {k}, {name}, are not those of the pairs file")
    return batch["input_ids"].numel()


class Clock(TrainerCallback):
    """Takes a step when it is asked for, and prints what it was."""

    def __init__(self, ready: dict, tokens: int) -> None:
        self.ready, self.tokens, self.seconds, self.start = ready, tokens, 0.0, 0.0

    def on_train_begin(self, *_: object, **__: object) -> None:
        say(self.ready)

    def on_step_begin(self, *_: object, **__: object) -> None:
        if sys.stdin.readline().strip() != "step":
            raise SystemExit(0)
        self.start = time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.seconds = time.perf_counter() - self.start

    def on_log(self, _arguments: object, state: object, _control: object, logs: dict, **__: object) -> None:
        if "grad_norm" in logs:
            numbers = {name: logs[name] for name in METRICS}
            rest = {"seconds": self.seconds, "tokens": self.tokens, "peak_rss": peak_rss()}
            say({"step": state.global_step} | numbers | rest)


def settings_of(arguments: argparse.Namespace, pairs: int, folder: str) -> DPOConfig:
    """Everything that would make another step than ours is off; what only saves memory and costs time is off too."""
    return DPOConfig(
        output_dir=folder,
        max_steps=arguments.steps,
        per_device_train_batch_size=pairs,
        beta=arguments.beta,
        learning_rate=arguments.lr,
        lr_scheduler_type="constant",
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        weight_decay=0.0,
        max_grad_norm=0.0,
        max_length=None,
        disable_dropout=True,
        gradient_checkpointing=False,
        bf16=arguments.dtype == "bfloat16",
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=1e-4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    def load() -> torch.nn.Module:
        dtype = getattr(torch, arguments.dtype)
        return AutoModelForImageTextToText.from_pretrained(arguments.model, dtype=dtype, attn_implementation="sdpa")

    stored, processor = load_file(arguments.pairs), load_processor(arguments.model)
    dataset = load_dataset(arguments.texts, stored, processor)
    with tempfile.TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=PeftModel.from_pretrained(load(), arguments.adapter, is_trainable=True),
            # without it TRL's reference would be a copy of the adapter that training starts from
            ref_model=load(),
            args=settings_of(arguments, len(dataset), folder),
            train_dataset=dataset,
            processing_class=processor,
        )
        ready = {"ready": True, "variant": "trl", "dtype": arguments.dtype, "trl": trl.__version__}
        trainer.add_callback(Clock(ready, check_tokens(trainer, stored)))
        trainer.remove_callback(PrinterCallback)  # it writes to standard output
        trainer.train()


if __name__ == "__main__":
    main()
