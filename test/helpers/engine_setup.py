"""What the tests of the engines share: the shipped network, a case's surface without ray casting, scenes, altered files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from views import bundled_case

from end2reg_ros.apps.engine.parity_scenes import SurfacePoints, VerifyScene, verify_scenes
from end2reg_ros.cloud.pyramid import UNIT_M, Pyramid, build_pyramid, point_attributes
from end2reg_ros.engine.bundle_store import load_bundle
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.onnx_files import OnnxBundle, OnnxGraph
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.types import Engine, NetworkOutput
from end2reg_ros.errors import EngineError
from end2reg_ros.profile import realtime
from end2reg_ros.registration.fit.surface_build import sample_surface
from end2reg_ros.registration.weights_path import packaged_weights

WEIGHTS = packaged_weights()
PROFILE = realtime()
SMALL, LARGE = (spec.capacities[0] for spec in PROFILE.scene_specs)


def refusal(action: Callable[[], object], kind: type[Exception] = EngineError) -> str:
    """The one line that something is refused with."""
    with pytest.raises(kind) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@lru_cache(maxsize=1)
def surface() -> SurfacePoints:
    """All of the bundled case's surface that faces backwards, hidden or not."""
    rng = np.random.default_rng(0)
    sampled = [sample_surface(v.mesh, 0.0015, rng) for v in bundled_case().vertebrae]
    points, normals = (np.concatenate(part) for part in zip(*sampled, strict=True))
    facing = normals[:, 1] < -0.15
    return SurfacePoints(points[facing] - points[facing].mean(axis=0), normals[facing])


@lru_cache(maxsize=1)
def model() -> Pyramid:
    seen = surface()
    attributes = point_attributes(len(seen.points), None, seen.normals)
    return build_pyramid(seen.points / UNIT_M, attributes, PROFILE.model)


@lru_cache(maxsize=1)
def scenes() -> list[VerifyScene]:
    """Two whole spines, two parts, then the degenerate ones."""
    return verify_scenes(surface(), PROFILE, 4, 0)


@lru_cache(maxsize=1)
def bundle() -> OnnxBundle:
    return load_bundle(WEIGHTS)


@lru_cache(maxsize=2)
def engine(name: Any) -> Engine:
    """The shipped network on one thread, its model side set; tests leave it as it is."""
    made = load_engine(EngineOptions(name, WEIGHTS, threads=1))
    made.set_model(model())
    return made


def with_graph(name: str, change: Callable[[OnnxGraph], OnnxGraph]) -> OnnxBundle:
    """The shipped graphs with one of them changed."""
    graphs = bundle().graphs
    return OnnxBundle({**graphs, name: change(graphs[name])})


def saying(**metadata: str) -> Callable[[OnnxGraph], OnnxGraph]:
    """Another thing said by a graph of itself."""
    return lambda graph: replace(graph, metadata={**graph.metadata, **metadata})


def assert_same(one: NetworkOutput, other: NetworkOutput) -> None:
    """Two results, bit by bit."""
    assert one.matches is not None and other.matches is not None
    assert (one.inliers, one.total) == (other.inliers, other.total)
    for name in ("rotation", "translation", "support", "mask", "logits"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name, value in vars(one.matches).items():
        assert np.array_equal(value, getattr(other.matches, name)), name
