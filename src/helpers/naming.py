"""How readers see what has a name in code: the symbols of the book's notation, or words.

Stored results, columns and arguments have names that a program can read (`phi2`, `h0+h3`,
`train_accuracy`). Tables, cards and printed lines are for readers. What is shown for which name
stands here, once: the signs are those of the page on notation.
"""

import re
from typing import Any, TypeVar

import numpy as np
import pandas as pd

Table = TypeVar("Table", pd.DataFrame, pd.Series)

_SHOWN = {
    # activations
    "relu": "ReLU", "phi2": "φ₂", "phi4": "φ₄",
    # features
    "rf": "random features", "ntk": "NTK features",
    # letters
    "alpha": "α", "kappa": "κ", "rho": "ρ", "v_i": "vᵢ", "v_s": "vₛ",
    # data sets
    "mnist": "MNIST", "mnist5k": "MNIST subset", "cifar10": "CIFAR-10",
    "fashion_mnist": "Fashion-MNIST", "rms": "RMS",
    # networks, optimisers, and losses by the names of their papers
    "mlp": "MLP", "cnn": "CNN", "resnet20": "ResNet20", "adam": "Adam", "sgd": "SGD",
    "sd": "SD", "marg_log": "marg-log", "sigma_damp": "sigma-damp", "hard_margin": "hard margin",
    # measures
    "auc": "AUC", "cv": "CV",
}  # fmt: skip
_BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SUM = r"h\d+(?:\+h\d+)*"
# in a sentence only what is no word of its own; what stands as code, or in a formula, is left
_IN_TEXT = re.compile(rf"(?<![`\\\w])(?:relu|phi\d|alpha|{_SUM})(?![`\w])")


def shown(name: Any) -> Any:
    """What a reader sees for one name; numbers, and words that are no names in code, as they are.

    Names of several words become words, truth values become yes and no.

    >>> shown("phi2"), shown("h0+h3"), shown("train_accuracy"), shown("spurious_auc"), shown(0.5)
    ('φ₂', 'h₀+h₃', 'train accuracy', 'spurious AUC', 0.5)
    """
    if isinstance(name, bool | np.bool_):
        return "yes" if name else "no"
    if not isinstance(name, str):
        return name
    if name in _SHOWN:
        return _SHOWN[name]
    if re.fullmatch(_SUM, name):
        return name.translate(_BELOW)
    words = name.split("_") if re.fullmatch(r"[A-Za-z]\w*", name) else [name]
    return " ".join(_SHOWN.get(word, word) for word in words)


def worded(text: str) -> str:
    """A sentence with the symbols of the activations and of the share that it names.

    >>> worded("phi4, alpha = 0.5: as with `phi4`"), worded("h0+h7 beside relu")
    ('φ₄, α = 0.5: as with `phi4`', 'h₀+h₇ beside ReLU')
    """
    return _IN_TEXT.sub(lambda found: shown(found[0]), text)


def titled(table: Table) -> Table:
    """A table for readers: its headings of rows and columns, and what they are called, as `shown`.

    >>> titled(pd.DataFrame({"test_auc": [1.0]}, index=pd.Index(["relu"], name="activation")))
                test AUC
    activation
    ReLU             1.0
    """
    if isinstance(table, pd.Series):
        return table.rename(index=shown).rename(shown(table.name)).rename_axis(index=shown)
    return table.rename(index=shown, columns=shown).rename_axis(index=shown, columns=shown)
