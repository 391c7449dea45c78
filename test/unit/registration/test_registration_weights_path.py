"""Which weights a case is registered with; nothing here needs torch or safetensors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from boxes_case import boxes_case

from end2reg_ros.case import Case
from end2reg_ros.errors import RegistrationError
from end2reg_ros.registration import weights_path
from end2reg_ros.registration.weights_path import (
    adapted_weights,
    choose_weights,
    own_weights_path,
    packaged_weights,
    weights_metadata,
)


def write_weights(path: Path, case_hash: str, profile: str = "realtime") -> Path:
    """A safetensors file without tensors: 8 bytes of length, then JSON."""
    record = json.dumps({"case_hash": case_hash})
    header = json.dumps({"__metadata__": {"profile": profile, "record": record, "hash": "12ab"}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with weights of the profile realtime."""
    folder = tmp_path / "package"
    monkeypatch.setattr(weights_path, "files", lambda _: folder)
    return write_weights(folder / "data" / "weights" / "realtime.safetensors", "").parent


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return replace(boxes_case(), path=tmp_path / "case")


def test_given_weights_come_first_then_the_cases_own_then_the_packages(
    case: Case, package: Path, tmp_path: Path
) -> None:
    assert choose_weights(case).path == package / "realtime.safetensors"
    assert (choose_weights(case).source, choose_weights(case).note) == ("package", "")
    own = write_weights(own_weights_path(case.path), case.hash)
    assert (choose_weights(case).path, choose_weights(case).source) == (own, "case")
    given = write_weights(tmp_path / "given.safetensors", "")
    assert (choose_weights(case, given).path, choose_weights(case, given).source) == (given, "given")
    assert choose_weights(None).source == "package"


def test_own_weights_of_another_case_or_profile_are_passed_over_with_the_reason(
    case: Case, package: Path
) -> None:
    own = write_weights(own_weights_path(case.path), "another")
    chosen = choose_weights(case)
    assert chosen.source == "package" and chosen.note == (
        f"the case's own weights ({own}) are passed over: the case has changed since they were made; "
        "run 'end2reg case adapt' again"
    )
    write_weights(own, case.hash, "paper")
    path, note = adapted_weights(case)
    assert path is None and note.endswith("passed over: of profile 'paper', not 'realtime'")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 200, (1 << 30).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7) + b"[]", b"\x09" + bytes(7) + b"{"],
    ids=["empty", "noise", "huge header", "a list", "cut short"],
)  # fmt: skip
def test_own_weights_that_are_no_weights_file_are_passed_over(
    case: Case, package: Path, content: bytes
) -> None:
    own = write_weights(own_weights_path(case.path), case.hash)
    assert weights_metadata(own)["hash"] == "12ab"
    own.write_bytes(content)
    chosen = choose_weights(case)
    assert chosen.source == "package" and f"{own} is no weights file, or cut short" in chosen.note


def test_missing_weights_are_an_error_that_names_them(case: Case, package: Path) -> None:
    with pytest.raises(RegistrationError, match=r"^no weights file absent\.safetensors$"):
        choose_weights(case, Path("absent.safetensors"))
    with pytest.raises(RegistrationError, match=r"^no weights of profile 'paper' come with this package"):
        packaged_weights("paper")
    (package / "realtime.safetensors").unlink()
    write_weights(own_weights_path(case.path), "another")
    with pytest.raises(
        RegistrationError, match=r"give a weights file; the case's own weights .* passed over"
    ):
        choose_weights(case)
