"""The learned registrar around a made-up network in NumPy: search, passes, checks, clouds with next to nothing in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Any

import numpy as np
import pytest
from fake_engine import NO_REGION, Array, FakeEngine, cloud, local, region, region_output, truth, turned
from flexed_spine import View, level_errors, look
from numpy.typing import NDArray
from views import bundled_case, frame, shifted, tre_mm

from end2reg_ros.cloud.types import Cloud
from end2reg_ros.cloud.view_grid import view_grid
from end2reg_ros.engine.types import MaskChoice, NetworkOutput
from end2reg_ros.registration import end2reg, network
from end2reg_ros.registration.end2reg import End2RegAloneRegistrar, End2RegRegistrar
from end2reg_ros.registration.find import network_search
from end2reg_ros.registration.find.hypotheses import FAILURES_OF_A_FLEXED_SPINE
from end2reg_ros.registration.find.network_search import SearchSettings, around_pose, mask_source
from end2reg_ros.registration.fit.rivals import every_other_pose
from end2reg_ros.registration.network import NetworkObservation, NetworkPose, NetworkScene
from end2reg_ros.registration.types import Prior, Registration, Stopwatch
from end2reg_ros.se3 import apply, inverse
from end2reg_ros.tracking.network_watch import Background, EveryFrame, Watch, uses_background


@pytest.fixture(autouse=True)
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case's surface takes a second: one for all tests."""
    monkeypatch.setattr(end2reg, "LocalRegistration", lambda case, settings: local())


