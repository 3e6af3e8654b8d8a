"""Figures of a kind that chapters have."""

import matplotlib.pyplot as plt
import numpy as np


def two_panels(**how):
    fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, **how)
    for ax in axes:
        ax.plot([0, 1], [0, 1], label="line")
        ax.set(
            title="a title that is much longer than the forty-four letters of a phone", xlabel="x"
        )
    axes[0].set_ylabel("y")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def named_bars():
    fig, ax = plt.subplots(figsize=(8, 9))
    names = [f"a way of training on with a long name, {k}" for k in range(20)]
    ax.barh(range(20), np.arange(20), label="one")
    ax.set_yticks(range(20), names)
    ax.set(title="a finding in many words,\nwritten in two lines that are too long for a phone")
    fig.legend(loc="outside lower center")
    return fig


def sheet(rows, columns, size, title="{}", **how):
    """Pictures of ten by ten pixels, with a title above the first row of them."""
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **how)
    for number, ax in enumerate(axes.flat):
        ax.imshow(np.full((10, 10), number))
        ax.set_axis_off()
        if number < columns:
            ax.set_title(title.format(number), loc="center")
    return fig
