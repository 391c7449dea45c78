"""Names and arrays of the graphs' inputs and outputs: what the export writes and every engine but torch feeds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.cloud.pyramid import Pyramid, nearest_rows
from end2reg_ros.engine.types import Arrays, NetworkMatches, NetworkOutput, ScenePyramids

OPSET = 20
# scene_small: the same as scene for the profile's second padding.
GraphName = Literal["scene", "scene_small", "model", "region"]
GRAPHS: tuple[GraphName, ...] = get_args(GraphName)
REGION_INPUT, REGION_OUTPUT = "picture", "maps"
# Tensors of a weights file begin with one of these.
WEIGHTS = ("network.", "region.")
MODEL_SIDE = (
    "model.node_mask",
    "model.node_features",
    "model.embedding",
    "model.fine_points",
    "model.fine_mask",
    "model.fine_features",
    "model.patches",
)


def template_path(profile: str, graph: str) -> Path:
    """Where the package keeps the graphs without learned numbers."""
    return Path(str(files("end2reg_ros"))) / "data" / "graphs" / profile / f"{graph}.onnx"


def scene_feed(scene: ScenePyramids) -> Arrays:
    """Inputs of the scene graph, the model's side apart."""
    feed = pyramid_feed("scene", scene.registration)
    if scene.segmentation is not None:
        feed |= pyramid_feed("segmentation", scene.segmentation)
        feed["transfer"] = nearest_rows(scene.registration.levels[0], scene.segmentation.levels[0])
    return feed


def model_feed(model: Pyramid) -> Arrays:
    """Inputs of the model graph."""
    return pyramid_feed("model", model)


def pyramid_feed(prefix: str, pyramid: Pyramid) -> Arrays:
    """A pyramid's arrays by the names of the graphs' inputs."""
    feed: Arrays = {}
    for i, level in enumerate(pyramid.levels):
        feed[f"{prefix}.{i}.points"] = level.points
        feed[f"{prefix}.{i}.mask"] = level.mask.astype(np.float32)[:, None]
        feed[f"{prefix}.{i}.neighbours"] = level.neighbours
        if level.pool is not None and level.upsample is not None:
            feed[f"{prefix}.{i}.pool"] = level.pool
            feed[f"{prefix}.{i}.upsample"] = level.upsample
    feed[f"{prefix}.attributes"] = pyramid.attributes
    feed[f"{prefix}.patches"] = pyramid.patches
    return feed


def output_of(arrays: Mapping[str, NDArray[np.generic]], scene: ScenePyramids) -> NetworkOutput:
    """The result of a pass from the scene graph's outputs by name."""
    count = scene.registration.levels[0].count
    return NetworkOutput(
        rotation=np.asarray(arrays["rotation"], np.float64),
        translation=np.asarray(arrays["translation"], np.float64),
        inliers=int(arrays["inliers"]),
        total=int(arrays["total"]),
        support=np.asarray(arrays["support"], np.float32),
        mask=np.asarray(arrays["mask"], np.float32)[:count],
        logits=np.asarray(arrays["margin"], np.float32)[:count],
        matches=NetworkMatches(
            *(np.asarray(arrays[f"matched_{name}"], np.float32) for name in ("model", "scene", "weight")),
            *(np.asarray(arrays[f"candidate_{name}"], np.float32) for name in ("rotation", "translation")),
        ),
    )
