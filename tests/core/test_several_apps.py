"""Several apps in one process share nothing but the encoders and the router of stdout.

Two scripts in one process are in `tests/cli/test_load.py`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom import App, Settings


def texts(log: Any) -> list[str]:
    return [record.text for record in log if not record.text.startswith(("browsers may", "  "))]


class Tenant:
    """An app that was put together by the verbs of scripts, as a module would."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.around: list[str] = []
        self.opened: list[str] = []
        self.app = App(settings=Settings(log_to_client=name == "one"))
        with self.app.registering():
            self.register()

    def register(self) -> None:
        gr.init_state({"who": self.name, "rows": [self.name]})

        @gr.middleware()
        def note(event_type: str) -> Iterator[None]:
            self.around.append(event_type)
            yield

        @gr.session_verifier
        def check(headers: Any) -> Any:
            return {"tenant": self.name} if headers.get("tenant") == self.name else False

        gr.on_open(lambda session: self.opened.append(session.id))
        gr.on("app:who", lambda: self.name)
        gr.events.query("q:who", internal=False)(lambda data: self.name)
        gr.events.event("sig:all")(lambda data, state: state["rows"].append(data))
        gr.show(f"<p>{self.name}", label="panel")

        def say(state: Any) -> str:
            print(f"{self.name} says")
            state["said"] = self.name
            gr.emit("app:said", self.name)
            template = gr.current_app().template
            assert template is not None
            return str(template.open().root["who"])

        gr.current_app().handlers.add(say)

    async def visit(self) -> Visitor:
        return await Visitor(self.app, headers={"tenant": self.name}).open()


def test_each_has_its_state_handlers_middlewares_verifiers_signals_and_logs(arun: Any) -> None:
    async def story() -> None:
        one, two = Tenant("one"), Tenant("two")
        with one.app.registering():  # whoever starts them
            await one.app.start()
            await two.app.start()
        try:
            refused = await Visitor(two.app, headers={"tenant": "one"}).hello()
            assert refused["data"]["code"] == "unauthorized"
            visitors = {tenant: await tenant.visit() for tenant in (one, two)}
            for tenant, visitor in visitors.items():
                assert visitor.frames[-1]["data"] == {"who": tenant.name, "rows": [tenant.name]}
                assert await visitor.call("say") == tenant.name
                assert await visitor.call("app:who") == tenant.name
                assert await visitor.call("gr:query", {"name": "q:who"}) == tenant.name
                assert visitor.session.userinfo == {"tenant": tenant.name}
                assert texts(visitor.session.log) == [f"{tenant.name} says"]
                assert texts(tenant.app.log) == []
                assert tenant.around == ["say", "app:who"]
                assert tenant.opened == [visitor.session.id]
                assert tenant.app.views["panel"].html == f"<p>{tenant.name}"
            heard = {t.name: [f["type"] for f in v.frames if f["type"] == "gr:log"]
                     for t, v in visitors.items()}  # fmt: skip
            assert heard == {"one": ["gr:log"], "two": []}  # settings are its own, too

            await one.app.events.trigger("sig:all", "news")
            for tenant, visitor in visitors.items():
                async with visitor.session.turn() as state:
                    more = ["news"] if tenant is one else []
                    assert state["rows"] == [tenant.name, *more]
            one.app.broadcast("app:news")
            await visitors[one].until("app:news")
            assert not visitors[two].line.arrived
            for visitor in visitors.values():
                visitor.line.close()
        finally:
            await one.app.stop()
            assert two.app.running
            session = two.app.open_session()
            await session.ask("say")
            assert texts(session.log) == ["two says"]  # the router stays for the other
            await two.app.stop()

    arun(story)


async def on_loop() -> App:
    return gr.current_app()


def on_worker() -> App:
    return gr.current_app()


async def across_an_await() -> App:
    await asyncio.sleep(0)
    return gr.current_app()


async def in_to_thread() -> App:
    return await asyncio.to_thread(gr.current_app)


async def in_a_task() -> App:
    return await asyncio.create_task(across_an_await())


def in_a_bare_thread() -> App:
    found: list[Any] = []

    def look() -> None:
        try:
            found.append(gr.current_app())
        except gr.NoApp as error:
            found.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "look", [on_loop, on_worker, across_an_await, in_to_thread, in_a_task],
    ids=lambda fn: fn.__name__,
)  # fmt: skip
def test_the_current_app_is_that_of_the_turn_whoever_started_it(arun: Any, look: Any) -> None:
    async def story() -> None:
        one, two = App(handlers=[look]), App(handlers=[look])
        with one.registering():
            async with one, two:
                asks = [app.open_session().ask(look.__name__) for app in (one, two)]
                assert await asyncio.gather(*asks) == [one, two]
                with two.registering():
                    assert gr.current_app() is two
                assert gr.current_app() is one

    arun(story)


def test_a_thread_without_a_turn_has_no_app_at_hand(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=[in_a_bare_thread]) as app:
            with pytest.raises(gr.NoApp, match="no app is current here"):
                await app.open_session().ask("in_a_bare_thread")

    arun(story)


def test_a_turn_may_register_with_another_app(arun: Any) -> None:
    """The innermost `registering` is meant, also in a turn."""

    async def story() -> None:
        other = App()

        def register() -> None:
            with other.registering():
                gr.on("app:late", lambda: "late")

        async with App(handlers=[register]) as app, other:
            await app.open_session().ask("register")
            assert await other.open_session().ask("app:late") == "late"
            with pytest.raises(gr.NotFound):
                app.open_session().tell("app:late")

    arun(story)


def test_apps_on_loops_of_their_own_in_threads(capfd: pytest.CaptureFixture[str]) -> None:
    """Each with its loop and thread; their sessions print at the same time."""

    def say(session: Any) -> bool:
        for number in range(50):
            meeting.wait(30)
            print(session.id, number)
        return gr.current_app() is session.app

    meeting = threading.Barrier(2)
    one, two = App(handlers=[say]), App(handlers=[say])
    with one.running_in_thread(), two.running_in_thread():
        sessions = [app.open_session() for app in (one, two)]
        assert [answer.result() for answer in [s.ask("say", timeout=30) for s in sessions]] == [
            *(True, True)
        ]
        for session in sessions:
            assert texts(session.log) == [f"{session.id} {number}" for number in range(50)]
