"""Backgrounds of SkyBirds judged by eye: how often the rule of the border's colour is wrong.

50 random pictures of each group, enlarged to 150 pixels and numbered, were looked at once by one
rater, a language model and not a person, who knew the group that the rule had given. Nobody judged
them a second time. A picture is

- *wrong* where the ground behind the object is of the other kind: water, rock or plants in place of
  the sky (or an airplane that stands among them), a sky (also a red or pale one) in place of land;
- *unclear* where it cannot be told or is neither: blurred, a drawing, studio white, both at once;
- *right* otherwise. An airplane that stands on a field below a sky is right either way.

Which pictures is fixed by the seed and by the copy of CIFAR-10; with another copy (other encoding,
other order) :func:`judged_pictures` says so, and the stored pictures are those that were judged.

Ours.
"""

import hashlib
from pathlib import Path

from torch import Tensor

from helpers.data.sky_birds import SKY_GROUPS, sky_sample
from helpers.errors import DatasetNotFound

JUDGED, SEED = 50, 0  # pictures of each group, and of their choice
# numbers within each group's sheet
WRONG = {
    "birds on land": (12,),
    "birds in the sky": (1, 10, 29, 44, 47),
    "airplanes on land": (32, 36, 39, 41),
    "airplanes in the sky": (11, 14, 18, 26, 30, 39, 48),
}
UNCLEAR = {
    "birds on land": (2, 3, 29, 36, 46),
    "birds in the sky": (2, 3, 13, 39, 41, 45),
    "airplanes on land": (4, 7, 8, 13, 14, 20, 26, 28, 37, 42, 47),
    "airplanes in the sky": (13, 22, 25, 40),
}
DIGEST = "11d8fac1580a979e"  # of the pictures that were judged


def judgements() -> list[dict[str, str | int]]:
    """One row a picture: `group` 0 to 3, its `name`, `number` on the sheet, and the `judgement`.

    >>> rows = judgements()
    >>> [sum(row["judgement"] == kind for row in rows) for kind in ("right", "wrong", "unclear")]
    [157, 17, 26]
    """
    return [
        {"group": group, "name": name, "number": number, "judgement": _judgement(name, number)}
        for group, name in enumerate(SKY_GROUPS)
        for number in range(JUDGED)
    ]


def _judgement(name: str, number: int) -> str:
    if number in WRONG[name]:
        return "wrong"
    return "unclear" if number in UNCLEAR[name] else "right"


def judged_pictures(data_dir: str | Path | None = None) -> dict[str, Tensor]:
    """The pictures that were judged, `(50, 3, 32, 32)` uint8 by the names of the groups.

    Raises:
        DatasetNotFound: CIFAR-10 is not on this machine, or in another copy than was judged.
    """
    images, _ = sky_sample(JUDGED, SEED, data_dir)
    if (found := digest_of(images)) != DIGEST:
        raise DatasetNotFound(
            "the pictures whose backgrounds were judged come from a copy of CIFAR-10 with another "
            f"encoding or order (digest {DIGEST}, here {found}): see the stored ones"
        )
    return images


def digest_of(pictures: dict[str, Tensor]) -> str:
    """Tells pictures from others."""
    sha = hashlib.sha256()
    for name, images in pictures.items():
        sha.update(name.encode() + images.contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]
