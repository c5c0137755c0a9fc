"""A port that speaks TLS before a server that does not, and the certificate for it; needs the program openssl."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.harness.support import join


def certify(folder: Path, name: str = "localhost") -> None:
    """Make cert.pem and key.pem, which sign themselves, for one host name."""
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN={name}"
    names = ["-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*make.split(), *names], cwd=folder, check=True, capture_output=True)


class _Closing(ssl.SSLSocket):
    """A socket that closes itself: `wrap_socket` leaves one open where the client has gone before the handshake."""

    def __del__(self) -> None:
        self.close()


@contextmanager
def encrypting(folder: Path, port: int) -> Iterator[int]:
    """A port that speaks TLS and passes all on to another."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = _Closing
    if (folder / "cert.pem").exists():
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    def serve(client: socket.socket) -> None:
        with ExitStack() as open_ones, suppress(OSError):
            plain = open_ones.enter_context(context.wrap_socket(open_ones.enter_context(client), server_side=True))
            inside = open_ones.enter_context(socket.create_connection(("127.0.0.1", port)))
            other = threading.Thread(target=pass_on, args=(inside, plain), daemon=True)
            other.start()
            pass_on(plain, inside)
            join(other)

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
