"""From an ONNX graph to a TensorRT plan: parse, hold its types against what it says, build with progress, keep timings.

Takes the module ``tensorrt`` as an argument: 10.x or 11.x. A network is always strongly typed: the graph's own types are the
precision. Nothing here was ever run against the library itself, only against a stand-in of it (see ``tensorrt_engine``).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from end2reg_ros.engine.tensorrt.cuda_buffers import Cuda, out_of_memory
from end2reg_ros.engine.tensorrt.mixed_precision import FULL_SCOPES, PRECISIONS
from end2reg_ros.errors import EngineError

_log = logging.getLogger(__name__)

#: Called with the share that is done (0..1) and what is being done.
Show = Callable[[float, str], None]


@dataclass(frozen=True)
class BuildSettings:
    """What a build is told.

    Attributes:
        workspace: bytes of the GPU that a layer may use for itself.
        effort: TensorRT's optimisation level, 0 (a fast build) to 5 (a fast plan).
    """

    workspace: int = 1 << 30
    effort: int = 3

    def text(self) -> str:
        """For the key of what is built with it. TF32 is always off: fp32 parts keep their 24 bits."""
        return f"workspace {self.workspace}, effort {self.effort}, no TF32"


@dataclass(frozen=True)
class Built:
    """A plan and the timings measured for it, both as TensorRT serialises them; timings empty where it gives none."""

    plan: bytes
    timings: bytes


@dataclass
class Messages:
    """What TensorRT says: warnings go to the log, errors are kept for the one line that is raised."""

    errors: list[str] = field(default_factory=list)

    def take(self, severity: str, text: str) -> None:
        """A message of a severity by TensorRT's name."""
        line = " ".join(text.split())
        if severity in ("INTERNAL_ERROR", "ERROR"):
            self.errors.append(line)
        elif severity == "WARNING":
            _log.warning("TensorRT: %s", line)

    def cause(self, otherwise: object = "it gives no reason") -> str:
        """The first error since ``errors`` was cleared: it names the cause, the later ones follow from it."""
        return self.errors[0] if self.errors else str(otherwise)

    def lack_memory(self) -> bool:
        """Whether an error speaks of memory."""
        words = ("out of memory", "outofmemory", "insufficient memory", "memory allocation")
        return any(word in line.lower() for line in self.errors for word in words)


@dataclass
class Progress:
    """Shares of nested phases as one share; TensorRT calls it from several threads."""

    show: Show
    _phases: dict[str, list[Any]] = field(default_factory=dict)  # name -> [parent, steps, steps done]
    _told: float = -1.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps within another."""
        with self._lock:
            self._phases[phase] = [parent, max(1, steps), 0]
            self._tell(phase)

    def step(self, phase: str, step: int) -> None:
        """Step number ``step`` (from 0) of a phase is done."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase][2] = step + 1
                self._tell(phase)

    def finish(self, phase: str) -> None:
        """A phase is done."""
        with self._lock:
            self._phases.pop(phase, None)

    def _tell(self, phase: str) -> None:
        share, name = 0.0, phase
        for _ in range(len(self._phases)):
            parent, steps, done = self._phases[name]
            share = min(1.0, (done + share) / steps)
            if parent not in self._phases:
                break
            name = parent
        # What is told never goes back, and not every step is worth a line.
        if share >= self._told + 0.01 or (share == 1.0 > self._told):
            self._told = share
            self.show(share, phase)


def make_logger(trt: Any, messages: Messages) -> Any:
    """TensorRT's logger that hands everything to ``messages``. It must live as long as what it was given to."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            messages.take(severity.name, msg)

    return Logger()


def make_monitor(trt: Any, progress: Progress) -> Any:
    """TensorRT's progress monitor. Ctrl-C ends the build at its next step: no exception may pass through TensorRT."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._guarded(progress.start, phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._guarded(progress.step, phase_name, step)
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self._guarded(progress.finish, phase_name)

        def _guarded(self, tell: Callable[..., None], *arguments: Any) -> None:
            try:
                tell(*arguments)
            except KeyboardInterrupt:
                self.interrupted = True
            except Exception:
                _log.exception("the progress of a build cannot be shown")

    return Monitor()


