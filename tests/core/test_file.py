"""A file as handlers see it: its name, its life, and bytes made ready to be sent."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenroom as gr
from greenroom.core.encode import encode
from greenroom.core.file import File, clean_mime, clean_name

NAMES = {
    "a.txt": "a.txt",
    "../../etc/passwd": "passwd",
    "..\\..\\boot.ini": "boot.ini",
    "C:\\x\\y.doc": "y.doc",
    "/": "file",
    "": "file",
    "..": "file",
    ".": "file",
    ".bashrc": "bashrc",
    "a\0b\n\x1b[31m.txt": "ab[31m.txt",
    "invoice\u202egnp.exe": "invoicegnp.exe",
    "con:stream": "con_stream",
    'a"b<c>|?*.txt': "a_b_c____.txt",
    "  x .txt  ": "x.txt",
    "x...": "x",
    ". .htaccess": "htaccess",
    ".. . \u2003.x": "x",
    "täst 日本.pdf": "täst 日本.pdf",
    "e" * 300 + ".jpeg": "e" * 250 + ".jpeg",
    "日" * 200: "日" * 85,
    "a." + "b" * 300: ("a." + "b" * 300)[:255],
}


@pytest.mark.parametrize(("name", "clean"), NAMES.items())
def test_names_are_made_harmless(name: str, clean: str) -> None:
    assert clean_name(name) == clean


@given(st.text() | st.text("./\\\0\u202e:ab ", max_size=600))
def test_no_name_leads_anywhere(name: str) -> None:
    clean = clean_name(name)
    assert clean == clean_name(clean)
    assert 0 < len(clean.encode()) <= 255
    assert not set(clean) & set('/\\:\0"<>|?*\n\r')
    assert clean not in (".", "..")
    assert not clean.startswith((".", " "))
    assert (Path("/safe") / clean).parent == Path("/safe")


def test_media_types() -> None:
    assert clean_mime("Text/HTML; charset=x") == "text/html"
    assert clean_mime("", "a.png") == "image/png"
    for wild in ("text", "text/html\r\nX: y", "a/b/c", "é/x", "/", "x" * 70 + "/y"):
        assert clean_mime(wild, "none") == "application/octet-stream"


def test_its_life(tmp_path: Path) -> None:
    def make() -> File:
        path = tmp_path / "part"
        path.write_bytes(b"hello")
        return File("a.txt", "text/plain", 5, path=path)

    file = make()
    told: list[int] = []
    file.when_ended(lambda: told.append(1))
    assert file.read() == b"hello"
    with file.open() as reader:
        assert reader.read(2) == b"he"
    kept = file.keep(tmp_path)
    assert kept == tmp_path / "a.txt"
    assert kept.read_bytes() == b"hello"
    assert not (tmp_path / "part").exists()
    assert told == [1]
    for use in (file.read, file.open, lambda: file.path, lambda: file.keep(tmp_path)):
        with pytest.raises(gr.Closed, match=r"a\.txt"):
            use()
    file.close()  # nothing more happens
    assert kept.exists()
    assert told == [1]

    file = make()
    assert file.keep(tmp_path / "mine").name == "mine"
    file = make()
    file.close()
    assert file.ended
    assert not (tmp_path / "part").exists()
    file = make()
    with pytest.raises(OSError):
        file.keep(tmp_path / "none" / "here")
    assert file.read() == b"hello"  # it is still there


def test_a_client_cannot_name_a_folder(tmp_path: Path) -> None:
    """It would be made a file's mode, which nobody can look into."""
    folder, part = tmp_path / "private", tmp_path / "part"
    folder.mkdir(mode=0o700)
    part.write_bytes(b"hello")
    file = File("private", "text/plain", 5, path=part)
    with pytest.raises(IsADirectoryError, match="another name"):
        file.keep(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(folder.iterdir())
    assert file.read() == b"hello"
    file.close()


def test_in_the_state_it_is_its_name() -> None:
    file = File("a.txt", "text/plain", 5, raw=b"hello")
    assert encode({"f": file}) == b'{"f":{"name":"a.txt","mime":"text/plain","size":5}}'


def test_packing(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    with path.open("rb") as file:
        for source in (path, str(path), file):
            packed = gr.pack_file(source)
            assert (packed, packed.mime, packed.name) == (b"\x89PNG", "image/png", "a.png")
    assert gr.pack_file(path, "image/x-mine").mime == "image/x-mine"
    assert gr.pack_file(io.BytesIO(b"x")).mime == "application/octet-stream"
    packed = gr.pack_file(File("b.txt", "text/plain", 1, raw=b"x"))
    assert (packed, packed.mime, packed.name) == (b"x", "text/plain", "b.txt")
    packed = gr.pack_bytes(memoryview(b"x"), "image/png")
    assert (packed, packed.mime) == (b"x", "image/png")
    with pytest.raises(TypeError, match="binary mode"):
        gr.pack_file(io.StringIO("x"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="encode it first"):
        gr.pack_bytes("text")
    with pytest.raises(FileNotFoundError):
        gr.pack_file(tmp_path / "none")
