"""The common look: figures without pyplot, the same bytes for the same data, steps and boxes where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from end2reg_ros.evaluation.plot_style import (
    broken_line,
    cumulative,
    log_axes,
    lying_boxes,
    mark_wrong,
    new_figure,
    save_png,
    styled,
    svg_text,
)


@styled
def a_figure():
    figure, (left, right) = new_figure(6, 3, columns=2)
    lying_boxes(left, [[1.0, 2.0, 3.0], [2.0, 4.0]], ["first", "second"])
    cumulative(right, [3.0, 1.0], "half of four", of=4)
    mark_wrong(right, vertical=True)
    return figure


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_data_give_the_same_bytes_and_no_pyplot_is_left_behind(tmp_path: Path, kind):
    import matplotlib

    before = dict(matplotlib.rcParams)
    if kind == "png":
        one, two = (save_png(a_figure(), tmp_path / "new" / f"{k}.png").read_bytes() for k in "ab")
    else:
        one, two = (styled(svg_text)(a_figure()) for _ in "ab")
        assert one.startswith("<svg")
    assert one == two and len(one) > 1000
    assert dict(matplotlib.rcParams) == before


def test_rows_are_named_from_the_top_and_shares_are_of_all_that_were_asked_for():
    left, right = a_figure().axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["first", "second"]
    assert left.get_ylim()[0] > left.get_ylim()[1]
    x, y = right.lines[0].get_data()
    assert list(x) == [1.0, 3.0] and list(y) == [0.25, 0.5]


def test_a_line_breaks_where_nothing_was_heard():
    t, y = broken_line(np.array([0.0, 0.1, 1.0]), np.array([1.0, 2.0, 3.0]), 0.5)
    assert np.array_equal(t, [0.0, 0.1, np.nan, 1.0], equal_nan=True)
    assert np.array_equal(y, [1.0, 2.0, np.nan, 3.0], equal_nan=True)


def test_logarithmic_axes_are_numbered_plainly():
    figure, (axes,) = new_figure(3, 3)
    axes.plot([1, 200], [0.1, 30])
    log_axes(axes)
    text = axes.xaxis.get_major_formatter()
    assert [text(v, 0) for v in (1, 2, 3, 5, 50, 70)] == ["1", "2", "", "5", "50", ""]
    assert len(svg_text(figure)) > 1000
