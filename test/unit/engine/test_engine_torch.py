"""The torch engine is the network's forward pass with NumPy around it; mask modes; what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")
pytest.importorskip("safetensors", reason="safetensors is absent: run 'make setup-train'")

from network_pairs import make_pair, tiny  # noqa: E402

from end2reg_ros import profile as profiles  # noqa: E402
from end2reg_ros.cloud.pyramid import PyramidSpec, build_pyramid  # noqa: E402
from end2reg_ros.cloud.view_grid import CHANNELS, COLUMNS, ROWS  # noqa: E402
from end2reg_ros.engine.torch_engine import TorchEngine  # noqa: E402
from end2reg_ros.engine.torch_weights import Weights, load_weights, save_weights  # noqa: E402
from end2reg_ros.engine.types import MaskChoice, ScenePyramids  # noqa: E402
from end2reg_ros.errors import EngineError, WeightsError  # noqa: E402
from end2reg_ros.network.model import End2Reg, parameter_count  # noqa: E402
from end2reg_ros.network.region_net import OUTPUTS, RegionNet  # noqa: E402
from end2reg_ros.network.tables import cloud_tables, scene_tables_of  # noqa: E402
from end2reg_ros.profile import Profile, profile_hash  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]

PAIR = make_pair(3)
# One pyramid for both networks, and a finer one for the segmentation alone.
ONE = tiny()
TWO = tiny(segmentation=PyramidSpec((0.06, 0.12, 0.24), 2.5, (1400, 500, 160), (24, 24, 24)))


def engine(profile: Profile, monkeypatch: pytest.MonkeyPatch, region: bool = False) -> TorchEngine:
    """An engine with random weights."""
    monkeypatch.setitem(profiles._PROFILES, "tiny", lambda: profile)
    torch.manual_seed(1)
    network = End2Reg(profile)
    finder = RegionNet().state_dict() if region else {}
    weights = Weights(
        "tiny", profile_hash(profile), network.state_dict(), dict(finder), "ab" * 8, {"seed": 1}
    )
    return TorchEngine(weights)


def scene_of(profile: Profile) -> ScenePyramids:
    own = profile.segmentation
    return ScenePyramids(
        build_pyramid(PAIR.scene, PAIR.scene_attributes, profile.scene),
        None if own is None else build_pyramid(PAIR.scene, PAIR.scene_attributes, own),
    )


def ready(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> tuple[TorchEngine, ScenePyramids]:
    made = engine(profile, monkeypatch)
    made.set_model(build_pyramid(PAIR.model, PAIR.model_attributes, profile.model))
    return made, scene_of(profile)


@pytest.mark.parametrize("profile", [ONE, TWO], ids=["one pyramid", "two pyramids"])
def test_a_run_is_the_networks_forward_pass(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    made, scene = ready(profile, monkeypatch)
    model = build_pyramid(PAIR.model, PAIR.model_attributes, profile.model)
    tables = scene_tables_of(scene.registration, scene.segmentation)
    with torch.no_grad():
        expected = made.network(cloud_tables(model), tables)
    found = made.run(scene)
    pose, count = expected.matching.pose, scene.registration.levels[0].count
    assert np.allclose(found.rotation, pose.rotation.numpy(), atol=1e-5)
    assert np.allclose(found.translation, pose.translation.numpy(), atol=1e-5)
    assert (found.inliers, found.total) == (int(pose.inliers), int(pose.total)) and found.total > 20
    assert np.array_equal(found.support, pose.support.numpy())
    assert np.array_equal(found.mask, expected.segmentation.mask.numpy()[:count])
    assert found.mask.shape == found.logits.shape == (count,)
    assert found.rotation.dtype == found.translation.dtype == np.float64
    again = made.run(scene)
    assert np.array_equal(again.rotation, found.rotation) and np.array_equal(again.logits, found.logits)


@pytest.mark.parametrize("profile", [ONE, TWO], ids=["one pyramid", "two pyramids"])
def test_the_logits_are_those_of_the_masks_cells(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    made, scene = ready(profile, monkeypatch)
    with torch.no_grad():
        made.network.segmentation.logits.bias.zero_()
    found = made.run(scene)
    middle = float(np.median(found.logits))
    with torch.no_grad():
        made.network.segmentation.logits.bias[1] -= middle
    found = made.run(scene)
    assert 0.2 < found.mask.mean() < 0.8
    assert np.array_equal(found.mask > 0.5, found.logits > 0)


def test_masks_for_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    made, scene = ready(ONE, monkeypatch)
    count = scene.registration.levels[0].count
    with torch.no_grad():
        made.network.segmentation.logits.bias[1] -= float(np.median(made.run(scene).logits))
    learned = made.run(scene)
    ones = made.run(scene, MaskChoice("all_ones"))
    assert ones.mask.shape == (count,) and ones.mask.all()
    assert np.array_equal(ones.logits, learned.logits)
    given = (np.arange(count) % 3 == 0).astype(np.float32)
    assert np.array_equal(made.run(scene, MaskChoice("given", given)).mask, given)
    same = made.run(scene, MaskChoice("given", learned.mask))
    assert np.array_equal(same.rotation, learned.rotation) and same.inliers == learned.inliers
    nothing = made.run(scene, MaskChoice("given"))
    assert not nothing.mask.any() and (nothing.inliers, nothing.total) == (0, 0)
    drawn = [made.run(scene, MaskChoice("random", seed=seed)).mask for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert set(np.unique(drawn[0])) == {0.0, 1.0}
    assert abs(drawn[0].mean() - learned.mask.mean()) < 0.1


def test_a_model_side_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(ONE, monkeypatch)
    with pytest.raises(EngineError) as caught:
        made.run(scene_of(ONE))
    assert str(caught.value) == "the engine has no model side yet: set_model comes first"
    made.set_model(build_pyramid(PAIR.model, PAIR.model_attributes, ONE.model))
    made.run(scene_of(ONE))
    made.close()
    with pytest.raises(EngineError, match="set_model comes first"):
        made.run(scene_of(ONE))


def test_the_region_finder(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.random.default_rng(0).normal(size=(CHANNELS, ROWS, COLUMNS)).astype(np.float32)
    with pytest.raises(EngineError) as caught:
        engine(ONE, monkeypatch).region_map(grid)
    assert str(caught.value) == "these weights hold no region finder: a start is needed"
    made = engine(ONE, monkeypatch, region=True)
    found = made.region_map(grid)
    assert found.shape == (OUTPUTS, ROWS // 2, COLUMNS // 2) and found.dtype == np.float32
    assert np.isfinite(found).all() and found.std() > 0
    assert np.array_equal(made.region_map(grid), found)  # its norms stay as they were trained


def test_weights_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(ONE, monkeypatch)
    path = tmp_path / "w.safetensors"
    digest = save_weights(path, ONE, made.network.state_dict(), {}, {"iterations": 5})
    loaded = TorchEngine(path, "tiny")
    assert (loaded.info.name, loaded.info.device, loaded.info.profile) == ("torch", "cpu", "tiny")
    assert (loaded.info.weights_hash, loaded.info.record) == (digest, {"iterations": 5})
    assert loaded.info.parameters == parameter_count(made.network) > 10_000
    assert loaded.region is None and not loaded.network.training
    with pytest.raises(WeightsError, match="profile 'realtime' was asked for"):
        TorchEngine(path, "realtime")
    with pytest.raises(WeightsError, match="weights do not fit the region finder: "):
        TorchEngine(replace(load_weights(path), region={"head.bias": torch.zeros(7)}))


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(ONE, monkeypatch)
    weights = Weights("tiny", profile_hash(ONE), made.network.state_dict(), {}, "ab" * 8)
    with pytest.raises(EngineError) as caught:
        TorchEngine(weights, device="abacus")
    assert str(caught.value).startswith("torch cannot use the device 'abacus': ")
    assert "\n" not in str(caught.value)
