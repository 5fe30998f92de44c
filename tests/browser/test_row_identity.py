"""Rows of a list that have ids (`data-gr-id`): they follow their item, wherever it goes."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect
from tests.browser.conftest import Server, Visit, Watch

Serve = Callable[..., Server]

TASKS = [
    {"id": 1, "title": "one", "tags": ["a", "b"]},
    {"id": 2, "title": "two", "tags": ["c"]},
    {"id": 3, "title": "three", "tags": []},
]


@pytest.fixture
def rows(serve: Serve) -> Server:
    return serve("greenroom", "run", "tests/browser/pages/ids")


# A browser that can move nodes as they are, and one that can only take them out and put them in.
@pytest.fixture(params=["moves", "inserts"])
def old(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "inserts")


async def opened(visit: Visit, rows: Server, *, old: bool = False) -> Page:
    page = await visit("about:blank")
    if old:
        await page.add_init_script("delete Element.prototype.moveBefore")
    await page.goto(rows.url)
    await expect(titles(page)).to_have_text(["one", "two", "three"])
    assert await page.evaluate("Boolean(document.body.moveBefore)") is not old
    await page.evaluate(
        """() => {
            for (const row of document.querySelectorAll("#tasks li")) {
                row.was = row.querySelector("b")?.textContent ?? "end";
            }
            globalThis.left = 0;
            addEventListener("focusout", () => (left += 1), true);
        }"""
    )
    return page


def titles(page: Page) -> Locator:
    return page.locator("#tasks b")


def task(number: int, title: str | None = None, tags: list[str] | None = None) -> dict[str, Any]:
    return {"id": number, "title": title or f"task {number}", "tags": tags or []}


async def put(page: Page, tasks: list[Any]) -> None:
    await page.evaluate("tasks => gr.call('put', { tasks })", tasks)


async def shown(page: Page) -> Any:
    """Of each row: the title it began with, what it shows, and what its tags show."""
    return await page.locator("#tasks li").evaluate_all(
        """rows => rows.slice(0, -1).map((row) => [
            row.was ?? null, row.querySelector("b").textContent, row.querySelector("i").textContent,
            row.querySelector("input").value,
            [...row.querySelectorAll("em")].map((one) => one.textContent),
        ])"""
    )


def expected(tasks: list[Any], begun: dict[int, str]) -> list[Any]:
    return [
        [
            begun.get(one["id"]),
            one["title"],
            str(place),
            one["title"],
            [text for tag in one["tags"] for text in (one["title"], tag)],
        ]
        for place, one in enumerate(tasks)
    ]


BEGUN = {1: "one", 2: "two", 3: "three"}


async def test_a_row_at_the_top_moves_nothing_else(visit: Visit, rows: Server, old: bool) -> None:
    page = await opened(visit, rows, old=old)
    note = page.locator("#tasks textarea").nth(1)
    await note.fill("\n".join(map(str, range(50))))
    await note.evaluate("note => (note.scrollTop = 300)")
    field = page.locator("#tasks input").nth(1)
    await field.focus()
    await field.press("Home")
    await page.keyboard.type("n")
    await page.evaluate("left = 0")
    tasks = [task(9, tags=["new"]), *TASKS]
    await put(page, tasks)
    await page.keyboard.type("ext ")  # the caret is where it was
    await expect(page.locator("#tasks input").nth(2)).to_be_focused()
    await expect(page.locator("#tasks input").nth(2)).to_have_value("next two")
    assert await page.locator("#tasks textarea").nth(2).evaluate("one => one.scrollTop") == 300
    assert await page.evaluate("left") == 0
    await page.keyboard.press("Enter")
    await expect(titles(page)).to_have_text(["task 9", "one", "next two", "three"])
    tasks[2] = tasks[2] | {"title": "next two"}
    assert await shown(page) == expected(tasks, BEGUN)


async def test_events_know_where_their_row_is_now(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    await put(page, [task(8), task(9), *TASKS])
    await page.locator("#tasks button").nth(1).click()
    await expect(page.locator("#seen")).to_contain_text('"place":2')
    seen = json.loads(await page.locator("#seen").inner_text())
    assert (seen["place"], seen["task"], seen["tag"]) == (2, TASKS[0], "b")


async def test_rows_follow_their_items_through_all_changes(
    visit: Visit, rows: Server, old: bool
) -> None:
    page = await opened(visit, rows, old=old)
    chance = random.Random(7)
    tasks: list[Any] = TASKS
    begun, last = dict(BEGUN), 3
    field = page.locator("#tasks li", has_text="two").locator("textarea")
    await field.focus()
    for step in range(40):
        kept = [one for one in tasks if one["id"] == 2 or chance.random() < 0.8]
        new = [task(last + n, tags=["t"] * n) for n in range(1, chance.randrange(4) + 1)]
        last += len(new)
        tasks = [*kept, *new]
        if step % 3:
            chance.shuffle(tasks)
        one = chance.randrange(len(tasks))
        tasks[one] = tasks[one] | {"title": f"step {step}", "tags": ["s", str(step)]}
        await put(page, tasks)
        assert await shown(page) == expected(tasks, begun)
        await page.locator("#tasks li").evaluate_all(
            "rows => rows.forEach((row) => (row.was ??= row.querySelector('b').textContent))"
        )
        begun |= {one["id"]: one["title"] for one in tasks if one["id"] not in begun}
        place = [one["id"] for one in tasks].index(2)
        await page.keyboard.type("x")
        note = page.locator("#tasks textarea").nth(place)
        await expect(note).to_have_value("x" * (step + 1))
        await expect(note).to_be_focused()
    assert await page.evaluate("left") == 0
    await expect(page.locator("#tasks li").last).to_have_text("after the tasks")


async def test_what_every_row_shows_of_the_rest_of_the_state(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    await put(page, TASKS[::-1])
    await page.evaluate("gr.call('put', { flag: 'down' })")
    await expect(page.locator("#tasks u")).to_have_text(["down"] * 3)


async def test_a_row_that_moves_stays_scrolled(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    note = page.locator("#tasks textarea")
    await note.first.fill("\n".join(map(str, range(50))))
    await note.first.evaluate("note => (note.scrollTop = 300)")
    await page.locator("#tasks textarea").nth(1).focus()
    await put(page, TASKS[1:] + TASKS[:1])
    await expect(note.nth(2)).to_have_value(re.compile("49"))
    assert await note.nth(2).evaluate("note => note.scrollTop") == 300


async def test_what_is_the_same_in_a_moved_row_is_not_shown_anew(
    visit: Visit, rows: Server
) -> None:
    page = await opened(visit, rows)
    await titles(page).evaluate_all("all => all.forEach((one) => (one.firstChild.was = true))")
    await put(page, [task(9), TASKS[0] | {"title": "new"}, *TASKS[1:]])
    await expect(titles(page)).to_have_text(["task 9", "new", "two", "three"])
    was = await titles(page).evaluate_all("all => all.map((one) => one.firstChild.was ?? false)")
    assert was == [False, False, True, True]  # a selection in them would be lost


async def test_as_few_rows_as_possible_are_moved(visit: Visit, rows: Server, old: bool) -> None:
    page = await opened(visit, rows, old=old)
    six = [task(n) for n in range(6)]
    for before, after, moved in (
        ([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0], [0]),
        ([0, 1, 2, 3, 4, 5], [5, 0, 1, 2, 3, 4], [5]),
        ([0, 1, 2, 3, 4, 5], [0, 4, 2, 3, 1, 5], [1, 4]),
        ([0, 1, 2, 3, 4, 5], [0, 2, 4], []),
        ([0, 2, 4], [0, 1, 2, 3, 4, 5], []),
    ):
        await put(page, [six[n] for n in before])
        await page.evaluate(
            """() => {
                globalThis.taken = [];
                globalThis.observer = new MutationObserver((all) => taken.push(...all));
                observer.observe(tasks, { childList: true });
            }"""
        )
        await put(page, [six[n] for n in after])
        seen = await page.evaluate(
            """() => {
                taken.push(...observer.takeRecords());
                observer.disconnect();
                const rows = taken.flatMap((one) => [...one.removedNodes])
                    .filter((one) => one.matches?.("li"));
                return [...new Set(rows)].filter((row) => row.isConnected)
                    .map((row) => row.querySelector("b").textContent);
            }"""
        )
        assert sorted(seen) == [f"task {n}" for n in moved]


async def test_the_row_with_the_focus_stays_and_the_others_move(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows, old=True)
    await page.locator("#tasks textarea").first.focus()
    for order in ([2, 3, 1], [1, 2, 3], [3, 1, 2], [3, 2, 1]):  # moving one alone would be shortest
        await put(page, [TASKS[n - 1] for n in order])
        await expect(page.locator("#tasks textarea").nth(order.index(1))).to_be_focused()
    assert await page.evaluate("left") == 0


async def test_an_item_can_be_its_own_id(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    words = page.locator("#words span")
    await words.evaluate_all("all => all.forEach((one) => (one.was = one.textContent))")
    await page.evaluate("gr.call('put', { words: ['new', 'z', 'x', 7, '7'] })")
    await expect(words).to_have_text(["new", "z", "x", "7", "7"])
    was = await words.evaluate_all("all => all.map((one) => one.was ?? null)")
    assert was == [None, "z", "x", None, None]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([*TASKS, task(2, "two again")], "rows 1 and 3 of tasks have the same"),
        ([*TASKS, {"title": "no id", "tags": []}], "row 3 of tasks has no"),
        ([*TASKS, {"id": {"a": 1}, "title": "odd", "tags": []}], "row 3 of tasks has no"),
        ([*TASKS, None], "row 3 of tasks has no"),
    ],
)
async def test_ids_that_are_none_are_told_and_nothing_is_lost(
    visit: Visit, rows: Server, watch: Watch, bad: list[Any], said: str
) -> None:
    watch.expect(f'console error: greenroom: data-gr-id="task.id": {said}')
    page = await opened(visit, rows)
    for tasks in (bad, [TASKS[0], *bad[1:]]):  # said once
        await put(page, tasks)
        wanted = [(one or {"title": ""})["title"] for one in tasks]
        await expect(titles(page)).to_have_text(wanted)
    assert len(watch.faults) == 1
    mended = [task(9), *TASKS[::-1]]
    await put(page, mended)
    assert await shown(page) == expected(mended, BEGUN)
    await put(page, bad)
    assert len(watch.faults) == 2  # and again, when it happens again


async def test_an_id_that_is_not_of_the_item_is_told(
    visit: Visit, rows: Server, watch: Watch
) -> None:
    watch.expect('data-gr-id="id" .*: "valueVariable.id"')
    page = await opened(visit, rows)
    await page.evaluate(
        """() => {
            const list = document.body.appendChild(document.createElement("ol"));
            list.id = "odd";
            list.innerHTML = `<template data-gr-each="tasks" data-gr-id="id">
                <li data-gr-text="valueVariable.title"></li></template>`;
            gr.bind(list);
        }"""
    )
    await expect(page.locator("#odd li")).to_have_text(["one", "two", "three"])
    await put(page, TASKS[1:])
    await expect(page.locator("#odd li")).to_have_text(["two", "three"])
    assert len(watch.faults) == 1


async def test_rows_of_a_dict_have_their_keys(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    await page.evaluate("gr.call('put', { words: { a: 'same', b: 'same' } })")
    await expect(page.locator("#words span")).to_have_text(["same", "same"])
    await page.locator("#words span").evaluate_all("([a, b]) => { a.was = 'a'; b.was = 'b'; }")
    await page.evaluate("gr.call('put', { words: { b: 'new', a: 'same' } })")
    was = await page.locator("#words span").evaluate_all("all => all.map((one) => one.was)")
    assert was == ["b", "a"]


async def test_events_of_opening_happen_once_for_an_item(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    await page.evaluate(
        """() => {
            globalThis.opens = [];
            gr.onFrame((way, { type, context }) => type === "see" && opens.push(context.one.id));
            const list = document.body.appendChild(document.createElement("div"));
            list.innerHTML = `<template data-gr-each="tasks" data-gr-item="one" data-gr-id="one.id">
                <p data-gr-on:open="see"></p></template>`;
            gr.bind(list);
        }"""
    )
    await put(page, [task(9), *TASKS[::-1]])
    assert await page.evaluate("opens") == [1, 2, 3, 9]


async def test_what_was_typed_into_a_row_that_goes_is_sent_for_its_item(
    visit: Visit, rows: Server
) -> None:
    page = await opened(visit, rows)
    await page.evaluate(
        """() => {
            globalThis.sent = [];
            gr.onFrame((way, { type, data, context }) => {
                if (type === "see") sent.push([data, context.one.title, context.at]);
            });
            const list = document.body.appendChild(document.createElement("div"));
            list.innerHTML = `<template data-gr-each="tasks" data-gr-item="one" data-gr-key="at"
                data-gr-id="one.id"><input data-gr-on:input="see"></template>`;
            gr.bind(list);
            globalThis.fields = list.querySelectorAll("input");
            gr.call("put", { tasks: gr.get("tasks").slice(1) });
            fields.forEach((field, i) => {
                field.value = `text ${i}`;
                field.dispatchEvent(new Event("input", { bubbles: true }));
            });
        }"""
    )
    while len(sent := await page.evaluate("sent")) < 3:
        pass  # asking takes a while
    assert sent == [["text 0", "one", 0], ["text 1", "two", 0], ["text 2", "three", 1]]
