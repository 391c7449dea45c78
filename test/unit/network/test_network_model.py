"""The whole network: padding, order, cache, gradients to the mask, empty clouds, determinism, static operators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from network_pairs import make_pair, tiny  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import end2reg_ros.network.model as model_module  # noqa: E402
from end2reg_ros.cloud.pyramid import PyramidSpec, build_pyramid  # noqa: E402
from end2reg_ros.network.gumbel import gumbel_noise  # noqa: E402
from end2reg_ros.network.losses import LossSettings, registration_loss  # noqa: E402
from end2reg_ros.network.model import End2Reg, parameter_count  # noqa: E402
from end2reg_ros.network.outputs import Sampling  # noqa: E402
from end2reg_ros.network.tables import CloudTables, SceneTables, model_tables, scene_tables  # noqa: E402
from end2reg_ros.network.targets import TruePose  # noqa: E402
from end2reg_ros.profile import Profile, paper, realtime  # noqa: E402

pytestmark = pytest.mark.torch

PAIR = make_pair(3)


def network(profile: Profile, seed: int = 0) -> End2Reg:
    """A network with weights from a seed, with a mask that is neither all 0 nor all 1."""
    torch.manual_seed(seed)
    return End2Reg(replace(profile, logit_bias=0.0))


def tables(profile: Profile, order: np.ndarray | None = None) -> tuple[CloudTables, SceneTables]:
    """Both sides of the pair; the points of each shuffled when ``order`` is a permutation of the scene's."""
    scene = np.arange(len(PAIR.scene)) if order is None else order
    model = (
        np.arange(len(PAIR.model)) if order is None else np.random.default_rng(1).permutation(len(PAIR.model))
    )
    return (
        model_tables(PAIR.model[model], PAIR.model_attributes[model], profile),
        scene_tables(PAIR.scene[scene], PAIR.scene_attributes[scene], profile),
    )


def small_paper() -> Profile:
    """``paper`` in all but size: two pyramids, fine level 1, exact embedding, counts of positive features."""
    registration = PyramidSpec(
        (0.08, 0.16, 0.32), 2.5, (1200, 400, 128), (24, 24, 24), fine_level=1, patch_points=16
    )
    return replace(
        paper(),
        model=registration,
        scene=registration,
        segmentation=PyramidSpec((0.1, 0.2, 0.4), 2.5, (800, 300, 100), (24, 24, 24)),
        width=16,
        fine_channels=16,
        segmentation_width=16,
        groups=8,
        transformer_channels=32,
        pairs=32,
        sinkhorn_iterations=10,
    )


@pytest.mark.slow
@pytest.mark.parametrize("profile", [tiny(), small_paper()], ids=["tiny", "paper"])
def test_padded_equals_unpadded(profile: Profile) -> None:
    loose = replace(
        profile,
        model=replace(profile.model, capacities=tuple(c + 333 for c in profile.model.capacities)),
        scene=replace(profile.scene, capacities=tuple(2 * c for c in profile.scene.capacities)),
    )
    counts = [
        tuple(level.count for level in build_pyramid(points, None, spec).levels)
        for points, spec in ((PAIR.model, loose.model), (PAIR.scene, loose.scene))
    ]
    tight = replace(
        profile,
        model=replace(profile.model, capacities=counts[0]),
        scene=replace(profile.scene, capacities=counts[1]),
    )
    net = network(profile).eval()
    with torch.no_grad():
        padded, exact = net(*tables(loose)), net(*tables(tight))
    assert exact.model.node_real.min() == 1 and padded.model.node_real.min() == 0
    assert torch.equal(padded.segmentation.mask[: counts[1][0]], exact.segmentation.mask)
    assert (padded.segmentation.mask[counts[1][0] :] == 0).all()
    for side, count in (("model", counts[0]), ("scene", counts[1])):
        a, b = getattr(padded, side), getattr(exact, side)
        fine = count[profile.scene.fine_level]
        assert (a.node_features[: count[-1]] - b.node_features).abs().max() < 1e-4
        assert (a.fine_features[:fine] - b.fine_features).abs().max() < 1e-3
        assert torch.equal(a.fine_mask[:fine], b.fine_mask)
    assert (
        padded.matching.model_features[: counts[0][-1]] - exact.matching.model_features
    ).abs().max() < 1e-4
    assert (padded.matching.pose.rotation - exact.matching.pose.rotation).abs().max() < 1e-3
    assert (padded.matching.pose.translation - exact.matching.pose.translation).abs().max() < 1e-3


