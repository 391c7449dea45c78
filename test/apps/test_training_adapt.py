"""``case adapt``: what is made, what is kept and what is refused, with a tiny network and stand-ins for simulated views."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is absent: pip install -r requirements/train.txt")

from boxes_case import boxes_case  # noqa: E402
from network_pairs import tiny  # noqa: E402

from end2reg_ros import profile as profiles  # noqa: E402
from end2reg_ros import se3  # noqa: E402
from end2reg_ros.case import CaseSpec, LevelSpec, load_case, write_case  # noqa: E402
from end2reg_ros.case.checks import validate_case  # noqa: E402
from end2reg_ros.cli import main as cli  # noqa: E402
from end2reg_ros.engine.torch_weights import load_weights, save_weights  # noqa: E402
from end2reg_ros.errors import End2RegError, TrainingError  # noqa: E402
from end2reg_ros.network.model import End2Reg  # noqa: E402
from end2reg_ros.network.region_net import RegionNet  # noqa: E402
from end2reg_ros.registration.weights_path import choose_weights, own_weights_path  # noqa: E402
from end2reg_ros.training.adapt import run as subject  # noqa: E402
from end2reg_ros.training.adapt import views as adapt_views  # noqa: E402
from end2reg_ros.training.adapt.measure import HeldOutBench, HeldOutErrors, rough_pose  # noqa: E402
from end2reg_ros.training.adapt.report import comparison, figures, not_worse  # noqa: E402
from end2reg_ros.training.adapt.run import AdaptRequest, AdaptResult, adapt, work_folder  # noqa: E402
from end2reg_ros.training.data.anatomies import make_anatomy  # noqa: E402
from end2reg_ros.training.data.samples import load_scene  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(400)]

INF = float("inf")


class FakeViews:
    """Stands in for the simulator: the case's visible surface before a wall, seen from 0.5 m."""

    def __init__(self, case: Any, draw: Any) -> None:
        self.case, self.draw = case, draw
        self.surface = make_anatomy(case, "", "").points.astype(np.float64)

    def view(self, number: int) -> tuple[Any, dict[str, Any]]:
        rng = np.random.default_rng((self.draw.seed, number))
        looking = np.array(
            [[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]
        )  # y anterior of the model = z of the camera
        R = se3.rotation_from_vector(0.2 * rng.standard_normal(3)) @ looking
        T = se3.from_rotation_translation(R, np.array([0, 0, 0.5]) - R @ self.surface.mean(axis=0))
        bone = se3.apply(T, self.surface)
        wall = np.append(rng.uniform(-0.1, 0.1, (4000, 2)), np.full((4000, 1), 0.53), axis=1)
        points = np.concatenate([bone, wall]).astype(np.float32)[None]
        points += rng.normal(0, 0.0003, points.shape).astype(np.float32)
        points[0, 0] = np.nan
        truth = np.arange(points.shape[1])[None] < len(bone)
        colours = np.full(points.shape, 120, np.uint8)
        frame = SimpleNamespace(points=points, colours=colours, bone=truth, T_camera_model=T)
        return frame, {"number": number}


@pytest.fixture(scope="module", autouse=True)
def stand_ins() -> Iterator[None]:
    """A profile 'tiny' and views without the simulator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles._PROFILES, "tiny", tiny)
        patch.setattr("end2reg_ros.training.data.shards.FieldViews", FakeViews)
        yield


def weights_file(path: Path, region: bool = True) -> Path:
    torch.manual_seed(3)
    finder = RegionNet().state_dict() if region else {}
    save_weights(path, tiny(), End2Reg(tiny()).state_dict(), finder, {"made": "for a test"})
    return path


def case_folder(path: Path) -> Path:
    case = boxes_case()
    levels = tuple(LevelSpec(v.level, v.mesh, v.colour, v.landmarks) for v in case.vertebrae)
    return write_case(path, CaseSpec("boxes", levels, "made up"))


def request_for(folder: Path, **changes: Any) -> AdaptRequest:
    base = AdaptRequest(
        folder / "case", folder / "base.safetensors", "tiny", scenes=3, held_out=2, iterations=4,
        seed=5, out=folder / "work", workers=0,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AdaptResult]:
    """One adaptation, kept."""
    folder = tmp_path_factory.mktemp("made")
    case_folder(folder / "case")
    weights_file(folder / "base.safetensors")
    return folder, adapt(request_for(folder))


@pytest.fixture
def copied(made: tuple[Path, AdaptResult], tmp_path: Path) -> Path:
    """Its views and its case, without the result and the run."""
    folder = Path(shutil.copytree(made[0], tmp_path / "copied"))
    shutil.rmtree(folder / "case" / "network")
    for run in (folder / "work").glob("run_*"):
        shutil.rmtree(run)
    return folder


def test_result_is_kept_in_the_case_with_its_record_and_the_case_stays_valid(
    made: tuple[Path, AdaptResult],
) -> None:
    folder, result = made
    assert (result.stage, result.kept) == ("done", True)
    case = load_case(folder / "case")
    own, base = load_weights(own_weights_path(folder / "case")), load_weights(folder / "base.safetensors")
    assert own.record["case_hash"] == case.hash and own.record["case"] == "boxes"
    assert own.record["base_hash"] == base.hash and own.record["base"] == {"made": "for a test"}
    assert own.record["iterations"] == 4 and own.record["seed"] == 5
    assert own.record["held_out_views"]["before"]["views"] == 2
    assert all(torch.equal(own.region[name], value) for name, value in base.region.items())
    assert any(not torch.equal(own.network[name], value) for name, value in base.network.items())
    chosen = choose_weights(case, None, "tiny")
    assert (chosen.path.name, chosen.source, chosen.note) == ("weights.safetensors", "case", "")
    document = json.loads((folder / "case" / "network" / "adaptation.json").read_text())
    assert document["hash"] == own.hash and document["start"] == "from nothing"
    assert (folder / "case" / "network" / "adaptation.png").read_bytes()[:4] == b"\x89PNG"
    # Boxes are no anatomy: what validation says of them must not change by the folder that was added.
    shutil.copytree(folder / "case", folder / "bare", ignore=shutil.ignore_patterns("network"))
    assert load_case(folder / "bare").hash == case.hash
    assert validate_case(folder / "bare") == validate_case(folder / "case")


def test_training_and_held_out_views_show_the_case_itself_from_other_seeds(
    made: tuple[Path, AdaptResult],
) -> None:
    work = made[0] / "work"
    trained = [load_scene(p) for p in sorted((work / "scenes_5_3" / "scene").glob("*.npz"))]
    held_out = [load_scene(p) for p in sorted((work / "held_out_5_2" / "scene").glob("*.npz"))]
    assert (len(trained), len(held_out)) == (3, 2)
    assert {s.seed for s in trained} == {500_050_000} and {s.seed for s in held_out} == {700_050_000}
    assert all(s.anatomy for s in trained + held_out)
    whole, T = adapt_views.load_whole(work / "held_out_5_2", 1)
    np.testing.assert_array_equal(T, held_out[1].T_camera_model)
    assert len(whole.points) > len(held_out[1].points) and np.isfinite(whole.points).all()
    surface = make_anatomy(load_case(made[0] / "case"), "", "").points
    saved = np.load(work / "scenes_5_3" / "anatomy" / "v00000.npz")["points"]
    np.testing.assert_allclose(saved, surface, atol=1e-6)


def test_a_cut_off_run_goes_on_and_ends_in_the_same_weights(
    made: tuple[Path, AdaptResult], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, calls = subject.Trainer._update, []

    def cut(self: Any, *rest: Any) -> Any:
        calls.append(self.iteration)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update(self, *rest)

    monkeypatch.setattr(subject.Trainer, "_update", cut)
    monkeypatch.setattr(subject, "CHECKPOINT_MINUTES", 1e-9)
    monkeypatch.setattr(HeldOutBench, "measure", lambda *_: HeldOutErrors([1.0, 2.0], {}))
    with pytest.raises(KeyboardInterrupt):
        adapt(request_for(copied))
    assert not own_weights_path(copied / "case").exists()
    result = adapt(request_for(copied))
    assert calls == [0, 1, 2, 2, 3] and result.kept
    first = load_weights(own_weights_path(made[0] / "case"))
    again = load_weights(own_weights_path(copied / "case"))
    assert again.hash == first.hash


def test_when_the_minutes_are_up_the_work_stays_and_the_case_is_untouched(copied: Path) -> None:
    result = adapt(request_for(copied, minutes=1e-9))
    assert (result.stage, result.kept, result.folder) == ("tuning", False, (copied / "work").resolve())
    result = adapt(request_for(copied, minutes=1e-9, scenes=4))
    assert result.stage == "simulating" and not own_weights_path(copied / "case").exists()


def test_a_worse_network_is_not_kept_and_what_the_case_had_stays(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = own_weights_path(copied / "case")
    own.parent.mkdir()
    own.write_bytes(b"of before")
    errors = iter([[1.0, 2.0], [1.5, INF]])
    monkeypatch.setattr(HeldOutBench, "measure", lambda *_: HeldOutErrors(next(errors), {}))
    result = adapt(request_for(copied))
    assert not result.kept and own.read_bytes() == b"of before"
    assert sorted(p.name for p in own.parent.iterdir()) == ["weights.safetensors"]
    document = json.loads((result.folder / "adaptation.json").read_text())
    assert document["kept"] is False and document["held_out_views"]["after_mm"] == [1.5, None]
    monkeypatch.setattr("end2reg_ros.training.adapt.run.adapt", lambda _: result)
    assert cli.main(["case", "adapt", str(copied / "case")]) == 1
    printed = capsys.readouterr().out
    assert "  before  1.50 [1.00, 2.00] mm, 0 % above 10 mm or without a pose" in printed
    assert "not kept, as it is worse than what it began with" in printed


def test_after_success_the_views_below_the_cache_are_removed(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "DEFAULT_WORK", copied / "cache")
    wanted = request_for(copied, out=None)
    folder = work_folder(wanted, load_case(copied / "case"))
    shutil.copytree(copied / "work", folder)
    monkeypatch.setattr(HeldOutBench, "measure", lambda *_: HeldOutErrors([1.0, 2.0], {}))
    assert adapt(wanted).kept and not folder.exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"minutes": 0.0}, "--minutes must be above 0, not 0"),
        ({"scenes": 0}, "--scenes must be at least 1, not 0"),
        ({"held_out": 0}, "--held-out must be at least 1, not 0"),
        ({"seed": 10_000}, "--seed must be 0 to 9999, not 10000"),
        ({"profile": "realtime"}, "weights are of profile 'tiny', profile 'realtime' was asked for"),
        ({"weights": Path("absent.safetensors")}, "no weights file absent.safetensors"),
        ({"case": Path("absent")}, "absent: no such case folder"),
    ],
)
def test_a_request_that_cannot_work_is_refused_in_one_line(
    made: tuple[Path, AdaptResult], changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(End2RegError) as caught:
        adapt(request_for(made[0], **changes))
    assert str(caught.value) == text


def test_a_case_folder_that_cannot_be_written_is_refused_before_any_work(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt_views, "make_scenes", lambda *_: pytest.fail("work was begun"))
    (copied / "case" / "network").write_text("a file in the way")
    with pytest.raises(
        TrainingError, match=r"network: cannot be written .*; the network is kept in the case folder"
    ):
        adapt(request_for(copied))


def test_a_work_folder_of_something_else_is_refused(copied: Path) -> None:
    with pytest.raises(TrainingError, match="is not empty and holds no adaptation; choose another --out"):
        adapt(request_for(copied, out=copied / "case"))
    (copied / "work" / "adaptation_of.json").write_text('{"case_hash": "of another"}')
    with pytest.raises(TrainingError, match="holds the adaptation of another case; choose another --out"):
        adapt(request_for(copied))


def test_ctrl_c_says_that_the_same_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut(_: AdaptRequest) -> AdaptResult:
        raise KeyboardInterrupt

    monkeypatch.setattr("end2reg_ros.training.adapt.run.adapt", cut)
    assert cli.main(["case", "adapt", "somewhere"]) == 130
    assert "what is done so far is kept: the same command goes on there" in capsys.readouterr().err


def test_figures_with_views_without_a_pose() -> None:
    found = figures([3.0, 1.0, INF, 12.0])
    assert (found.median_mm, found.q1_mm, found.without_pose, found.above_10_mm) == (7.5, 3.0, 1, 0.5)
    none = figures([INF, INF])
    assert none.document()["median_mm"] is None and "no pose [no pose, no pose] mm, 100 %" in none.text()
    assert not_worse(found, found) and not_worse(none, none)
    assert not not_worse(found, replace(found, median_mm=7.6))
    assert not not_worse(found, replace(found, above_10_mm=0.6))
    compared = comparison([5.0, 6.0, INF, 4.0], [1.0, 2.0, 3.0, 3.5])
    assert compared["not_worse"] and compared["before_mm"][2] is None
    assert compared["wilcoxon"]["pairs"] == 4
    assert compared["wilcoxon"]["p"] == pytest.approx(0.0656, abs=1e-4)  # z = -5 / sqrt(7.375), one tie


def test_rough_pose_is_within_its_limits_about_the_centre() -> None:
    T = se3.from_rotation_translation(
        se3.rotation_from_vector(np.array([0.5, -1.0, 0.3])), np.array([0, 0.1, 0.6])
    )
    local = np.array([0.01, -0.03, 0.2])
    centre = se3.apply(T, local[None])[0]
    angles = []
    for seed in range(30):
        rough = rough_pose(T, centre, seed)
        cosine = (np.trace(rough[:3, :3] @ T[:3, :3].T) - 1.0) / 2.0
        angles.append(float(np.degrees(np.arccos(cosine))))
        assert np.linalg.norm(se3.apply(rough, local[None])[0] - centre) <= 0.015
    assert 35.0 < max(angles) <= 45.0 and min(angles) < 10.0
