"""An app whose handlers write down what they did: what the cutting stories are told about.

The *journal* is outside of the state, so nothing undoes it: it holds the tag of every event that
took effect, in order. *History* holds, for each session, every state that a client may ever see.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections import defaultdict
from typing import Any

import greenroom as gr
from greenroom.testing import ManualClock

INITIAL: dict[str, Any] = {
    "tags": [],
    "count": 0,
    "text": "",
    "nest": {"a": 1, "deep": {"x": [], "y": {"z": "é~/"}}},
    "_private": 0,
}

#: Texts that are awkward on some way: escapes, pointers, surrogate pairs, keys that look special.
TEXTS = ("", "plain", "a/b~c", 'quo"te\\', "line\nfeed", "ümläut", "\U0001f600", "$bytes", "\u2028")
KEYS = ("a", "b/c", "d~e", "f.g", "", "é", "$set")


def canonical(value: Any) -> str:
    """Equal for equal states, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def random_ops(rng: random.Random, count: int) -> list[list[Any]]:
    """Operations for :func:`apply_op`, as a client can send them."""
    ops: list[list[Any]] = []
    for _ in range(count):
        key, text = rng.choice(KEYS), rng.choice(TEXTS)
        ops.append(
            rng.choice(
                [
                    ["set", key, text],
                    ["set", key, rng.randrange(-(10**6), 10**6)],
                    ["set", key, {"k": text, "l": [1, {"m": None}]}],
                    ["delete", key],
                    ["tail", text],
                    ["clear"],
                    ["append", text],
                    ["extend", [text, {"n": 1.5}, None]],
                    ["nested", text],
                    ["branch", key, text],
                    ["prune", key],
                    ["self"],
                    ["private"],
                ]
            )
        )
    return ops


def apply_op(state: Any, op: list[Any]) -> None:
    kind, *args = op
    deep = state["nest"]["deep"]
    match kind:
        case "set":
            state[args[0]] = args[1]
        case "delete":
            del state[args[0]]
        case "tail":
            state["text"] += args[0] or "."
        case "clear":
            state["text"] = ""
        case "append":
            state.append("tags", args[0])
        case "extend":
            deep.extend("x", args[0])
        case "nested":
            deep["y"]["z"] = args[0]
        case "branch":
            deep["y"] = {"z": args[1], args[0]: {"new": True}}
        case "prune":
            deep["y"].pop(args[0], None)
        case "self":
            state["nest"] = state["nest"]
        case "private":
            state["_private"] += 1
        case _:
            raise AssertionError(kind)


class Diary:
    """What handlers write down. Servers that follow on each other share one."""

    def __init__(self) -> None:
        self.journal: list[str] = []
        self.history: dict[str, set[str]] = defaultdict(set)
        self.emitted: dict[str, list[Any]] = defaultdict(list)


class Stage:
    """An app, its diary, and its manual clock."""

    def __init__(self, *, threads: bool = False, after: Stage | None = None, **options: Any):
        self.clock: ManualClock = ManualClock() if after is None else after.clock
        self.diary: Diary = Diary() if after is None else after.diary
        self.threads = threads
        self.dead = False  # killed: nothing takes effect any more
        defaults: dict[str, Any] = {
            "watchdog": 0.0,
            "workers": 2,
            "rate": 0.0,
            "secret": "of this stage" * 3,
        }
        settings = gr.Settings(**(defaults | options))
        self.app = gr.App(
            copy.deepcopy(INITIAL),
            [self.do, self.do_async, self.do_sync, self.fail, self.fail_async, self.barrier],
            settings,
            clock=self.clock,
        )
        self.app.reception.wall = self.clock.time  # so that tokens have the same length again
        self.app.on_open(self.opened_on_worker if threads else self.opened)

    # -- handlers -----------------------------------------------------------------------------

    @gr.handler(inline=True)
    def opened(self, session: gr.Session, state: Any) -> None:
        self.note(session, state)

    def opened_on_worker(self, session: gr.Session, state: Any) -> None:
        self.note(session, state)

    def begin(self, payload: Any) -> None:
        if self.dead:
            raise Expected("this server was killed")
        self.diary.journal.append(payload["tag"])

    def note(self, session: gr.Session, state: Any) -> None:
        """Clients may see this state."""
        self.diary.history[session.id].add(canonical(state.to_dict()))

    def emit(self, session: gr.Session, tag: str) -> None:
        session.emit("app:did", tag)
        self.diary.emitted[session.id].append(tag)

    def work(self, session: gr.Session, state: Any, payload: Any, *, visible: bool) -> None:
        self.begin(payload)
        for op in payload["ops"]:
            apply_op(state, op)
            if visible:
                self.note(session, state)
        state.append("tags", payload["tag"])
        state["count"] += 1
        self.note(session, state)

    @gr.handler(inline=True)
    def do(self, session: gr.Session, state: Any, payload: Any) -> str:
        self.work(session, state, payload, visible=False)
        self.emit(session, payload["tag"])
        return str(payload["tag"])

    def do_sync(self, session: gr.Session, state: Any, payload: Any) -> str:
        self.work(session, state, payload, visible=True)
        self.emit(session, payload["tag"])
        return str(payload["tag"])

    async def do_async(self, session: gr.Session, state: Any, payload: Any) -> str:
        self.begin(payload)
        for op in payload["ops"]:
            apply_op(state, op)
            self.note(session, state)
            await asyncio.sleep(0)
        state.append("tags", payload["tag"])
        state["count"] += 1
        self.emit(session, payload["tag"])
        self.note(session, state)
        return str(payload["tag"])

    @gr.handler(inline=True)
    def fail(self, session: gr.Session, state: Any, payload: Any) -> None:
        self.begin(payload)
        for op in payload["ops"]:
            apply_op(state, op)
        session.emit("app:never", payload["tag"])
        raise Expected(payload["tag"])

    async def fail_async(self, session: gr.Session, state: Any, payload: Any) -> None:
        self.begin(payload)
        for op in payload["ops"]:
            apply_op(state, op)
            self.note(session, state)
            await asyncio.sleep(0)
        session.emit("app:never", payload["tag"])
        raise Expected(payload["tag"])

    @gr.handler(inline=True)
    def barrier(self) -> None:
        """Does nothing: when it is answered, everything before it has arrived."""

    # -- what tests look at -------------------------------------------------------------------

    def choose(self, rng: random.Random) -> str:
        names = ["do", "do", "do", "do_async", "fail", "fail_async"]
        return rng.choice([*names, "do_sync", "do_sync"] if self.threads else names)


class Expected(Exception):
    """What a handler raises on purpose."""
