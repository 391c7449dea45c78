"""A progress bar on a terminal, and lines in a log file."""

from __future__ import annotations

from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar(Protocol):
    """What the training loop tells."""

    def step(self, done: int, text: str) -> None:
        """So many steps are done; ``text`` tells how it goes."""

    def line(self, text: str) -> None:
        """A line that stays."""

    def close(self) -> None:
        """The end."""


class Silent:
    """No bar: lines only."""

    def step(self, done: int, text: str) -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """Print it at once, as the output may be a file."""
        print(text, flush=True)

    def close(self) -> None:
        """Nothing."""


class TerminalBar:
    """A bar by rich."""

    def __init__(self, title: str, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self._task = self._progress.add_task(title, total=total, text="")
        self._progress.start()

    def step(self, done: int, text: str) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, text=text)

    def line(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(text, highlight=False)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()


def make_bar(title: str, total: int, shown: bool) -> Bar:
    """A bar on a terminal when it is ``shown``, otherwise lines only."""
    return TerminalBar(title, total) if shown else Silent()
