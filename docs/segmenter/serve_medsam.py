#!/usr/bin/env python3
"""
A segmentation service for `fire-train corrupt --segmenter`, around MedSAM3 (SAM3 with a LoRA adapter). One request at a time.

    cd MedSAM3                       # a clone of github.com/Joey-S-Liu/MedSAM3 with its requirements installed
    python serve_medsam.py --config configs/full_lora_config.yaml --weights best_lora_weights.pt
    fire-train corrupt ... --segmenter http://127.0.0.1:8765

What was tested: the contract, with `--stub`, which needs Python alone and sees a rectangle for every prompt. What was NOT:
the MedSAM3 part, written against commit 091c688 of its infer_sam.py by reading it; the base weights (facebook/sam3) are
gated and were not at hand. Look at the contact sheet before you trust a mask.

The service reads images from requests only, never from paths, and listens on this machine unless told otherwise: what it
is sent are images of patients, and it knows no passwords.
"""

import argparse
import base64
import json
import os
import struct
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer

LARGEST_REQUEST = 512 * 2**20
PREFIX = "data:image/png;base64,"


def size_of(png: bytes):
    """(width, height) of a PNG file."""
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 24:
        raise ValueError("image is not a PNG data URL")
    return struct.unpack(">II", png[16:24])


def column_runs(mask, width, height):
    """COCO counts of mask[y][x]: runs down the columns, outside first."""
    counts, current = [0], 0
    for x in range(width):
        for y in range(height):
            value = 1 if mask[y][x] else 0
            if value != current:
                counts.append(0)
                current = value
            counts[-1] += 1
    return counts


def detection(score, box, mask, width, height):
    return {
        "score": float(score),
        "box": [float(v) for v in box],
        "rle": {"size": [height, width], "counts": column_runs(mask, width, height)},
    }


class Stub:
    """The middle third of the image, whatever is asked; nothing for prompts that begin with "no "."""

    name = "stub"

    def detect(self, png, prompt, threshold, nms_iou):
        width, height = size_of(png)
        if prompt.startswith("no "):
            return []
        x0, y0, w, h = width // 3, height // 3, max(1, width // 3), max(1, height // 3)
        mask = [[x0 <= x < x0 + w and y0 <= y < y0 + h for x in range(width)] for y in range(height)]
        return [detection(1.0, [x0, y0, w, h], mask, width, height)]


class MedSam3:
    def __init__(self, config, weights, device):
        sys.path.insert(0, os.getcwd())
        from infer_sam import SAM3LoRAInference  # of the clone in whose folder this runs

        self.model = SAM3LoRAInference(config, weights, device=device)
        self.name = f"medsam3:{os.path.basename(self.model.weights_path)}"

    def detect(self, png, prompt, threshold, nms_iou):
        width, height = size_of(png)
        # The thresholds are attributes that predict() reads on every call.
        self.model.detection_threshold, self.model.nms_iou_threshold = threshold, nms_iou
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            file.write(png)
            file.flush()
            found = self.model.predict(file.name, [prompt])[0]
        if found["num_detections"] == 0 or found["masks"] is None:
            return []
        # Boxes come as corners in pixels, masks as booleans [N, height, width] of the whole image.
        return [
            detection(score, [x0, y0, x1 - x0, y1 - y0], mask, width, height)
            for score, (x0, y0, x1, y1), mask in zip(found["scores"], found["boxes"], found["masks"])
        ]


def answer(backend, request):
    image, prompts = request["image"], request["prompts"]
    threshold, nms_iou = float(request.get("threshold", 0.5)), float(request.get("nms_iou", 0.5))
    if not isinstance(image, str) or not image.startswith(PREFIX):
        raise ValueError("image must be a PNG data URL")
    if not isinstance(prompts, list) or not all(isinstance(p, str) and p for p in prompts):
        raise ValueError("prompts must be a list of texts")
    png = base64.b64decode(image[len(PREFIX) :], validate=True)
    width, height = size_of(png)
    results = [{"prompt": p, "detections": backend.detect(png, p, threshold, nms_iou)} for p in prompts]
    return {"model": backend.name, "width": width, "height": height, "results": results}


def handler(backend):
    class Handler(BaseHTTPRequestHandler):
        def reply(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self):
            length = int(self.headers.get("content-length") or 0)
            if self.path != "/v1/segment":
                return self.reply(404, {"error": "POST /v1/segment"})
            if length > LARGEST_REQUEST:
                return self.reply(413, {"error": "the request is too large"})
            try:
                body = answer(backend, json.loads(self.rfile.read(length)))
            except (ValueError, KeyError, TypeError) as error:
                return self.reply(400, {"error": str(error)})
            except Exception as error:  # out of memory and the like: the client asks again
                return self.reply(500, {"error": str(error)})
            self.reply(200, body)

    return Handler


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="MedSAM3's configuration (YAML)")
    parser.add_argument("--weights", help="LoRA weights")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--stub", action="store_true", help="no model: a rectangle for every prompt")
    options = parser.parse_args()
    if not options.stub and not options.config:
        parser.error("give --config and --weights, or --stub")
    backend = Stub() if options.stub else MedSam3(options.config, options.weights, options.device)
    print(f"{backend.name} at http://{options.host}:{options.port}/v1/segment", flush=True)
    HTTPServer((options.host, options.port), handler(backend)).serve_forever()


if __name__ == "__main__":
    main()
