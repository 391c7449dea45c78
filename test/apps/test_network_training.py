"""Ninety steps of a tiny network on one shape: the loss falls, and views it never saw are registered to millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from network_pairs import Pair, make_pair, pose_error_mm, tiny  # noqa: E402

from end2reg_ros.network.gumbel import gumbel_noise  # noqa: E402
from end2reg_ros.network.losses import LossSettings, registration_loss  # noqa: E402
from end2reg_ros.network.model import End2Reg  # noqa: E402
from end2reg_ros.network.outputs import End2RegOutput, Sampling  # noqa: E402
from end2reg_ros.network.tables import model_tables, scene_tables  # noqa: E402
from end2reg_ros.network.targets import TruePose  # noqa: E402
from end2reg_ros.se3 import rotation_from_vector  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(400)]

SHAPE, STEPS = 3, 90
PROFILE = tiny()


@dataclass(frozen=True)
class Trained:
    """A trained network and the total loss of each step."""

    network: End2Reg
    losses: list[float]


def train(steps: int) -> Trained:
    """Train on eight views of one shape, on the registration loss alone."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = End2Reg(PROFILE)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    views = [make_pair(SHAPE, view) for view in range(8)]
    model = model_tables(views[0].model, views[0].model_attributes, PROFILE)
    scenes = [scene_tables(view.scene, view.scene_attributes, PROFILE) for view in views]
    losses = []
    for step in range(steps):
        view = views[step % len(views)]
        noise = gumbel_noise((PROFILE.scene.capacities[0], 2), generator)
        output = network.training_pass(model, scenes[step % len(views)], Sampling(noise, 1.0))
        pose = TruePose(*(torch.tensor(a, dtype=torch.float32) for a in (view.rotation, view.translation)))
        loss = registration_loss(network, output, pose, LossSettings(pairs=32), generator).total
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return Trained(network.eval(), losses)


@pytest.fixture(scope="module")
def trained() -> Trained:
    """One training for all tests here."""
    return train(STEPS)


def run(network: End2Reg, pair: Pair) -> tuple[End2RegOutput, float]:
    """Output of one pair and the error of its pose in millimetres."""
    with torch.no_grad():
        output = network(
            model_tables(pair.model, pair.model_attributes, PROFILE),
            scene_tables(pair.scene, pair.scene_attributes, PROFILE),
        )
    pose = output.matching.pose
    return output, pose_error_mm(pose.rotation.double().numpy(), pose.translation.double().numpy(), pair)


def test_the_loss_falls(trained: Trained) -> None:
    assert np.isfinite(trained.losses).all()
    assert np.mean(trained.losses[-8:]) < 0.75 * np.mean(trained.losses[:8])


def test_views_never_seen_are_registered(trained: Trained) -> None:
    pairs = [make_pair(SHAPE, view) for view in range(100, 110)]
    starts = [pose_error_mm(np.eye(3), np.zeros(3), pair) for pair in pairs]
    errors = [run(trained.network, pair)[1] for pair in pairs]
    assert np.median(starts) > 10.0
    assert np.median(errors) < 3.0, f"mm: {np.round(errors, 1)}"
    assert np.max(errors) < 10.0, f"mm: {np.round(errors, 1)}"


def test_another_shape_gets_fewer_inliers(trained: Trained) -> None:
    right, wrong = make_pair(SHAPE, 100), make_pair(SHAPE + 1, 100)
    mixed = Pair(
        right.model,
        right.model_attributes,
        wrong.scene,
        wrong.scene_attributes,
        wrong.bone,
        np.eye(3),
        np.zeros(3),
    )
    found, lost = (run(trained.network, pair)[0].matching.pose.inliers for pair in (right, mixed))
    assert lost < 0.5 * found


def test_rotating_both_clouds_rotates_the_pose(trained: Trained) -> None:
    # Not exact: kernels and voxels have axes of their own. What is learned must hold to a few millimetres.
    errors = []
    for view in range(100, 106):
        pair, turn = make_pair(SHAPE, view), rotation_from_vector(np.radians([9.0, -8.0, 9.0]))
        attributes = [a.copy() for a in (pair.model_attributes, pair.scene_attributes)]
        for a in attributes:
            a[:, 3:6] = a[:, 3:6] @ turn.T
        turned = Pair(
            pair.model @ turn.T, attributes[0], pair.scene @ turn.T, attributes[1], pair.bone,
            turn @ pair.rotation @ turn.T, turn @ pair.translation,
        )  # fmt: skip
        errors.append(run(trained.network, turned)[1])
    assert np.median(errors) < 4.0, f"mm: {np.round(errors, 1)}"


def test_training_follows_from_the_seed(trained: Trained) -> None:
    assert train(3).losses == pytest.approx(trained.losses[:3], rel=1e-4)
