"""The Python blocks of README and docs/ run, one after another, in a folder that holds what they name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from views import cloud_of, frame

from end2reg_ros import bundled_case_path
from end2reg_ros.cloud.ply import PlyPoints, write_ply

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_CODE = [f for f in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if BLOCK.search(f.read_text())]
# What these show has its arrays from elsewhere: their imports are run, with torch where that is installed.
EXCERPTS = ("network.md", "region.md")


@pytest.mark.parametrize("document", WITH_CODE, ids=lambda f: f.name)
def test_python_blocks_run(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(bundled_case_path(), tmp_path / "mycase")
    cloud = cloud_of(frame(0))
    write_ply(tmp_path / "cloud.ply", PlyPoints(cloud.points, cloud.colours))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in BLOCK.findall(document.read_text()):
        if document.name in EXCERPTS:
            pytest.importorskip("torch")
            block = "\n".join(re.findall(r"^(?:from|import) .*", block, re.MULTILINE))
        exec(compile(block, document.name, "exec"), names)
    if "found" in names:
        assert names["found"].success
        assert "L3" in capsys.readouterr().out


def test_readme_and_the_python_page_show_code() -> None:
    assert {"README.md", "python.md"} <= {document.name for document in WITH_CODE}
