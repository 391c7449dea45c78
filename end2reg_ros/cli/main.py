"""The ``end2reg`` command: finds the subcommand, imports only that one, turns errors into one line and an exit code.

Exit codes: 0 success, 1 an error the user can act on or a result that is not good, 2 wrong usage, 130 Ctrl-C,
141 the reader of a pipe went away.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from end2reg_ros.errors import End2RegError, missing_training_parts

PROGRAM = "end2reg"
TRAINING_PACKAGES = ("torch", "tensorboard", "onnxscript")
HELP_WORDS = ("-h", "--help", "help")


@dataclass(frozen=True)
class Subcommand:
    """One subcommand: the words that call it, ``module:class`` with ``run() -> int``, and one line of help."""

    name: str
    target: str
    summary: str

    @property
    def words(self) -> tuple[str, ...]:
        """Of the name."""
        return tuple(self.name.split())


# Texts stand here and not in the modules: the list must print without importing Open3D or matplotlib.
# fmt: off
COMMANDS = (
    Subcommand("demo", "demo:Demo", "simulated camera -> ROS 2 -> tracker -> TF, live table, report with pictures"),
    Subcommand("case create", "case:CaseCreate", "make a case folder from meshes (mm) or a CT label map"),
    Subcommand("case show", "case:CaseShow", "print what a case folder holds, write a picture of it"),
    Subcommand("case validate", "case:CaseValidate", "check a case folder and name its faults"),
    Subcommand("case adapt", "case_adapt:CaseAdapt", "tune the network to one case; kept only if not worse"),
    Subcommand("simulate", "simulate:Simulate", "write simulated scene folders or a recording, with the truth"),
    Subcommand("register", "register:Register", "register one cloud to a case and print the pose (metres)"),
    Subcommand("track", "track:TrackRecording", "run the tracker over a recording: trajectory, states, summary"),
    Subcommand("evaluate", "evaluate:Evaluate", "TRE (mm) and success tables of methods over scene folders"),
    Subcommand("train", "train:Train", "train the network from shards of simulated scenes; resumable"),
    Subcommand("export", "export:Export", "write the network as ONNX files, without torch"),
    Subcommand("engine build", "engine:BuildEngine", "make beforehand what a first start makes: graphs, plans, the case's side"),
    Subcommand("engine info", "engine:ShowEngine", "which engine runs the network and why; cache; what others lack"),
    Subcommand("engine verify", "engine:VerifyEngine", "hold an engine against the torch reference on random scenes"),
    Subcommand("bench demo", "bench:BenchDemo", "rate, latency, memory and error of the nodes over ROS 2"),
    Subcommand("bench", "bench:BenchMethods", "cost of a frame by stage, and error, of several methods, as JSON"),
)
# fmt: on


def version() -> str:
    """Version of the package."""
    from end2reg_ros import __version__

    return str(__version__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``end2reg`` with ``argv`` (default: the process's arguments); returns the exit code."""
    # Thousands of small products a frame: a second BLAS thread only spins. Read once, when numpy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(args)
        sys.stdout.flush()
        return code
    except End2RegError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at exit; without this it prints a second, meaningless error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {(error.strerror or 'cannot be used').lower()}", 1)
    except ImportError as error:
        if (text := missing_training_parts(error)) is not None:
            return _fail(text, 1)
        if (error.name or "").startswith("end2reg_ros"):
            raise
        step = "setup-train" if (error.name or "").split(".")[0] in TRAINING_PACKAGES else "setup"
        return _fail(f"{error}; `make {step}` installs what is missing", 1)


def _run(args: list[str]) -> int:
    if not args:
        print(overview(), file=sys.stderr)
        return 2
    if args[0] in HELP_WORDS:
        print(overview())
        return 0
    if args[0] == "--version":
        print(f"{PROGRAM} {version()}")
        return 0
    found = find(args)
    if found is None:
        group = [c for c in COMMANDS if len(c.words) > 1 and c.words[0] == args[0]]
        if group and (len(args) == 1 or args[1] in HELP_WORDS):
            wanted = len(args) > 1
            print(overview(group), file=sys.stdout if wanted else sys.stderr)
            return 0 if wanted else 2
        return _fail(_unknown(args, group), 2)
    return _call(found, args[len(found.words) :])


def find(args: Sequence[str]) -> Subcommand | None:
    """The command whose words ``args`` begin with."""
    return next((c for c in COMMANDS if tuple(args[: len(c.words)]) == c.words), None)


def overview(commands: Sequence[Subcommand] = COMMANDS) -> str:
    """The text of ``end2reg --help``."""
    width = max(len(c.name) for c in commands)
    lines = [
        f"usage: {PROGRAM} COMMAND [options]",
        "",
        "Markerless spine tracking: a depth camera's cloud in, the vertebrae's poses out.",
        "Research software, not a medical device.",
        "",
        "commands:",
        *(f"  {c.name:<{width}}  {c.summary}" for c in commands),
        "",
        f"`{PROGRAM} COMMAND --help` shows a command's options with their units; `{PROGRAM} --version` the version.",
    ]
    return "\n".join(lines)


def _call(command: Subcommand, args: list[str]) -> int:
    import tyro

    module, class_name = command.target.split(":")
    cls = getattr(importlib.import_module(f"end2reg_ros.cli.{module}"), class_name)
    try:
        instance = tyro.cli(cls, prog=f"{PROGRAM} {command.name}", args=args)
    except SystemExit as stop:  # tyro has printed the help (0) or what was wrong (2)
        return stop.code if isinstance(stop.code, int) else 2
    return int(instance.run())


def _unknown(args: list[str], group: list[Subcommand]) -> str:
    if group:
        typed, known = " ".join(args[:2]), [c.name for c in group]
    else:
        typed, known = args[0], list(dict.fromkeys(c.words[0] for c in COMMANDS))
    close = difflib.get_close_matches(typed, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"one of: {', '.join(known)}"
    return f"unknown command '{typed}'; {hint}"


def _fail(text: str, code: int) -> int:
    print(f"{PROGRAM}: error: {' '.join(text.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
