"""What users install: the wheel that is built from the sdist."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from nexus_redis._protocol import scripts

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
pytestmark = pytest.mark.xdist_group("packaging")  # one worker builds
LUA = {path.relative_to(ROOT).as_posix() for path in (ROOT / "lua").rglob("*.lua")}


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("*.whl")))


@pytest.fixture(scope="module")
def unpacked(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.extractall(folder)  # noqa: S202  # an archive of our own making
    return folder


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(read(wheel, "METADATA"))


def read(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(f"nexus_backpressure-{PROJECT['version']}.dist-info/{name}").decode()


def test_the_wheel_has_every_script(wheel: zipfile.ZipFile) -> None:
    """The wheel has every script inside the package, and nothing beside it."""
    names = set(wheel.namelist())
    assert LUA
    assert {name for name in names if name.endswith(".lua")} == {f"nexus_redis/{path}" for path in LUA}
    assert {name.split("/")[0] for name in names} == {
        "nexus_redis",
        f"nexus_backpressure-{PROJECT['version']}.dist-info",
    }
    assert "nexus_redis/py.typed" in names
    assert not any("__pycache__" in name for name in names)


def test_the_wheel_has_the_page(wheel: zipfile.ZipFile) -> None:
    """The wheel has every file of the live page, and the licence of what others wrote of it."""
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nexus_redis/server/page").rglob("*.*")}
    assert {"nexus_redis/server/page/index.html", "nexus_redis/server/page/uplot/README.md"} <= page
    assert page | {"nexus_redis/server/page/uplot/LICENSE"} <= set(wheel.namelist())


def test_the_sdist_is_complete(built: Path) -> None:
    """The sdist has what a packager needs, and no leftovers."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert names >= LUA | {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py"}
    assert not [name for name in names if name.startswith(".") and name != ".gitignore"]  # hatchling adds that one


@pytest.mark.parametrize("name", scripts.NAMES)
def test_a_wheel_composes_the_same_scripts(name: str, unpacked: Path) -> None:
    """An unpacked wheel composes the same scripts as the checkout."""
    code = (
        f"import sys; sys.path.insert(0, {str(unpacked)!r})\n"
        "from nexus_redis._protocol import scripts\n"
        f"print(scripts.__file__, scripts.script({name!r}).sha)"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(unpacked / "nexus_redis" / "_protocol" / "scripts.py"), scripts.script(name).sha]


def test_the_core_needs_three_packages(metadata: Message) -> None:
    """The core needs three packages, and every other one is an extra."""
    core = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(core) == ["msgpack>=1.0.5", "pydantic<3,>=2.7", "redis<9,>=5.0.1"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def test_the_wheel_has_its_metadata(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """The wheel has its name, its licence, its Python versions and its command."""
    assert metadata["Name"] == "nexus-backpressure"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "nexus-redis = nexus_redis.__main__:main" in read(wheel, "entry_points.txt")
    assert "Apache License" in read(wheel, "licenses/LICENSE")


def test_no_text_installs_a_foreign_package() -> None:
    """No text tells a reader to install the package of another project."""
    wrong = "pip install " + "nexus-redis"
    folders = ("lua", "nexus_redis", "tests", "docs", "examples", "benchmarks")
    texts = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    assert [path for path in texts if path.is_file() and wrong.encode() in path.read_bytes()] == []
