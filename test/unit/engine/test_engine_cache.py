"""Files kept between runs: whole or absent, made again whenever they are not what was asked for."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from end2reg_ros import cache
from end2reg_ros.cache import (
    Arrays,
    CacheMiss,
    CaseEntry,
    arrays_from_bytes,
    arrays_to_bytes,
    cache_folder,
    digest_of,
    digest_of_code,
    seal,
    unseal,
    write_atomically,
)

HASH = "0123456789abcdef" * 4
KEY = {"meshes": "abc", "spacing": 0.001, "count": 3}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "kept"))
    cache._warn_once.cache_clear()
    return tmp_path / "kept"


# The folder


def test_the_folder_is_the_users_choice_before_that_of_the_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("END2REG_CACHE", "/own")
    assert cache_folder() == Path("/own")
    monkeypatch.setenv("END2REG_CACHE", "")
    assert cache_folder() == Path("/x/end2reg_ros")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path("/h/.cache/end2reg_ros")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/h/.cache/end2reg_ros")


def test_without_a_home_nothing_is_kept_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_home() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("END2REG_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    for _ in range(2):
        assert CaseEntry(HASH, "a.bin", KEY).arrays(numbers) == numbers()
    assert caplog.messages == ["nothing is kept between starts: there is no home folder: set END2REG_CACHE"]


# Writing


def test_a_file_is_replaced_as_a_whole_with_the_users_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    before = os.umask(0o027)
    try:
        write_atomically(path, b"one")
        write_atomically(path, b"two")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    whole = Path.write_bytes

    def half(self: Path, content: bytes) -> int:
        whole(self, content[: len(content) // 2])
        raise fault

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(type(fault)):
        write_atomically(path, b"something new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# Seal


def test_a_sealed_payload_comes_back() -> None:
    for payload in (b"", b"\n", bytes(range(256)) * 5):
        assert bytes(unseal(seal(KEY, payload), KEY)) == payload


def test_no_cut_and_no_changed_byte_passes() -> None:
    content = seal(KEY, b"payload\nof two lines")
    for length in range(len(content)):
        with pytest.raises(CacheMiss, match=r"no file of this cache|damaged or cut short"):
            unseal(content[:length], KEY)
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 0x20
        with pytest.raises(CacheMiss, match=r"no file of this cache|damaged or cut short"):
            unseal(bytes(changed), KEY)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({**KEY, "spacing": 0.002}, "made for spacing 0.002, now 0.001"),
        ({**KEY, "meshes": "f" * 64}, "made for meshes ffffffffffff..., now abc"),
        ({"meshes": "abc", "count": 3}, "made for spacing None, now 0.001"),
        ({**KEY, "device": "cpu"}, "made for device cpu, now None"),
    ],
)
def test_what_was_made_of_something_else_is_refused_by_name(found: dict[str, Any], text: str) -> None:
    with pytest.raises(CacheMiss, match=f"^{re.escape(text)}$"):
        unseal(seal(found, b"x"), KEY)


# Arrays


def test_arrays_come_back_bit_by_bit_and_writable() -> None:
    rng = np.random.default_rng(0)
    arrays: Arrays = {
        "floats": rng.normal(size=(7, 3)),
        "nan": np.array([np.nan, -0.0, np.inf, 5e-324]),
        "turned": rng.normal(size=(4, 5)).astype(np.float32).T,
        "flags": rng.random((3, 9)) > 0.5,
        "number": np.array(0.003),
        "none": np.zeros((0, 3), np.int32),
        "a longer name, with 'signs'": np.arange(5, dtype=np.int64),
    }
    back = arrays_from_bytes(arrays_to_bytes(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()
        assert back[name].flags.writeable and back[name].flags.c_contiguous and back[name].flags.aligned


def test_digests_tell_type_shape_and_order_apart() -> None:
    a, b = np.arange(6, dtype=np.int32), np.ones(2)
    all_of_them = [digest_of(a), digest_of(a.reshape(2, 3)), digest_of(a.astype(np.int64)), digest_of(a, b),
                   digest_of(b, a), digest_of(a.view(np.float32))]  # fmt: skip
    assert len(set(all_of_them)) == len(all_of_them)
    assert digest_of(a.copy(), b.copy()) == digest_of(a, b)


def test_code_that_changed_has_another_digest(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("x = 1\n")
    other.write_text("x = 2\n")
    assert digest_of_code(str(one)) != digest_of_code(str(other))
    assert digest_of_code(str(one), str(other)) != digest_of_code(str(one))
    assert digest_of_code(str(tmp_path / "archive.zip" / "one.py")).startswith("version ")


# Entries of a case


def numbers() -> Arrays:
    return {"numbers": np.array(7)}


def never() -> Arrays:
    raise AssertionError("made again, although it is kept")


def counted(made: list[int]) -> Callable[[], Arrays]:
    def make() -> Arrays:
        made.append(1)
        return numbers()

    return make


def test_what_was_made_once_is_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = CaseEntry(HASH, "a.bin", KEY)
    assert entry.arrays(numbers) == numbers()
    assert (folder / "cases" / HASH / "a.bin").is_file()
    assert entry.arrays(never) == numbers()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: content[:-1], "damaged or cut short"),
        (lambda content: b"", "no file of this cache"),
        (lambda content: b"solid ascii\n" + content, "no file of this cache"),
        (lambda content: seal({**KEY, "count": 4}, b"x"), "made for count 4, now 3"),
    ],
)
def test_a_bad_file_is_made_anew_with_one_line(
    folder: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes], why: str
) -> None:
    entry, path = CaseEntry(HASH, "a.bin", KEY), folder / "cases" / HASH / "a.bin"
    entry.arrays(numbers)
    path.write_bytes(damage(path.read_bytes()))
    made: list[int] = []
    assert entry.arrays(counted(made)) == numbers()
    assert made == [1]
    assert caplog.messages == [f"{path} is not used, but made anew: {why}"]
    assert entry.arrays(never) == numbers()


def test_a_folder_that_cannot_be_written_costs_one_line_and_no_more(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file where the folder should be")
    for name in ("a.bin", "b.bin"):
        assert CaseEntry(HASH, name, KEY).arrays(numbers) == numbers()
    assert caplog.messages == [
        f"nothing is kept between starts: {folder} cannot be written (Not a directory)"
    ]
    assert folder.read_text() == "a file where the folder should be"


def test_a_full_disk_costs_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for name in ("a.bin", "b.bin"):
        assert CaseEntry(HASH, name, KEY).arrays(numbers) == numbers()
    assert caplog.messages == [
        f"nothing is kept between starts: {folder} cannot be written (No space left on device)"
    ]


@pytest.mark.parametrize("case_hash", ["", "x", "../" * 20 + "a" * 4, "AB" * 32])
def test_of_a_case_that_is_no_folder_nothing_is_kept(folder: Path, case_hash: str) -> None:
    entry = CaseEntry(case_hash, "a.bin", KEY)
    made: list[int] = []
    entry.arrays(counted(made))
    entry.arrays(counted(made))
    assert made == [1, 1] and not folder.exists()


def test_the_cases_used_longest_ago_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_CASES", 3)
    hashes = [f"{k:064x}" for k in range(5)]
    (folder / "cases" / "a folder of the user").mkdir(parents=True)
    for k, case_hash in enumerate(hashes[:3]):
        CaseEntry(case_hash, "a.bin", KEY).arrays(numbers)
        os.utime(folder / "cases" / case_hash, (k, k))
    CaseEntry(hashes[0], "a.bin", KEY).arrays(never)  # now used last
    for case_hash in hashes[3:]:
        CaseEntry(case_hash, "a.bin", KEY).arrays(numbers)
    left = {path.name for path in (folder / "cases").iterdir()}
    assert left == {hashes[0], hashes[3], hashes[4], "a folder of the user"}
