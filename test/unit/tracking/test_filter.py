"""The optional filter: held against slow, obvious references, and to what its document promises."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from views import bundled_case

from end2reg_ros.registration.types import LevelResult, Quality, Registration
from end2reg_ros.se3 import (
    apply,
    from_rotation_translation,
    inverse,
    move_covariance,
    rotation_from_quaternion,
    rotation_from_vector,
)
from end2reg_ros.tracking import State
from end2reg_ros.tracking.constant_velocity import (
    FLOOR,
    HOLD_S,
    ConstantVelocity,
    FilterSettings,
    PoseFilter,
    left_jacobian,
    transition,
)
from end2reg_ros.tracking.filter import NoFilter, create_filter

CENTRE = np.array([0.15, -0.2, 1.1])  # a CT's origin may be this far away
POINTS = CENTRE + np.array([[0.0, 0.0, 0.07], [0.0, 0.0, 0.0], [0.0, 0.0, -0.07]])
STDDEV = np.array([5e-4, 4e-4, 3e-4, 0.004, 0.009, 0.005])
R0 = rotation_from_vector(np.array([2.0, 0.3, -0.2]))
OPEN = FilterSettings(gate=np.inf, max_apart_m=np.inf)
START_NS = 1_700_000_000_000_000_000


def pose(place: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(4, 4) with the spine's centre at ``place``, turned by the rotation vector ``turn`` from where it began."""
    R = rotation_from_vector(np.asarray(turn)) @ R0
    return from_rotation_translation(R, np.asarray(place) - R @ CENTRE)


def at_origin(T: np.ndarray, stddev: np.ndarray = STDDEV) -> np.ndarray:
    """The covariance that is ``stddev`` about the centre, about the posed model origin."""
    return move_covariance(np.diag(stddev**2), T[:3, 3] - apply(T, CENTRE))


def stream(seed: int, count: int = 40, turning: bool = True) -> list[tuple[int, np.ndarray]]:
    """Irregular stamps and noisy poses of a spine that moves and turns fast."""
    rng = np.random.default_rng(seed)
    stamps = START_NS + np.cumsum(rng.uniform(0.01, 0.12, count) * 1e9).astype(np.int64)
    found = []
    for stamp in stamps:
        t = (stamp - START_NS) * 1e-9
        noise = 0.2 * rng.normal(size=6) * STDDEV
        place = np.array([0.01 * t, 0.02 * np.sin(t), 0.5]) + noise[:3]
        turn = np.array([0.3 * t, -0.2 * t, 0.1 * np.sin(t)]) + noise[3:]
        found.append((int(stamp), pose(place, turn if turning else np.zeros(3))))
    return found


