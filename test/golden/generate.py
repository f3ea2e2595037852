"""Writes a golden folder: a tiny random model, a LoRA adapter, a few preference pairs and reference numbers.

    python generate.py --out DIR [--family NAME | --recipe NAME] [--seed N] [--hidden 96] [--sections "[4,4,4]"] ...

Every field of the family's `Options` is a flag whose value is read as JSON; `--recipe` starts from an entry of
recipes.json.
Needs torch, transformers, peft, safetensors and Pillow. README.md beside this file describes the result.

The answer of an item is a template such as `3 [2|3] 4 [1|1]`: three words shared by both answers, a phrase of two
words in the chosen and three in the rejected answer, four shared words, and so on, then the end token.
`[2|=3]` makes the rejected phrase begin with the chosen one; a trailing `!` leaves the end token out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

import reference as ref
from families import FAMILIES, family_of
from families.base import RESERVED_IDS, Family, Options

RECIPES = Path(__file__).with_name("recipes.json")
NEWLINE, USER, ASSISTANT = 2, 1, 3
NOISE_SIGMA = 80.0


def random_weights(folder: Path, options: Options, draw: torch.Generator) -> ref.Tensors:
    """Every tensor of the model, drawn so that activations keep a healthy scale through the depth.

    Norm weights are 1 + N(0, 0.1), biases N(0, 0.1), embeddings N(0, 0.35), linear weights N(0, gain / sqrt(in));
    the two projections that write to the residual stream of the decoder get the larger gain.
    """
    family = family_of(folder)
    with torch.device("meta"):
        shapes = family.model_class._from_config(family.config(folder)).state_dict()
    if options.tied:
        shapes.pop("lm_head.weight", None)
    weights: ref.Tensors = {}
    for name, slot in shapes.items():
        noise = torch.randn(slot.shape, generator=draw)
        if name.endswith(".bias"):
            value = 0.1 * noise
        elif name.endswith(".weight") and slot.dim() == 1:
            value = 1 + 0.1 * noise
        elif "embed_tokens" in name or name == "lm_head.weight":
            value = 0.35 * noise
            value[[options.special("image"), options.special("video")]] = 0
        elif "pos_embed" in name or "position_embedding" in name or "class_embedding" in name:
            value = 0.4 * noise
        else:
            gain = 2.4 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.1
            value = gain * noise / slot[0].numel() ** 0.5
        weights[name] = value.to(getattr(torch, options.dtype))
    return weights


def write_weights(folder: Path, weights: ref.Tensors, options: Options) -> None:
    """One file, or shards cut at random-looking but fixed places plus an index."""
    family = family_of(folder)
    named = {family.stored_name(name, options): value.contiguous() for name, value in weights.items()}
    if options.shards == 1:
        save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map, names = {}, sorted(named)
    for shard in range(options.shards):
        file = f"model-{shard + 1:05}-of-{options.shards:05}.safetensors"
        part = names[shard :: options.shards]
        save_file({name: named[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map.update({name: file for name in part})
    size = sum(value.numel() * value.element_size() for value in named.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})


def write_adapter(folder: Path, weights: ref.Tensors, options: Options, draw: torch.Generator) -> None:
    """A PEFT adapter with A uniform as PEFT draws it and B = N(0, 0.05) instead of zero."""
    base = ref.build_base(folder, {name: value.float() for name, value in weights.items()})
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.lora_alpha,
        lora_dropout=0.0,
        use_rslora=options.rslora,
        target_modules=options.targets,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, value in sorted(ref.adapter_tensors(model).items()):
            if ".lora_A." in name:
                bound = value.shape[1] ** -0.5
                value.copy_((torch.rand(value.shape, generator=draw) * 2 - 1) * bound)
            else:
                value.copy_(0.05 * torch.randn(value.shape, generator=draw))
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        (folder / "adapter").mkdir(exist_ok=True)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / "adapter" / file).write_bytes((Path(scratch) / file).read_bytes())


def random_image(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W, 3]: a smooth colour ramp, one soft blob and pixel noise."""
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / max(height, 1), x / max(width, 1)
    colour, slope = rng.uniform(40, 200, 3), rng.uniform(-60, 60, (2, 3))
    blob = np.exp(-(((y - rng.random()) / 0.2) ** 2 + ((x - rng.random()) / 0.2) ** 2))
    image = colour + y[..., None] * slope[0] + x[..., None] * slope[1] + blob[..., None] * rng.uniform(-90, 90, 3)
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def corrupt(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian noise inside a random box covering a quarter to a half of each side; returns image and box."""
    def span(size: int) -> tuple[int, int]:
        length = max(1, int(size * rng.uniform(0.25, 0.5)))
        start = int(rng.integers(0, size - length + 1))
        return start, start + length

    (y0, y1), (x0, x1) = span(image.shape[0]), span(image.shape[1])
    noisy = image.astype(np.float64)
    noisy[y0:y1, x0:x1] += rng.normal(0, NOISE_SIGMA, noisy[y0:y1, x0:x1].shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), np.array([x0, y0, x1, y1], dtype=np.int64)


class Writer:
    """Turns item descriptions into token ids."""

    def __init__(self, family: Family, options: Options, rng: np.random.Generator) -> None:
        self.around = [options.special(name) for name in family.around_image]
        self.options, self.rng = options, rng

    def words(self, count: int, avoid: list[int] | None = None) -> list[int]:
        """Random text tokens; the first differs from the first of `avoid`."""
        high = self.options.vocab - RESERVED_IDS
        while True:
            drawn = self.rng.integers(10, high, count).tolist()
            if not avoid or not drawn or drawn[0] != avoid[0]:
                return drawn

    def prompt(self, image_tokens: list[int], question: int, between: int = 0) -> list[int]:
        special = self.options.special
        ids = [special("turn_start"), USER, NEWLINE]
        for i, count in enumerate(image_tokens):
            if i:
                ids += self.words(between)
            ids += [*self.around[:1], *[special("image")] * count, *self.around[1:]]
        ids += self.words(question)
        return [*ids, special("end"), NEWLINE, special("turn_start"), ASSISTANT, NEWLINE]

    def answers(self, template: str) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Token ids and phrase masks of the chosen and the rejected answer."""
        ids = {answer: [] for answer in ref.ANSWERS}
        mask = {answer: [] for answer in ref.ANSWERS}

        def add(answer: str, tokens: list[int], inside: int) -> None:
            ids[answer] += tokens
            mask[answer] += [inside] * len(tokens)

        for piece in template.rstrip("!").split():
            phrase = re.fullmatch(r"\[(\d+)\|(=?)(\d+)\]", piece)
            if phrase:
                chosen = self.words(int(phrase[1]))
                if phrase[2]:
                    rejected = chosen + self.words(int(phrase[3]) - len(chosen))
                else:
                    rejected = self.words(int(phrase[3]), avoid=chosen)
                add("chosen", chosen, 1)
                add("rejected", rejected, 1)
            else:
                shared = self.words(int(piece))
                for answer in ref.ANSWERS:
                    add(answer, shared, 0)
        if not template.endswith("!"):
            for answer in ref.ANSWERS:
                add(answer, [self.options.special("end")], 0)
        return ids, mask


def make_item(description: dict, folder: Path, writer: Writer) -> ref.Item:
    clean = [random_image(height, width, writer.rng) for height, width in description["images"]]
    pairs = [corrupt(image, writer.rng) for image in clean]
    empty = torch.empty(0, dtype=torch.int64)
    item = ref.Item(clean, [noisy for noisy, _ in pairs], [box for _, box in pairs], empty, {}, {})
    item.preprocess(family_of(folder), folder)
    prompt = writer.prompt(image_tokens(folder, item), description["question"], description.get("between", 0))
    item.prompt_ids = torch.tensor(prompt)
    ids, mask = writer.answers(description["answer"])
    for answer in ref.ANSWERS:
        item.input_ids[answer] = torch.tensor(prompt + ids[answer])
        item.phrase_mask[answer] = torch.tensor([0] * len(prompt) + mask[answer])
    return item


def image_tokens(folder: Path, item: ref.Item) -> list[int]:
    family = family_of(folder)
    config = family.config(folder)
    grids = [family.token_grid(config, patches) for patches in item.grid]
    return [rows * columns for rows, columns in grids]


def noise(folder: Path, items: list[ref.Item], hyper: ref.Hyper, golden: ref.Tensors) -> dict:
    """How far other arithmetic of the same framework lands from the stored numbers."""
    def run(attention: str, dtype: torch.dtype) -> ref.Tensors:
        return ref.train(ref.load_model(folder, attention, dtype), items, hyper)

    def largest(ours: ref.Tensors, prefix: str) -> float:
        return max((ours[n].double() - golden[n].double()).abs().max().item() for n in golden if n.startswith(prefix))

    grads = [name for name in golden if name.startswith("grad.")]

    def relative(ours: ref.Tensors) -> float:
        return max(((ours[n].double() - golden[n].double()).norm() / golden[n].double().norm()).item() for n in grads)

    report = {}
    for name, attention, dtype in (
        ("sdpa_f32", "sdpa", torch.float32),
        ("eager_f64", "eager", torch.float64),
        ("eager_bf16", "eager", torch.bfloat16),
    ):
        ours = run(attention, dtype)
        entry = {
            "logits": largest(ours, "item0.chosen.clean.lora_logits"),
            "loss": largest(ours, "mpo.loss"),
            "grad_max_rel_l2": relative(ours),
        }
        if dtype == torch.bfloat16:
            pairs = [(ours[n].double().flatten(), golden[n].double().flatten()) for n in grads]
            entry["grad_min_cosine"] = min(torch.cosine_similarity(a, b, dim=0).item() for a, b in pairs)
        else:
            entry |= {"grad_max_abs": largest(ours, "grad."), "step1_max_abs": largest(ours, "step1.")}
            last = f"step{hyper.steps}."
            entry["step3_max_abs"] = largest(ours, last)
            moved = torch.cat([(ours[n] - golden[n]).flatten().abs() for n in golden if n.startswith(last)])
            entry["step3_frac_gt_1e_5"] = (moved > 1e-5).double().mean().item()
        report[name] = entry
    return report


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def attempt(folder: Path, family: Family, options: Options, salt: int) -> tuple[list[ref.Item], ref.Model] | None:
    """Draws model, adapter and pairs; None when a greedy step is too close to call or the box was cropped away."""
    draw = torch.Generator().manual_seed(options.seed * 1000 + salt)
    rng = np.random.default_rng([options.seed, salt])
    for name, value in family.files(options).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(folder / name, value)
    weights = random_weights(folder, options, draw)
    write_weights(folder, weights, options)
    write_adapter(folder, weights, options, draw)
    writer = Writer(family, options, rng)
    items = [make_item(description, folder, writer) for description in options.items]
    model = ref.load_model(folder)
    if len(ref.true_tokens(folder, model, items[0])) == 0:
        return None
    with model.peft.disable_adapter():
        base = ref.greedy(model, items[0])[1].min().item()
    if base < options.min_margin or ref.greedy(model, items[0])[1].min().item() < options.min_margin:
        return None
    return items, model


def generate(folder: Path, family: Family, options: Options) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for salt in range(200):
        drawn = attempt(folder, family, options, salt)
        if drawn:
            break
    else:
        raise RuntimeError("no draw reached the greedy margin; lower --min-margin or change the seed")
    items, model = drawn
    hyper = ref.Hyper(**options.hyper)
    rng = np.random.default_rng([options.seed, 999])
    first = options.items[0]
    general = Writer(family, options, rng).prompt(
        image_tokens(folder, items[0]), first["question"] + 2, first.get("between", 0)
    )
    golden = ref.reference_tensors(folder, model, items, torch.tensor(general), hyper)
    save_file(golden, folder / "golden.safetensors")
    magnitudes = torch.cat([golden[n].abs().flatten() for n in golden if n.startswith("grad.")]).double()
    summary = {
        "gen_base_min_margin": golden["gen.base.margin"].min().item(),
        "gen_lora_min_margin": golden["gen.lora.margin"].min().item(),
        "noise": noise(folder, items, hyper, golden),
        "grad_abs_quantiles": {str(q): magnitudes.quantile(q).item() for q in (0.001, 0.01, 0.5, 1.0)},
        "logits_abs_max": golden["fwd.text.logits"].abs().max().item(),
        "train_loss": golden["train.loss"].tolist(),
        "hyper": dataclasses.asdict(hyper),
        **family.summary(options, rng),
        "options": dataclasses.asdict(options) | {"salt": salt},
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in summary.items()]
    (folder / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def parse_options(argv: list[str]) -> tuple[Path, Family, Options]:
    recipes = json.loads(RECIPES.read_text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--family", choices=sorted(FAMILIES))
    parser.add_argument("--recipe", choices=sorted(recipes))
    known, rest = parser.parse_known_args(argv)
    values = recipes[known.recipe] if known.recipe else {}
    family = FAMILIES[values.pop("family", known.family or "qwen3_vl")]
    for item in dataclasses.fields(family.options):
        parser.add_argument("--" + item.name.replace("_", "-"), dest=item.name, metavar="JSON")
    arguments = vars(parser.parse_args(argv))
    for item in dataclasses.fields(family.options):
        text = arguments[item.name]
        if text is not None:
            values[item.name] = text if item.name == "dtype" else json.loads(text)
    return arguments["out"], family, family.options(**values)


if __name__ == "__main__":
    torch.set_num_threads(1)
    generate(*parse_options(sys.argv[1:]))
