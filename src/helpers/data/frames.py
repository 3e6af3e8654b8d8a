"""Noise frames around images, and cores that are blanked or resampled.

Source: the framed images of Bombari & Mondelli 2024, Figures 1 and 2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_images(what: str, images: Tensor) -> None:
    """Refuse what is not uint8 `(n, c, h, w)`, with a ValueError that calls it `what`."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(
            f"{what} of dtype {images.dtype} and shape {tuple(images.shape)} must be "
            "torch.uint8 of shape (n, c, h, w)."
        )


def _core(shape: Sequence[int], width: int) -> tuple:
    """Index of the core pixels of framed images, in the last two of their dimensions."""
    if not 1 <= width < min(shape[-2:]) / 2:
        raise ValueError(
            f"width={width} pixels must be at least 1 and leave a core in framed "
            f"images of {shape[-2]} x {shape[-1]} pixels."
        )
    return (..., slice(width, -width), slice(width, -width))


def noise_border(images: Tensor, width: int, seed: int) -> Tensor:
    """Put a frame of iid integers, uniform in 0..255, around each image.

    Args:
        images: uint8 `(n, c, h, w)`.
        width: of the frame, in pixels.
        seed: of the frames, which are drawn image after image, so that more images under the same
            seed do not change the first ones' frames.

    Returns:
        uint8 `(n, c, h + 2 width, w + 2 width)`.

    Raises:
        ValueError: other images, or a width below 1.

    Source: Bombari & Mondelli 2024.

    >>> framed = noise_border(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), 10, seed=0)
    >>> tuple(framed.shape), framed[:, :, 10:-10, 10:-10].sum().item()
    ((2, 1, 48, 48), 0)
    """
    check_images("images", images)
    size = (*images.shape[:2], images.shape[2] + 2 * width, images.shape[3] + 2 * width)
    core = _core(size, width)
    generator = torch.Generator().manual_seed(seed)
    framed = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    framed = framed.to(images.device)
    framed[core] = images
    return framed


def core_mask(shape: Sequence[int], width: int) -> Tensor:
    """True inside the frame, bool `(c, H, W)`, for the shape `(..., c, H, W)` of framed images.

    >>> core_mask((1, 48, 48), 10).sum().item()  # the 28 x 28 pixels of a framed digit
    784
    """
    mask = torch.zeros(*shape[-3:], dtype=torch.bool)
    mask[_core(shape, width)] = True
    return mask


def blank_core(framed: Tensor, width: int) -> Tensor:
    """The `zero` query: frames kept, core pixels 0. uint8 `(n, c, H, W)` to the same shape."""
    check_images("framed", framed)
    return resample_core(framed, width, torch.zeros_like(framed[_core(framed.shape, width)]))


def resample_core(framed: Tensor, width: int, donors: Tensor) -> Tensor:
    """The `resample` query: frame i around the image `donors[i]`, which has no frame itself.

    Args:
        framed: uint8 `(n, c, H, W)`; a copy is returned.
        width: of its frames.
        donors: uint8 `(n, c, H - 2 width, W - 2 width)`.

    Raises:
        ValueError: other images, a width that leaves no core, donors of another shape.
    """
    check_images("framed", framed)
    check_images("donors", donors)
    query = framed.clone()
    core = query[_core(framed.shape, width)]
    if donors.shape != core.shape:
        raise ValueError(
            f"donors of shape {tuple(donors.shape)} must have the shape of the cores, "
            f"{tuple(core.shape)}."
        )
    core.copy_(donors)
    return query
