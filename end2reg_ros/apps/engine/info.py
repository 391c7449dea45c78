"""What runs the network on this machine, and what could: what ``end2reg engine info`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from end2reg_ros.engine.options import EngineOptions

if TYPE_CHECKING:
    from end2reg_ros.engine.types import EngineInfo
    from end2reg_ros.profile import Profile
    from end2reg_ros.registration.weights_path import ChosenWeights

#: Of a training record that is told in short: its place in the record, and what it is called.
_RECORD = {
    "note": ("note",),
    "case": ("case_hash",),
    "iterations": ("iteration",),
    "seconds": ("seconds",),
    "validation_scenes": ("validation", "scenes"),
    "validation_tre_median_mm": ("validation", "tre_median_mm"),
    "validation_outlier_share": ("validation", "outlier_share"),
}


@dataclass(frozen=True)
class EngineCandidate:
    """An engine, whether it can be used here, its version, and what it lacks."""

    name: str
    usable: bool
    version: str
    note: str


def loaded_info(options: EngineOptions) -> EngineInfo:
    """What the engine says of itself; TensorRT's is put together without loading it, which could take minutes.

    Raises:
        EngineError, WeightsError: see ``load_engine``.
    """
    from end2reg_ros.engine.load import choose_engine, load_engine

    name, why = choose_engine(options.device) if options.engine == "auto" else (options.engine, "")
    if name == "tensorrt":
        return _tensorrt_info(options, why)
    engine = load_engine(options)
    engine.close()
    return engine.info


def candidates() -> list[EngineCandidate]:
    """All engines, the usable ones and the others."""
    from end2reg_ros.engine.load import has_nvidia_gpu
    from end2reg_ros.engine.tensorrt.library import missing_packages

    gpu, runtime, torch = has_nvidia_gpu(), find_spec("onnxruntime"), find_spec("torch")
    missing = missing_packages()
    lacks = [] if gpu else ["no NVIDIA GPU"]
    if missing:
        lacks.append(f"{', '.join(missing)} missing: pip install -r requirements/tensorrt.txt")
    return [
        EngineCandidate(
            "onnxruntime",
            runtime is not None,
            _version("onnxruntime", "onnxruntime-gpu"),
            _runtime_providers() if runtime is not None else "pip install onnxruntime",
        ),
        EngineCandidate("tensorrt", gpu and not missing, _version("tensorrt"), "; ".join(lacks)),
        EngineCandidate(
            "torch",
            torch is not None,
            _version("torch"),
            "the reference" if torch is not None else "`make setup-train` installs it",
        ),
    ]


def cache_document() -> dict[str, Any]:
    """The cache folder, and for each of its parts how many files of how many bytes it holds."""
    from end2reg_ros.apps.engine.build import files_in
    from end2reg_ros.cache import cache_folder

    try:
        folder = cache_folder()
    except OSError as fault:
        return {"folder": None, "why": str(fault), "parts": {}}
    parts: dict[str, dict[str, int]] = {}
    for path, (size, _) in files_in(folder).items():
        part = parts.setdefault(path.relative_to(folder).parts[0], {"files": 0, "bytes": 0})
        part["files"] += 1
        part["bytes"] += size
    return {"folder": str(folder), "parts": parts}


def info_document(options: EngineOptions, chosen: ChosenWeights) -> dict[str, Any]:
    """All that is told, as JSON takes it.

    Raises:
        EngineError, WeightsError: see ``load_engine``.
    """
    from end2reg_ros.apps.engine.build import check_precision
    from end2reg_ros.profile import get_profile

    info = loaded_info(options)
    if options.precision != "fp32":
        check_precision(options, info)
    return {
        "engine": info.document(),
        "weights": {"path": str(chosen.path), "source": chosen.source, "note": chosen.note},
        "sizes": sizes(get_profile(info.profile)),
        "graphs": {} if info.name == "torch" else graphs(options, chosen.path),
        "training": short_record(info.record),
        "cache": cache_document(),
        "engines": [vars(c) for c in candidates()],
    }


def print_info(document: dict[str, Any]) -> None:
    """Print the document of ``info_document`` as a table of two columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    engine, weights, cache = document["engine"], document["weights"], document["cache"]
    why = f" ({engine['why']})" if engine["why"] else ""
    threads = f", {engine['threads']} threads" if engine["threads"] else ""
    rows = [
        ("engine", f"{engine['name']} {engine['version']}{why}"),
        ("runs on", f"{engine['device']}{threads}, {engine['precision']}"),
        ("engine hash", engine["engine_hash"]),
        ("weights", f"{engine['weights_hash']}, {weights['source']}: {weights['path']}"),
        ("network", f"profile {engine['profile']}, {engine['parameters']} parameters"),
    ]
    if weights["note"]:
        rows.append(("note", weights["note"]))
    for name, value in document["sizes"].items():
        paddings = value if value and isinstance(value[0], list) else [value]
        rows.append((f"sizes, {name}", ", or ".join("/".join(map(str, p)) for p in paddings)))
    for name, graph in document["graphs"].items():
        rows.append((f"graph {name}", f"{graph['bytes'] / 1e6:.1f} MB, sha256 {graph['sha256'][:16]}"))
    for name, value in document["training"].items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        rows.append((f"training, {name.replace('_', ' ')}", text))
    rows.append(("cache", str(cache["folder"] or cache["why"])))
    for name, part in cache["parts"].items():
        rows.append((f"cache, {name}", f"{part['files']} files, {part['bytes'] / 1e6:.1f} MB"))
    for other in document["engines"]:
        state = "usable" if other["usable"] else "not usable"
        text = ", ".join(filter(None, [state, other["version"], other["note"]]))
        rows.append((f"engine {other['name']}", text))
    for name, text in rows:
        table.add_row(name, text)
    Console(highlight=False, markup=False).print(table)


