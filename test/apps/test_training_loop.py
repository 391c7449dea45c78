"""The training loop: resumed runs equal unbroken ones; what goes wrong is counted, or stops the run with one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")

from training_shards import config_of, know_tiny, make_shards  # noqa: E402

from end2reg_ros.engine.torch_weights import save_weights  # noqa: E402
from end2reg_ros.errors import TrainingError, WeightsError  # noqa: E402
from end2reg_ros.training import logs, loop  # noqa: E402
from end2reg_ros.training.average import MovingAverage  # noqa: E402
from end2reg_ros.training.logs import read_log  # noqa: E402
from end2reg_ros.training.loop import Trainer  # noqa: E402
from end2reg_ros.training.steps import StepResult  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]

Weights = dict[str, torch.Tensor]


class Clock:
    """Stands for ``time``: a step takes a minute."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("loop") / "shards", views=3, spineless=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    know_tiny(monkeypatch)
    monkeypatch.setattr(logs, "_board", lambda folder: None)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    update = Trainer._update

    def slow(self: Trainer, *arguments: Any) -> Any:
        clock.now += 60.0
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "_update", slow)
    return clock


def equal(one: Weights, other: Weights) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def copied(trainer: Trainer) -> Weights:
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


def averaged(trainer: Trainer) -> Weights:
    return trainer.averaged().state_dict()


def moved(before: Weights, after: Weights, part: str) -> bool:
    return any(not torch.equal(before[n], after[n]) for n in before if n.startswith(part))


TWO_STEP = {"strategy": "two_step", "segmentation_iterations": 3, "iterations": 3}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "minutes"),
    [({"iterations": 4, "accumulate": 2}, 1.5), (TWO_STEP, 1.5), (TWO_STEP, 3.5)],
    ids=["end_to_end", "first of two steps", "second of two steps"],
)
def test_a_resumed_run_gives_the_weights_of_an_unbroken_one(
    shards: Path, tmp_path: Path, clock: Clock, settings: dict[str, Any], minutes: float
) -> None:
    config = config_of(shards, tmp_path, **settings)
    whole = Trainer(config, tmp_path / "whole", workers=0)
    start = copied(whole)
    assert whole.run(progress=False)
    first = Trainer(config, tmp_path / "parts", workers=0)
    assert not first.run(minutes, progress=False)
    second = Trainer(config, tmp_path / "parts", workers=0)
    second.resume()
    done = second.iteration + (3 if settings.get("strategy") and second.phase == "registration" else 0)
    assert done == math.ceil(minutes)
    assert second.run(progress=False)
    assert equal(copied(second), copied(whole))
    assert equal(averaged(second), averaged(whole))
    assert second.iteration == whole.iteration == config.iterations and second.seconds == whole.seconds
    assert moved(start, copied(whole), "segmentation") and moved(start, copied(whole), "encoder")
    places = [[(r["phase"], r["iteration"]) for r in read_log(t.log.path)] for t in (second, whole)]
    assert places[0] == places[1] and len(places[0]) == 2


def test_two_steps_train_the_segmentation_first_and_then_leave_it(shards: Path, tmp_path: Path) -> None:
    config = config_of(shards, tmp_path, strategy="two_step", segmentation_iterations=2, iterations=2)
    trainer = Trainer(config, tmp_path / "run", workers=0)
    start, seen = copied(trainer), []
    real = trainer._registration

    def watched(pair: Any) -> StepResult:
        seen.append(copied(trainer))
        return real(pair)

    trainer._registration = watched  # type: ignore[method-assign]
    assert trainer.run(progress=False)
    end = copied(trainer)
    assert moved(start, seen[0], "segmentation") and not moved(start, seen[0], "encoder")
    assert moved(seen[0], end, "encoder") and not moved(seen[0], end, "segmentation")
    assert all(p.grad is None for p in trainer.network.segmentation.parameters())
    assert equal({n: v for n, v in averaged(trainer).items() if n.startswith("segmentation")},
                 {n: v for n, v in end.items() if n.startswith("segmentation")})  # fmt: skip


