"""What happens inside a learned method's ``tables`` and ``network`` stages: measured apart, on one cloud, again and again."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.pyramid import UNIT_M, Pyramid, PyramidSpec, build_pyramid
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.profile import Profile
from end2reg_ros.registration.end2reg import End2RegRegistrar
from end2reg_ros.registration.find.network_search import around_pose
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.network import NetworkScene
from end2reg_ros.se3 import apply, inverse

if TYPE_CHECKING:
    from end2reg_ros.engine.types import Engine

Array = NDArray[np.float64]
KERNEL_TIME = "_kernel_time"
# Part -> scopes of the graph's nodes, as the torch engine's parts are cut; the first that fits.
PARTS: tuple[tuple[str, set[str]], ...] = (
    ("segmentation", {"segment", "segmentation"}),
    ("backbone", {"encode_masked"}),
    ("pose", {"local_to_global", "pose"}),
    ("transformer", {"relate", "transformer"}),
    ("matching", {"sinkhorn", "assign", "matching"}),
    ("backbone", {"backbone", "embedding"}),
    ("geometry", {"kpconv", "geometry"}),
    ("matching", {"match"}),
)


def network_parts(
    registrar: Registrar, cloud: Cloud, T_camera_model: Array, weights: Path | None, repeats: int
) -> dict[str, float]:
    """Part -> median milliseconds of ``repeats`` passes over a cloud cut out around a pose, as while tracking;
    empty without a network.

    ``crop``: cut out, thin, normals; ``tables``: grids and neighbour tables; ``network``: the engine as a whole; then its
    parts where they can be had (torch: timed one after the other; onnxruntime: from its own profile).

    Args:
        weights: that the engine was loaded with; needed for the profile of onnxruntime.
    """
    if not isinstance(registrar, End2RegRegistrar):
        return {}
    search, engine = registrar.network, registrar.network.engine

    def cut_out() -> NetworkScene | None:
        return around_pose(cloud, T_camera_model, search.side, engine.profile, registrar.settings.crop_margin)

    scene = cut_out()
    if scene is None:
        return {}
    local: NetworkScene = scene
    whole = _median_ms(cut_out, repeats)
    points = apply(inverse(local.T_camera_local), local.scene.thin.points) / UNIT_M
    own = engine.profile.segmentation
    specs = [shown_spec(engine.profile, local), *([] if own is None else [own])]
    tables = _median_ms(lambda: [build_pyramid(points, None, spec) for spec in specs], repeats)
    parts = {"crop": max(0.0, whole - tables), "tables": tables}
    parts["network"] = _median_ms(lambda: engine.run(local.pyramids), repeats)
    if (engine.info.name, engine.info.device) == ("torch", "cpu"):
        from end2reg_ros.engine.torch_engine import TorchEngine
        from end2reg_ros.engine.torch_parts import torch_parts

        assert isinstance(engine, TorchEngine)
        inner = torch_parts(engine, search.side.pyramid, local.pyramids, repeats)
        parts |= {f"network: {name}": ms for name, ms in inner.items()}
    elif (engine.info.name, engine.info.device) == ("onnxruntime", "cpu") and weights is not None:
        parts |= onnx_parts(engine, weights, search.side.pyramid, local, repeats)
    return parts


def shown_spec(profile: Profile, scene: NetworkScene) -> PyramidSpec:
    """The padding that a scene was given."""
    capacity = len(scene.pyramids.registration.levels[0].points)
    return next((s for s in profile.scene_specs if s.capacities[0] == capacity), profile.scene)


def onnx_parts(
    engine: Engine, weights: Path, side: Pyramid, scene: NetworkScene, repeats: int
) -> dict[str, float]:
    """Part of a pass of ONNX Runtime -> milliseconds, from its profile of the same graph.

    Profiling costs time of its own, so the parts add up to somewhat more than the network takes.
    """
    import onnxruntime

    from end2reg_ros.engine.bundle_store import load_bundle
    from end2reg_ros.engine.graph_io import scene_feed

    specs = engine.profile.scene_specs
    small = len(specs) > 1 and shown_spec(engine.profile, scene) == specs[0]
    graph = load_bundle(weights, engine.profile.name).graphs["scene_small" if small else "scene"].data
    feed = scene_feed(scene.pyramids) | engine.encode_model(side)
    with tempfile.TemporaryDirectory(prefix="end2reg_profile_") as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = engine.info.threads
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        wanted = {value.name for value in session.get_inputs()}
        for _ in range(repeats):
            session.run(None, {name: array for name, array in feed.items() if name in wanted})
        return profile_parts(Path(session.end_profiling()))


def profile_parts(profile: Path) -> dict[str, float]:
    """Part -> milliseconds, the sum over its nodes' medians, from a profile of some runs that ONNX Runtime wrote."""
    events: list[dict[str, Any]] = json.loads(profile.read_text(encoding="utf-8"))
    spent: dict[str, list[float]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(KERNEL_TIME):
            spent.setdefault(name.removesuffix(KERNEL_TIME), []).append(1e-3 * float(event["dur"]))
    parts: dict[str, float] = {}
    for node, ms in spent.items():
        part = f"network: {part_of(node)}"
        parts[part] = parts.get(part, 0.0) + float(np.median(ms))
    return parts


def part_of(node: str) -> str:
    """The part that a node of an exported graph belongs to, from the scopes in its name: ``relate/transformer/MatMul_7``."""
    scopes = {scope.split(".")[0] for scope in node.removeprefix("fused ").split("/")[:-1]}
    return next((part for part, named in PARTS if scopes & named), "other")


def _median_ms(work: Callable[[], object], repeats: int) -> float:
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - began))
    return float(np.median(spent))
