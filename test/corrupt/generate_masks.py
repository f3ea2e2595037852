"""
Writes fixtures/masks.json: one shape in every form of mask, written by the libraries that people write masks with. For
developers only.

    pip install pycocotools nibabel==5.0.0 pydicom==3.0.2 numpy pillow
    python test/corrupt/generate_masks.py

(The committed file was made with COCO's maskApi.c itself behind pycocotools' functions.)

The shape is an F with a block beside it, in 13 x 9 pixels: no flip, no rotation and no exchange of axes gives it back, and
117 bits end inside a byte. Where a NIfTI volume lies in the room is checked here with nibabel's as_closest_canonical.
"""

import base64
import gzip
import io
import json
import pathlib

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pycocotools import mask as coco
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

SHAPE = """
.............
..######.....
..######.....
..##.........
..####...###.
..####...###.
..##.........
..##.........
.............
""".split()
MASK = np.array([[c == "#" for c in row] for row in SHAPE], np.uint8)
ROWS, COLUMNS = MASK.shape
OTHER = np.zeros_like(MASK)
OTHER[6:9, 8:13] = 1


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(array, mode=None, palette=None) -> str:
    image = Image.fromarray(array) if mode is None else Image.fromarray(array, mode)
    if palette:
        image.putpalette(palette)
    out = io.BytesIO()
    image.save(out, "PNG")
    return text(out.getvalue())


def runs(encoded) -> list[int]:
    flat = coco.decode(encoded).flatten(order="F")
    counts, current = [0], 0
    for value in flat:
        if value != current:
            counts.append(0)
            current = value
        counts[-1] += 1
    return counts


def pictures():
    colour = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    colour[MASK == 1] = (0, 0, 200)
    overlay = np.full((ROWS, COLUMNS, 4), 90, np.uint8)
    overlay[..., 3] = MASK * 128
    ids = MASK * 70 + OTHER * 135
    ys, xs = np.nonzero(MASK)
    cut = MASK[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    jpeg = io.BytesIO()
    Image.fromarray(MASK * 255).save(jpeg, "JPEG", quality=95)
    return {
        "0/255": {"file": png(MASK * 255)},
        "0/1": {"file": png(MASK)},
        "1 bit": {"file": (lambda o: (Image.fromarray(MASK * 255).convert("1").save(o, "PNG"), text(o.getvalue()))[1])(io.BytesIO())},
        "16 bit": {"file": png(MASK.astype(np.uint16) * 40000)},
        "colour on black": {"file": png(colour)},
        "transparent overlay": {"file": png(overlay)},
        "class ids": {"file": png(ids), "with": {"value": 70}},
        "16 bit class ids": {"file": png(ids.astype(np.uint16) * 10), "with": {"value": [700]}},
        "cut-out": {"file": png(cut * 255), "with": {"offset": [int(xs.min()), int(ys.min())]}},
        "JPEG with threshold": {"file": text(jpeg.getvalue()), "with": {"threshold": 128}},
        "refused: JPEG": {"file": text(jpeg.getvalue())},
        "refused: palette ids": {"file": png(MASK, "P", [0, 0, 0, 255, 0, 0]), "with": {"value": 1}},
    }


def displayed(image: nib.Nifti1Image, plane: str, at: int) -> np.ndarray:
    """The picture [row, column] a radiologist sees, from the volume turned to right-anterior-superior."""
    if image.ndim == 2:
        image = nib.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine)
    ras = np.asarray(nib.as_closest_canonical(image).dataobj)
    if plane == "axial":
        return ras[::-1, ::-1, at].T
    if plane == "coronal":
        return ras[::-1, at, ::-1].T
    return ras[at, ::-1, ::-1].T


