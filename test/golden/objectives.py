"""Writes objectives.json: float64 losses and gradients of every objective on small random logits.

    python objectives.py [--check]

Needs torch. The gradients come from autograd, the formulas are written down once more here, on purpose without the
streaming tricks of the engine, so that the two can disagree. `--check` compares with the file instead of writing it.

Notation: z [T, V] logits, row t predicts targets[t]; M the phrase mask of an answer; C all its tokens;
lp(x) = sum over scored rows of log softmax(z)[target], lr the same under the reference.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from torch.nn.functional import logsigmoid

FILE = Path(__file__).with_name("objectives.json")
VOCAB = 11
PAPER = {"beta": 0.1, "alpha": 0.01, "gamma": 0.1, "lambda": 0.5, "kl_reduction": "sum"}
LARGE = {"beta": 0.7, "alpha": 0.3, "gamma": 0.9, "lambda": 0.35, "kl_reduction": "sum"}
SEQUENCES = ("chosen", "rejected", "corrupted_chosen", "corrupted_rejected")

# Objective -> (tokens that are scored, tokens that carry the KL or None, sequences whose log-probabilities it needs)
SCOPES = {
    "sft": ("all", None, SEQUENCES[:1]),
    "dpo": ("all", None, SEQUENCES[:2]),
    "mdpo": ("all", None, SEQUENCES[:3]),
    "rrpo": ("phrase", "all", SEQUENCES[:2]),
    "rrpo-phrase-kl": ("phrase", "phrase", SEQUENCES[:2]),
    "mask-dpo": ("phrase", None, SEQUENCES[:2]),
    "fire": ("phrase", "phrase", SEQUENCES),
    "fire-v1": ("phrase", "phrase", SEQUENCES[:3]),
    "fire-v2": ("phrase", "phrase", ("chosen", "rejected", "corrupted_rejected")),
}

# Values worked out from the closed forms (V = 3, one phrase token per side), to twelve decimals.
CLOSED_FORM = {
    "fire": (PAPER, 0.754780769138, {
        "chosen": [-0.015074592091, 0.011452933215, 0.003621658876],
        "rejected": [-0.019715476267, -0.011958040827, 0.031673517094],
        "corrupted_rejected": [0.002089842165, 0.001711018049, -0.003800860214],
        "corrupted_chosen": [0.002677256564, -0.001074416096, -0.001602840468],
    }),
    "rrpo-phrase-kl": (PAPER | {"lambda": 1.0, "gamma": 0.0}, 0.684123278070, {
        "chosen": [-0.014987257895, 0.011492522035, 0.003494735859],
        "rejected": [-0.019715476267, -0.011958040827, 0.031673517094],
    }),
    "dpo": (PAPER, 0.683450698471, {
        "chosen": [-0.016574863542, 0.012117196182, 0.004457667360],
        "rejected": [-0.019715476267, -0.011958040827, 0.031673517094],
    }),
    "mask-dpo": (PAPER, 0.683450698471, {
        "chosen": [-0.016574863542, 0.012117196182, 0.004457667360],
        "rejected": [-0.019715476267, -0.011958040827, 0.031673517094],
    }),
    "mdpo": (PAPER, 2.050619847407, {
        "chosen": [-0.049728848243, 0.036354701113, 0.013374147130],
        "rejected": [-0.019715476267, -0.011958040827, 0.031673517094],
        "corrupted_chosen": [0.026263270949, -0.010539774718, -0.015723496231],
    }),
    "fire-v1": (PAPER, 0.752844555227, {
        "chosen": [-0.016739013087, 0.012669722462, 0.004069290624],
        "corrupted_chosen": [0.002626327095, -0.001053977472, -0.001572349623],
    }),
    "fire-v2": (PAPER, 0.751493223137, {
        "chosen": [-0.016716113501, 0.012652981524, 0.004063131977],
        "corrupted_rejected": [-0.002021881393, -0.001655376475, 0.003677257868],
    }),
}


def scored(sequence: dict, scope: str) -> torch.Tensor:
    """Bool [T]: rows that count."""
    mask = torch.tensor(sequence["phrase_mask"], dtype=torch.bool)
    return torch.ones_like(mask) if scope == "all" else mask


def sum_logp(logits: torch.Tensor, sequence: dict, scope: str) -> torch.Tensor:
    targets = torch.tensor(sequence["targets"])
    rows = torch.log_softmax(logits, -1).gather(-1, targets[:, None])[:, 0]
    return rows[scored(sequence, scope)].sum()


def kl_terms(logits: torch.Tensor, sequence: dict, scope: str, reduction: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward KL(ref || policy) and reverse KL(policy || ref) over the rows of `scope`."""
    rows = scored(sequence, scope)
    logp = torch.log_softmax(logits, -1)[rows]
    logq = torch.log_softmax(tensor(sequence["ref_logits"]), -1)[rows]
    forward, reverse = logq.exp() * (logq - logp), logp.exp() * (logp - logq)
    divisor = max(int(rows.sum()), 1) if reduction == "mean" else 1
    return forward.sum() / divisor, reverse.sum() / divisor


