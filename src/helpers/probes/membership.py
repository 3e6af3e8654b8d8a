"""Membership inference: was this image in the training set? Asked of a network's outputs alone.

The attacker sees what the *target* network answers to an image, and knows the image's label. To
learn what answers to training images look like, he trains a *shadow* network of the same kind on
images of his own, for which he knows which ones he used. Source of the attack: Shokri et al. 2017
in the simple form of Yang, Chou & Chaudhuri 2022, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers.data import check_answers, right_answers

ATTACKS = ("shadow", "confidence", "calibrated")
STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # inverse ridge penalties among which the shadow attack chooses
PARTS = ("target-train", "target-test", "shadow-train", "shadow-test")


class MembershipInference(NamedTuple):
    """How well scores tell members of a training set from others.

    Attributes:
        auc: area under the ROC curve, ties counted half.
        tpr, fpr: shares of members and of others that are called members at the threshold given.
        tpr_1, tpr_01: the largest share of members that is found by a threshold which calls at most
            1 % (0.1 %) of the others members.
    """

    auc: float
    tpr: float
    fpr: float
    tpr_1: float
    tpr_01: float

    @property
    def balanced_accuracy(self) -> float:
        """Accuracy if half of all images were members, at the threshold given."""
        return (1 + self.tpr - self.fpr) / 2


def membership_inference(
    member_scores: Sequence[float], nonmember_scores: Sequence[float], threshold: float
) -> MembershipInference:
    """What an attack achieves that calls an image a member if its score reaches the threshold.

    The threshold must not come from these scores: a real attacker has to fix it without knowing who
    is a member. With fewer than 1,000 others, 0.1 % of them is none, and `tpr_01` is the share of
    members above them all (`tpr_1` with fewer than 100). Nothing is interpolated.

    Args:
        member_scores: `(m,)`, larger for images that look more like members; no NaN.
        nonmember_scores: `(k,)`, of images that were not in the training set.
        threshold: images that score this or more are called members.

    Raises:
        ValueError: no members, no others, NaN.

    Source: TPR at a low FPR as in Carlini et al. 2022, "Membership inference attacks from first
    principles".

    >>> found = membership_inference([3.0, 1.0], [0.0, 1.0, 2.0, 0.0], threshold=2.0)
    >>> found.auc, found.tpr, found.fpr, found.tpr_1, found.balanced_accuracy
    (0.8125, 0.5, 0.25, 0.5, 0.625)
    """
    members = _scores("member_scores", member_scores)
    others = _scores("nonmember_scores", nonmember_scores)
    if np.isnan(threshold):
        raise ValueError("threshold is nan: it must be a number")
    wins = stats.mannwhitneyu(members, others, method="asymptotic").statistic
    falling = np.sort(others)[::-1]

    def found_at(level: float) -> float:
        allowed = int(np.floor(level * others.size + 1e-9))  # 0.29 * 100 is less than 29
        return float((members > falling[allowed]).mean()) if allowed < others.size else 1.0

    return MembershipInference(
        auc=float(wins) / (members.size * others.size),
        tpr=float((members >= threshold).mean()),
        fpr=float((others >= threshold).mean()),
        tpr_1=found_at(0.01),
        tpr_01=found_at(0.001),
    )


def _scores(name: str, values: Sequence[float]) -> np.ndarray:
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or not sample.size:
        raise ValueError(f"{name} has shape {sample.shape}: expected (n,), at least one score")
    if np.isnan(sample).any():
        raise ValueError(f"{name} has {int(np.isnan(sample).sum())} NaN: scores are numbers")
    return sample


class Answers(NamedTuple):
    """What a network says of images: outputs before the softmax `(m, classes)`, labels `(m,)`."""

    outputs: torch.Tensor
    labels: torch.Tensor

    def rows(self, chosen: torch.Tensor) -> Answers:
        """These images: positions, or a mask of all of them."""
        return Answers(self.outputs[chosen], self.labels[chosen])

    @property
    def correct(self) -> torch.Tensor:
        """Is the largest output the label's? bool `(m,)`; ValueError as `right_answers`."""
        return right_answers(*self)


def four_parts(size: int, seed: int, part: int | None = None) -> dict[str, torch.Tensor]:
    """Rows of four equal parts of a pool of images, drawn at random, by the names in `PARTS`.

    Args:
        size: images in the pool.
        seed: of the draw.
        part: images in each part; None: as many as there are.

    Raises:
        ValueError: parts of no image, or of more than a quarter of the pool.

    Source: Yang, Chou & Chaudhuri 2022, section 4.

    >>> {name: len(rows) for name, rows in four_parts(70_000, seed=0).items()}["shadow-test"]
    17500
    """
    most = size // len(PARTS)
    part = most if part is None else part
    if not 1 <= part <= most:
        raise ValueError(f"part is {part}: allowed is 1 to {most}, a quarter of {size} images")
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return dict(zip(PARTS, order.split(part), strict=False))


def features(answers: Answers) -> np.ndarray:
    """`(m, classes + 1)`: the outputs in rising order, and whether the answer is right, 0 or 1.

    Raises:
        ValueError: as :func:`helpers.data.right_answers`.

    Source: Yang, Chou & Chaudhuri 2022, section 4; outputs before the softmax as in their code.

    >>> features(Answers(torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([0]))).tolist()
    [[-1.0, 0.5, 2.0, 1.0]]
    """
    ordered = answers.outputs.double().sort(1).values
    return torch.cat([ordered, answers.correct.double()[:, None]], 1).cpu().numpy()