def test_without_a_mask_the_segmentation_stays_as_it_was(shards: Path, tmp_path: Path) -> None:
    trainer = Trainer(
        config_of(shards, tmp_path, strategy="all_ones", iterations=2), tmp_path / "run", workers=0
    )
    start = copied(trainer)
    assert trainer.run(progress=False)
    assert moved(start, copied(trainer), "encoder") and not moved(start, copied(trainer), "segmentation")
    assert {row["mask_share"] for row in read_log(trainer.log.path)} == {"1"}


@pytest.mark.slow
def test_the_log_the_curves_and_the_validation(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(
        shards, tmp_path, iterations=4, validation=[str(shards)], validation_scenes=2, validate_every=2
    )
    trainer = Trainer(config, tmp_path / "run", workers=0)
    assert trainer.run(progress=False)
    rows = read_log(trainer.log.path)
    assert [(r["iteration"], r["loss"] != "", r["tre_median_mm"] != "") for r in rows] == [
        ("2", True, False), ("2", False, True), ("4", True, False), ("4", False, True),
    ]  # fmt: skip
    assert {r["scenes"] for r in rows if r["scenes"]} == {"2"}
    assert (tmp_path / "run" / "curves.png").stat().st_size > 5000
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("registration 2: landmark error ")
    assert lines[0].endswith(" (2 scenes)")


def test_a_resume_forgets_rows_after_the_checkpoint(shards: Path, tmp_path: Path) -> None:
    config = config_of(shards, tmp_path, iterations=4)
    trainer = Trainer(config, tmp_path / "run", workers=0)
    trainer.iteration = 2
    trainer.save()
    for iteration in (2, 4):
        trainer.log.row({"phase": "registration", "iteration": iteration})
    again = Trainer(config, tmp_path / "run", workers=0)
    again.resume()
    assert [row["iteration"] for row in read_log(again.log.path)] == ["2"]


def test_the_rate_warms_up_and_falls_on_a_cosine(shards: Path, tmp_path: Path) -> None:
    config = config_of(shards, tmp_path, iterations=100, warm_up=10, learning_rate=1e-3, final_rate=0.1)
    trainer = Trainer(config, tmp_path / "run", workers=0)
    rates = []
    for trainer.iteration in range(101):
        rates.append(trainer._set_rate(100))
        assert trainer.optimiser.param_groups[0]["lr"] == rates[-1]
    assert rates[0] == pytest.approx(1e-4) and rates[9] == pytest.approx(1e-3) == max(rates)
    assert rates[55] == pytest.approx(1e-3 * (0.1 + 0.9 * 0.5)) and rates[100] == pytest.approx(1e-4)
    trainer.iteration = 50
    assert trainer._tau() == pytest.approx(math.sqrt(1.0 * 0.5))


def faulty(trainer: Trainer, bad: Callable[[int], bool]) -> Callable[..., StepResult]:
    """Steps whose loss is not finite where ``bad`` says so; no forward pass."""
    calls = iter(range(10_000))
    weight = trainer.network.segmentation.logits.weight

    def step(*_: Any) -> StepResult:
        total = (weight * (float("nan") if bad(next(calls)) else 1.0)).sum()
        return StepResult(total, 0.0, 0.0, 0.5, 0.5)

    return step


@pytest.fixture
def same_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    def repeated(*_: Any) -> Any:
        while True:
            yield None

    monkeypatch.setattr(loop, "pairs_from", repeated)


def test_steps_that_are_not_finite_are_left_out_and_counted(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_pair: None
) -> None:
    trainer = Trainer(config_of(shards, tmp_path, iterations=60), tmp_path / "run", workers=0)
    monkeypatch.setattr(loop, "registration_step", faulty(trainer, lambda call: 5 <= call < 55))
    assert trainer.run(progress=False)
    assert (trainer.iteration, trainer.skipped, trainer.average.steps) == (60, 50, 10)
    assert all(torch.isfinite(value).all() for value in copied(trainer).values())
    assert read_log(trainer.log.path)[-1]["skipped"] == "50"
    again = Trainer(config_of(shards, tmp_path, iterations=60), tmp_path / "run", workers=0)
    again.resume()
    assert (again.skipped, again.average.steps) == (50, 10)


def test_nothing_but_steps_that_are_not_finite_stops_the_run(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_pair: None
) -> None:
    trainer = Trainer(config_of(shards, tmp_path, iterations=100), tmp_path / "run", workers=0)
    start = copied(trainer)
    monkeypatch.setattr(loop, "registration_step", faulty(trainer, lambda call: True))
    with pytest.raises(TrainingError) as caught:
        trainer.run(progress=False)
    assert str(caught.value) == "51 steps in a row gave no finite loss or gradient: lower the learning rate"
    assert equal(start, copied(trainer))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["end_to_end", "all_ones"])
