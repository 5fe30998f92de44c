"""All the knobs, with their units and defaults, in one frozen dataclass."""

from __future__ import annotations

import functools
import inspect
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

__all__ = ["Settings"]

KIB = 1024
MIB = 1024 * KIB


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
    trusted_proxies: tuple[str, ...] = ()  # peers whose X-Forwarded-For is believed
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
    turn_timeout: float | None = None  # reported; an async turn is cancelled
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
    max_sessions_per_peer: int = 100  # new sessions per minute and peer address
    max_links: int = 16  # per session

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
        """Read ``GREENROOM_<NAME>`` variables; ``overrides`` win. Lists are comma separated."""
        environ = os.environ if environ is None else environ
        hints = _hints()
        values: dict[str, Any] = {}
        for spec in fields(cls):
            raw = environ.get(f"GREENROOM_{spec.name.upper()}")
            if raw is not None and spec.name != "authorize":
                values[spec.name] = _parse(f"GREENROOM_{spec.name.upper()}", raw, hints[spec.name])
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
                raise ValueError(
                    f"{path}: unknown setting {name!r}; known: {', '.join(sorted(known))}"
                )
        return cls(**(table | overrides))

    def but(self, **changes: Any) -> Settings:
        """A copy with some values changed."""
        return replace(self, **changes)


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Settings)


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
