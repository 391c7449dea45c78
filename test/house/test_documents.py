"""What README and the documents say is there, is there."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from end2reg_ros.cli.main import find, main

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*/README.md"))]
README = DOCUMENTS[0].read_text()
# Names with these endings are files of this repository; .json, .ply, .stl without a folder are the reader's own.
NAMED = re.compile(r"[\w./-]*\w\.(?:py|yaml|xml|md|txt|sh|jpg|png|toml|j2|rviz)\b|[\w.-]+/[\w./-]+\.json\b")


def checkout() -> list[str]:
    """Every file of the checkout, as /path/from/the/root."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    names = found.stdout.splitlines() if found.returncode == 0 else []
    return [f"/{name}" for name in names] or [f"/{p.relative_to(ROOT)}" for p in ROOT.rglob("*")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_file_and_folder_that_a_document_names_exists(document: Path) -> None:
    text = re.sub(r"https?://\S+", "", document.read_text())
    files = checkout()
    folders = {f"{file.rsplit('/', 1)[0]}/" for file in files}
    # A workspace's or an elided path before it is the reader's: src/end2reg_ros/..., .../config
    named = {re.sub(r"^(src/end2reg_ros|.*\.\.\.)/", "", name) for name in NAMED.findall(text)}
    absent = {name for name in named if not any(file.endswith(f"/{name.lstrip('./')}") for file in files)}
    absent |= {
        name
        for name in re.findall(r"`(\w[\w./-]*/)`", text)
        if not any(folder.endswith(f"/{name}") for folder in folders)
    }
    links = re.findall(r"\]\(([^)#\s]+)", text)
    absent |= {link for link in links if not (document.parent / link).exists()}
    assert not absent


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_placeholder_is_left(document: Path) -> None:
    assert "FIGURES" not in document.read_text().splitlines()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_section_that_a_link_names_exists(document: Path) -> None:
    """As GitHub makes anchors of headings: lower case, no punctuation, hyphens for blanks."""
    absent = []
    for name, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", document.read_text()):
        text = (document.parent / name).read_text() if name else document.read_text()
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        absent += [f"{name}#{anchor}"] if anchor not in anchors else []
    assert not absent


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda f: str(f.relative_to(ROOT)))
def test_lines_can_be_read_without_scrolling(document: Path) -> None:
    long = [line for line in document.read_text().splitlines() if len(line) > 160]
    assert not long


def commands() -> list[tuple[Path, str]]:
    """Every call of ``end2reg`` in a code block or in backticks, with the document that it stands in."""
    pattern = re.compile(r"^(end2reg [^#\n]+)|`(end2reg [^`\n]+)`", re.MULTILINE)
    return [(d, block or inline) for d in DOCUMENTS for block, inline in pattern.findall(d.read_text())]


def test_every_command_that_a_document_names_exists_with_its_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    help_of: dict[tuple[str, ...], str] = {}
    faults = []
    for document, line in commands():
        words = line.replace(" COMMAND ", " ").split()[1:]
        if words[0].startswith("-"):
            continue
        command = find(words)
        if command is None:
            faults.append(f"{document.name}: {line}")
            continue
        if command.words not in help_of:
            assert main([*command.words, "--help"]) == 0
            help_of[command.words] = capsys.readouterr().out
        options = [word for word in words if word.startswith("--")]
        unknown = [o for o in options if not re.search(rf"(^|\W){o}\b", help_of[command.words])]
        faults += [f"{document.name}: {line}: {unknown}"] if unknown else []
    assert len(commands()) > 30
    assert not faults


def test_readme_stays_short() -> None:
    assert len(README.encode()) <= 10_000


def test_the_index_has_a_line_for_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\((\w+\.md)\)", index))


def test_ros_users_keep_the_numpy_of_their_messages() -> None:
    section = README.split("\n## With ROS 2\n")[1].split("\n## ")[0]
    assert "venv --system-site-packages" in section
    installed = re.findall(r"^pip install -r (\S+)", section, re.MULTILINE)
    assert installed == ["src/end2reg_ros/requirements/runtime-numpy1.txt"]
    assert re.search(r"^numpy==1\.", (ROOT / "requirements" / "runtime-numpy1.txt").read_text(), re.MULTILINE)


def test_generated_documents_are_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("write_documents", ROOT / "tools" / "write_documents.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    stale = [str(f.relative_to(ROOT)) for f, text in tool.documents().items() if f.read_text() != text]
    assert not stale, "make documents"
