"""Influence of groups: against dense algebra, torch.autograd, captum, and true retraining."""

import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from captum.influence._core.influence_function import NaiveInfluenceFunction
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from helpers import models
from helpers.probes import influence
from helpers.probes.influence import MeanLoss, exact, group_step, lissa, moved, solve

CLASSES, FEATURES, SAMPLES, L2 = 3, 6, 120, 0.05


def problem(seed=0, samples=SAMPLES):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, FEATURES, generator=draw, dtype=torch.float64)
    y = torch.randint(CLASSES, (samples,), generator=draw)
    return x + 0.7 * nn.functional.one_hot(y, FEATURES), y


def fitted(x, y, l2=L2):
    """The minimum of the mean cross-entropy plus l2/2 times the squared weights, by sklearn."""
    found = LogisticRegression(
        C=1 / (l2 * len(x)), fit_intercept=False, tol=1e-12, max_iter=10_000
    ).fit(x.numpy(), y.numpy())
    model = nn.Linear(FEATURES, CLASSES, bias=False).double()
    model.weight.data = torch.from_numpy(found.coef_.copy())
    return model


def dense(model, x, y, l2):
    """The Hessian by torch.autograd, of the loss written out."""
    names = [n for n, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def mean_loss(theta):
        parts = theta.split([s.numel() for s in shapes])
        named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        outputs = torch.func.functional_call(model, named, (x,))
        return nn.functional.cross_entropy(outputs, y) + l2 / 2 * theta @ theta

    theta = parameters_to_vector(model.parameters()).detach()
    return torch.autograd.functional.hessian(mean_loss, theta)


@pytest.fixture(scope="module")
def logistic():
    x, y = problem()
    model = fitted(x, y)
    return MeanLoss(model, x, y, l2=L2), dense(model, x, y, L2)


@pytest.fixture(scope="module")
def network():
    """A small network far from a minimum: its Hessian is indefinite."""
    x, y = problem()
    model = models.fully_connected(FEATURES, (5,), CLASSES, seed=0).double()
    return MeanLoss(model, x, y, batch=50), dense(model, x, y, 0.0)


def apart(found, expected):
    return float((found - expected).norm() / expected.norm())


# -- derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["logistic", "network"])
def test_products_are_those_of_the_dense_hessian(which, request):
    loss, H = request.getfixturevalue(which)
    v = torch.randn(loss.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert apart(loss.product(v), H @ v) < 1e-12


def test_products_at_samples_average_to_the_product(network):
    loss, H = network
    v = torch.randn(loss.size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    each = loss.products_at(v.expand(SAMPLES, -1), torch.arange(SAMPLES))
    assert apart(each.mean(0), H @ v) < 1e-12


def test_gradients_of_groups_and_their_lengths():
    x, y = problem()
    model = models.fully_connected(FEATURES, (5,), CLASSES, seed=0).double()
    loss = MeanLoss(model, x, y, l2=0.1, batch=4)
    expected = []
    for k in range(10):
        value = nn.functional.cross_entropy(model(x[k : k + 1]), y[k : k + 1])
        value = value + 0.05 * sum((p**2).sum() for p in model.parameters())
        expected.append(torch.cat([
            g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))
        ]))  # fmt: skip
    assert apart(loss.gradient(x[:10], y[:10]), torch.stack(expected).sum(0)) < 1e-12
    assert apart(loss.norms(x[:10], y[:10]), torch.stack(expected).norm(dim=1)) < 1e-12


def test_at_a_minimum_all_gradients_cancel(logistic):
    loss, _ = logistic
    assert loss.gradient(loss.inputs, loss.labels).norm() < 1e-6 * SAMPLES


def test_frozen_parameters_do_not_count():
    """A network with a frozen first layer is its last one, on features."""
    x, y = problem()
    net = models.fully_connected(FEATURES, (5,), CLASSES, seed=0).double()
    net[1].requires_grad_(False)
    head, features = nn.Sequential(nn.Flatten(), net[3]), net[:3](x)
    found, expected = (MeanLoss(model, z, y, l2=0.1) for model, z in ((net, x), (head, features)))
    assert found.size == expected.size == 18
    v = torch.randn(18, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows = torch.arange(3)
    for ours, theirs in [
        (found.gradient(x, y), expected.gradient(features, y)),
        (found.norms(x, y), expected.norms(features, y)),
        (found.product(v), expected.product(v)),
        (found.products_at(v.expand(3, -1), rows), expected.products_at(v.expand(3, -1), rows)),
        (found.vector(), expected.vector()),
    ]:
        assert apart(ours, theirs) < 1e-12
    after = moved(net, v)
    assert torch.equal(after[1].weight, net[1].weight)
    assert apart(MeanLoss(after, x, y).vector(), found.vector() + v) < 1e-12
    for refused in (MeanLoss, lambda model, x, y: moved(model, v)):
        with pytest.raises(ValueError, match="all are frozen"):
            refused(net.requires_grad_(False), x, y)


# -- solvers --------------------------------------------------------------------------------------


def test_exact_is_the_solution_of_the_dense_system(logistic):
    loss, H = logistic
    g = loss.gradient(loss.inputs[:7], loss.labels[:7])
    for damping in (0.0, 0.3):
        expected = torch.linalg.solve(H + damping * torch.eye(loss.size, dtype=torch.float64), g)
        assert apart(exact(loss, g, damping), expected) < 1e-10


def test_the_iterative_solution_agrees_with_the_exact_one(logistic):
    loss, _ = logistic
    g = loss.gradient(loss.inputs[:7], loss.labels[:7])
    dampings = (0.0, 1e-3, 1.0)
    found = solve(loss.product, g, dampings, steps=loss.size)
    for damping, solution in zip(dampings, found.solutions, strict=True):
        assert apart(solution, exact(loss, g, damping)) < 1e-6


def test_one_run_gives_the_iterates_of_conjugate_gradients_for_every_damping():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((60, 40))
    H, g = A.T @ A / 60, rng.standard_normal(40)
    found = solve(torch.from_numpy(H).__matmul__, torch.from_numpy(g), (0.1, 1.0), steps=6)
    for damping, solution, residual in zip(
        (0.1, 1.0), found.solutions, found.residuals, strict=True
    ):
        damped = H + damping * np.eye(40)
        cg, _ = scipy.sparse.linalg.cg(damped, g, rtol=0, maxiter=6)
        assert apart(solution, torch.from_numpy(cg)) < 1e-9
        true = np.linalg.norm(damped @ solution.numpy() - g) / np.linalg.norm(g)
        assert float(residual) == pytest.approx(true, rel=1e-6)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=8, unique=True), st.integers(0, 1_000))
