"""The main job on real input, twice: first every producer for itself, then with one shared budget.

    producer 1..8 ---lines over a socket---> intake queue (2 s deep) ---batches---> worker 1, 2 ---> SQLite FTS5
         ^                                        |                                    (one slows down half-way)
         '------ tokens ------ Redis <--- load ---'            only in the second run

Each box is a process of its own, started fresh for each run. A producer reads lines and offers its part of three times
what the workers can take, which a calibration through the same path has measured just before. A full queue drops, as a
log shipper's does. Both runs do the same work on the same lines; the second one differs only in `pace.py`.

A tour in call order: `play.py` is the whole evening, `stage.py` one run of it, `children.py` its processes;
`producer.py`, `service.py` (with `intake.py`) and `worker.py` (with `index.py`) are those processes, `pace.py` is where
they meet the library, `measure.py` the figures, `view.py` and `table.py` what you see.
"""

from nexus_redis.demo.measure import Result, RunFigures
from nexus_redis.demo.options import DemoFailed, Options

__all__ = ["DemoFailed", "Options", "Result", "RunFigures", "run"]


def run(options: Options) -> Result:
    """Plays both runs, prints what the options ask for, and returns the figures; `Result.exit_code` is the verdict.

    Raises `ValueError` for input that cannot be used and `DemoFailed` when a process of the demo broke.
    """
    from nexus_redis.demo.play import play  # here, because every child process imports this package too

    return play(options)
