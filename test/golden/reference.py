"""Reference numbers of one golden folder, computed with transformers and peft.

Everything here is a developer tool: the product neither imports nor ships it. `generate.py` uses it to write a folder,
`check.py` to recompute one; what differs from family to family is in families/. README.md beside this file explains
the tensor names.

Shapes: S tokens of one sequence, V vocabulary.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file

from families import family_of
from families.base import Family, Hook

ANSWERS = ("chosen", "rejected")
IMAGE_STATES = ("clean", "corrupt")
GENERATED_TOKENS = 32

Tensors = dict[str, torch.Tensor]


@dataclass
class Hyper:
    """Coefficients of the objective and of AdamW; the keys of `hyper` in golden.json."""

    beta: float = 0.1
    alpha: float = 0.01
    gamma: float = 0.1
    lam: float = 0.5
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    wd: float = 0.0
    steps: int = 3


@dataclass
class Item:
    """One preference pair: source images, corrupted images, token ids and phrase masks.

    rgb, rgb_corrupt: uint8 [H, W, 3] per image; boxes: int64 [4] per image (x0, y0, x1, y1, end-exclusive);
    prompt_ids, input_ids[y], phrase_mask[y]: int64 [S].
    """

    rgb: list[np.ndarray]
    rgb_corrupt: list[np.ndarray]
    boxes: list[np.ndarray]
    prompt_ids: torch.Tensor
    input_ids: dict[str, torch.Tensor]
    phrase_mask: dict[str, torch.Tensor]
    pixels: dict[str, torch.Tensor] = field(default_factory=dict)
    grid: torch.Tensor | None = None

    def preprocess(self, family: Family, folder: Path) -> None:
        """Fills `pixels` (by image state) and `grid` (int64 [images, 3]: 1, rows and columns of patches)."""
        for state, images in (("clean", self.rgb), ("corrupt", self.rgb_corrupt)):
            self.pixels[state], self.grid = family.preprocess(folder, images)


@dataclass
class Model:
    """A golden folder's model with its adapter, and the family that knows how to run it."""

    family: Family
    peft: PeftModel

    @property
    def base(self) -> torch.nn.Module:
        """The model of transformers; its adapted linears are PEFT's."""
        return self.peft.base_model.model

    @property
    def image_id(self) -> int:
        return self.base.config.image_token_id

    def forward(self, ids: torch.Tensor, pixels: torch.Tensor, grid: torch.Tensor, **extra):
        """One unpadded sequence through the whole model; ids int64 [S]."""
        inputs = self.family.inputs(ids, pixels.to(self.base.dtype), grid, self.image_id)
        return self.peft(
            input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], use_cache=False, **inputs, **extra
        )


def load_weights(folder: Path) -> Tensors:
    """All tensors of the folder in float32 under the names of the model, however they are stored."""
    family, index = family_of(folder), folder / "model.safetensors.index.json"
    if index.exists():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        shards = ["model.safetensors"]
    weights: Tensors = {}
    for shard in shards:
        weights.update({family.module_name(name): value.float() for name, value in load_file(folder / shard).items()})
    return weights


def build_base(folder: Path, weights: Tensors, attention: str = "eager") -> torch.nn.Module:
    """The frozen base model in float32. Raises when a tensor is missing or superfluous."""
    family = family_of(folder)
    parsed = family.config(folder)
    parsed._attn_implementation = attention
    model = family.model_class._from_config(parsed, attn_implementation=attention, dtype=torch.float32)
    report = model.load_state_dict(weights, strict=False)
    tied = {"lm_head.weight"} if parsed.tie_word_embeddings else set()
    if report.unexpected_keys or set(report.missing_keys) - tied:
        raise ValueError(f"weights do not fit: missing {report.missing_keys}, unexpected {report.unexpected_keys}")
    model.tie_weights()
    return model.eval()


def load_model(folder: Path, attention: str = "eager", dtype: torch.dtype = torch.float32) -> Model:
    """Base plus trainable adapter of a golden folder."""
    base = build_base(folder, load_weights(folder), attention)
    peft = PeftModel.from_pretrained(base, str(folder / "adapter"), is_trainable=True)
    return Model(family_of(folder), peft.to(dtype).eval())


def logprobs(logits: torch.Tensor) -> torch.Tensor:
    """log softmax over the vocabulary, at least in float32: [S, V] -> [S, V]."""
    return torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)


