"""The learned registrar around a made-up network in NumPy: search, passes, checks, clouds with next to nothing in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from views import bundled_case, cloud_of, frame, shifted, tre_mm

from end2reg_ros.cloud.pyramid import UNIT_M, Pyramid
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.cloud.view_grid import COLUMNS, ViewGrid, view_grid
from end2reg_ros.engine.types import EngineInfo, MaskChoice, NetworkOutput, ScenePyramids
from end2reg_ros.errors import EngineError
from end2reg_ros.network.profile import realtime
from end2reg_ros.registration import end2reg as module
from end2reg_ros.registration import network_search
from end2reg_ros.registration.end2reg import End2RegAloneRegistrar, End2RegRegistrar
from end2reg_ros.registration.local import LocalRegistration, Stopwatch
from end2reg_ros.registration.local_scene import (
    MIN_POINTS,
    REGION_HALF_M,
    LocalScene,
    around_pose,
    around_region,
    model_side,
    pose_of,
)
from end2reg_ros.registration.network_search import SearchSettings, mask_source
from end2reg_ros.registration.region_search import CROP
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.types import Prior
from end2reg_ros.se3 import apply, from_rotation_translation, inverse, rotation_angle, rotation_from_vector

Array = NDArray[np.float64]
PROFILE = realtime()
NO_REGION = np.concatenate([np.full((1, 60, 80), -10.0), np.zeros((6, 60, 80))]).astype(np.float32)


@dataclass
class FakeEngine:
    """A network that knows where the model is, and sees nothing in a scene turned further than it was trained for.

    Attributes:
        T: (4, 4) T_camera_model that it finds.
        region: (7, 60, 80) of its region finder; None for weights without.
        found: inliers it claims, pass by pass; the last one for all further ones.
        shown: scenes it was shown.
    """

    T: Array
    region: NDArray[np.float32] | None = None
    found: tuple[int, ...] = (400,)
    capture_deg: float = 60.0
    shown: list[LocalScene] = field(default_factory=list)
    masks: list[MaskChoice | None] = field(default_factory=list)
    models: int = 0
    profile = PROFILE
    info = EngineInfo("fake", "cpu", PROFILE.name, "ab" * 8, 0, {})
    side = None

    def set_model(self, model: Pyramid) -> None:
        self.models += 1

    def run(self, scene: ScenePyramids, mask: MaskChoice | None = None) -> NetworkOutput:
        self.masks.append(mask)
        finest = scene.registration.levels[0]
        assert np.isfinite(finest.points).all() and np.isfinite(scene.registration.attributes).all()
        T = inverse(self.shown[-1].T_camera_local) @ self.T
        inliers = self.found[min(len(self.masks), len(self.found)) - 1]
        if rotation_angle(T[:3, :3]) > np.radians(self.capture_deg):
            T, inliers = np.eye(4), 30
        labels = (np.arange(finest.count) % 2).astype(np.float32)
        centre = sides().centre
        shift = (T[:3, 3] + T[:3, :3] @ centre) / UNIT_M
        return NetworkOutput(T[:3, :3], shift, inliers, 500, np.zeros(64, np.float32), labels, labels - 0.5)

    def region_map(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.region is None:
            raise EngineError("these weights hold no region finder: a start is needed")
        # The first look sees more than the second's crop. A second look that finds nothing leaves the first as it is.
        first = grid[0, :, : (COLUMNS - CROP[1]) // 2].any() or not grid.any()
        return self.region if first else NO_REGION

    def close(self) -> None:
        pass


@lru_cache(maxsize=1)
def local() -> LocalRegistration:
    return LocalRegistration(bundled_case(), RegistrationSettings())


@lru_cache(maxsize=1)
def sides() -> Any:
    return model_side(local().surface, PROFILE)


@lru_cache(maxsize=1)
def cloud() -> Cloud:
    return cloud_of(frame(0))


def truth() -> Array:
    return frame(0).T_camera_model


@pytest.fixture(autouse=True)
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case's surface takes a second: one for all tests."""
    monkeypatch.setattr(module, "LocalRegistration", lambda case, settings: local())


