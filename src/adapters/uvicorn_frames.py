"""uvicorn's WebSocket protocol, held to RFC 6455 where its own reading is looser.

``serving.server_config`` names this class, so ``greenroom run`` has it; under a server of somebody
else's the frames are that server's business. What is different here, each by the rule:

- Text is looked at fragment by fragment and refused with 1007 at the first that cannot become UTF-8
  any more; nobody's bytes make a traceback in the log, or an exception in the event loop.
- Whole messages that came in one segment with a broken frame reach the app before the end does.
- A close inside a message in fragments is a close, answered with its own code.
- A handshake that cannot be read is answered with a status and closed, instead of being kept open
  without a word; one that is refused hears which version we speak, and is no error in the log.

Owner: the loop. A frame is handled inside ``data_received``, and nothing here waits.
"""

from __future__ import annotations

import codecs
import logging
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.server import ServerProtocol

__all__ = ["FrameProtocol", "Parser"]

Utf8 = codecs.getincrementaldecoder("utf-8")


class Parser(ServerProtocol):
    """The parser of one connection, without extensions."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._decoder: codecs.IncrementalDecoder | None = None  # of a text in fragments

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame. What is raised here closes with 1002 or 1007: see ``parse`` above us."""
        if frame.opcode is Opcode.TEXT and self.current_size is None:
            data = bytes(frame.data)
            if not frame.fin:
                self._decoder = Utf8()
                self._decoder.decode(data)
            elif not data.isascii():
                data.decode()
        elif frame.opcode is Opcode.CONT and self._decoder is not None:
            self._decoder.decode(bytes(frame.data), frame.fin)
            if frame.fin:
                self._decoder = None
        elif frame.opcode is Opcode.CLOSE:
            self.current_size = None  # a message in fragments ends with the connection
        super().recv_frame(frame)

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        response = super().reject(status, text)
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UPGRADE_REQUIRED):
            response.headers["Sec-WebSocket-Version"] = "13"
        return response


class FrameProtocol(WebSocketsSansIOProtocol):
    """One connection of a uvicorn that was configured by ``serving.server_config``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn: ServerProtocol = Parser(
            max_size=self.config.ws_max_size, logger=logging.getLogger("uvicorn.error")
        )
        self._application: Any = self.app
        self.app = self._serve

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        await self._application(scope, receive, send)
        if self.initial_response is not None:
            self.handshake_complete = True  # by a refusal, which is no error of the application

    def data_received(self, data: bytes) -> None:
        self.conn.receive_data(data)
        self.handle_events()
        if self.conn.parser_exc is not None:
            self.handle_parser_exception()
        elif self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._turn_away()

    def _turn_away(self) -> None:
        """This was no handshake: say so, unless the parser has."""
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        output = b"".join(self.conn.data_to_send())
        self.transport.write(output or _NO_HANDSHAKE)
        self.transport.close()


_NO_HANDSHAKE = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Sec-WebSocket-Version: 13\r\nContent-Length: 34\r\n\r\nthis is no request for a WebSocket"
)
