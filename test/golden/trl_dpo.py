"""Writes trl-dpo.json: four steps of TRL's own DPOTrainer on the bundled model.

    npm run build && python trl_dpo.py

The pairs (eight about four images) and the adapter are those of `bench step --objective dpo --images 4`, made by
src/bench/bundled.ts from a seed. The file holds their tokens and checksums, and what bench/peer/trl_step.py printed of each
step before its update. Needs torch, transformers, peft, trl and pillow in the versions of requirements.txt, and node.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
INPUTS = {"pairs": 8, "images": 4, "seed": 0}
STEPS, BETA, LR = 4, 0.1, 1e-3
NUMBERS = ("loss", "grad_norm", "logps/chosen", "logps/rejected", "rewards/margins")

MAKE_INPUTS = """
import { writeBundledAdapter, writeBundledPairs } from './dist/bench/bundled.js'
const [folder, pairs, images, seed] = process.argv.slice(1)
await writeBundledAdapter(folder, Number(seed))
await writeBundledPairs(folder, Number(pairs), Number(images), Number(seed))
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_inputs(folder: Path) -> dict:
    """Writes them, and says what they are."""
    values = [str(value) for value in INPUTS.values()]
    subprocess.run(["node", "--input-type=module", "-e", MAKE_INPUTS, str(folder), *values], cwd=ROOT, check=True)
    stored = load_file(folder / "pairs.safetensors")
    parts = ("prompt", "chosen", "rejected", "images")
    return {
        "adapter": sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()),
        "images": [sha256(stored[f"image{i}.rgb"].tobytes()) for i in range(INPUTS["images"])],
        "pairs": [{part: stored[f"pair{k}.{part}"].tolist() for part in parts} for k in range(INPUTS["pairs"])],
    }


def take_steps(folder: Path) -> list[dict]:
    flags = {
        "model": ROOT / "models" / "phantom",
        "adapter": folder / "adapter",
        "pairs": folder / "pairs.safetensors",
        "texts": folder / "texts.json",
        "steps": STEPS,
        "beta": BETA,
        "lr": LR,
    }
    named = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(ROOT / "bench" / "peer" / "trl_step.py"), *named]
    done = subprocess.run(command, input="step\n" * STEPS, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return [{name: message[name] for name in NUMBERS} for message in messages if "step" in message]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        inputs = make_inputs(Path(name))
        steps = take_steps(Path(name))
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "trl")}
    fixture = {"versions": versions, "made_from": INPUTS, "beta": BETA, "lr": LR, "inputs": inputs, "steps": steps}
    Path(__file__).with_name("trl-dpo.json").write_text(json.dumps(fixture) + "\n")


if __name__ == "__main__":
    main()