def token_logps(logp: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """[S-1]: entry i is log p of ids[i+1]."""
    return logp[:-1].gather(-1, ids[1:, None])[:, 0]


def pair_terms(policy: dict, reference: dict, item: Item, hyper: Hyper) -> Tensors:
    """The FiRe-MPO terms of one pair from [S, V] log-probabilities keyed by (answer, image state)."""
    phrase = {}
    for source, table in (("pi", policy), ("ref", reference)):
        for answer in ANSWERS:
            for state in IMAGE_STATES:
                rows = token_logps(table[answer, state], item.input_ids[answer])
                phrase[source, answer, state] = (rows * item.phrase_mask[answer][1:]).sum()

    def margin(better: str, worse: str, state: str) -> torch.Tensor:
        gain = phrase["pi", better, state] - phrase["pi", worse, state]
        return hyper.beta * (gain - (phrase["ref", better, state] - phrase["ref", worse, state]))

    rows = item.phrase_mask["chosen"][1:].bool()
    logp, logq = policy["chosen", "clean"][:-1][rows], reference["chosen", "clean"][:-1][rows]
    base_margin, v_margin = margin("chosen", "rejected", "clean"), margin("rejected", "chosen", "corrupt")
    terms = {
        "base_margin": base_margin,
        "base_loss": -torch.nn.functional.logsigmoid(base_margin),
        "v_margin": v_margin,
        "v_loss": -torch.nn.functional.logsigmoid(v_margin),
        "tkl": (logq.exp() * (logq - logp)).sum(),
        "rtkl": (logp.exp() * (logp - logq)).sum(),
    }
    terms["mixed_tkl"] = hyper.lam * terms["tkl"] + (1 - hyper.lam) * terms["rtkl"]
    terms["loss"] = terms["base_loss"] + hyper.gamma * terms["v_loss"] + hyper.alpha * terms["mixed_tkl"]
    return terms


def sequence_logits(model: Model, item: Item) -> dict:
    """[S, V] logits of the four sequences of a pair, keyed by (answer, image state)."""
    return {
        (answer, state): model.forward(item.input_ids[answer], item.pixels[state], item.grid).logits[0]
        for answer in ANSWERS
        for state in IMAGE_STATES
    }


def reference_logits(model: Model, item: Item) -> dict:
    with torch.no_grad(), model.peft.disable_adapter():
        return sequence_logits(model, item)


def batch_loss(model: Model, items: list[Item], references: list[dict], hyper: Hyper):
    """Mean loss over the pairs, and each pair's terms and policy logits."""
    all_terms, all_logits = [], []
    for item, reference in zip(items, references):
        logits = sequence_logits(model, item)
        policy = {key: logprobs(value) for key, value in logits.items()}
        all_terms.append(pair_terms(policy, {k: logprobs(v) for k, v in reference.items()}, item, hyper))
        all_logits.append(logits)
    return torch.stack([terms["loss"] for terms in all_terms]).mean(), all_terms, all_logits


def adapter_tensors(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    """LoRA parameters under the names of the adapter file."""
    named = {
        name.replace(".default.", "."): value for name, value in model.named_parameters() if value.requires_grad
    }
    assert named.keys() == get_peft_model_state_dict(model).keys()
    return named


def train(model: Model, items: list[Item], hyper: Hyper) -> Tensors:
    """Loss, gradients and parameters over `hyper.steps` AdamW steps with a cosine schedule. Restores the adapter."""
    references = [reference_logits(model, item) for item in items]
    parameters = adapter_tensors(model.peft)
    initial = {key: value.detach().clone() for key, value in parameters.items()}
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=hyper.lr, betas=tuple(hyper.betas), eps=hyper.eps, weight_decay=hyper.wd
    )
    out: Tensors = {}
    losses, rates, norms = [], [], []
    for step in range(hyper.steps + 1):
        loss, terms, logits = batch_loss(model, items, references, hyper)
        losses.append(loss.item())
        if step == 0:
            out.update(pair_tensors(items, references, terms, logits))
            out["mpo.loss"] = loss.detach().reshape(1)
        if step == hyper.steps:
            break
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms.append(math.sqrt(sum(p.grad.double().square().sum().item() for p in parameters.values())))
        if step == 0:
            out.update({f"grad.{key}": p.grad.clone() for key, p in parameters.items()})
        rate = hyper.lr * 0.5 * (1 + math.cos(math.pi * step / hyper.steps))
        rates.append(rate)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        if step + 1 in (1, hyper.steps):
            out.update({f"step{step + 1}.{key}": p.detach().clone() for key, p in parameters.items()})
    with torch.no_grad():
        for key, value in initial.items():
            parameters[key].copy_(value)
    out["train.loss"] = torch.tensor(losses)
    out["train.lr"] = torch.tensor(rates, dtype=torch.float64)
    out["train.grad_norm"] = torch.tensor(norms)
    return out


def pair_tensors(items: list[Item], references: list[dict], terms: list[Tensors], logits: list[dict]) -> Tensors:
    """`item{k}.*` results at the initial adapter."""
    out: Tensors = {}
    for k, item in enumerate(items):
        for answer in ANSWERS:
            mask = item.phrase_mask[answer][1:]
            for state in IMAGE_STATES:
                for source, table in (("ref", references[k]), ("lora", logits[k])):
                    rows = token_logps(logprobs(table[answer, state].detach()), item.input_ids[answer])
                    name = f"item{k}.{answer}.{state}.{source}"
                    out[f"{name}_token_logps"] = rows
                    out[f"{name}_phrase_logp"] = (rows * mask).sum().reshape(1)
        out.update({f"item{k}.mpo.{name}": value.detach().reshape(1) for name, value in terms[k].items()})
    out["item0.chosen.clean.lora_logits"] = logits[0]["chosen", "clean"].detach()
    return out


def position_tensors(model: Model, items: list[Item]) -> Tensors:
    """Positions of every sequence, and the decode offset where the family has one."""
    out: Tensors = {}
    for k, item in enumerate(items):
        for answer in ANSWERS:
            found = model.family.positions(model.base, item.input_ids[answer], item.grid)
            out.update({f"item{k}.{answer}.{name}": value for name, value in found.items()})
    return out


def forward_tensors(model: Model, item: Item) -> Tensors:
    """`fwd.*`: intermediates of the base model on item 0, chosen answer, clean images."""
    out: Tensors = {}

    def attach(hook: Hook):
        def keep(args, kwargs, value=None) -> None:
            out[f"fwd.{hook.name}"] = hook.pick(args, kwargs, value).detach().clone()

        if hook.before:
            return hook.module.register_forward_pre_hook(lambda _m, a, k: keep(a, k), with_kwargs=True)
        return hook.module.register_forward_hook(lambda _m, a, k, value: keep(a, k, value), with_kwargs=True)

    handles = [attach(hook) for hook in model.family.hooks(model.base)]
    ids = item.input_ids["chosen"]
    with torch.no_grad(), model.peft.disable_adapter():
        logits = model.forward(ids, item.pixels["clean"], item.grid).logits[0]
        extra = model.family.extra_tensors(model.base, item.grid)
    for handle in handles:
        handle.remove()
    out.update({f"fwd.{name}": value for name, value in extra.items()})
    out["fwd.text.logits"] = logits
    out["fwd.token_logps"] = token_logps(logprobs(logits), ids)
    return out


@torch.no_grad()
def greedy(model: Model, item: Item, count: int = GENERATED_TOKENS) -> tuple[torch.Tensor, torch.Tensor]:
    """Greedy continuation of the prompt without a cache: tokens int64 [count], top-1 minus top-2 logit [count]."""
    ids, margins = item.prompt_ids, []
    for _ in range(count):
        logits = model.forward(ids, item.pixels["clean"], item.grid, logits_to_keep=1).logits[0, -1]
        best = logits.topk(2)
        margins.append(best.values[0] - best.values[1])
        ids = torch.cat([ids, best.indices[:1]])
    return ids[-count:], torch.stack(margins)


def generation_tensors(model: Model, item: Item) -> Tensors:
    with model.peft.disable_adapter():
        base_tokens, base_margin = greedy(model, item)
    lora_tokens, lora_margin = greedy(model, item)
    return {
        "gen.base.tokens": base_tokens,
        "gen.base.margin": base_margin,
        "gen.lora.tokens": lora_tokens,
        "gen.lora.margin": lora_margin,
    }


def covered_tokens(box: np.ndarray, area: tuple[float, ...], grid: tuple[int, int]) -> torch.Tensor:
    """Flat indices of the image tokens that a source-pixel box touches; `area` is what the tokens see of the source."""
    def span(low: float, high: float, start: float, length: float, count: int) -> range:
        cell = length / count
        return range(max(0, math.floor((low - start) / cell)), min(count, math.ceil((high - start) / cell)))

    (top, left, height, width), (rows, columns) = area, grid
    x0, y0, x1, y1 = box.tolist()
    across = span(x0, x1, left, width, columns)
    return torch.tensor([row * columns + column for row in span(y0, y1, top, height, rows) for column in across])


def true_tokens(folder: Path, model: Model, item: Item) -> torch.Tensor:
    """The tokens of image 0 that its box touches."""
    area = model.family.area(folder, item.rgb[0].shape[:2])
    return covered_tokens(item.boxes[0], area, model.family.token_grid(model.base.config, item.grid[0]))


@torch.no_grad()
def attention_tensors(folder: Path, model: Model, item: Item, general_ids: torch.Tensor) -> Tensors:
    """`ar.*`: attention of the last prompt position of the base model to the tokens of image 0. Needs eager."""
    rows, cols = model.family.token_grid(model.base.config, item.grid[0])
    out: Tensors = {
        "ar.general_prompt_ids": general_ids,
        "ar.grid_rows_cols": torch.tensor([rows, cols]),
        "ar.gt_tokens": true_tokens(folder, model, item),
    }
    for name, ids in (("question", item.prompt_ids), ("general", general_ids)):
        with model.peft.disable_adapter():
            layers = model.forward(ids, item.pixels["clean"], item.grid, output_attentions=True).attentions
        start = int((ids == model.image_id).nonzero()[0])
        out[f"ar.attn_{name}"] = torch.stack([layer[0, :, -1, start : start + rows * cols] for layer in layers])
    out.update(attention_metrics(out["ar.attn_question"], out["ar.attn_general"], out["ar.gt_tokens"]))
    return out


def attention_metrics(question: torch.Tensor, general: torch.Tensor, truth: torch.Tensor) -> Tensors:
    """Attention ratio, KL and JS per layer from [layers, heads, N] attentions and the true token indices."""
    relative = question.mean(1) / general.mean(1)
    layers, n = relative.shape
    total, inside = relative.sum(-1), relative[:, truth].sum(-1)
    p = relative / (total[:, None] + 1e-8)
    g = torch.zeros(layers, n, dtype=p.dtype)
    g[:, truth] = 1.0 / len(truth)
    p_clip, g_clip, mid, eps = p.clamp(1e-12, 1), g.clamp(1e-12, 1), (p + g) / 2, 1e-8

    def half(a: torch.Tensor) -> torch.Tensor:
        return (a * ((a + eps) / (mid + eps)).log()).sum(-1)

    return {
        "ar.ratio": inside / (total / n * len(truth) + 1e-8),
        "ar.kl": (g_clip * (g_clip / p_clip).log()).sum(-1),
        "ar.js": 0.5 * half(p) + 0.5 * half(g),
    }


def input_tensors(model: Model, items: list[Item]) -> Tensors:
    """What a reader needs to repeat the run: images, boxes, preprocessed pixels, ids and masks."""
    out: Tensors = {}
    for k, item in enumerate(items):
        for i, (clean, corrupt, box) in enumerate(zip(item.rgb, item.rgb_corrupt, item.boxes)):
            out[f"item{k}.image{i}.rgb"] = torch.from_numpy(clean)
            out[f"item{k}.image{i}.rgb_corrupt"] = torch.from_numpy(corrupt)
            out[f"item{k}.image{i}.box_xyxy"] = torch.from_numpy(box)
        out[f"item{k}.pixel_values"] = item.pixels["clean"]
        out[f"item{k}.pixel_values_corrupt"] = item.pixels["corrupt"]
        out[f"item{k}.prompt_ids"] = item.prompt_ids
        stored = model.family.stored_grid(item.grid) | model.family.stored_prompt(
            item.prompt_ids, model.image_id, item.grid
        )
        out.update({f"item{k}.{name}": value for name, value in stored.items()})
        for answer in ANSWERS:
            out[f"item{k}.{answer}.input_ids"] = item.input_ids[answer]
            out[f"item{k}.{answer}.phrase_mask"] = item.phrase_mask[answer]
    return out


def reference_tensors(
    folder: Path, model: Model, items: list[Item], general_ids: torch.Tensor, hyper: Hyper
) -> Tensors:
    """Every tensor of golden.safetensors. The model must be float32 with eager attention."""
    parts = (
        input_tensors(model, items),
        position_tensors(model, items),
        forward_tensors(model, items[0]),
        train(model, items, hyper),
        generation_tensors(model, items[0]),
        attention_tensors(folder, model, items[0], general_ids),
    )
    merged: Tensors = {}
    for part in parts:
        merged.update({name: value.detach().clone().contiguous() for name, value in part.items()})
    return merged
