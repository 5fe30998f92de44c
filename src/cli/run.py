"""`greenroom run`: one app on one port, served by uvicorn, until a signal says otherwise.

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
import sys
from collections.abc import Callable, Generator
from types import FrameType
from typing import Final

import uvicorn

from ..adapters import asgi
from ..adapters.guard import is_loopback
from ..core.app import App
from . import BAD_HOST, IN_USE, OK, PERMISSION, CommandError
from .load import Loaded, load, read_settings
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

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8000
SWITCH_INTERVAL: Final = 0.001  # seconds; the loop waits no longer for a busy worker thread
NOTSENT_LOWAT: Final = 25  # TCP_NOTSENT_LOWAT on Linux; not in the socket module
UNSENT: Final = 64 * 1024  # what the kernel may hold unsent for one client
FILES: Final = 65_536  # descriptors to ask for: one for each client
GRACE: Final = 5  # seconds for requests that still run when the server goes
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
        "--reload",
        action="store_true",
        help="when a file changes, run the new code in place of the old; sessions and pages stay",
    )


def command(args: argparse.Namespace) -> int:
    if args.reload:
        check_watcher()
    settings = read_settings(**({"debug": True} if args.debug else {}))
    loaded = load(args.path, settings)
    with listen(args.host, args.port) as sock:
        return serve(loaded, sock, args.host, args.path if args.reload else None)


# -- the address ----------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises CommandError that says what is wrong with the address."""
    where = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        raise CommandError(BAD_HOST, f"--host {host!r} is no address: {error}") from None
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            message = f"{where} is in use: choose another --port, or 0 for any free one"
            raise CommandError(IN_USE, message) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            message = f"{where}: permission denied; ports below 1024 belong to the administrator"
            raise CommandError(PERMISSION, message) from None
        raise CommandError(BAD_HOST, f"cannot listen on {where}: {error.strerror}") from None
    sock.setblocking(False)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # clients' sockets inherit it
            sock.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT)
    return sock


def url_of(sock: socket.socket, host: str) -> str:
    port: int = sock.getsockname()[1]
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 -- only how it is shown
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# -- serving --------------------------------------------------------------------------------------


class Server(uvicorn.Server):
    """uvicorn, with our own idea of what a signal means."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[], None],
        on_signal: Callable[[int], None],
    ) -> None:
        super().__init__(config)
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


def serve(loaded: Loaded, sock: socket.socket, host: str, watched: str | None = None) -> int:
    """Serve until a signal; returns the exit code. ``watched``: the PATH to load again."""
    sys.setswitchinterval(loaded.app.settings.switch_interval or SWITCH_INTERVAL)
    raise_file_limit()
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    with asyncio.Runner(loop_factory=loop_factory()) as runner, loaded.app.registering():
        return runner.run(_serve(loaded, sock, host, watched))


async def _serve(loaded: Loaded, sock: socket.socket, host: str, watched: str | None) -> int:
    app = loaded.app
    application = asgi.application(app, public=loaded.public, bind=host, title=loaded.title)
    drain: asyncio.Task[None] | None = None
    code = OK

    def ready() -> None:
        app.listeners.append(stop_listening)
        announce(loaded, url_of(sock, host), open_to_others=not is_loopback(host))

    def stop_listening() -> None:
        for listening in server.servers:
            listening.close()
        sock.close()

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

    server = Server(server_config(app, application), ready, on_signal)
    server.config.load()  # imports what it needs, before the watchdog looks
    await app.start()
    try:
        async with watching(loaded, watched):
            await server.serve(sockets=[sock])
    finally:
        if drain is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await drain
        await app.stop(0.0)
    return code


def server_config(app: App, application: asgi.Application) -> uvicorn.Config:
    limit = app.settings.max_frame_in
    return uvicorn.Config(
        application,
        ws="websockets-sansio",
        ws_per_message_deflate=False,  # patches are small; compressing them costs more than bytes
        # Above ours, so that it is we who refuse, with a gr:close.
        ws_max_size=2 * limit + 65_536 if limit else sys.maxsize,
        ws_ping_interval=None,  # the protocol has its own, with a deadline
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # Settings.trusted_proxies
        timeout_graceful_shutdown=GRACE,
    )


def announce(loaded: Loaded, url: str, *, open_to_others: bool) -> None:
    """Say where it is, what browsers may call and what was left out."""
    app = loaded.app
    print(f"greenroom: {loaded.title} on {url}")
    for line in app.handlers.report():
        print(f"  {line}")
    if not app.views and loaded.public is None and not app.settings.debug:
        print("  there is no page: add public/index.html, or run with --debug")
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
