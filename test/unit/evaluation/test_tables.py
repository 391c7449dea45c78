"""Markdown tables and the words in their cells."""

from __future__ import annotations

from end2reg_ros.evaluation.tables import finite, markdown_table, number, percent, plus_minus

NAN = float("nan")


def test_a_table_shows_its_cells_as_they_are():
    lines = markdown_table(["name", ""], [["a", "1.20"], ["0012", "1.00 [0.5, 2]"]])
    assert lines[0] == "| name | |" or lines[0] == "| name |  |"
    assert set(lines[1]) <= set("|-")
    assert lines[2:] == ["| a | 1.20 |", "| 0012 | 1.00 [0.5, 2] |"]
    assert len(markdown_table(["name"], [])) == 2


def test_a_cell_without_a_figure_is_a_dash():
    assert (number(1.234), number(1.234, 0), number(None), number(NAN)) == ("1.23", "1", "–", "–")
    assert (percent(0.125), percent(0.125, 0), percent(None), percent(NAN)) == ("12.5 %", "12 %", "–", "–")
    assert (plus_minus(1.0, 0.5), plus_minus(1.0, NAN), plus_minus(NAN, NAN)) == ("1.00 ± 0.50", "1.00", "–")


def test_json_knows_no_infinity():
    assert finite({1: (1.0, NAN), "b": [float("inf")]}) == {"1": [1.0, None], "b": [None]}
