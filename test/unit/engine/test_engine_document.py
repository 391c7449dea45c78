"""The error texts that docs/engine.md explains are those that the code says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SECTION = (
    (ROOT / "docs" / "engine.md").read_text().split("\n## Errors, and what to do\n")[1].split("\n## ")[0]
)
CELLS = re.findall(r"^\| (?:log: )?(`.+?`) \| ", SECTION, re.MULTILINE)  # the first of each row
TEXTS = [text for cell in CELLS for text in re.findall(r"`([^`]+)`", cell)]


@cache
def said() -> list[str]:
    """Every string of the package; what is put in when it runs is left out, as ``...``."""
    found = []
    for file in sorted((ROOT / "end2reg_ros").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(p.value) if isinstance(p, ast.Constant) else "..." for p in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_there_are_texts() -> None:
    assert len(TEXTS) > 20


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_is_said_somewhere(text: str) -> None:
    pieces = [piece.strip() for piece in text.split("...") if piece.strip(" :,()")]
    in_order = re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)
    assert any(in_order.search(string) for string in said())
