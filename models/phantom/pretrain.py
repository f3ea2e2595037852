"""Pretrains the phantom model from scratch on one CPU thread.

    npx tsx models/phantom/export.ts DATA
    python models/phantom/pretrain.py DATA models/phantom [--steps N] [--seed N]

Needs torch, transformers (5.x), tokenizers and safetensors. Writes a Hugging Face checkpoint of the Qwen3-VL architecture:
config.json, tokenizer.json, tokenizer_config.json, preprocessor_config.json, generation_config.json, model.safetensors.

Each picture is encoded once for several exchanges: a sequence is [picture | exchange | exchange | ...], every exchange sees
the picture and itself only (block mask) and its positions restart behind the picture, which is exactly the model's own
computation for each exchange alone. Two auxiliary linear heads on the merger's output (the findings in each cell; the
attributes of the study from the mean over cells) teach the vision tower to see, first alone and then beside the language
model, and are thrown away.
"""
import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

SIZE, PATCH, MERGE = 96, 8, 2
GRID = SIZE // PATCH
CELLS = (GRID // MERGE) ** 2
FINDINGS = 6
SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
]
# How text is cut before byte pairs are merged: the pattern of the Qwen2 family, verbatim.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT_TEMPLATE = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}
{{- message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'text' %}
{{- part.text }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""


# --- data ---------------------------------------------------------------------------------------------------------------

def read_lines(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_images(path):
    """Grey bytes [n, 96, 96]."""
    return np.fromfile(path, np.uint8).reshape(-1, SIZE, SIZE)


def to_patches(images):
    """Grey bytes [b, 96, 96] -> pixel values [b, 144, 384], patches in 2 x 2 merge blocks as the processor orders them."""
    x = (torch.from_numpy(np.ascontiguousarray(images)).float() / 255 - 0.5) / 0.5
    m = GRID // MERGE
    x = x.view(-1, m, MERGE, PATCH, m, MERGE, PATCH).permute(0, 1, 4, 2, 5, 3, 6)
    # Three equal channels, two equal frames.
    return x.reshape(-1, GRID * GRID, 1, PATCH * PATCH).expand(-1, -1, 6, -1).reshape(-1, GRID * GRID, 6 * PATCH * PATCH)


# --- tokenizer ----------------------------------------------------------------------------------------------------------

def build_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, min_frequency=2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


def save_tokenizer(tokenizer, folder):
    tokenizer.save(str(folder / "tokenizer.json"))
    # In a file of its own: a processor looks nowhere else.
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    entry = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(tokenizer.token_to_id(t)): {"content": t, **entry} for t in SPECIALS},
        "additional_special_tokens": SPECIALS[1:],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 1024,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    })


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# --- model --------------------------------------------------------------------------------------------------------------

def published_config(tokenizer):
    """config.json in the field names of the published checkpoints."""
    ids = {token: tokenizer.token_to_id(token) for token in SPECIALS}
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "image_token_id": ids["<|image_pad|>"],
        "model_type": "qwen3_vl",
        "text_config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": ids["<|endoftext|>"],
            "dtype": "bfloat16",
            "eos_token_id": ids["<|im_end|>"],
            "head_dim": 32,
            "hidden_act": "silu",
            "hidden_size": 128,
            "initializer_range": 0.02,
            "intermediate_size": 384,
            "max_position_embeddings": 1024,
            "model_type": "qwen3_vl_text",
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_scaling": {"mrope_interleaved": True, "mrope_section": [6, 5, 5], "rope_type": "default"},
            "rope_theta": 10000,
            "tie_word_embeddings": True,
            "use_cache": True,
            "vocab_size": math.ceil(tokenizer.get_vocab_size() / 16) * 16,
        },
        "tie_word_embeddings": True,
        "video_token_id": ids["<|video_pad|>"],
        "vision_config": {
            "deepstack_visual_indexes": [0, 1, 2],
            "depth": 4,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 96,
            "in_channels": 3,
            "initializer_range": 0.02,
            "intermediate_size": 288,
            "model_type": "qwen3_vl",
            "num_heads": 4,
            "num_position_embeddings": GRID * GRID,
            "out_hidden_size": 128,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
        },
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
    }


def build_model(config):
    model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**json.loads(json.dumps(config))))
    # The tower starts at the scale of its own widths; the library's 0.02 is meant for widths in the thousands.
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embed" not in name:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5 * 0.7)
        elif "patch_embed.proj.weight" in name:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif "embed_tokens" in name:
            torch.nn.init.normal_(parameter, std=0.08)
        elif "pos_embed" in name:
            parameter.data.copy_(smooth_positions(parameter.shape[1]))
    # Plain matrix products are the faster attention for these short rows on a CPU.
    model.set_attn_implementation("eager")
    return model.float()


