#!/usr/bin/env python3
"""Run one step of the set-up behind a line of progress; its full output goes to a log file.

    run_step.py LABEL LOG EXPECTED PATTERN -- COMMAND ...

LABEL is shown with the seconds elapsed. Lines that match PATTERN are counted against EXPECTED (0: no count).
On failure the end of the output that matters is shown, and the exit status is the command's.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

REDRAW_S = 0.5  # on a terminal
REPEAT_S = 15.0  # in a log, where a line cannot be redrawn


class Progress:
    """One line that says how far the step is: redrawn on a terminal, repeated now and then in a log."""

    def __init__(self, label: str, expected: int) -> None:
        self.label, self.expected = label, expected
        self.count = 0
        self.start = time.monotonic()
        self.tty = sys.stdout.isatty()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._redraw, daemon=True)
        self.thread.start()

    def _line(self) -> str:
        count = f" {min(self.count, self.expected)}/{self.expected}" if self.expected and self.count else ""
        return f"{self.label} ...{count} {time.monotonic() - self.start:.0f} s"

    def _redraw(self) -> None:
        if not self.tty:
            print(self.label, "...", flush=True)
        while not self.done.wait(REDRAW_S if self.tty else REPEAT_S):
            print(
                f"\r\033[K{self._line()}" if self.tty else self._line(),
                end="" if self.tty else "\n",
                flush=True,
            )

    def close(self, word: str) -> None:
        """Replace the line by the outcome."""
        self.done.set()
        self.thread.join()
        start = "\r\033[K" if self.tty else ""
        print(f"{start}{self.label}: {word} ({time.monotonic() - self.start:.0f} s)", flush=True)


def what_matters(output: list[str]) -> list[str]:
    """Return the lines that tell why the command failed: its error lines, else its last ones."""
    errors = [line for line in output if re.search(r"\berror\b", line, re.IGNORECASE)]
    return (errors or output)[-8:]


def main() -> int:
    """Run the command given after "--"."""
    split = sys.argv.index("--")
    label, log, expected, pattern = sys.argv[1:split]
    counted = re.compile(pattern)
    output: list[str] = []
    progress = Progress(label, int(expected))
    process = subprocess.Popen(
        sys.argv[split + 1 :], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    try:
        with Path(log).open("a") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                output.append(line.rstrip())
                progress.count += bool(counted.search(line))
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        progress.close("interrupted")
        return 130
    progress.close("done" if code == 0 else "FAILED")
    if code != 0:
        print("\n".join("    " + line for line in what_matters(output)), file=sys.stderr)
        print(f"    (full output: {log})", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
