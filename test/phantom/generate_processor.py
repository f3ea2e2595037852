"""
Writes processor.json: what transformers' AutoProcessor makes of chats with the bundled model. For developers only.

    pip install torch==2.13.0 torchvision==0.28.0 transformers==5.18.0 pillow==12.3.0
    python test/phantom/generate_processor.py models/phantom

Pixel values are kept as the SHA-256 of their float32 bytes. Pictures have the size of the world's, so none is resampled.
"""

import hashlib
import json
import pathlib
import sys

import numpy as np
from PIL import Image
from transformers import AutoProcessor

SIZE = 96


def picture(seed):
    """Grey levels that `processor.test.ts` makes again: (7 x + 13 y + seed x y) mod 256."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    grey = ((7 * x + 13 * y + seed * x * y) % 256).astype(np.uint8)
    return Image.fromarray(np.stack([grey] * 3, -1))


def chat(seeds, question):
    images = [{"type": "image", "image": picture(seed)} for seed in seeds]
    return [{"role": "user", "content": [*images, {"type": "text", "text": question}]}]


def main():
    processor = AutoProcessor.from_pretrained(sys.argv[1])
    cases = []
    for seeds, question in [
        ([1], "Is there a nodule?"),
        ([2, 5], "Which of the two shows an effusion,\n the first or the second?"),
        ([], "  What is a fracture?  "),
    ]:
        made = processor.apply_chat_template(
            chat(seeds, question), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="np"
        )
        pixels = made.get("pixel_values")
        cases.append({
            "seeds": seeds,
            "question": question,
            "ids": np.asarray(made["input_ids"]).ravel().tolist(),
            "pixelsSha256": None if pixels is None else hashlib.sha256(np.asarray(pixels, "<f4").tobytes()).hexdigest(),
        })
    lines = ",\n  ".join(json.dumps(case) for case in cases)
    pathlib.Path(__file__).with_name("processor.json").write_text(f"[\n  {lines}\n]\n")


main()
