"""One FiRe-MPO step in PyTorch, the peer of `bench step`.

    python torch_step.py --model DIR --adapter DIR --pairs FILE [--variant plain|lean] [--dtype float32|bfloat16]
                         [--threads N] [--steps N] [--lr X] [--grads FILE] [--serve]

`plain` does what TRL's DPOTrainer does: the four sequences of every pair in one padded batch with all their logits, the
vision tower once per sequence, the reference by a second pass with the adapter disabled. `lean` is the same step with
every exact saving this project uses: one vision pass per image for policy and reference, one packed row per image
[common prefix | tail+ | tail-], no tokens after the last phrase token, the head on phrase rows only.

Prints one JSON line {"ready": ...}, then one per step: seconds, loss, grad_norm, tokens, peak_rss (bytes, VmHWM).
With --serve a step is run for each line "step" on standard input until it is closed. --grads writes the gradients of
the first step under PEFT names as safetensors.

FILE is a safetensors file: `pair{k}.prompt`, `.chosen`, `.rejected` (token ids, the prompt with its image tokens
expanded), `.chosen_mask`, `.rejected_mask` (1 on phrase tokens), all int64 [n], and `pair{k}.image{i}.rgb`,
`pair{k}.corrupted{i}.rgb` uint8 [H, W, 3]. Needs torch, transformers, peft and safetensors.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.nn.functional import log_softmax, logsigmoid
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

ANSWERS = ("chosen", "rejected")


@dataclass
class Pair:
    """ids and masks int64 [n]; pixels[state] float [P, 3*2*p*p] of all images, grid int64 [images, 3]."""

    prompt: torch.Tensor
    answer: dict[str, torch.Tensor]
    mask: dict[str, torch.Tensor]
    pixels: dict[str, torch.Tensor]
    grid: torch.Tensor


@dataclass
class Coefficients:
    beta: float = 0.1
    alpha: float = 0.01
    gamma: float = 0.1
    lam: float = 0.5


@dataclass
class PhraseRows:
    """Phrase log-probabilities per pair, [pairs] each, and the rows of the chosen, clean pass for the KL."""

    logp: dict[tuple[str, str], torch.Tensor]
    kl_rows: list[torch.Tensor]


def load_pairs(path: Path, model_folder: Path) -> list[Pair]:
    stored = load_file(path)
    raw = json.loads((model_folder / "preprocessor_config.json").read_text())
    keys = ("size", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    processor = Qwen2VLImageProcessorPil(**{key: raw[key] for key in keys})
    pairs = []
    while f"pair{len(pairs)}.prompt" in stored:
        k, pixels, grid = len(pairs), {}, None
        for state, name in (("clean", "image"), ("corrupt", "corrupted")):
            found = sorted(n for n in stored if re.fullmatch(rf"pair{k}\.{name}\d+\.rgb", n))
            images = [stored[n].numpy() for n in found]
            done = processor(images=images, input_data_format="channels_last", return_tensors="pt")
            pixels[state], grid = done["pixel_values"], done["image_grid_thw"]
        answer = {a: stored[f"pair{k}.{a}"] for a in ANSWERS}
        mask = {a: stored[f"pair{k}.{a}_mask"] for a in ANSWERS}
        pairs.append(Pair(stored[f"pair{k}.prompt"], answer, mask, pixels, grid))
    return pairs


def loss_of(policy: PhraseRows, reference: PhraseRows, c: Coefficients) -> torch.Tensor:
    """Mean over pairs of base + gamma * visual + alpha * mixed KL, everything in float32."""

    def margin(better: str, worse: str, state: str) -> torch.Tensor:
        gain = policy.logp[better, state] - policy.logp[worse, state]
        return c.beta * (gain - (reference.logp[better, state] - reference.logp[worse, state]))

    base = -logsigmoid(margin("chosen", "rejected", "clean"))
    visual = -logsigmoid(margin("rejected", "chosen", "corrupt"))
    mixed = []
    for logp, logq in zip(policy.kl_rows, reference.kl_rows):
        gap = logp - logq
        mixed.append(c.lam * -(logq.exp() * gap).sum() + (1 - c.lam) * (logp.exp() * gap).sum())
    return (base + c.gamma * visual + c.alpha * torch.stack(mixed)).mean()


class Plain:
    """TRL-style: [4 * pairs] right-padded sequences, full logits, vision per sequence and per pass."""

    # (answer, image state) of the four blocks of the concatenated batch
    BLOCKS = (("chosen", "clean"), ("rejected", "clean"), ("rejected", "corrupt"), ("chosen", "corrupt"))

    def __init__(self, model: PeftModel, pairs: list[Pair]) -> None:
        self.model, self.count = model, len(pairs)
        rows = [
            (torch.cat([pair.prompt, pair.answer[answer]]), pair.mask[answer], pair.pixels[state], pair.grid)
            for answer, state in self.BLOCKS
            for pair in pairs
        ]
        length = max(len(ids) for ids, *_ in rows)
        shape = (len(rows), length)
        self.ids, self.attention = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        self.mask = torch.zeros(shape, dtype=torch.bool)
        for row, (ids, mask, _, _) in enumerate(rows):
            self.ids[row, : len(ids)] = ids
            self.attention[row, : len(ids)] = 1
            self.mask[row, len(ids) - len(mask) : len(ids)] = mask.bool()
        self.kinds = (self.ids == model.config.image_token_id).int()
        self.pixels = torch.cat([pixels for *_, pixels, _ in rows]).to(model.dtype)
        self.grid = torch.cat([grid for *_, grid in rows])
        self.tokens = self.ids.numel()
        # row t of the logits predicts token t + 1; rolling the labels instead of slicing the logits saves a copy
        self.targets, self.mask = self.ids.roll(-1, 1), self.mask.roll(-1, 1)

    def encode(self) -> None:
        return None

    def rows(self, _features: None) -> PhraseRows:
        logits = self.model(
            input_ids=self.ids,
            attention_mask=self.attention,
            mm_token_type_ids=self.kinds,
            pixel_values=self.pixels,
            image_grid_thw=self.grid,
            use_cache=False,
        ).logits.unbind()
        # sequence by sequence, so that only [S, V] blocks are made besides the logits
        per_token = torch.stack([selected_logp(z, t) for z, t in zip(logits, self.targets)])
        sums = (per_token * self.mask).sum(1).split(self.count)
        chosen = zip(logits[: self.count], self.mask)
        kl_rows = [log_softmax(z[mask], -1, dtype=torch.float32) for z, mask in chosen]
        return PhraseRows(dict(zip(self.BLOCKS, sums)), kl_rows)


def selected_logp(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """[S, V], [S] -> [S] float32 log-probabilities of the targets."""
    if logits.dtype == torch.float32:
        return logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)
    return log_softmax(logits, -1, dtype=torch.float32).gather(-1, targets[:, None])[:, 0]


class Lean:
    """Every exact saving: shared vision, packed common prefix, cut tails, head on phrase rows."""

    def __init__(self, model: PeftModel, pairs: list[Pair]) -> None:
        self.model, self.inner, self.pairs = model, model.base_model.model.model, pairs
        self.head = model.base_model.model.lm_head
        plans = [self.pack(pair) for pair in pairs]
        order = [(state, plan) for state in ("clean", "corrupt") for plan in plans]
        length = max(len(plan["ids"]) for plan in plans)
        count = len(order)
        self.ids = torch.zeros(count, length, dtype=torch.int64)
        self.positions = torch.zeros(3, count, length, dtype=torch.int64)
        allowed = torch.eye(length, dtype=torch.bool).repeat(count, 1, 1)
        for row, (_, plan) in enumerate(order):
            size = len(plan["ids"])
            self.ids[row, :size] = plan["ids"]
            self.positions[:, row, :size] = plan["positions"]
            allowed[row, :size, :size] = plan["allowed"]
        lowest = torch.finfo(model.dtype).min
        self.attention = torch.zeros(count, 1, length, length, dtype=model.dtype)
        self.attention.masked_fill_(~allowed[:, None], lowest)
        self.image = self.ids == model.config.image_token_id
        self.pixels = torch.cat([p.pixels[s] for s in ("clean", "corrupt") for p in pairs]).to(model.dtype)
        self.grid = torch.cat([p.grid for _ in range(2) for p in pairs])
        # flat hidden rows, targets, and the (answer, state, pair) each belongs to
        self.spans, rows, targets = [], [], []
        for row, (state, plan) in enumerate(order):
            for answer in ANSWERS:
                found = plan["rows"][answer]
                self.spans.append((answer, state, row % len(pairs), len(found)))
                rows.append(found + row * length)
                targets.append(plan["targets"][answer])
        self.read, self.targets = torch.cat(rows), torch.cat(targets)
        self.tokens = sum(len(plan["ids"]) for _, plan in order)

    def pack(self, pair: Pair) -> dict:
        """[prefix | tail+ | tail-] of one pair: ids, positions [3, S], allowed [S, S], phrase rows and targets."""
        full = {a: torch.cat([pair.prompt, pair.answer[a]]) for a in ANSWERS}
        phrase = {a: (len(pair.prompt) + pair.mask[a].nonzero()[:, 0]) for a in ANSWERS}
        fed = {a: int(phrase[a][-1]) for a in ANSWERS}  # the last phrase token is a target only
        limit = min(fed.values())
        differs = (full["chosen"][:limit] != full["rejected"][:limit]).nonzero()
        prefix = int(differs[0]) if len(differs) else limit
        tails = {a: full[a][prefix : fed[a]] for a in ANSWERS}
        ids = torch.cat([full["chosen"][:prefix], *tails.values()])
        positions = []
        for answer in ANSWERS:
            kinds = (full[answer] == self.model.config.image_token_id).int()
            where, _ = self.inner.get_rope_index(full[answer][None], kinds[None], image_grid_thw=pair.grid)
            positions.append(where[:, 0, : fed[answer]] if answer == "chosen" else where[:, 0, prefix : fed[answer]])
        split = prefix + len(tails["chosen"])
        allowed = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
        allowed[split:, prefix:split] = False
        rows = {}
        for answer in ANSWERS:
            before = phrase[answer] - 1
            shift = split - prefix if answer == "rejected" else 0
            rows[answer] = torch.where(before >= prefix, before + shift, before)
        targets = {a: full[a][phrase[a]] for a in ANSWERS}
        return {"ids": ids, "positions": torch.cat(positions, 1), "allowed": allowed, "rows": rows, "targets": targets}

    @torch.no_grad()
    def encode(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        done = self.inner.visual(self.pixels, grid_thw=self.grid)
        return done.pooler_output, done.deepstack_features

    def rows(self, features: tuple[torch.Tensor, list[torch.Tensor]]) -> PhraseRows:
        merged, deepstack = features
        embeds = self.inner.language_model.embed_tokens(self.ids).masked_scatter(self.image[..., None], merged)
        hidden = self.inner.language_model(
            inputs_embeds=embeds,
            attention_mask=self.attention,
            position_ids=self.positions,
            visual_pos_masks=self.image,
            deepstack_visual_embeds=deepstack,
            use_cache=False,
        ).last_hidden_state
        logp = log_softmax(self.head(hidden.flatten(0, 1)[self.read]), -1, dtype=torch.float32)
        chosen = logp.gather(-1, self.targets[:, None])[:, 0]
        sizes = [size for *_, size in self.spans]
        sums: dict[tuple[str, str], list[torch.Tensor]] = {}
        kl_rows = []
        for (answer, state, _, _), part, full in zip(self.spans, chosen.split(sizes), logp.split(sizes)):
            sums.setdefault((answer, state), []).append(part.sum())
            if (answer, state) == ("chosen", "clean"):
                kl_rows.append(full)
        return PhraseRows({key: torch.stack(values) for key, values in sums.items()}, kl_rows)


def peak_rss() -> int:
    """High-water mark of resident memory in bytes; ru_maxrss would include the parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


