"""Both sides of the books: what Redis granted, and what producers did with it, to the micro-token."""

from __future__ import annotations

from typing import Any

from nexus_redis._core.producer import ProducerSession
from nexus_redis._values.parse import MICRO
from tests.harness.packing import numbers
from tests.harness.servers import Server

REST = 5  # where the bucket has the micro-tokens below the whole count


def granted_by(server: Server, name: str = "stripe") -> int:
    """Micro-tokens granted in this life of the budget, as Redis counts them."""
    client: Any = server.client()
    bucket = numbers("bucket", client.get(f"nexus:{{{name}}}:state"))
    return int(bucket[REST - 1] * MICRO + bucket[REST])


def spent(account: ProducerSession) -> int:
    """Granted to this producer, by what became of it; the law of conservation holds or this fails."""
    book = account.ledger
    assert book.granted == book.used + book.returned + book.burned + book.held
    assert min(book.used, book.returned, book.burned, book.held) >= 0
    return book.granted


def agree(server: Server, account: ProducerSession, given_up: list[object], name: str = "stripe") -> bool:
    """Both sides have the same sum. A claim that was given up, half a second after it was sent, may have burned there.

    `given_up` is the fixture of that name: only a machine that stands still for so long makes an entry in it.
    """
    granted = granted_by(server, name)
    return spent(account) <= granted if given_up else spent(account) == granted