class Reference:
    """The same estimate the slow way: textbook equations, every Jacobian by differences of the state itself."""

    def __init__(self, T: np.ndarray, settings: FilterSettings) -> None:
        self.s = settings
        self.x = (apply(T, CENTRE), T[:3, :3], np.zeros(3), np.zeros(3))
        speeds = [settings.start_speed_m_s**2] * 3 + [settings.start_turn_rad_s**2] * 3
        self.P = np.zeros((12, 12))
        self.P[:6, :6] = self.noise()
        self.P[6:, 6:] = np.diag(speeds)

    def noise(self) -> np.ndarray:
        return self.s.noise_share**2 * np.diag(STDDEV**2) + FLOOR

    @staticmethod
    def plus(x: tuple, d: np.ndarray) -> tuple:
        p, R, v, w = x
        return p + d[:3], Rotation.from_rotvec(d[3:6]).as_matrix() @ R, v + d[6:9], w + d[9:]

    @staticmethod
    def minus(x: tuple, y: tuple) -> np.ndarray:
        turn = Rotation.from_matrix(x[1] @ y[1].T).as_rotvec()
        return np.concatenate([x[0] - y[0], turn, x[2] - y[2], x[3] - y[3]])

    @staticmethod
    def moved(x: tuple, dt: float) -> tuple:
        p, R, v, w = x
        return p + v * dt, Rotation.from_rotvec(w * dt).as_matrix() @ R, v, w

    def step(self, dt: float, T: np.ndarray) -> np.ndarray:
        predicted, h = self.moved(self.x, dt), 1e-6
        unit = h * np.eye(12)
        F = np.stack(
            [
                (
                    self.minus(self.moved(self.plus(self.x, d), dt), predicted)
                    - self.minus(self.moved(self.plus(self.x, -d), dt), predicted)
                )
                / (2 * h)
                for d in unit
            ],
            axis=1,
        )
        # Process noise as many small kicks of the velocity.
        Q, small = np.zeros((12, 12)), dt / 400
        for k in range(400):
            G = np.zeros((12, 6))
            G[6:] = np.eye(6)
            G[:6] = (dt - (k + 0.5) * small) * np.eye(6)
            q = [self.s.acceleration_m_s2**2] * 3 + [self.s.angular_acceleration_rad_s2**2] * 3
            Q += G @ np.diag(HOLD_S * small * np.array(q)) @ G.T
        P = F @ self.P @ F.T + Q
        seen = (apply(T, CENTRE), T[:3, :3], predicted[2], predicted[3])
        H = np.hstack([np.eye(6), np.zeros((6, 6))])
        K = P @ H.T @ np.linalg.inv(H @ P @ H.T + self.noise())
        self.x = self.plus(predicted, K @ self.minus(seen, predicted)[:6])
        self.P = (np.eye(12) - K @ H) @ P
        R = self.x[1]
        return from_rotation_translation(R, self.x[0] - R @ CENTRE)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_equals_the_reference_with_numerical_jacobians(seed: int) -> None:
    messages = stream(seed)
    mine, reference = PoseFilter(CENTRE, POINTS, OPEN), Reference(messages[0][1], OPEN)
    before = messages[0][0]
    mine.update(*messages[0], at_origin(messages[0][1]))
    for stamp, T in messages[1:]:
        found = mine.update(stamp, T, at_origin(T))
        expected = reference.step((stamp - before) * 1e-9, T)
        before = stamp
        assert not found.restarted
        np.testing.assert_allclose(
            apply(found.T_camera_model, POINTS), apply(expected, POINTS), atol=2e-7, rtol=0
        )
        stays = (1 - OPEN.noise_share**2) * np.diag(STDDEV**2)
        about = apply(found.T_camera_model, CENTRE) - found.T_camera_model[:3, 3]
        np.testing.assert_allclose(
            move_covariance(found.covariance, about) - stays, reference.P[:6, :6], atol=5e-9, rtol=1e-3
        )


def test_without_rotation_it_is_the_least_squares_fit_of_all_poses_so_far() -> None:
    """Positions, velocities and kicks as one linear problem over the whole window, solved at once."""
    messages = stream(3, count=12, turning=False)
    mine = PoseFilter(CENTRE, POINTS, OPEN)
    T = [mine.update(s, T, at_origin(T)) for s, T in messages][-1].T_camera_model
    times = (np.array([s for s, _ in messages]) - START_NS) * 1e-9
    stddev = np.sqrt(OPEN.noise_share**2 * STDDEV[:3] ** 2 + np.diag(FLOOR)[:3])
    for axis in range(3):
        rows, values = [], []
        n = len(times)
        for k, (_, raw) in enumerate(messages):
            row = np.zeros(2 * n)
            row[2 * k] = 1 / stddev[axis]
            rows.append(row)
            values.append(apply(raw, CENTRE)[axis] / stddev[axis])
        row = np.zeros(2 * n)
        row[1] = 1 / OPEN.start_speed_m_s
        rows.append(row)
        values.append(0.0)
        for k, dt in enumerate(np.diff(times)):
            q = HOLD_S * OPEN.acceleration_m_s2**2
            weight = np.linalg.cholesky(
                np.linalg.inv(q * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]))
            ).T
            block = np.zeros((2, 2 * n))
            block[:, 2 * k : 2 * k + 4] = [[-1.0, -dt, 1.0, 0.0], [0.0, -1.0, 0.0, 1.0]]
            rows += list(weight @ block)
            values += [0.0, 0.0]
        solved = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
        assert apply(T, CENTRE)[axis] == pytest.approx(solved[2 * (n - 1)], abs=1e-10)


