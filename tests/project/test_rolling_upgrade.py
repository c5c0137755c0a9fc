"""A rolling upgrade: wheels of this release and of the next one, whose schema is higher, on one server.

The next release is this one with another number and the migration that it would bring: it reads the state of today
and writes its own. A release that changes the schema replaces `NEXT` by the wheel before it, and this test stays.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.harness.servers import Server

NEXT: Final = {
    "local SCHEMA = 3\n": "local SCHEMA = 4\n",
    "  if schema ~= SCHEMA or sum - sum ~= 0 then error('damaged') end\n": (
        "  if schema == 3 then schema = SCHEMA end\n  if schema ~= SCHEMA or sum - sum ~= 0 then error('damaged') end\n"
    ),
}
CLIENT: Final = """
import sys
sys.path.insert(0, sys.argv[1])
from nexus_redis import Nexus
with Nexus.from_url(sys.argv[2]) as nexus:
    producer = nexus.budget("stripe", rate=500).producer(sys.argv[3])
    for word in sys.stdin:
        grants = [producer.acquire() for _ in range(int(word))]
        print(sum(grant.degraded for grant in grants), flush=True)
"""


pytestmark = pytest.mark.xdist_group("packaging")  # one worker builds


def wheel_of(source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(source)]
    build = subprocess.run(command, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    return next(folder.iterdir())


def unpacked(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)  # noqa: S202  # an archive of our own making
    return folder


@pytest.fixture(scope="module")
def releases(built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders to import from: this release and the next."""
    folder = tmp_path_factory.mktemp("releases")
    this = unpacked(next(built.glob("*.whl")), folder / "old")
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(folder / "next", filter="data")
    tree = next((folder / "next").iterdir())
    state = tree / "lua" / "lib" / "state.lua"
    text = state.read_text()
    for before, after in NEXT.items():
        assert before in text
        text = text.replace(before, after)
    state.write_text(text)
    subprocess.run([sys.executable, "-m", "tools.bundle_lua"], cwd=tree, check=True)
    return this, unpacked(wheel_of(tree, folder / "wheel"), folder / "new")


class Client:
    """A process that acquires as often as it is told."""

    def __init__(self, release: Path, url: str, name: str) -> None:
        command = [sys.executable, "-I", "-c", CLIENT, str(release), url, name]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def acquire(self, times: int) -> int:
        """Acquire so often, and return how many of these were degraded."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> str:
        """End it, and return what it logged."""
        _, said = self.process.communicate()
        return said


@contextmanager
def client(release: Path, url: str, name: str) -> Iterator[Client]:
    it = Client(release, url, name)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.wait()


def test_old_and_new_clients_side_by_side(releases: tuple[Path, Path], one_server: Server) -> None:
    """Old and new clients work side by side."""
    old, new = releases
    redis: Any = one_server.client()
    with ExitStack() as stack:
        before = stack.enter_context(client(old, one_server.url, "web-1"))
        assert before.acquire(50) == 0
        upgraded = stack.enter_context(client(new, one_server.url, "web-2"))
        assert upgraded.acquire(50) == 0
        assert redis.hget("nexus:{stripe}", "schema") == b"4"
        # What it holds it spends, and then it goes by its share.
        degraded = sum(before.acquire(20) for _ in range(10))
        assert degraded > 0
        assert before.acquire(20) == 20
        assert upgraded.acquire(50) == 0
        said = before.end()
        assert said.count("NEXUS_SCHEMA") == 1, said
        assert said.count("\n") == 1, said
        assert redis.hget("nexus:{stripe}", "schema") == b"4"
        restarted = stack.enter_context(client(new, one_server.url, "web-1"))
        assert restarted.acquire(50) == 0
        assert restarted.end() == upgraded.end() == ""
    history = redis.xrange("nexus:{stripe}:history", "-", "+")
    assert [entry[b"what"] for _, entry in history if b"what" in entry] == [b"rate unset -> 500"]  # nothing began anew
