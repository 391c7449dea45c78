"""The coarse search for the spine by itself: ``python benchmarks/region.py --weights W --shards S ... [--scenes S ...]``.

Recall: share of views in which the first candidate's box holds 90 % of the bone that is seen and its rotation is within 45
degrees (what the fine network captures) or 25. False alarms: candidates in views without a spine, simulated and real.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from end2reg_ros.cloud.depth import decode_depth
from end2reg_ros.cloud.pointcloud2 import decode
from end2reg_ros.cloud.recording import CAMERA_INFO, IMAGE, POINT_CLOUD, Recording
from end2reg_ros.cloud.scene_folder import find_scenes, read_scene
from end2reg_ros.evaluation.host import environment
from end2reg_ros.network.region_net import RegionNet, predict_regions
from end2reg_ros.registration.find.network_search import REGION_HALF_M
from end2reg_ros.registration.find.region_candidates import RegionCandidate
from end2reg_ros.registration.find.region_search import search_regions
from end2reg_ros.se3 import apply, inverse, rotation_angle
from end2reg_ros.training.data.samples import LabelledView, load_view, scene_files
from end2reg_ros.training.region.split import split_by_anatomy
from end2reg_ros.training.region.train import load_region_net

BOX_M = REGION_HALF_M  # what the fine network is shown
SHARE = 0.9
MOST_VIEWS = 150


@dataclass(frozen=True)
class ViewOutcome:
    """One view with a spine; angles in degrees, None when nothing was found.

    Attributes:
        share: of the true bone in the first candidate's box; angle: of its rotation to the truth.
        axis: angle between superior directions in space; tilt: between anterior directions.
        best: whether any candidate holds the box and 45 degrees; seconds: picture, network and candidates.
    """

    suite: str
    share: float
    angle: float | None
    axis: float | None
    tilt: float | None
    best: bool
    candidates: int
    score: float
    seconds: float


def find(
    network: RegionNet, points: NDArray[np.float32], colours: NDArray[np.uint8] | None
) -> tuple[list[RegionCandidate], float]:
    """Candidates of one view, and processor seconds."""
    start = time.process_time()
    found = search_regions(lambda picture: predict_regions(network, picture), points, colours)
    return found, time.process_time() - start


def judge(network: RegionNet, view: LabelledView, colourless: bool = False) -> ViewOutcome:
    """Find the spine in a view that shows one."""
    assert view.T_camera_model is not None
    truth, bone = view.T_camera_model[:3, :3], view.points[view.bone]
    found, seconds = find(network, view.points, None if colourless else view.colours)
    if not found:
        return ViewOutcome(view.suite, 0.0, None, None, None, False, 0, 0.0, seconds)
    inside = [_share(c, bone) for c in found]
    turned = [float(np.degrees(rotation_angle(c.T_camera_local[:3, :3].T @ truth))) for c in found]
    first = found[0]
    return ViewOutcome(
        view.suite,
        inside[0],
        turned[0],
        _between(first.axis_superior, truth[:, 2]),
        _between(-first.outward, truth[:, 1]),
        any(s >= SHARE and a <= 45.0 for s, a in zip(inside, turned, strict=True)),
        len(found),
        first.score,
        seconds,
    )


def _share(candidate: RegionCandidate, bone: NDArray[np.float32]) -> float:
    local = apply(inverse(candidate.T_camera_local), bone)
    return float((np.abs(local) <= BOX_M).all(axis=1).mean())


def _between(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b, -1.0, 1.0))))


def summary(outcomes: list[ViewOutcome]) -> dict[str, Any]:
    """Figures of a group of views."""
    held = np.array([o.share >= SHARE for o in outcomes])
    angle = np.array([180.0 if o.angle is None else o.angle for o in outcomes])
    axis = [o.axis for o in outcomes if o.axis is not None] or [np.nan]
    tilt = [o.tilt for o in outcomes if o.tilt is not None] or [np.nan]
    return {
        "views": len(outcomes),
        "found": _round(np.mean([o.angle is not None for o in outcomes])),
        "box_holds_bone": _round(held.mean()),
        "recall_45deg": _round((held & (angle <= 45.0)).mean()),
        "recall_25deg": _round((held & (angle <= 25.0)).mean()),
        "recall_45deg_any_candidate": _round(np.mean([o.best for o in outcomes])),
        "rotation_deg_median_p95": [_round(v) for v in np.quantile(angle, [0.5, 0.95])],
        "axis_deg_median_p95": [_round(v) for v in np.quantile(axis, [0.5, 0.95])],
        "anterior_deg_median_p95": [_round(v) for v in np.quantile(tilt, [0.5, 0.95])],
        "axis_opposite": _round(np.mean(np.array(axis) > 90.0)),
        "score_p05": _round(np.quantile([o.score for o in outcomes], 0.05)),
        "candidates_mean": _round(np.mean([o.candidates for o in outcomes])),
        "processor_ms_median": _round(1e3 * np.median([o.seconds for o in outcomes])),
    }


def _round(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)


def scene_view(folder: Path) -> LabelledView:
    """A scene folder as a view, at the sensor's own resolution."""
    scene = read_scene(folder)
    if scene.bone is None:
        raise SystemExit(f"{folder}: a scene without bone labels cannot be judged")
    suite = str(scene.tags.get("suite", ""))
    return LabelledView(
        scene.cloud.points, scene.cloud.colours, scene.bone, scene.T_camera_model, scene.name, suite
    )


