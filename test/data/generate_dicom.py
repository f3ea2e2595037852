"""
Writes fixtures/dicom.json: small DICOM files, and the 8-bit RGB that pydicom makes of them. For developers only.

    pip install pydicom==3.0.2 numpy pillow imagecodecs
    python test/data/generate_dicom.py

Modality, window, palette and colour conversion are pydicom's own functions; the windows' output range is mapped to
0..255 and rounded. Compressed streams are encoded by imagecodecs, and lossy ones decoded by it for the reference.
"""

import base64
import io
import json
import pathlib

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

ROWS, COLUMNS = 10, 12
rng = np.random.RandomState(7)


def ramp(low: int, high: int, dtype) -> np.ndarray:
    """Smooth with some noise, from the lowest to the highest value."""
    values = np.linspace(low, high, ROWS * COLUMNS) + rng.randint(-3, 4, ROWS * COLUMNS)
    values[0], values[-1] = low, high
    return np.clip(values, low, high).astype(dtype).reshape(ROWS, COLUMNS)


def colours() -> np.ndarray:
    y, x = np.mgrid[:ROWS, :COLUMNS]
    return np.stack([x * 20 + 5, y * 24 + 3, (x + y) * 11], -1).astype(np.uint8)


def dataset(pixels: np.ndarray, syntax: UID, **fields) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3.4"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    ds.PhotometricInterpretation = "RGB" if ds.SamplesPerPixel == 3 else "MONOCHROME2"
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in fields.items():
        setattr(ds, name, value)
    ds.HighBit = fields.get("HighBit", ds.BitsStored - 1)
    data = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes() if syntax == ExplicitVRBigEndian else pixels.tobytes()
    ds.PixelData = data
    ds["PixelData"].VR = "OW" if ds.BitsAllocated == 16 else "OB"
    return ds


def compressed(pixels: np.ndarray, syntax: UID, stream: bytes, **fields) -> Dataset:
    ds = dataset(pixels, syntax, **fields)
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    return ds


def to_grey(ds: Dataset, stored: np.ndarray) -> np.ndarray:
    """What pydicom shows, on 0..255."""
    values = apply_modality_lut(stored, ds).astype(np.float64)
    if "WindowWidth" in ds or "VOILUTSequence" in ds:
        shown = apply_voi_lut(values if "WindowWidth" in ds else values.astype(np.int32), ds, prefer_lut=False)
        if "WindowWidth" in ds:
            low, high = window_range(ds)
        else:
            low, high = 0, 2 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    else:
        shown, low, high = values, values.min(), values.max()
    grey = np.floor((shown.astype(np.float64) - low) / (high - low) * 255 + 0.5).astype(np.uint8)
    return np.repeat((255 - grey if ds.PhotometricInterpretation == "MONOCHROME1" else grey)[..., None], 3, -1)


def window_range(ds: Dataset) -> tuple[float, float]:
    """pydicom's apply_windowing spans the range of the stored type, rescaled."""
    low, high = (-(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1) - 1) if ds.PixelRepresentation else (0, 2**ds.BitsStored - 1)
    if "ModalityLUTSequence" in ds:
        return 0, 2 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def lut_item(first: int, values: np.ndarray, bits: int) -> Sequence:
    item = Dataset()
    item.add_new(0x00283002, "US", [len(values), first, bits])
    item.add_new(0x00283006, "US", [int(v) for v in values])
    return Sequence([item])


cases: list[dict] = []


def case(name: str, ds: Dataset, rgb: np.ndarray, tolerance: int = 0, frame: int | None = None) -> None:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    reference = base64.b64encode(np.ascontiguousarray(rgb, dtype=np.uint8).tobytes()).decode()
    cases.append({"name": name, "file": encoded, "rgb": reference, "tolerance": tolerance, **({"frame": frame} if frame else {})})