Make = Callable[..., tuple[Any, FakeEngine]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A registrar and its engine, which gets to know the frame of each scene that it is shown."""

    def made(engine: FakeEngine, kind: type = End2RegRegistrar, **search: Any) -> tuple[Any, FakeEngine]:
        for name, original in (("around_pose", around_pose), ("around_region", around_region)):

            def watched(*arguments: Any, original: Callable[..., Any] = original) -> LocalScene | None:
                scene = original(*arguments)
                if scene is not None:
                    engine.shown.append(scene)
                return scene

            monkeypatch.setattr(network_search, name, watched)
        return kind(bundled_case(), engine, None, SearchSettings(**search)), engine

    return made


def turned(T: Array, degrees: float, x_mm: float = 0.0) -> Array:
    """A pose turned about the model's centre and shifted."""
    R = rotation_from_vector(np.radians(degrees) * np.array([0.6, 0.0, 0.8]))
    c = sides().centre
    return shifted(T, x_mm=x_mm) @ from_rotation_translation(R, c - R @ c)


def region_output(grid: ViewGrid, T: Array, superior: float = 1.0) -> NDArray[np.float32]:
    """What a perfect region finder says; ``superior`` -1 takes head for feet, 0 cannot tell."""
    bone = grid.values[0].reshape(60, 2, 80, 2).mean(axis=(1, 3)) > 0.15
    angle = np.arctan2(T[1, 2], T[0, 2])
    along = superior * np.array([np.cos(angle), np.sin(angle)])
    values = [np.cos(2 * angle), np.sin(2 * angle), *along, *T[:2, 1]]
    maps = [np.where(bone, 6.0, -6.0), *(np.full(bone.shape, v) for v in values)]
    return np.stack(maps).astype(np.float32)


def region(superior: float = 1.0) -> NDArray[np.float32]:
    seen = frame(0)
    bone = seen.bone[np.isfinite(seen.points).all(axis=-1)]
    grid = view_grid(cloud().points, cloud().colours, bone[:, None].astype(np.float32))
    return region_output(grid, truth(), superior)


def test_the_networks_numbers_become_a_pose() -> None:
    rng = np.random.default_rng(0)
    scene = around_pose(cloud(), truth(), sides(), PROFILE)
    assert scene is not None
    for _ in range(5):
        T_camera_local, T_camera_model = (
            from_rotation_translation(rotation_from_vector(rng.normal(size=3)), rng.normal(size=3))
            for _ in "ab"
        )
        T = inverse(T_camera_local) @ T_camera_model
        shift = apply(T, sides().centre[None])[0] / UNIT_M
        moved = replace(scene, T_camera_local=T_camera_local)
        assert np.allclose(pose_of(T[:3, :3], shift, moved, sides()), T_camera_model, atol=1e-12)
    identity = pose_of(np.eye(3), np.zeros(3), scene, sides())  # posed as the scene was cropped
    assert np.allclose(identity, truth(), atol=1e-12)


@pytest.mark.parametrize("posed", [True, False])
def test_cells_know_the_clouds_points(posed: bool) -> None:
    start = turned(truth(), 10.0)
    start = start if posed else start @ from_rotation_translation(np.eye(3), sides().centre)
    scene = around_pose(cloud(), start, sides(), PROFILE) if posed else around_region(cloud(), start, PROFILE)
    assert scene is not None
    local_points = apply(inverse(scene.T_camera_local), cloud().points[scene.index].astype(float))
    if not posed:
        assert (np.abs(local_points) < REGION_HALF_M + 1e-6).all()
    level, cell = scene.pyramids.registration.levels[0], scene.cell_of_index()
    assert cell.shape == scene.index.shape and level.count > 500 and cell.max() == level.count - 1
    # A cell's mean lies within half a cell and half a voxel of each of its points.
    held = cell >= 0
    offset = np.abs(local_points[held] / UNIT_M - level.points[cell[held]])
    assert offset.max() < PROFILE.scene.voxels[0] + 0.002 * 3**0.5 / UNIT_M
    thinned = apply(inverse(scene.T_camera_local), scene.thinned.astype(float)) / UNIT_M
    of_thinned = scene.pyramids.registration.cell_of_point
    for k in (0, level.count // 2, level.count - 1):
        assert np.allclose(thinned[of_thinned == k].mean(axis=0), level.points[k], atol=1e-5)
    label = np.zeros(len(cloud().points), bool)
    label[scene.index[cell == 7]] = True
    share = scene.cell_share(label)
    assert share.shape == (level.count,) and share[7] == 1.0 and share.sum() == 1.0


def test_the_normals_face_the_camera_and_the_colours_are_means() -> None:
    scene = around_pose(cloud(), truth(), sides(), PROFILE)
    assert scene is not None
    attributes = scene.pyramids.registration.attributes[: scene.pyramids.registration.levels[0].count]
    towards = -truth()[:3, :3].T @ np.array([0.0, 0.0, 1.0])
    assert (attributes[:, 3:6] @ towards > 0).mean() > 0.95
    assert np.allclose(np.linalg.norm(attributes[:, 3:6], axis=1), 1.0, atol=1e-3)
    assert 0.1 < attributes[:, :3].mean() < 0.9


def test_fewer_than_sixty_points_are_no_scene() -> None:
    inside = np.flatnonzero(
        (np.abs(apply(inverse(truth()), cloud().points.astype(float)) - sides().centre) < 0.02).all(axis=1)
    )
    assert MIN_POINTS == 60 and len(inside) > 60
    for count, there in ((59, False), (60, True)):
        few = Cloud(cloud().points[inside[:count]], None, "camera", 1)
        assert (around_pose(few, truth(), sides(), PROFILE) is not None) == there


def test_a_start_is_the_only_hypothesis(make: Make) -> None:
    registrar, engine = make(FakeEngine(truth(), region()))
    found = registrar.register(cloud(), Prior(turned(truth(), 15.0, 5.0), "test"))
    assert found.success, found.reason
    assert tre_mm(found.T_camera_model, truth()) < 1.0
    assert (found.method, found.engine, registrar.engine_hash) == ("end2reg", "fake", "ab" * 8)
    assert engine.models == 1 and len(engine.masks) == 2  # one hypothesis, two passes
    assert np.allclose(engine.shown[1].T_camera_local[:3, :3], truth()[:3, :3], atol=1e-9)
    assert found.quality.mask_fraction == pytest.approx(0.5, abs=0.01)
    assert found.relevant is not None and found.relevant.max() < len(cloud().points)
    assert 0.3 < len(found.relevant) / len(engine.shown[1].index) < 0.7
    assert set(found.timings_ms) >= {"crop and tables", "network", "refine and judge"}
    assert len(found.levels) == len(bundled_case().vertebrae)


def test_from_nothing(make: Make) -> None:
    registrar, engine = make(FakeEngine(truth(), region()))
    found = registrar.register(cloud(), None)
    assert found.success, found.reason
    assert tre_mm(found.T_camera_model, truth()) < 1.0
    assert len(engine.masks) == 2  # the first hypothesis is sure


@pytest.mark.parametrize("superior", [-1.0, 0.0])
def test_head_and_feet_exchanged_by_the_region_finder(make: Make, superior: float) -> None:
    registrar, engine = make(FakeEngine(truth(), region(superior)))
    found = registrar.register(cloud(), None)
    assert found.success, found.reason
    assert tre_mm(found.T_camera_model, truth()) < 1.0
    axes = [scene.T_camera_local[:3, 2] @ truth()[:3, 2] for scene in engine.shown]
    assert max(axes) > 0.8 and (superior == 0.0 or axes[0] < -0.8)


def mistaken(kind: str) -> Array:
    """The spine one level further down, or with head and feet exchanged about its middle vertebra."""
    frames = [v.T_model_level for v in bundled_case().vertebrae]
    if kind == "level":
        return truth() @ frames[3] @ inverse(frames[2])
    return truth() @ frames[2] @ np.diag([1.0, -1.0, -1.0, 1.0]) @ inverse(frames[2])


@pytest.mark.parametrize(("kind", "superior"), [("level", 1.0), ("end", -1.0)])
def test_another_level_or_end_is_put_right_by_the_checks(make: Make, kind: str, superior: float) -> None:
    wrong = mistaken(kind)
    registrar, engine = make(FakeEngine(wrong, region(superior)))
    assert not registrar.local.fit(cloud(), registrar.request(wrong)).success
    found = registrar.register(cloud(), None)
    assert found.success, found.reason
    assert tre_mm(found.T_camera_model, truth()) < 1.0
    assert all(tre_mm(engine.T, truth()) > 20.0 for _ in engine.shown)
    # A start is taken at its word: what is not there is refused.
    given = registrar.register(cloud(), Prior(wrong, "test"))
    assert not given.success and given.reason_code != "ok"


def test_two_poses_that_pass_every_check_are_no_pose(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registrar, _ = make(FakeEngine(truth(), region()))
    right = registrar.register(cloud(), None)
    assert right.success
    slipped = replace(right, T_camera_model=mistaken("level"))
    monkeypatch.setattr(registrar, "elsewhere", lambda *_: [slipped])
    found = registrar.register(cloud(), None)
    assert (found.success, found.reason_code) == (False, "ambiguous_level")
    assert found.reason == (
        "two poses pass every check: this may be another level, or head and feet exchanged"
    )
    near = replace(right, T_camera_model=shifted(right.T_camera_model, x_mm=1.0))
    monkeypatch.setattr(registrar, "elsewhere", lambda *_: [near, replace(slipped, success=False)])
    assert registrar.register(cloud(), None).success


def test_a_wrong_pose_is_no_success_however_sure_the_network_is(make: Make) -> None:
    wrong = shifted(turned(truth(), 25.0), x_mm=20.0, y_mm=-15.0)
    registrar, _ = make(FakeEngine(wrong, found=(100_000,)))
    found = registrar.register(cloud(), Prior(truth(), "test"))
    assert not found.success and found.reason_code != "ok" and found.engine == "fake"
    alone, _ = make(FakeEngine(wrong, found=(100_000,)), End2RegAloneRegistrar)
    assert alone.register(cloud(), Prior(truth(), "test")).success  # by the network alone there is no check


def test_few_correspondences_are_left_to_the_checks(make: Make) -> None:
    wrong = shifted(turned(truth(), 25.0), x_mm=20.0, y_mm=-15.0)
    for T, right in ((truth(), True), (wrong, False)):
        found = make(FakeEngine(T, found=(99,)))[0].register(cloud(), Prior(truth(), "test"))
        assert found.success == right, found.reason


def test_few_correspondences_are_no_pose_without_checks(make: Make) -> None:
    registrar, _ = make(FakeEngine(truth(), found=(99,)), End2RegAloneRegistrar)
    found = registrar.register(cloud(), Prior(truth(), "test"))
    assert (found.success, found.reason_code) == (False, "few_correspondences")
    assert found.reason == "the network's best pose has only 99 correspondences"
    assert (found.method, found.engine) == ("end2reg_alone", "fake")


@pytest.mark.parametrize(("second", "believed"), [(390, True), (150, False), (60, False)])
def test_a_second_pass_that_loses_the_inliers_is_not_believed(
    make: Make, second: int, believed: bool
) -> None:
    registrar, engine = make(FakeEngine(truth(), found=(400, second)))
    poses = registrar.search.find(cloud(), Prior(truth(), "test"), Stopwatch())
    assert len(engine.masks) == 2 and [p.inliers for p in poses] == [second if believed else 400]


@pytest.mark.parametrize(("found", "kept"), [((110, 60), 110), ((60, 80), 80), ((60, 20), 60)])
def test_a_second_pass_may_not_turn_a_pose_into_none(make: Make, found: tuple[int, int], kept: int) -> None:
    registrar, _ = make(FakeEngine(truth(), found=found))
    assert registrar.search.find(cloud(), Prior(truth(), "test"), Stopwatch())[0].inliers == kept


def test_the_network_alone(make: Make) -> None:
    off = turned(truth(), 1.0, 2.0)
    registrar, _ = make(FakeEngine(off), End2RegAloneRegistrar)
    found = registrar.register(cloud(), Prior(truth(), "test"))
    assert found.success and np.allclose(found.T_camera_model, off, atol=1e-9)  # not refined
    assert (found.method, found.engine, found.quality.inliers) == ("end2reg_alone", "fake", 400)
    assert found.reason == "registered by the network alone" and found.relevant is not None


def bare(points: NDArray[np.floating], colours: NDArray[np.uint8] | None = None) -> Cloud:
    return Cloud(points.astype(np.float32), colours, "camera", 1)


@pytest.mark.parametrize("kind", [End2RegRegistrar, End2RegAloneRegistrar])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_clouds_with_next_to_nothing_in_them(make: Make, kind: type, count: int) -> None:
    few = bare(apply(truth(), local().surface.points[:: len(local().surface.points) // 60][:count]))
    for output in (NO_REGION, -NO_REGION):  # also when the region finder sees bone everywhere
        registrar, engine = make(FakeEngine(truth(), output), kind)
        found = registrar.register(few, None)
        assert (found.success, found.reason_code, found.method) == (False, "no_region", kind.method)
        assert found.reason == "nothing in the view looks like an exposed spine"
        assert np.isfinite(found.T_camera_model).all() and not engine.masks
        given = registrar.register(few, Prior(truth(), "test"))
        assert (given.success, given.reason_code) == (False, "no_points")
        assert given.reason == "next to no points around the given start"
        assert np.array_equal(given.T_camera_model, truth())


def test_a_view_without_a_spine(make: Make) -> None:
    found = make(FakeEngine(truth(), NO_REGION))[0].register(cloud(), None)
    assert (found.success, found.reason_code) == (False, "no_region")


def test_weights_without_a_region_finder_ask_for_a_start(make: Make) -> None:
    with pytest.raises(EngineError, match="hold no region finder: a start is needed"):
        make(FakeEngine(truth()))[0].register(cloud(), None)


@pytest.mark.parametrize("colours", ["none", "one"])
def test_clouds_without_colours_or_all_of_one(make: Make, colours: str) -> None:
    points = cloud().points
    grey = None if colours == "none" else np.full(points.shape, 90, np.uint8)
    registrar, engine = make(FakeEngine(truth(), region()))
    found = registrar.register(bare(points, grey), None)
    assert found.success, found.reason
    shown = engine.shown[0].pyramids.registration
    expected = 0.0 if colours == "none" else 90 / 255
    assert np.allclose(shown.attributes[: shown.levels[0].count, :3], expected, atol=1e-6)


def test_bad_clouds_never_raise(make: Make) -> None:
    rng = np.random.default_rng(0)
    clouds = (
        np.full((5000, 3), 0.5),
        rng.uniform(-3.0, 3.0, (3000, 3)),
        np.c_[rng.uniform(-0.2, 0.2, (5000, 2)), np.full(5000, 0.5)],
        np.c_[rng.uniform(-0.2, 0.2, 500), np.zeros(500), np.full(500, 0.5)],
    )
    for points in clouds:
        registrar, _ = make(FakeEngine(truth(), -NO_REGION))
        for prior in (None, Prior(truth(), "test")):
            found = registrar.register(bare(points), prior)
            assert not found.success and found.reason and np.isfinite(found.T_camera_model).all()


def test_warm_up_runs_the_network(make: Make) -> None:
    registrar, engine = make(FakeEngine(np.eye(4)))
    registrar.warm_up()
    assert len(engine.masks) >= 1


def test_masks_for_studies(make: Make) -> None:
    registrar, engine = make(FakeEngine(truth()))
    seen = frame(0)
    bone = seen.bone[np.isfinite(seen.points).all(axis=-1)]
    prior = Prior(truth(), "test")
    registrar.search.find(cloud(), prior, Stopwatch(), mask_source("given", bone=bone))
    given = engine.masks[-1]
    assert given is not None and given.mode == "given" and given.labels is not None
    assert np.array_equal(given.labels > 0, engine.shown[-1].cell_share(bone) > 0.5)
    assert 0.05 < given.labels.mean() < 0.95
    registrar.search.find(cloud(), prior, Stopwatch(), mask_source("random", seed=4))
    assert engine.masks[-1] == MaskChoice("random", seed=4)
    with pytest.raises(ValueError, match="a given mask needs the label of every point"):
        mask_source("given")