def sensor_clouds(folder: Path) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.uint8] | None]]:
    """Name, points and colours of each cloud of the recordings in a folder."""
    for path in sorted(p.parent for p in folder.glob("*/metadata.yaml")):
        with Recording(path) as recording:
            messages = list(recording.messages())
            types = {t.name: t.type for t in recording.topics}
        infos = [m for m in messages if types[m.topic] == CAMERA_INFO and "epth" in m.topic]
        for k, recorded in enumerate(messages):
            if types[recorded.topic] == POINT_CLOUD:
                cloud = decode(recorded.message)
            elif types[recorded.topic] == IMAGE and "epth" in recorded.topic and infos:
                cloud = decode_depth(recorded.message, infos[0].message)
            else:
                continue
            yield f"{path.name}/{k}", cloud.points, cloud.colours


def main(
    weights: Path,
    shards: tuple[Path, ...] = (),
    all_views: Annotated[tuple[Path, ...], tyro.conf.arg(name="all")] = (),
    scenes: tuple[Path, ...] = (),
    sensors: Path | None = None,
    out: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Run and print.

    Args:
        weights: of the region finder.
        shards: their held-out anatomies are judged.
        all_views: shards of which all views are judged.
        scenes: folders of scene folders.
        sensors: folder of real recordings without a spine.
        out: file that is written, too.
    """
    torch.set_num_threads(1)
    network, _ = load_region_net(weights)
    groups: dict[str, list[ViewOutcome]] = {}
    empty: list[tuple[int, float]] = []
    for folder, everything in [(f, False) for f in shards] + [(f, True) for f in all_views]:
        files = scene_files(folder)
        files = files if everything else split_by_anatomy(files)[1]
        views = (load_view(f) for f in files[:: max(1, len(files) // MOST_VIEWS)])
        for view in views:
            if view.T_camera_model is None:
                found, _ = find(network, view.points, view.colours)
                empty.append((len(found), found[0].score if found else 0.0))
            else:
                kind = "all" if everything else "held out"
                groups.setdefault(f"{folder.name}, {kind}", []).append(judge(network, view))
                groups.setdefault(f"{folder.name}, {kind}, {view.suite}", []).append(
                    groups[f"{folder.name}, {kind}"][-1]
                )
                groups.setdefault(f"{folder.name}, {kind}, no colours", []).append(judge(network, view, True))
    for folder in scenes:
        for scene in find_scenes(folder):
            groups.setdefault(f"scenes {folder.name}", []).append(judge(network, scene_view(scene)))
    document: dict[str, Any] = {
        "environment": environment(),
        "recall": {name: summary(outcomes) for name, outcomes in groups.items()},
        "simulated_views_without_spine": {
            "views": len(empty),
            "with_candidates": sum(n > 0 for n, _ in empty),
        },
    }
    if sensors is not None:
        document["real_recordings_without_spine"] = {
            name: [
                {"score": _round(c.score), "area_cm2": _round(1e4 * c.area_m2)}
                for c in find(network, p, c)[0]
            ]
            for name, p, c in sensor_clouds(sensors)
        }
    text = json.dumps(document, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