def greys() -> None:
    ct = dict(BitsStored=12, RescaleSlope="1", RescaleIntercept="-1024", WindowCenter=["40", "-600"], WindowWidth=["400", "1500"])
    values = ramp(0, 4095, np.uint16)
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        ds = dataset(values, syntax, **ct)
        case(f"CT window, {syntax.name}", ds, to_grey(ds, values))
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        ds = dataset(values, ExplicitVRLittleEndian, **ct, VOILUTFunction=function)
        case(f"window {function}", ds, to_grey(ds, values))
    ds = dataset(values, ExplicitVRLittleEndian, **{**ct, "WindowWidth": "1", "WindowCenter": "100"})
    case("window of width 1", ds, np.where(values[..., None].astype(int) - 1024 > 99.5, 255, 0) * np.ones(3))
    ds = dataset(values, ExplicitVRLittleEndian, BitsStored=12)
    case("minimum to maximum without a window", ds, to_grey(ds, values))
    ds = dataset(values, ExplicitVRLittleEndian, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    case("MONOCHROME1", ds, to_grey(ds, values))
    ds = dataset(values, ExplicitVRLittleEndian, **ct, PhotometricInterpretation="MONOCHROME1")
    case("MONOCHROME1 with a window", ds, to_grey(ds, values))
    signed = ramp(-900, 1200, np.int16)
    ds = dataset(signed, ExplicitVRLittleEndian, WindowCenter="40.5", WindowWidth="350", RescaleSlope="0.5", RescaleIntercept="3")
    case("signed 16 bits", ds, to_grey(ds, signed))
    masked = (signed.astype(np.int32) & 0xFFF) | 0x5000
    ds = dataset(masked.astype(np.uint16), ExplicitVRLittleEndian, BitsStored=12, PixelRepresentation=1)
    case("signed 12 of 16 bits, unused bits set", ds, to_grey(ds, signed))
    shifted = (values.astype(np.uint32) << 4).astype(np.uint16) | 9
    ds = dataset(shifted, ExplicitVRLittleEndian, BitsStored=12, HighBit=15)
    case("12 bits below bit 15", ds, to_grey(ds, values))
    bytes8 = ramp(0, 255, np.uint8)
    ds = dataset(bytes8, ExplicitVRLittleEndian, WindowCenter="128", WindowWidth="256")
    case("8 bits", ds, to_grey(ds, bytes8))
    ds = dataset(bytes8, ExplicitVRBigEndian)
    ds.PixelData = bytes8.view(np.uint16).byteswap().tobytes()
    ds["PixelData"].VR = "OW"
    case("8 bits in big-endian words", ds, to_grey(ds, bytes8))
    small = ramp(10, 200, np.uint8)
    ds = dataset(small, ExplicitVRLittleEndian)
    ds.ModalityLUTSequence = lut_item(20, np.linspace(100, 60000, 150).astype(np.uint16), 16)
    ds.ModalityLUTSequence[0].ModalityLUTType = "US"
    ds.WindowCenter, ds.WindowWidth = "30000", "40000"
    case("modality LUT", ds, to_grey(ds, small))
    ds = dataset(signed, ImplicitVRLittleEndian)
    ds.VOILUTSequence = lut_item(-500 & 0xFFFF, (np.linspace(0, 1, 1000) ** 2 * 255).astype(np.uint16), 8)
    expected = np.asarray(ds.VOILUTSequence[0].LUTData)[np.clip(signed.astype(int) + 500, 0, 999)]
    case("VOI LUT from -500, implicit", ds, np.repeat(expected[..., None], 3, -1))
    ds = dataset(small, ExplicitVRLittleEndian)
    ds.VOILUTSequence = lut_item(30, (np.linspace(0, 1, 120) ** 2 * 4095).astype(np.uint16), 12)
    case("VOI LUT", ds, to_grey(ds, small))


def frames() -> None:
    stack = np.stack([ramp(0, 255, np.uint8), ramp(40, 90, np.uint8), ramp(100, 101, np.uint8)])
    ds = dataset(stack[..., :], ExplicitVRLittleEndian, NumberOfFrames="3")
    for frame in (1, 2, 3):
        case(f"frame {frame} of 3", ds, to_grey(ds, stack[frame - 1]), frame=frame)
    ds = dataset(stack, RLELossless, NumberOfFrames="3")
    ds.PixelData = encapsulate([bytes(pydicom.pixels.encoders.RLELosslessEncoder.encode(f.tobytes(), rows=ROWS, columns=COLUMNS, samples_per_pixel=1, bits_allocated=8, bits_stored=8, pixel_representation=0, photometric_interpretation="MONOCHROME2", number_of_frames=1)) for f in stack])
    ds["PixelData"].is_undefined_length = True
    case("frame 2 of 3, RLE", ds, to_grey(ds, stack[1]), frame=2)
    ds = dataset(stack, ExplicitVRLittleEndian, NumberOfFrames="3", BitsStored=8)
    shared, groups = Dataset(), [Dataset() for _ in range(3)]
    rescale, slope = Dataset(), Dataset()
    slope.RescaleSlope, slope.RescaleIntercept, slope.RescaleType = "2", "-10", "US"
    shared.PixelValueTransformationSequence = Sequence([slope])
    for index, group in enumerate(groups):
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = str(100 + 20 * index), "150"
        group.FrameVOILUTSequence = Sequence([voi])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    plain = dataset(stack[1], ExplicitVRLittleEndian, RescaleSlope="2", RescaleIntercept="-10", WindowCenter="120", WindowWidth="150")
    case("windows of functional groups", ds, to_grey(plain, stack[1]), frame=2)


def colour() -> None:
    rgb = colours()
    case("RGB", dataset(rgb, ExplicitVRLittleEndian), rgb)
    case("RGB planes", dataset(np.ascontiguousarray(rgb.transpose(2, 0, 1)), ExplicitVRLittleEndian, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=1), rgb)
    deep = rgb.astype(np.uint16) * 257
    case("RGB of 16 bits", dataset(deep, ExplicitVRLittleEndian), rgb)
    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    case("YBR_FULL", dataset(ybr, ExplicitVRLittleEndian, PhotometricInterpretation="YBR_FULL"), convert_color_space(ybr, "YBR_FULL", "RGB"))
    half = ybr.copy()
    half[:, 1::2, 1:] = half[:, ::2, 1:]
    packed = np.stack([half[:, ::2, 0], half[:, 1::2, 0], half[:, ::2, 1], half[:, ::2, 2]], -1)
    ds = dataset(packed, ExplicitVRLittleEndian, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422", PlanarConfiguration=0)
    case("YBR_FULL_422", ds, convert_color_space(half, "YBR_FULL", "RGB"))
    index = ramp(0, 255, np.uint8)
    ds = dataset(index, ExplicitVRLittleEndian, PhotometricInterpretation="PALETTE COLOR")
    for shift, (name, code) in enumerate((("Red", 1), ("Green", 2), ("Blue", 3))):
        table = np.roll(np.arange(200, dtype=np.uint16) * 327, 40 * shift)
        ds.add_new(0x00281100 + code, "US", [200, 20, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", table.tobytes())
    shown = apply_color_lut(index, ds)
    case("PALETTE COLOR", ds, np.rint(shown / 257.0))


def streams() -> None:
    rgb = colours()
    deep = ramp(0, 4095, np.uint16)
    small = ramp(0, 255, np.uint8)
    signed = ramp(-900, 1200, np.int16)
    twelve = dict(BitsStored=12, WindowCenter="2000", WindowWidth="3000")
    # A lossy stream of 16 bits may leave the 12 bits it came from.
    lossy = dict(WindowCenter="2000", WindowWidth="3000")
    encoder = pydicom.pixels.encoders.RLELosslessEncoder
    for name, pixels, fields in (("16 bits", deep, twelve), ("signed", signed, {}), ("RGB", rgb, {})):
        ds = dataset(pixels, ExplicitVRLittleEndian, **fields)
        ds.compress(RLELossless, encoding_plugin="pydicom")
        case(f"RLE, {name}", ds, pixels if name == "RGB" else to_grey(ds, pixels))
    for syntax in (JPEGLossless, JPEGLosslessSV1):
        for name, pixels, fields in (("12 bits", deep, twelve), ("8 bits", small, {}), ("RGB", rgb, {})):
            bits = 12 if name == "12 bits" else 8
            stream = imagecodecs.jpeg_encode(pixels, lossless=True, predictor=1, bitspersample=bits, colorspace="RGB" if name == "RGB" else None)
            ds = compressed(pixels, syntax, stream, **fields)
            case(f"{syntax.name}, {name}", ds, pixels if name == "RGB" else to_grey(ds, pixels))
    for syntax, level in ((JPEGLSLossless, 0), (JPEGLSNearLossless, 2)):
        for name, pixels, fields in (("16 bits", deep, lossy if level else twelve), ("8 bits", small, {}), ("RGB", rgb, {})):
            stream = imagecodecs.jpegls_encode(pixels, level=level)
            ds = compressed(pixels, syntax, stream, **fields)
            stored = imagecodecs.jpegls_decode(stream)
            case(f"{syntax.name}, {name}", ds, stored if name == "RGB" else to_grey(ds, stored))
    for syntax, options in ((JPEG2000Lossless, dict(reversible=True, level=0)), (JPEG2000, dict(level=38))):
        for name, pixels, fields in (("16 bits", deep, lossy if syntax == JPEG2000 else twelve), ("signed", signed, {}), ("8 bits", small, {}), ("RGB", rgb, dict(PhotometricInterpretation="YBR_RCT"))):
            stream = imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", resolutions=3, **options)
            ds = compressed(pixels, syntax, stream, **fields)
            stored = imagecodecs.jpeg2k_decode(stream)
            case(f"{syntax.name}, {name}", ds, stored if name == "RGB" else to_grey(ds, stored))
    # libjpeg-turbo on both sides, but built by others: the last bit of the inverse DCT may differ.
    stream = imagecodecs.jpeg8_encode(small, level=90)
    ds = compressed(small, JPEGBaseline8Bit, stream, WindowCenter="128", WindowWidth="256")
    case("JPEG Baseline, 8 bits", ds, to_grey(ds, imagecodecs.jpeg8_decode(stream)), 1)
    for name, space in (("RGB", "RGB"), ("YBR_FULL_422", "YCBCR")):
        stream = imagecodecs.jpeg8_encode(rgb, level=90, colorspace="RGB", outcolorspace=space, subsampling="444")
        ds = compressed(rgb, JPEGBaseline8Bit, stream, PhotometricInterpretation=name)
        case(f"JPEG Baseline, {name}", ds, imagecodecs.jpeg8_decode(stream, outcolorspace="RGB"), 1)
        bare = without_markers(stream)
        ds = compressed(rgb, JPEGBaseline8Bit, bare, PhotometricInterpretation=name)
        case(f"JPEG Baseline, {name}, no APP marker", ds, imagecodecs.jpeg8_decode(stream, outcolorspace="RGB"), 1)
    stream = imagecodecs.jpeg_encode(deep, level=90, bitspersample=12)
    case("refused: JPEG Extended, 12 bits", compressed(deep, JPEGExtended12Bit, stream, BitsStored=12), np.zeros((ROWS, COLUMNS, 3)))


def without_markers(stream: bytes) -> bytes:
    """Drops APP segments, so that only the photometric interpretation tells the colour space."""
    at, kept = 2, stream[:2]
    while stream[at + 1] != 0xDA:
        length = 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if not 0xE0 <= stream[at + 1] <= 0xEF:
            kept += stream[at : at + length]
        at += length
    return kept + stream[at:]


def main() -> None:
    greys()
    frames()
    colour()
    streams()
    head = {"pydicom": pydicom.__version__, "imagecodecs": imagecodecs.__version__, "width": COLUMNS, "height": ROWS}
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in cases)
    out = pathlib.Path(__file__).parent / "fixtures" / "dicom.json"
    out.write_text(json.dumps({**head, "cases": None})[: -len("null}")] + f"[\n{lines}\n]}}\n")
    print(f"{len(cases)} files, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
