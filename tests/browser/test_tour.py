"""The tour, as a visitor meets it: every card, in a real browser, from a real server."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, WebSocketRoute, expect
from tests.browser.conftest import ROOT, Server, Visit, Watch
from tests.support.proxy import Proxy
from tests.support.rawws import LOCALHOST

TOUR = ("greenroom", "run", "examples/tour")
SOURCE = (ROOT / "examples/tour/main.py").read_text("utf-8")
BROKEN_LINE = r"WebSocket connection|net::ERR_"  # what Chromium says when the network fails

CARDS = [
    *("counter", "stream", "job", "form", "files", "camera", "question"),
    *("table", "shared", "windows", "crash", "cable"),
]

Serve = Callable[..., Server]


@pytest.fixture
def tour(serve: Serve) -> Server:
    """The tour in a hurry: the job takes a quarter of a second."""
    return serve(*TOUR, GREENROOM_TOUR_SPEED="20")


@pytest.fixture
def patient_tour(serve: Serve) -> Server:
    """The tour with time: the job takes twenty seconds."""
    return serve(*TOUR, GREENROOM_TOUR_SPEED="0.25")


@pytest.fixture
def proxy(tour: Server) -> Generator[Proxy]:
    with Proxy(tour.port) as proxy:
        yield proxy


def url_of(proxy: Proxy) -> str:
    return f"http://127.0.0.1:{proxy.port}/"


def button(page: Page, card: str, name: str) -> Locator:
    return page.locator(f"#{card}").get_by_role("button", name=name, exact=True)


def bound(page: Page, card: str, path: str) -> Locator:
    return page.locator(f'#{card} [data-gr-text="{path}"]')


async def live(page: Page) -> None:
    await expect(page.locator("#status-text")).to_have_text("live")
    await expect(bound(page, "counter", "count")).not_to_be_empty()


async def frames(page: Page, kind: str) -> list[Any]:
    """The data of the frames of a type that the panel shows, newest first."""
    texts = await page.locator(f'#frames-list li[data-type="{kind}"] .data').all_text_contents()
    return [json.loads(text) for text in texts if "characters" not in text]


async def no_sideways_scrolling(page: Page) -> None:
    """Nothing is wider than the window, apart from what has a scroll bar of its own."""
    wide = await page.evaluate(
        """() => [...document.querySelectorAll("body *")]
            .filter((element) => element.getBoundingClientRect().right > innerWidth)
            .filter((element) => !element.parentElement.closest("pre, .unseen"))
            .filter((element) => element.checkVisibility())
            .map((element) => element.outerHTML.slice(0, 200))"""
    )
    assert not wide
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# -- the page -----------------------------------------------------------------------------------


async def test_each_card_shows_the_code_that_runs(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await live(page)
    for card in CARDS:
        codes = page.locator(f"#{card} pre code")
        for text in await codes.all_text_contents():
            assert text.strip(), card
    for element in await page.locator("[data-source]").all():
        for piece in re.split(r"\n\n(?=\S)", await element.inner_text()):
            assert piece.strip() in SOURCE
    assert await page.locator("#counter .keyword").count() > 0


async def test_the_page_waits_in_good_order_for_its_first_state(visit: Visit, tour: Server) -> None:
    page = await visit("about:blank")
    curtain = ["closed"]

    def connect(socket: WebSocketRoute) -> None:
        if not curtain:
            socket.connect_to_server()  # else it is open, and nothing is ever answered

    await page.route_web_socket(re.compile(r"/ws$"), connect)
    await page.goto(tour.url)
    await expect(page.locator("#frames-list li")).to_contain_text("gr:hello")
    await expect(page.locator("#status-text")).to_have_text("connecting")
    shown = await page.locator("body").inner_text()
    assert not re.search(r"undefined|null|NaN|\[object|data-gr", shown.partition("Frames")[0])
    await no_sideways_scrolling(page)
    curtain.clear()
    await page.reload()
    await live(page)


async def test_the_page_asks_for_each_of_its_files_once(
    visit: Visit, tour: Server, watch: Watch
) -> None:
    page = await visit(tour.url)
    await live(page)
    assert len(watch.requests) == len(set(watch.requests))


# -- the cards ----------------------------------------------------------------------------------


async def test_the_counter_counts(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    for _ in range(3):
        await button(page, "counter", "One more").click()
    await button(page, "counter", "One less").click()
    await expect(bound(page, "counter", "count")).to_have_text("2")


async def test_a_reload_is_the_same_session_and_a_new_visitor_is_not(
    visit: Visit, tour: Server
) -> None:
    page = await visit(tour.url)
    await button(page, "counter", "One more").click()
    await expect(bound(page, "counter", "count")).to_have_text("1")
    await page.reload()
    await expect(bound(page, "counter", "count")).to_have_text("1")
    stranger = await visit(tour.url)
    await expect(bound(stranger, "counter", "count")).to_have_text("0")


async def test_words_stream_and_only_their_tail_travels(visit: Visit, serve: Serve) -> None:
    page = await visit(serve(*TOUR, GREENROOM_TOUR_SPEED="4").url)
    await button(page, "stream", "What is a turn?").click()
    answer = page.locator("#answer")
    await expect(answer).to_contain_text("A turn is one message")
    await expect(answer).to_contain_text("and then it counts.")
    assert [data for data in await frames(page, "gr:state") if "/answer" in data.get("+", {})]


async def test_a_job_runs_to_its_end_and_says_so(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await button(page, "job", "Paint the set").click()
    await expect(bound(page, "job", "job.done")).to_have_text("50")
    await expect(page.locator("#job-note")).to_have_text("The set is painted")
    await expect(page.locator("#job progress")).to_have_js_property("value", 50)
    await expect(page.locator(".gr-toast")).to_contain_text("The set is painted")


async def test_a_job_can_be_cancelled_and_nothing_waits_for_it(
    visit: Visit, patient_tour: Server
) -> None:
    page = await visit(patient_tour.url)
    await button(page, "job", "Paint the set").click()
    await expect(bound(page, "job", "job.done")).not_to_have_text("0")
    await button(page, "counter", "One more").click()
    await expect(bound(page, "counter", "count")).to_have_text("1")
    await expect(page.locator("#job-note")).to_have_text("Painting the set")
    await button(page, "job", "Cancel").click()
    await expect(page.locator("#job-note")).to_have_text("Cancelled")

    # A job that was not really cancelled would count on beside the new one.
    await page.locator("#frames-clear").click()
    await button(page, "job", "Paint the set").click()
    done: list[int] = []
    while len(done) < 5:  # asking takes a while; what the page shows may still be the first job's
        patches = [data["="] for data in reversed(await frames(page, "gr:state"))]
        done = [patch["/job/done"] for patch in patches if "/job/done" in patch]
    assert done == list(range(len(done)))
    await button(page, "job", "Cancel").click()
    await expect(page.locator("#job-note")).to_have_text("Cancelled")


async def test_the_form_says_what_does_not_fit(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    reserve = button(page, "form", "Reserve")
    await live(page)

    await reserve.click()
    await expect(page.locator("#error-name")).to_contain_text("length >= 2")
    await expect(page.get_by_label("Name")).to_be_focused()
    await expect(page.get_by_label("Name")).to_have_attribute("aria-invalid", "true")

    await page.get_by_label("Name").fill("Ada")
    await page.get_by_label("Email").fill("nowhere")
    await reserve.click()
    await expect(page.locator("#error-email")).to_contain_text("matching regex")
    await expect(page.locator("#error-name")).to_be_hidden()

    await page.get_by_label("Email").fill("ada@example.org")
    for wrong, complaint in (("9", "<= 6"), ("6.5", "`float`")):
        await page.get_by_label("Seats").fill(wrong)
        await reserve.click()
        await expect(page.locator("#error-seats")).to_contain_text(complaint)
    await expect(page.locator("#booking-outcome")).to_contain_text("the handler did not run")
    await expect(bound(page, "form", "seats")).to_have_text("40")

    await page.get_by_label("Seats").fill("6")
    await page.get_by_label("Seats").press("Enter")
    await expect(page.locator("#booking-outcome")).to_contain_text("Thank you, Ada")
    await expect(page.locator("#form .error:visible")).to_have_count(0)
    await expect(bound(page, "form", "seats")).to_have_text("34")
    await expect(page.locator("#form .chips li")).to_have_text(re.compile(r"Ada\s*6"))


async def test_the_form_shows_what_a_visitor_typed_as_text(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    name = "<img src=x onerror=alert(1)>"
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Email").fill("a@b.c")
    await button(page, "form", "Reserve").click()
    await expect(page.locator("#form .chips li span")).to_have_text(name)
    await expect(page.locator("#form img")).to_have_count(0)


async def test_a_file_goes_there_and_back(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await live(page)
    await expect(button(page, "files", "Give it back")).to_be_hidden()
    content = bytes(range(256)) * 4000
    coat = {"name": "coat.bin", "mimeType": "application/octet-stream", "buffer": content}
    await page.locator("#files input").set_input_files(coat)  # type: ignore[arg-type]
    await expect(bound(page, "files", "coat.size")).to_have_text(str(len(content)))
    ticket = hashlib.sha256(content).hexdigest()[:8]
    await expect(bound(page, "files", "coat.ticket")).to_have_text(ticket)
    await expect(page.locator("#coat-progress")).to_have_js_property("value", 1)
    async with page.expect_download() as waiting:
        await button(page, "files", "Give it back").click()
    download = await waiting.value
    assert download.suggested_filename == "coat.bin"
    assert Path(await download.path()).read_bytes() == content


async def test_a_picture_is_taken_and_shown(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url, permissions=["camera"])
    await live(page)
    picture = page.get_by_role("img", name="Your picture")
    await expect(picture).to_be_hidden()
    camera = page.get_by_role("button", name="Camera")
    await camera.click()
    await expect(camera).to_have_js_property("paused", False)
    await expect(camera).not_to_have_js_property("videoWidth", 0)
    await camera.click()
    width = await camera.evaluate("video => video.videoWidth")
    await expect(picture).to_have_js_property("naturalWidth", width)
    await expect(picture).to_be_visible()


async def test_a_question_waits_for_its_answer(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await live(page)
    stage = page.locator("#stage")
    for name, then in (("Cancel", "The set stays"), ("OK", "The set is gone")):
        await button(page, "question", "Strike the set").click()
        await expect(stage).to_have_text("The crew waits for your word")
        await page.get_by_role("alertdialog").get_by_role("button", name=name).click()
        await expect(stage).to_have_text(then)
    await expect(button(page, "question", "Strike the set")).to_be_focused()


async def test_the_table_lives_cell_by_cell(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    rows = page.locator("#acts tr")
    await expect(rows).to_have_count(4)
    magician = rows.filter(has_text="The Late Magician")
    await expect(magician.locator(".sold")).to_have_text("12")
    await magician.get_by_role("button", name="Buy").click()
    await expect(magician.locator(".sold")).to_have_text("13")
    await expect(magician.locator("progress")).to_have_js_property("value", 13)

    await button(page, "table", "Open the box office").click()
    for row in await rows.all():  # sold out, all of it: then the timer stops by itself
        house = (await row.locator(".of span").text_content()) or ""
        await expect(row.locator(".sold")).to_have_text(house)
    await expect(page.locator("#table .play")).not_to_have_class(re.compile("running"))
    sold = [data for data in await frames(page, "gr:state") if "/acts" in json.dumps(data)]
    assert {path for data in sold for path in data["="]} <= {
        "/selling",
        *(f"/acts/{act}/sold" for act in ("magician", "quartet", "puppets", "poet")),
    }


async def test_the_box_office_closes(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await button(page, "table", "Open the box office").click()
    await expect(page.locator("#table .play")).to_have_class(re.compile("running"))
    await button(page, "table", "Close it").click()
    await expect(page.locator("#table .play")).not_to_have_class(re.compile("running"))
    before = await page.locator(".sold").all_text_contents()
    await button(page, "job", "Paint the set").click()  # as long as a dozen ticks of the timer
    await expect(page.locator("#job-note")).to_have_text("The set is painted")
    assert await page.locator(".sold").all_text_contents() == before


async def test_applause_is_heard_by_everybody(visit: Visit, tour: Server) -> None:
    one, two = await visit(tour.url), await visit(tour.url)
    await live(one)
    await live(two)
    heard = int(await bound(one, "shared", "applause").text_content() or 0)
    await button(one, "shared", "Applaud").click()
    await button(two, "shared", "Applaud").click()
    for page in (one, two, await visit(tour.url)):  # and by those who come later
        await expect(bound(page, "shared", "applause")).to_have_text(str(heard + 2))


async def test_a_second_window_shows_the_same_session(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await button(page, "counter", "One more").click()
    async with page.expect_popup() as opening:
        await button(page, "windows", "Open a second window").click()
    second = await opening.value
    await expect(bound(second, "counter", "count")).to_have_text("1")
    await expect(second.locator("#window-label")).to_have_text("second")
    await expect(page.locator("#window-label")).to_have_text("main")
    for window in (page, second):
        await expect(bound(window, "windows", "windows")).to_have_text("2")
    await button(second, "counter", "One more").click()
    await expect(bound(page, "counter", "count")).to_have_text("2")
    await no_sideways_scrolling(second)
    await second.close()
    await expect(bound(page, "windows", "windows")).to_have_text("1")


async def test_a_crash_is_undone_and_shown(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await live(page)
    for _ in range(2):
        await button(page, "crash", "Crash").click()
        await expect(page.locator("#crash-outcome")).to_contain_text("handler_error")
        await expect(page.locator("#crash-outcome")).to_contain_text("before: 100, now: 100")
    await expect(bound(page, "crash", "till")).to_have_text("100")
    assert not [data for data in await frames(page, "gr:state") if "/till" in json.dumps(data)]
    assert "trapdoor" not in await page.locator("#frames-list").inner_text()  # that is in the log
    await button(page, "counter", "One more").click()  # the session lives on
    await expect(bound(page, "counter", "count")).to_have_text("1")
    assert any("the trapdoor opened" in line for line in tour.log)


async def test_the_cable_is_pulled_and_put_back(visit: Visit, tour: Server) -> None:
    page, stranger = await visit(tour.url), await visit(tour.url)
    await live(page)
    await live(stranger)
    applause = int(await bound(stranger, "shared", "applause").text_content() or 0) + 1
    switch = button(page, "cable", "Pull the cable")
    await switch.click()
    await expect(switch).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#status-text")).not_to_have_text("live")
    for _ in range(3):
        await button(page, "cable", "Add one to the counter").click()
    await expect(page.locator("#cable-waiting")).to_have_text("3")
    await expect(bound(page, "counter", "count")).to_have_text("0")
    await button(stranger, "shared", "Applaud").click()  # happens while we are away
    await expect(bound(stranger, "shared", "applause")).to_have_text(str(applause))

    await switch.click()
    await expect(page.locator("#status-text")).to_have_text("live")
    await expect(page.locator("#cable-waiting")).to_have_text("0")
    await expect(bound(page, "counter", "count")).to_have_text("3")
    await expect(bound(page, "shared", "applause")).to_have_text(str(applause))
    welcomes = await frames(page, "gr:welcome")
    assert [welcome["resumed"] for welcome in welcomes] == [True, False]


async def test_the_frames_pass_by(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await live(page)
    rows = page.locator("#frames-list li")
    await expect(rows.filter(has_text="gr:snapshot")).to_have_count(1)
    token = await page.evaluate("JSON.stringify({...sessionStorage})")
    secrets = re.findall(r"[\w.-]{24,}", token)
    assert secrets
    shown = await page.locator("#frames-list").inner_text()
    assert not [secret for secret in secrets if secret in shown]

    await page.locator("#frames-pause").click()
    await button(page, "counter", "One more").click()
    await expect(bound(page, "counter", "count")).to_have_text("1")
    await expect(rows.filter(has_text="/count")).to_have_count(0)
    await page.locator("#frames-pause").click()
    await button(page, "counter", "One more").click()
    await expect(rows.filter(has_text="/count")).to_have_count(1)
    await expect(page.locator('#frames-list li[data-type="add"]')).to_have_count(1)

    await page.locator("#frames-clear").click()
    await expect(rows.filter(has_text="/count")).to_have_count(0)
    for _ in range(3):
        await button(page, "job", "Paint the set").click()
        await expect(page.locator("#job-note")).to_have_text("The set is painted")
    assert await rows.count() <= 150


# -- bad lines ----------------------------------------------------------------------------------


async def test_a_cut_line_comes_back_without_a_reload(
    visit: Visit, proxy: Proxy, watch: Watch
) -> None:
    watch.expect(BROKEN_LINE)
    page = await visit(url_of(proxy))
    await live(page)
    await page.evaluate("document.title = 'the same page'")
    for count in range(1, 4):
        proxy.refuse()
        await expect(page.locator("#status-text")).not_to_have_text("live")
        await button(page, "counter", "One more").click()
        proxy.accept()
        await expect(page.locator("#status-text")).to_have_text("live")
        await expect(bound(page, "counter", "count")).to_have_text(str(count))
    assert await page.title() == "the same page"
    assert all(data["resumed"] for data in (await frames(page, "gr:welcome"))[:-1])


async def test_a_line_that_was_cut_in_mid_frame(visit: Visit, proxy: Proxy, watch: Watch) -> None:
    watch.expect(BROKEN_LINE)
    page = await visit(url_of(proxy))
    await live(page)
    for count, size in enumerate((1, 7, 40, 100), start=1):
        before = proxy.connections
        proxy.cut_after(size)
        await button(page, "cable", "Add one to the counter").click()
        await expect(bound(page, "counter", "count")).to_have_text(str(count))
        await expect(page.locator("#cable-waiting")).to_have_text("0")
        assert proxy.connections > before


async def test_a_half_open_line_is_noticed(visit: Visit, serve: Serve, watch: Watch) -> None:
    watch.expect(BROKEN_LINE)
    nervous = serve(*TOUR, GREENROOM_PING="0.3", GREENROOM_DEAD="0.3")
    with Proxy(nervous.port) as proxy:
        page = await visit(url_of(proxy))
        await live(page)
        proxy.swallow()
        await button(page, "counter", "One more").click()
        await expect(page.locator("#status-text")).not_to_have_text("live")
        proxy.cut()
        proxy.flow()
        await expect(page.locator("#status-text")).to_have_text("live")
        await expect(bound(page, "counter", "count")).to_have_text("1")


# -- everybody ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_narrow_phone(visit: Visit, tour: Server, scheme: str) -> None:
    size = {"width": 360, "height": 740}
    page = await visit(tour.url, viewport=size, color_scheme=scheme, has_touch=True, is_mobile=True)
    await live(page)
    await page.get_by_label("Name").fill("N" * 40)
    await page.get_by_label("Email").fill("e" * 60 + "@example.org")
    await button(page, "form", "Reserve").click()
    await expect(page.locator("#booking-outcome")).to_contain_text("Thank you")
    await button(page, "stream", "What is sent?").click()
    await button(page, "crash", "Crash").click()
    await expect(page.locator("#crash-outcome")).to_be_visible()
    await no_sideways_scrolling(page)

    drawer = page.get_by_role("button", name="Frames")
    await expect(page.locator("#frames-list")).to_be_hidden()
    await drawer.tap()
    await expect(drawer).to_have_attribute("aria-expanded", "true")
    await expect(page.locator("#frames-list li").first).to_be_visible()
    await no_sideways_scrolling(page)
    await drawer.tap()
    await expect(page.locator("#frames-list")).to_be_hidden()


async def test_everything_can_be_done_with_the_keyboard(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await live(page)
    await page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the first card")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(button(page, "counter", "One less")).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Space")
    await expect(bound(page, "counter", "count")).to_have_text("2")

    reached = set()
    for _ in range(80):
        await page.keyboard.press("Tab")
        seen = await page.evaluate(
            """() => {
                const { id, tagName } = document.activeElement;
                const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
                const card = document.activeElement.closest("[id]:not(button, input)")?.id;
                return [tagName, id, card, outlineStyle !== "none" && outlineWidth !== "0px"];
            }"""
        )
        if seen[0] != "BODY":
            assert seen[3], f"focus cannot be seen on {seen}"
            reached.add(seen[2] if seen[2] != "booking" else "form")
    assert {*CARDS[1:]} - {"acts"} <= reached | {"table"}
    assert "frames-list" in reached


async def test_everything_has_a_name(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url)
    await live(page)
    for role in ("button", "textbox", "spinbutton", "region", "link"):
        for element in await page.get_by_role(role).all():
            assert await element.aria_snapshot() != f"- {role}", await element.evaluate(
                "element => element.outerHTML"
            )
    await expect(page.locator("#status")).to_have_attribute("role", "status")
    levels = await page.locator("h1:visible, h2:visible").evaluate_all(
        "found => found.map((element) => element.tagName)"
    )
    assert levels == ["H1", *["H2"] * (len(CARDS) + 1)]


async def test_light_and_dark_are_a_choice_that_lasts(visit: Visit, tour: Server) -> None:
    page = await visit(tour.url, color_scheme="light")

    async def paper() -> int:
        color = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    theme = page.locator("#theme")
    assert await paper() > 600
    await page.emulate_media(color_scheme="dark")
    assert await paper() < 150
    await theme.click()
    await expect(theme).to_contain_text("light")
    assert await paper() > 600
    await theme.click()
    await expect(theme).to_contain_text("dark")
    await page.emulate_media(color_scheme="light")
    await page.reload()
    assert await paper() < 150
    await theme.click()
    await expect(theme).to_contain_text("auto")
    assert await paper() > 600


async def test_nothing_moves_for_those_who_asked_for_that(visit: Visit, tour: Server) -> None:
    for motion, moves in (("no-preference", True), ("reduce", False)):
        page = await visit("about:blank", reduced_motion=motion)
        await page.route_web_socket(re.compile(r"/ws$"), lambda socket: None)  # it waits, for ever
        await page.goto(tour.url)
        await expect(page.locator("#status-text")).to_have_text("connecting")
        assert bool(await page.evaluate("document.getAnimations().length")) is moves


async def test_the_policy_of_the_page_forbids_scripts_in_it(visit: Visit, tour: Server) -> None:
    page = await visit("about:blank")
    response = await page.goto(tour.url)
    assert response is not None
    policy = (await response.all_headers())["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self' 'sha256-" in policy  # of the empty style


async def test_the_tour_over_tls(visit: Visit, serve: Serve) -> None:
    server = serve(*TOUR, "--cert", str(LOCALHOST), GREENROOM_TOUR_SPEED="20")
    assert server.url.startswith("https://")
    page = await visit(server.url, ignore_https_errors=True)
    await live(page)
    before = int(await bound(page, "counter", "count").inner_text())
    await button(page, "counter", "One more").click()
    await expect(bound(page, "counter", "count")).to_have_text(str(before + 1))
    (cookie,) = await page.context.cookies()
    assert cookie.get("secure")
    await page.reload()
    await live(page)
    await expect(bound(page, "counter", "count")).to_have_text(str(before + 1))
