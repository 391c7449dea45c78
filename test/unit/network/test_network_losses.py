"""Losses and targets against slow loops; nothing to learn from gives 0, never NaN."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from losses_reference import circle_loss_reference, matching_loss_reference, overlap_reference  # noqa: E402
from network_pairs import make_pair  # noqa: E402

from end2reg_ros.cloud.pyramid import PyramidSpec, build_pyramid  # noqa: E402
from end2reg_ros.network.losses import LossSettings, circle_loss, matching_loss  # noqa: E402
from end2reg_ros.network.sinkhorn import Sinkhorn  # noqa: E402
from end2reg_ros.network.tables import cloud_tables  # noqa: E402
from end2reg_ros.network.targets import PatchCloud, TruePose, point_labels, superpoint_overlap, true_pairs  # noqa: E402

pytestmark = pytest.mark.torch


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal samples from a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def overlaps(rows: int, columns: int) -> torch.Tensor:
    """(rows, columns) overlaps: some 0, some below the threshold, some above; the last row has no positive."""
    table = torch.rand(rows, columns, generator=torch.Generator().manual_seed(7))
    table = torch.where(table > 0.6, table, torch.where(table > 0.5, 0.05, 0.0))
    table[-1] = 0.0
    return table


def test_circle_loss_equals_the_slow_reference_and_is_blind_to_padding() -> None:
    x, y, overlap, settings = draw(9, 8), draw(12, 8, seed=1), overlaps(9, 12), LossSettings()
    loss = circle_loss(x, y, overlap, torch.ones(9, 12), settings)
    assert loss.item() == pytest.approx(
        circle_loss_reference(x.numpy(), y.numpy(), overlap.numpy(), settings), rel=1e-5
    )
    padded = torch.zeros(13, 20)
    padded[:9, :12] = overlap
    real = torch.zeros(13, 20)
    real[:9, :12] = 1.0
    again = circle_loss(torch.cat([x, draw(4, 8)]), torch.cat([y, draw(8, 8)]), padded, real, settings)
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)


def test_circle_loss_falls_when_partners_move_together() -> None:
    overlap = torch.eye(6)
    near = draw(6, 16)
    real = torch.ones(6, 6)
    assert circle_loss(near, near, overlap, real, LossSettings()) < 0.5 * circle_loss(
        near, draw(6, 16, seed=3), overlap, real, LossSettings()
    )


def test_matching_loss_equals_the_slow_reference() -> None:
    model, scene = draw(4, 10, 3) * 0.1, draw(4, 8, 3, seed=1) * 0.1
    model_mask, scene_mask = (
        torch.rand(4, n, generator=torch.Generator().manual_seed(n)) > 0.3 for n in (10, 8)
    )
    model_mask, scene_mask = model_mask.float(), scene_mask.float()
    assignment = Sinkhorn(20)(draw(4, 10, 8, seed=2), model_mask, scene_mask).detach()
    labels = point_labels(model, scene, model_mask, scene_mask, 0.1)
    assert set(labels.unique().tolist()) == {0.0, 1.0} and (labels[:, :10, :8] > 0).any()
    slow = matching_loss_reference(
        assignment.numpy(), model.numpy(), scene.numpy(), (model_mask.numpy(), scene_mask.numpy()), 0.1
    )
    assert matching_loss(assignment, labels).item() == pytest.approx(slow, rel=1e-5)


def test_superpoint_overlap_equals_brute_force() -> None:
    pair = make_pair(1)
    spec = PyramidSpec((0.15, 0.3, 0.6), 2.5, (300, 120, 40), (26, 26, 26), patch_points=16)
    sides, lists = [], []
    for points in (pair.model, pair.scene):
        tables = cloud_tables(build_pyramid(points, None, spec))
        sides.append(PatchCloud(tables.levels[0].points, tables.levels[0].mask[:, 0], tables.patches))
        lists.append([[int(i) for i in row if i < 300] for row in tables.patches])
    pose = TruePose(*(torch.tensor(a, dtype=torch.float32) for a in (pair.rotation, pair.translation)))
    fast = superpoint_overlap(*sides, pose, 0.1)
    moved = sides[0].points @ pose.rotation.T + pose.translation
    slow = overlap_reference(moved.numpy(), lists[0], sides[1].points.numpy(), lists[1], 0.1)
    assert (fast - torch.tensor(slow)).abs().max() < 1e-6
    assert 10 < (fast > 0.1).sum() < 0.2 * fast.numel()


def test_true_pairs_are_drawn_from_what_overlaps() -> None:
    overlap, usable = overlaps(9, 12), torch.ones(9, 12, dtype=torch.bool)
    usable[0] = False
    pairs = true_pairs(overlap, usable, 64, 0.1, torch.Generator().manual_seed(0))
    wanted = {(i, j) for i, j in (overlap > 0.1).nonzero().tolist() if i > 0}
    drawn = {(int(i), int(j)) for i, j, v in zip(pairs.model, pairs.scene, pairs.valid, strict=True) if v}
    assert drawn == wanted and len(pairs.valid) == 64
    again = true_pairs(overlap, usable, 64, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(pairs.model, again.model) and torch.equal(pairs.scene, again.scene)
    few = true_pairs(overlap, usable, 5, 0.1, torch.Generator().manual_seed(0))
    assert int(few.valid.sum()) == 5


def test_nothing_to_learn_from_gives_zero_and_a_finite_gradient() -> None:
    x, y = draw(9, 8).requires_grad_(), draw(12, 8, seed=1)
    for overlap, real in (
        (torch.zeros(9, 12), torch.ones(9, 12)),
        (torch.ones(9, 12), torch.ones(9, 12)),
        (overlaps(9, 12), torch.zeros(9, 12)),
    ):
        loss = circle_loss(x, y, overlap, real, LossSettings())
        (gradient,) = torch.autograd.grad(loss, x)
        assert loss.item() == 0.0 and torch.equal(gradient, torch.zeros(9, 8))
    # Identical features: the distance is 0 and its root has no slope there.
    (gradient,) = torch.autograd.grad(
        circle_loss(x, x.detach(), torch.eye(9), torch.ones(9, 9), LossSettings()), x
    )
    assert torch.isfinite(gradient).all()
    assert matching_loss(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)).item() == 0.0
    pairs = true_pairs(torch.zeros(9, 12), torch.ones(9, 12, dtype=torch.bool), 8, 0.1)
    assert pairs.valid.sum() == 0
