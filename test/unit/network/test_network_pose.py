"""Rigid fits without SVD against SVD, and local-to-global registration on correspondences with a known pose."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from end2reg_ros.kabsch import kabsch  # noqa: E402
from end2reg_ros.network.local_to_global import local_to_global  # noqa: E402
from end2reg_ros.network.matching import Correspondences, correspondences  # noqa: E402
from end2reg_ros.network.pose import LINE, fit_rigid, rotation_horn, rotation_svd  # noqa: E402

pytestmark = pytest.mark.torch


def rotations(count: int, seed: int = 0) -> torch.Tensor:
    """(count, 3, 3) uniform rotations."""
    return torch.tensor(
        Rotation.random(count, rng=np.random.default_rng(seed)).as_matrix(), dtype=torch.float32
    )


def angles_deg(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(B,) angle between rotations in degrees, accurate for small ones."""
    return torch.rad2deg(2 * torch.asin(((a.double() - b.double()).norm(dim=(1, 2)) / 8**0.5).clamp(max=1)))


def test_horn_equals_svd_and_the_truth() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = rotations(400)
    source = torch.randn(400, 30, 3, generator=generator) * torch.tensor([0.2, 0.1, 0.05])
    shift = torch.randn(400, 3, generator=generator)
    target = source @ truth.transpose(1, 2) + shift[:, None]
    weight = torch.rand(400, 30, generator=generator)
    horn, svd = fit_rigid(source, target, weight), fit_rigid(source, target, weight, svd=True)
    assert angles_deg(horn.rotation, svd.rotation).max() < 1e-3
    assert angles_deg(horn.rotation, truth).max() < 1e-3
    assert (horn.translation - shift).abs().max() < 1e-5
    noisy = target + 0.02 * torch.randn(400, 30, 3, generator=generator)
    horn, svd = fit_rigid(source, noisy, weight), fit_rigid(source, noisy, weight, svd=True)
    assert angles_deg(horn.rotation, svd.rotation).max() < 2e-3


def test_fits_equal_the_classical_kabsch() -> None:
    rng = np.random.default_rng(1)
    source, target, weight = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), rng.random(20)
    T = kabsch(source, target, weight)
    fit = fit_rigid(*(torch.tensor(a, dtype=torch.float32)[None] for a in (source, target, weight)))
    np.testing.assert_allclose(fit.rotation[0], T[:3, :3], atol=1e-4)
    np.testing.assert_allclose(fit.translation[0], T[:3, 3], atol=1e-4)


def test_mirrored_points_still_give_a_rotation() -> None:
    source = torch.randn(50, 12, 3, generator=torch.Generator().manual_seed(2))
    h = source.transpose(1, 2) @ (source * torch.tensor([1.0, 1.0, -1.0]))
    for rotation in (rotation_horn(h), rotation_svd(h)):
        assert (torch.linalg.det(rotation.double()) - 1).abs().max() < 1e-5
    assert angles_deg(rotation_horn(h), rotation_svd(h)).max() < 0.1


def test_empty_and_collinear_sets() -> None:
    empty = fit_rigid(torch.zeros(1, 5, 3), torch.zeros(1, 5, 3), torch.zeros(1, 5))
    assert torch.equal(empty.rotation[0], torch.eye(3)) and torch.equal(empty.translation, torch.zeros(1, 3))
    line = torch.linspace(0, 1, 9)[None, :, None] * torch.tensor([0.3, 0.5, 0.1])
    assert fit_rigid(line, line, torch.ones(1, 9)).spread.item() < LINE
    # As wide as a tenth of its length is enough.
    strip = line + 0.06 * torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(0))
    assert fit_rigid(strip, strip, torch.ones(1, 9)).spread.item() > LINE
    # One side on a line is as bad as both.
    assert fit_rigid(strip, line, torch.ones(1, 9)).spread.item() < LINE


def scattered(outliers: int, seed: int = 0) -> tuple[Correspondences, torch.Tensor, torch.Tensor]:
    """Correspondences of 30 patches, the last ``outliers`` patches wrong; rotation and translation of the others."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(30, 1, 3, generator=generator) * 0.5
    model = centres + 0.1 * torch.randn(30, 16, 3, generator=generator)
    rotation, shift = rotations(1, seed)[0], torch.tensor([0.3, -0.2, 0.5])
    scene = model @ rotation.T + shift + 0.002 * torch.randn(30, 16, 3, generator=generator)
    scene[30 - outliers :] = torch.randn(outliers, 16, 3, generator=generator)
    weight = 0.5 + 0.5 * torch.rand(30, 16, generator=generator)
    return Correspondences(model, scene, weight), rotation, shift


def test_local_to_global_finds_the_pose_among_wrong_patches() -> None:
    found, rotation, shift = scattered(outliers=20)
    pose = local_to_global(found, inlier_radius=0.05, refinements=5)
    assert angles_deg(pose.rotation[None], rotation[None]).item() < 0.1
    assert (pose.translation - shift).norm() < 0.002
    assert 155 <= pose.inliers <= 170 and pose.total == 480
    assert pose.support[:10].min() > 100 > pose.support[10:].max()


def test_rotating_both_clouds_rotates_the_pose() -> None:
    found, _, _ = scattered(outliers=10)
    turn = rotations(1, seed=9)[0]
    plain = local_to_global(found, 0.05, 5)
    turned = local_to_global(
        Correspondences(found.model @ turn.T, found.scene @ turn.T, found.weight), 0.05, 5
    )
    assert angles_deg(turned.rotation[None], (turn @ plain.rotation @ turn.T)[None]).item() < 2e-3
    assert (turned.translation - turn @ plain.translation).abs().max() < 1e-5


def test_nothing_to_go_by_gives_the_identity_and_no_inliers() -> None:
    found, _, _ = scattered(outliers=0)
    line = torch.linspace(0, 1, 16)[None, :, None].expand(30, 16, 1) * torch.tensor([0.3, 0.5, 0.1])
    two = torch.zeros(30, 16)
    two[:, :2] = 1.0
    for given in (
        found._replace(weight=torch.zeros(30, 16)),
        found._replace(weight=two),
        Correspondences(line, line, torch.ones(30, 16)),
    ):
        pose = local_to_global(given, 0.05, 5)
        assert torch.equal(pose.rotation, torch.eye(3)) and torch.equal(pose.translation, torch.zeros(3))
        assert pose.inliers == 0 and pose.support.max() == 0


def test_correspondences_list_every_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(2, 5, 6, generator=generator) * (torch.rand(2, 5, 6, generator=generator) > 0.6)
    weights[weights < weights.topk(3, dim=2).values[:, :, -1:]] = 0
    model, scene = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 6, 3, generator=generator)
    found = correspondences(weights, model, scene, 3)
    listed = {
        (*m.tolist(), *s.tolist(), w.item())
        for m, s, w in zip(*(p.flatten(0, 1) for p in found), strict=True)
        if w > 0
    }
    wanted = {
        (*model[k, i].tolist(), *scene[k, j].tolist(), weights[k, i, j].item())
        for k, i, j in weights.nonzero().tolist()
    }
    assert listed == wanted