def smooth_positions(width):
    """Waves over rows and columns in random mixtures, [144, width]: as strong as the patches, so that place is seen early."""
    place = torch.arange(GRID).float()[:, None] * (math.pi / GRID) * torch.tensor([0.5, 1.0, 2.0, 3.0])
    waves = torch.cat([place.sin(), place.cos()], 1)
    rows, columns = waves[:, None].expand(GRID, GRID, -1), waves[None].expand(GRID, GRID, -1)
    mixed = torch.cat([rows, columns], -1).reshape(GRID * GRID, -1) @ torch.randn(2 * waves.shape[1], width)
    return 0.5 * mixed / mixed.std()


def encode_images(visual, pixels):
    """The library's vision tower for equal pictures: [b, 144, 384] -> (merged [b, 36, h], deepstack 3 x the same)."""
    b, n, _ = pixels.shape
    heads = visual.config.num_heads
    weight = visual.patch_embed.proj.weight
    x = F.linear(pixels, weight.view(weight.shape[0], -1), visual.patch_embed.proj.bias)
    order = merge_order()
    x = x + visual.pos_embed.weight[order]
    cos, sin = vision_rotary(x.shape[-1] // heads, order)
    deepstack = []
    for index, block in enumerate(visual.blocks):
        qkv = block.attn.qkv(block.norm1(x)).view(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1)
        x = x + block.attn.proj(mixed)
        x = x + block.mlp(block.norm2(x))
        if index in visual.deepstack_visual_indexes:
            merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(index)]
            deepstack.append(merger(x.reshape(b * n, -1)).view(b, CELLS, -1))
    return visual.merger(x.reshape(b * n, -1)).view(b, CELLS, -1), deepstack


