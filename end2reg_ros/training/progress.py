"""A progress bar on a terminal, and lines in a log file."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """A bar by rich while it is entered, where it is ``shown``; lines only otherwise."""

    def __init__(self, title: str, total: int, shown: bool) -> None:
        self.rich = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            disable=not shown,
        )
        self._task = self.rich.add_task(title, total=total, text="")

    def __enter__(self) -> ProgressBar:
        self.rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rich.stop()

    def step(self, done: int, text: str = "") -> None:
        """Move the bar: so many steps are done, ``text`` tells how it goes."""
        self.rich.update(self._task, completed=done, text=text)

    def line(self, text: str) -> None:
        """Print a line that stays, above the bar or, at once, into a file."""
        if self.rich.disable:
            print(text, flush=True)
        else:
            self.rich.console.print(text, highlight=False, markup=False)
