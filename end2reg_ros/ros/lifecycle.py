"""A lifecycle node that no request can end, and whose own faults are told."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

Self = TypeVar("Self", bound="SteadyLifecycleNode")


class SteadyLifecycleNode(LifecycleNode):
    """Answers requests that do not fit its state with ``success: false``.

    rclpy lets such a request raise out of the executor, which ends the process.

    Attributes:
        exit_code: set where the process is to end; None until then.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.exit_code: int | None = None
        [service] = [s for s in self.services if s.srv_type is ChangeState]
        change = service.callback

        def change_or_refuse(
            request: ChangeState.Request, response: ChangeState.Response
        ) -> ChangeState.Response:
            try:
                return change(request, response)
            except RuntimeError:  # rclpy's RCLError: no such transition from here
                asked = request.transition.label or f"with id {request.transition.id}"
                self.get_logger().warning(f"refused: no transition {asked} from the present state")
                response.success = False
                return response

        service.callback = change_or_refuse

    def attempt(self, transition: Callable[[], TransitionCallbackReturn]) -> bool:
        """Whether one of the node's own ``trigger_...`` fitted its state and succeeded."""
        try:
            return transition() == TransitionCallbackReturn.SUCCESS
        except RuntimeError:
            return False


def told(
    callback: Callable[[Self, LifecycleState], TransitionCallbackReturn],
) -> Callable[[Self, LifecycleState], TransitionCallbackReturn]:
    """A lifecycle callback whose exceptions become one line in the log and exit code 1: rclpy drops them unseen."""

    @wraps(callback)
    def run(self: Self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(self, state)
        except Exception as fault:
            what = callback.__name__.removeprefix("on_")
            text = (str(fault).splitlines() or [""])[0]
            self.get_logger().error(f"{what} failed: {type(fault).__name__}: {text}")
            self.exit_code = 1
            return TransitionCallbackReturn.ERROR

    return run
