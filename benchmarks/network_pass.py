"""Size and speed of an untrained network on the bundled case: ``python -m benchmarks.network_pass --profile realtime``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import tyro

from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.cloud.pyramid import UNIT_M, build_pyramid, point_attributes
from end2reg_ros.network.gumbel import gumbel_noise
from end2reg_ros.network.losses import LossSettings, registration_loss
from end2reg_ros.network.model import End2Reg, parameter_count
from end2reg_ros.network.outputs import Sampling
from end2reg_ros.network.tables import model_tables, scene_tables
from end2reg_ros.network.targets import TruePose
from end2reg_ros.profile import get_profile
from end2reg_ros.registration.fit.surface_build import build_model_surface


def cpu_ms(work: Callable[[], object], repeats: int) -> float:
    """Median processor time of one call in ms, after one call that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append((time.process_time() - start) * 1e3)
    return statistics.median(times)


def main(
    profile_name: Annotated[str, tyro.conf.arg(name="profile")] = "realtime",
    repeats: int = 7,
    training: bool = False,
) -> None:
    """Print parameters and processor times on one thread.

    Args:
        profile_name: realtime or paper (needs 3 GB).
        repeats: calls that count.
        training: also time a training step.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    profile = get_profile(profile_name)
    network = End2Reg(profile)
    surface = build_model_surface(load_case(bundled_case_path()))
    points = (surface.points - surface.points.mean(axis=0)) / UNIT_M
    attributes = point_attributes(len(points), None, surface.normals)
    model, scene = model_tables(points, attributes, profile), scene_tables(points, attributes, profile)
    pose = TruePose(torch.eye(3), torch.zeros(3))
    finest = (scene.segmentation or scene.registration).attributes.shape[0]
    sampling = Sampling(gumbel_noise((finest, 2), torch.Generator().manual_seed(0)), 1.0)

    def step() -> None:
        loss = registration_loss(
            network, network.training_pass(model, scene, sampling), pose, LossSettings(pairs=64)
        )
        loss.total.backward()

    with torch.no_grad():
        model_side, (_, scene_side) = network.encode_model(model), network.encode_scene(scene)
        stages: dict[str, Callable[[], object]] = {
            "scene tables": lambda: build_pyramid(points, attributes, profile.scene),
            "model side": lambda: network.encode_model(model),
            "scene": lambda: network.encode_scene(scene),
            "matching": lambda: network.match(model_side, scene_side),
        }
        times = {name: cpu_ms(work, repeats) for name, work in stages.items()}
    if training:
        times["training step"] = cpu_ms(step, repeats)
    used = [int(np.sum(level.mask.numpy())) for level in scene.registration.levels]
    print(f"{profile.name}: {parameter_count(network)} parameters, scene points per level {used}")
    for name, value in times.items():
        print(f"  {name}: {value:.0f} ms CPU")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