RESULT = NetworkOutput(
    np.eye(3), np.zeros(3), 400, 500, np.zeros(64, np.float32), np.ones(9, np.float32), np.ones(9, np.float32)
)
Make = Callable[..., tuple[Any, FakeEngine]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A registrar and its engine, which gets to know the frame of each scene that it is shown."""

    def made(engine: FakeEngine, kind: type = End2RegRegistrar, **search: Any) -> tuple[Any, FakeEngine]:
        original = network.network_scene

        def watched(*arguments: Any) -> NetworkScene | None:
            scene = original(*arguments)
            if scene is not None:
                engine.shown.append(scene)
            return scene

        for module in (network, network_search):
            monkeypatch.setattr(module, "network_scene", watched)
        return kind(bundled_case(), engine, None, SearchSettings(**search)), engine

    return made


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
    assert 0.3 < len(found.relevant) / len(engine.shown[1].scene.index) < 0.7
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


@pytest.mark.parametrize("kind", ["level", "end"])
def test_the_truth_is_among_the_other_levels_and_ends(kind: str) -> None:
    best = np.array([0, 0, 1, 0, 0])
    poses = every_other_pose(bundled_case(), mistaken(kind), best)
    assert len(poses) == 14  # 4 other levels, 5 with the seen level turned, 5 with the whole spine turned
    assert min(tre_mm(T, truth()) for T in poses) < (4.0 if kind == "level" else 1e-6)


def test_another_level_is_put_right_by_the_checks(make: Make) -> None:
    wrong = mistaken("level")
    registrar, engine = make(FakeEngine(wrong, region()))
    assert not registrar.search.from_pose(cloud(), wrong).success
    found = registrar.register(cloud(), None)
    assert found.success, found.reason
    assert tre_mm(found.T_camera_model, truth()) < 1.0
    assert tre_mm(engine.T, truth()) > 20.0
    # A start is taken at its word: what is not there is refused.
    given = registrar.register(cloud(), Prior(wrong, "test"))
    assert not given.success and given.reason_code != "ok"


def test_two_poses_that_pass_every_check_are_no_pose(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registrar, _ = make(FakeEngine(truth(), region()))
    right = registrar.register(cloud(), None)
    assert right.success
    slipped = replace(right, T_camera_model=mistaken("level"))
    monkeypatch.setattr(registrar.search, "other_placements", lambda *_: [slipped])
    found = registrar.register(cloud(), None)
    assert (found.success, found.reason_code) == (False, "ambiguous_level")
    assert found.reason == (
        "two poses pass every check: this may be another level, or head and feet exchanged"
    )
    near = replace(right, T_camera_model=shifted(right.T_camera_model, x_mm=1.0))
    monkeypatch.setattr(
        registrar.search, "other_placements", lambda *_: [near, replace(slipped, success=False)]
    )
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
    poses = registrar.network.find(cloud(), Prior(truth(), "test"), Stopwatch())
    assert len(engine.masks) == 2 and [p.inliers for p in poses] == [second if believed else 400]


@pytest.mark.parametrize(("found", "kept"), [((110, 60), 110), ((60, 80), 80), ((60, 20), 60)])
def test_a_second_pass_may_not_turn_a_pose_into_none(make: Make, found: tuple[int, int], kept: int) -> None:
    registrar, _ = make(FakeEngine(truth(), found=found))
    assert registrar.network.find(cloud(), Prior(truth(), "test"), Stopwatch())[0].inliers == kept


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
    found = make(FakeEngine(truth()))[0].register(cloud(), None)
    assert (found.success, found.reason_code) == (False, "engine_fault")
    assert found.reason == "these weights hold no region finder: a start is needed"


def expected_at(T: Array) -> Prior:
    return Prior(T, "last_frame", 0.001)


def follow(registrar: Any, seen: Cloud, expected: Prior, watch: Watch | None = None) -> Registration:
    """A cloud of a running track, as the tracker has it followed; without a watch, the network looks at every cloud."""
    watch = watch or EveryFrame(registrar.network)
    scene = registrar.crop(seen, expected)
    found: Registration = registrar.follow(scene, expected, watch.look(scene))
    watch.followed(scene, found)
    return found


def test_a_running_track_is_seen_by_the_network_on_every_frame(make: Make) -> None:
    registrar, engine = make(FakeEngine(shifted(truth(), x_mm=2.0)))
    found = follow(registrar, cloud(), expected_at(turned(truth(), 1.0, 1.5)))
    assert found.success, found.reason
    assert tre_mm(found.T_camera_model, truth()) < 1.0
    assert len(engine.masks) == 1 and found.network is not None and found.network.inliers == 400
    assert 1.9 < tre_mm(found.network.T_camera_model, truth()) < 2.1  # before refinement
    assert set(found.timings_ms) >= {"tables", "network", "refine and judge"}


def at_ms(ms: int) -> Cloud:
    return replace(cloud(), stamp_ns=ms * 1_000_000)


def settled(watch: Background) -> None:
    """Wait for the pass under way."""
    if watch._under_way is not None:
        watch._under_way.running.result(10)


def test_in_the_background_the_network_speaks_of_an_earlier_cloud(make: Make) -> None:
    registrar, engine = make(FakeEngine(shifted(truth(), x_mm=2.0)))
    watch, expected = Background(registrar.network, 0.0), expected_at(truth())
    first = follow(registrar, at_ms(1), expected, watch)
    assert first.success and first.network is None
    assert list(first.timings_ms) == ["crop", "refine and judge", "waiting for the network"]
    settled(watch)
    second = follow(registrar, at_ms(2), expected, watch)
    assert second.success and second.network is not None
    assert (second.network.stamp_ns, second.network.inliers) == (1_000_000, 400)
    assert 1.9 < tre_mm(second.network.T_camera_model, truth()) < 2.1
    assert set(second.timings_ms) > {"refine and judge", "network (background)"}
    assert tre_mm(second.T_camera_model, truth()) < 1.0
    # What it calls bone in an earlier cloud says nothing of this one's points.
    assert second.relevant is not None and first.relevant is not None
    np.testing.assert_array_equal(second.relevant, first.relevant)
    settled(watch)
    assert len(engine.masks) == 2  # the newest cloud, as soon as it was free


def test_in_the_background_the_network_sees_a_cloud_once_a_period(make: Make) -> None:
    registrar, engine = make(FakeEngine(truth()))
    watch = Background(registrar.network, 0.4)
    for ms in (0, 100, 300, 399, 400, 700):
        follow(registrar, at_ms(ms), expected_at(truth()), watch)
        settled(watch)
    assert len(engine.masks) == 2  # 0 and 400 ms
    follow(registrar, at_ms(0), expected_at(truth()), watch)  # the clock went back
    settled(watch)
    assert len(engine.masks) == 3


def test_in_the_background_a_pass_under_way_is_not_waited_for(make: Make) -> None:
    registrar, engine = make(FakeEngine(truth()))
    watch, gate = Background(registrar.network, 0.0), Event()
    watch._beside.submit(gate.wait, 20)
    for ms in (1, 2, 3):
        found = follow(registrar, at_ms(ms), expected_at(truth()), watch)
        assert found.success and found.network is None
    gate.set()
    settled(watch)
    assert watch._under_way is not None and watch._under_way.stamp_ns == 1_000_000 and len(engine.masks) == 1


def test_in_the_background_a_failed_refinement_waits_for_the_network(make: Make) -> None:
    registrar, engine = make(FakeEngine(truth()))
    watch = Background(registrar.network, 1.0)
    found = follow(registrar, cloud(), expected_at(shifted(truth(), x_mm=14.0)), watch)
    assert found.success and tre_mm(found.T_camera_model, truth()) < 1.0
    assert found.network is not None and len(engine.masks) >= 1


def test_a_lost_track_takes_no_word_of_what_was_before(make: Make) -> None:
    registrar, _ = make(FakeEngine(truth()))
    watch = Background(registrar.network, 0.0)
    follow(registrar, at_ms(1), expected_at(truth()), watch)
    settled(watch)
    watch.forget()
    assert follow(registrar, at_ms(2), expected_at(truth()), watch).network is None


def test_in_the_background_what_the_network_sees_is_carried_to_the_newest_cloud(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = shifted(truth(), x_mm=20.0)
    registrar, _ = make(FakeEngine(seen))
    before = shifted(truth(), y_mm=-3.0)
    scene = registrar.crop(cloud(), expected_at(truth()))
    found = registrar.follow(scene, expected_at(truth()))
    asked: list[Array] = []
    original = registrar.search.from_pose

    def from_pose(cloud: Cloud, T: Array, posture: Any = None) -> Registration:
        asked.append(T)
        return original(cloud, T, posture)

    monkeypatch.setattr(registrar.search, "from_pose", from_pose)
    shown = around_pose(cloud(), truth(), registrar.network.side, registrar.network.engine.profile)
    pose = NetworkPose(seen, replace(RESULT, inliers=400), shown)
    few = replace(pose, output=replace(RESULT, inliers=200))
    close = replace(pose, T_camera_model=shifted(before, x_mm=5.0))
    registrar.checked_by_network(cloud(), found, NetworkObservation(pose, before, 1, {}))
    assert np.allclose(asked[0], found.T_camera_model @ inverse(before) @ seen)
    # Too few correspondences, or close enough: nothing is fitted again.
    for other in (few, close):
        registrar.checked_by_network(cloud(), found, NetworkObservation(other, before, 1, {}))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("passes", "device", "expected"),
    [
        ("auto", "cpu", True),
        ("auto", "cuda", False),
        ("background", "cuda", True),
        ("every_frame", "cpu", False),
    ],
)
def test_when_the_network_runs_in_the_background(passes: Any, device: str, expected: bool) -> None:
    assert uses_background(passes, device) is expected


def test_where_following_fails_the_networks_pose_is_another_start(make: Make) -> None:
    lost = expected_at(shifted(truth(), x_mm=14.0))
    blind, _ = make(FakeEngine(truth(), found=(120,)))
    assert not follow(blind, cloud(), lost).success  # too few correspondences to be asked
    registrar, _ = make(FakeEngine(truth()))
    found = follow(registrar, cloud(), lost)
    assert found.success and tre_mm(found.T_camera_model, truth()) < 1.0


def test_a_network_that_sees_another_level_does_not_move_a_good_track(make: Make) -> None:
    slipped = every_other_pose(bundled_case(), truth(), np.ones(5))[0]
    registrar, _ = make(FakeEngine(slipped))
    found = follow(registrar, cloud(), expected_at(truth()))
    assert found.success, found.reason
    assert tre_mm(found.T_camera_model, truth()) < 1.0
    # Were it to fit as well, neither would be believed.
    other = replace(found, T_camera_model=slipped)
    refused = registrar.choose(found, other)
    assert (refused.success, refused.reason_code) == (False, "network_disagrees")
    assert refused.reason == "the network sees another pose than the track, and both pass every check"
    assert registrar.choose(found, replace(other, success=False)) is found
    assert registrar.choose(replace(found, success=False), other) is other


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
    registrar.network.find(cloud(), prior, Stopwatch(), mask_source("given", bone=bone))
    given = engine.masks[-1]
    assert given is not None and given.mode == "given" and given.labels is not None
    assert np.array_equal(given.labels > 0, engine.shown[-1].cell_share(bone) > 0.5)
    assert 0.05 < given.labels.mean() < 0.95
    registrar.network.find(cloud(), prior, Stopwatch(), mask_source("random", seed=4))
    assert engine.masks[-1] == MaskChoice("random", seed=4)
    with pytest.raises(ValueError, match="a given mask needs the label of every point"):
        mask_source("given")


def test_a_pose_a_level_away_from_the_start_is_refused(make: Make) -> None:
    registrar, _ = make(FakeEngine(truth(), region()))
    away = truth().copy()
    away[:3, 3] += truth()[:3, 2] * 0.034
    right = registrar.register(cloud(), None)
    assert right.success and registrar.search.near(Prior(truth(), "test"), right).success
    found = registrar.search.near(Prior(away, "test"), right)
    assert not found.success and found.reason_code == "far_from_prior"
    assert found.reason == "the spine lies 34 mm from the start (limit 22 mm)"


def much_flexed() -> View:
    """4 degrees and 2 mm at every segment: no one rigid pose passes the checks."""
    return look(4.0, 2.0, 1)


def flexed_region() -> NDArray[np.float32]:
    view = much_flexed()
    bone = (view.level >= 0)[:, None].astype(np.float32)
    return region_output(view_grid(view.cloud().points, None, bone), view.T_camera_model)


class NarrowView(FakeEngine):
    """For a view that does not fill the grid: the first look is told by counting."""

    looks = 0

    def region_map(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        self.looks += 1
        return flexed_region() if self.looks == 1 else NO_REGION


def slipped_by_a_level(T: Array) -> Array:
    frames = [v.T_model_level for v in bundled_case().vertebrae]
    return np.asarray(T @ frames[3] @ inverse(frames[2]))


@pytest.mark.parametrize("start", ["prior", "nothing"])
def test_a_flexed_spine_is_found_with_a_pose_for_each_vertebra(make: Make, start: str) -> None:
    view = much_flexed()
    registrar, _ = make(NarrowView(view.T_camera_model))
    rigid = registrar.search.from_pose(view.cloud(), view.T_camera_model)
    assert not rigid.success and rigid.reason_code in FAILURES_OF_A_FLEXED_SPINE
    prior = Prior(view.T_camera_model, "test") if start == "prior" else None
    found = registrar.register(view.cloud(), prior)
    assert found.success, found.reason
    assert level_errors(found, view)[:, 0].max() < 0.4
    assert found.posture is not None and "flexed spine" in found.timings_ms


def test_what_passes_as_one_body_is_not_looked_for_flexed(make: Make) -> None:
    registrar, _ = make(FakeEngine(truth(), region()))
    assert "flexed spine" not in registrar.register(cloud(), None).timings_ms


def test_an_unsure_network_leads_to_no_flexed_spine(make: Make) -> None:
    """Levels that may move fit wrong places better, too: it must be sure of the place."""
    view = much_flexed()
    registrar, _ = make(FakeEngine(view.T_camera_model, found=(120,)))
    found = registrar.register(view.cloud(), Prior(view.T_camera_model, "test"))
    assert (found.success, found.reason_code) == (False, "level_disagrees")
    assert found.reason.startswith("L1: inlier ratio")


@pytest.mark.parametrize("start", ["prior", "nothing"])
def test_a_flexed_spine_seen_a_level_off_is_put_right_or_refused(make: Make, start: str) -> None:
    view = much_flexed()
    wrong = slipped_by_a_level(view.T_camera_model)
    registrar, _ = make(NarrowView(wrong))
    found = registrar.register(view.cloud(), Prior(wrong, "test") if start == "prior" else None)
    assert not found.success or level_errors(found, view)[:, 0].max() < 0.4
    assert start == "nothing" or not found.success


def test_two_flexed_spines_that_pass_are_no_pose(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    view = much_flexed()
    registrar, _ = make(NarrowView(view.T_camera_model))
    original = registrar.search.flexed

    def with_another_level(cloud: Cloud, fits: Any, everywhere: bool) -> Any:
        (found, pose), *rest = original(cloud, fits, everywhere)
        other = replace(found, T_camera_model=slipped_by_a_level(found.T_camera_model))
        return [(found, pose), *rest, (other, pose)]

    monkeypatch.setattr(registrar.search, "flexed", with_another_level)
    found = registrar.register(view.cloud(), None)
    assert (found.success, found.reason_code) == (False, "ambiguous_level")


def test_a_flexed_spine_is_held_against_every_other_level_when_nothing_else_tells_where_it_is(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = much_flexed()
    for prior, everywhere in ((None, True), (Prior(view.T_camera_model, "test"), False)):
        registrar, _ = make(NarrowView(view.T_camera_model))
        asked: list[bool] = []

        def remembered(cloud: Cloud, fits: Any, everywhere: bool, asked: list[bool] = asked) -> list[Any]:
            asked.append(everywhere)
            return []

        monkeypatch.setattr(registrar.search, "flexed", remembered)
        assert not registrar.register(view.cloud(), prior).success
        assert asked == [everywhere]


def test_the_posture_before_is_where_a_track_and_a_search_begin(make: Make) -> None:
    """As one body in that posture the spine passes the checks at once."""
    view = much_flexed()
    registrar, _ = make(FakeEngine(view.T_camera_model))
    prior = Prior(view.T_camera_model, "last_frame", 0.002, view.posture)
    for found in (follow(registrar, view.cloud(), prior), registrar.register(view.cloud(), prior)):
        assert found.success, found.reason
        assert level_errors(found, view)[:, 0].max() < 0.4
        assert "flexed spine" not in found.timings_ms or found.timings_ms["flexed spine"] < 1.0