def confidence(answers: Answers) -> np.ndarray:
    r"""`(m,)`: :math:`\log\frac{p}{1-p}` of the label's probability p, without its rounding to 1.

    In the order of the loss, but with tails that can be told apart: networks that fit their
    training set give probabilities which are 1 in single precision.

    Raises:
        ValueError: as :func:`helpers.data.right_answers`, and one output alone.

    Source: Carlini et al. 2022, equation 4 ("logit scaling").

    >>> confidence(Answers(torch.tensor([[100.0, 0.0]]), torch.tensor([0]))).tolist()
    [100.0]
    """
    check_answers(*answers, single=False)
    outputs, label = answers.outputs.double(), answers.labels.long()[:, None]
    rest = outputs.scatter(1, label, -torch.inf).logsumexp(1)
    return (outputs.gather(1, label)[:, 0] - rest).cpu().numpy()


def fit_shadow(members: Answers, others: Answers) -> Pipeline:
    """The paper's attack: logistic regression on the features of a shadow network's answers.

    Features are standardised with the mean and standard deviation of these answers; the ridge
    penalty is the one of `STRENGTHS` that is best in 3-fold cross-validation. `decision_function`
    of what is returned is above 0 where an image is called a member.

    Raises:
        ValueError: fewer than three members or others.

    Source: Yang, Chou & Chaudhuri 2022, section 4.
    """
    counts = f"{len(members.labels)} members and {len(others.labels)} others"
    if min(len(members.labels), len(others.labels)) < 3:
        raise ValueError(f"{counts}: three of each are needed for cross-validation")
    known = np.concatenate([features(members), features(others)])
    is_member = np.arange(len(known)) < len(members.labels)
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    search = GridSearchCV(regression, {"logisticregression__C": STRENGTHS}, cv=3)
    return search.fit(known, is_member).best_estimator_


def best_threshold(member_scores: np.ndarray, nonmember_scores: np.ndarray) -> float:
    """The threshold with the best balanced accuracy on scores whose membership is known.

    Infinite, so that nobody is called a member, where every score makes it worse than that. Source:
    Youden 1950.

    >>> best_threshold(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    2.0
    """
    scores = np.concatenate([member_scores, nonmember_scores])
    fpr, tpr, thresholds = roc_curve(np.arange(len(scores)) < len(member_scores), scores)
    return float(thresholds[np.argmax(tpr - fpr)])


class Attacker:
    """Someone with a shadow network, and three ways to judge what the target network answers.

    - ``shadow``: the paper's, :func:`fit_shadow`.
    - ``confidence``: :func:`confidence` in the image's own label above a threshold, which is the
      best one on the shadow network.
    - ``calibrated``: the target network is more confident than the shadow network, which has not
      seen the image either way. Source: Watson et al. 2022 (difficulty calibration).
    """

    def __init__(self, members: Answers, others: Answers) -> None:
        """Learn from the shadow network's answers to its members and to others."""
        self.classifier = fit_shadow(members, others)
        known = confidence(members), confidence(others)
        self.thresholds = {"shadow": 0.0, "confidence": best_threshold(*known), "calibrated": 0.0}

    def scores(self, target: Answers, shadow: Answers) -> dict[str, np.ndarray]:
        """Scores `(m,)` of each attack, from both networks' answers to the same m images.

        Raises:
            ValueError: labels that differ.
        """
        if not torch.equal(target.labels, shadow.labels):
            raise ValueError("target and shadow have different labels: give the same images")
        sure = confidence(target)
        return {
            "shadow": self.classifier.decision_function(features(target)),
            "confidence": sure,
            "calibrated": sure - confidence(shadow),
        }

    def attack(
        self, members: tuple[Answers, Answers], others: tuple[Answers, Answers]
    ) -> dict[str, MembershipInference]:
        """What each attack achieves; both pairs are answers of the target and of the shadow.

        Raises:
            ValueError: no members or no others.
        """
        inside, outside = self.scores(*members), self.scores(*others)
        return {
            name: membership_inference(inside[name], outside[name], threshold)
            for name, threshold in self.thresholds.items()
        }


def printed_accuracy(attack: Pipeline, members: Answers, others: Answers) -> float:
    """The number that is printed as accuracy on all examples, which is none.

    The published code asks about the outputs of the *members* twice, once as members and once as
    others; only the last feature, right or wrong, comes from the others. Without that feature the
    value would be 1/2 whatever the network.

    Args:
        attack: of :func:`fit_shadow`.
        members: target network's answers to its training set.
        others: to as many other images.

    Raises:
        ValueError: different numbers of images.

    Source: notebook of Yang, Chou & Chaudhuri 2022 (their Figures 5 and 22).
    """
    asked = features(members)
    if len(asked) != len(others.labels):
        counts = f"{len(asked)} members and {len(others.labels)} others"
        raise ValueError(f"{counts}: the numbers must be equal")
    again = asked.copy()
    again[:, -1] = others.correct.double().cpu().numpy()
    called = [attack.predict(table).mean() for table in (asked, again)]
    return float((called[0] + 1 - called[1]) / 2)
