"""Paired comparison of two methods on the same scenes: Wilcoxon's signed-rank test and its effect size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.metrics import WRONG_MM
from end2reg_ros.evaluation.spread import Spread, spread

Array = NDArray[np.float64]
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of paired figures (Wilcoxon 1945), two-sided, normal approximation with ties.

    Attributes:
        pairs: that differ; equal ones say nothing and are left out.
        z: below 0 when the first figures tend to be the smaller ones; NaN of no pairs.
        p: probability of so large a |z| without any difference; 1 of no pairs.
        effect: r = |z| / sqrt(pairs); 0.1 small, 0.3 moderate, 0.5 large (Cohen 1988). NaN of no pairs.
    """

    pairs: int
    z: float
    p: float
    effect: float

    def text(self) -> str:
        """``p < 0.001, r = 0.47 (n = 60)``, or a dash."""
        if self.pairs == 0:
            return "–"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{p}, r = {self.effect:.2f} (n = {self.pairs})"


def signed_rank(first: Sequence[float], second: Sequence[float]) -> SignedRank:
    """Compare paired figures, such as the TRE of two methods on the same scenes.

    A method without a pose has an infinite error: it loses against any finite one by more than every finite pair
    differs, and is equal to another infinite one.

    Raises:
        End2RegError: another number of figures on either side, or a figure that is NaN.
    """
    from scipy.stats import wilcoxon

    if len(first) != len(second):
        raise End2RegError(f"a paired test needs pairs: {len(first)} figures against {len(second)}")
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if np.isnan(a).any() or np.isnan(b).any():
        raise End2RegError("a paired test needs figures: one is NaN (an error without a pose is infinite)")
    difference = finite_differences(a, b)
    difference = difference[difference != 0.0]
    if len(difference) == 0:
        return SignedRank(0, float("nan"), 1.0, float("nan"))
    # Ranks, not sizes, are compared: noise of the last digit must not tell equal sizes apart.
    found = wilcoxon(np.round(difference, 9), zero_method="wilcox", correction=False, method="approx")
    # SciPy's sign has changed between its versions; that of the mean rank has not.
    z = math.copysign(abs(float(found.zstatistic)), signed_rank_sum(difference))
    return SignedRank(len(difference), z, float(found.pvalue), abs(z) / math.sqrt(len(difference)))


def finite_differences(a: Array, b: Array) -> Array:
    """a - b, where one infinite figure counts as one more than the largest finite difference, two as equal."""
    both = np.isfinite(a) & np.isfinite(b)
    largest = float(np.abs(a[both] - b[both]).max(initial=0.0)) + 1.0
    difference = np.zeros(len(a))
    difference[both] = a[both] - b[both]
    difference[np.isinf(a) & np.isfinite(b)] = largest
    difference[np.isfinite(a) & np.isinf(b)] = -largest
    return difference


def signed_rank_sum(difference: Array) -> float:
    """Sum of the ranks of |difference| with the signs of the differences."""
    from scipy.stats import rankdata

    return float(np.sum(np.sign(difference) * rankdata(np.round(np.abs(difference), 9))))


@dataclass(frozen=True)
class Comparison:
    """Table 3: one method with two trainings on the same scenes.

    Attributes:
        names: of the two.
        scenes: compared.
        tre_mm: of each, over the scenes with a pose.
        outliers: share of the scenes of each with TRE above 10 mm or no pose.
        test: first against second.
    """

    names: tuple[str, str]
    scenes: int
    tre_mm: tuple[Spread, Spread]
    outliers: tuple[float, float]
    test: SignedRank


@dataclass(frozen=True)
class Selection:
    """One group of trials of a result document: its name in the table, and what picks it."""

    name: str
    method: str
    region: str = "view"
    prior: str = "none"


def tre_by_scene(document: Mapping[str, Any], chosen: Selection) -> dict[str, float]:
    """Scene -> TRE in mm (infinite without a pose) of an evaluation.json.

    Raises:
        End2RegError: no trial of that kind, or not such a document.
    """
    trials = document.get("trials")
    if not isinstance(trials, list):
        raise End2RegError(f"{chosen.name}: the document holds no trials (an evaluation.json is needed)")
    found: dict[str, float] = {}
    for trial in trials:
        if (trial["method"], trial["region"], trial["prior"]) == (chosen.method, chosen.region, chosen.prior):
            errors = trial["errors"]
            found[trial["scene"]] = float("inf") if errors is None else float(errors["mean_tre_mm"])
    if not found:
        wanted = f"method {chosen.method}, region {chosen.region}, prior {chosen.prior}"
        raise End2RegError(f"{chosen.name}: the document holds no trial of {wanted}")
    return found


def compare(first: tuple[str, Mapping[str, float]], second: tuple[str, Mapping[str, float]]) -> Comparison:
    """Compare two sets of scene -> TRE in mm (infinite without a pose), each with its name.

    Raises:
        End2RegError: they are not of the same scenes.
    """
    (name_a, a), (name_b, b) = first, second
    if a.keys() != b.keys():
        odd = sorted(a.keys() ^ b.keys())
        where = f"{len(odd)} scenes are in one only, the first {odd[0]}"
        raise End2RegError(f"{name_a} and {name_b} are not of the same scenes: {where}")
    scenes = sorted(a)
    values = [np.array([side[scene] for scene in scenes]) for side in (a, b)]
    tre = [spread(v[np.isfinite(v)]) for v in values]
    outliers = [float(np.mean(v > WRONG_MM)) if len(v) else float("nan") for v in values]
    test = signed_rank(values[0].tolist(), values[1].tolist())
    return Comparison((name_a, name_b), len(scenes), (tre[0], tre[1]), (outliers[0], outliers[1]), test)


def compare_documents(
    first: tuple[Mapping[str, Any], Selection], second: tuple[Mapping[str, Any], Selection]
) -> Comparison:
    """Table 3 from two evaluation.json documents of the same scenes, such as two-step against end-to-end.

    Raises:
        End2RegError: as ``tre_by_scene`` and ``compare``.
    """
    (document_a, chosen_a), (document_b, chosen_b) = first, second
    return compare(
        (chosen_a.name, tre_by_scene(document_a, chosen_a)),
        (chosen_b.name, tre_by_scene(document_b, chosen_b)),
    )
