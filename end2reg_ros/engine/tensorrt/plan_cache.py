"""Plans kept between starts: what TensorRT built for one graph on one GPU, and the timings that it measured on the way.

A plan belongs to everything that ``PlanKey`` names. A file that was cut, is foreign or was built for something else is not
used: the plan is built anew, and one line says which part differs.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from end2reg_ros.cache import CacheMiss, Key, cache_folder, seal, unseal, write_atomically
from end2reg_ros.engine.tensorrt.mixed_precision import CONVERSION

TIMINGS = "timings.cache"


@dataclass(frozen=True)
class Gpu:
    """A GPU as plans see it: its name and compute capability (``8.9``)."""

    name: str
    compute: str

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.name} {self.compute}".lower()).strip("-") or "gpu"


@dataclass(frozen=True)
class PlanKey:
    """All that a plan depends on.

    Attributes:
        graph: scene, scene_small: which graph of the network.
        profile: of the network, for the file's name.
        onnx: sha256 of the graph's ONNX file as it was before any change of precision.
        tensorrt: version of the library.
        gpu: what it is built for.
        precision: as the graph's metadata says it.
        shapes: the sizes that the graph was exported for, as its metadata says them; the rest follows from the profile.
        settings: what the build was told, as one text.
    """

    graph: str
    profile: str
    onnx: str
    tensorrt: str
    gpu: Gpu
    precision: str
    shapes: str
    settings: str = ""

    def parts(self) -> Key:
        """By name, the ones that explain most first: the first that differs is the one that is told."""
        return {
            "GPU": self.gpu.name,
            "compute capability": self.gpu.compute,
            "TensorRT": self.tensorrt,
            "precision": self.precision,
            "graph": self.onnx[:16],
            "conversion": CONVERSION,
            "shapes": self.shapes,
            "settings": self.settings,
        }

    @property
    def file(self) -> str:
        """The one file for this graph, profile and precision on this GPU; a new build takes the old one's place."""
        return f"{self.profile}-{self.graph}-{self.precision.replace(' ', '-')}.plan"


@dataclass(frozen=True)
class Found:
    """What was kept: the bytes, or None and one line that says why not; the line is empty where nothing was kept yet."""

    content: bytes | None
    why: str = ""


def plan_path(key: PlanKey) -> Path:
    """Where the plan of a key is kept.

    Raises:
        OSError: see ``cache_folder``.
    """
    return _folder(key.gpu) / key.file


def read_plan(key: PlanKey) -> Found:
    """The kept plan of a key."""
    return _read(key.gpu, key.file, key.parts(), f"the plan kept for the {key.graph} graph")


def keep_plan(key: PlanKey, plan: bytes) -> str:
    """Keep a plan; returns one line that says why it could not be kept, else nothing."""
    return _keep(key.gpu, key.file, key.parts(), plan, f"the plan of the {key.graph} graph")


def read_timings(gpu: Gpu, tensorrt: str) -> Found:
    """The timings that a library's version measured on a GPU: with them a build measures only what is new."""
    return _read(gpu, TIMINGS, _timing_parts(gpu, tensorrt), "the kept timing cache")


def keep_timings(gpu: Gpu, tensorrt: str, content: bytes) -> str:
    """Keep them; returns one line that says why they could not be kept, else nothing."""
    return _keep(gpu, TIMINGS, _timing_parts(gpu, tensorrt), content, "the timing cache")


def _folder(gpu: Gpu) -> Path:
    return cache_folder() / "plans" / gpu.folder


def _timing_parts(gpu: Gpu, tensorrt: str) -> Key:
    return {"GPU": gpu.name, "compute capability": gpu.compute, "TensorRT": tensorrt}


def _read(gpu: Gpu, file: str, parts: Key, what: str) -> Found:
    try:
        content = (_folder(gpu) / file).read_bytes()
        kept = _key_of(content)
        payload = unseal(content, kept)
        for name, now in parts.items():
            if kept.get(name) != now:
                raise CacheMiss(f"made for {name} {kept.get(name)}, now {now}")
    except (FileNotFoundError, NotADirectoryError):
        return Found(None)
    except CacheMiss as why:
        return Found(None, f"{what} is of no use, a new one is made: {why}")
    except OSError as fault:
        return Found(None, f"{what} cannot be read, a new one is made: {fault.strerror or fault}")
    return Found(bytes(payload))


def _key_of(content: bytes) -> Key:
    """What a sealed file says it was made of (its second line); nothing for a file that says nothing."""
    lines = content.split(b"\n", 2)
    with contextlib.suppress(ValueError):
        found = json.loads(lines[1] if len(lines) > 2 else b"{}")
        if isinstance(found, dict):
            return found
    return {}


def _keep(gpu: Gpu, file: str, parts: Key, content: bytes, what: str) -> str:
    try:
        write_atomically(_folder(gpu) / file, seal(parts, content))
    except OSError as fault:
        return f"{what} cannot be kept, every start makes it anew: {fault.strerror or fault}"
    return ""
