"""The nulls of the ReLU chapter, and the limit of the logistic loss."""

import pytest
import torch

from helpers import data, kernels, sweep, training
from helpers.experiments.shortcut import relu_controls, relu_digits, tasks
from helpers.sweep import Call

DIGITS = dict(kind="patched", dataset="mnist5k", rho=0.9, samples=200, test=200, trial=100,
              device="cpu", data_dir=None)  # fmt: skip


def test_a_permuted_attribute_goes_with_the_label_as_often_and_is_not_in_the_picture():
    train, _, _ = tasks.digit_sets(Call(DIGITS))
    made = relu_controls.permuted(train, 1)
    assert int(made.aligned.sum()) == int(train.aligned.sum()) == 180
    for side in (1, -1):
        members = train.label == side
        assert made.attribute[members].sum() == train.attribute[members].sum()
    assert (made.attribute != train.attribute).any()
    assert torch.equal(relu_controls.permuted(train, 1).attribute, made.attribute)


def test_shortcut_and_nulls_are_apart():
    found = relu_controls.relu_controls(Call(DIGITS))
    assert found["index"] == found["first"] == 2 and found["centred_index"] == 1
    assert found["bias"] > 0.9 > 0.7 > found["bias_permuted"]
    assert found["aligned"] - found["conflicting"] == 1 > 0.6 > found["split_other"]
    gap = found["aligned_full"] - found["conflicting_full"]
    assert gap > 0.3 > 0.15 > abs(found["gap_permuted"])
    for kernel in ("relu", "linear"):
        bias, label, rest, permuted = (
            found[f"availability_{kernel}_{name}"] for name in ("bias", "label", "rest", "permuted")
        )
        assert bias > label > permuted > rest > 0
    assert found == relu_controls.relu_controls(Call(DIGITS))


def test_the_mixture_has_the_same_columns():
    mixture = dict(kind="mixture", dataset="Gaussian", samples=300, test=300)
    found = relu_controls.relu_controls(Call(DIGITS | mixture))
    assert found.keys() == relu_controls.relu_controls(Call(DIGITS, samples=100)).keys()
    assert found["bias"] > 0.8 and found["data_source"] == "Gaussian"


def test_the_hard_margin_meets_its_conditions():
    """Complementary slackness: margins are 1 where a coefficient is not 0, and above elsewhere."""
    train, _, _ = tasks.digit_sets(Call(DIGITS))
    (X,) = data.centred(train)
    K, y = kernels.relu_ntk(X.double()), train.label.double()
    a = relu_controls.kernel_hard_margin(K, y)
    margins = y * (K @ a)
    assert float(margins.min()) == pytest.approx(1, abs=1e-3)
    assert (a * y >= 0).all()
    assert float((a * y * (margins - 1)).sum() / (a * y).sum()) == pytest.approx(0, abs=1e-3)


def test_the_hard_margin_is_that_of_the_exact_method_on_features_of_the_kernel():
    train, _, _ = tasks.digit_sets(Call(DIGITS, samples=40))
    (X,) = data.centred(train)
    K, y = kernels.relu_ntk(X.double()), train.label.double()
    features = torch.linalg.cholesky(K)
    exact = training.hard_margin(features.numpy(), y.numpy())
    found = K @ relu_controls.kernel_hard_margin(K, y)
    torch.testing.assert_close(
        found, features @ torch.from_numpy(exact.weights), rtol=1e-3, atol=1e-3
    )


def test_what_no_kernel_function_separates_has_no_hard_margin():
    twice = torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="the smallest margin is"):
        relu_controls.kernel_hard_margin(twice, torch.tensor([1.0, -1.0]))


def test_losses_of_a_group_give_what_each_gives_alone():
    calls = [
        Call(DIGITS, loss=name, strength=k, steps=30)
        for name, k in (("sd", 0.1), ("hard_margin", 0.0))
    ]
    rows = relu_controls.relu_margin_controls(calls)
    assert rows == [relu_controls.relu_margin_controls([call])[0] for call in calls]
    assert rows[1]["fitted"] == 1.0


def test_the_draws_are_none_of_the_pilots_and_the_numbers_those_of_their_experiments():
    for name in ("relu_controls", "relu_digits_again", "relu_margin_controls",
                 "relu_networks_again"):  # fmt: skip
        experiment = sweep.get(name)
        for profile in ("smoke", "laptop", "paper"):
            trials = {cell["trial"] for cell in experiment.cells(profile)}
            assert min(trials) == relu_controls.FIRST_TRIAL > 20
    call = Call(DIGITS, reference=100)
    assert relu_controls.relu_digits_again(call) == relu_digits.relu_digits(call)