class Trainer:
    """Model, optimizer and the step that is timed."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        dtype = getattr(torch, arguments.dtype)
        base = AutoModelForImageTextToText.from_pretrained(arguments.model, dtype=dtype, attn_implementation="sdpa")
        # PEFT keeps the adapter in float32 over a bfloat16 base
        self.model = PeftModel.from_pretrained(base, arguments.adapter, is_trainable=True).eval()
        self.named = {n.replace(".default.", "."): p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.named.values(), lr=arguments.lr, weight_decay=0.0, fused=True)
        pairs = load_pairs(Path(arguments.pairs), Path(arguments.model))
        self.layout = {"plain": Plain, "lean": Lean}[arguments.variant](self.model, pairs)
        self.coefficients = Coefficients()
        # the low-precision training mode of Trainer and TRL: adapter products in bfloat16 although stored in float32
        self.precision = torch.autocast("cpu", torch.bfloat16) if arguments.autocast else contextlib.nullcontext()
        self.grads, self.count = arguments.grads, 0

    def step(self) -> dict:
        start = time.perf_counter()
        with self.precision:
            features = self.layout.encode()
            with torch.no_grad(), self.model.disable_adapter():
                reference = self.layout.rows(features)
            loss = loss_of(self.layout.rows(features), reference, self.coefficients)
        del reference
        loss.backward()
        grad_norm = torch.nn.utils.get_total_norm([p.grad for p in self.named.values()])
        if self.grads and self.count == 0:
            save_file({name: p.grad for name, p in self.named.items()}, self.grads)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - start
        self.count += 1
        return {
            "step": self.count,
            "seconds": seconds,
            "loss": loss.item(),
            "grad_norm": grad_norm.item(),
            "tokens": self.layout.tokens,
            "peak_rss": peak_rss(),
        }


def say(message: dict) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--variant", choices=("plain", "lean"), default="plain")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--autocast", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-6)
    parser.add_argument("--grads", help="safetensors file for the gradients of the first step")
    parser.add_argument("--serve", action="store_true", help='one step per "step" line on standard input')
    arguments = parser.parse_args()
    if arguments.autocast is None:
        arguments.autocast = arguments.dtype == "bfloat16"
    torch.set_num_threads(arguments.threads)
    trainer = Trainer(arguments)
    say({"ready": True, "torch": torch.__version__, "variant": arguments.variant, "dtype": arguments.dtype})
    if not arguments.serve:
        for _ in range(arguments.steps):
            say(trainer.step())
        return
    for line in sys.stdin:
        if line.strip() == "step":
            say(trainer.step())


if __name__ == "__main__":
    main()
