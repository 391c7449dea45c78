"""Registration methods over a folder of scenes: every scene x region x prior x method -> one trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from end2reg_ros import se3
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.scene_folder import StoredScene, read_scene
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import RegistrationError
from end2reg_ros.evaluation.metrics import (
    Pose,
    PoseErrors,
    Targets,
    level_transform,
    pose_errors,
    targets_from_case,
)
from end2reg_ros.evaluation.regions import Region, RegionFinder, cloud_of_region, found_cloud
from end2reg_ros.evaluation.scenes import true_pose
from end2reg_ros.reasons import Reason
from end2reg_ros.registration.interface import Registrar
from end2reg_ros.registration.types import Prior

PriorKind = Literal["none", "landmarks", "perturbed"]


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is run.

    Attributes:
        methods: names that ``create_registrar`` knows.
        priors: ``none``; ``landmarks``: all landmarks picked with noise; ``perturbed``: the truth, turned and shifted.
        regions: ``view``: the whole cloud; ``found``: the points that the region finder names; ``bone``: only points
            with the true bone label (an oracle segmentation).
        seed: of picks and perturbations; the same for every method.
        pick_rms_m: root mean square 3-D error of a pick.
        max_rotation_rad, max_offset_m: of the perturbed prior: angle U(0, max) about a random axis through the model's
            centroid, shift U(0, max) in a random direction.
    """

    methods: tuple[str, ...] = ("icp", "ransac_icp")
    priors: tuple[PriorKind, ...] = ("none", "landmarks")
    regions: tuple[Region, ...] = ("view",)
    seed: int = 0
    pick_rms_m: float = 0.003
    max_rotation_rad: float = float(np.radians(45.0))
    max_offset_m: float = 0.015


@dataclass(frozen=True)
class Trial:
    """One registration of one scene.

    Attributes:
        errors: of ``T_camera_model``, also when ``success`` is false; None when there is no finite pose.
        level_errors: of the vertebra poses; None when the method gives none.
        initial_tre_mm: mean TRE of the prior, mm: the initial misalignment; None without a prior.
        wall_ms: time of ``register``, and of the region finder where the region is ``found``.
    """

    scene: str
    method: str
    prior: PriorKind
    region: Region
    success: bool
    reason_code: str
    errors: PoseErrors | None
    level_errors: PoseErrors | None
    initial_tre_mm: float | None
    wall_ms: float
    timings_ms: dict[str, float] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """What a method is given: a region of a scene and a prior.

    Attributes:
        cloud: of the region; None when the region finder found none.
        kind: of the prior.
        region_ms: time of the region finder.
    """

    scene: StoredScene
    region: Region
    cloud: Cloud | None
    kind: PriorKind
    prior: Prior | None
    region_ms: float = 0.0


class CaseBench:
    """One case's targets, its registrars, set up and warm, and its region finder."""

    def __init__(
        self,
        case: Case,
        methods: Sequence[str],
        create: Callable[[str, Case], Registrar] | None = None,
        finder: RegionFinder | None = None,
    ) -> None:
        """Set up.

        Args:
            case: the case.
            methods: names that ``create`` knows.
            create: makes a registrar from name and case; ``create_registrar`` when None.
            finder: of the region ``found``; set up beforehand.

        Raises:
            RegistrationError: an unknown method, or one that cannot be set up.
        """
        from end2reg_ros.registration import create_registrar

        self.case = case
        self.targets: Targets = targets_from_case(case)
        self.finder = finder
        make = create or create_registrar
        self.registrars: dict[str, Registrar] = {name: make(name, case) for name in methods}
        for registrar in self.registrars.values():
            registrar.warm_up()

    def cloud_of(self, scene: StoredScene, region: Region) -> tuple[Cloud | None, float]:
        """What a method is given of a scene, and the milliseconds that finding it took.

        Raises:
            CloudError: as ``cloud_of_region``.
            RegistrationError: region ``found`` without a finder.
        """
        if region != "found":
            return cloud_of_region(scene, region), 0.0
        if self.finder is None:
            text = f"case {self.case.name}: no region finder is there, which --regions found needs"
            raise RegistrationError(text)
        return found_cloud(scene.cloud, self.finder)


