"""NICO++ for readers who have it: from a folder of pictures to a fine-tuned ResNet-50.

Nothing of it can be shipped with the book; this edition has seen no picture of it. The pipeline is
tested on a folder of the same layout that the tests make themselves.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers import data, models, training
from helpers.contexts import CONTEXTS, Pool

# where the pictures are below the folder of the data set, as far as it was unpacked
PLACES = tuple(map(Path, ("track_1/public_dg_0416/train", "public_dg_0416/train", "train", ".")))
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load(data_dir: str | Path | None) -> Pool:
    """NICO++ as its authors publish it: `<context>/<object>/*.jpg`, decoded only when looked at.

    The public training part of track 1 (88,866 pictures of 60 objects) unpacks to
    `track_1/public_dg_0416/train/<context>/<object>/`; of this path any beginning may be missing.
    `data_dir` (or else `$SPURIOUS_DATA`) is the folder that holds it, or holds it as `NICO++`.

    Raises:
        data.DatasetNotFound: no such folder.
        ValueError: a folder without pictures.

    Source: Zhang et al. 2023 (https://nicochallenge.com).
    """
    root = Path(data_dir or os.environ.get("SPURIOUS_DATA") or ".").expanduser()
    tried = [base / inner for base in (root / "NICO++", root) for inner in PLACES]
    folder = next((f for f in tried if any((f / name).is_dir() for name in CONTEXTS)), None)
    if folder is None:
        raise data.DatasetNotFound(
            f"NICO++ was not found: none of {', '.join(map(str, tried))} has a folder of a context "
            f"({', '.join(CONTEXTS)}). Get track 1 from https://nicochallenge.com and give the "
            "folder that it was unpacked in as data_dir."
        )
    contexts = tuple(name for name in CONTEXTS if (folder / name).is_dir())
    files = [
        file
        for name in contexts
        for file in sorted((folder / name).glob("*/*"))
        if file.suffix.lower() in (".jpg", ".jpeg", ".png") and file.name[0] != "."
    ]
    if not files:
        raise ValueError(f"{folder} has no pictures: expected <context>/<object>/*.jpg in it")
    objects = tuple(sorted({file.parent.name for file in files}))
    where, what = ({name: i for i, name in enumerate(names)} for names in (contexts, objects))
    return Pool(
        files,
        torch.tensor([what[file.parent.name] for file in files]),
        torch.tensor([where[file.parent.parent.name] for file in files]),
        objects,
        contexts,
        f"NICO++, {len(files):,} pictures of {len(objects)} objects",
    )


def resnet50(outputs: int) -> nn.Module:
    """torchvision's ResNet-50 with ImageNet weights and a new last layer; pixels in [0, 1].

    The weights come from `$TORCH_HOME` or `~/.cache/torch`, where torchvision puts them when it
    can download them.
    """
    from torchvision.models import ResNet50_Weights
    from torchvision.models import resnet50 as build

    net = build(weights=ResNet50_Weights.IMAGENET1K_V1)
    net.fc = nn.Linear(net.fc.in_features, outputs)
    return nn.Sequential(models.Normalise(IMAGENET_MEAN, IMAGENET_STD), net)


class Pictures(torch.utils.data.Dataset):
    """Files as pictures `(3, size, size)` in [0, 1] with their labels, decoded when asked for.

    For training, a random part of a fifth or more of the picture, mirrored half of the time; else
    the middle, as is the custom for ImageNet.
    """

    def __init__(self, pool: Pool, rows: Tensor, size: int, train: bool) -> None:
        from torchvision.transforms import v2

        self._files, self._label, self._rows = pool.inputs, pool.label, rows.tolist()
        cut = [v2.RandomResizedCrop(size, scale=(0.2, 1)), v2.RandomHorizontalFlip()]
        middle = [v2.Resize(round(size * 8 / 7)), v2.CenterCrop(size)]
        self._transform = v2.Compose(
            [*(cut if train else middle), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        from PIL import Image

        row = self._rows[position]
        with Image.open(self._files[row]) as opened:
            return self._transform(opened.convert("RGB")), int(self._label[row])


def fine_tuned(
    net: nn.Module,
    pool: Pool,
    train: Tensor,
    asked: Tensor,
    recipe: training.Recipe,
    *,
    seed: int,
    device: str,
    size: int = 224,
    workers: int = 8,
) -> Tensor:
    """Train all weights of `net` on files, in place; its outputs `(len(asked), objects)`.

    Args:
        net: takes pictures `(n, 3, size, size)` in [0, 1].
        pool: with files for inputs.
        train, asked: rows to train on, and rows to answer for.
        recipe: of the training.
        seed: of order and crops.
        device: where the network is trained.
        size: pixels of a side.
        workers: processes that decode files; 0 for none.

    Raises:
        OSError: a file that is no picture.
        training.Diverged: the loss became infinite or NaN.
    """
    net.to(device, memory_format=torch.channels_last)
    optimiser = training.make_optimiser(recipe, [{"params": list(net.parameters())}])
    with training.randomness(seed, torch.device(device)):
        loader = torch.utils.data.DataLoader(
            Pictures(pool, train, size, True), recipe.batch, shuffle=True, num_workers=workers
        )
        for epoch in range(recipe.epochs):
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(epoch)
            net.train()
            total = torch.zeros((), device=device)
            for pictures, label in loader:
                loss = functional.cross_entropy(net(pictures.to(device)), label.to(device))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.detach()
            if not math.isfinite(total):
                raise training.Diverged(float(total), epoch + 1, recipe)
        shown = torch.utils.data.DataLoader(
            Pictures(pool, asked, size, False), recipe.batch, num_workers=workers
        )
        return torch.cat([training.predict(net, part.to(device)).cpu() for part, _ in shown])