def test_its_jacobians_are_those_of_its_motion() -> None:
    v, h = np.array([0.4, -0.7, 0.2]), 1e-6
    for k in range(3):
        d = h * np.eye(3)[k]
        turned = rotation_from_vector(v + d) @ rotation_from_vector(v).T
        np.testing.assert_allclose(
            left_jacobian(v)[:, k], Rotation.from_matrix(turned).as_rotvec() / h, atol=2e-6
        )
    # two short steps are one long one
    np.testing.assert_allclose(transition(v, 0.05) @ transition(v, 0.02), transition(v, 0.07), atol=1e-12)
    f = PoseFilter(CENTRE, POINTS)
    F = transition(np.zeros(3), 0.05)
    np.testing.assert_allclose(
        F @ f._process_noise(0.02) @ F.T + f._process_noise(0.05), f._process_noise(0.07), atol=1e-15
    )


def run(
    places: np.ndarray, rate_hz: float = 30.0, seed: int = 0, share: float = 0.2
) -> tuple[np.ndarray, np.ndarray, int]:
    """Raw and filtered places of the centre (N, 3), and restarts after the first pose."""
    rng = np.random.default_rng(seed)
    f = PoseFilter(CENTRE, POINTS)
    raw, smooth, restarts = [], [], -1
    for k, place in enumerate(places):
        noise = share * rng.normal(size=6) * STDDEV
        T = pose(place + noise[:3], noise[3:])
        found = f.update(START_NS + round(k / rate_hz * 1e9), T, at_origin(T))
        raw.append(apply(T, CENTRE))
        smooth.append(apply(found.T_camera_model, CENTRE))
        restarts += found.restarted
        apart = np.linalg.norm(apply(found.T_camera_model, POINTS) - apply(T, POINTS), axis=1)
        assert apart.max() <= FilterSettings().max_apart_m
    return np.array(raw), np.array(smooth), restarts


def line(count: int, speed_m_s: float = 0.0, rate_hz: float = 30.0) -> np.ndarray:
    t = np.arange(count) / rate_hz
    return np.array([0.0, 0.0, 0.5]) + t[:, None] * speed_m_s * np.array([0.6, 0.0, 0.8])


def test_at_rest_it_quietens_and_never_starts_anew() -> None:
    raw, smooth, restarts = run(line(600))
    spread = [np.sqrt(((p[60:] - p[60:].mean(axis=0)) ** 2).sum(axis=1).mean()) for p in (raw, smooth)]
    assert restarts == 0
    assert spread[1] < 0.75 * spread[0]


def test_an_even_motion_is_followed_without_lag() -> None:
    raw, smooth, restarts = run(line(600, 0.02))
    behind = (raw - smooth)[60:] @ np.array([0.6, 0.0, 0.8])
    assert restarts == 0
    assert abs(behind.mean()) / 0.02 < 0.001  # seconds


def test_a_knocked_camera_is_not_smoothed() -> None:
    """From a millimetre on, the frame of the knock is the raw pose itself; what is below is caught up in a few frames."""
    for size in (0.001, 0.002, 0.02, 0.2):
        places = line(120)
        places[60:, 2] += size
        raw, smooth, restarts = run(places, seed=4)
        assert restarts == 1
        np.testing.assert_allclose(smooth[60], raw[60], atol=1e-12)
    places = line(120)
    places[60:, 2] += 0.0003
    raw, smooth, restarts = run(places, seed=4)
    assert abs((raw - smooth)[80:].mean(axis=0)[2]) < 3e-5


def test_a_turn_starts_anew_too() -> None:
    f = PoseFilter(CENTRE, POINTS)
    for k in range(30):
        T = pose(np.array([0.0, 0.0, 0.5]), np.zeros(3))
        f.update(START_NS + k * 33_000_000, T, at_origin(T))
    T = pose(np.array([0.0, 0.0, 0.5]), np.array([0.03, 0.0, 0.0]))
    found = f.update(START_NS + 30 * 33_000_000, T, at_origin(T))
    assert found.restarted
    np.testing.assert_allclose(found.T_camera_model, T, atol=1e-12)


