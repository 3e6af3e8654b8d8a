"""What readers see for the names of code."""

import numpy as np
import pandas as pd
import pytest

from helpers import naming
from helpers.kernels import hermite
from helpers.theory import QUERIES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("phi4", "φ₄"), ("h1", "h₁"), ("h0+h10", "h₀+h₁₀"), ("relu", "ReLU"), ("tanh", "tanh"),
        ("train_accuracy", "train accuracy"), ("margin_cv", "margin CV"), ("marg_log", "marg-log"),
        ("h0 + h1", "h0 + h1"), ("sd of outputs", "sd of outputs"), ("N ≪ d", "N ≪ d"), ("", ""),
        (None, None), (3, 3), (0.5, 0.5), (True, "yes"), (np.False_, "no"),
    ],
)  # fmt: skip
def test_one_name(name, expected):
    assert naming.shown(name) == expected and naming.shown(expected) == expected


def test_every_activation_with_a_name_of_code_has_a_symbol():
    shown = {naming.shown(name) for name in hermite._NAMED}
    assert shown == {"ReLU", "tanh", "step", "linear", "φ₂", "φ₄"}
    assert [naming.shown(query) for query in QUERIES] == [*QUERIES]


@pytest.mark.parametrize(
    "text",
    ["`phi2` and `h0+h3`", r"\alpha", "relu_ntk", "alphabet", "a step of 2", "$h_0+h_3$", "h, h1x"],
)
def test_code_formulas_and_other_words_stay(text):
    assert naming.worded(text) == text


def test_names_in_a_sentence():
    found = naming.worded("phi2, α = 0.5 (relu: 2; h0+h7, h3)")
    assert found == "φ₂, α = 0.5 (ReLU: 2; h₀+h₇, h₃)"


def test_a_table_keeps_its_numbers_and_order():
    index = pd.MultiIndex.from_product(
        [["relu", "h0+h1"], [0.25, 0.5]], names=["activation", "rho"]
    )
    columns = pd.MultiIndex.from_product(
        [["test_auc"], ["zero", "resample"]], names=[None, "query"]
    )
    table = pd.DataFrame(np.arange(8.0).reshape(4, 2), index, columns)
    found = naming.titled(table)
    assert found.index.tolist() == [("ReLU", 0.25), ("ReLU", 0.5), ("h₀+h₁", 0.25), ("h₀+h₁", 0.5)]
    assert found.columns.tolist() == [("test AUC", "zero"), ("test AUC", "resample")]
    assert list(found.index.names) == ["activation", "ρ"]
    assert list(found.columns.names) == [None, "query"]
    assert np.array_equal(found, table) and table.index[0] == ("relu", 0.25)


def test_a_column_is_named_too():
    found = naming.titled(pd.Series([1.0], pd.Index(["phi2"], name="by_law"), name="test_error"))
    assert (found.index[0], found.index.name, found.name) == ("φ₂", "by law", "test error")
