"""Adapters across the border to PEFT, both ways; a developer tool like the others here.

    python peft_crossing.py            makes peft/theirs anew, checks peft/ours, writes peft/crossing.json
    python peft_crossing.py --check    writes nothing

`peft/ours/FAMILY` is what fire-train saved (test/engine/peft.test.ts holds it against what the engine saves today). PEFT
loads it onto the transformers model; its log-probabilities must be those of the golden folder.
`peft/theirs/NAME` is what PEFT saved; `logps.safetensors` beside it holds the log-probabilities PEFT gives, which the
engine must give too.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

HERE = Path(__file__).parent
PEFT = HERE / "peft"
SUFFIXES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# Settings in which adapters come from PEFT. A list of suffixes would also reach CLIP's q_proj, k_proj and v_proj.
THEIRS = {
    "qwen_suffixes": ("qwen3_vl", dict(r=4, lora_alpha=8, lora_dropout=0.05, target_modules=SUFFIXES)),
    "qwen_rslora_some": ("qwen3_vl", dict(r=3, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "down_proj"])),
    "llava_excluded": ("llava_qwen2", dict(r=4, lora_alpha=8, target_modules=SUFFIXES, exclude_modules=".*vision_tower.*")),
    "llava_regex": ("llava_qwen2", dict(r=2, lora_alpha=4, target_modules=r".*language_model\.layers\.[13]\..*(v_proj|up_proj)")),
}


def base_model(family: str):
    folder = HERE / family
    if family != "llava_qwen2":
        return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    text = json.loads((folder / "config.json").read_text())
    vision = json.loads((folder / text["mm_vision_tower"] / "config.json").read_text())["vision_config"]
    keys = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
            "rms_norm_eps rope_theta tie_word_embeddings").split()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision),
        text_config=Qwen2Config(**{key: text[key] for key in keys}),
        image_token_index=500,
        vision_feature_layer=text["mm_vision_select_layer"],
        tie_word_embeddings=False,
    )
    config._attn_implementation = "eager"
    model = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager", dtype=torch.float32)
    names = json.loads((folder / "name_map.json").read_text())
    weights = {}
    for shard in sorted(folder.glob("model-*.safetensors")):
        weights |= {names[name]: value for name, value in load_file(shard).items()}
    model.load_state_dict(weights, strict=True)
    return model.eval()


def logps(model, family: str) -> torch.Tensor:
    """[S-1] log-probabilities of item 0, chosen answer, clean image."""
    golden = load_file(HERE / family / "golden.safetensors")
    ids = golden["item0.chosen.input_ids"]
    extra = {}
    if "item0.image_grid_thw" in golden:
        extra["image_grid_thw"] = golden["item0.image_grid_thw"]
        extra["mm_token_type_ids"] = (ids == model.config.image_token_id).int()[None]
    with torch.no_grad():
        logits = model(
            input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], pixel_values=golden["item0.pixel_values"], **extra
        ).logits[0]
    return torch.log_softmax(logits, -1)[:-1].gather(-1, ids[1:, None])[:, 0]


def digest(folder: Path) -> str:
    files = sorted(folder.glob("adapter_*"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def make_theirs(name: str) -> None:
    family, settings = THEIRS[name]
    torch.manual_seed(sum(name.encode()))
    model = get_peft_model(base_model(family), LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_B" in key:
                value.normal_(0, 0.05)
    model.eval()
    model.peft_config["default"].base_model_name_or_path = family  # not where it lay on this machine
    model.save_pretrained(PEFT / "theirs" / name)
    (PEFT / "theirs" / name / "README.md").unlink(missing_ok=True)
    save_file({"logps": logps(model, family)}, PEFT / "theirs" / name / "logps.safetensors")


def main(check: bool) -> None:
    report = {"ours": {}, "theirs": {}}
    for folder in sorted((PEFT / "ours").iterdir()):
        family = folder.name
        model = PeftModel.from_pretrained(base_model(family), str(folder)).eval()
        want = load_file(HERE / family / "golden.safetensors")["item0.chosen.clean.lora_token_logps"]
        difference = (logps(model, family) - want).abs().max().item()
        report["ours"][family] = {"sha256": digest(folder), "largest_difference": difference}
        assert difference < 1e-4, (family, difference)
    for name, (family, _) in THEIRS.items():
        if not check:
            make_theirs(name)
        report["theirs"][name] = {"family": family, "sha256": digest(PEFT / "theirs" / name)}
    print(json.dumps(report, indent=2))
    if not check:
        (PEFT / "crossing.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main("--check" in sys.argv[1:])