@pytest.mark.parametrize(
    ("gap_s", "anew"), [(0.033, False), (0.5, False), (0.51, True), (0.0, True), (-0.1, True)]
)
def test_only_a_later_stamp_soon_after_goes_on(gap_s: float, anew: bool) -> None:
    f = PoseFilter(CENTRE, POINTS)
    T = pose(np.array([0.0, 0.0, 0.5]), np.zeros(3))
    assert f.update(START_NS, T, at_origin(T)).restarted
    assert f.update(START_NS + round(gap_s * 1e9), T, at_origin(T)).restarted is anew


def test_the_covariance_keeps_what_no_filter_takes_away() -> None:
    f = PoseFilter(CENTRE, POINTS)
    for k in range(60):
        T = pose(np.array([0.0, 0.0, 0.5]), np.zeros(3))
        found = f.update(START_NS + k * 33_000_000, T, at_origin(T))
    stddev = np.sqrt(np.diag(move_covariance(found.covariance, apply(T, CENTRE) - T[:3, 3])))
    assert np.all(stddev > 0.97 * STDDEV)
    assert np.all(stddev < np.sqrt(STDDEV**2 + np.diag(FLOOR)))


def registration(T: np.ndarray) -> Registration:
    levels = []
    for k, v in enumerate(bundled_case().vertebrae):
        bent = from_rotation_translation(rotation_from_vector(np.array([0.01 * k, 0, 0])), np.zeros(3))
        levels.append(LevelResult(v.level, T @ v.T_model_level @ bent, np.eye(6) * 1e-6, Quality(), False))
    return Registration(
        T, True, "ok", "", Quality(inlier_ratio=0.9), np.diag(STDDEV**2), "icp", "", {}, tuple(levels)
    )


def test_vertebrae_are_carried_with_the_spine_and_keep_their_posture() -> None:
    f = create_filter("constant_velocity", bundled_case())
    rng = np.random.default_rng(0)
    for k in range(10):
        T = from_rotation_translation(R0, np.array([0.0, 0.0, 0.5]) + rng.normal(size=3) * 5e-5)
        raw = registration(T)
        found = f.smooth(START_NS + k * 33_000_000, raw)
    assert not np.array_equal(found.T_camera_model, T)
    for one, other in zip(found.levels, raw.levels, strict=True):
        np.testing.assert_allclose(
            inverse(found.T_camera_model) @ one.T_camera_level, inverse(T) @ other.T_camera_level, atol=1e-12
        )
        assert replace(one, T_camera_level=other.T_camera_level) == other
    assert found.quality == raw.quality and np.array_equal(raw.T_camera_model, T)


@pytest.mark.parametrize("state", [State.LOST, State.SEARCHING])
def test_a_pose_after_a_loss_starts_anew(state: State) -> None:
    f = ConstantVelocity(bundled_case())
    first = from_rotation_translation(R0, np.array([0.0, 0.0, 0.5]))
    second = from_rotation_translation(R0, np.array([0.0, 0.0001, 0.5]))
    f.smooth(START_NS, registration(first))
    for told, equal in ((State.TRACKING, False), (State.DEGRADED, False), (state, True)):
        f.filter.forget()
        f.smooth(START_NS, registration(first))
        f.show(told)
        found = f.smooth(START_NS + 33_000_000, registration(second))
        assert np.allclose(found.T_camera_model, second, atol=1e-9, rtol=0) is equal


def test_none_changes_nothing() -> None:
    f = create_filter("none", bundled_case())
    raw = registration(from_rotation_translation(R0, np.array([0.0, 0.0, 0.5])))
    f.show(State.LOST)
    assert isinstance(f, NoFilter) and f.smooth(START_NS, raw) is raw


def matrix_from_pose(message: Any) -> np.ndarray:
    """(4, 4) of a geometry_msgs/Pose."""
    p, q = message.position, message.orientation
    rotation = rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    return from_rotation_translation(rotation, np.array([p.x, p.y, p.z]))


