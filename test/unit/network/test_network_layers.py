"""The network's layers against slow references and against torch's own; masks and padding."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from network_pairs import make_pair, tiny  # noqa: E402

from end2reg_ros.network.embedding import GeometricEmbedding, pair_geometry  # noqa: E402
from end2reg_ros.network.gumbel import argmax_mask, gumbel_noise, soft_mask, straight_through_mask  # noqa: E402
from end2reg_ros.network.kpconv import (  # noqa: E402
    KernelGeometry,
    KPConv,
    kernel_points,
    max_pool,
    positive_count,
)
from end2reg_ros.network.matching import best_pairs, mutual_weights, superpoint_scores  # noqa: E402
from end2reg_ros.network.norms import CloudNorm  # noqa: E402
from end2reg_ros.network.sinkhorn import Sinkhorn  # noqa: E402
from end2reg_ros.network.tables import model_tables  # noqa: E402
from end2reg_ros.network.transformer import Attention, attention_mask  # noqa: E402

pytestmark = pytest.mark.torch


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal samples from a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_straight_through_mask_is_hard_forward_and_soft_backward() -> None:
    logits, noise = draw(200, 2).requires_grad_(), gumbel_noise((200, 2), torch.Generator().manual_seed(1))
    mask = straight_through_mask(logits, noise, tau=0.7)
    assert set(mask.tolist()) == {0.0, 1.0}
    assert torch.equal(mask.detach(), (logits + noise).argmax(dim=1).float())
    pull = draw(200, seed=2)
    (hard,) = torch.autograd.grad((mask * pull).sum(), logits)
    (soft,) = torch.autograd.grad((soft_mask(logits, noise, 0.7) * pull).sum(), logits)
    assert torch.equal(hard, soft) and hard.abs().max() > 0.01
    assert torch.equal(argmax_mask(logits), logits.argmax(dim=1).float())


def test_soft_mask_is_equation_1_and_sharpens() -> None:
    logits, noise = torch.tensor([[0.3, 1.1]]), torch.tensor([[0.2, -0.4]])
    a, b = math.exp(0.5 / 0.5), math.exp(0.7 / 0.5)
    assert soft_mask(logits, noise, 0.5).item() == pytest.approx(b / (a + b), abs=1e-6)
    assert soft_mask(logits, noise, 0.01).item() > 0.999


def test_gumbel_noise_samples_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0]]).expand(40000, 2)
    noise = gumbel_noise((40000, 2), torch.Generator().manual_seed(0))
    assert torch.isfinite(noise).all()
    share = straight_through_mask(logits, noise, 1.0).mean().item()
    assert share == pytest.approx(1 / (1 + math.exp(-1)), abs=0.01)


@pytest.mark.parametrize(("channels", "groups"), [(32, 8), (12, 8), (8, 1)])
def test_norm_equals_group_norm_without_padding(channels: int, groups: int) -> None:
    norm = CloudNorm(channels, groups)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = draw(70, channels) * 2 + 0.5
    padded = torch.cat([x, torch.full((30, channels), 7.0)])
    share = torch.cat([torch.full((1, 70), 1 / 70), torch.zeros(1, 30)], dim=1)
    ours = norm(padded, share)[:70]
    torchs = torch.nn.functional.group_norm(x.T[None], math.gcd(channels, groups), norm.weight, norm.bias)[
        0
    ].T
    assert (ours - torchs).abs().max() < 1e-5  # values up to about 8: 1e-6 of them
    assert torch.isfinite(norm(padded, torch.zeros(1, 100))).all()


def test_kernel_points_are_spread_and_repeatable() -> None:
    points = kernel_points(15, shell=1.65)
    assert np.array_equal(points, kernel_points(15, shell=1.65))
    assert (points[0] == 0).all()
    assert np.linalg.norm(points[1:], axis=1).mean() == pytest.approx(1.65, abs=1e-5)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2) + 9 * np.eye(15)
    assert gaps.min(axis=1).min() > 0.8 * gaps.min(axis=1).max(), (
        "no two points may be much closer than the others"
    )


def test_kpconv_equals_a_loop_over_neighbours() -> None:
    profile, pair = tiny(), make_pair(0)
    tables = model_tables(pair.model[:300], None, profile)
    level = tables.levels[0]
    geometry = KernelGeometry(15, 2.5, 0.66, 2.0, profile.model.voxels)
    near = geometry(tables)[0].near
    conv, features = KPConv(15, 4, 6), draw(level.points.shape[0], 4)
    torch.nn.init.normal_(conv.bias)
    ours, pooled, counted = conv(features, near), max_pool(features, near), positive_count(features, near)
    weight = conv.weight.reshape(15, 4, 6)
    for row in (0, 7, 50):
        total, biggest, positive = torch.zeros(6), torch.full((4,), -9.0), 0
        entries = [int(i) for i in level.neighbours[row] if i < level.points.shape[0]]
        for i in entries:
            offset = (level.points[i] - level.points[row]) / 0.08
            for k in range(15):
                reach = max(0.0, 1.0 - (offset - geometry.points[k]).norm().item() / 2.0)
                total += reach * (features[i] @ weight[k])
            biggest = torch.maximum(biggest, features[i])
            positive += int(features[i].sum() > 0)
        assert (ours[row] - (total / len(entries) + conv.bias)).abs().max() < 1e-4
        assert torch.equal(pooled[row], biggest) and counted[row].item() == max(positive, 1)
    padding = level.mask[:, 0] == 0
    assert (pooled[padding] == 0).all() and torch.equal(
        ours[padding], conv.bias.expand(int(padding.sum()), 6)
    )


def test_embedding_is_rigid_invariant_and_blind_to_padding() -> None:
    points, mask = draw(20, 3) * 0.5, torch.ones(20)
    embed = GeometricEmbedding(16, 0.2, 15.0, 3)
    plain = embed(points, mask)
    turn = torch.linalg.qr(draw(3, 3, seed=3))[0]
    turn = turn * torch.linalg.det(turn)
    assert (embed(points @ turn.T + 3.0, mask) - plain).abs().max() < 2e-3
    padded = embed(torch.cat([points, torch.zeros(9, 3)]), torch.cat([mask, torch.zeros(9)]))
    assert (padded[:20, :20] - plain).abs().max() < 1e-6
    assert torch.isfinite(embed(torch.zeros(5, 3), torch.zeros(5))).all()


def test_embedding_angles_equal_atan2() -> None:
    points = draw(12, 3)
    distance, angles = pair_geometry(points, torch.ones(12), 3)
    for i in range(12):
        nearest = [int(j) for j in (points - points[i]).norm(dim=1).argsort()[1:4]]
        for j in range(12):
            assert distance[i, j].item() == pytest.approx((points[i] - points[j]).norm().item(), abs=1e-5)
            for k, n in enumerate(nearest):
                if i != j:
                    a, b = points[j] - points[i], points[n] - points[i]
                    true = math.atan2(torch.linalg.cross(a, b).norm().item(), (a @ b).item())
                    assert angles[k][i, j].item() == pytest.approx(true, abs=1e-3)


def test_embedding_lookup_is_near_the_exact_form() -> None:
    exact = GeometricEmbedding(32, 0.2, 15.0, 3)
    points, mask = draw(30, 3) * 0.5, torch.ones(30)
    for bins, tolerance in ((1024, 0.02), (8192, 0.0025)):
        table = GeometricEmbedding(32, 0.2, 15.0, 3, bins)
        table.load_state_dict(exact.state_dict())
        assert (table(points, mask) - exact(points, mask)).abs().max() < tolerance


def test_attention_forms_agree_and_a_fully_masked_row_is_finite() -> None:
    layer = Attention(16, 4, pair_channels=16)
    x, embedding = draw(10, 16), draw(10, 10, 16, seed=1)
    query = layer._split(layer.query(x))
    assert layer.position is not None
    slow = torch.einsum("hnc,nmhc->hnm", query, layer.position(embedding).reshape(10, 10, 4, 4))
    assert (layer.position_scores(query, embedding) - slow).abs().max() < 1e-5
    mask = torch.cat([torch.ones(6), torch.zeros(4)])
    alone = layer(x[:6], x[:6], torch.zeros(6), embedding[:6, :6])
    assert (layer(x, x, attention_mask(mask), embedding)[:6] - alone).abs().max() < 1e-5
    assert torch.isfinite(layer(x, x, attention_mask(torch.zeros(10)), embedding)).all()


def test_superpoint_scores_ignore_what_is_masked() -> None:
    x, y = draw(9, 8), draw(11, 8, seed=1)
    model_mask, scene_mask = torch.ones(9), torch.ones(11)
    model_mask[6:] = scene_mask[8:] = 0
    scores = superpoint_scores(x, y, model_mask, scene_mask)
    assert (scores[6:] == 0).all() and (scores[:, 8:] == 0).all()
    assert (scores[:6, :8] - superpoint_scores(x[:6], y[:8], torch.ones(6), torch.ones(8))).abs().max() < 1e-7
    pairs = best_pairs(scores, 99)
    assert int(pairs.valid.sum()) == 48
    assert torch.equal(scores[pairs.model, pairs.scene], pairs.score) and (pairs.score.diff() <= 0).all()


def test_scaled_sinkhorn_equals_the_log_domain() -> None:
    scores = draw(5, 12, 9) * 6
    rows, columns = torch.ones(5, 12), torch.ones(5, 9)
    rows[:, 8:] = columns[:, 7:] = 0
    rows[4] = columns[4] = 0
    plain, scaled = Sinkhorn(20), Sinkhorn(20, limit=30.0)
    slow, fast = plain(scores, rows, columns), scaled(scores, rows, columns)
    assert (slow[:4, :8, :7].exp() - fast[:4, :8, :7].exp()).abs().max() < 1e-5
    assert (slow[:4, [12], :7] - fast[:4, [12], :7]).abs().max() < 1e-3
    assert torch.isfinite(fast).all() and fast[4].exp().max() < 1e-3 + 1.0
    assert fast[:, 8:12].exp().max() == 0 and fast[:, :, 7:9].exp().max() == 0
    for form, scores_in in ((plain, scores.clone()), (scaled, scores.clone())):
        scores_in.requires_grad_(True)
        form(scores_in, rows, columns)[0, :3, :3].sum().backward()
        assert scores_in.grad is not None
        if form is plain:
            expected = scores_in.grad
        else:
            assert (scores_in.grad - expected).abs().max() < 1e-4


def test_sinkhorn_marginals_and_padding() -> None:
    scores = draw(5, 12, 9) * 3
    rows, columns = torch.ones(5, 12), torch.ones(5, 9)
    rows[:, 8:] = columns[:, 7:] = 0
    sinkhorn = Sinkhorn(100)
    plan = sinkhorn(scores, rows, columns).exp()
    assert (plan[:, :8].sum(dim=2) - 1).abs().max() < 1e-3
    assert (plan[:, :, :7].sum(dim=1) - 1).abs().max() < 1e-4
    assert (plan[:, 8:12].sum(), plan[:, :, 7:9].sum()) == (0, 0)
    alone = sinkhorn(scores[:, :8, :7], torch.ones(5, 8), torch.ones(5, 7)).exp()
    kept = plan[:, [*range(8), 12]][:, :, [*range(7), 9]]
    assert (kept - alone).abs().max() < 1e-5
    weak = scores / 3
    assert (Sinkhorn(20)(weak, rows, columns).exp() - sinkhorn(weak, rows, columns).exp()).abs().max() < 2e-4
    empty = sinkhorn(scores, torch.zeros(5, 12), torch.zeros(5, 9))
    assert torch.isfinite(empty).all() and empty[:, :12, :9].exp().max() == 0


def test_mutual_weights_keep_what_both_sides_prefer() -> None:
    plan = torch.rand(3, 10, 8, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.ones(3, 10), torch.ones(3, 8)
    rows[:, 9] = 0
    kept = mutual_weights(plan, rows, columns, top=2, confidence=0.05)
    for k in range(3):
        for i in range(10):
            for j in range(8):
                of_row = (plan[k, i] > plan[k, i, j]).sum() < 2
                of_column = (plan[k, :9, j] > plan[k, i, j]).sum() < 2
                wanted = plan[k, i, j] if i < 9 and of_row and of_column and plan[k, i, j] > 0.05 else 0.0
                assert kept[k, i, j] == wanted