def test_extreme_ritz_values_lie_within_the_spectrum(values, seed):
    values = torch.tensor(values, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(
        torch.randn(len(values), len(values), generator=draw, dtype=torch.float64)
    )
    H = turn @ torch.diag(values) @ turn.T
    g = torch.randn(len(values), generator=draw, dtype=torch.float64)
    for steps in (1, len(values)):
        found = solve(H.__matmul__, g, (4.0,), steps=steps)
        assert values.min() - 1e-9 <= found.lowest <= found.highest <= values.max() + 1e-9
    expected = torch.linalg.solve(H + 4.0 * torch.eye(len(values)), g)
    assert apart(found.solutions[0], expected) < 1e-6


def test_the_lowest_ritz_value_shows_an_indefinite_hessian(network):
    loss, H = network
    g = loss.gradient(loss.inputs[:5], loss.labels[:5])
    lowest = float(torch.linalg.eigvalsh(H)[0])
    assert lowest < -1e-3
    assert solve(loss.product, g, (1.0,), steps=loss.size).lowest == pytest.approx(lowest, abs=1e-6)


def lissa_at(loss, g, **changes):
    settings = dict(scale=4.0, damping=0.05, depth=150, repeats=1_000, seed=0)
    return lissa(loss, g, **(settings | changes))


def test_lissa_divided_by_the_scale_is_the_damped_inverse(logistic):
    loss, H = logistic
    g = loss.gradient(loss.inputs[:7], loss.labels[:7])
    eye = torch.eye(loss.size, dtype=torch.float64)
    found = lissa_at(loss, g)
    # single recursions scatter, their mean does not
    assert apart(found, torch.linalg.solve(H + 4.0 * 0.05 * eye, g)) < 0.03
    released = lissa_at(loss, g, as_released=True)
    assert apart(released, torch.linalg.solve(H / 4.0 + 0.05 * eye, g)) < 0.03
    assert apart(released, 4.0 * found) < 1e-12


def test_lissa_of_a_single_example_is_the_truncated_series():
    x, y = problem(samples=1)
    loss = MeanLoss(fitted(*problem()), x, y, l2=L2)
    H = dense(loss.model, x, y, L2)
    g = loss.gradient(x, y)
    step = 0.9 * torch.eye(loss.size, dtype=torch.float64) - H / 2.0
    h = g
    for _ in range(3):
        h = g + step @ h
    found = lissa(loss, g, scale=2.0, damping=0.1, depth=3, repeats=2, seed=0)
    assert apart(found, h / 2.0) < 1e-12


# -- removing a group -----------------------------------------------------------------------------


def test_captum_finds_the_same_influence(tmp_path):
    """Its Hessian is that of the summed loss, so damping and result differ by the factor N."""
    x, y = problem()
    model = models.fully_connected(FEATURES, (), CLASSES, seed=0).double()
    model.load_state_dict({"1.weight": fitted(x, y).weight.detach(), "1.bias": torch.zeros(3)})
    torch.save(model.state_dict(), tmp_path / "model.pt")
    oracle = NaiveInfluenceFunction(
        model,
        torch.utils.data.TensorDataset(x, y),
        str(tmp_path / "model.pt"),
        loss_fn=nn.CrossEntropyLoss(reduction="none"),
        batch_size=SAMPLES,
        sample_wise_grads_per_batch=False,
        projection_dim=FEATURES * CLASSES + CLASSES,
        hessian_reg=0.3 * SAMPLES,
        hessian_inverse_tol=-1.0,
    )
    theirs = oracle.influence((x[:4], y[:4]))  # of all samples on four
    loss = MeanLoss(model, x, y)
    for k in range(4):
        g = loss.gradient(x[k : k + 1], y[k : k + 1])
        s = exact(loss, g, damping=0.3)
        ours = [float(s @ loss.gradient(x[i : i + 1], y[i : i + 1])) for i in range(20)]
        assert np.allclose(SAMPLES * theirs[k, :20].numpy(), ours, rtol=1e-6, atol=1e-9)


def test_prediction_of_a_logistic_model_is_of_second_order():
    """The group is n times one odd example: half the share, a quarter of the error."""
    x, y = problem(samples=600)
    odd, wrong = x[:1], (y[:1] + 1) % CLASSES
    rest = fitted(x, y).weight.detach().flatten()

    def off(n):
        with_group = torch.cat([x, odd.expand(n, -1)]), torch.cat([y, wrong.expand(n)])
        model = fitted(*with_group)
        loss = MeanLoss(model, *with_group, l2=L2)
        g = loss.gradient(odd.expand(n, -1), wrong.expand(n))
        step = group_step(exact(loss, g), len(x) + n, n)
        return apart(moved(model, step).weight.detach().flatten(), rest)

    errors = [off(n) for n in (8, 4, 2)]
    for larger, smaller in zip(errors[:-1], errors[1:], strict=True):
        assert 3.5 < larger / smaller < 4.5  # four, and terms of higher order


def test_prediction_of_ridge_regression_with_the_hessian_of_the_rest_is_exact():
    """A quadratic loss is minimised by one Newton step, if the Hessian is that of the rest."""
    x, _ = problem()
    y = x.sum(1) + torch.sin(9 * x[:, 0])

    def ridge(rows):
        found = Ridge(alpha=L2 * len(x[rows]), fit_intercept=False, solver="cholesky")
        return torch.from_numpy(found.fit(x[rows].numpy(), y[rows].numpy()).coef_)

    def squares(outputs, labels):
        return (outputs[:, 0] - labels) ** 2 / 2

    model = nn.Linear(FEATURES, 1, bias=False).double()
    vector_to_parameters(ridge(slice(None)), model.parameters())
    rest = MeanLoss(model, x[30:], y[30:], losses=squares, l2=L2)
    step = group_step(exact(rest, rest.gradient(x[:30], y[:30])), SAMPLES, 30)
    assert apart(moved(model, step).weight.detach()[0], ridge(slice(30, None))) < 1e-9


def test_moved_leaves_the_model_alone():
    model = nn.Linear(2, 2)
    before = parameters_to_vector(model.parameters()).detach().clone()
    after = moved(model, torch.arange(6.0))
    assert torch.equal(parameters_to_vector(model.parameters()), before)
    assert torch.equal(parameters_to_vector(after.parameters()), before + torch.arange(6.0))


@given(st.floats(-250, 0), st.lists(st.floats(-1, 1), min_size=1, max_size=5))
def test_the_length_of_a_tiny_gradient_survives(exponent, entries):
    entries = torch.tensor([1.0, *entries], dtype=torch.float64)
    length, direction = influence.length_and_direction(entries * 10**exponent)
    assert length == pytest.approx(float(entries.norm()) * 10**exponent, rel=1e-6)
    assert direction.dtype == torch.float32
    assert torch.allclose(direction.double(), entries / entries.norm(), atol=1e-6)


# -- bad input ------------------------------------------------------------------------------------


def test_a_group_without_members(logistic):
    loss, _ = logistic
    with pytest.raises(ValueError, match="the group has no members"):
        loss.gradient(loss.inputs[:0], loss.labels[:0])
    with pytest.raises(ValueError, match="removed is 0 of 9 samples"):
        group_step(torch.ones(2), 9, 0)
    with pytest.raises(ValueError, match="removed is 9 of 9 samples"):
        group_step(torch.ones(2), 9, 9)


def test_a_singular_hessian_is_refused_and_damping_repairs_it():
    x, y = problem()
    # without a penalty, a constant added to all outputs changes nothing
    loss = MeanLoss(fitted(x, y), x, y)
    g = loss.gradient(x[:3], y[:3])
    with pytest.raises(ValueError, match="smallest eigenvalue .* give more damping"):
        exact(loss, g)
    assert torch.isfinite(exact(loss, g, damping=0.1)).all()


def test_an_indefinite_hessian_is_refused(network):
    loss, H = network
    lowest = float(torch.linalg.eigvalsh(H)[0])
    with pytest.raises(ValueError, match=f"smallest eigenvalue of the Hessian is {lowest:.2g}"):
        exact(loss, torch.ones(loss.size, dtype=torch.float64))


def test_a_dense_hessian_of_a_large_model(logistic, monkeypatch):
    fits, _ = logistic
    g = torch.ones(fits.size, dtype=torch.float64)
    monkeypatch.setattr(influence, "DENSE", fits.size)
    assert exact(fits, g).shape == (fits.size,)
    monkeypatch.setattr(influence, "DENSE", fits.size - 1)
    with pytest.raises(ValueError, match=f"the model has {fits.size} parameters"):
        exact(fits, g)
    monkeypatch.undo()
    model = models.fully_connected(100, (100,), 10, seed=0)
    loss = MeanLoss(model, torch.zeros(2, 100), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="11110 parameters: a whole Hessian is for 3000 at most"):
        exact(loss, torch.zeros(loss.size))


def test_nothing_to_solve_for():
    with pytest.raises(ValueError, match="the norm of g is 0.0 and steps is 5"):
        solve(torch.eye(2).__matmul__, torch.zeros(2), (1.0,), steps=5)
    with pytest.raises(ValueError, match="steps is 0"):
        solve(torch.eye(2).__matmul__, torch.ones(2), (1.0,), steps=0)
    one = solve(torch.eye(2).__matmul__, torch.ones(2), (1.0,), steps=1)
    assert torch.allclose(one.solutions, torch.full((1, 2), 0.5))


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"damping": 1.0}, {"depth": 0}, {"repeats": 0}])
def test_lissa_with_a_number_outside_its_range(logistic, wrong):
    loss, _ = logistic
    with pytest.raises(ValueError, match="allowed are scale above 0"):
        lissa_at(loss, torch.ones(loss.size), **wrong)


