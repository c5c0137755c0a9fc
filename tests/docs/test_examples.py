"""Each example does what its first line says, as far as that holds on a machine that is busy: what is lost, what is
allowed, who comes before whom. How fast it is then, and how evenly it shares, is measured in virtual time elsewhere.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nexus_redis import Nexus
from nexus_redis._core.round_trips import MOST_OUT
from nexus_redis._redis.embedded import HOST
from nexus_redis.testing import assert_never_exceeded
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE, PATIENCE, eventually, free_port, is_open, join, now, patient

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def numbers(text: str) -> list[float]:
    """All that are in it."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def start(server: Server, name: str, *arguments: str) -> subprocess.Popen[str]:
    """Run an example as a user would."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / name), *arguments], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "NEXUS_REDIS_URL": patient(server.url)},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """Its output, if it ended well."""
    out, error = process.communicate(timeout=LONG_PATIENCE)
    assert process.returncode == 0, error
    return out


def test_the_quickstart_keeps_the_rate(one_server: Server) -> None:
    """The quickstart makes its calls at the shared rate.

    Two processes at once: 40 calls at 10/s take 4 s less the first bucket, however they are split.
    """
    began = now()
    processes = [start(one_server, "quickstart.py") for _ in range(2)]
    for process in processes:
        assert "call 19" in finish(process).splitlines()[-1]
    assert now() - began >= (40 - 1) / 10 - 0.25


def test_fifty_tasks_share_one_budget(one_server: Server) -> None:
    """Fifty tasks share one budget."""
    assert "50 calls at 100/s" in finish(start(one_server, "async_producer.py"))


def test_producers_follow_the_consumer(one_server: Server) -> None:
    """Producers follow the consumer, and nothing is dropped.

    One consumer, three producers over a socket: what is sent gets done, and nothing is lost.
    """
    listens = f"{HOST}:{free_port()}"
    consumer = start(one_server, "consumer.py", "--listen", listens)
    producers = [start(one_server, "producer.py", "--to", listens, "--seconds", "3") for _ in range(3)]
    sent = sum(int(finish(producer).split()[-1]) for producer in producers)
    with Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("indexer")
        assert eventually(lambda: [int(each.fields["done"]) for each in budget.snapshot().consumers] == [sent])
    consumer.send_signal(signal.SIGTERM)
    finish(consumer)
    assert sent > 0


def test_a_consumer_sums_up_at_its_end(one_server: Server) -> None:
    """A consumer prints at its end how much it got done and dropped."""
    said = finish(start(one_server, "consumer.py", "--listen", f"{HOST}:{free_port()}", "--seconds", "0.2"))
    assert said == "done 0, dropped 0\n"


def test_an_llm_fleet_meets_no_429(one_server: Server) -> None:
    """Twenty processes on an LLM API with two limits do not get one 429."""
    answers, refused = re.findall(r"\d+", finish(start(one_server, "llm_api.py", "--seconds", "6")))[:2]
    assert int(refused) == 0
    assert int(answers) >= 20  # each makes one at least; of some 270 that 600,000 tokens/min allow in 6 s


def test_four_processes_meet_no_429(one_server: Server) -> None:
    """Four processes share the limit of an API and do not get one 429."""
    answers, refused = numbers(finish(start(one_server, "fixed_limit.py", "--seconds", "6")))[:2]
    assert refused == 0
    assert answers >= 4  # each makes one at least; of some 300


def test_the_rate_follows_the_work_done(one_server: Server) -> None:
    """The rate follows what adaptive consumers get done."""
    *lines, last = finish(start(one_server, "adaptive.py", "--seconds", "10")).splitlines()
    assert slower_in_its_second_half(lines, 10)
    sent, dropped = numbers(last)
    assert dropped < sent / 4  # none on an idle machine; a busy one reports late, and the queue holds less than 2 s


def slower_in_its_second_half(lines: list[str], seconds: float) -> bool:
    """Of lines that say when and which rate. It is four times slower; how soon that is known, is a matter of time."""
    rates = [numbers(line)[:2] for line in lines]
    before = [rate for at, rate in rates if at <= seconds / 2]
    after = [rate for at, rate in rates if at > seconds / 2]
    return min(after) < max(before)


def test_weights_and_classes_divide(one_server: Server) -> None:
    """Weights divide what is short, and classes go before."""
    said = finish(start(one_server, "weights.py", "--seconds", "8"))
    got = {name: float(rate) for name, rate in re.findall(r"(\w+) +([\d.]+)/s", said)}
    assert sum(got.values()) <= 200 + (1 + 0.75 * 200) / 8  # a bucket and a lease more, over the run
    assert got["web"] > got["mobile"] > got["nightly"] > 0
    assert 0 < got["checkout"] <= 21  # wants 20, less what its sleeps are longer on a busy machine


def test_a_killed_worker_takes_its_part_along(one_server: Server) -> None:
    """A killed worker takes its part of the rate along."""
    whole, less = finish(start(one_server, "worker_fleet.py", "--seconds", "10")).splitlines()
    fleet = re.compile(r": ([\d.]+)/s for ([w\d, ]*); sent")
    found = [fleet.search(line) for line in (whole, less)]
    assert all(found)
    (all_of_it, everyone), (rest, others) = ((float(each[1]), each[2].split(", ")) for each in found if each)
    assert set(everyone) <= {"w0", "w1", "w2"}
    assert set(others) <= {"w1", "w2"}
    assert all_of_it <= 300
    assert rest <= 200  # 100/s is the most that each can take


def test_idle_budgets_need_no_calls(one_server: Server) -> None:
    """Ten thousand budgets need no threads of their own, and the idle ones no calls."""
    opened, admitted, used, calls = finish(start(one_server, "per_customer.py", "--seconds", "6")).splitlines()
    assert numbers(opened)[0] == 10_000
    assert numbers(opened)[1] < 4  # kB
    most, least, seconds = numbers(admitted)
    assert 0 <= least <= most <= 1 + 5 * (seconds + 1 + 0.5)  # 5/s, a bucket of a second, a lease
    assert most > 0
    threads, budgets = numbers(used)
    assert (budgets, 4 <= threads <= 3 + MOST_OUT) == (100, True)  # the program's, one that listens, two that claim
    assert numbers(calls)[0] < 300  # none, or a last word or two of each; a claim each tenth of a second were 3,000


def test_a_stream_fills_as_it_is_read(one_server: Server) -> None:
    """A stream is filled at the pace of its group."""
    *lines, last = finish(start(one_server, "stream_pipeline.py", "--seconds", "10")).splitlines()
    assert slower_in_its_second_half(lines, 10)
    orders, longest, limit = numbers(last)
    assert orders > 0
    assert longest < limit


def test_the_shell_script_gets_by_without_python(one_server: Server) -> None:
    """The shell script gets by without Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(ROOT / "examples" / "shell.sh")], capture_output=True, text=True, timeout=LONG_PATIENCE, check=False,
        env={**os.environ, "NEXUS_REDIS_URL": one_server.url, "PATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[said.index("# ten commands, four at a time, each when its token is there") + 1].strip() == "10"
    assert "unchanged" in said
    assert '"recommended_rate":100,"backpressure_level":2' in done.stdout
    assert "exit code 75: no token in time" in said
    assert "never printed" not in said
    assert "restored 3 budgets: api, index, lines" in said
    with Nexus.from_url(one_server.url) as nexus:
        assert nexus.budgets() == []


def test_every_example_is_tested_here() -> None:
    """Every example is tested here."""
    examples = {path.name for path in (ROOT / "examples").iterdir() if path.is_file()}
    here = Path(__file__).read_text() + (ROOT / "docker-compose.yml").read_text()
    assert {name for name in examples if name not in here and name.removesuffix(".py") + ":app" not in here} == set()


# --- web_app.py


@contextmanager
def gunicorn(server: Server, home: Path, workers: int, *options: str) -> Iterator[int]:
    """The port on which web_app.py is served."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--workers", str(workers), "--threads", "4", "--bind", f"{HOST}:{port}",
         "--chdir", str(ROOT / "examples"), *options, "web_app:app"],
        env={**os.environ, "NEXUS_REDIS_URL": patient(server.url), "HOME": str(home)}, text=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert eventually(lambda: is_open(port))
        yield port
    finally:
        process.terminate()
        error = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, error
    assert "Traceback" not in error


def shoot(port: int, requests: int, answers: list[tuple[int, str]]) -> None:
    for _ in range(requests):
        connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        connection.request("GET", "/")
        answer = connection.getresponse()
        answers.append((answer.status, answer.read().decode()))
        connection.close()


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["forked first", "preloaded"])
def test_web_workers_hold_one_limit(one_server: Server, tmp_path: Path, options: tuple[str, ...]) -> None:
    """All workers of a web application hold one limit under one literal id."""
    answers: list[tuple[int, str]] = []
    with gunicorn(one_server, tmp_path, 3, *options) as port, Nexus.from_url(one_server.url) as nexus:
        clients = [threading.Thread(target=shoot, args=(port, 6, answers)) for _ in range(20)]
        for client in clients:
            client.start()
        join(*clients)
        producers = {producer.id for producer in nexus.budget("backend").snapshot().producers}
    assert len(answers) == 120
    assert {status for status, _ in answers} <= {200, 503}
    served = [text.split() for status, text in answers if status == 200]
    assert_never_exceeded([(float(at), 1.0) for at, _, _ in served], "20/s", largest=12)  # so many threads may be late
    ids = {pid: name for _, pid, name in served}
    assert len(ids) >= 2
    assert len(set(ids.values())) == len(ids)  # each worker a name of its own ...
    assert all(name == "web" or name.startswith("web.") for name in producers)  # ... made of the literal one
    with Nexus.from_url(one_server.url) as nexus:
        assert nexus.budget("backend").snapshot().producer_count == 0  # who is told to stop hands back and leaves
