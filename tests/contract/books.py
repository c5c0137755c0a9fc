"""Both sides of the books: what Redis granted, and what producers did with it, to the micro-token."""

from __future__ import annotations

from typing import Any

from nexus_redis.account import Account
from nexus_redis.ledger import MICRO
from tests.packing import numbers
from tests.servers import Server

REST = 4  # where the bucket's packed text has the micro-tokens below the whole count


def granted_by(server: Server, name: str = "stripe") -> int:
    """Micro-tokens granted in this life of the budget, as Redis counts them."""
    client: Any = server.client()
    total, bucket = client.hmget(f"nexus:{{{name}}}", "granted_total", "bucket")
    return int(total) * MICRO + int(numbers("bucket", bucket)[REST])


def spent(account: Account) -> int:
    """Granted to this producer, by what became of it; the law of conservation holds or this fails."""
    book = account.ledger
    assert book.granted == book.used + book.returned + book.burned + book.held
    assert min(book.used, book.returned, book.burned, book.held) >= 0
    return book.granted
