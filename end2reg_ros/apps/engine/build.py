"""Everything that a first start makes and keeps, made beforehand: what ``end2reg engine build`` does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from end2reg_ros.cache import cache_folder
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.errors import EngineError

if TYPE_CHECKING:
    from end2reg_ros.case.model import Case
    from end2reg_ros.engine.types import EngineInfo

Files = dict[Path, tuple[int, int]]


@dataclass(frozen=True)
class Step:
    """One step of a build: what it was for, seconds, and the files that it wrote into the cache (none: all were there)."""

    what: str
    seconds: float
    written: tuple[Path, ...]


@dataclass
class BuildLog:
    """A build, step by step.

    Attributes:
        folder: the cache.
        steps: done so far.
        engine: what was loaded.
    """

    folder: Path
    steps: list[Step] = field(default_factory=list)
    engine: EngineInfo | None = None

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Take the time of a step and see what it writes."""
        before, start = files_in(self.folder), time.monotonic()
        yield
        seconds, after = time.monotonic() - start, files_in(self.folder)
        written = tuple(path for path in after if after[path] != before.get(path))
        self.steps.append(Step(what, seconds, written))

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return sum(step.seconds for step in self.steps)

    def document(self) -> dict[str, Any]:
        """The build as JSON takes it."""
        return {
            "engine": None if self.engine is None else self.engine.document(),
            "cache": str(self.folder),
            "seconds": self.seconds,
            "steps": [
                {
                    "what": step.what,
                    "seconds": step.seconds,
                    "written": [str(path.relative_to(self.folder)) for path in step.written],
                }
                for step in self.steps
            ],
        }


def build(options: EngineOptions, case: Case | None) -> BuildLog:
    """Make and keep graphs and plans, and with a case its surface and its side of the network; then run each graph twice.

    Raises:
        EngineError, WeightsError: what cannot be loaded or built; a cache that cannot be written.
    """
    from end2reg_ros.engine.bundle_store import load_bundle
    from end2reg_ros.engine.load import choose_engine, load_engine
    from end2reg_ros.registration.fit.surface_build import model_surface
    from end2reg_ros.registration.model_side_cache import encoded_model_side
    from end2reg_ros.registration.network import model_side

    name = choose_engine(options.device)[0] if options.engine == "auto" else options.engine
    made = BuildLog(_folder())
    if name != "torch":
        assert options.weights is not None
        with made.step("graphs"):
            load_bundle(options.weights, options.profile)
    with made.step("engine"):  # TensorRT's plans among it
        engine = load_engine(options)
    try:
        made.engine = engine.info
        check_precision(options, engine.info)
        if case is not None:
            with made.step("the case's surface"):
                side = model_side(model_surface(case), engine.profile)
            with made.step("the case's side of the network"):
                encoded = encoded_model_side(case.hash, side.pyramid, engine)
            with made.step("warm-up"):
                engine.set_model(encoded)
                engine.warm_up()
    finally:
        engine.close()
    if (name != "torch" or case is not None) and not files_in(made.folder):
        raise EngineError(
            f"nothing is kept in {made.folder}: it cannot be written, every start makes all of it anew"
        )
    return made


def print_build(made: BuildLog, note: str, hint: str) -> None:
    """Print the steps as a table.

    Args:
        note: on the choice of the weights; may be empty.
        hint: added to the last line, on what was not made.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("step", "seconds", "written"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for step in made.steps:
        size = sum(path.stat().st_size for path in step.written if path.is_file()) / 1e6
        count = len(step.written)
        files = f"{count} file{'s' * (count > 1)}, {size:.1f} MB" if count else "nothing new"
        table.add_row(step.what, f"{step.seconds:.2f}", files)
    console = Console(markup=False, soft_wrap=True)
    if note:
        console.print(f"note: {note}")
    console.print(table)
    if made.engine is not None:
        console.print(made.engine.text(), highlight=False)
    console.print(f"{made.seconds:.1f} s; kept in {made.folder}{hint}")


def check_precision(options: EngineOptions, info: EngineInfo) -> None:
    """Refuse an engine that does not calculate in the precision asked for.

    Raises:
        EngineError: it does not.
    """
    if options.precision != "fp32" and info.precision == "fp32":
        raise EngineError(
            f"engine '{info.name}' calculates in fp32: precision '{options.precision}' needs engine 'tensorrt'"
        )


def files_in(folder: Path) -> Files:
    """Size in bytes and time of change of every file under a folder."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_file():
            status = path.stat()
            found[path] = (status.st_size, status.st_mtime_ns)
    return found


def _folder() -> Path:
    try:
        return cache_folder()
    except OSError as fault:
        raise EngineError(f"nothing can be kept between starts: {fault}") from None
