"""Paired-point registration and priors from picked landmarks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from end2reg_ros.case.model import Case, Landmarks, Mesh, Vertebra
from end2reg_ros.errors import RegistrationError
from end2reg_ros.kabsch import kabsch
from end2reg_ros.registration.find.landmarks import prior_from_landmarks, read_picked_landmarks
from end2reg_ros.registration.output import read_transform
from end2reg_ros.se3 import apply, from_rotation_translation


def transform(seed: int) -> np.ndarray:
    rotation = Rotation.random(random_state=seed).as_matrix()
    return from_rotation_translation(rotation, np.random.default_rng(seed).normal(size=3))


@pytest.mark.parametrize("seed", range(10))
def test_exact_pairs_give_the_exact_transform(seed: int) -> None:
    source = np.random.default_rng(seed).normal(size=(3 + seed, 3))
    T = transform(seed)
    np.testing.assert_allclose(kabsch(source, apply(T, source)), T, atol=1e-12)


def test_weights_silence_a_wrong_pair() -> None:
    source = np.random.default_rng(5).normal(size=(6, 3))
    T = transform(5)
    target = apply(T, source)
    target[0] += 1.0
    np.testing.assert_allclose(kabsch(source, target, np.array([0.0, 1, 1, 1, 1, 1])), T, atol=1e-9)


def test_flat_points_give_a_rotation_not_a_mirror() -> None:
    source = np.random.default_rng(6).normal(size=(5, 3)) * [1, 1, 0]
    T = transform(6)
    np.testing.assert_allclose(kabsch(source, apply(T, source)), T, atol=1e-9)


def test_too_few_and_collinear_points_are_refused() -> None:
    with pytest.raises(RegistrationError, match="at least 3 pairs, got 2"):
        kabsch(np.zeros((2, 3)), np.zeros((2, 3)))
    line = np.outer(np.arange(5.0), [1.0, 2.0, 3.0])
    with pytest.raises(RegistrationError, match="lie on one line: pick points on both sides of the spine"):
        kabsch(line, line)


def test_noise_of_the_picks_shows_in_the_stddev() -> None:
    """Fifteen picks with 3 mm of noise (3-D RMS): the estimate is 3 mm within a third, and targets err by 1-2 mm."""
    rng = np.random.default_rng(0)
    model = rng.uniform(-1, 1, size=(15, 3)) * [0.04, 0.02, 0.09]
    T = transform(7)
    stddevs = []
    for _ in range(50):
        picked = apply(T, model) + rng.normal(scale=0.003 / np.sqrt(3), size=model.shape)
        prior = prior_from_landmarks(picked, model)
        stddevs.append(prior.stddev_m)
        assert np.linalg.norm(apply(prior.T_camera_model, model) - apply(T, model), axis=1).mean() < 0.004
    assert 0.002 <= np.median(stddevs) < 0.004


def test_swapped_sides_are_refused() -> None:
    model = np.array(
        [[0, -0.06, 0], [0.04, 0, 0], [-0.04, 0, 0], [0, -0.06, 0.1], [0.04, 0, 0.1], [-0.04, 0, 0.1]]
    )
    picked = model[[0, 2, 1, 3, 4, 5]]
    with pytest.raises(
        RegistrationError, match=r"do not fit the case: .* mm RMS .*check level names, sides and units"
    ):
        prior_from_landmarks(picked, model)


def case_with_landmarks() -> Case:
    marks = Landmarks(np.array([0, -0.05, 0.0]), np.array([-0.04, 0, 0.0]), np.array([0.04, 0, 0.0]))
    mesh = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]], dtype=np.int32))
    vertebra = Vertebra("L3", mesh, np.eye(4), (1, 2, 3), marks)
    return Case("x", Path("x"), (vertebra,), "", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read landmarks from"),
        ("[]", "expected an object of levels"),
        ('{"L9": {"spinous": [0, 0, 0]}}', r"no landmarks for level 'L9' \(it has L3\)"),
        ('{"L3": {"tip": [0, 0, 0]}}', "unknown landmark 'tip' of L3"),
        ('{"L3": {"spinous": [0, 0]}}', r"L3/spinous is not three numbers"),
        ('{"L3": {"spinous": [0, 0, 1]}}', "at least 3 landmarks are needed, got 1"),
    ],
)
def test_bad_landmark_files_name_the_fault(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "picked.json"
    path.write_text(content)
    with pytest.raises(RegistrationError, match=message):
        read_picked_landmarks(path, case_with_landmarks())


def test_landmark_file_is_read_in_pairs(tmp_path: Path) -> None:
    path = tmp_path / "picked.json"
    points = {"transverse_left": [1, 2, 3], "spinous": [4, 5, 6], "transverse_right": [7, 8, 9]}
    path.write_text(json.dumps({"L3": points}))
    picked, model = read_picked_landmarks(path, case_with_landmarks())
    np.testing.assert_array_equal(picked, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    np.testing.assert_array_equal(model[1], [0, -0.05, 0])


def test_transform_file_must_be_rigid(tmp_path: Path) -> None:
    path = tmp_path / "T.json"
    T = transform(3)
    for document in (T.ravel().tolist(), T.tolist(), {"T_camera_model": T.ravel().tolist()}):
        path.write_text(json.dumps(document))
        np.testing.assert_allclose(read_transform(path), T)
    path.write_text(json.dumps((T * 2).ravel().tolist()))
    with pytest.raises(RegistrationError, match="not a rigid transform"):
        read_transform(path)
    path.write_text("[1, 2]")
    with pytest.raises(RegistrationError, match="expected T_camera_model as 16 numbers"):
        read_transform(path)
