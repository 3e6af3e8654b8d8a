"""Pictures of every mode and damage: shown as they are, or refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.data import DatasetCorrupted, files

GREY = np.arange(0, 252, dtype=np.uint8).reshape(14, 18)
RGB = np.dstack([GREY, GREY // 2, 255 - GREY])


def encoded(pixels, form="PNG", **options):
    """A file of an array or an image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file := io.BytesIO(), form, **options)
    return file.getvalue()


def written(folder, content):
    file = folder / "x.jpg"
    file.write_bytes(content)
    return file


def deep_png():
    """Colours of 16 bits, which Pillow reads but does not write."""

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", 18, 14, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in RGB)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


def with_alpha(pixels, lowest):
    alpha = np.full_like(GREY, 255)
    alpha[3, 3] = lowest
    return np.dstack([pixels, alpha])


def palette(**options):
    return encoded(Image.fromarray(GREY).convert("P"), **options)


@pytest.mark.parametrize(("content", "shown"), [
    (encoded(RGB), RGB),
    (encoded(GREY), GREY),
    (encoded(GREY > 100), (GREY > 100) * np.uint8(255)),
    (palette(), GREY),
    (palette(transparency=bytes([255] * 256)), GREY),
    (encoded(with_alpha(RGB, 255)), RGB),
    (encoded(with_alpha(GREY, 255)), GREY),
    (encoded(RGB, transparency=(1, 2, 3)), RGB),  # a colour that no pixel has
    (encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=100), RGB),
    (encoded(Image.fromarray(RGB), "MPO", save_all=True, quality=100, subsampling=0,
             append_images=[Image.fromarray(GREY)]), RGB),
])  # fmt: skip
def test_modes_of_images_that_are_read(tmp_path, content, shown):
    file = written(tmp_path, content)
    colours = shown if shown.ndim == 3 else np.dstack([shown] * 3)
    assert np.abs(np.asarray(files.decoded(file)).astype(int) - colours).max() <= 4
    grey = np.asarray(Image.fromarray(colours).convert("L")).astype(int)
    assert np.abs(np.asarray(files.decoded(file, "L")) - grey).max() <= 4


@pytest.mark.parametrize(("content", "reason"), [
    (encoded(GREY.astype(np.uint16) * 257), "has 16 bits a channel"),
    (deep_png(), "has 16 bits a channel"),
    (encoded(with_alpha(RGB, 254)), "has transparent pixels"),
    (encoded(with_alpha(GREY, 0)), "has transparent pixels"),
    (palette(transparency=3), "has transparent pixels"),
    (encoded(RGB, transparency=tuple(map(int, RGB[0, 5]))), "has transparent pixels"),
    (encoded(RGB, save_all=True, append_images=[Image.fromarray(255 - RGB)]),
     "is an animation of 2 frames"),
    (encoded(RGB, "GIF"), r"cannot be decoded as an image \(UnidentifiedImageError\)"),
    (encoded(GREY.astype(np.float32), "TIFF"), "cannot be decoded as an image"),
    (encoded(RGB, "EPS"), r"cannot be decoded as an image \(UnidentifiedImageError\)"),
    (encoded(RGB, "JPEG")[:-40], r"cannot be decoded as an image \(OSError\)"),
])  # fmt: skip
def test_images_that_cannot_be_right_are_refused(tmp_path, monkeypatch, content, reason):
    program = "PIL.EpsImagePlugin.Ghostscript"
    monkeypatch.setattr(program, lambda *_, **__: pytest.fail("a program was started"))
    file = written(tmp_path, content)
    for mode in ("RGB", "L"):
        with pytest.raises(DatasetCorrupted, match=f"x.jpg {reason}"):
            files.decoded(file, mode)


def test_images_that_are_too_large_or_not_there_are_named(tmp_path, monkeypatch):
    file = written(tmp_path, encoded(RGB))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DatasetCorrupted, match=r"x.jpg .*\(DecompressionBombError\)"):
        files.decoded(file)
    with pytest.raises(DatasetCorrupted, match=r"y.png .*\(FileNotFoundError\)"):
        files.decoded(tmp_path / "y.png")


@pytest.mark.parametrize(("orientation", "stored"), [
    (1, RGB), (2, RGB[:, ::-1]), (3, RGB[::-1, ::-1]), (6, np.rot90(RGB)), (8, np.rot90(RGB, 3)),
])  # fmt: skip
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_images_are_turned_upright(tmp_path, orientation, stored, form):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {} if form == "PNG" else {"quality": 100, "subsampling": 0}
    content = encoded(np.ascontiguousarray(stored), form, exif=exif, **options)
    shown = np.asarray(files.decoded(written(tmp_path, content)))
    assert np.abs(shown.astype(int) - RGB).max() <= 4
