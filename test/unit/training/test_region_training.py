"""The region network learns two views by heart; samples, losses, splits, checkpoints and their faults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from end2reg_ros.cloud.view_grid import CHANNELS, COLUMNS, ROWS, view_grid  # noqa: E402
from end2reg_ros.errors import TrainingError  # noqa: E402
from end2reg_ros.network.region_net import OUTPUTS, RegionNet, RegionNetSettings, predict_regions  # noqa: E402
from end2reg_ros.registration.find.region_candidates import CandidateSettings, find_candidates  # noqa: E402
from end2reg_ros.se3 import from_rotation_translation, rotation_angle  # noqa: E402
from end2reg_ros.training.data.samples import LabelledView, load_view, save_arrays, scene_files, scene_path  # noqa: E402
from end2reg_ros.training.region.data import (  # noqa: E402
    RegionAugmentation,
    batches,
    make_sample,
    stack,
)
from end2reg_ros.training.region.loss import region_loss  # noqa: E402
from end2reg_ros.training.region.split import split_by_anatomy  # noqa: E402
from end2reg_ros.training.region.train import (  # noqa: E402
    RegionTrainer,
    RegionTraining,
    load_region_net,
    train,
    validate,
)

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]

SMALL = RegionNetSettings(fine=8, middle=12, coarse=16)
QUICK = RegionTraining(steps=70, batch=2, warm_up=5, learning_rate=1e-2, average=0.9, net=SMALL)
STILL = RegionAugmentation(
    turn=False, mirror=0.0, shift_m=0.0, away_share=0.0, colour=0.0, colourless_share=0.0, grey_share=0.0,
    scale=0.0, dropout=0.0, noise_m=0.0, tilt_deg=0.0,
)  # fmt: skip


def make_view(roll_deg: float, seed: int, anatomy: str = "procedural_1") -> LabelledView:
    """A ridge of bone with a bump at its superior end, on skin, seen by a camera turned by ``roll_deg``."""
    rng = np.random.default_rng(seed)
    z, x = np.mgrid[-0.25:0.25:0.005, -0.25:0.25:0.005]
    bone = (np.abs(x) < 0.03) & (np.abs(z) < 0.09)
    y = -0.02 * bone - 0.03 * (bone & (z > 0.05)) + rng.normal(0, 0.0005, x.shape)
    a = np.radians(roll_deg)
    R = np.array([[np.cos(a), 0, np.sin(a)], [np.sin(a), 0, -np.cos(a)], [0, 1, 0]])
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3) @ R.T + [0.03, 0.0, 0.5]
    colours = np.where(bone.reshape(-1, 1), 200, 120).repeat(3, axis=1).astype(np.uint8)
    T = from_rotation_translation(R, np.array([0.03, 0.0, 0.5]))
    return LabelledView(points.astype(np.float32), colours, bone.ravel(), T, anatomy, "easy")


def write_shards(folder: Path, views: list[LabelledView]) -> Path:
    for k, view in enumerate(views):
        save_arrays(
            scene_path(folder, k),
            {
                "T_camera_model": np.eye(4) if view.T_camera_model is None else view.T_camera_model,
                "anatomy": np.array(view.anatomy),
                "suite": np.array(view.suite),
                "view_points": view.points,
                "view_colours": view.colours if view.colours is not None else np.zeros((0, 3), np.uint8),
                "view_bone": view.bone.astype(np.uint8),
            },
        )
    return folder


@pytest.mark.slow
def test_two_views_are_learned_by_heart() -> None:
    views = [make_view(20.0, 0), make_view(-130.0, 1)]
    batch = stack([make_sample(v, None, np.random.default_rng(0)) for v in views])
    steps = 2 * QUICK.steps  # half of them are enough on most processors
    trainer = RegionTrainer(replace(QUICK, steps=steps))
    losses = [float(trainer.step(batch).total(1.0).detach()) for _ in range(steps)]
    assert losses[-1] < 0.25 * losses[0]
    network = trainer.averaged()
    for view in views:
        grid = view_grid(view.points, view.colours)
        # Which end is superior takes longer to learn than a test may take: the opposite counts too.
        found = find_candidates(
            predict_regions(network, grid.channels), grid, CandidateSettings(flip_min=0.0)
        )
        assert view.T_camera_model is not None
        assert np.linalg.norm(found[0].centre - view.points[view.bone].mean(axis=0)) < 0.03
        turned = [c.T_camera_local[:3, :3].T @ view.T_camera_model[:3, :3] for c in found[:2]]
        assert min(np.degrees(rotation_angle(R)) for R in turned) < 20.0


def test_shapes_and_size_of_the_real_network() -> None:
    network = RegionNet().eval()
    assert sum(p.numel() for p in network.parameters()) <= 300_000
    with torch.no_grad():
        assert network(torch.zeros(2, CHANNELS, ROWS, COLUMNS)).shape == (2, OUTPUTS, ROWS // 2, COLUMNS // 2)


@pytest.mark.parametrize("count", [0, 50])
def test_empty_and_tiny_views_give_finite_maps(count: int) -> None:
    points = make_view(0.0, 0).points[:count]
    grid = view_grid(points)
    output = predict_regions(RegionNet(SMALL).eval(), grid.channels)
    assert np.isfinite(output).all()
    assert find_candidates(output, grid) == []


def test_loss_against_a_slow_reference() -> None:
    whole, nothing = make_view(35.0, 0), make_view(0.0, 1)
    part = LabelledView(
        whole.points, None, whole.bone & (whole.points[:, 1] < 0.0), whole.T_camera_model, "a", ""
    )
    empty = LabelledView(nothing.points, None, np.zeros(len(nothing.points), bool), None, "", "empty")
    samples = [make_sample(v, None, np.random.default_rng(0)) for v in (whole, part, empty)]
    torch.manual_seed(0)
    output = torch.randn(3, OUTPUTS, *samples[0].bone.shape)
    loss = region_loss(output, stack(samples), bone_weight=3.0)
    entropy = weights = overlap = said = total = line = superior = anterior = 0.0
    for maps, sample in zip(output.numpy().astype(float), samples, strict=True):
        for row, column in np.ndindex(*sample.bone.shape):
            bone, known = float(sample.bone[row, column]), float(sample.known[row, column])
            o, (x, y, ax, ay) = maps[:, row, column], sample.directions[:, row, column].astype(float)
            p = 1 / (1 + np.exp(-o[0]))
            weight = known * (1 + 2 * bone)
            entropy -= weight * (bone * np.log(p) + (1 - bone) * np.log(1 - p))
            weights += weight
            overlap += known * p * bone
            said += known * p
            total += bone
            line += bone * ((o[1] - (x * x - y * y)) ** 2 + (o[2] - 2 * x * y) ** 2)
            superior += bone * ((o[3] - x) ** 2 + (o[4] - y) ** 2)
            superior += 0.5 * bone * (1 - (o[3] * x + o[4] * y) / np.hypot(o[3], o[4]))
            anterior += bone * ((o[5] - ax) ** 2 + (o[6] - ay) ** 2)
    assert float(loss.bone) == pytest.approx(20 * entropy / weights, rel=1e-4)
    assert float(loss.dice) == pytest.approx(1 - (2 * overlap + 1) / (said + total + 1), rel=1e-4)
    assert float(loss.line) == pytest.approx(line / total, rel=1e-4)
    assert float(loss.superior) == pytest.approx(superior / total, rel=1e-3)
    assert float(loss.anterior) == pytest.approx(4 * anterior / total, rel=1e-4)


def test_directions_turn_with_the_points() -> None:
    """The target's line lies along the bone's long side in the picture, however the view was turned."""
    view = make_view(0.0, 0)
    turning = RegionAugmentation(away_share=0.0, tilt_deg=0.0)
    for seed in range(6):
        sample = make_sample(view, turning, np.random.default_rng(seed))
        cells = np.argwhere(sample.bone > 0.5)[:, ::-1].astype(float)
        cells -= cells.mean(axis=0)
        along = np.linalg.svd(cells)[2][0]
        assert abs(along @ sample.directions[:2, 0, 0]) > np.cos(np.radians(6.0))
        assert np.linalg.norm(sample.directions[:2, 0, 0]) == pytest.approx(1.0, abs=1e-5)
        # The bump (nearer to the camera) is at the superior end.
        depth = np.argwhere(sample.picture[2].reshape(ROWS // 2, 2, COLUMNS // 2, 2).mean(axis=(1, 3)) < -1.0)
        middle = np.argwhere(sample.bone > 0.5).mean(axis=0)
        assert (depth.mean(axis=0) - middle)[::-1] @ sample.directions[:2, 0, 0] > 0


def test_still_augmentation_changes_nothing_and_away_hides_the_bone() -> None:
    view = make_view(50.0, 0)
    plain = make_sample(view, None, np.random.default_rng(0))
    still = make_sample(view, STILL, np.random.default_rng(1))
    assert np.abs(still.picture - plain.picture).max() < 1e-4
    assert (still.bone == plain.bone).all()
    away = make_sample(view, RegionAugmentation(away_share=1.0, shift_m=0.0), np.random.default_rng(2))
    assert not away.bone.any()
    assert away.known.any()


def test_a_view_without_spine_trains_bone_only() -> None:
    view = make_view(0.0, 0)
    empty = LabelledView(view.points, None, np.zeros(len(view.points), bool), None, "", "empty")
    batch = stack([make_sample(empty, RegionAugmentation(), np.random.default_rng(0))])
    loss = region_loss(torch.randn(1, OUTPUTS, ROWS // 2, COLUMNS // 2), batch, 3.0)
    assert float(loss.line) == float(loss.superior) == float(loss.anterior) == 0.0
    assert float(loss.bone) > 0.0


def test_batches_follow_from_their_number(tmp_path: Path) -> None:
    files = scene_files(write_shards(tmp_path / "s", [make_view(0.0, 0), make_view(90.0, 1)]))
    several = batches(files, 2, 1, RegionAugmentation(), seed=3)
    next(several)
    second = next(several)
    again = next(batches(files, 2, 1, RegionAugmentation(), seed=3, first=1))
    assert torch.equal(second.picture, again.picture)
    assert torch.equal(second.bone, again.bone)


def test_split_keeps_individuals_apart(tmp_path: Path) -> None:
    names = ["procedural_1000", "procedural_1001", "mixed", "procedural_1000", ""]
    shards = write_shards(tmp_path / "s", [make_view(0.0, k, name) for k, name in enumerate(names)])
    (shards / "anatomy").mkdir()
    np.savez(shards / "anatomy" / "mixed.npz", source="procedural_1000+procedural_1001")
    training, validation = split_by_anatomy(scene_files(shards))
    assert [p.stem for p in training] == ["000001", "000004"]
    assert [p.stem for p in validation] == ["000000", "000003"]


@pytest.mark.slow
def test_training_goes_on_where_it_was(tmp_path: Path) -> None:
    views = [make_view(40.0 * k, k, f"procedural_{1 + k % 2 * 7}") for k in range(4)]
    shards = [write_shards(tmp_path / "s", views)]
    settings = RegionTraining(steps=4, batch=2, mosaics=1, net=SMALL, validate_every=4)
    whole = train(shards, tmp_path / "a.pt", settings, minutes=1.0)
    first = train(shards, tmp_path / "b.pt", settings, minutes=0.0)
    assert first.done == 0
    trainer = RegionTrainer(settings)
    training, validation = split_by_anatomy(scene_files(*shards))
    source = batches(training, settings.batch, settings.mosaics, settings.augmentation, settings.seed)
    for _ in range(2):
        trainer.step(next(source))
    trainer.save(tmp_path / "b.pt")
    resumed = train(shards, tmp_path / "b.pt", settings, minutes=1.0)
    assert whole.done == resumed.done == 4
    for name, value in whole.averaged().state_dict().items():
        assert torch.equal(value, resumed.averaged().state_dict()[name]), name
    loaded, record = load_region_net(tmp_path / "b.pt")
    assert record == {"format": "end2reg-region-1", "done": 4}
    figures = validate(loaded, validation)
    assert 0.0 <= figures["iou"] <= 1.0
    assert 0.0 <= figures["line_median_deg"] <= 90.0
    with pytest.raises(TrainingError, match=r"b\.pt was trained with other settings: choose another --out"):
        train(shards, tmp_path / "b.pt", RegionTraining(steps=5, batch=2, mosaics=1, net=SMALL), minutes=1.0)


def fault_of(function: object, *arguments: object) -> str:
    with pytest.raises(TrainingError) as caught:
        function(*arguments)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_faults_are_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "r.pt"
    assert fault_of(load_region_net, path).startswith(f"no region network at {path}: train one")
    RegionTrainer(QUICK).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert fault_of(load_region_net, path).startswith(
        f"checkpoint {path} cannot be read, it may be cut short"
    )
    torch.save({"weights": 1}, path)
    assert fault_of(load_region_net, path) == f"{path} is no region network of this program"
    assert fault_of(scene_files, tmp_path).startswith(f"{tmp_path}: no training scenes (folder 'scene' with")
    (shards := tmp_path / "s").mkdir()
    scene = scene_files(write_shards(shards / "x", [make_view(0.0, 0)]))[0]
    scene.write_bytes(scene.read_bytes()[:200])
    assert fault_of(load_view, scene).startswith(f"{scene}: not a training scene, or cut short")
    only = write_shards(tmp_path / "held", [make_view(0.0, 0, "procedural_1000")])
    text = "no scenes to train on: all their anatomies are held out"
    assert fault_of(train, [only], tmp_path / "n.pt", QUICK, 1.0) == text


def test_views_without_colours_load(tmp_path: Path) -> None:
    view = make_view(0.0, 0)
    shards = write_shards(
        tmp_path / "s", [LabelledView(view.points, None, view.bone, view.T_camera_model, "a", "")]
    )
    loaded = load_view(scene_files(shards)[0])
    assert loaded.colours is None
    colours: NDArray[np.float32] = make_sample(loaded, None, np.random.default_rng(0)).picture[3:7]
    assert not colours.any()
