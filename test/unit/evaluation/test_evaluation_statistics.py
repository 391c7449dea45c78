"""Paired comparison of two methods: Wilcoxon's test against figures worked out by hand, and table 3."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.statistics import Selection, compare, compare_documents, signed_rank
from end2reg_ros.evaluation.tables_paper import table_3

# Darwin's cross-fertilised and self-fertilised maize (Fisher 1935), differences in eighths of an inch.
MAIZE = [49.0, -67.0, 8.0, 16.0, 6.0, 23.0, 28.0, 41.0, 14.0, 29.0, 56.0, 24.0, 75.0, 60.0, -48.0]


def test_signed_rank_of_the_maize_data() -> None:
    found = signed_rank(MAIZE, [0.0] * 15)
    # 15 pairs: ranks sum to 120, those of the two negative ones (48 -> 10, 67 -> 14) to 24.
    z = (120 - 24 - 60) / math.sqrt(15 * 16 * 31 / 24)
    assert (found.pairs, found.z) == (15, pytest.approx(z))
    assert found.effect == pytest.approx(z / math.sqrt(15))
    assert found.p == pytest.approx(wilcoxon(MAIZE, correction=False, method="approx").pvalue)
    assert found.text() == "p = 0.041, r = 0.53 (n = 15)"
    turned = signed_rank([0.0] * 15, MAIZE)
    assert (turned.z, turned.p, turned.effect) == (-found.z, found.p, found.effect)


def test_one_sided_differences_reach_the_largest_effect() -> None:
    # All five smaller: W = 0, z = -7.5 / sqrt(13.75), whatever the sizes.
    found = signed_rank([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 100.0])
    assert found.z == pytest.approx(-7.5 / math.sqrt(13.75))
    assert found.effect == pytest.approx(7.5 / math.sqrt(13.75 * 5))


def test_equal_pairs_are_left_out_and_missing_poses_lose() -> None:
    nothing = signed_rank([1.0, math.inf], [1.0, math.inf])
    assert (nothing.pairs, nothing.p, nothing.text()) == (0, 1.0, "–")
    finite = signed_rank([1.0, 1.0, 2.0, 9.0], [1.5, 3.0, 5.0, 99.0])
    infinite = signed_rank([1.0, 1.0, 2.0, 9.0], [1.5, 3.0, 5.0, math.inf])
    assert (infinite.pairs, infinite.z) == (4, finite.z) and infinite.z < 0
    # The one missing pose outranks the three small losses, but does not outweigh them.
    mixed = signed_rank([1.0, 1.0, 2.0, math.inf], [1.5, 3.0, 5.0, 9.0])
    assert -1.0 < mixed.z < 0.0


def test_figures_that_are_no_pairs() -> None:
    with pytest.raises(End2RegError) as caught:
        signed_rank([1.0], [1.0, 2.0])
    assert str(caught.value) == "a paired test needs pairs: 1 figures against 2"
    with pytest.raises(End2RegError) as caught:
        signed_rank([float("nan")], [1.0])
    assert (
        str(caught.value) == "a paired test needs figures: one is NaN (an error without a pose is infinite)"
    )


def document(tre: dict[str, float | None], method: str = "net") -> dict[str, Any]:
    trials = [
        {"scene": s, "method": method, "region": "view", "prior": "none",
         "errors": None if v is None else {"mean_tre_mm": v}}
        for s, v in tre.items()
    ]  # fmt: skip
    return {"trials": [*trials, {**trials[0], "region": "bone", "errors": {"mean_tre_mm": 77.0}}]}


def test_table_3_from_two_documents() -> None:
    rng = np.random.default_rng(0)
    better = {f"s{k}": float(v) for k, v in enumerate(rng.uniform(0.5, 1.5, 40))}
    worse: dict[str, float | None] = {s: v + 1.0 + 0.01 * k for k, (s, v) in enumerate(better.items())}
    worse["s0"], worse["s1"] = None, 12.0
    chosen = [Selection(name, "net") for name in ("two-step", "end-to-end")]
    found = compare_documents((document(worse), chosen[0]), (document(dict(better)), chosen[1]))
    assert found.scenes == 40
    assert found.outliers == (0.05, 0.0)
    assert (found.tre_mm[0].count, found.tre_mm[1].count) == (39, 40)
    assert found.test.z > 5.0 and found.test.effect == pytest.approx(
        40 * 41 / 4 / math.sqrt(40 * 41 * 81 / 24 * 40)
    )
    lines = table_3({"standard": found})
    assert lines[0] == "| suite | training | n | TRE mm | > 10 mm | Wilcoxon signed-rank |"
    assert lines[2] == f"| standard | two-step | 40 | {found.tre_mm[0].text()} | 5.0 % |  |"
    assert lines[3] == (
        f"| standard | end-to-end | 40 | {found.tre_mm[1].text()} * | 0.0 % | p < 0.001, r = 0.87 (n = 40) |"
    )
    # Without a difference no line has an asterisk.
    assert "*" not in "".join(
        table_3({"easy": compare(("a", {"x": 1.0, "y": 2.0}), ("b", {"x": 2.0, "y": 1.0}))})
    )


def test_results_that_do_not_belong_together() -> None:
    one, other = document({"a": 1.0, "b": 2.0}), document({"a": 1.0, "c": 2.0})
    chosen = Selection("two-step", "net"), Selection("end-to-end", "net")
    with pytest.raises(End2RegError) as caught:
        compare_documents((one, chosen[0]), (other, chosen[1]))
    assert str(caught.value) == (
        "two-step and end-to-end are not of the same scenes: 2 scenes are in one only, the first b"
    )
    with pytest.raises(End2RegError) as caught:
        compare_documents((one, Selection("two-step", "icp")), (one, chosen[1]))
    assert str(caught.value) == "two-step: the document holds no trial of method icp, region view, prior none"
    with pytest.raises(End2RegError) as caught:
        compare_documents(({}, chosen[0]), (one, chosen[1]))
    assert str(caught.value) == "two-step: the document holds no trials (an evaluation.json is needed)"
