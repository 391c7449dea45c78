"""One step of each strategy: what takes a gradient, what the mask is, what the figures say."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from network_pairs import tiny  # noqa: E402
from training_shards import make_shards  # noqa: E402

from end2reg_ros.network.local_to_global import PoseEstimate  # noqa: E402
from end2reg_ros.network.losses import LossSettings  # noqa: E402
from end2reg_ros.network.model import End2Reg  # noqa: E402
from end2reg_ros.network.pose import RigidFit  # noqa: E402
from end2reg_ros.training.config import Augmentation, Strategy  # noqa: E402
from end2reg_ros.training.data.loader import PairTensors, fixed_pairs  # noqa: E402
from end2reg_ros.training.steps import (  # noqa: E402
    StepResult,
    mask_figures,
    registration_step,
    segmentation_step,
    weak_labels,
)
from end2reg_ros.training.validation import landmark_error_mm, validate  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]

STILL = Augmentation(thinning_share=0.0, hole_share=0.0, rotation_deg=25.0)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[PairTensors]:
    folder = make_shards(tmp_path_factory.mktemp("steps") / "shards", views=2, spineless=0)
    return fixed_pairs([str(folder)], tiny(), STILL, 2)


def network() -> End2Reg:
    torch.manual_seed(0)
    return End2Reg(tiny())


def step(net: End2Reg, pair: PairTensors, strategy: Strategy, seed: int = 0) -> StepResult:
    net.zero_grad()
    generator = torch.Generator().manual_seed(seed)
    result = registration_step(net, pair, strategy, 1.0, LossSettings(pairs=16), generator)
    result.total.backward()
    return result


def reached(net: End2Reg) -> dict[str, float]:
    """Largest gradient of each part of the network; -1 where there is none at all."""
    parts: dict[str, float] = {}
    for name, parameter in net.named_parameters():
        size = -1.0 if parameter.grad is None else float(parameter.grad.abs().max())
        parts[name.split(".")[0]] = max(size, parts.get(name.split(".")[0], -1.0))
    return parts


def test_end_to_end_the_registration_loss_alone_moves_the_segmentation(pairs: list[PairTensors]) -> None:
    net = network()
    result = step(net, pairs[0], "end_to_end")
    assert result.loss == pytest.approx(result.coarse + result.fine, rel=1e-5)
    assert reached(net)["segmentation"] > 1e-6 and reached(net)["encoder"] > 1e-6
    before = net.segmentation.logits.weight.detach().clone()
    torch.optim.Adam(net.parameters(), lr=1e-3).step()
    assert float((net.segmentation.logits.weight - before).detach().abs().max()) > 1e-4


@pytest.mark.parametrize("strategy", ["two_step", "all_ones", "true_mask"])
def test_other_strategies_leave_the_segmentation_untouched(
    pairs: list[PairTensors], strategy: Strategy
) -> None:
    net = network()
    result = step(net, pairs[0], strategy)
    found = reached(net)
    assert found.pop("segmentation") == -1.0
    assert found["encoder"] > 1e-6 and found["transformer"] > 1e-6 and result.fine > 0
    if strategy == "all_ones":
        assert result.mask_share == 1.0 and 0.3 < result.mask_iou < 1.0
    elif strategy == "true_mask":
        assert result.mask_iou == 1.0 and 0.3 < result.mask_share < 1.0


def test_the_mask_is_drawn_from_the_generator(pairs: list[PairTensors]) -> None:
    one, same, other = (step(network(), pairs[0], "end_to_end", seed) for seed in (1, 1, 2))
    assert (one.loss, one.mask_share) == (same.loss, same.mask_share)
    assert one.mask_share != other.mask_share


def test_the_first_step_of_two_trains_the_segmentation_and_nothing_else(pairs: list[PairTensors]) -> None:
    net = network()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        net.zero_grad()
        result = segmentation_step(net, pairs[0])
        result.total.backward()
        losses.append(result.loss)
        optimiser.step()
    assert {name for name, size in reached(net).items() if size >= 0} == {"segmentation"}
    assert losses[-1] < 0.6 * losses[0]


def test_weak_labels_are_the_bone(pairs: list[PairTensors]) -> None:
    for pair in pairs:
        labels = weak_labels(pair, pair.scene.registration.levels[0].points)
        share, iou = mask_figures(labels.float(), pair)
        assert iou > 0.75 and 0.3 < share < 0.95


def test_mask_figures_by_hand(pairs: list[PairTensors]) -> None:
    pair = pairs[0]
    bone = (pair.bone > 0.5).float()
    count, bones = len(bone), int(bone.sum())
    assert mask_figures(bone, pair) == (pytest.approx(bones / count), 1.0)
    assert mask_figures(1.0 - bone, pair) == (pytest.approx(1.0 - bones / count), 0.0)
    assert mask_figures(torch.zeros(count), pair) == (0.0, 0.0)
    half = bone * (torch.cumsum(bone, 0) <= bones // 2)
    assert mask_figures(half, pair)[1] == pytest.approx((bones // 2) / bones)


def test_landmark_errors_by_hand(pairs: list[PairTensors]) -> None:
    pair, zero = pairs[0], torch.zeros(())
    none = RigidFit(torch.zeros(0, 3, 3), torch.zeros(0, 3), torch.zeros(0))
    true = PoseEstimate(pair.pose.rotation, pair.pose.translation, zero, zero, zero, none)
    assert landmark_error_mm(true, pair) == pytest.approx(0.0, abs=1e-4)
    moved = true._replace(translation=true.translation + torch.tensor([0.0, 0.1, 0.0]))
    assert landmark_error_mm(moved, pair) == pytest.approx(9.5, abs=1e-3)


@pytest.mark.parametrize("strategy", ["end_to_end", "all_ones", "true_mask"])
def test_a_validation_tells_the_error_and_the_mask(pairs: list[PairTensors], strategy: Strategy) -> None:
    found = validate(network().eval(), pairs, strategy)
    assert found.scenes == 2 and found.tre_q1_mm <= found.tre_median_mm <= found.tre_q3_mm
    assert found.outlier_share in (0.0, 0.5, 1.0)
    if strategy == "all_ones":
        assert found.mask_share == 1.0
    if strategy == "true_mask":
        assert found.mask_iou == 1.0
    assert found.as_row()["tre_median_mm"] == found.tre_median_mm and len(found.as_row()) == 7
