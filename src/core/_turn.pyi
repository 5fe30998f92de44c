"""A message, the turn that executes it, and how a function is called in it."""

from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, final

__pyx_capi__: dict[str, object]  # what other modules call without going through Python

def current_turn() -> Turn | None:
    """The turn this context belongs to, or None.

    A task that was started in a turn and outlives it still sees it, with ``ended`` true.
    """

def enter_turn(turn: Turn) -> object:
    """Make ``turn`` the current one of this context; a token for leave_turn()."""

def leave_turn(token: object) -> None:
    """Undo enter_turn()."""

@final
class Message:
    """One thing for a session to do: a client's event, a tell, a timer, a signal, a query.

    ``handlers`` are objects with a ``plan`` (a CallPlan), ``place`` and ``is_async``. ``reply`` is
    None, a future of the app's loop, or any object with ``answer(value)`` and ``fail(error)``.
    """

    event: str
    payload: Any
    handlers: tuple[Any, ...]
    context: dict[str, Any] | None
    lane: int
    place: int
    size: int
    label: str
    reply: Any
    link: Any
    id: Any
    wrapped: bool
    concurrent: bool
    hold: bool
    silent: bool
    value: Any
    failure: BaseException | None
    def __init__(
        self,
        event: str,
        payload: Any = None,
        handlers: tuple[Any, ...] = (),
        *,
        context: dict[str, Any] | None = None,
        lane: int = 2,
        place: int = 0,
        size: int = 0,
        label: str = "main",
        reply: Any = None,
        link: Any = None,
        id: Any = None,
        wrapped: bool = True,
        concurrent: bool = False,
        hold: bool = False,
        silent: bool = False,
    ) -> None: ...
    @property
    def session(self) -> Any:
        """Of an ask with a deadline, until it is over."""
    @property
    def deadline(self) -> float:
        """When an ask gives up, on the scheduler's clock; 0: never."""
    @property
    def stage(self) -> int:
        """Where it is in its life: 0 new, 1 queued, 2 running, 3 over."""

@final
class Turn:
    """The execution of one message by one session."""

    outbox: list[Any] | None
    result: Any
    error: BaseException | None
    task: Any
    started: float
    pushed: float
    cancelled: bool
    timed_out: bool
    reported: bool
    variables: Context | None
    def __init__(
        self,
        session: Any = None,
        message: Message | None = None,
        *,
        ledger: Any = None,
        app: Any = None,
        variables: Context | None = None,
        concurrent: bool = False,
        started: float = 0.0,
    ) -> None: ...
    @property
    def session(self) -> Any: ...
    @property
    def message(self) -> Message: ...
    @property
    def ledger(self) -> Any: ...
    @property
    def app(self) -> Any: ...
    @property
    def concurrent(self) -> bool: ...
    @property
    def ended(self) -> bool: ...
    @property
    def state(self) -> Any:
        """The writable root; for a job beside the turns the read-only view."""
    @property
    def payload(self) -> Any:
        """What the message carries, as it came."""
    @property
    def context(self) -> dict[str, Any]:
        """A dict of its own: the client's keys under ``handler``, ``label`` and ``session_id``."""
    @property
    def event_type(self) -> str:
        """The name of the event."""
    @property
    def label(self) -> str:
        """The label of the view the message came from."""
    def end(self) -> None:
        """Mark it as over. The runner's; what outlives the turn sees ``ended``."""

@final
class CallPlan:
    """How to call one function in a turn: which slot of the turn each argument gets.

    ``positional`` are the slots (types.Slot) of the leading arguments, ``keywords`` pairs of
    parameter name and slot. ``convert`` turns the payload into what the function declared, or
    raises BadPayload.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        positional: Sequence[int] = (),
        keywords: Sequence[tuple[str, int]] = (),
        convert: Callable[[Any], Any] | None = None,
    ) -> None: ...
    @property
    def fn(self) -> Callable[..., Any]: ...
    @property
    def positional(self) -> tuple[int, ...]: ...
    @property
    def keywords(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def convert(self) -> Callable[[Any], Any] | None: ...
    def __call__(self, turn: Turn, /) -> Any:
        """Call the function with what ``turn`` has for it."""
