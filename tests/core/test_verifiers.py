"""Session verifiers: their shapes, and what the log says of those that say something strange.

What a yes and a no do to sessions is in `test_reception.py`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom import App, BadHandler


def shapes() -> dict[str, Callable[..., Any]]:
    """Verifiers that let in who has the header ``user``, and say who it is."""

    def plain(headers: Any, session: Any) -> Any:
        user = headers.get("user")
        return {"name": user, "first": session is None} if user else False

    async def asynchronous(headers: Any, session: Any) -> Any:
        await asyncio.sleep(0)
        return plain(headers, session)

    def awaitable(headers: Any, session: Any) -> Any:
        return asynchronous(headers, session)

    def keyword_only(*, session: Any, headers: Any, strict: bool = True) -> Any:
        return plain(headers, session) if strict else True

    def configured(key: str, headers: Any, session: Any) -> Any:
        return plain({"user": headers.get(key)}, session)

    class Door:
        def __call__(self, session: Any, headers: Any) -> Any:
            return plain(headers, session)

        async def method(self, session: Any, headers: Any) -> Any:
            return plain(headers, session)

    @functools.wraps(plain)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    return {
        "plain": plain,
        "async": asynchronous,
        "awaitable": awaitable,
        "keyword-only": keyword_only,
        "partial": functools.partial(configured, "user"),
        "callable": Door(),
        "async method": Door().method,
        "wrapped": wrapped,
    }


@pytest.mark.parametrize("shape", list(shapes()))
def test_every_shape_is_asked_at_a_first_hello_and_at_a_resume(arun: Any, shape: str) -> None:
    async def story() -> None:
        app = App()
        fn = shapes()[shape]
        assert app.session_verifier(fn) is fn
        async with app:
            assert (await Visitor(app).hello())["data"]["code"] == "unauthorized"
            ada = await Visitor(app, headers={"user": "Ada"}).open()
            assert ada.session.userinfo == {"name": "Ada", "first": True}
            session = ada.session
            again = await Visitor(app, headers={"user": "Ada"}).open(token=ada.welcome["token"])
            assert session.userinfo == {"name": "Ada", "first": False}
            again.line.close()
            ada.line.close()

    arun(story)


@pytest.mark.parametrize(
    "wrong", [None, 1, 0, "yes", "", [("a", 1)], {1}, iter(())], ids=lambda w: repr(w)[:12]
)
def test_what_is_no_verdict_lets_nobody_in_and_is_said(arun: Any, wrong: Any) -> None:
    async def story() -> None:
        app = App()

        @app.session_verifier
        def forgetful() -> Any:
            return wrong

        async with app:
            assert (await Visitor(app).hello())["data"]["code"] == "unauthorized"
            said = [record.text for record in app.log if record.level == "error"]
            assert len(said) == 1
            assert "forgetful (" in said[0]
            assert f"returned {wrong!r}, which lets nobody in: return True, False or a" in said[0]

    arun(story)


def test_a_no_is_not_said_and_an_exception_is_with_its_place(arun: Any) -> None:
    async def story() -> None:
        app = App()
        answers: list[Any] = [False, LookupError("users are away")]

        @app.session_verifier
        async def strict() -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with app:
            for _ in range(2):
                close = (await Visitor(app).hello())["data"]
                assert (close["code"], close["retry"]) == ("unauthorized", "never")
                assert "users are away" not in str(
                    close
                )  # whose fault it was is not their business
            (said,) = [record for record in app.log if record.level == "error"]
            assert "the session verifier test_a_no" not in said.text
            assert "strict (" in said.text
            assert "LookupError: users are away" in said.text
            assert "answers.pop" in str(said.traceback) or "raise answer" in str(said.traceback)

    arun(story)


def test_one_that_wants_more_is_refused_when_it_is_registered() -> None:
    app = App()
    with pytest.raises(BadHandler, match=r"session verifier check .*nothing can be given to state"):

        @app.session_verifier
        def check(state: Any) -> bool:
            return True

    assert app.verifiers == []


def test_the_decorator_with_and_without_parentheses() -> None:
    app = App()
    with app.registering():

        @gr.session_verifier
        def bare() -> bool:
            return True

        @gr.session_verifier()
        def called() -> bool:
            return True

    assert len(app.verifiers) == 2
    assert bare()
    assert called()


def test_the_first_no_ends_the_asking(arun: Any) -> None:
    async def story() -> None:
        app = App()
        asked: list[str] = []

        def verifier(name: str, verdict: Any) -> Callable[[], Any]:
            def ask() -> Any:
                asked.append(name)
                return verdict

            return ask

        for name, verdict in (("one", {"a": 1}), ("two", False), ("three", True)):
            app.session_verifier(verifier(name, verdict))
        async with app:
            await Visitor(app).hello()
        assert asked == ["one", "two"]

    arun(story)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_it_has_the_app_at_hand_and_its_output_is_the_apps(arun: Any, kind: str) -> None:
    """It runs in no turn: there is no session yet."""

    async def story() -> None:
        app, other = App(), App()

        def check(headers: Any) -> bool:
            print(f"{kind} asked by {headers['user']}")
            return gr.current_app() is app

        async def check_async(headers: Any) -> bool:
            return check(headers)

        app.session_verifier(check if kind == "sync" else check_async)
        with other.registering():
            async with app:
                visitor = await Visitor(app, headers={"user": "Ada"}).open()
                assert f"{kind} asked by Ada" in [record.text for record in app.log]
                assert len(visitor.session.log) == 0
                visitor.line.close()

    arun(story)
