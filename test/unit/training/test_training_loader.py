"""Pairs in a fixed order, wherever a run begins; padding that the network does not see; faults of shards."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from network_pairs import make_pair, tiny  # noqa: E402
from training_shards import make_shards, no_spine, scene  # noqa: E402

from end2reg_ros.cloud.pyramid import Pyramid, PyramidSpec, build_pyramid  # noqa: E402
from end2reg_ros.errors import TrainingError  # noqa: E402
from end2reg_ros.network.losses import LossSettings, registration_loss  # noqa: E402
from end2reg_ros.network.model import End2Reg  # noqa: E402
from end2reg_ros.network.outputs import Sampling  # noqa: E402
from end2reg_ros.network.tables import cloud_tables, scene_tables_of  # noqa: E402
from end2reg_ros.network.targets import TruePose  # noqa: E402
from end2reg_ros.profile import Profile  # noqa: E402
from end2reg_ros.training.config import Augmentation  # noqa: E402
from end2reg_ros.training.data.loader import (  # noqa: E402
    PairDataset,
    PairTensors,
    ShardIndex,
    anatomy_of,
    fixed_pairs,
    pairs_from,
    to_device,
)
from end2reg_ros.training.data.pairs import trimmed  # noqa: E402
from end2reg_ros.training.data.samples import save_sample  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("loader") / "shards", shapes=(3, 4), views=2)


def dataset(shards: Path, count: int = 6, seed: int = 0) -> PairDataset:
    return PairDataset(ShardIndex([str(shards)]), tiny(), Augmentation(), seed, count)


def flat(pair: object) -> list[torch.Tensor]:
    if isinstance(pair, torch.Tensor):
        return [pair]
    return [t for item in pair for t in flat(item)] if isinstance(pair, tuple) else []


def same(one: PairTensors, other: PairTensors) -> bool:
    a, b = flat(one), flat(other)
    return len(a) == len(b) > 20 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_item_i_is_the_same_wherever_the_run_began(shards: Path) -> None:
    whole = list(pairs_from(dataset(shards), 0, workers=0))
    rest = list(pairs_from(dataset(shards), 4, workers=0))
    assert (len(whole), len(rest)) == (6, 2)
    assert same(whole[4], rest[0]) and same(whole[5], rest[1])
    assert not same(whole[3], whole[4])
    assert not same(whole[4], dataset(shards, seed=1)[4])


def test_a_worker_process_makes_the_same_pairs(shards: Path) -> None:
    own = list(pairs_from(dataset(shards, 3), 1, workers=0))
    others = list(pairs_from(dataset(shards, 3), 1, workers=1))
    assert len(own) == 2 and all(same(a, b) for a, b in zip(own, others, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_scene_is_told_in_one_line(tmp_path: Path, workers: int) -> None:
    folder = make_shards(tmp_path / "shards", views=1, spineless=0)
    path = folder / "scene" / "000000.npz"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TrainingError) as caught:
        next(pairs_from(dataset(folder), 0, workers))
    assert str(caught.value).startswith(f"{path}: not a training scene, or cut short (")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_shards_without_anything_to_learn(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        with pytest.raises(TrainingError) as caught:
            ShardIndex([str(folder)])
        assert str(caught.value) == (
            f"{folder}: no training scenes (folder 'scene' with .npz files) in it; "
            "end2reg_ros.training.data.shards makes some"
        )
    folder = make_shards(tmp_path / "empty", views=0, spineless=2)
    with pytest.raises(TrainingError) as caught:
        dataset(folder)[0]
    assert str(caught.value) == f"no scene with enough bone in 20 tries in {folder}"
    assert fixed_pairs([str(folder)], tiny(), Augmentation(), 5) == []


def test_folders_are_drawn_by_their_weights(shards: Path, tmp_path: Path) -> None:
    other = make_shards(tmp_path / "other", views=1, spineless=0)
    folders = [str(shards), str(other)]
    rng = np.random.default_rng(0)
    assert np.allclose(ShardIndex(folders).share, [5 / 6, 1 / 6])
    index = ShardIndex(folders, [0.0, 2.0])
    assert {index.draw(rng)[1] for _ in range(10)} == {other}
    drawn = {ShardIndex(folders, [1.0, 1.0]).draw(rng)[1] for _ in range(30)}
    assert drawn == {shards, other}


def test_a_scene_without_a_spine_is_passed_over(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", views=1, spineless=3)
    assert len(ShardIndex([str(folder)]).scenes[0]) == 4
    for pair in islice(pairs_from(dataset(folder, 5), 0, workers=0), 5):
        assert float(pair.bone.sum()) > 10
    assert not no_spine(0).anatomy


def test_anatomies_are_read_once(shards: Path) -> None:
    first = anatomy_of(shards, "sheet_3", tiny())
    assert anatomy_of(shards, "sheet_3", tiny()) is first
    assert anatomy_of(shards, "sheet_4", tiny()) is not first
    assert anatomy_of(shards, "sheet_3", tiny(width=32)) is not first
    assert (
        100 <= anatomy_of.cache_parameters()["maxsize"] <= 1000
    )  # as many as the shards that come along have


def test_the_validation_is_the_first_scenes_and_never_changes(shards: Path) -> None:
    one, other = (fixed_pairs([str(shards)], tiny(), Augmentation(), count) for count in (3, 10))
    assert (len(one), len(other)) == (3, 4)
    assert all(same(a, b) for a, b in zip(one, other[:3], strict=True))


def test_moving_to_a_device_keeps_the_shape_of_a_pair(shards: Path) -> None:
    pair = next(pairs_from(dataset(shards), 0, workers=0))  # as the loop gets it
    moved = to_device(pair, "meta")
    assert isinstance(moved, PairTensors) and moved.scene.segmentation is None
    assert isinstance(moved.model.levels, tuple) and isinstance(moved.scene.registration.levels, tuple)
    assert all(t.device.type == "meta" for t in flat(moved)) and len(flat(moved)) == len(flat(pair))
    assert same(to_device(pair, "cpu"), pair)


def own_segmentation() -> Profile:
    spec = PyramidSpec((0.06, 0.12, 0.24), 2.5, (1400, 500, 160), (24, 24, 24))
    return tiny(segmentation=spec)


@pytest.mark.parametrize("profile", [tiny(), own_segmentation()], ids=["one pyramid", "two pyramids"])
def test_a_trimmed_pyramid_is_the_padded_one_to_the_network(profile: Profile) -> None:
    torch.manual_seed(0)
    network = End2Reg(profile).eval()
    pair = make_pair(3)
    pyramids: list[Pyramid | None] = [
        build_pyramid(pair.model, pair.model_attributes, profile.model),
        build_pyramid(pair.scene, pair.scene_attributes, profile.scene),
        None
        if profile.segmentation is None
        else build_pyramid(pair.scene, pair.scene_attributes, profile.segmentation),
    ]
    pose = TruePose(*(torch.tensor(a, dtype=torch.float32) for a in (pair.rotation, pair.translation)))
    noise = torch.randn(1400, 2, generator=torch.Generator().manual_seed(1))
    found = []
    for cut in (False, True):
        model, scene_, own = (p if p is None or not cut else trimmed(p) for p in pyramids)
        assert model is not None and scene_ is not None
        tables = (cloud_tables(model), scene_tables_of(scene_, own))
        rows = len((own or scene_).levels[0].points)
        with torch.no_grad():
            run = network(*tables)
            sampled = network.training_pass(*tables, Sampling(noise[:rows], 1.0))
            loss = registration_loss(
                network, sampled, pose, LossSettings(pairs=16), torch.Generator().manual_seed(0)
            )
        found.append((run, loss, scene_.levels[0].count))
    (padded, padded_loss, count), (cut_run, cut_loss, _) = found
    assert len(cut_run.segmentation.mask) == count < len(padded.segmentation.mask)
    assert torch.equal(cut_run.segmentation.mask, padded.segmentation.mask[:count])
    one, other = cut_run.matching.pose, padded.matching.pose
    assert torch.allclose(one.rotation, other.rotation, atol=1e-4)
    assert torch.allclose(one.translation, other.translation, atol=1e-4)
    assert float(one.total) > 20 and abs(float(one.total) - float(other.total)) <= 2
    assert float(cut_loss.fine) > 0.1 and int(cut_loss.positives) == int(padded_loss.positives) > 10
    for name in ("total", "coarse", "fine"):
        assert float(getattr(cut_loss, name)) == pytest.approx(float(getattr(padded_loss, name)), abs=1e-4)


def test_colourless_cameras_give_pairs(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", views=0, spineless=0, shapes=(3,))
    save_sample(folder / "scene" / "000000.npz", replace(scene(3, 0), colours=None, view_colours=None))
    pair = dataset(folder)[0]
    assert (
        not pair.scene.registration.attributes[:, :3].any()
        and pair.scene.registration.attributes[:, 3:].any()
    )