def test_lissa_without_damping_and_with_a_single_step():
    x, y = problem(samples=1)
    loss = MeanLoss(fitted(*problem()), x, y, l2=L2)
    g, H = loss.gradient(x, y), dense(loss.model, x, y, L2)
    found = lissa(loss, g, scale=2.0, damping=0.0, depth=1, repeats=1, seed=0)
    assert apart(found, (2 * g - H @ g / 2.0) / 2.0) < 1e-12


def test_data_that_no_loss_has_a_mean_on():
    with pytest.raises(ValueError, match=r"2 inputs, and labels of shape \(3,\)"):
        MeanLoss(nn.Linear(1, 1), torch.zeros(2, 1), torch.zeros(3))
    with pytest.raises(ValueError, match="batch is 0"):
        MeanLoss(nn.Linear(1, 1), torch.zeros(2, 1), torch.zeros(2), batch=0)
    with pytest.raises(ValueError, match="l2 is -1"):
        MeanLoss(nn.Linear(1, 1), torch.zeros(2, 1), torch.zeros(2), l2=-1.0)
    with pytest.raises(ValueError, match=r"the step has shape \(3,\)"):
        moved(nn.Linear(1, 1), torch.zeros(3))


def test_the_limit_of_dense_hessians_is_the_one_that_is_told():
    assert f"{influence.DENSE:,}" in exact.__doc__


