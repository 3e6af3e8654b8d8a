"""Closed forms of Yang, Chou & Chaudhuri 2022: a linear model with rare spurious examples."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from helpers.theory.ranges import Numbers, check_ranges

_ALLOWED = dict.fromkeys(("P", "S", "var_inv", "var_sp", "gamma", "lam"), "0 or more, finite")
_ALLOWED |= {"P": "above 0, finite", "var_inv": "above 0, finite", "gamma": "[0, 1]"}


class RareLinear(NamedTuple):
    """What the best linear model does, in :func:`rare_linear`; numbers or arrays."""

    clean: Numbers
    spurious: Numbers
    prediction_difference: Numbers


def rare_linear(
    P: Numbers, S: Numbers, var_inv: Numbers, var_sp: Numbers, gamma: Numbers, lam: Numbers
) -> RareLinear:
    r"""Accuracies of ridge regression when a share of one class carries a spurious feature.

    Inputs are :math:`(x_{inv}, x_{sp})` with :math:`x_{inv} \sim N(\pm m, v_i I)`, labels
    :math:`\pm1` in equal shares, and :math:`x_{sp} \sim N(0, v_s I)`, except for a share gamma of
    the positive class, where its mean is v. The minimiser of :math:`E(f - y)^2 + \lambda|w|^2`
    (intercept not penalised) is :math:`w_{inv} = \alpha m`, :math:`w_{sp} = \beta v`,
    :math:`b = -qS\beta` where, with :math:`q = \gamma/2`, :math:`a = v_i + \lambda` and
    :math:`d = v_s + \lambda`,

    .. math:: \alpha = \frac{d + q(1-2q)S}{D}, \quad \beta = \frac{aq}{D}, \quad
              D = ad + Pd + aq(1-q)S + PSq(1-2q).

    Args:
        P: squared length of m, half the distance of the class means; above 0.
        S: squared length of v, the strength of the spurious feature; 0 or more.
        var_inv, var_sp: variances of a coordinate of either part; above 0, 0 or more.
        gamma: share of the positive class that carries the feature, in [0, 1].
        lam: ridge penalty, 0 or more. (scikit-learn's `Ridge` on N rows: `alpha = N lam`.)

    Returns:
        clean: accuracy where nothing carries the feature; spurious: accuracy on the negative class
        carrying it; prediction_difference: :math:`f(x_{inv}, v) - f(x_{inv}, 0) = \beta S`.
        Arguments may be arrays; they are broadcast.

    Raises:
        ValueError: an argument outside its range, or a model without a unique minimiser.

    Source: Yang, Chou & Chaudhuri 2022, Definition 1 and Theorem 1, derived anew (the expressions
    of the released notebook agree with these for P = S = 1 only).

    >>> [round(float(x), 4) for x in rare_linear(1, 5, 0.5, 0.1, 0.25, 0)]
    [0.9191, 0.7673, 0.3503]
    """
    P, S, var_inv, var_sp, gamma, lam = check_ranges(_ALLOWED, P, S, var_inv, var_sp, gamma, lam)
    q, a, d = gamma / 2, var_inv + lam, var_sp + lam
    determinant = a * d + P * d + a * q * (1 - q) * S + P * S * q * (1 - 2 * q)
    if not (determinant > 0).all():
        raise ValueError(
            "var_sp + lam is 0 and the feature never occurs (gamma or S is 0): its weight is not "
            "determined; give it a variance or a penalty"
        )
    alpha, beta = (d + q * (1 - 2 * q) * S) / determinant, a * q / determinant
    sd = np.sqrt(alpha**2 * P * var_inv + beta**2 * S * var_sp)
    if not (sd > 0).all():
        raise ValueError("gamma is 1 and var_sp + lam is 0: the model sees the feature alone")
    shift = q * S * beta
    clean = (ndtr((alpha * P - shift) / sd) + ndtr((alpha * P + shift) / sd)) / 2
    spurious = ndtr((alpha * P - (1 - q) * S * beta) / sd)
    return RareLinear(clean, spurious, beta * S)


def as_plotted(
    P: Numbers, S: Numbers, var_inv: Numbers, var_sp: Numbers, gamma: Numbers, lam: Numbers
) -> RareLinear:
    """The expressions of the released plotting notebook; arguments are those of `rare_linear`.

    In the denominator of the prediction difference S stands where P belongs, and the width of the
    accuracies has other factors: they agree with :func:`rare_linear` for P = S = 1 only.

    Source: the code released with Yang, Chou & Chaudhuri 2022.

    >>> [round(float(x), 4) for x in as_plotted(1, 5, 0.5, 0.1, 0.25, 0)]
    [0.9142, 0.7621, 0.0987]
    """
    P, S, var_inv, var_sp, gamma, lam = check_ranges(_ALLOWED, P, S, var_inv, var_sp, gamma, lam)
    q, a, d = gamma / 2, var_inv + lam, var_sp + lam
    T = P * (d + q * (1 - gamma) * S) / a
    sd = np.sqrt(T**2 * var_inv + q**2 * S**2 * var_sp)
    shift = q**2 * S
    clean = (ndtr((T + shift) / sd) + ndtr((T - shift) / sd)) / 2
    spurious = ndtr((T - q * (1 - q) * S) / sd)
    det = a * d + (d + q * (1 - q) * a + q * (1 - gamma) * S) * S
    return RareLinear(clean, spurious, q * a * S / det)


def rare_reaction(eta: Numbers, S: Numbers, d: Numbers, q: Numbers) -> Numbers:
    r"""Prediction difference for true features of any law, :math:`\eta qS / (d + qS(1-q(2-\eta)))`.

    Args:
        eta: share of the label's variance that the true features leave unexplained, in [0, 1].
        S: squared length of the pattern, 0 or more.
        d: variance of the spurious features plus ridge penalty, above 0.
        q: share of all samples that carry the pattern, in [0, 1].

    Source: ours. With eta = a / (a + P) it is that of :func:`rare_linear`.

    >>> round(float(rare_reaction(0.5 / 1.5, 5, 0.1, 0.125)), 4)
    0.3503
    """
    allowed = {"eta": "[0, 1]", "S": "0 or more, finite", "d": "above 0, finite", "q": "[0, 1]"}
    eta, S, d, q = check_ranges(allowed, eta, S, d, q)
    return eta * q * S / (d + q * S * (1 - q * (2 - eta)))


def ridge_lowers(
    P: Numbers, S: Numbers, var_inv: Numbers, var_sp: Numbers, gamma: Numbers, lam: Numbers
) -> Numbers:
    """Positive exactly where more ridge (or noise) lowers the prediction difference.

    Arguments are those of :func:`rare_linear`. Source: ours, its derivative.

    >>> [bool(ridge_lowers(1, S, v, 0.1, 0.5, 0) > 0) for S, v in ((5, 0.5), (25, 1.0))]
    [True, False]
    """
    P, S, var_inv, var_sp, gamma, lam = check_ranges(_ALLOWED, P, S, var_inv, var_sp, gamma, lam)
    return (var_inv + lam) ** 2 + P * (var_inv - var_sp) - P * S * gamma * (1 - gamma) / 2
