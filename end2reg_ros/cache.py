"""Files kept between runs. All of them can be made again: one that is missing, cut, stale or foreign costs time, no more."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import __version__

Arrays = dict[str, NDArray[Any]]
Key = Mapping[str, str | int | float | bool]

_MAGIC = b"end2reg_ros cache 1 "
_HEAD = len(_MAGIC) + 64 + 1  # the magic, a sha256 in hexadecimal digits, a line feed
_CASE_HASH = re.compile(r"[0-9a-f]{64}")
#: Case folders kept, about 12 MB each; those used longest ago go first.
MAX_CASES = 32

_log = logging.getLogger(__name__)


class CacheMiss(Exception):
    """What is in a file cannot be used; the text says why, for the log."""


def cache_folder() -> Path:
    """``$END2REG_CACHE``, else ``$XDG_CACHE_HOME/end2reg_ros``, else ``~/.cache/end2reg_ros``; it may not exist yet.

    Raises:
        OSError: none of them is set, and the user has no home folder.
    """
    if own := os.environ.get("END2REG_CACHE"):
        return Path(own)
    # The XDG specification: a relative path is to be ignored.
    if (shared := os.environ.get("XDG_CACHE_HOME")) and os.path.isabs(shared):
        return Path(shared) / "end2reg_ros"
    try:
        return Path.home() / ".cache" / "end2reg_ros"
    except RuntimeError:
        raise OSError("there is no home folder: set END2REG_CACHE") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all; its folder is made. The last of several writers wins.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        # Not synchronised with the disk: what a power failure leaves does not pass the check of its digest.
        new.write_bytes(content)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def seal(key: Key, payload: bytes) -> bytes:
    """Content of a file that says what its payload was made of, and can be checked."""
    body = json.dumps(dict(key)).encode() + b"\n" + payload
    return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def unseal(content: bytes, key: Key) -> memoryview:
    """The payload of a sealed file.

    Raises:
        CacheMiss: a cut or foreign file, or one that was made of something else; the text names the part that differs.
    """
    view = memoryview(content)
    if not content.startswith(_MAGIC):
        raise CacheMiss("no file of this cache")
    if hashlib.sha256(view[_HEAD:]).hexdigest().encode() + b"\n" != content[len(_MAGIC) : _HEAD]:
        raise CacheMiss("damaged or cut short")
    end = content.index(b"\n", _HEAD)
    found = json.loads(content[_HEAD:end])
    for name in {**found, **key}:
        if found.get(name) != key.get(name):
            raise CacheMiss(f"made for {name} {_short(found.get(name))}, now {_short(key.get(name))}")
    return view[end + 1 :]


def digest_of(*arrays: NDArray[Any]) -> str:
    """sha256 of arrays, their types and shapes included, in hexadecimal digits."""
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(f"{a.dtype.str}{a.shape}".encode() + a.tobytes())
    return digest.hexdigest()


def digest_of_code(*files: str) -> str:
    """sha256 of source files: what was made by an older state of the code is made anew. The version where there are none."""
    try:
        return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
    except OSError:  # imported from an archive
        return f"version {__version__}"


def arrays_to_bytes(arrays: Arrays) -> bytes:
    """Arrays by name as bytes: a line that describes them, then what they hold."""
    table = [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()]
    return b"".join([json.dumps(table).encode(), b"\n", *(a.tobytes() for a in arrays.values())])


def arrays_from_bytes(content: bytes | memoryview) -> Arrays:
    """The arrays of ``arrays_to_bytes``, each with memory of its own, writable."""
    view = memoryview(content)
    line = bytes(view[: 1 << 16]).split(b"\n", 1)[0]
    arrays, at = {}, len(line) + 1
    for name, dtype, shape in json.loads(line):
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(view, dtype, count, at).reshape(shape).copy()
        at += arrays[name].nbytes
    return arrays


@dataclass(frozen=True)
class CaseEntry:
    """Arrays that follow from a case: ``name`` of the file, and the ``key`` of all that they were made of.

    A case that is no case folder (made in memory, its hash is no sha256) has nothing kept.
    """

    case_hash: str
    name: str
    key: Key

    def path(self) -> Path | None:
        """The file; None for a case of which nothing is kept.

        Raises:
            OSError: see ``cache_folder``.
        """
        if not _CASE_HASH.fullmatch(self.case_hash):
            return None
        return cache_folder() / "cases" / self.case_hash / self.name

    def arrays(self, make: Callable[[], Arrays]) -> Arrays:
        """What is kept, bit by bit as ``make`` made it; else what it makes now, which is kept.

        A file that is there and cannot be used costs one line in the log; so does, once, a folder that cannot be written.
        """
        try:
            path = self.path()
        except OSError as fault:
            _warn_once(f"nothing is kept between starts: {fault}")
            return make()
        if path is None:
            return make()
        try:
            found = arrays_from_bytes(unseal(path.read_bytes(), self.key))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (CacheMiss, OSError) as why:
            _log.warning("%s is not used, but made anew: %s", path, _reason(why))
        else:
            with contextlib.suppress(OSError):
                os.utime(path.parent)
            return found
        made = make()
        try:
            write_atomically(path, seal(self.key, arrays_to_bytes(made)))
        except OSError as why:
            _warn_once(f"nothing is kept between starts: {cache_folder()} cannot be written ({_reason(why)})")
        else:
            _forget_old(path.parent.parent)
        return made


def _forget_old(cases: Path) -> None:
    """Remove the case folders used longest ago, all but ``MAX_CASES``."""
    with contextlib.suppress(OSError):
        kept = [entry for entry in cases.iterdir() if _CASE_HASH.fullmatch(entry.name)]
        kept.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        for old in kept[MAX_CASES:]:
            shutil.rmtree(old, ignore_errors=True)


@cache
def _warn_once(text: str) -> None:
    _log.warning(text)


def _reason(fault: Exception) -> str:
    return fault.strerror or str(fault) if isinstance(fault, OSError) else str(fault)


def _short(value: object) -> str:
    text = str(value)
    return (
        text if len(text) <= 16 or " " in text else text[:12] + "..."
    )  # a hash; names and settings are told whole