def niftis():
    cases = {}

    def add(name, image, plane="axial", at=0, options=None, compress=False, value=None):
        seen = displayed(image, plane, at)
        seen = (seen == value) if value else (seen != 0)
        assert (seen == MASK).all(), name
        data = image.to_bytes()
        cases[name] = {"file": text(gzip.compress(data, mtime=0) if compress else data), "with": options or {}}

    xy = MASK.T  # [x, y]
    add("as ITK writes a picture", nib.Nifti1Image(xy[..., None], np.diag([-1, -1, 1, 1])))
    add("two dimensions, compressed", nib.Nifti1Image(xy, np.diag([-0.5, -0.7, 1, 1])), compress=True)
    add("right and anterior upwards", nib.Nifti1Image(xy[::-1, ::-1, None].copy(), np.diag([0.7, 0.7, 2, 1])))
    swapped = np.array([[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    add("axes exchanged", nib.Nifti1Image(MASK[..., None], swapped))
    tilted = np.diag([-1.0, -1, 1, 1])
    angle = np.deg2rad(20)
    tilted[:2, :2] = [[-np.cos(angle), np.sin(angle)], [-np.sin(angle), -np.cos(angle)]]
    add("oblique", nib.Nifti1Image(xy[..., None], tilted))

    volume = np.zeros((COLUMNS, ROWS, 4), np.int16)
    volume[..., 2], volume[..., 0] = xy, 1
    add("slice of a volume", nib.Nifti1Image(volume, np.diag([-1, -1, 3, 1])), at=2, options={"slice": 2})
    labels = np.zeros((COLUMNS, ROWS, 4), np.float32)
    labels[..., 1] = 3 * xy + 5 * OTHER.T
    add("label ids", nib.Nifti1Image(labels, np.diag([-1, -1, 3, 1])), at=1, options={"slice": 1, "value": 3}, value=3)
    coronal = np.zeros((COLUMNS, 3, ROWS), np.uint8)
    coronal[:, 1, :] = xy[:, ::-1]  # superior upwards
    add("coronal", nib.Nifti1Image(coronal, np.diag([-1, 1, 1, 1])), "coronal", 1, {"axis": "j", "slice": 1})
    sagittal = np.zeros((3, COLUMNS, ROWS), np.uint8)
    sagittal[2] = xy[::-1, ::-1]  # anterior and superior upwards
    add("sagittal", nib.Nifti1Image(sagittal, np.diag([1, 1, 1.5, 1])), "sagittal", 2, {"axis": "i", "slice": 2})

    big = nib.Nifti1Image(volume, np.diag([-1, -1, 3, 1]))
    swapped_header = nib.Nifti1Image(volume, np.diag([-1, -1, 3, 1]), big.header.as_byteswapped(">"))
    add("big endian", swapped_header, at=2, options={"slice": 2})
    add("NIfTI-2", nib.Nifti2Image(volume, np.diag([-1, -1, 3, 1])), at=2, options={"slice": 2}, compress=True)
    qform = nib.Nifti1Image(xy[::-1, :, None].copy(), None)
    qform.set_qform(np.diag([1, -1, 1, 1]), 1)
    qform.set_sform(None, 0)
    add("qform alone", qform)
    both = nib.Nifti1Image(xy[..., None], np.diag([-1, -1, 1, 1]))
    both.set_sform(np.diag([-1, -1, 1, 1]), 1)
    both.set_qform(np.diag([1, -1, -1, 1]), 4)
    add("sform before a qform of a higher code", both)

    plain = nib.Nifti1Image(MASK, np.eye(4))
    cases["numpy array as saved"] = {"file": text(plain.to_bytes()), "with": {"orientation": "numpy"}}
    cases["voxels as they are"] = {"file": text(nib.Nifti1Image(xy, np.eye(4)).to_bytes()), "with": {"orientation": "voxel"}}
    cases["refused: identity affine"] = {"file": text(plain.to_bytes())}
    cases["refused: no slice"] = {"file": text(big.to_bytes())}
    cases["refused: no such slice"] = {"file": text(big.to_bytes()), "with": {"slice": 4}}
    return cases


SOURCE = "1.2.826.0.1.3680043.8.498.1"
STRAIGHT = [1, 0, 0, 0, 1, 0]


def dicom(name: str, **attributes) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPInstanceUID = f"{SOURCE}.{name}"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    ds.PixelRepresentation = 0
    for key, value in attributes.items():
        setattr(ds, key, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def saved(ds: Dataset) -> str:
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return text(out.getvalue())


def item(**attributes) -> Dataset:
    ds = Dataset()
    for key, value in attributes.items():
        setattr(ds, key, value)
    return ds


def segmentation(kind: str, frames, bits: int, orientation=STRAIGHT, **more) -> str:
    """frames: (pixels, segment, instance of the image or None)."""
    groups = []
    for _, segment, instance in frames:
        group = item(SegmentIdentificationSequence=Sequence([item(ReferencedSegmentNumber=segment)]))
        if instance:
            source = item(ReferencedSOPClassUID=UID("1.2.840.10008.5.1.4.1.1.2"), ReferencedSOPInstanceUID=f"{SOURCE}.{instance}")
            group.DerivationImageSequence = Sequence([item(SourceImageSequence=Sequence([source]))])
        groups.append(group)
    pixels = np.stack([frame for frame, _, _ in frames])
    segments = [item(SegmentNumber=1, SegmentLabel="Nodule"), item(SegmentNumber=2, SegmentLabel="Lung")]
    plane = item(ImageOrientationPatient=orientation)
    ds = dicom(
        "99",
        SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.66.4"),
        Modality="SEG",
        NumberOfFrames=len(frames),
        SegmentationType=kind,
        SegmentSequence=Sequence(segments),
        SharedFunctionalGroupsSequence=Sequence([item(PlaneOrientationSequence=Sequence([plane]))]),
        PerFrameFunctionalGroupsSequence=Sequence(groups),
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        **more,
    )
    ds.PixelData = pack_bits(pixels) if bits == 1 else pixels.astype(np.uint8).tobytes() + b"\0" * (pixels.size % 2)
    return saved(ds)


def segmentations():
    source = dicom(
        "1", SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.2"), BitsAllocated=8, BitsStored=8, HighBit=7,
        ImageOrientationPatient=STRAIGHT, WindowCenter="128", WindowWidth="256",
    )
    source.PixelData = (np.arange(ROWS * COLUMNS) % 200).astype(np.uint8).tobytes() + b"\0"
    blank = np.zeros_like(MASK)
    frames = [(OTHER, 1, "2"), (OTHER, 2, "1"), (MASK, 1, "1"), (blank, 2, "2")]
    binary = segmentation("BINARY", frames, 1)
    unreferenced = segmentation("BINARY", [(pixels, segment, None) for pixels, segment, _ in frames], 1)
    fraction = [(MASK * 200 + OTHER * 90, 1, "1"), (OTHER * 255, 2, "1")]
    alone = [(MASK * 200 + OTHER * 90, 1, None), (OTHER * 255, 2, None)]
    return {
        "source": saved(source),
        "cases": {
            "bits, by number": {"file": binary, "with": {"segment": 1}, "source": True},
            "bits, by label": {"file": binary, "with": {"segment": "nodule"}, "source": True},
            "bits, by frame": {"file": unreferenced, "with": {"segment": 1, "frame": 3}},
            "fractional": {"file": segmentation("FRACTIONAL", fraction, 8, MaximumFractionalValue=255), "with": {"segment": 1}, "source": True},
            "fractional, one frame a segment": {"file": segmentation("FRACTIONAL", alone, 8, MaximumFractionalValue=255), "with": {"segment": 1}},
            "label map": {"file": segmentation("LABELMAP", [(MASK + 2 * OTHER, 1, "1")], 8), "with": {"segment": 1}, "source": True},
            "refused: no segment": {"file": binary, "source": True},
            "refused: no frame": {"file": binary, "with": {"segment": 1}},
            "refused: another plane": {"file": segmentation("BINARY", frames, 1, [-1, 0, 0, 0, 1, 0]), "with": {"segment": 1}, "source": True},
        },
    }


def main():
    encoded = coco.encode(np.asfortranarray(MASK))
    slanted = [3.2, 1.1, 38.7, 7.9, 30.4, 27.6, 17.5, 15.2, 5.8, 28.3]
    filled = coco.frPyObjects([slanted], 30, 40)[0]
    fixture = {
        "shape": SHAPE,
        "rle": {"size": [ROWS, COLUMNS], "counts": runs(encoded)},
        "rleString": {"size": [ROWS, COLUMNS], "counts": encoded["counts"].decode()},
        "long": {"size": [900, 700], "counts": coco.encode(np.asfortranarray(np.pad(MASK, ((700, 191), (300, 387)))))["counts"].decode()},
        "polygons": [
            [2, 1, 8, 1, 8, 3, 4, 3, 4, 4, 6, 4, 6, 6, 4, 6, 4, 8, 2, 8],
            [9, 4, 12, 4, 12, 6, 9, 6],
        ],
        "boxes": [[2, 1, 2, 7], [2, 1, 6, 2], [4, 4, 2, 2], [9, 4, 3, 2]],
        "slanted": {"polygon": slanted, "rle": {"size": [30, 40], "counts": filled["counts"].decode()}},
        "pictures": pictures(),
        "niftis": niftis(),
        "segmentations": segmentations(),
    }
    for polygon_mask in [coco.frPyObjects(fixture["polygons"], ROWS, COLUMNS)]:
        union = np.maximum(*[coco.decode(part) for part in polygon_mask])
        print("COCO fills the integer polygons to the shape:", bool((union == MASK).all()))
    path = pathlib.Path(__file__).parent / "fixtures" / "masks.json"
    path.write_text(json.dumps(fixture, indent=1) + "\n")


main()
