"""
Writes fixtures/images.json: small image files of every kind, and the RGB that Pillow makes of them. For developers only.

    pip install pillow==12.3.0 numpy imagecodecs
    python test/data/generate_images.py

EXIF orientation is applied, as transformers' load_image does, before convert("RGB").
"""

import base64
import io
import json
import pathlib
import struct
import zlib

import imagecodecs
import numpy as np
import PIL
from PIL import Image, ImageOps

WIDTH, HEIGHT = 21, 13
y, x = np.mgrid[:HEIGHT, :WIDTH]
colour = Image.fromarray(np.stack([x * 12 + 3, y * 19 + 5, (x * y) % 256], -1).astype(np.uint8))
grey = Image.fromarray(((x * 12 + y * 7) % 256).astype(np.uint8))
alpha = colour.copy()
alpha.putalpha(grey)
inks = np.concatenate([np.asarray(colour), (255 - x * 11)[..., None].astype(np.uint8)], -1)

cases: list[dict] = []


def case(name: str, data: bytes) -> None:
    rgb = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    encode = lambda raw: base64.b64encode(raw).decode()  # noqa: E731
    cases.append({"name": name, "file": encode(data), "width": rgb.width, "height": rgb.height, "rgb": encode(rgb.tobytes())})


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_png(bits: int) -> bytes:
    """A grey PNG of 2 or 4 bits, which Pillow reads but does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    levels = ((x + y) % 2**bits).astype(np.uint8)
    binary = np.unpackbits(levels[..., None], axis=-1)[..., 8 - bits :].reshape(HEIGHT, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in binary)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def without_adobe(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xee\x00\x0eAdobe")
    return jpeg[:at] + jpeg[at + 16 :]


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


def main() -> None:
    case("PNG RGB", saved(colour, "PNG"))
    case("PNG RGB with a transparent colour", saved(colour, "PNG", transparency=(3, 5, 0)))
    case("PNG RGBA", saved(alpha, "PNG"))
    case("PNG grey and alpha", saved(alpha.convert("LA"), "PNG"))
    case("PNG grey", saved(grey, "PNG"))
    case("PNG grey of 1 bit", saved(grey.convert("1"), "PNG"))
    case("PNG grey of 2 bits", grey_png(2))
    case("PNG grey of 4 bits", grey_png(4))
    case("PNG palette", saved(colour.quantize(120), "PNG"))
    case("PNG palette of 2 bits", saved(colour.quantize(4), "PNG", bits=2))
    case("PNG palette with transparency", saved(colour.quantize(60), "PNG", transparency=3))
    for subsampling in (0, 1, 2):
        case(f"JPEG, subsampling {subsampling}", saved(colour, "JPEG", quality=85, subsampling=subsampling))
    case("JPEG progressive", saved(colour, "JPEG", progressive=True))
    case("JPEG grey", saved(grey, "JPEG"))
    cmyk = saved(Image.fromarray(inks, "CMYK"), "JPEG", quality=95)
    case("JPEG CMYK of Adobe", cmyk)
    case("JPEG CMYK without a marker", without_adobe(cmyk))
    case("JPEG YCCK", imagecodecs.jpeg8_encode(inks, level=95, colorspace="CMYK", outcolorspace="YCCK"))
    for orientation in range(1, 9):
        case(f"JPEG turned, {orientation}", saved(colour, "JPEG", exif=turned(orientation)))
    case("PNG turned, 6", saved(colour, "PNG", exif=turned(6)))
    case("WebP", saved(colour, "WEBP", quality=80))
    case("WebP with alpha", saved(alpha, "WEBP", lossless=True, exact=True))
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in cases)
    out = pathlib.Path(__file__).parent / "fixtures" / "images.json"
    animated = saved(colour, "WEBP", save_all=True, append_images=[colour.rotate(180)])
    head = {"pillow": PIL.__version__, "animated": base64.b64encode(animated).decode(), "cases": None}
    out.write_text(json.dumps(head)[: -len("null}")] + f"[\n{lines}\n]}}\n")
    print(f"{len(cases)} files, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
