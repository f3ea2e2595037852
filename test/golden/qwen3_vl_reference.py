"""Reference numbers of one golden folder, computed with transformers and peft.

Everything here is a developer tool: the product neither imports nor ships it. `generate_qwen3_vl.py` uses it to
write a folder, `check_qwen3_vl.py` to recompute one. README.md beside this file explains the tensor names.

Shapes: S tokens of one sequence, V vocabulary, P patches of one item, T image tokens (P / merge^2), H hidden size.
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
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

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

    def preprocess(self, processor: Qwen2VLImageProcessorPil) -> None:
        """Fills `pixels` (float32 [P, 3*2*p*p] per image state) and `grid` (int64 [images, 3])."""
        for state, images in (("clean", self.rgb), ("corrupt", self.rgb_corrupt)):
            # stated, because an image 1 or 3 pixels high would be taken for channels first
            done = processor(images=images, input_data_format="channels_last", return_tensors="pt")
            self.pixels[state], self.grid = done["pixel_values"], done["image_grid_thw"]


def load_processor(folder: Path) -> Qwen2VLImageProcessorPil:
    """The PIL path with the settings of the folder's preprocessor_config.json."""
    raw = json.loads((folder / "preprocessor_config.json").read_text())
    keys = ("size", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    return Qwen2VLImageProcessorPil(**{key: raw[key] for key in keys})


def load_weights(folder: Path) -> Tensors:
    """All tensors of the folder in float32 under transformers-5 names, whatever prefix style they are stored with."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        shards = ["model.safetensors"]
    weights: Tensors = {}
    for shard in shards:
        weights.update({published_name(name): value.float() for name, value in load_file(folder / shard).items()})
    return weights


def published_name(name: str) -> str:
    """Maps the older `visual.` / `model.` prefixes to the published `model.visual.` / `model.language_model.`."""
    if name.startswith("visual."):
        return "model." + name
    if name.startswith("model.") and not name.startswith(("model.visual.", "model.language_model.")):
        return "model.language_model." + name.removeprefix("model.")
    return name


def build_base(config: dict, weights: Tensors, attention: str = "eager") -> Qwen3VLForConditionalGeneration:
    """The frozen base model in float32. Raises when a tensor is missing or superfluous."""
    parsed = Qwen3VLConfig(**config)
    parsed._attn_implementation = attention
    model = Qwen3VLForConditionalGeneration._from_config(
        parsed, attn_implementation=attention, dtype=torch.float32
    )
    report = model.load_state_dict(weights, strict=False)
    tied = {"lm_head.weight"} if config["tie_word_embeddings"] else set()
    if report.unexpected_keys or set(report.missing_keys) - tied:
        raise ValueError(f"weights do not fit: missing {report.missing_keys}, unexpected {report.unexpected_keys}")
    model.tie_weights()
    return model.eval()


def load_model(folder: Path, attention: str = "eager", dtype: torch.dtype = torch.float32) -> PeftModel:
    """Base plus trainable adapter of a golden folder."""
    base = build_base(json.loads((folder / "config.json").read_text()), load_weights(folder), attention)
    model = PeftModel.from_pretrained(base, str(folder / "adapter"), is_trainable=True)
    return model.to(dtype).eval()


def forward(model, ids: torch.Tensor, pixels: torch.Tensor | None, grid: torch.Tensor | None, **extra):
    """One unpadded sequence through the whole model; ids int64 [S]."""
    image_id = model.config.image_token_id
    return model(
        input_ids=ids[None],
        attention_mask=torch.ones_like(ids)[None],
        mm_token_type_ids=(ids == image_id).int()[None],
        pixel_values=pixels,
        image_grid_thw=grid,
        use_cache=False,
        **extra,
    )


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


def sequence_logits(model, item: Item) -> dict:
    """[S, V] logits of the four sequences of a pair, keyed by (answer, image state)."""
    return {
        (answer, state): forward(
            model, item.input_ids[answer], item.pixels[state].to(model.dtype), item.grid
        ).logits[0]
        for answer in ANSWERS
        for state in IMAGE_STATES
    }


def reference_logits(model: PeftModel, item: Item) -> dict:
    with torch.no_grad(), model.disable_adapter():
        return sequence_logits(model, item)


def batch_loss(model: PeftModel, items: list[Item], references: list[dict], hyper: Hyper):
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


def train(model: PeftModel, items: list[Item], hyper: Hyper) -> Tensors:
    """Loss, gradients and parameters over `hyper.steps` AdamW steps with a cosine schedule. Restores the adapter."""
    references = [reference_logits(model, item) for item in items]
    parameters = adapter_tensors(model)
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


def position_tensors(model: PeftModel, items: list[Item]) -> Tensors:
    """MRoPE positions [3, S] and the decode offset of every sequence."""
    inner = model.base_model.model.model
    out: Tensors = {}
    for k, item in enumerate(items):
        for answer in ANSWERS:
            ids = item.input_ids[answer][None]
            kinds = (ids == model.config.image_token_id).int()
            positions, delta = inner.get_rope_index(ids, kinds, image_grid_thw=item.grid)
            out[f"item{k}.{answer}.position_ids"] = positions[:, 0]
            out[f"item{k}.{answer}.rope_delta"] = delta[0]
    return out


def forward_tensors(model: PeftModel, item: Item) -> Tensors:
    """`fwd.*`: intermediates of the base model on item 0, chosen answer, clean images."""
    inner = model.base_model.model
    visual, text = inner.model.visual, inner.model.language_model
    out: Tensors = {}
    hooks = []

    def keep(module, name: str, pick=lambda value: value) -> None:
        hooks.append(module.register_forward_hook(lambda _m, _a, value: out.update({name: pick(value).detach()})))

    def keep_input(module, name: str, pick=lambda value: value) -> None:
        hooks.append(module.register_forward_pre_hook(lambda _m, args: out.update({name: pick(args[0]).detach()})))

    keep(visual.patch_embed, "fwd.vision.patch_embed")
    keep(visual.rotary_pos_emb, "fwd.vision.rope_cos", lambda pair: pair[0])
    keep(visual.rotary_pos_emb, "fwd.vision.rope_sin", lambda pair: pair[1])
    keep_input(visual.blocks[0], "fwd.vision.block_in.0")
    for i, block in enumerate(visual.blocks):
        keep(block, f"fwd.vision.block_out.{i}")
    keep(visual.merger, "fwd.vision.merged")
    for j, merger in enumerate(visual.deepstack_merger_list):
        keep(merger, f"fwd.vision.deepstack.{j}")
    keep(text.rotary_emb, "fwd.text.rope_cos", lambda pair: pair[0][0])
    keep(text.rotary_emb, "fwd.text.rope_sin", lambda pair: pair[1][0])
    for layer, block in enumerate(text.layers):
        if layer <= len(visual.deepstack_merger_list):
            keep_input(block, f"fwd.text.layer_in.{layer}", lambda x: x[0])
        keep(block, f"fwd.text.layer_out.{layer}", lambda x: x[0])
    keep(text.norm, "fwd.text.final_norm", lambda x: x[0])

    ids = item.input_ids["chosen"]
    with torch.no_grad(), model.disable_adapter():
        logits = forward(model, ids, item.pixels["clean"].to(model.dtype), item.grid).logits[0]
        indices, weights = get_vision_interpolation_indices_and_weights(
            item.grid,
            num_grid_per_side=visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=visual.config.spatial_merge_size,
        )
        out["fwd.vision.pos_embeds"] = (visual.pos_embed(indices) * weights[:, :, None]).sum(1)
    for hook in hooks:
        hook.remove()
    out["fwd.text.logits"] = logits
    out["fwd.token_logps"] = token_logps(logprobs(logits), ids)
    return out


@torch.no_grad()
def greedy(model, item: Item, count: int = GENERATED_TOKENS) -> tuple[torch.Tensor, torch.Tensor]:
    """Greedy continuation of the prompt without a cache: tokens int64 [count], top-1 minus top-2 logit [count]."""
    ids, margins = item.prompt_ids, []
    for _ in range(count):
        logits = forward(model, ids, item.pixels["clean"].to(model.dtype), item.grid, logits_to_keep=1).logits[0, -1]
        best = logits.topk(2)
        margins.append(best.values[0] - best.values[1])
        ids = torch.cat([ids, best.indices[:1]])
    return ids[-count:], torch.stack(margins)


def generation_tensors(model: PeftModel, item: Item) -> Tensors:
    with model.disable_adapter():
        base_tokens, base_margin = greedy(model, item)
    lora_tokens, lora_margin = greedy(model, item)
    return {
        "gen.base.tokens": base_tokens,
        "gen.base.margin": base_margin,
        "gen.lora.tokens": lora_tokens,
        "gen.lora.margin": lora_margin,
    }


def covered_tokens(box: np.ndarray, size: tuple[int, int], grid: tuple[int, int], cell: int) -> torch.Tensor:
    """Flat indices of the image tokens that a source-pixel box touches; size = (height, width) of the source."""
    rows, cols = grid
    x0, x1 = (box[[0, 2]] * (cols * cell / size[1])).tolist()
    y0, y1 = (box[[1, 3]] * (rows * cell / size[0])).tolist()
    span_x = range(max(0, math.floor(x0 / cell)), min(cols, math.ceil(x1 / cell)))
    span_y = range(max(0, math.floor(y0 / cell)), min(rows, math.ceil(y1 / cell)))
    return torch.tensor([row * cols + col for row in span_y for col in span_x])


@torch.no_grad()
def attention_tensors(model: PeftModel, item: Item, general_ids: torch.Tensor) -> Tensors:
    """`ar.*`: attention of the last prompt position of the base model to the tokens of image 0. Needs eager."""
    vision = model.config.vision_config
    merge, cell = vision.spatial_merge_size, vision.spatial_merge_size * vision.patch_size
    rows, cols = (item.grid[0, 1:] // merge).tolist()
    out: Tensors = {
        "ar.general_prompt_ids": general_ids,
        "ar.grid_rows_cols": torch.tensor([rows, cols]),
        "ar.gt_tokens": covered_tokens(item.boxes[0], item.rgb[0].shape[:2], (rows, cols), cell),
    }
    for name, ids in (("question", item.prompt_ids), ("general", general_ids)):
        with model.disable_adapter():
            layers = forward(
                model, ids, item.pixels["clean"].to(model.dtype), item.grid, output_attentions=True
            ).attentions
        start = int((ids == model.config.image_token_id).nonzero()[0])
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


def input_tensors(items: list[Item]) -> Tensors:
    """What a reader needs to repeat the run: images, boxes, preprocessed pixels, ids and masks."""
    out: Tensors = {}
    for k, item in enumerate(items):
        for i, (clean, corrupt, box) in enumerate(zip(item.rgb, item.rgb_corrupt, item.boxes)):
            out[f"item{k}.image{i}.rgb"] = torch.from_numpy(clean)
            out[f"item{k}.image{i}.rgb_corrupt"] = torch.from_numpy(corrupt)
            out[f"item{k}.image{i}.box_xyxy"] = torch.from_numpy(box)
        out[f"item{k}.pixel_values"] = item.pixels["clean"]
        out[f"item{k}.pixel_values_corrupt"] = item.pixels["corrupt"]
        out[f"item{k}.image_grid_thw"] = item.grid
        out[f"item{k}.prompt_ids"] = item.prompt_ids
        for answer in ANSWERS:
            out[f"item{k}.{answer}.input_ids"] = item.input_ids[answer]
            out[f"item{k}.{answer}.phrase_mask"] = item.phrase_mask[answer]
    return out


def reference_tensors(model: PeftModel, items: list[Item], general_ids: torch.Tensor, hyper: Hyper) -> Tensors:
    """Every tensor of golden.safetensors. The model must be float32 with eager attention."""
    parts = (
        input_tensors(items),
        position_tensors(model, items),
        forward_tensors(model, items[0]),
        train(model, items, hyper),
        generation_tensors(model, items[0]),
        attention_tensors(model, items[0], general_ids),
    )
    merged: Tensors = {}
    for part in parts:
        merged.update({name: value.detach().clone().contiguous() for name, value in part.items()})
    return merged