def test_order_of_points_changes_nothing() -> None:
    profile = tiny()
    net, order = network(profile).eval(), np.random.default_rng(0).permutation(len(PAIR.scene))
    with torch.no_grad():
        one, other = net(*tables(profile)), net(*tables(profile, order))
    assert 0.05 < one.segmentation.mask.mean() < 0.95
    cells = [
        build_pyramid(points, None, profile.scene).cell_of_point for points in (PAIR.scene, PAIR.scene[order])
    ]
    masks = [output.segmentation.mask.numpy()[cell] for output, cell in zip((one, other), cells, strict=True)]
    np.testing.assert_array_equal(masks[0][order], masks[1])
    assert (one.matching.pose.rotation - other.matching.pose.rotation).abs().max() < 1e-4
    assert (one.matching.pose.translation - other.matching.pose.translation).abs().max() < 1e-4


def test_moving_the_scene_by_whole_cells_moves_the_pose() -> None:
    profile = tiny()
    net, shift = network(profile).eval(), np.array([0.64, -1.28, 3.2])
    model, scene = tables(profile)
    with torch.no_grad():
        plain = net(model, scene).matching.pose
        moved = net(model, scene_tables(PAIR.scene + shift, PAIR.scene_attributes, profile)).matching.pose
    assert (moved.rotation - plain.rotation).abs().max() < 1e-3
    np.testing.assert_allclose(moved.translation, plain.translation.numpy() + shift, atol=1e-3)


def test_cached_model_side_equals_a_fresh_one() -> None:
    profile = tiny()
    net, (model, scene) = network(profile).eval(), tables(profile)
    other = scene_tables(make_pair(4).scene, make_pair(4).scene_attributes, profile)
    with torch.no_grad():
        cached = net.encode_model(model)
        net.match(cached, net.encode_scene(other)[1])
        after, fresh = net.match(cached, net.encode_scene(scene)[1]), net(model, scene).matching
    assert torch.equal(after.assignment, fresh.assignment)
    assert torch.equal(after.pose.rotation, fresh.pose.rotation)
    assert torch.equal(after.pose.translation, fresh.pose.translation)


def gradients(net: End2Reg, profile: Profile) -> dict[str, float]:
    """Largest gradient of the registration loss by part of the network."""
    model, scene = tables(profile)
    count = scene.registration if scene.segmentation is None else scene.segmentation
    noise = gumbel_noise((count.attributes.shape[0], 2), torch.Generator().manual_seed(0))
    output = net.training_pass(model, scene, Sampling(noise, 1.0))
    pose = TruePose(*(torch.tensor(a, dtype=torch.float32) for a in (PAIR.rotation, PAIR.translation)))
    loss = registration_loss(net, output, pose, LossSettings(pairs=32), torch.Generator().manual_seed(0))
    assert loss.coarse > 0 and loss.fine > 0 and loss.positives > 10
    net.zero_grad()
    loss.total.backward()
    parts: dict[str, float] = {}
    for name, parameter in net.named_parameters():
        size = 0.0 if parameter.grad is None else parameter.grad.abs().max().item()
        assert np.isfinite(size), name
        parts[name.split(".")[0]] = max(size, parts.get(name.split(".")[0], 0.0))
    return parts


