"""What the demo shows while it runs: a progress bar and a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from end2reg_ros.apps.demo.figures import figures
from end2reg_ros.apps.demo.record import DemoRun
from end2reg_ros.apps.demo.run import RunRecord, Watcher
from end2reg_ros.apps.demo.summary import clouds, level_medians_mm
from end2reg_ros.evaluation.rows import CloudRow

STATE_STYLES = {
    "SEARCHING": "black on grey70",
    "TRACKING": "black on green3",
    "DEGRADED": "black on gold1",
    "LOST": "white on red3",
}
RATE_WINDOW_S = 2.0


def make_view(stream: TextIO, duration: float) -> DemoView:
    """The view that suits a stream: live on a terminal, plain lines elsewhere."""
    console = Console(file=stream)
    return LiveView(console, duration) if console.is_terminal else PlainView(stream, duration)


class DemoView(Watcher):
    """A watcher that can also say a line and be closed."""

    def say(self, text: str) -> None:
        """One line above everything that moves."""
        raise NotImplementedError

    def summary(self, run: DemoRun) -> None:
        """The closing table."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop moving; give the terminal back."""


class PlainView(DemoView):
    """One line a second: for logs and CI."""

    def __init__(self, stream: TextIO, duration: float) -> None:
        self._stream = stream
        self._duration = duration
        self._last = -1.0

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def phase(self, text: str) -> None:
        self.say(f"... {text}")

    def live(self, record: RunRecord, elapsed: float) -> None:
        if elapsed - self._last < 1.0 and self._last >= 0:
            return
        self._last = elapsed
        now = Now(record)
        tre = "-" if now.tre_mm is None else f"{now.tre_mm:.2f} mm"
        age = "-" if now.age_ms is None else f"{now.age_ms:.0f} ms"
        self.say(
            f"{elapsed:5.1f} / {self._duration:.0f} s  {now.state:<9}  TRE {tre:>8}  {now.rate_hz:4.1f} Hz  age {age:>6}  "
            f"poses {now.published} of {now.clouds} clouds  {now.reason}"
        )

    def summary(self, run: DemoRun) -> None:
        width = max(len(name) for name, _, _ in figures(run))
        for name, value, _ in figures(run):
            self.say(f"{name:<{width}}  {value}")


class LiveView(DemoView):
    """A progress bar while starting, then a table that follows the tracker."""

    def __init__(self, console: Console, duration: float) -> None:
        self._console = console
        self._duration = duration
        self._progress: Progress | None = None
        self._live: Live | None = None

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def phase(self, text: str) -> None:
        self.close()
        bar = BarColumn(bar_width=28)
        self._progress = Progress(
            SpinnerColumn(),
            bar,
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._progress.add_task(text, total=None)
        self._progress.start()

    def live(self, record: RunRecord, elapsed: float) -> None:
        table = live_table(record, elapsed, self._duration)
        if self._live is None:
            self.close()
            self._live = Live(table, console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(table, refresh=True)

    def summary(self, run: DemoRun) -> None:
        self.close()
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, value, _ in figures(run):
            table.add_row(Text(name, style="bold"), Text(value))
        self._console.print(Panel(table, title="summary", expand=False))

    def close(self) -> None:
        for moving in (self._progress, self._live):
            if moving is not None:
                moving.stop()
        self._progress = self._live = None


class Now:
    """The figures of this moment."""

    def __init__(self, record: RunRecord) -> None:
        rows = clouds(record.rows)
        last: CloudRow | None = rows[-1] if rows else None
        judged = next((row for row in reversed(rows) if row.judged), None)
        pose = next((row for row in reversed(rows[-15:]) if row.published), None)
        if judged is not None and judged.state not in ("TRACKING", "DEGRADED"):
            pose = None
        recent = [row for row in rows if last and row.published and row.t > last.t - RATE_WINDOW_S]
        self.state = judged.state if judged else str(record.status.get("state", "SEARCHING"))
        self.reason = judged.reason if judged else str(record.status.get("reason", ""))
        self.tre_mm = pose.tre_mm() if pose else None
        self.level_mm = pose.level_tre_mm() if pose else {}
        self.network_mm = pose.network_tre_mm() if pose else None
        self.age_ms = pose.age_ms if pose else None
        self.rate_hz = len(recent) / min(RATE_WINDOW_S, last.t) if pose and last and last.t > 0 else 0.0
        self.visible = last.visible_fraction if last else None
        self.clouds = len(rows)
        self.judged = sum(row.judged for row in rows)
        self.published = sum(row.published for row in rows)
        self.levels = list(last.T_camera_levels_true) if last else []


def live_table(record: RunRecord, elapsed: float, duration: float) -> RenderableType:
    """The table of this moment."""
    now = Now(record)
    head = Table.grid(padding=(0, 2))
    state = Text(f" {now.state} ", style=STATE_STYLES.get(now.state, "reverse"))
    head.add_row(state, Text(now.reason, style="dim", overflow="ellipsis", no_wrap=True))
    levels = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    levels.add_column("level")
    levels.add_column("error now", justify="right")
    levels.add_column("median so far", justify="right")
    medians = level_medians_mm(record.rows)
    for level in now.levels:
        levels.add_row(level, _mm(now.level_mm.get(level)), _mm(medians.get(level)))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("poses", f"{now.rate_hz:.1f} Hz")
    facts.add_row("pose age", "-" if now.age_ms is None else f"{now.age_ms:.0f} ms")
    facts.add_row("spine in view", "-" if now.visible is None else f"{100 * now.visible:.0f} %")
    facts.add_row("clouds / judged / poses", f"{now.clouds} / {now.judged} / {now.published}")
    facts.add_row("median error (TRE)", _mm(now.tre_mm))
    if now.network_mm is not None:
        facts.add_row("network alone", _mm(now.network_mm))
    body = Table.grid(padding=(0, 6))
    body.add_row(levels, facts)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=duration, completed=min(elapsed, duration), width=48, complete_style="cyan"),
        f"{elapsed:.0f} / {duration:.0f} s",
    )
    return Panel(Group(head, Text(), body, Text(), bar), title="spine tracking, heard over ROS 2", width=92)


def _mm(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} mm"


def default_stream(json_out: bool) -> TextIO:
    """Where a person reads: standard output, or standard error when that carries JSON."""
    return sys.stderr if json_out else sys.stdout