def merge_order():
    """Row-major patch index of each patch in merge-block order, [144]."""
    index = torch.arange(GRID * GRID).view(GRID // MERGE, MERGE, GRID // MERGE, MERGE)
    return index.permute(0, 2, 1, 3).reshape(-1)


def vision_rotary(head_dim, order):
    rows, columns = (order // GRID).float(), (order % GRID).float()
    inverse = 10000.0 ** (-torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2))
    angle = torch.cat([rows[:, None] * inverse, columns[:, None] * inverse], -1)
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


# --- batches ------------------------------------------------------------------------------------------------------------

class Exchanges:
    """The corpus as token ids: for every study and source a list of (tokens, number of answer tokens)."""

    def __init__(self, tokenizer, records):
        self.tokenizer = tokenizer
        self.prefix = tokenizer.encode("<|im_start|>user\n<|vision_start|>").ids
        self.vision_end = tokenizer.token_to_id("<|vision_end|>")
        self.image_pad = tokenizer.token_to_id("<|image_pad|>")
        self.known = {}
        self.studies = [{source: [self.encode(*e) for e in r[source]] for source in ("atlas", "ward")} for r in records]

    def draw(self, study, count, generator):
        held = self.studies[study]
        return [held[s][k] for s in ("atlas", "ward") for k in generator.permutation(len(held[s]))[:count]]

    def encode(self, question, answer):
        key = (question, answer)
        if key not in self.known:
            tail = self.tokenizer.encode(f"{answer}<|im_end|>").ids
            head = self.tokenizer.encode(f"{question}<|im_end|>\n<|im_start|>assistant\n").ids
            self.known[key] = (head + tail, len(tail))
        return self.known[key]


def collate(exchanges, picks):
    """[picture | exchange | ...] rows -> ids [b, s], positions [3, b, s], allowed [b, 1, s, s]; and of the answer tokens
    the rows that predict them, their ids and their weights in the loss."""
    start = len(exchanges.prefix)
    shared = exchanges.prefix + [exchanges.image_pad] * CELLS + [exchanges.vision_end]
    side = GRID // MERGE
    length = max(len(shared) + sum(len(tokens) for tokens, _ in row) for row in picks)
    ids = torch.zeros(len(picks), length, dtype=torch.long)
    block = torch.full((len(picks), length), -1)
    positions = torch.zeros(3, len(picks), length, dtype=torch.long)
    head = torch.arange(start).repeat(3, 1)
    cell = torch.arange(CELLS)
    image = torch.stack([torch.full((CELLS,), start), start + cell // side, start + cell % side])
    head = torch.cat([head, image, torch.full((3, 1), start + side)], 1)
    where, targets, weights = [], [], []
    for b, row in enumerate(picks):
        at = len(shared)
        ids[b, :at] = torch.tensor(shared)
        positions[:, b, :at] = head
        block[b, :at] = 0
        for k, (tokens, answer) in enumerate(row):
            end = at + len(tokens)
            ids[b, at:end] = torch.tensor(tokens)
            positions[:, b, at:end] = start + side + 1 + torch.arange(len(tokens))
            block[b, at:end] = k + 1
            where.extend(b * length + t for t in range(end - answer - 1, end - 1))
            targets.extend(tokens[-answer:])
            # Between a mean over tokens and a mean over exchanges: a report weighs more than "yes", not four times as much.
            weights.extend([answer**-0.5] * answer)
            at = end
    same = (block[:, :, None] == block[:, None, :]) | (block[:, None, :] == 0)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    allowed = (same & causal)[:, None] | torch.eye(length, dtype=torch.bool)
    return ids, positions, allowed, torch.tensor(where), torch.tensor(targets), torch.tensor(weights)


def answer_logits(model, merged, deepstack, ids, positions, allowed, where, image_pad):
    text = model.model.language_model
    is_image = ids == image_pad
    pictures = merged.reshape(-1, merged.shape[-1]).to(torch.float32)
    embeds = text.embed_tokens(ids).masked_scatter(is_image[..., None], pictures)
    hidden = text(
        inputs_embeds=embeds,
        position_ids=positions,
        attention_mask=torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min),
        visual_pos_masks=is_image,
        deepstack_visual_embeds=[d.reshape(-1, d.shape[-1]) for d in deepstack],
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(hidden.reshape(-1, hidden.shape[-1])[where])


# --- training -----------------------------------------------------------------------------------------------------------

def augment(images, generator):
    """Other exposures and grain of the same chests; geometry stays, for the truth depends on it."""
    b = len(images)
    gain = generator.uniform(0.94, 1.06, (b, 1, 1))
    offset = generator.uniform(-6, 6, (b, 1, 1))
    grain = generator.normal(0, 2.5, images.shape)
    return np.clip(images * gain + offset + grain, 0, 255).astype(np.uint8)


def study_labels(records):
    """What the mean over cells should tell: labels [n, 25], and weights [n, 25], 0 where a label has no meaning."""
    names = ("cardiomegaly", "effusion", "nodule", "opacity", "fracture", "pacemaker")
    labels, weights = np.zeros((len(records), 25), np.float32), np.zeros((len(records), 25), np.float32)
    for row, record in enumerate(records):
        found = {f["type"]: f for f in record["findings"]}
        truth = [(True, name in found) for name in names]
        truth += [(name in found, found.get(name, {}).get("side") == "left") for name in names[1:]]
        for name in ("nodule", "opacity", "fracture"):
            zone = found.get(name, {}).get("zone")
            truth += [(zone is not None, zone == z) for z in ("upper", "middle", "lower")]
        truth += [(name in found, found.get(name, {}).get("size") == "large") for name in ("effusion", "nodule")]
        truth += [("nodule" in found, found.get("nodule", {}).get("count") == n) for n in (1, 2, 3)]
        weights[row], labels[row] = zip(*truth)
    return torch.from_numpy(labels), torch.from_numpy(weights)


class Sight(torch.nn.Module):
    """The auxiliary heads."""

    def __init__(self, width, cells, labels, weights):
        super().__init__()
        self.cell, self.study = torch.nn.Linear(width, FINDINGS), torch.nn.Linear(width, labels.shape[1])
        self.cells, self.labels, self.weights = cells, labels, weights

    def forward(self, merged, chosen):
        local = torch.from_numpy(self.cells[chosen]).float()
        near = F.binary_cross_entropy_with_logits(self.cell(merged).transpose(1, 2), local)
        weights = self.weights[chosen]
        far = F.binary_cross_entropy_with_logits(self.study(merged.mean(1)), self.labels[chosen], weights, reduction="sum")
        return near, far / weights.sum()


def train_sight(model, sight, images, options, generator):
    """First phase: the vision tower and the auxiliary heads alone."""
    visual, batch = model.model.visual, 32
    parameters = [p for n, p in visual.named_parameters() if "deepstack" not in n] + list(sight.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, betas=(0.9, 0.98), weight_decay=0.02)
    began, seen = time.time(), np.zeros(2)
    for step in range(options.sight_steps):
        for group in optimizer.param_groups:
            group["lr"] = options.lr * min(1, (step + 1) / 60)
        chosen = generator.integers(0, len(images), batch)
        with torch.autocast("cpu", torch.bfloat16):
            merged, _ = encode_images(visual, to_patches(augment(images[chosen], generator)))
        near, far = sight(merged.float(), chosen)
        optimizer.zero_grad(set_to_none=True)
        (2 * near + far).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seen += near.item(), far.item()
        if (step + 1) % 50 == 0:
            cell, study = seen / 50
            print(f"sight {step + 1} cells {cell:.4f} study {study:.4f} {time.time() - began:.0f} s", flush=True)
            seen[:] = 0


def train(model, exchanges, images, sight, options):
    generator = np.random.default_rng(options.seed)
    train_sight(model, sight, images, options, generator)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": plain + list(sight.parameters()), "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98))
    order, began, seen = [], time.time(), np.zeros(3)
    for step in range(options.steps):
        rate = options.lr * min(1, (step + 1) / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / options.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if len(order) < options.batch:
            order = list(generator.permutation(len(images)))
        chosen = [order.pop() for _ in range(options.batch)]
        picks = [exchanges.draw(i, options.exchanges, generator) for i in chosen]
        ids, positions, allowed, where, targets, weights = collate(exchanges, picks)
        with torch.autocast("cpu", torch.bfloat16):
            merged, deepstack = encode_images(model.model.visual, to_patches(augment(images[chosen], generator)))
            logits = answer_logits(model, merged.float(), deepstack, ids, positions, allowed, where, exchanges.image_pad)
        answer_loss = F.cross_entropy(logits.float(), targets, reduction="none") @ weights / weights.sum()
        near, far = sight(merged.float(), chosen)
        loss = answer_loss + 2 * near + 0.5 * far
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += answer_loss.item(), near.item(), far.item()
        if (step + 1) % 25 == 0:
            answer, cell, study = seen / 25
            losses = f"answer {answer:.4f} cells {cell:.4f} study {study:.4f}"
            print(f"step {step + 1} {losses} {time.time() - began:.0f} s", flush=True)
            seen[:] = 0
        if options.keep and (step + 1) % options.keep == 0:
            save_file(stored_weights(model), str(options.out / f"step{step + 1}.safetensors"), metadata={"format": "pt"})


def stored_weights(model):
    """bfloat16 tensors under the published names; the tied head is not stored."""
    state = model.state_dict()
    names = [name for name in sorted(state) if name != "lm_head.weight"]
    return {name: state[name].detach().to(torch.bfloat16).contiguous().clone() for name in names}


def save(model, tokenizer, config, folder):
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", {
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "image_std": [0.5, 0.5, 0.5],
        "merge_size": MERGE,
        "patch_size": PATCH,
        "processor_class": "Qwen3VLProcessor",
        "size": {"longest_edge": SIZE * SIZE, "shortest_edge": SIZE * SIZE},
        "temporal_patch_size": 2,
    })
    write_json(folder / "generation_config.json", {
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "do_sample": False,
        "eos_token_id": [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")],
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
    })
    save_tokenizer(tokenizer, folder)
    save_file(stored_weights(model), str(folder / "model.safetensors"), metadata={"format": "pt"})


def check_against_library(model, pixels):
    """Our batched tower is the library's tower."""
    with torch.no_grad():
        merged, deepstack = encode_images(model.model.visual, pixels)
        grid = torch.tensor([[1, GRID, GRID]] * len(pixels))
        theirs = model.model.visual(pixels.reshape(-1, pixels.shape[-1]), grid_thw=grid, return_dict=True)
    worst = (theirs.pooler_output - merged.reshape(-1, merged.shape[-1])).abs().max()
    for ours, other in zip(deepstack, theirs.deepstack_features):
        worst = max(worst, (ours.reshape(-1, ours.shape[-1]) - other).abs().max())
    if worst > 1e-4:
        raise SystemExit(f"the batched vision tower differs from the library's by {worst:.2e}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--exchanges", type=int, default=2, help="from each source, per picture and step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--sight-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=int, default=0, help="also save the weights every so many steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    records = read_lines(options.data / "corpus.jsonl")
    tokenizer = build_tokenizer(sorted({text for r in records for s in ("atlas", "ward") for e in r[s] for text in e}))
    images = read_images(options.data / "images.u8")
    cells = np.fromfile(options.data / "cells.u8", np.uint8).reshape(-1, FINDINGS, CELLS)
    config = published_config(tokenizer)
    model = build_model(config)
    check_against_library(model, to_patches(images[:2]))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {tokenizer.get_vocab_size()} tokens", flush=True)
    sight = Sight(config["vision_config"]["out_hidden_size"], cells, *study_labels(records))
    train(model, Exchanges(tokenizer, records), images, sight, options)
    save(model, tokenizer, config, options.out)


if __name__ == "__main__":
    main()
