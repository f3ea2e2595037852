"""What the frozen vision features carry: a linear probe on the merger's output.

    python models/phantom/probe.py DATA models/phantom

Logistic regression on the merged features, pooled (mean and maximum) over the left and the right half of the picture,
fitted on corpus studies and tested on the demo's test studies. Prints accuracy per finding, and per side where there is one.
"""
import argparse
from pathlib import Path
import json

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from pretrain import GRID, MERGE, build_model, encode_images, read_images, read_lines, to_patches

FINDINGS = ("cardiomegaly", "effusion", "nodule", "opacity", "fracture", "pacemaker")


def load_model(folder, weights=None):
    model = build_model(json.loads((folder / "config.json").read_text()))
    stored = load_file(str(weights or folder / "model.safetensors"))
    missing = model.load_state_dict({name: value.float() for name, value in stored.items()}, strict=False)
    if missing.unexpected_keys or any("lm_head" not in name for name in missing.missing_keys):
        raise SystemExit(f"the checkpoint does not fit its config: {missing}")
    model.tie_weights()
    return model.eval()


@torch.no_grad()
def pooled_features(model, images):
    """[n, 4 * hidden]: mean and maximum over each half of the picture."""
    side = GRID // MERGE
    out = []
    for start in range(0, len(images), 64):
        merged, _ = encode_images(model.model.visual, to_patches(images[start:start + 64]))
        cells = merged.view(-1, side, side, merged.shape[-1])
        halves = [cells[:, :, : side // 2], cells[:, :, side // 2:]]
        out.append(torch.cat([pool for half in halves for pool in (half.mean((1, 2)), half.amax((1, 2)))], -1))
    return torch.cat(out)


def fit(x, y, decay=1e-3):
    weight = torch.zeros(x.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ weight[1:] + weight[0], y) + decay * weight[1:].square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach()


def facts(records, name):
    return [next((f for f in r["findings"] if f["type"] == name), None) for r in records]


def score(train_x, train_y, test_x, test_y):
    weight = fit(train_x, torch.tensor(train_y, dtype=torch.float))
    right = ((test_x @ weight[1:] + weight[0] > 0) == torch.tensor(test_y)).sum().item()
    return right, len(test_y)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--studies", type=int, default=3000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model, options.weights)
    corpus, test = read_lines(options.data / "corpus.jsonl")[: options.studies], read_lines(options.data / "demo-test.jsonl")
    x = pooled_features(model, read_images(options.data / "images.u8")[: options.studies])
    z = pooled_features(model, read_images(options.data / "demo-test.u8"))
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x, z = (x - mean) / spread, (z - mean) / spread
    for name in FINDINGS:
        seen, unseen = facts(corpus, name), facts(test, name)
        right, total = score(x, [f is not None for f in seen], z, [f is not None for f in unseen])
        line = f"{name:13s} present {right}/{total} = {right / total:.3f}"
        keep, kept = [i for i, f in enumerate(seen) if f and f["side"]], [i for i, f in enumerate(unseen) if f and f["side"]]
        if keep:
            left = lambda found, rows: [found[i]["side"] == "left" for i in rows]
            right, total = score(x[keep], left(seen, keep), z[kept], left(unseen, kept))
            line += f"   left {right}/{total} = {right / total:.3f}"
        print(line)


if __name__ == "__main__":
    main()
