"""`nexus-redis`, and `python -m nexus_redis`: here only what must work without the command line's own packages."""

import sys
from importlib.util import find_spec

INSTALL = "nexus-redis: the command line needs its extra packages: pip install '.[cli]'"


def main() -> int:
    """Run the command line; the answer is the exit code."""
    if not (find_spec("typer") and find_spec("rich")):
        print(INSTALL, file=sys.stderr)
        return 2
    try:
        from nexus_redis.cli.app import run

        return run()
    except KeyboardInterrupt:  # while it was still importing
        return 130


if __name__ == "__main__":
    sys.exit(main())
