"""`greenroom run`: one app on one port, until a signal says otherwise.

Pages come from uvicorn and the WebSocket from the fast adapter, or with ``--asgi`` from uvicorn
too, which is also what is done where the fast adapter cannot be imported.

A first SIGTERM or SIGINT drains (``core/drain.py``): the port is free for the next process at
once, running turns end, every client is told when to come back, and only then does the server go.
A second one stops at once: what runs is cancelled, and the exit code says so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import uvicorn

from ..adapters import asgi
from ..adapters.guard import is_loopback
from ..adapters.pages import hidden
from ..adapters.serving import HttpServer, open_socket, server_config, tls_context, url_of
from ..core.calm import CalmFilter
from . import BAD_HOST, IN_USE, NOT_FOUND, OK, PERMISSION, USAGE, CommandError
from .load import Loaded, load, read_settings, unload
from .reload import check_watcher, watching

__all__ = ["HELP", "NAME", "add_arguments", "command"]

NAME: Final = "run"
HELP: Final = (
    "serve an application",
    """\
Serve an application. The public functions of main.py become handlers that browsers may call, and
the folder public/ beside it is served: public/index.html at /. Without one, --debug makes a page
that shows state, handlers and log.

Settings come from GREENROOM_* variables, one for each field of greenroom.Settings: for instance
GREENROOM_SECRET (keeps sessions valid over restarts), GREENROOM_HOSTS, GREENROOM_ORIGINS.

Ctrl-C or SIGTERM: the port is free for the next process at once, running turns end, clients are
told when to come back (GREENROOM_DRAIN seconds at most); a second one stops at once, and the exit
code is then 128 and the signal's number.

