"""Every error Greenroom raises on purpose.

::

    GreenroomError
    ├── Busy            a bounded queue is full; nothing was queued; try again later
    ├── Closed          the session, link or app has ended
    ├── Cycle           two sessions would wait for each other for ever
    ├── NoApp           a module-level verb was used while no app is current
    ├── NoSession       it is not clear which session is meant
    ├── WouldBlock      a blocking verb was used on the app's own loop
    ├── StaleTurn       state was assigned outside the turn that may assign it
    ├── Detached        a nested state that was removed from its tree was assigned
    ├── TooLarge        a frame is above the limit of its direction
    ├── BadHandler      a function cannot be used as it was registered
    ├── BadPayload      a payload does not fit the handler's annotation
    ├── NotFound        no handler, query or signal of that name is public
    ├── Timeout         an answer did not arrive in time; the work may still run
    ├── Unencodable     a value has no form on the wire
    └── Refused         the other side answered with an error code

Each message says whose fault it was and what to do next. ``code`` is the word that
travels on the wire (see ``docs/protocol.md``).
"""

from __future__ import annotations

__all__ = [
    "BadHandler",
    "BadPayload",
    "Busy",
    "Closed",
    "Cycle",
    "Detached",
    "GreenroomError",
    "NoApp",
    "NoSession",
    "NotFound",
    "Refused",
    "StaleTurn",
    "Timeout",
    "TooLarge",
    "Unencodable",
    "WouldBlock",
]


class GreenroomError(Exception):
    """Base of all errors Greenroom raises on purpose. ``code`` is its word on the wire."""

    code: str = "handler_error"


class Busy(GreenroomError):
    """A bounded queue is full: nothing was queued. ``retry_after`` is in seconds."""

    code = "busy"

    def __init__(self, message: str, retry_after: float = 0.5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Closed(GreenroomError):
    """The session, link or app has ended and takes nothing more."""

    code = "closed"


class Cycle(GreenroomError):
    """Sessions would wait for each other in a circle. ``path`` names their ids in order."""

    code = "cycle"

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class NoApp(GreenroomError):
    """A module-level verb needs a current app: ``with app.registering(): import my_events``."""


class NoSession(GreenroomError):
    """It is not clear which session is meant: pass ``session=`` or use ``app.broadcast``."""


class WouldBlock(GreenroomError):
    """A blocking verb was used on the app's loop: use the ``async`` form there."""


class StaleTurn(GreenroomError):
    """State was assigned outside its turn: use ``with session.turn() as state:``."""


class Detached(GreenroomError):
    """A nested state that was removed or replaced was assigned: read it anew from its parent."""


class TooLarge(GreenroomError):
    """A frame is larger than ``max_frame_in`` or ``max_frame_out``."""

    code = "too_large"


class BadHandler(GreenroomError):
    """A function cannot be used as it was registered: fix its signature or its name."""


class BadPayload(GreenroomError):
    """A payload does not fit the handler's annotation; the handler did not run."""

    code = "bad_payload"


class NotFound(GreenroomError):
    """No handler, query or signal of that name is public."""

    code = "not_found"


class Timeout(GreenroomError, TimeoutError):
    """An answer did not arrive in time. The work may have run, or may still be running."""

    code = "timeout"


class Unencodable(GreenroomError, TypeError):
    """A value has no form on the wire: register an encoder with ``gr.encoders``."""


class Refused(GreenroomError):
    """The other side answered with an error. ``code`` is its word, ``retry_after`` seconds."""

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after