def test_a_mask_that_has_collapsed_stops_the_run(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(loop, "COLLAPSE_WINDOW", 3)
    config = config_of(shards, tmp_path, iterations=6, collapse_after=3, strategy=strategy)
    trainer = Trainer(config, tmp_path / "run", workers=0)
    with torch.no_grad():
        trainer.network.segmentation.logits.bias.copy_(torch.tensor([-1000.0, 1000.0]))
    if strategy == "all_ones":  # meant to be so
        assert trainer.run(progress=False)
        return
    with pytest.raises(TrainingError) as caught:
        trainer.run(progress=False)
    assert str(caught.value) == (
        "the mask has collapsed: 100 % of the points have label 1 after 4 iterations (limit 97 %)"
    )


def test_the_average_follows_the_weights() -> None:
    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average = MovingAverage(layer, 0.5)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    average.update_parameters(layer)  # keeps 2 / 11 of the old ones so early
    assert average.module.weight.flatten().tolist() == pytest.approx([9 / 11] * 2)
    average.resume(average.module.state_dict(), 1000)
    average.update_parameters(layer)
    assert average.module.weight.flatten().tolist() == pytest.approx([1 - 1 / 11] * 2)
    assert (average.steps, layer.weight.flatten().tolist()) == (1001, [1.0, 1.0])


def test_the_average_takes_running_statistics_and_counts_along() -> None:
    norm = torch.nn.BatchNorm1d(2)
    average = MovingAverage(norm, 0.999)
    norm(torch.full((4, 2), 10.0))  # the running mean goes from 0 to 1
    average.update_parameters(norm)
    assert average.module.running_mean.tolist() == pytest.approx([9 / 11] * 2)
    assert int(average.module.num_batches_tracked) == 1


def test_a_run_may_start_from_weights(shards: Path, tmp_path: Path) -> None:
    first = Trainer(config_of(shards, tmp_path, seed=1), tmp_path / "first", workers=0)
    path = tmp_path / "w.safetensors"
    save_weights(path, first.profile, first.network.state_dict(), {}, {})
    other = Trainer(config_of(shards, tmp_path, seed=2), tmp_path / "other", workers=0)
    from_it = Trainer(
        config_of(shards, tmp_path, seed=2, start_from=str(path)), tmp_path / "third", workers=0
    )
    assert equal(copied(from_it), copied(first)) and not equal(copied(other), copied(first))
    assert equal(averaged(from_it), copied(first))
    with pytest.raises(WeightsError, match="no weights file "):
        Trainer(config_of(shards, tmp_path, start_from="absent"), tmp_path / "fourth", workers=0)


def test_what_cannot_be_set_up(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        Trainer(config_of(shards, tmp_path, profile="fast"), tmp_path / "run")
    assert str(caught.value) == "unknown profile 'fast': choose one of paper, realtime, tiny"
    with pytest.raises(TrainingError, match="torch cannot use the device 'abacus': "):
        Trainer(config_of(shards, tmp_path), tmp_path / "run", device="abacus")
    with pytest.raises(TrainingError, match="no training scenes"):
        Trainer(config_of(tmp_path, tmp_path), tmp_path / "run")
    assert not (tmp_path / "run").exists()
