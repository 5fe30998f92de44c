"""Shared by the tests of the state: sessions in a turn, and what clients would get."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from greenroom.core.encode import Segmented, render
from greenroom.core.state import Ledger, State, Template


def opened(values: dict[str, Any] | State | None = None) -> tuple[Ledger, State]:
    """A session in a turn."""
    ledger = Template(values if values is not None else {}).open()
    ledger.open()
    return ledger, ledger.root


def patch_of(ledger: Ledger) -> dict[str, Any] | None:
    """Commit, ship and decode."""
    if ledger.in_turn:
        ledger.commit(True)
    patch = ledger.ship()
    ledger.shipped()
    return None if patch is None else json.loads(patch.encode())


def changes(state: State) -> dict[str, Any]:
    """The decoded patch of a state on its own."""
    found: dict[str, Any] = json.loads(state.take_patch().encode())
    return found


def seen(snapshot: tuple[bytes | Segmented, int]) -> dict[str, Any]:
    """The document of somebody who gets a snapshot."""
    found: dict[str, Any] = json.loads(render(snapshot[0], False, []))
    return found


def in_thread(call: Callable[[], Any]) -> Any:
    """The result of a call in another thread, or its exception raised here."""
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((call(), None))
        except BaseException as error:
            box.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result, error = box[0]
    if error is not None:
        raise error
    return result
