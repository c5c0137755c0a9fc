"""`nexus-redis`, and `python -m nexus_redis`: only what must work without the packages of the command line."""

import gc
import sys

IMPORTED = 50_000  # objects: imports are most of a verb's time, and a search among them finds no garbage


def main() -> int:
    """Run the command line, and return the exit code."""
    gc.set_threshold(IMPORTED)
    try:
        from nexus_redis.cli.output import print_error, print_warnings

        print_warnings()
        if sys.argv[1:2] in (["signal"], ["run"]):
            from nexus_redis.cli import fast_parser

            code = fast_parser.main(sys.argv[1:])
            if code is not None:
                return code
        from importlib.util import find_spec

        if not (find_spec("typer") and find_spec("rich")):
            from nexus_redis.cli import texts
            from nexus_redis.cli.exit_codes import USAGE

            print_error(texts.INSTALL)
            return USAGE
        from nexus_redis.cli import app

        return app.main()
    except KeyboardInterrupt:  # during the imports
        return 130
    finally:
        gc.freeze()  # nor does a search at exit find any


if __name__ == "__main__":
    sys.exit(main())
