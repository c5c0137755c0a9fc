"""`nexus-redis`, and `python -m nexus_redis`: here only what must work without the command line's own packages."""

import gc
import sys

IMPORTED = 50_000  # objects: most of a verb's time is imports, and to look for garbage among them finds none
INSTALL = "nexus-redis: the command line needs its extra packages: pip install '.[cli]'"


def main() -> int:
    """Run the command line; the answer is the exit code."""
    gc.set_threshold(IMPORTED)
    try:
        if sys.argv[1:2] in (["signal"], ["run"]):
            from nexus_redis.cli import fast_parser

            code = fast_parser.main(sys.argv[1:])
            if code is not None:
                return code
        from importlib.util import find_spec

        if not (find_spec("typer") and find_spec("rich")):
            print(INSTALL, file=sys.stderr)
            return 2
        from nexus_redis.cli.app import run

        return run()
    except KeyboardInterrupt:  # while it was still importing
        return 130
    finally:
        gc.freeze()  # nor does the search at exit


if __name__ == "__main__":
    sys.exit(main())