def pair_loss(name: str, c: dict, sequences: dict, logits: dict) -> tuple[torch.Tensor, dict]:
    """Loss of one pair (not divided by the batch) and its parts; a part that is not run is absent."""
    scope, kl_scope, needed = SCOPES[name]
    policy = {s: sum_logp(logits[s], sequences[s], scope) for s in needed if s in sequences}
    reference = {s: sum_logp(tensor(sequences[s]["ref_logits"]), sequences[s], scope) for s in policy}
    if name == "sft":
        loss = -policy["chosen"] / len(sequences["chosen"]["targets"])
        return loss, {"base": loss, "policy": policy}

    def margin(better: str, worse: str) -> torch.Tensor:
        return c["beta"] * ((policy[better] - policy[worse]) - (reference[better] - reference[worse]))

    parts = {"margin": margin("chosen", "rejected"), "policy": policy, "reference": reference}
    parts["base"] = -logsigmoid(parts["margin"])
    loss = parts["base"]
    visual_weight = {"mdpo": 1.0, "fire": c["gamma"], "fire-v1": c["gamma"], "fire-v2": c["gamma"]}.get(name, 0.0)
    if visual_weight and "corrupted_chosen" in sequences:
        sides = {"fire": ("corrupted_rejected", "corrupted_chosen"), "fire-v2": ("chosen", "corrupted_rejected")}
        parts["visual_margin"] = margin(*sides.get(name, ("chosen", "corrupted_chosen")))
        parts["visual"] = -logsigmoid(parts["visual_margin"])
        loss = loss + visual_weight * parts["visual"]
    if name == "mdpo":
        parts["anchor"] = -logsigmoid(c["beta"] * (policy["chosen"] - reference["chosen"]))
        loss = loss + parts["anchor"]
    if kl_scope and c["alpha"]:
        mix = 1.0 if name.startswith("rrpo") else c["lambda"]
        forward, reverse = kl_terms(logits["chosen"], sequences["chosen"], kl_scope, c["kl_reduction"])
        loss = loss + c["alpha"] * (mix * forward + (1 - mix) * reverse)
        parts |= {"forward_kl": forward} if mix else {}
        parts |= {"reverse_kl": reverse} if mix < 1 else {}
    return loss, parts


def evaluate(name: str, coefficients: dict, pairs: list[dict]) -> dict:
    """One case: batch loss, per-pair parts and the gradient with respect to every policy logit that receives one."""
    leaves = [{s: tensor(q["logits"]).requires_grad_() for s, q in p["sequences"].items()} for p in pairs]
    results = [pair_loss(name, coefficients, p["sequences"], z) for p, z in zip(pairs, leaves)]
    loss = torch.stack([value for value, _ in results]).mean()
    loss.backward()
    return {
        "objective": name,
        "coefficients": coefficients,
        "loss": loss.item(),
        "per_pair": [report(value, parts) for value, parts in results],
        "grad": [
            {s: rounded(z.grad) if z.grad is not None and z.grad.any() else None for s, z in leaf.items()}
            for leaf in leaves
        ],
    }


def report(loss: torch.Tensor, parts: dict) -> dict:
    """Scalars of one pair. visual and anchor are 0 when not run, the rest null."""
    entry = {"loss": loss.item()}
    for key in ("base", "visual", "anchor", "margin", "visual_margin", "forward_kl", "reverse_kl"):
        missing = 0.0 if key in ("visual", "anchor") else None
        entry[key] = parts[key].item() if key in parts else missing
    for key in ("policy", "reference"):
        sums = parts.get(key, {})
        entry[key] = {s: sums[s].item() if s in sums else None for s in SEQUENCES}
    return entry


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rounded(values: torch.Tensor) -> list[list[float]]:
    """Fourteen significant digits keep the file small and the numbers exact far below any tolerance."""
    return [[float(f"{x:.13e}") for x in row] for row in values.tolist()]


