"""What a strict echo of RFC 6455 answers to a stream of bytes: the slow and plain reading of it.

One byte at a time, and every rule where its section puts it: the first byte that cannot belong to a
legal stream is answered with a close.
"""

from __future__ import annotations

import codecs
from collections.abc import Generator
from dataclasses import dataclass, field

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
DATA = {0, TEXT, BINARY}
CONTROL = {CLOSE, PING, PONG}


class Broken(Exception):
    """A rule was broken. The first code is the plainest; whoever looks otherwise finds another."""

    def __init__(self, *codes: int) -> None:
        super().__init__(*codes)
        self.codes = codes


@dataclass
class Answer:
    """What the other end may see."""

    data: list[bytes] = field(default_factory=list)  # frames, in order among themselves
    pongs: list[bytes] = field(default_factory=list)
    close: int | None = None  # the code; 1005: a close without one; None: it is still open
    codes: tuple[int, ...] = ()  # what else it may be, where two rules were broken at once


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """A frame of a server: final, unmasked, its length in as few bytes as will do."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload


def legal(code: int) -> bool:
    """7.4: defined, registered since (1012 to 1014), or for applications."""
    return code in {*range(1000, 1004), *range(1007, 1015)} or 3000 <= code <= 4999


class Model:
    """Feed it bytes; look at ``answer``.

    ``minimal``: a length in more bytes than it needs is refused. 5.2 forbids it to the sender, and
    does not say what a receiver does.
    """

    def __init__(self, limit: int = 0, *, minimal: bool = False) -> None:
        self.answer = Answer()
        self._limit = limit
        self._minimal = minimal
        self._kind = 0  # of the message in fragments; 0: there is none
        self._parts = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._reader = self._read()
        next(self._reader)

    def feed(self, stream: bytes) -> None:
        for byte in stream:
            if self.answer.close is None:
                self._reader.send(byte)

    def _read(self) -> Generator[None, int, None]:
        try:
            while self.answer.close is None:
                yield from self._frame()
        except Broken as error:
            self.answer.close, self.answer.codes = error.codes[0], error.codes
        while True:
            yield

    def _frame(self) -> Generator[None, int, None]:
        first = yield
        fin, opcode = first >> 7, first & 15
        if first & 0x70:  # 5.2: no extension is agreed on
            raise Broken(*((1002, 1007) if opcode == CLOSE else (1002,)))
        if opcode not in DATA | CONTROL:
            raise Broken(1002)  # 5.2: reserved
        if opcode in CONTROL and not fin:
            raise Broken(1002)  # 5.5: not in fragments
        if opcode in DATA and (opcode == 0) != bool(self._kind):
            raise Broken(1002)  # 5.4: a continuation of nothing, or a message inside another
        second = yield
        size = second & 127
        if not second & 128:
            raise Broken(1002)  # 5.1: clients mask
        if opcode in CONTROL and size > 125:
            raise Broken(1002, 1009)  # 5.5
        if size > 125:
            wide = 2 if size == 126 else 8
            size = 0
            for _ in range(wide):
                size = size << 8 | (yield)
            if size >> 63:
                raise Broken(1002, 1009)  # 5.2: the highest bit is 0
            if self._minimal and size < (126 if wide == 2 else 1 << 16):
                raise Broken(1002)
        if opcode in DATA and self._limit and len(self._parts) + size > self._limit:
            raise Broken(1009)
        key = []
        for _ in range(4):
            key.append((yield))
        if opcode in (TEXT, BINARY):
            self._kind, self._parts = opcode, b""
            self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        payload = b""
        for at in range(size):
            byte = bytes(((yield) ^ key[at % 4],))
            payload += byte
            if opcode in DATA:
                self._check(byte)
        self._done(opcode, bool(fin), payload)

    def _check(self, byte: bytes, *, final: bool = False) -> None:
        """8.1: a text that cannot become UTF-8 any more."""
        if self._decoder is not None:
            try:
                self._decoder.decode(byte, final=final)
            except UnicodeDecodeError:
                raise Broken(1007) from None

    def _done(self, opcode: int, fin: bool, payload: bytes) -> None:
        if opcode == PING:
            self.answer.pongs.append(frame(PONG, payload))
        elif opcode == CLOSE:
            if len(payload) == 1:
                raise Broken(1002)  # 5.5.1
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            broken = [] if not payload or legal(code) else [1002]  # 7.4
            try:
                payload[2:].decode()
            except UnicodeDecodeError:
                broken.append(1007)  # 5.5.1
            if broken:
                raise Broken(*broken)
            self.answer.close = code
        elif opcode in DATA:
            self._parts += payload
            if fin:
                self._check(b"", final=True)
                self.answer.data.append(frame(self._kind, self._parts))
                self._kind, self._parts, self._decoder = 0, b"", None
