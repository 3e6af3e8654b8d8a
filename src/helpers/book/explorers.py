"""The explorers: closed forms of `helpers.theory` drawn with sliders.

The one module of `helpers.book` that knows a theory: chapters show the explorers whole.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from helpers import theory
from helpers.book import figures
from helpers.book.sliders import Curve, Interactive, Panel
from helpers.theory import Numbers

# -- the alignment constants -----------------------------------------------------------------------

ALPHAS = tuple(round(0.05 * step, 2) for step in range(1, 20))
# six values a decade; the slider stops at every other one
RATIOS = tuple(float(f"{10 ** (step / 6):.3g}") for step in range(-12, 13))
STOPS = RATIOS[::2]
LAWS: dict[str, Callable[..., Numbers]] = dict.fromkeys(
    ("phi2", "phi4", "relu", "tanh"), theory.gamma_staircase
) | dict.fromkeys(("h0+h1", "h0+h3", "h0+h7", "step"), theory.gamma_staircase_ntk)
# the last stop is N = 20,000, about as many samples as there are harmonics of degree 2
DIM = 200
TITLES = ("γ falls as samples are added", "γ grows with α and stays below it")


def alignment_explorer(alpha: float = 0.5, ratio: float = 1.0) -> Interactive:
    r"""The alignment constants :math:`\gamma_{RF}`, :math:`\gamma_{NTK}` at d = `DIM`, two panels.

    First panel: over N/d, with a slider for alpha. Second panel: over alpha, with a slider for N/d.
    The curves are those of `LAWS` in its order.

    Args:
        alpha: where the first slider starts, one of `ALPHAS`.
        ratio: where the second slider starts, one of `STOPS`.

    Raises:
        ValueError: a start that is not a stop of its slider.

    Source: :func:`helpers.theory.gamma_staircase`, :func:`helpers.theory.gamma_staircase_ntk`.
    """
    tables = [table(key) for key in LAWS]
    panels = (
        Panel(
            TITLES[0], "N/d", np.array(RATIOS), (0.01, 100), True, "α", ALPHAS, ("alpha", alpha),
            lambda stop: [rows[ALPHAS.index(stop)].tolist() for rows in tables],
        ),
        Panel(
            TITLES[1], "α", np.array(ALPHAS), (0, 1), False, "N/d", STOPS, ("ratio", ratio),
            lambda stop: [rows[:, RATIOS.index(stop)].tolist() for rows in tables],
        ),
    )  # fmt: skip
    return Interactive(
        "alignment-explorer",
        "Two panels of curves, one for each activation: the alignment constant gamma against the "
        f"number of samples per dimension N/d, at d = {DIM} and alpha = {alpha}, and against the "
        f"share alpha of the background, at N/d = {ratio:g}. Gamma falls with N/d step by step; it "
        "grows with alpha and stays below it.",
        panels,
        [_look(key) for key in LAWS],
        "γ",
        diagonals=(1,),
    )


def table(key: str) -> np.ndarray:
    """Constants of one curve of `LAWS`, four digits: shape `(len(ALPHAS), len(RATIOS))`."""
    shares, ratios = np.meshgrid(ALPHAS, RATIOS, indexing="ij")
    return np.round(LAWS[key](key, shares, DIM * ratios, DIM), 4)


def plain(label: str) -> str:
    r"""A label of `figures.LABELS` in plain characters.

    The legend of a drawing is no place for typeset formulas.

    >>> plain(r"$\phi_2 = h_1 + h_2$")
    'φ₂ = h₁ + h₂'
    """
    text = label.replace("$", "").replace(r"\phi", "φ")
    return re.sub(r"_(\d)", lambda found: "₀₁₂₃₄₅₆₇₈₉"[int(found[1])], text)


def _look(key: str) -> Curve:
    """The look of one curve of `LAWS` in all panels."""
    # some NTK curves lie on one of random features (h0+h1 on phi2): thin dashes on a wide pale
    # line show both
    features = LAWS[key] is theory.gamma_staircase
    dash, width, opacity = ("solid", 6, 0.55) if features else ("dash", 2, 1)
    group = "Random features:" if features else "NTK, φ′ ="
    return Curve(plain(figures.LABELS[key]), figures.COLOURS[key], dash, width, opacity, group)


# -- the explorer of rare examples -----------------------------------------------------------------

# what stays fixed, as in the noise and ridge panels of Yang, Chou & Chaudhuri
RARE_FIXED = {"P": 1.0, "var_inv": 0.5, "var_sp": 0.1}
SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
STRENGTHS = (1.0, 3.0, 10.0, 20.0, 50.0, 100.0, 300.0, 1e3, 1e4, 1e5)
RIDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
RARE_CURVES = {
    "clean": ("clean accuracy", "test", "solid"),
    "spurious": ("accuracy with the pattern", "spurious", "solid"),
    "prediction_difference": ("Δ", "law", "dash"),
}


def rare_curves(gamma: np.ndarray, strength: np.ndarray, lam: np.ndarray) -> list[list[float]]:
    """The curves of `RARE_CURVES` over whichever argument is an array, four digits.

    Args:
        gamma, lam: as in :func:`helpers.theory.rare_linear`.
        strength: S over the variance of a spurious coordinate.

    Source: :func:`helpers.theory.rare_linear`, the other arguments from `RARE_FIXED`.

    >>> rare_curves(np.array([0.25]), 50.0, 0.0)
    [[0.9191], [0.7673], [0.3503]]
    """
    S = strength * RARE_FIXED["var_sp"]
    found = theory.rare_linear(S=S, gamma=gamma, lam=lam, **RARE_FIXED)
    return [np.round(getattr(found, key), 4).tolist() for key in RARE_CURVES]


def rare_explorer(strength: float = 50.0, lam: float = 0.0, gamma: float = 0.1) -> Interactive:
    r"""The linear model of rare spurious examples in three panels.

    Each of the three quantities is the axis of one panel and the slider of another: over the share
    gamma with a slider for the strength (no ridge), over the strength with a slider for the ridge
    (gamma = 0.1), over the ridge with a slider for gamma (strength 50). The curves are those of
    `RARE_CURVES` in its order.

    Args:
        strength: where the first slider starts, one of `STRENGTHS`.
        lam: where the second slider starts, one of `RIDGES`.
        gamma: where the third slider starts, one of `SHARES`.

    Raises:
        ValueError: a start that is not a stop of its slider.

    Source: :func:`helpers.theory.rare_linear`.
    """
    shares = np.round(np.r_[0, np.geomspace(2e-4, 0.5, 50)], 5)
    strengths, ridges = (
        np.array([float(f"{x:.3g}") for x in np.geomspace(*ends, 41)])
        for ends in ((1, 1e5), (1e-3, 100))
    )
    ratio = "S/v<sub>s</sub>"
    panels = (
        Panel(
            "A few suffice (λ = 0)", "γ", shares, (0, 0.5), False,
            ratio, STRENGTHS, ("strength", strength), lambda stop: rare_curves(shares, stop, 0.0),
        ),
        Panel(
            "Strength hurts (γ = 0.1)", ratio, strengths, (1, 1e5), True,
            "λ", RIDGES, ("lam", lam), lambda stop: rare_curves(0.1, strengths, stop),
        ),
        Panel(
            f"Ridge damps ({ratio} = 50)", "λ", ridges, (1e-3, 100), True,
            "γ", SHARES, ("gamma", gamma), lambda stop: rare_curves(stop, 50.0, ridges),
        ),
    )  # fmt: skip
    return Interactive(
        "rare-explorer",
        "Three panels with clean accuracy, accuracy with the pattern and prediction difference: "
        f"against the share gamma at S/vs = {strength:g}, against S/vs at lambda = {lam:g}, and "
        f"against lambda at gamma = {gamma:g}. Accuracy with the pattern falls and the difference "
        "rises within a small range of gamma, smaller for larger S/vs; a ridge lowers the "
        "difference.",
        panels,
        _curves(RARE_CURVES),
        "accuracy, Δ",
    )


# -- the explorer of shortcut and core -------------------------------------------------------------

# what stays fixed where it is neither an axis nor a slider
AXES_FIXED = {"rho": 0.95, "m_s": 2.0, "m_c": 1.0, "sigma_s": 0.7, "sigma_c": 0.7}
AMPLITUDES = (0.25, 0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
BALANCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
CORE_NOISES = (0.0, 0.1, 0.25, 0.5, 0.7, 1.0, 1.5, 2.0)
AXES_CURVES = {
    "aligned": ("accuracy, aligned", "test", "solid"),
    "conflicting": ("accuracy, conflicting", "spurious", "solid"),
    "shortcut": ("shortcut's share of the output", "law", "dash"),
    "spectrum": ("μ₁ / (μ₁ + μ₂)", "bound", "dot"),
}


def axes_curves(**changed: np.ndarray | float) -> list[list[float]]:
    """The curves of `AXES_CURVES` over whichever argument is an array, four digits.

    The shortcut's share of the output is R / (1 + R): above 1/2 where the shortcut wins.

    Args:
        changed: arguments of :func:`helpers.theory.two_axis` that are not as in `AXES_FIXED`.

    Source: :func:`helpers.theory.two_axis`.

    >>> axes_curves(sigma_c=np.array([0.05, 1.0]))[1]
    [1.0, 0.0927]
    """
    found = theory.two_axis(**AXES_FIXED | changed)
    first, second = found.eigenvalues
    curves = {
        "aligned": found.aligned,
        "conflicting": found.conflicting,
        "shortcut": found.reliance / (1 + found.reliance),
        "spectrum": first / (first + second),
    }
    return [np.round(curves[key], 4).tolist() for key in AXES_CURVES]


def two_axis_explorer(m_s: float = 2.0, rho: float = 0.95, sigma_c: float = 0.7) -> Interactive:
    r"""The trained linear network on one shortcut axis and one core axis, in three panels.

    Over the share of aligned samples with a slider for the shortcut's amplitude, over the noise of
    the core with a slider for the share, over the noise of the shortcut with a slider for the noise
    of the core. What is neither is as in `AXES_FIXED`. The curves are those of `AXES_CURVES` in its
    order. Where accuracy on conflicting samples and the shortcut's share cross the dotted line at
    1/2, the shortcut begins to win.

    Args:
        m_s: where the first slider starts, one of `AMPLITUDES`.
        rho: where the second slider starts, one of `BALANCES`.
        sigma_c: where the third slider starts, one of `CORE_NOISES`.

    Raises:
        ValueError: a start that is not a stop of its slider.

    Source: :func:`helpers.theory.two_axis`.
    """
    shares = np.round(np.r_[np.linspace(0.5, 0.94, 23), np.linspace(0.95, 0.998, 17)], 4)
    noises = np.round(np.linspace(0, 2, 41), 3)
    m, sigma = "m<sub>s</sub>", "σ<sub>c</sub>"
    panels = (
        Panel(
            "Imbalance, amplitude", "ρ", shares, (0.5, 1), False,
            m, AMPLITUDES, ("m_s", m_s), lambda stop: axes_curves(rho=shares, m_s=stop),
        ),
        Panel(
            "Noise of the core", sigma, noises, (0, 2), False,
            "ρ", BALANCES, ("rho", rho), lambda stop: axes_curves(sigma_c=noises, rho=stop),
        ),
        Panel(
            "Noise of the shortcut", "σ<sub>s</sub>", noises, (0, 2), False,
            sigma, CORE_NOISES, ("sigma_c", sigma_c),
            lambda stop: axes_curves(sigma_s=noises, sigma_c=stop),
        ),
    )  # fmt: skip
    return Interactive(
        "two-axis-explorer",
        "Three panels with accuracy on aligned and on conflicting samples, the shortcut's share of "
        "the output, and the first feature's share of the spectrum: against the share of aligned "
        f"samples rho at amplitude {m_s:g}, against the noise of the core at rho = {rho:g}, and "
        f"against the shortcut's noise at core noise {sigma_c:g}. Accuracy on conflicting samples "
        "falls with rho and with the noise of the core, and crosses one half where the shortcut's "
        "share does.",
        panels,
        _curves(AXES_CURVES),
        "accuracy, share",
        level=0.5,
    )


def _curves(table: Mapping[str, tuple[str, str, str]]) -> list[Curve]:
    return [Curve(name, figures.COLOURS[colour], dash) for name, colour, dash in table.values()]
