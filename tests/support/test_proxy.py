"""The proxy does to connections what it says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator

import pytest
from tests.support.proxy import Proxy


@pytest.fixture
def echo() -> Generator[int]:
    """The port of a server that sends back what it gets."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1024):
                    connection.sendall(data)
            except ConnectionError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def proxy(echo: int) -> Generator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


def client(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def test_it_hands_on_and_counts(proxy: Proxy) -> None:
    with client(proxy) as connection:
        connection.sendall(b"hello")
        assert read(connection, 5) == b"hello"
        assert (proxy.up, proxy.down, proxy.connections, proxy.open) == (5, 5, 1, 1)


def test_the_end_of_input_is_handed_on(proxy: Proxy) -> None:
    with client(proxy) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert read(connection, 100) == b"last words"


def test_a_cut_resets_and_new_connections_work(proxy: Proxy) -> None:
    with client(proxy) as connection:
        connection.sendall(b"x")
        read(connection, 1)
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with client(proxy) as connection:
        connection.sendall(b"y")
        assert read(connection, 1) == b"y"


def test_refused_until_accepted(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionResetError), client(proxy) as connection:
        connection.recv(1)
    proxy.accept()
    with client(proxy) as connection:
        connection.sendall(b"y")
        assert read(connection, 1) == b"y"


def test_a_stall_holds_bytes_back_and_loses_none(proxy: Proxy) -> None:
    with client(proxy) as connection:
        connection.sendall(b"a")
        read(connection, 1)
        proxy.stall()
        connection.sendall(b"b")
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(10)
        proxy.flow()
        assert read(connection, 1) == b"b"


def test_what_is_swallowed_is_gone_and_nobody_is_told(proxy: Proxy) -> None:
    with client(proxy) as connection:
        connection.sendall(b"a")
        read(connection, 1)
        proxy.swallow()
        connection.sendall(b"lost")
        proxy.wait_until(lambda proxy: proxy.swallowed == 4)
        proxy.flow()
        connection.sendall(b"c")
        assert read(connection, 1) == b"c"


def test_a_cut_at_a_byte(proxy: Proxy) -> None:
    with client(proxy) as connection:
        proxy.cut_after(3)
        connection.sendall(b"hello")
        got = b""
        with pytest.raises(ConnectionResetError):
            while piece := connection.recv(1):
                got += piece
        assert b"hel".startswith(got)  # a reset may overtake what was sent before it
        assert proxy.down == 3


def test_a_gentle_cut_loses_nothing_before_it(proxy: Proxy) -> None:
    with client(proxy) as connection:
        proxy.cut_after(3, gently=True)
        connection.sendall(b"hello")
        assert read(connection, 3) == b"hel"
        assert connection.recv(1) == b""


def test_a_cut_on_the_way_up(proxy: Proxy) -> None:
    with client(proxy) as connection:
        proxy.cut_after(3, up=True)
        connection.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            while connection.recv(1):
                pass
        assert proxy.up == 3
        assert proxy.down <= 3


def test_nobody_at_the_other_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Proxy(port) as proxy, pytest.raises(ConnectionResetError), client(proxy) as connection:
        connection.recv(1)
