"""``end2reg train``: a run in pieces to weights that an engine takes; every refusal is one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from training_shards import config_file, know_tiny, make_shards

from end2reg_ros.cli.main import main


def test_without_torch_the_cure_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = dict(sys.modules)
    for name in [n for n in loaded if n.startswith(("end2reg_ros.network", "end2reg_ros.training"))]:
        parent, _, leaf = name.rpartition(".")
        monkeypatch.delattr(
            loaded[parent], leaf, raising=False
        )  # it is put back, too: not the one imported anew
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["train", "--config", str(tmp_path / "run.yaml")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("end2reg: error: ") and said.count("\n") == 1
    assert "`make setup-train` installs what is missing" in said


@pytest.fixture
def torch_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")
    pytest.importorskip("safetensors", reason="safetensors is absent: run 'make setup-train'")
    from end2reg_ros.training import logs

    monkeypatch.setattr(logs, "_board", lambda folder: None)
    know_tiny(monkeypatch)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("cli") / "shards", views=2, spineless=0)


def arguments(shards: Path, folder: Path, *more: str, **settings: object) -> list[str]:
    quick = {"shards": [str(shards)], "iterations": 2, "warm_up": 1, "fine_pairs": 16, **settings}
    config = config_file(folder, **quick)
    return ["train", "--config", str(config), "--out", str(folder / "run"), "--workers", "0", *more]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.usefixtures("torch_there")
def test_a_run_gives_weights_with_their_record(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from end2reg_ros.engine.torch_weights import build_network, load_weights

    settings = {"validation": [str(shards)], "validation_scenes": 1}
    assert main(arguments(shards, tmp_path, "--json", **settings)) == 0
    said = capsys.readouterr()
    outcome = json.loads(said.out)  # nothing else stands there
    assert "landmark error" in said.err
    assert (outcome["ended"], outcome["iteration"], outcome["skipped"]) == (True, 2, 0)
    weights = load_weights(Path(outcome["weights"]))
    assert weights.hash == outcome["hash"] and weights.profile == "tiny" and not weights.region
    assert weights.record["validation"] == outcome["validation"]
    assert weights.record["config"]["iterations"] == 2 and "out" not in weights.record
    assert not build_network(weights).training
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "checkpoint.pt", "log.csv", "curves.png", "weights.safetensors",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.usefixtures("torch_there")
def test_a_run_in_pieces(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = {"strategy": "two_step", "segmentation_iterations": 5}
    assert main(arguments(shards, tmp_path, "--minutes", "1e-9", **step)) == 0
    assert capsys.readouterr().out == "segmentation 0 of 5: go on with --resume\n"
    out = tmp_path / "run"
    assert not (out / "weights.safetensors").exists()
    assert main(arguments(shards, tmp_path, **step)) == 1
    text = f"{out} holds a run already: --resume goes on with it, or choose another --out"
    assert capsys.readouterr().err == f"end2reg: error: {text}\n"
    assert main(arguments(shards, tmp_path, "--resume", seed=4, **step)) == 1
    assert "is of a run with seed: 0, not 4" in capsys.readouterr().err
    assert main(arguments(shards, tmp_path, "--resume", **step)) == 0
    assert capsys.readouterr().out == f"{out / 'weights.safetensors'}: 2 iterations, 0 min\n"


@pytest.mark.torch
@pytest.mark.usefixtures("torch_there")
@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (("--minutes", "0"), "--minutes must be above 0, not 0"),
        (("--minutes", "nan"), "--minutes must be above 0, not nan"),
        (("--workers", "-1"), "--workers must be 0 or more, not -1"),
        (("--device", "abacus"), "torch cannot use the device 'abacus': "),
        (("--resume",), "no checkpoint {out}/checkpoint.pt to resume from: start without --resume"),
        (("--config", "absent.yaml"), "cannot read the training config absent.yaml: "),
    ],
)
def test_refusals(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], fault: str
) -> None:
    assert main([*arguments(shards, tmp_path), *more]) == 1
    said = capsys.readouterr().err
    assert said.startswith("end2reg: error: " + fault.format(out=tmp_path / "run"))
    assert said.count("\n") == 1
