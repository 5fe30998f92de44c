"""How a connection begins and how it ends: the hello, the welcome, and the table of closes.

Values in, values out; no state. Tokens pass through here and are never put into a message or repr.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from .errors import GreenroomError
from .packet import NotUtf8, dumps, loads, object_in
from .settings import Settings
from .types import DEFAULT_LABEL, LABEL_NAME, PROTOCOL_VERSION, Packet

__all__ = [
    "CLOSES",
    "GOING",
    "HELLO_BYTES",
    "SILENT",
    "Close",
    "Hello",
    "LinkError",
    "Profile",
    "Retry",
    "make_close",
    "make_welcome",
    "parse_hello",
    "read_hello",
]

GOING: Final = "the server is going"  # the text of a `draining`
HELLO_BYTES: Final = 8 * 1024  # the first frame of a connection is at most this large
LAST_NUMBER: Final = 2**53 - 1  # no stream gets there, and every language has it exactly

Retry = Literal["resume", "fresh", "never"]


# -- closes -------------------------------------------------------------------------------------

CLOSES: Final[dict[str, tuple[int, Retry]]] = {
    # code: (WebSocket close code, what the client does next unless the close says otherwise)
    "bye": (1000, "never"),  #            either side is done
    "draining": (1001, "resume"),  #      the server goes ("fresh" without a store)
    "not_utf8": (1007, "never"),  #       the frame is not UTF-8
    "too_large": (1009, "never"),  #      the frame is above max_frame_in
    "bad_frame": (4000, "resume"),  #     the frame is no frame, or out of turn; the third: "never"
    "unauthorized": (4001, "fresh"),  #   "never" to a hello without token, or when on_open raised
    "busy": (1013, "fresh"),  #           a cap was reached after the upgrade
    "replaced": (4002, "never"),  #       another connection has resumed the link
    "slow_consumer": (4003, "resume"),  # it takes too little of what it is sent
    "version": (4006, "never"),  #        a protocol we do not speak
    "rate_limited": (4029, "resume"),  #  the tenth refusal in a row
}

SILENT: Final = 1001  # a dead peer: the transport closes without gr:close; clients resume


class Close(NamedTuple):
    """How a connection ends: hand ``packet`` (if any) to the transport, then close it."""

    code: str
    message: str
    retry: Retry
    after: float | None
    ws_code: int
    packet: Packet | None

    @property
    def reason(self) -> str:
        """For the transport's own close; well below the 123 bytes that fit there."""
        return self.code


def make_close(
    code: str, message: str = "", *, after: float | None = None, retry: Retry | None = None
) -> Close:
    """The close of that code, with its row of the table; ``retry`` overrides the row."""
    ws_code, usual = CLOSES[code]
    retry = retry or usual
    data: dict[str, Any] = {"code": code, "message": message, "retry": retry}
    if after is not None:
        data["after"] = after
    if code == "version":
        data["supported"] = [PROTOCOL_VERSION]
    packet = Packet(b'{"type":"gr:close","data":%b}' % dumps(data))
    return Close(code, message, retry, after, ws_code, packet)


class LinkError(GreenroomError):
    """A connection cannot go on. ``close`` is what to answer."""

    def __init__(
        self, code: str, message: str, *, after: float | None = None, retry: Retry | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.close = make_close(code, message, after=after, retry=retry)


# -- hello and welcome --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says first: who it is, and the last numbered frame it has applied."""

    token: str | None = field(default=None, repr=False)
    link: str | None = None
    seq: int = 0
    label: str = DEFAULT_LABEL
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """What a link must know about the transport of its connection."""

    limited: bool = False  # Settings.rate and burst apply: strangers can reach this transport
    mortal: bool = True  # a peer that is silent for too long is dead
    batching: bool = False  # it cannot join messages: what goes out together goes in one gr:batch
    part_bytes: int = 0  # larger frames go out in parts; 0: no limit
    http: bool = False  # its client can reach file/... below the mount by HTTP


def parse_hello(packet: Packet, limit: int = HELLO_BYTES) -> Hello:
    """Read the first frame of a connection. Raises :class:`LinkError`."""
    if len(packet.data) > limit:
        raise LinkError("bad_frame", f"the first frame is at most {limit} bytes")
    try:
        frame = object_in(loads(packet.data))
    except NotUtf8 as error:
        raise LinkError("not_utf8", str(error)) from None
    except ValueError:
        raise LinkError("bad_frame", "the first frame is not JSON") from None
    if frame is None or frame.get("type") != "gr:hello":
        raise LinkError("bad_frame", "the first frame is a gr:hello")
    return read_hello(frame)


def read_hello(frame: dict[str, Any]) -> Hello:
    """Read a ``gr:hello`` that has been decoded. Raises :class:`LinkError`."""
    data = object_in(frame.get("data"))
    if data is None or "id" in frame:
        raise LinkError("bad_frame", "gr:hello has an object as data, and no id")
    protocol = data.get("protocol")
    if type(protocol) is not int:
        raise LinkError("bad_frame", "gr:hello needs the integer protocol")
    if protocol != PROTOCOL_VERSION:
        raise LinkError("version", f"this server speaks protocol {PROTOCOL_VERSION}")
    token, link, seq = data.get("token"), data.get("link"), data.get("seq", 0)
    label, binary = data.get("label", DEFAULT_LABEL), data.get("binary", False)
    if not isinstance(token, str | None) or not isinstance(link, str | None):
        raise LinkError("bad_frame", "token and link are strings or null")
    if type(seq) is not int or not 0 <= seq <= LAST_NUMBER:
        raise LinkError("bad_frame", "seq is the number of the last frame applied, or 0")
    if not isinstance(label, str) or not LABEL_NAME.match(label):
        raise LinkError("bad_frame", "a label is a letter and up to 63 letters, digits, _ or -")
    if type(binary) is not bool:
        raise LinkError("bad_frame", "binary is true or false")
    return Hello(token, link, seq, label, binary)


def make_welcome(
    settings: Settings,
    *,
    session: str,
    token: str,
    expires: float,
    link: str,
    resumed: bool,
    seq: int,
    ack: int,
    pending: list[int],
    binary: bool,
) -> bytes:
    """The frame that answers a hello."""
    return b'{"type":"gr:welcome","data":%b}' % dumps(
        {
            "protocol": PROTOCOL_VERSION,
            "session": session,
            "token": token,
            "expires": expires,
            "expires_in": settings.token_ttl or None,
            "link": link,
            "resumed": resumed,
            "seq": seq,
            "ack": ack,
            "pending": pending,
            "ping": settings.ping,
            "dead": settings.dead,
            "window": settings.window,
            "max_frame_in": settings.max_frame_in,
            "max_frame_out": settings.max_frame_out,
            "inflight": settings.inflight,
            "binary": binary,
        }
    )
