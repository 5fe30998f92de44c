"""Pictures of a camera and files of any size, in a browser that has a (made-up) camera."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Page, async_playwright, expect
from tests.browser.conftest import PROGRAMS, QUIET, Server, Visit, Watch

Serve = Callable[..., Server]

PNG = b"\x89PNG\r\n\x1a\n"
CAMERA = "navigator.mediaDevices.getUserMedia"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("camera") / "app"
    return shutil.copytree(Path(__file__).parent / "pages/camera", folder)


def served(serve: Serve, app: Path, **settings: str) -> str:
    return serve("greenroom", "run", str(app), **settings).url


async def shoot(page: Page, count: int) -> Any:
    """Take pictures; what the handler said about the last one."""
    video = page.locator("#camera")
    await video.click()
    await expect(video).to_have_js_property("paused", False)
    await expect(video).not_to_have_js_property("videoWidth", 0)
    for number in range(1, count + 1):
        await video.click()
        while len(answers := await page.evaluate("answers")) < number:
            pass
    return answers[-1]


async def size_of(page: Page) -> tuple[int, int]:
    width, height = await page.locator("#camera").evaluate("v => [v.videoWidth, v.videoHeight]")
    return int(width), int(height)


async def test_a_picture_is_bytes(visit: Visit, serve: Serve, app: Path) -> None:
    page = await visit(served(serve, app), permissions=["camera"])
    kind, mime, name, length = await shoot(page, 2)
    assert (kind, mime, name) == ("Bytes", "image/png", "snapshot.png")
    content = (app / "picture.png").read_bytes()
    assert content.startswith(PNG)
    assert len(content) == length
    with Image.open(app / "picture.png") as picture:
        picture.load()
        assert picture.size == await size_of(page)
        assert len(set(picture.convert("L").tobytes())) > 1  # it shows something


async def test_a_picture_too_large_for_a_frame_is_bytes_all_the_same(
    visit: Visit, serve: Serve, app: Path
) -> None:
    (app / "picture.png").unlink(missing_ok=True)
    page = await visit(served(serve, app, GREENROOM_MAX_FRAME_IN="8192"), permissions=["camera"])
    await page.evaluate("globalThis.ups = []; gr.onUpload((up) => void ups.push(up.done)), null")
    kind, mime, name, length = await shoot(page, 2)
    assert (kind, mime, name) == ("Bytes", "image/png", "snapshot.png")
    assert length > 8192
    assert (await page.evaluate("ups")).count(True) == 2
    with Image.open(app / "picture.png") as picture:
        picture.load()
        assert picture.size == await size_of(page)


async def test_the_keyboard_takes_pictures_too(visit: Visit, serve: Serve, app: Path) -> None:
    page = await visit(served(serve, app), permissions=["camera"])
    video = page.get_by_role("button", name="Camera").first
    await video.focus()
    await page.keyboard.press("Enter")
    await expect(video).to_have_js_property("paused", False)
    await expect(video).not_to_have_js_property("videoWidth", 0)
    await page.keyboard.press("Enter")
    while not await page.evaluate("answers.length"):
        pass


async def test_a_picture_can_be_taken_as_soon_as_the_video_shows_one(
    visit: Visit, serve: Serve, app: Path
) -> None:
    page = await visit(served(serve, app), permissions=["camera"])
    await page.evaluate(
        "const play = HTMLVideoElement.prototype.play;"
        "HTMLVideoElement.prototype.play = function () {"
        "  void play.call(this);"
        "  return new Promise(() => {});"  # never says that it plays
        "}, null"
    )
    await shoot(page, 1)


async def test_a_key_that_is_held_down_takes_one_picture(
    visit: Visit, serve: Serve, app: Path
) -> None:
    page = await visit(served(serve, app), permissions=["camera"])
    await page.evaluate("document.body.style.height = '9000px'")
    video = page.locator("#camera")
    await video.focus()
    await page.keyboard.press("Space")
    await expect(video).to_have_js_property("paused", False)
    await expect(video).not_to_have_js_property("videoWidth", 0)
    assert await page.evaluate("scrollY") == 0
    await video.evaluate("v => v.addEventListener('snapshot', () => (v.dataset.shot += '!'))")
    for _ in range(5):
        await page.keyboard.down("Space")
    await page.keyboard.up("Space")
    await expect(video).to_have_attribute("data-shot", "undefined!")


async def test_files_small_and_large_are_read_the_same_way(
    visit: Visit, serve: Serve, app: Path
) -> None:
    page = await visit(served(serve, app))
    contents = [b"small", bytes(range(256)) * 8000]
    names = ["täble.txt", "big.bin"]
    mimes = ["text/plain", "application/x-mine"]
    picked: Any = [
        {"name": name, "mimeType": mime, "buffer": content}
        for name, mime, content in zip(names, mimes, contents, strict=True)
    ]
    await page.get_by_label("files").set_input_files(picked)
    await expect(page.locator("#files")).to_have_text(
        '["täble.txt text/plain","big.bin application/x-mine"]'
    )
    for number, (name, content) in enumerate(zip(names, contents, strict=True)):
        assert (app / f"{number}-{name}").read_bytes() == content


# -- no camera ----------------------------------------------------------------------------------


async def test_who_refuses_the_camera_is_told_what_to_do(
    visit: Visit, serve: Serve, app: Path
) -> None:
    page = await visit(served(serve, app))  # asked, nobody says yes
    await page.locator("#other").click()  # here a handler hears of it, and there is no toast
    await expect(page.locator("#heard")).to_have_text('["refused","camera-error","other"]')
    assert await page.get_by_role("alert").count() == 0

    await page.locator("#camera").click()
    await expect(page.get_by_role("alert")).to_contain_text("may not use the camera. Allow it")

    await page.context.grant_permissions(["camera"])  # the user thinks better of it
    await page.locator("#camera").click()
    await expect(page.locator("#camera")).to_have_js_property("paused", False)


async def test_a_machine_without_a_camera(visit: Visit, serve: Serve, app: Path) -> None:
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    quiet = [argument for argument in QUIET if "fake-device" not in argument]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=quiet)
        page = await browser.new_page(permissions=["camera"])
        await page.goto(served(serve, app))
        await page.locator("#camera").click()
        await expect(page.get_by_role("alert")).to_contain_text("No camera was found.")
        await browser.close()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            f"{CAMERA} = () => Promise.reject(new DOMException('x', 'NotReadableError'))",
            "Perhaps another program is using it.",
        ),
        (
            f"{CAMERA} = () => Promise.reject(new Error('odd'))",
            "The camera does not start: odd",
        ),
        (
            "Object.defineProperty(navigator, 'mediaDevices', {value: undefined})",
            "Cameras can be used on https pages only.",
        ),
    ],
)
async def test_other_troubles_are_told(
    visit: Visit, serve: Serve, app: Path, script: str, said: str
) -> None:
    page = await visit(served(serve, app), permissions=["camera"])
    await page.evaluate(f"() => {{ {script}; }}")
    await page.locator("#camera").click()
    await expect(page.get_by_role("alert")).to_contain_text(said)


async def test_a_camera_that_is_taken_away_can_be_started_again(
    visit: Visit, serve: Serve, app: Path
) -> None:
    page = await visit(served(serve, app), permissions=["camera"])
    video = page.locator("#camera")
    await shoot(page, 1)
    await video.evaluate("v => v.srcObject.getTracks()[0].dispatchEvent(new Event('ended'))")
    await expect(page.get_by_role("alert")).to_contain_text("The camera was taken away.")
    await page.evaluate("answers.length = 0")
    await shoot(page, 1)


async def test_a_page_may_put_its_own_toast_in_the_place_of_ours(
    visit: Visit, serve: Serve, app: Path, watch: Watch
) -> None:
    page = await visit(served(serve, app))
    await page.evaluate(
        "() => new Promise((heard) => {"
        " gr.on('gr:notify', ({ kind, message }) => heard([kind, message]));"
        " document.getElementById('camera').click(); })"
    )
    await expect(page.get_by_role("alert")).to_have_count(0)
    assert not watch.faults