def run_benchmark(
    folders: Sequence[Path], bench_of: Callable[[StoredScene], CaseBench], settings: BenchmarkSettings
) -> Iterator[Trial]:
    """Run all trials, scene by scene.

    Args:
        folders: scene folders, best looked through by ``scenes.check_scenes`` before.
        bench_of: the case of a scene, set up.

    Raises:
        CloudError: a scene that cannot be read, or without the bone label that region ``bone`` needs.
    """
    for number, folder in enumerate(folders):
        scene = read_scene(folder)
        bench = bench_of(scene)
        truth = true_pose(scene, bench.targets)
        given_points = {region: bench.cloud_of(scene, region) for region in settings.regions}
        for region, kind in product(settings.regions, settings.priors):
            prior = make_prior(kind, bench, truth, settings, number)
            cloud, region_ms = given_points[region]
            given = Given(scene, region, cloud, kind, prior, region_ms)
            for method in settings.methods:
                yield run_trial(given, bench, method, truth)


def run_trial(given: Given, bench: CaseBench, method: str, truth: Pose) -> Trial:
    """Register one cloud once and tell its errors. Without a region there is no pose, and none reported."""
    prior = given.prior
    initial = (
        None if prior is None else pose_errors(Pose(prior.T_camera_model), truth, bench.targets).mean_tre_mm
    )
    names = {"scene": given.scene.name, "method": method, "prior": given.kind, "region": given.region}
    about: dict[str, Any] = {**names, "initial_tre_mm": initial, "tags": given.scene.tags}
    timings_ms = {"region": given.region_ms} if given.region == "found" else {}
    if given.cloud is None:
        return Trial(
            success=False, reason_code=Reason.NO_REGION, errors=None, level_errors=None, wall_ms=given.region_ms,
            timings_ms=timings_ms, **about,
        )  # fmt: skip
    started = perf_counter()
    registrar = bench.registrars[method]
    if prior is not None and prior.source == "last_frame":
        result = registrar.follow(registrar.crop(given.cloud, prior), prior)
    else:
        result = registrar.register(given.cloud, prior)
    wall_ms = 1000.0 * (perf_counter() - started) + given.region_ms
    errors = level_errors = None
    if np.isfinite(result.T_camera_model).all():
        errors = pose_errors(Pose(result.T_camera_model), truth, bench.targets)
        if result.levels:
            poses = {level.level: level.T_camera_level for level in result.levels}
            level_errors = pose_errors(Pose(result.T_camera_model, poses), truth, bench.targets)
    return Trial(
        success=result.success,
        reason_code=result.reason_code,
        errors=errors,
        level_errors=level_errors,
        wall_ms=wall_ms,
        timings_ms={**timings_ms, **result.timings_ms},
        **about,
    )


def make_prior(
    kind: PriorKind, bench: CaseBench, truth: Pose, settings: BenchmarkSettings, number: int
) -> Prior | None:
    """The prior of scene ``number``; the same on every run and for every method."""
    if kind == "none":
        return None
    if kind == "landmarks":
        return picked_prior(bench, truth, settings, number)
    rng = np.random.default_rng((settings.seed, 67, number))
    axis, direction = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    R = se3.rotation_from_vector(axis * rng.uniform(0.0, settings.max_rotation_rad))
    centre = bench.targets.centroid
    shift = direction * rng.uniform(0.0, settings.max_offset_m)
    T = truth.T_camera_model @ se3.from_rotation_translation(R, centre - R @ centre + shift)
    # What a user could know: the size of such perturbations at the landmarks, not that of this one.
    landmarks = np.concatenate(list(bench.targets.landmarks.values()))
    lever = float(np.sqrt(np.mean(np.sum((landmarks - centre) ** 2, axis=1))))
    rms = np.hypot(settings.max_offset_m, lever * settings.max_rotation_rad) / np.sqrt(3.0)
    return Prior(T, source="perturbed", stddev_m=float(rms))


def picked_prior(bench: CaseBench, truth: Pose, settings: BenchmarkSettings, number: int) -> Prior:
    """All landmarks picked where the vertebrae truly are, with noise, and fitted."""
    from end2reg_ros.registration.find.landmarks import prior_from_landmarks
    from end2reg_ros.simulation.picks import simulate_picks

    seed = 1000 * settings.seed + number
    picked = []
    for level in bench.targets.landmarks:
        T = level_transform(truth, level, bench.targets)
        picked.append(simulate_picks(bench.case, T, seed, settings.pick_rms_m, (level,))[level])
    return prior_from_landmarks(
        np.concatenate(picked), np.concatenate(list(bench.targets.landmarks.values()))
    )