def build_plan(
    trt: Any, cuda: Cuda, onnx: bytes, precision: str, settings: BuildSettings, timings: bytes, show: Show
) -> Built:
    """Build.

    Args:
        trt: the module ``tensorrt``.
        onnx: a checked graph (``graph_checks``, ``assert_precision``).
        precision: as the graph's metadata says it.
        timings: of an earlier build, or empty.
        show: told how far it is.

    Raises:
        EngineError: the parser refuses the graph, the build fails or lacks memory: one line each.
        KeyboardInterrupt: Ctrl-C while it was building.
    """
    messages = Messages()
    logger = make_logger(trt, messages)
    builder = _made(lambda: trt.Builder(logger), "TensorRT cannot use this GPU", messages)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise EngineError(f"TensorRT's parser refuses the graph: {parser_errors(parser, messages)}")
    check_network(trt, network, precision)

    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, min(settings.workspace, cuda.memory()[0] // 2))
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = settings.effort
    monitor = make_monitor(trt, Progress(show))
    config.progress_monitor = monitor
    cache = config.create_timing_cache(timings)
    if not config.set_timing_cache(cache, False):
        # Of another version or GPU: begin anew.
        config.set_timing_cache(config.create_timing_cache(b""), False)
    messages.errors.clear()
    plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        if messages.lack_memory():
            free, total = cuda.memory()
            raise out_of_memory("building the plan", settings.workspace, free, total)
        raise EngineError(f"TensorRT cannot build the graph: {messages.cause()}")
    return Built(bytes(memoryview(plan)), _serialised(config))


def parser_errors(parser: Any, messages: Messages) -> str:
    """The first of a parser's errors in one line, and how many more there are."""
    if parser.num_errors == 0:
        return messages.cause()
    error = parser.get_error(0)
    text = " ".join(f"{error.node_operator()} '{error.node_name()}': {error.desc()}".split())
    return text + (f" (and {parser.num_errors - 1} more)" if parser.num_errors > 1 else "")


def check_network(trt: Any, network: Any, precision: str) -> None:
    """Hold the types of a parsed network against the precision: fp16 where it is said, and in no layer that must be fp32.

    Raises:
        EngineError: one line that names the first layer.
    """
    half = [
        layer.name
        for layer in (network.get_layer(i) for i in range(network.num_layers))
        if any(layer.get_output(j).dtype == trt.DataType.HALF for j in range(layer.num_outputs))
    ]
    if precision == PRECISIONS[0] and half:
        raise EngineError(
            f"TensorRT parsed an fp32 graph with layers in fp16: {half[0]} and {len(half) - 1} more"
        )
    if precision != PRECISIONS[0] and not half:
        raise EngineError(f"the graph says '{precision}', but TensorRT parsed no layer of it in fp16")
    wrong = [
        name for name in half if {w for p in name.split("/")[:-1] for w in p.split(".")} & set(FULL_SCOPES)
    ]
    if wrong:
        raise EngineError(
            f"TensorRT parsed layers in fp16 that must be fp32: {wrong[0]} and {len(wrong) - 1} more"
        )


def _serialised(config: Any) -> bytes:
    """The timings of a build; none are kept where TensorRT does not give them."""
    with contextlib.suppress(Exception):
        return bytes(memoryview(config.get_timing_cache().serialize()))
    return b""


def _made(make: Callable[[], Any], fault: str, messages: Messages) -> Any:
    """What TensorRT makes; its constructors raise TypeError where they give nothing."""
    try:
        made = make()
    except (TypeError, RuntimeError) as error:
        raise EngineError(f"{fault}: {messages.cause(error)}") from None
    if made is None:
        raise EngineError(f"{fault}: {messages.cause()}")
    return made
