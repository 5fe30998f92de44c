"""All the knobs, with their units and defaults, in one frozen dataclass."""

from __future__ import annotations

import difflib
import functools
import inspect
import ipaddress
import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

__all__ = ["Settings"]

KIB = 1024
MIB = 1024 * KIB

PREFIX: Final = "GREENROOM_"
# Not for Settings: the build and the tests read these, and Kubernetes gives the others to every
# container near a service that is called "greenroom".
ELSEWHERE: Final = re.compile(
    r"TRACE|DEBUG_COUNTS|SANITIZE|SEED|CUTS|TOUR_\w+|(\w+_)?SERVICE_(HOST|PORT)(_\w+)?|PORT(_\w+)?"
)

#: The directives of a Content-Security-Policy that ``Settings.csp`` may add sources to.
CSP_DIRECTIVES: Final = frozenset(
    (
        *("child-src", "connect-src", "default-src", "font-src", "form-action", "frame-ancestors"),
        *("frame-src", "img-src", "manifest-src", "media-src", "object-src", "script-src"),
        *("style-src", "worker-src"),
    )
)

logger = logging.getLogger("greenroom")


def _default_workers() -> int:
    return min(32, 4 * (os.cpu_count() or 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of one app. Times are in seconds, sizes in bytes unless a comment says otherwise.

    Values come from arguments, from ``GREENROOM_*`` variables (:meth:`from_env`) or from a TOML
    file (:meth:`from_toml`). A limit of 0 is switched off.
    """

    # -- security ---------------------------------------------------------------------------
    secret: str | None = field(default=None, repr=False)  # signs tokens; None: random per start
    debug: bool = False  # error texts and tracebacks reach browsers
    log_to_client: bool = False  # gr:log frames without debug
    expose: Literal["public", "decorated"] = "public"  # which functions browsers may call
    origins: tuple[str, ...] = ()  # further origins that may connect; same origin always may
    hosts: tuple[str, ...] = ()  # Host headers to answer; (): localhost names on a loopback bind
    trusted_proxies: tuple[str, ...] = ()  # peers whose X-Forwarded-For and -Proto are believed
    csp: tuple[str, ...] = ()  # more sources for our pages: "script-src https://cdn.example"
    authorize: Callable[[Any, str, str, Any], Any] | None = None  # (session, action, name, data)
    token_ttl: float = 86_400.0
    metrics: bool = False  # serve /metrics to this machine
    metrics_token: str | None = field(default=None, repr=False)  # and to who brings it as Bearer

    # -- scheduling -------------------------------------------------------------------------
    workers: int = field(default_factory=_default_workers)  # threads for sync handlers
    workers_max: int = 64  # the pool grows to this while all its threads are blocked
    switch_interval: float | None = None  # sys.setswitchinterval; 1 ms under `greenroom run`
    quantum_turns: int = 16  # a session gives way after so many turns
    quantum_time: float = 0.001  # or after so long
    partial_after: float = 0.1  # a turn that runs longer ships what it has so far
    partial_every: float = 0.1  # and again every so often
    on_error: Literal["rollback", "keep"] = "rollback"
    turn_timeout: float | None = None  # reported; an async turn is cancelled. Not of spawned jobs
    watchdog: float = 0.1  # what blocks the loop for longer is named; 0 is off

    # -- mailbox ----------------------------------------------------------------------------
    mailbox_messages: int = 1000
    mailbox_bytes: int = 4 * MIB

    # -- link -------------------------------------------------------------------------------
    max_frame_in: int = 1 * MIB
    max_frame_out: int = 1 * MIB
    inflight: int = 256  # unanswered frames of one link
    ping: float = 20.0
    dead: float = 10.0
    window: float = 120.0  # how long a link without connection can resume
    log_bytes: int = 1 * MIB  # sent and unsent frames kept, each
    total_log_bytes: int = 256 * MIB
    hello_timeout: float = 10.0
    rate: float = 5_000.0  # frames per second and link
    burst: int = 5_000

    # -- sessions ---------------------------------------------------------------------------
    session_ttl: float = 3_600.0
    unused_ttl: float = 30.0
    max_connections: int = 10_000
    max_sessions: int = 100_000
    max_sessions_per_peer: int = 100  # new sessions asked for per minute and peer address
    max_waiting_per_peer: int = 100  # connections of one peer address that are not welcomed yet
    max_hellos: int = 1_000  # that are being answered at once
    max_links: int = 16  # per session

    # -- files ------------------------------------------------------------------------------
    uploads: bool = True  # False: clients may send none
    max_upload: int = 256 * MIB  # one file
    max_uploads: int = 8  # of a session that no payload has named yet
    max_files: int = 1_000  # uploaded files of a session, however small
    file_bytes: int = 1024 * MIB  # uploaded files and downloads in memory, of one session
    total_file_bytes: int = 4096 * MIB  # of all sessions
    upload_dir: str | None = None  # where uploads are kept; None: the system's temporary folder
    file_stall: float = 30.0  # a transfer that moves less than a piece in so long is cut
    file_ttl: float = 300.0  # an upload nobody named, a download nobody fetched, is forgotten

    # -- questions and events ---------------------------------------------------------------
    ask_timeout: float = 10.0
    query_timeout: float = 10.0
    event_queue_size: int = 5
    drain: float = 30.0

    def __post_init__(self) -> None:
        for name, hint in _hints().items():
            value = _fit(name, getattr(self, name), hint)
            object.__setattr__(self, name, value)
            if isinstance(value, (int, float)) and not value >= 0:
                raise ValueError(f"Settings.{name} must not be negative, got {value!r}")
        if inspect.iscoroutinefunction(self.authorize):
            raise TypeError("Settings.authorize must not be async: its answer is needed at once")
        for entry in self.csp:
            _check_csp(entry)
        for name, fits, wanted in LISTS:
            for entry in getattr(self, name):
                if entry != "*" and not fits(entry):
                    raise ValueError(f"Settings.{name}: {entry!r} matches nothing, {wanted}")
        if self.workers < 1 or self.workers_max < self.workers:
            raise ValueError(
                f"Settings.workers ({self.workers}) must be at least 1 and at most "
                f"workers_max ({self.workers_max})"
            )
        for name, allowed in (
            ("expose", ("public", "decorated")),
            ("on_error", ("rollback", "keep")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"Settings.{name} must be one of {', '.join(allowed)}, "
                    f"got {getattr(self, name)!r}"
                )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read ``GREENROOM_<NAME>`` variables; ``overrides`` win. Lists are comma separated.

        Raises ValueError for a variable that looks like a misspelt setting; others that are none
        are named in the log.
        """
        environ = os.environ if environ is None else environ
        hints = _hints()
        values: dict[str, Any] = {}
        for variable, raw in environ.items():
            if not variable.startswith(PREFIX):
                continue
            name = variable.removeprefix(PREFIX)
            if name.lower() in hints and name.isupper() and name != "AUTHORIZE":
                values[name.lower()] = _parse(variable, raw, hints[name.lower()])
            elif not ELSEWHERE.fullmatch(name):
                _unknown_variable(variable, name.lower())
        return cls(**(values | overrides))

    @classmethod
    def from_toml(cls, path: str | Path, **overrides: Any) -> Settings:
        """Read the ``[greenroom]`` table of a TOML file, or its top level when there is none."""
        with open(path, "rb") as file:
            whole = tomllib.load(file)
        table: dict[str, Any] = whole.get("greenroom", whole)
        known = {spec.name for spec in fields(cls)} - {"authorize"}
        for name in table:
            if name not in known:
                near = _nearest(name)
                hint = f"; did you mean {near!r}?" if near else ""
                raise ValueError(
                    f"{path}: unknown setting {name!r}{hint} Known: {', '.join(sorted(known))}"
                )
        return cls(**(table | overrides))

    def but(self, **changes: Any) -> Settings:
        """A copy with some values changed."""
        return replace(self, **changes)


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Settings)


def _nearest(name: str) -> str | None:
    """The setting that ``name`` was probably meant to be."""
    near = difflib.get_close_matches(name.lower(), [*_hints()], 1, cutoff=0.75)
    return near[0] if near else None


def _unknown_variable(variable: str, name: str) -> None:
    """A limit or a secret that somebody believes to be set must not be missing silently."""
    if name == "authorize":
        raise ValueError(f"{variable}: authorize is a function, give it to Settings(authorize=...)")
    near = _nearest(name)
    if near is not None:
        raise ValueError(f"{variable} is no setting: did you mean {PREFIX}{near.upper()}?")
    logger.warning("%s is no setting of Greenroom, and is not looked at", variable)


def _is_network(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return True


# What would silently match nothing is an error: (setting, what fits, what to write).
LISTS: Final[tuple[tuple[str, Callable[[str], object], str], ...]] = (
    (
        "origins",
        re.compile(r"https?://[^/\s*]+/?", re.IGNORECASE).fullmatch,
        "write https://host, or https://host:port; * is all",
    ),
    (
        "hosts",
        re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+)(:\d+)?", re.IGNORECASE | re.ASCII).fullmatch,
        "write host, or host:port, as in the Host header; * is all",
    ),
    ("trusted_proxies", _is_network, "write an address or a network such as 10.0.0.0/8; * is all"),
)


def _check_csp(entry: str) -> None:
    """Raise ValueError for what cannot be added to a Content-Security-Policy."""
    directive, *sources = entry.split() or [""]
    if not entry.isascii() or not entry.isprintable() or set(entry) & set(";,"):
        raise ValueError(f"Settings.csp: {entry!r} has a character that may not stand there")
    if directive not in CSP_DIRECTIVES or not sources:
        raise ValueError(
            f"Settings.csp: {entry!r} should be a directive and its further sources, as in "
            f"'img-src https://images.example'; directives are {', '.join(sorted(CSP_DIRECTIVES))}"
        )


def _fit(name: str, value: Any, hint: Any) -> Any:
    """The value as its field wants it: an int may be a float, a list a tuple; TypeError else."""
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if get_origin(hint) is tuple:
        items = cast("list[Any]", value) if isinstance(value, (list, tuple)) else [None]
        if all(isinstance(item, str) for item in items):
            return tuple(items)
        wanted = "a list of strings"
    elif get_origin(hint) is Callable:
        if callable(value):
            return value
        wanted = "a function"
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
        wanted = "a number"
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        wanted = "a whole number"
    elif hint is bool:
        if isinstance(value, bool):
            return value
        wanted = "true or false"
    elif isinstance(value, str):
        return value
    else:
        wanted = "a string"
    raise TypeError(f"Settings.{name} must be {wanted}, got {value!r}")


def _parse(name: str, raw: str, hint: Any) -> Any:
    """Turn the text of a variable into the type of its field."""
    if get_origin(hint) in (Union, UnionType):
        if raw.lower() in ("", "none"):
            return None
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if get_origin(hint) is tuple:
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    if hint is bool:
        if raw.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
            raise ValueError(f"{name} must be true or false, got {raw!r}")
        return raw.lower() in ("1", "true", "yes", "on")
    if hint in (int, float):
        try:
            return hint(raw)
        except ValueError:
            raise ValueError(f"{name} must be a number, got {raw!r}") from None
    return raw
