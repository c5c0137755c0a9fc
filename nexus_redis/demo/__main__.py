"""`python -m nexus_redis.demo`: the demo without the `nexus-redis` command."""

import argparse
import sys
from pathlib import Path

from nexus_redis._values.parse import typed_seconds
from nexus_redis.demo import DemoFailed, Options, run
from nexus_redis.demo.options import SECONDS
from nexus_redis.errors import Unavailable


def main() -> int:
    parser = argparse.ArgumentParser("python -m nexus_redis.demo", argument_default=argparse.SUPPRESS)
    parser.add_argument("--input", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=lambda text: typed_seconds(text, "seconds", SECONDS))
    parser.add_argument("--producers", type=int)
    parser.add_argument("--consumers", type=int)
    parser.add_argument("--url")
    parser.add_argument("--namespace")
    parser.add_argument("--json", action="store_true")
    chosen = vars(parser.parse_args())
    try:
        return run(Options(**{**chosen, "input": tuple(chosen.get("input", ()))})).exit_code
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 69
    except DemoFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
