"""`python -m tests.vectors` writes `scripts.json` anew; look at what changed before you believe it."""

import fakeredis

from tests.vectors.scripts import write

write(fakeredis.FakeRedis())
