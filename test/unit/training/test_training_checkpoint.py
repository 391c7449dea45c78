"""Checkpoints: refused where they do not fit or are broken, written whole or not at all, read without running code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from pickles import Trap  # noqa: E402
from training_shards import config_of, know_tiny, make_shards  # noqa: E402

from end2reg_ros.errors import TrainingError  # noqa: E402
from end2reg_ros.training import logs  # noqa: E402
from end2reg_ros.training.checkpoint import load_state  # noqa: E402
from end2reg_ros.training.loop import Trainer  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("checkpoint") / "shards", views=3, spineless=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    know_tiny(monkeypatch)
    monkeypatch.setattr(logs, "_board", lambda folder: None)


def test_a_resume_with_other_settings_is_refused(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Trainer(config_of(shards, tmp_path), folder, workers=0).save()
    path = folder / "checkpoint.pt"
    for name, value, shown in (("iterations", 7, 6), ("seed", 5, 0), ("learning_rate", 1e-3, 0.003)):
        with pytest.raises(TrainingError) as caught:
            Trainer(config_of(shards, tmp_path, **{name: value}), folder, workers=0).resume()
        assert str(caught.value) == f"{path} is of a run with {name}: {shown}, not {value}"
    with pytest.raises(TrainingError, match="is of a run with augmentation: "):
        Trainer(config_of(shards, tmp_path, augmentation={"colour": 0.5}), folder, workers=0).resume()
    changed = config_of(shards, tmp_path, validate_every=3, checkpoint_minutes=9.0, validation_scenes=1)
    Trainer(changed, folder, workers=0).resume()


def test_checkpoints_that_cannot_be_used(shards: Path, tmp_path: Path) -> None:
    trainer = Trainer(config_of(shards, tmp_path), tmp_path / "run", workers=0)
    path = trainer.checkpoint
    with pytest.raises(TrainingError) as caught:
        trainer.resume()
    assert str(caught.value) == f"no checkpoint {path} to resume from: start without --resume"
    trainer.save()
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(TrainingError) as caught:
            trainer.resume()
        text = str(caught.value)
        cut = text.startswith(f"checkpoint {path} cannot be read, it may be cut short: ")
        assert (cut or text.startswith(f"{path} is no training checkpoint: ")) and "\n" not in text
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(TrainingError) as caught:
        trainer.resume()
    assert str(caught.value) == f"{path} is no training checkpoint: TypeError"


def test_reading_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    path, made = tmp_path / "checkpoint.pt", tmp_path / "made"
    for write in (
        lambda: torch.save(Trap(made), path),
        lambda: path.write_bytes(pickle.dumps(Trap(made), protocol=2)),
    ):
        write()
        with pytest.raises(TrainingError, match="is no training checkpoint: UnpicklingError"):
            load_state(path)
        assert not made.exists()


def test_a_checkpoint_is_written_whole_or_not_at_all(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(config_of(shards, tmp_path), tmp_path / "run", workers=0)
    trainer.save()
    before = trainer.checkpoint.read_bytes()

    def fails(document: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="no space"):
        trainer.save()
    assert trainer.checkpoint.read_bytes() == before
