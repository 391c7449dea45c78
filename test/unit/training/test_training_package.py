"""The weights file that is shipped: a run's averaged weights and the region finder, with the record of both."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from training_shards import config_of, know_tiny, make_shards  # noqa: E402

from end2reg_ros.engine.torch_weights import load_weights  # noqa: E402
from end2reg_ros.errors import TrainingError  # noqa: E402
from end2reg_ros.training import logs, package  # noqa: E402
from end2reg_ros.training.loop import Trainer  # noqa: E402
from end2reg_ros.training.package import Package  # noqa: E402
from end2reg_ros.training.region.train import RegionTrainer, RegionTraining  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.slow
def test_a_run_and_a_region_finder_become_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know_tiny(monkeypatch)
    monkeypatch.setattr(logs, "_board", lambda folder: None)
    shards = make_shards(tmp_path / "shards", views=1, spineless=0)
    trainer = Trainer(config_of(shards, tmp_path), tmp_path / "run", workers=0)
    trainer.save()
    finder = RegionTrainer(RegionTraining())
    finder.save(tmp_path / "region.pt")
    wanted = Package(tmp_path / "run", tmp_path / "out" / "w.safetensors", tmp_path / "region.pt", "a note")
    said = wanted.execute()
    weights = load_weights(wanted.out)
    assert said == f"{wanted.out}: {wanted.out.stat().st_size} bytes, hash {weights.hash}"
    for found, state in ((weights.network, trainer.averaged()), (weights.region, finder.averaged())):
        assert all(torch.equal(found[name], value) for name, value in state.state_dict().items())
    assert weights.record["region"] == {"format": "end2reg-region-1", "done": 0}
    assert (weights.record["ended"], weights.record["note"]) == (False, "a note")
    assert weights.record["config"]["shards"] == ["shards"]  # without the folders of this machine
    again = Package(wanted.out, tmp_path / "again.safetensors")
    again.execute()
    assert not load_weights(again.out).region
    monkeypatch.setattr(package, "LARGEST_BYTES", 1000)
    with pytest.raises(TrainingError, match="bytes, 1000 at most"):
        again.execute()