class Topics:
    """Stands for a node: keeps what is published on each topic."""

    def __init__(self) -> None:
        self.heard: dict[str, list[Any]] = {}

    def create_publisher(self, kind: type, topic: str, profile: Any) -> SimpleNamespace:
        store = self.heard.setdefault(topic, [])
        return SimpleNamespace(publish=store.append, get_subscription_count=lambda: 0, topic=topic)

    def get_clock(self) -> SimpleNamespace:
        return SimpleNamespace(ros_time_is_active=False)

    def destroy_publisher(self, publisher: SimpleNamespace) -> None:
        del self.heard[publisher.topic]


@pytest.mark.ros
@pytest.mark.parametrize("choice", ["none", "constant_velocity"])
def test_raw_poses_stay_on_their_topics_and_tf_shows_the_filtered_ones(choice: str) -> None:
    from end2reg_ros.cloud.types import Cloud
    from end2reg_ros.ros.conversions import matrix_from_transform, ns_from_stamp
    from end2reg_ros.ros.outputs import TopicOutput
    from end2reg_ros.ros.settings import TrackerParameters

    node = Topics()
    parameters = TrackerParameters(filter=choice, publish_markers=False)
    output = TopicOutput(node, bundled_case(), parameters, None)  # type: ignore[arg-type]
    first = from_rotation_translation(R0, np.array([0.0, 0.0, 0.5]))
    second = from_rotation_translation(R0, np.array([0.0, 0.0001, 0.5]))
    poses = [*[first] * 10, second, second]
    for k, T in enumerate(poses):
        stamp = START_NS + k * 33_000_000
        output.result(Cloud(np.zeros((0, 3), np.float32), None, "camera", stamp), registration(T))
        if k == 10:
            output.show(State.LOST)
    tf = [
        {t.child_frame_id: matrix_from_transform(t.transform) for t in m.transforms}
        for m in node.heard["/tf"]
        if m.transforms[0].header.frame_id == "camera"
    ]
    shown = [t["spine"] for t in tf]
    raw = [matrix_from_pose(m.pose.pose) for m in node.heard["spine/pose"]]
    np.testing.assert_allclose(raw, poses, atol=1e-9)
    lagged = bool(np.abs(shown[10] - second).max() > 1e-6)
    assert lagged is (choice == "constant_velocity")
    np.testing.assert_allclose([shown[0], shown[11]], [first, second], atol=1e-9)  # new after the loss
    L3 = bundled_case().vertebrae[2]
    (expected,) = [r.T_camera_level for r in registration(second).levels if r.level == L3.level]
    told = node.heard["vertebrae"][10].vertebrae[2]
    np.testing.assert_allclose(matrix_from_pose(told.pose.pose), expected, atol=1e-9)
    measured = matrix_from_pose(node.heard[f"{L3.level}/measured_cp"][10].pose)
    np.testing.assert_allclose(measured, shown[10] @ tf[10][L3.level], atol=1e-9)
    np.testing.assert_allclose(
        matrix_from_pose(node.heard["spine/measured_cp"][10].pose), shown[10], atol=1e-9
    )
    assert ("spine/filtered_pose" in node.heard) is lagged
    if lagged:
        message = node.heard["spine/filtered_pose"][10]
        np.testing.assert_allclose(matrix_from_pose(message.pose.pose), shown[10], atol=1e-9)
        assert ns_from_stamp(message.header.stamp) == START_NS + 330_000_000
        assert np.diag(np.reshape(message.pose.covariance, (6, 6))).min() > 0
    output.close()
    assert node.heard == {}


@pytest.mark.ros
def test_the_filter_is_part_of_the_configurations_hash() -> None:
    from end2reg_ros.ros.parameters import ParameterFault, build, config_hash
    from end2reg_ros.ros.settings import TrackerParameters

    on = build(TrackerParameters, {"filter": "constant_velocity", "filter_acceleration_m_s2": 0.5})
    assert config_hash(on.hashed()) != config_hash(TrackerParameters().hashed())
    chosen = on.pose_filter(bundled_case())
    assert isinstance(chosen, ConstantVelocity) and chosen.filter.settings.acceleration_m_s2 == 0.5
    assert isinstance(TrackerParameters().pose_filter(bundled_case()), NoFilter)
    with pytest.raises(
        ParameterFault, match=r"^parameter 'filter' is 'kalman', must be one of none, constant_velocity$"
    ):
        build(TrackerParameters, {"filter": "kalman"})
