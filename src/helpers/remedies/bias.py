"""The cheapest remedy for a worst group: one number, added to the output.

Ours; a control for everything that costs more.
"""

import torch

from helpers.data import check_values


def worst_group_bias(margins: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> float:
    """The offset on the margin with which the worst group is recognised best.

    A sample is taken for class 1 if margin + offset > 0. Candidates are 0, the middles between
    neighbouring margins, and 1 beyond the outermost; of those that are equally good the smallest
    in absolute value wins.

    Args:
        margins: `(n,)` logit of class 1 minus that of class 0, on validation data.
        labels: `(n,)` classes 0 or 1.
        groups: `(n,)` whole numbers; groups without a sample do not count.

    Raises:
        ValueError: no sample, lengths that differ, NaN or infinite margins, another label.

    Source: ours. :func:`helpers.probes.lesions.refit_bias` looks at the mean over groups instead.

    >>> margins = torch.tensor([-4.0, -3.0, -2.0, 1.0])
    >>> worst_group_bias(margins, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 3]))
    2.5
    """
    if not margins.shape == labels.shape == groups.shape or margins.ndim != 1 or not len(margins):
        shapes = ", ".join(str(tuple(x.shape)) for x in (margins, labels, groups))
        raise ValueError(f"margins, labels and groups have shapes {shapes}: expected (n,), n > 0")
    margins, labels, groups = margins.detach().double().cpu(), labels.cpu(), groups.cpu()
    if not bool(margins.isfinite().all()):
        raise ValueError("margins has NaN or infinity")
    check_values("labels", labels, range(2))
    ends = margins.unique()
    middles = (ends[1:] + ends[:-1]) / 2
    offsets = torch.cat([margins.new_zeros(1), -middles, 1 - ends[:1], -1 - ends[-1:]])
    right = (margins + offsets[:, None] > 0) == labels.bool()
    by_group = [right[:, groups == g].double().mean(1) for g in groups.unique()]
    worst = torch.stack(by_group).amin(0)
    best = offsets[worst == worst.max()]
    return float(best[best.abs().argmin()])
