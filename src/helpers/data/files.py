"""Folders of data, and the pictures in them: one way to look for both, one to decode.

Ours.
"""

import io
from pathlib import Path

from PIL import Image, ImageOps

from helpers.project import expanded

# how folders begin that systems and tools leave among those of classes: .git, __MACOSX, @eaDir
_TOOLS = (".", "__", "@", "$")


class DatasetCorrupted(ValueError):
    """A file of a dataset is there but damaged, or is not what its name says."""


def damaged(where: Path, what: str) -> DatasetCorrupted:
    """The error to raise for a damaged file or folder."""
    return DatasetCorrupted(
        f"{where} {what}. Replace it, or delete it: `load` then looks for the dataset elsewhere."
    )


def data_folder(path: str | Path) -> Path:
    """A folder of data, which need not be there, with the home folder for its ``~``.

    Raises:
        ValueError: a file at this place or on the way to it; no such home.
    """
    folder = expanded(path)
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(f"{part} is a file: expected the folder that holds the data")
    return folder


def pictures(folder: Path) -> list[Path]:
    """The files `<class>/*.jpg` or `.png`, sorted; nothing that is hidden or belongs to tools."""
    classes = (part for part in folder.iterdir() if not part.name.startswith(_TOOLS))
    return [
        file
        for part in sorted(classes)
        if part.is_dir()
        for file in sorted(part.iterdir())
        if file.suffix.lower() in (".jpg", ".jpeg", ".png")
        and file.name[0] != "."
        and not file.is_dir()
    ]


def decoded(file: Path, mode: str = "RGB") -> Image.Image:
    """A JPEG or PNG file, upright as its EXIF data says, in colours ("RGB") or grey ("L").

    Raises:
        DatasetCorrupted: a file that is not there, damaged, of another format, too large, animated,
            of 16 bits a channel, or transparent: what lies behind it is not known.
    """
    try:
        content = file.read_bytes()
        # other formats are not tried: Pillow starts a program for some
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as opened:
            png, frames = opened.format == "PNG", getattr(opened, "n_frames", 1)
            image = ImageOps.exif_transpose(opened)
        seen_through = image.has_transparency_data
        if seen_through:
            image = image.convert("RGBA")
            seen_through = image.getchannel("A").getextrema()[0] < 255
        pixels = image.convert(mode)
    except Exception as error:  # Pillow's choice of errors for damage has no end
        raise damaged(file, f"cannot be decoded as an image ({type(error).__name__})") from error
    if png and content[24] == 16:  # the depth in its header, which Pillow clips or cuts
        raise damaged(file, "has 16 bits a channel: 8 are expected")
    if png and frames > 1:  # frames of a JPEG file are the previews that cameras add
        raise damaged(file, f"is an animation of {frames} frames: one picture is expected")
    if seen_through:
        raise damaged(file, "has transparent pixels, whose colour depends on what is behind them")
    return pixels
