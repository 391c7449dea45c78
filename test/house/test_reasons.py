"""Reason codes are members of ``Reason``, nowhere text of their own."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from end2reg_ros.errors import CloudError
from end2reg_ros.reasons import Reason

ROOT = Path(__file__).resolve().parents[2]
# Everything that takes a code first, or as an argument of one of these names.
TAKES_A_CODE = {"CloudError", "Restart", "Silence", "Reason", "drop", "warn", "refused", "failed", "Change"}
NAMES = {"reason_code"}
# Codes that are ordinary words, too, and stand for themselves elsewhere.
WORDS = {"ok", "gap", "jump", "reset", "relocalize", "encoding", "truncated", "waiting", "disabled", "frozen"}


def test_a_code_is_its_text() -> None:
    assert Reason.FEW_INLIERS == "few_inliers" and {"few_inliers": 3}[Reason.FEW_INLIERS] == 3
    assert f"{Reason.OK} {Reason.OK:>4} {Reason.OK!s}" == "ok   ok ok"
    assert json.dumps({Reason.OK: Reason.GAP}) == '{"ok": "gap"}'
    assert Reason("frozen") is Reason.FROZEN is pickle.loads(pickle.dumps(Reason.FROZEN))
    assert CloudError(Reason.UNIT_MM, "text").code == "unit_mm"


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_a_code_says_what_happened(reason: Reason) -> None:
    assert str(reason) == reason.name.lower()
    assert reason.sentence.endswith(".") and "|" not in reason.sentence


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of each string that stands where a reason code does."""
    for node in ast.walk(tree):
        found: list[ast.expr] = []
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found += node.args[:1] if name in TAKES_A_CODE else []
            found += [keyword.value for keyword in node.keywords if keyword.arg in NAMES]
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(getattr(side, "attr", getattr(side, "id", "")) in NAMES for side in sides):
                found += sides
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            found += [part for part in node.value.elts if getattr(part, "value", None) in set(Reason)]
        elif isinstance(node, ast.Constant) and node.value in set(Reason) - WORDS:
            found.append(node)
        for value in found:
            for part in ast.walk(value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
                    yield part.lineno, part.value


AWAITED = {"registration", "fit", "find", "tracking"}


def test_no_code_is_minted_as_text() -> None:
    files = [*(ROOT / "end2reg_ros").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    minted = {
        f"{file.relative_to(ROOT)}:{line}: {text!r}"
        for file in sorted(files)
        if file.name != "reasons.py" and file.parent.name not in AWAITED
        for line, text in literals(ast.parse(file.read_text()))
    }
    assert not minted, f"use a member of Reason: {sorted(minted)}"