@pytest.mark.slow
@pytest.mark.parametrize("profile", [tiny(), small_paper()], ids=["tiny", "paper"])
def test_registration_loss_alone_reaches_the_segmentation(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(profile)
    reached = gradients(net, profile)
    assert min(reached.values()) > 1e-6, reached
    assert set(reached) == {"segmentation", "encoder", "decoder", "embedding", "transformer", "sinkhorn"}
    hard = model_module.straight_through_mask
    monkeypatch.setattr(model_module, "straight_through_mask", lambda *arguments: hard(*arguments).detach())
    cut = gradients(net, profile)
    assert cut["segmentation"] == 0.0 and cut["encoder"] > 1e-6


@pytest.mark.parametrize("count", [0, 1, 5, 50])
def test_tiny_and_empty_clouds_give_finite_output_and_loss(count: int) -> None:
    profile = tiny()
    net = network(profile)
    model, _ = tables(profile)
    scene = scene_tables(PAIR.scene[:count], PAIR.scene_attributes[:count], profile)
    for one, other in ((model, scene), (model_tables(PAIR.model[:count], None, profile), scene)):
        output = net.training_pass(one, other, Sampling(torch.zeros(profile.scene.capacities[0], 2), 1.0))
        pose = TruePose(torch.eye(3), torch.zeros(3))
        losses = LossSettings(pairs=8)
        loss = registration_loss(net, output, pose, losses, torch.Generator().manual_seed(0))
        net.zero_grad()
        loss.total.backward()
        with torch.no_grad():
            matching = net.match(output.model, output.scene)
        found = matching.pose
        assert torch.isfinite(loss.total) and torch.isfinite(found.rotation).all()
        assert torch.isfinite(found.translation).all() and torch.isfinite(matching.assignment).all()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())
        if count < 3:
            assert found.inliers == 0 and torch.equal(found.rotation, torch.eye(3))


def test_a_mask_of_zeros_finds_nothing() -> None:
    profile = tiny()
    net = network(profile).eval()
    with torch.no_grad():
        net.segmentation.logits.bias.copy_(torch.tensor([100.0, -100.0]))
        output = net(*tables(profile))
    assert output.segmentation.mask.sum() == 0
    assert output.matching.pose.inliers == 0 and output.matching.pose.total == 0


def test_weights_and_output_follow_from_the_seed() -> None:
    profile = tiny()
    one, other, third = network(profile, 7), network(profile, 7), network(profile, 8)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one.encoder.first.conv.weight, third.encoder.first.conv.weight)
    noise = [gumbel_noise((896, 2), torch.Generator().manual_seed(5)) for _ in range(2)]
    with torch.no_grad():
        outputs = [
            net.training_pass(*tables(profile), Sampling(n, 1.0))
            for net, n in zip((one, other), noise, strict=True)
        ]
        poses = [net.match(o.model, o.scene).pose for net, o in zip((one, other), outputs, strict=True)]
    assert torch.equal(outputs[0].segmentation.mask, outputs[1].segmentation.mask)
    assert torch.equal(poses[0].rotation, poses[1].rotation)


class Recorder(TorchDispatchMode):
    """Writes down every operator that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.largest_topk = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.name().split("::")[1]
        self.names.add(name.split(".")[0])
        if name.startswith("topk"):
            self.largest_topk = max(self.largest_topk, args[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("profile", [tiny(embedding_bins=256), small_paper()], ids=["tiny", "paper"])
def test_only_operators_a_static_graph_can_hold(profile: Profile) -> None:
    net = network(profile).eval()
    model, scene = tables(profile)
    with torch.no_grad(), Recorder() as recorder:
        net(model, scene)
    forbidden = {
        "nonzero", "unique", "_unique2", "unique_dim", "index", "index_put", "index_put_", "_index_put_impl_", "scatter",
        "scatter_", "scatter_add", "gather", "masked_select", "sort", "argsort", "linalg_svd", "_linalg_svd",
        "_linalg_det", "linalg_eigh", "_linalg_eigh", "atan2", "_local_scalar_dense", "item", "cdist",
        "_cdist_forward", "where_self",
    }  # fmt: skip
    assert recorder.names & forbidden == set()
    assert "index_select" in recorder.names and 0 < recorder.largest_topk <= 3840


def test_parameter_counts() -> None:
    assert parameter_count(End2Reg(realtime())) == 1_445_851