def random_pairs(draw: torch.Generator, scale: float) -> list[dict]:
    """Three pairs of different lengths; the second has no corrupted image, the third a phrase in its first token."""
    masks = (
        ([0, 1, 1, 0, 0, 1, 0], [0, 1, 0, 0, 1, 1, 1, 0]),
        ([0, 0, 1, 0], [0, 0, 1, 1, 0]),
        ([1, 0, 0, 1, 1], [1, 1]),
    )

    def logits(rows: int) -> list[list[float]]:
        return [[round(x, 4) for x in row] for row in (scale * torch.randn(rows, VOCAB, generator=draw)).tolist()]

    pairs = []
    for number, sides in enumerate(masks):
        sequences = {}
        for answer, mask in zip(("chosen", "rejected"), sides):
            targets = torch.randint(VOCAB, (len(mask),), generator=draw).tolist()
            for key in (answer, f"corrupted_{answer}") if number != 1 else (answer,):
                sequences[key] = {
                    "logits": logits(len(mask)),
                    "ref_logits": logits(len(mask)),
                    "targets": targets,
                    "phrase_mask": mask,
                }
        pairs.append({"has_corrupted": number != 1, "sequences": sequences})
    return pairs


def untrained(pairs: list[dict]) -> list[dict]:
    """The same pairs with policy = reference."""
    same = {id(p): {s: q | {"ref_logits": q["logits"]} for s, q in p["sequences"].items()} for p in pairs}
    return [p | {"sequences": same[id(p)]} for p in pairs]


def closed_form_pairs() -> list[dict]:
    def one(logits: list[float], reference: list[float], target: int) -> dict:
        return {"logits": [logits], "ref_logits": [reference], "targets": [target], "phrase_mask": [1]}

    sequences = {
        "chosen": one([1, 0, -1], [0.5, 0, -0.5], 0),
        "rejected": one([0.2, -0.3, 0.1], [0, 0, 0], 2),
        "corrupted_rejected": one([0.3, 0.1, -0.2], [0.1, 0.2, -0.1], 2),
        "corrupted_chosen": one([0.4, -0.4, 0], [0.2, 0, -0.2], 0),
    }
    return [{"has_corrupted": True, "sequences": sequences}]


def build() -> dict:
    draw = torch.Generator().manual_seed(7)
    random = random_pairs(draw, 1.5)
    batches = {
        "random": random,
        "extreme": random_pairs(draw, 150.0),
        "untrained": untrained(random),
        "closed_form": closed_form_pairs(),
    }
    variants = [(name, c) for name in SCOPES for c in (PAPER, LARGE)]
    ablations = ({"alpha": 0.0}, {"lambda": 1.0}, {"lambda": 0.0}, {"gamma": 0.0})
    variants += [("fire", LARGE | change) for change in ablations]
    variants += [(name, LARGE | {"kl_reduction": "mean"}) for name in ("fire", "rrpo", "rrpo-phrase-kl", "fire-v1")]
    cases = [{"batch": "random"} | evaluate(name, c, random) for name, c in variants]
    for batch in ("extreme", "untrained"):
        cases += [{"batch": batch} | evaluate(name, PAPER, batches[batch]) for name in SCOPES]
    closed = []
    for name, (coefficients, loss, gradients) in CLOSED_FORM.items():
        mine = evaluate(name, coefficients, batches["closed_form"])
        worst = max(
            abs(a - b) for s, row in gradients.items() for a, b in zip(row, mine["grad"][0][s][0], strict=True)
        )
        if abs(mine["loss"] - loss) > 1e-12 or worst > 1e-12:
            raise ValueError(f"{name}: closed form differs, loss {mine['loss']} vs {loss}, gradient by {worst}")
        closed.append({
            "batch": "closed_form", "objective": name, "coefficients": coefficients, "loss": loss, "grad": gradients
        })
    start = evaluate("fire", PAPER, batches["untrained"])["loss"]
    assert abs(start - math.log(2) * (1 + PAPER["gamma"] * 2 / 3)) < 1e-12
    return {"vocab": VOCAB, "batches": batches, "cases": cases, "closed_form": closed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = json.dumps(build(), separators=(",", ":")) + "\n"
    if not parser.parse_args().check:
        FILE.write_text(text)
        return 0
    same = json.loads(text) == json.loads(FILE.read_text())
    print("equal" if same else "differs")
    return 0 if same else 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
