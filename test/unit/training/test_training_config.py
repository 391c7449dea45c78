"""Training configs: what is taken, and one line for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from end2reg_ros.errors import TrainingError
from end2reg_ros.training.config import Augmentation, read_config

ROOT = Path(__file__).resolve().parents[3]


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_values_defaults_and_numbers_that_yaml_takes_for_text(tmp_path: Path) -> None:
    text = "shards: [a, b]\nweights: [1, 2.5]\nlearning_rate: 6e-4\nclip: 2\naugmentation: {colour: 1e-1}\n"
    config = read_config(written(tmp_path, text))
    assert config.shards == ("a", "b") and config.weights == (1.0, 2.5)
    assert (config.learning_rate, config.clip) == (6e-4, 2.0)
    assert config.augmentation == Augmentation(colour=0.1)
    assert (config.profile, config.strategy, config.validation) == ("realtime", "end_to_end", ())


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config" / "training").glob("realtime*.yaml")), ids=lambda p: p.name
)
def test_the_configs_that_come_along_can_be_read(path: Path) -> None:
    assert read_config(path).profile == "realtime"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("shards: [a]\niterations: 12.5\n", "'iterations' must be a whole number, not 12.5"),
        ("shards: [a]\niterations: true\n", "'iterations' must be a whole number, not True"),
        ("shards: [a]\nlearning_rate: fast\n", "'learning_rate' must be a number, not 'fast'"),
        ("shards: [a]\nlearning_rate: yes\n", "'learning_rate' must be a number, not True"),
        ("shards: [a]\nprofile: 3\n", "'profile' must be text, not 3"),
        ("shards: a\n", "'shards' must be a list"),
        ("shards: [1]\n", "'shards' must be text, not 1"),
        ("shards: []\n", "'shards' names no folder"),
        ("iterations: 3\n", "'shards' is missing"),
        ("shards: [a]\nvalidation:\n", "'validation' must be a list"),
        ("shards: [a]\naugmentation: strong\n", "'augmentation' must be a list of 'name: value' lines"),
        ("shards: [a]\niterations: 0\n", "'iterations' must be above 0, not 0"),
        ("shards: [a]\nlearning_rate: nan\n", "'learning_rate' must be above 0, not nan"),
        ("shards: [a]\nweights: [1, 2]\n", "2 weights for 1 shards"),
        ("shards: [a, b]\nweights: [1, -1]\n", "'weights' must be 0 or more, and not all of them 0"),
        ("shards: [a, b]\nweights: [0, 0]\n", "'weights' must be 0 or more, and not all of them 0"),
        ("shards: [a]\nstrategy: two_step\n", "two_step needs 'segmentation_iterations'"),
        (
            "shards: [a]\nstrategy: best\n",
            "'strategy' must be one of end_to_end, two_step, all_ones, true_mask",
        ),
        ("- a\n- b\n", "a training config is a list of 'name: value' lines"),
        ("", "a training config is a list of 'name: value' lines"),
    ],
)
def test_faults_are_told_in_one_line(tmp_path: Path, text: str, fault: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TrainingError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path}: {fault}"


def test_unknown_settings_name_the_known_ones(tmp_path: Path) -> None:
    path = written(tmp_path, "shards: [a]\nlearning_rat: 1\n")
    with pytest.raises(TrainingError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: unknown setting 'learning_rat'; known: shards, weights, ")
    path = written(tmp_path, "shards: [a]\naugmentation: {rotation: 5}\n")
    with pytest.raises(TrainingError) as caught:
        read_config(path)
    known = "rotation_deg, offset_m, second_pass_share, "
    assert str(caught.value).startswith(f"{path}: augmentation: unknown setting 'rotation'; known: {known}")


@pytest.mark.parametrize("content", [b"shards: [a", b"\xff\xfe\x00", None], ids=["yaml", "bytes", "absent"])
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"cannot read the training config {path}: ")
    assert "\n" not in str(caught.value)
