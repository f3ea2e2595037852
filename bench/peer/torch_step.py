"""One FiRe-MPO step in PyTorch, the peer of `bench step`.

    python torch_step.py --model DIR --adapter DIR --pairs FILE [--variant plain|lean] [--dtype float32|bfloat16]
                         [--threads N] [--steps N] [--lr X] [--grads FILE] [--serve]

`plain` does what TRL's DPOTrainer does: the four sequences of every pair in one padded batch with all their logits, the
vision tower once per sequence, the reference by a second pass with the adapter disabled. `lean` is the same step with
every exact saving this project uses: one vision pass per image for policy and reference, one packed row per image in
which all pairs about it share what they have in common, no tokens after the last phrase token, the head on phrase rows
only.

Prints one JSON line {"ready": ...}, then one per step: seconds, loss, grad_norm, tokens, peak_rss (bytes, VmHWM).
With --serve a step is run for each line "step" on standard input until it is closed. --grads writes the gradients of
the first step under PEFT names as safetensors.

FILE is a safetensors file: `pair{k}.prompt`, `.chosen`, `.rejected` (token ids, the prompt with its image tokens
expanded), `.chosen_mask`, `.rejected_mask` (1 on phrase tokens), `.images`, `.corrupted` (which images it shows), all
int64 [n], and `image{i}.rgb` uint8 [H, W, 3]. Needs torch, transformers, peft and safetensors.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Iterable
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
    """ids and masks int64 [n]; images[state] are positions in `Pictures`."""

    prompt: torch.Tensor
    answer: dict[str, torch.Tensor]
    mask: dict[str, torch.Tensor]
    images: dict[str, tuple[int, ...]]


@dataclass
class Pictures:
    """Of every distinct image its patches [P, 3*2*p*p] and its grid [1, 3]."""

    patches: list[torch.Tensor]
    grids: list[torch.Tensor]

    def pixels(self, images: Iterable[int]) -> torch.Tensor:
        return torch.cat([self.patches[i] for i in images])

    def grid(self, images: Iterable[int]) -> torch.Tensor:
        return torch.cat([self.grids[i] for i in images])


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


def load_pairs(path: Path, model_folder: Path) -> tuple[list[Pair], Pictures]:
    stored = load_file(path)
    raw = json.loads((model_folder / "preprocessor_config.json").read_text())
    keys = ("size", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    processor = Qwen2VLImageProcessorPil(**{key: raw[key] for key in keys})
    pictures, pairs = Pictures([], []), []
    while f"image{len(pictures.grids)}.rgb" in stored:
        image = stored[f"image{len(pictures.grids)}.rgb"].numpy()
        done = processor(images=[image], input_data_format="channels_last", return_tensors="pt")
        pictures.patches.append(done["pixel_values"])
        pictures.grids.append(done["image_grid_thw"])
    while f"pair{len(pairs)}.prompt" in stored:
        k = len(pairs)
        answer = {a: stored[f"pair{k}.{a}"] for a in ANSWERS}
        mask = {a: stored[f"pair{k}.{a}_mask"] for a in ANSWERS}
        names = {"clean": "images", "corrupt": "corrupted"}
        images = {state: tuple(stored[f"pair{k}.{name}"].tolist()) for state, name in names.items()}
        pairs.append(Pair(stored[f"pair{k}.prompt"], answer, mask, images))
    return pairs, pictures


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

    def __init__(self, model: PeftModel, pairs: list[Pair], pictures: Pictures) -> None:
        self.model, self.count = model, len(pairs)
        rows = [
            (torch.cat([pair.prompt, pair.answer[answer]]), pair.mask[answer], pair.images[state])
            for answer, state in self.BLOCKS
            for pair in pairs
        ]
        length = max(len(ids) for ids, *_ in rows)
        shape = (len(rows), length)
        self.ids, self.attention = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        self.mask = torch.zeros(shape, dtype=torch.bool)
        for row, (ids, mask, _) in enumerate(rows):
            self.ids[row, : len(ids)] = ids
            self.attention[row, : len(ids)] = 1
            self.mask[row, len(ids) - len(mask) : len(ids)] = mask.bool()
        self.kinds = (self.ids == model.config.image_token_id).int()
        shown = [image for *_, images in rows for image in images]
        self.pixels, self.grid = pictures.pixels(shown).to(model.dtype), pictures.grid(shown)
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


class PackedRow:
    """The sequences about the same images as one row: a tree in which a token stands once for all that begin alike."""

    def __init__(self) -> None:
        # of each token: its id, the token before it (-1 at the root), its position [3]
        self.ids: list[int] = []
        self.before: list[int] = []
        self.positions: list[torch.Tensor] = []
        # of each placeholder: which row of the vision tower's output it takes
        self.features: list[int] = []
        self.after: dict[tuple[int, int], int] = {}

    def add(self, ids: torch.Tensor, positions: torch.Tensor, placeholder: int, features: list[int]) -> torch.Tensor:
        """ids [n], positions [3, n], features of its placeholders -> the tokens [n] of this row that are the sequence."""
        path, last, waiting = [], -1, iter(features)
        for at, token in enumerate(ids.tolist()):
            feature = next(waiting) if token == placeholder else None
            if (last, token) not in self.after:
                self.after[last, token] = len(self.ids)
                self.ids.append(token)
                self.before.append(last)
                self.positions.append(positions[:, at])
                if feature is not None:
                    self.features.append(feature)
            last = self.after[last, token]
            path.append(last)
        return torch.tensor(path)

    def allowed(self) -> torch.Tensor:
        """[S, S]: a token sees itself and all before it on its way from the root."""
        allowed = torch.eye(len(self.ids), dtype=torch.bool)
        for token, last in enumerate(self.before):
            if last >= 0:
                allowed[token] |= allowed[last]
        return allowed


@dataclass
class Scored:
    """The phrase tokens of one sequence: the tokens of its row that predict them, and what they are."""

    key: tuple[str, str, int]  # answer, state, pair
    row: PackedRow
    tokens: torch.Tensor
    targets: torch.Tensor


class LeanBatch:
    """Packed rows, right-padded."""

    def __init__(self, model: PeftModel, rows: list[PackedRow], scored: list[Scored]) -> None:
        length, count = max(len(row.ids) for row in rows), len(rows)
        self.ids = torch.zeros(count, length, dtype=torch.int64)
        self.positions = torch.zeros(3, count, length, dtype=torch.int64)
        allowed = torch.eye(length, dtype=torch.bool).repeat(count, 1, 1)
        for at, row in enumerate(rows):
            size = len(row.ids)
            self.ids[at, :size] = torch.tensor(row.ids)
            self.positions[:, at, :size] = torch.stack(row.positions, 1)
            allowed[at, :size, :size] = row.allowed()
        self.attention = torch.zeros(count, 1, length, length, dtype=model.dtype)
        self.attention.masked_fill_(~allowed[:, None], torch.finfo(model.dtype).min)
        self.image = self.ids == model.config.image_token_id
        self.features = torch.tensor([feature for row in rows for feature in row.features])
        self.scored = [one for one in scored if one.row in rows]
        self.read = torch.cat([one.tokens + rows.index(one.row) * length for one in self.scored])
        self.targets = torch.cat([one.targets for one in self.scored])


class Lean:
    """Every exact saving: an image encoded once, one packed row for all that shows it, cut tails, head on phrase rows."""

    # a batch holds rows of at least this share of its longest, so that little is padded
    FULL = 7 / 8

    def __init__(self, model: PeftModel, pairs: list[Pair], pictures: Pictures) -> None:
        self.model, self.inner, self.count = model, model.base_model.model.model, len(pairs)
        self.head = model.base_model.model.lm_head
        every = range(len(pictures.grids))
        self.pixels, self.grid = pictures.pixels(every).to(model.dtype), pictures.grid(every)
        rows, scored = self.pack(pairs, pictures)
        self.tokens = sum(len(row.ids) for row in rows)
        self.batches = [LeanBatch(model, batch, scored) for batch in self.split(rows)]

    def pack(self, pairs: list[Pair], pictures: Pictures) -> tuple[list[PackedRow], list[Scored]]:
        merge, placeholder = self.inner.visual.spatial_merge_size, self.model.config.image_token_id
        ends = torch.tensor([int(grid.prod()) // merge**2 for grid in pictures.grids]).cumsum(0).tolist()
        rows: dict[tuple[int, ...], PackedRow] = {}
        scored = []
        for state in ("clean", "corrupt"):
            for k, pair in enumerate(pairs):
                images = pair.images[state]
                row = rows.setdefault(images, PackedRow())
                features = [f for i in images for f in range(ends[i - 1] if i else 0, ends[i])]
                for answer in ANSWERS:
                    ids = torch.cat([pair.prompt, pair.answer[answer]])
                    phrase = len(pair.prompt) + pair.mask[answer].nonzero()[:, 0]
                    fed = int(phrase[-1])  # the last phrase token is a target only
                    kinds = (ids == placeholder).int()
                    grid = pictures.grid(images)
                    positions, _ = self.inner.get_rope_index(ids[None], kinds[None], image_grid_thw=grid)
                    path = row.add(ids[:fed], positions[:, 0], placeholder, features)
                    scored.append(Scored((answer, state, k), row, path[phrase - 1], ids[phrase]))
        return list(rows.values()), scored

    def split(self, rows: list[PackedRow]) -> list[list[PackedRow]]:
        batches: list[list[PackedRow]] = []
        for row in sorted(rows, key=lambda row: -len(row.ids)):
            if not batches or len(row.ids) < self.FULL * len(batches[-1][0].ids):
                batches.append([])
            batches[-1].append(row)
        return batches

    @torch.no_grad()
    def encode(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        done = self.inner.visual(self.pixels, grid_thw=self.grid)
        return done.pooler_output, done.deepstack_features

    def rows(self, features: tuple[torch.Tensor, list[torch.Tensor]]) -> PhraseRows:
        logp: dict[tuple[str, str, int], torch.Tensor] = {}
        kl_rows: dict[int, torch.Tensor] = {}
        for batch in self.batches:
            full = log_softmax(self.head(self.hidden(batch, *features)), -1, dtype=torch.float32)
            chosen = full.gather(-1, batch.targets[:, None])[:, 0]
            sizes = [len(one.tokens) for one in batch.scored]
            for one, part, rows in zip(batch.scored, chosen.split(sizes), full.split(sizes)):
                logp[one.key] = part.sum()
                if one.key[:2] == ("chosen", "clean"):
                    kl_rows[one.key[2]] = rows
        keys = [(answer, state) for answer in ANSWERS for state in ("clean", "corrupt")]
        each = range(self.count)
        return PhraseRows({key: torch.stack([logp[*key, k] for k in each]) for key in keys}, [kl_rows[k] for k in each])

    def hidden(self, batch: LeanBatch, merged: torch.Tensor, deepstack: list[torch.Tensor]) -> torch.Tensor:
        """The rows [n, hidden] that are read of a batch."""
        embeds = self.inner.language_model.embed_tokens(batch.ids)
        states = self.inner.language_model(
            inputs_embeds=embeds.masked_scatter(batch.image[..., None], merged[batch.features]),
            attention_mask=batch.attention,
            position_ids=batch.positions,
            visual_pos_masks=batch.image,
            deepstack_visual_embeds=[level[batch.features] for level in deepstack],
            use_cache=False,
        ).last_hidden_state
        return states.flatten(0, 1)[batch.read]


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
        pairs, pictures = load_pairs(Path(arguments.pairs), Path(arguments.model))
        self.layout = {"plain": Plain, "lean": Lean}[arguments.variant](self.model, pairs, pictures)
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
