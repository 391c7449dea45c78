"""How results are told: Markdown tables and the words in their cells; plain figures for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

NOTHING = "–"


def markdown_table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a GitHub Markdown table: heads, a rule, and one line a row of ``body``; cells as they are, not padded."""
    plain = {"disable_numparse": True, "stralign": None, "numalign": None}
    text: str = tabulate(body, heads, tablefmt="github", **plain)
    return text.splitlines()


def table_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """``markdown_table`` of rows that hold the same heads in the same order; no lines of no rows."""
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows]) if rows else []


def number(value: float | None, digits: int = 2) -> str:
    """A figure with so many digits, or a dash where there is none (None, NaN)."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share (0 to 1) in percent, or a dash where there is none (None, NaN)."""
    return NOTHING if share is None or math.isnan(share) else f"{100.0 * share:.{digits}f} %"


def plus_minus(mean: float, sd: float) -> str:
    """``mean ± sd``; the mean alone where one figure has no spread; a dash where there is none."""
    return number(mean) if math.isnan(sd) else f"{mean:.2f} ± {sd:.2f}"


def finite(value: Any) -> Any:
    """Plain data for JSON, which knows neither NaN nor infinity: both become None; keys become text, tuples lists."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
