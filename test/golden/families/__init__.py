"""The families of checkpoints that golden folders exist for, by the model_type of their config.json."""

import json
from pathlib import Path

from families.base import Family
from families.llava import Llava
from families.llava_qwen2 import LlavaQwen2
from families.qwen2_5_vl import Qwen25VL
from families.qwen3_vl import Qwen3VL

FAMILIES: dict[str, Family] = {family.name: family for family in (Qwen3VL(), Qwen25VL(), Llava(), LlavaQwen2())}


def family_of(folder: Path) -> Family:
    return FAMILIES[json.loads((folder / "config.json").read_text())["model_type"]]