With --reload a changed .py file is imported again in the running process: sessions keep their
state, new keys of the initial state are added to them. Broken code is shown in the page, and the
old goes on. A changed file of public/ makes the pages load again.
""",
)

logger = logging.getLogger("greenroom.run")

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8000
SWITCH_INTERVAL: Final = 0.001  # seconds; the loop waits no longer for a busy worker thread
FILES: Final = 65_536  # descriptors to ask for: one for each client
FORCED: Final = 128  # plus the signal's number: the exit code after a second signal


def port_number(text: str) -> int:
    """A port from the command line."""
    try:
        port = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is not between 0 and 65535")
    return port


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", metavar="PATH", help="what to serve, see below")
    command.add_argument(
        "--host",
        default=DEFAULT_HOST,
        help="address to listen on (default: %(default)s, this machine only; 0.0.0.0: all)",
    )
    command.add_argument(
        "--port",
        type=port_number,
        default=DEFAULT_PORT,
        help="port to listen on (default: %(default)s; 0: any free one)",
    )
    command.add_argument(
        "--debug",
        action="store_true",
        help="show error texts, logs and a page of the app to browsers; not for strangers",
    )
    command.add_argument(
        "--cert", metavar="FILE", help="serve https and wss with this certificate chain (PEM)"
    )
    command.add_argument(
        "--key", metavar="FILE", help="its private key (PEM), unless it is in the same file"
    )
    command.add_argument(
        "--asgi",
        action="store_true",
        help="carry WebSockets by uvicorn too, instead of the fast adapter",
    )

    command.add_argument(
        "--reload",
        action="store_true",
        help="when a file changes, run the new code in place of the old; sessions and pages stay",
    )


def command(args: argparse.Namespace) -> int:
    if args.reload:
        check_watcher()
    settings = read_settings(**({"debug": True} if args.debug else {}))
    tls = read_certificate(args.cert, args.key)
    loaded = load(args.path, settings)
    try:
        with listen(args.host, args.port) as sock:
            how = How(args.host, not args.asgi, tls, args.path if args.reload else None)
            return serve(loaded, sock, how)
    finally:
        unload(loaded)


# -- the address ----------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises CommandError that says what is wrong with the address."""
    where = f"{host}:{port}"
    try:
        return open_socket(host, port)
    except (socket.gaierror, UnicodeError) as error:
        raise CommandError(BAD_HOST, f"--host {host!r} is no address: {error}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"{where} is in use: choose another --port, or 0 for any free one"
            raise CommandError(IN_USE, message) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            message = f"{where}: permission denied; ports below 1024 belong to the administrator"
            raise CommandError(PERMISSION, message) from None
        raise CommandError(BAD_HOST, f"cannot listen on {where}: {error.strerror}") from None


def read_certificate(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """TLS as the options ask for it. Raises CommandError."""
    if cert is None:
        if key is not None:
            raise CommandError(USAGE, "--key is the private key of --cert, which is missing")
        return None
    for name, path in (("--cert", cert), ("--key", key)):
        if path is not None and not Path(path).is_file():
            raise CommandError(NOT_FOUND, f"{name} {path}: there is no such file")
    try:
        return tls_context(cert, key)
    except OSError as error:  # ssl.SSLError is one
        raise CommandError(
            USAGE, f"--cert {cert}: not a certificate with its key ({error})"
        ) from None


# -- serving --------------------------------------------------------------------------------------


class Server(HttpServer):
    """Our own idea of what a signal means."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[], None],
        on_signal: Callable[[int], None],
        **options: Any,
    ) -> None:
        super().__init__(config, **options)
        self._on_ready = on_ready
        self._on_signal = on_signal

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()

        def arrived(number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._on_signal, number)

        before = {n: signal.signal(n, arrived) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class How(NamedTuple):
    """What the command line says about serving."""

    host: str
    fast: bool  # /ws by the fast adapter
    tls: ssl.SSLContext | None
    watched: str | None  # the PATH to load again when a file changes


def fast_adapter() -> tuple[Any, str]:
    """The fast adapter and what it is; None and the reason where it cannot be imported."""
    try:
        from ..adapters import websocket, wire
    except ImportError as error:
        return None, str(error)
    return websocket, f"picows {wire.PICOWS}"


def serve(loaded: Loaded, sock: socket.socket, how: How) -> int:
    """Serve until a signal; returns the exit code."""
    sys.setswitchinterval(loaded.app.settings.switch_interval or SWITCH_INTERVAL)
    raise_file_limit()
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(CalmFilter())  # strangers make it speak
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(loaded, sock, how))


async def _serve(loaded: Loaded, sock: socket.socket, how: How) -> int:
    app = loaded.app
    application = asgi.application(app, public=loaded.public, bind=how.host, title=loaded.title)
    drain: asyncio.Task[None] | None = None
    code = OK

    def ready() -> None:
        app.listeners.append(server.stop_listening)
        url = url_of(sock, how.host, tls=how.tls is not None)
        announce(loaded, url, open_to_others=not is_loopback(how.host))

    def on_signal(number: int) -> None:
        nonlocal drain, code
        if drain is None:
            drain = asyncio.get_running_loop().create_task(stop())
        else:
            code = FORCED + number
            drain.cancel()
            server.force_exit = server.should_exit = True

    async def stop() -> None:
        try:
            stopping = asyncio.ensure_future(app.stop())
            await asyncio.sleep(0)  # now nobody listens: whoever reads this may start the next one
            with contextlib.suppress(OSError):  # nobody reads it any more: stop all the same
                print("greenroom: stopping; once more to stop at once", flush=True)
            await stopping
            await application.closed()
        finally:
            server.should_exit = True

    adapter, what = fast_adapter() if how.fast else (None, "")
    if how.fast and adapter is None:
        logger.warning("serving with --asgi, which is slower: %s", what)
    server = Server(
        server_config(application, app.settings.max_frame_in),
        ready,
        on_signal,
        protocol=None if adapter is None else adapter.switch(application),
        tls=how.tls,
    )
    server.config.load()  # imports what it needs, before the watchdog looks
    await app.start()
    try:
        async with watching(loaded, how.watched):
            await server.serve(sockets=[sock])
    finally:
        if drain is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await drain
        await app.stop(0.0)
    return code


def announce(loaded: Loaded, url: str, *, open_to_others: bool) -> None:
    """Say where it is, what browsers may call and what was left out."""
    app = loaded.app
    print(f"greenroom: {loaded.title} on {url}")
    for line in app.handlers.report():
        print(f"  {line}")
    if not app.views and loaded.public is None and not app.settings.debug:
        print("  there is no page: add public/index.html, or run with --debug")
    for name in hidden(loaded.public) if loaded.public is not None else ():
        print(f"  public/{name} is not served: the server has something of its own there")
    if open_to_others and not app.settings.hosts:
        print("  other machines can reach it; GREENROOM_HOSTS limits the names it answers to")
    if open_to_others and app.settings.debug:
        print("  with --debug they can read error texts and logs")
    sys.stdout.flush()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def raise_file_limit() -> None:
    """Ask for as many descriptors as there may be clients."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