def test_losses_of_all_outputs_with_all_labels_are_refused():
    x, y = problem(samples=5)
    model = nn.Linear(FEATURES, 1).double()
    with pytest.raises(ValueError, match=r"labels of shape \(5, 1\)"):
        MeanLoss(model, x, y[:, None])
    loss = MeanLoss(model, x, y, losses=lambda outputs, labels: (outputs - labels) ** 2)
    for call in (lambda: loss.product(loss.vector()), lambda: loss.gradient(x, y)):
        with pytest.raises(ValueError, match=r"losses have shape \(5, 5\) for 5 samples"):
            call()


@pytest.mark.parametrize(
    ("matrix", "dampings"),
    [(torch.zeros(5, 5), [0.0]), (torch.diag(torch.tensor([1.0, 0, 0, 0, 0])), [1.0, 0.0]),
     (torch.eye(5), [-1.0]), (torch.eye(5), [math.nan]), (torch.eye(5), [])],
)  # fmt: skip
def test_a_singular_matrix_is_refused_and_not_divided_by(matrix, dampings):
    with pytest.raises(ValueError, match="dampings"):
        influence.solve(matrix.__matmul__, torch.ones(5), dampings)


def test_no_label_is_left_out_and_none_is_broadcast():
    net, x = nn.Linear(2, 2), torch.rand(3, 2)
    with pytest.raises(ValueError, match="labels has -100"):
        influence.MeanLoss(net, x, torch.tensor([0, -100, 1]))
    squares = influence.MeanLoss(
        nn.Linear(2, 1), x, torch.rand(3), losses=lambda f, y: (f[:, 0] - y) ** 2
    )
    with pytest.raises(ValueError, match="3 inputs"):
        squares.gradient(x, torch.rand(1))