def sizes(profile: Profile) -> dict[str, Any]:
    """Paddings, level by level; the scene's from the smallest."""
    found: dict[str, Any] = {
        "model": list(profile.model.capacities),
        "scene": [list(spec.capacities) for spec in profile.scene_specs],
    }
    if profile.segmentation is not None:
        found["segmentation"] = list(profile.segmentation.capacities)
    return found


def graphs(options: EngineOptions, weights: Path) -> dict[str, dict[str, Any]]:
    """Bytes and hashes of every graph: of the file with its numbers, and of the packaged one that it was made from."""
    from end2reg_ros.engine.bundle_store import load_bundle

    return {
        name: {
            "bytes": len(graph.data),
            "sha256": graph.hash,
            "graph_hash": graph.metadata.get("graph_hash", ""),
        }
        for name, graph in load_bundle(weights, options.profile).graphs.items()
    }


def short_record(record: Mapping[str, object]) -> dict[str, object]:
    """The figures of a training record that tell most; those that it has."""
    short: dict[str, object] = {}
    for name, path in _RECORD.items():
        value: object = record
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value not in (None, ""):
            short[name] = value
    return short


def _tensorrt_info(options: EngineOptions, why: str) -> EngineInfo:
    from end2reg_ros.engine.bundle_store import load_bundle
    from end2reg_ros.engine.tensorrt.library import load_library, precision_named

    assert options.weights is not None
    precision, version = precision_named(options.precision), load_library().version
    bundle = load_bundle(options.weights, options.profile)
    return replace(bundle.info("tensorrt", options.device or "cuda", precision, version), why=why)


def _runtime_providers() -> str:
    import onnxruntime

    from end2reg_ros.engine.load import has_nvidia_gpu
    from end2reg_ros.engine.onnx_session import PROVIDERS

    available = onnxruntime.get_available_providers()
    devices = [device for device, provider in PROVIDERS.items() if provider in available]
    more = ""
    if has_nvidia_gpu() and "cuda" not in devices:
        more = "; for the GPU pip install onnxruntime-gpu (in place of onnxruntime)"
    return f"on {', '.join(devices)}{more}"


def _version(*packages: str) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""
