"""The library's main job on real input, twice: first each producer works alone, then all share one budget.

    producer 1..8 ---lines over a socket---> intake queue (2 s deep) ---batches---> worker 1, 2 ---> SQLite FTS5
         ^                                        |                                    (one slows down half-way)
         '------ tokens ------ Redis <--- load ---'            only in the second run

Each box is a process of its own, started again for each run. The producers together offer three times the capacity of
the workers, which a calibration through the same path has measured just before. A full queue drops records, as that of
a log shipper does. Both runs do the same work on the same lines, and differ only in `pace.py`.

In call order: `play.py` is the whole demo, `stage.py` one run of it, and `children.py` starts the processes of a run.
`producer.py`, `service.py` (with `intake.py`) and `worker.py` (with `index.py`) are these processes. `pace.py` is where
they use the library, `measure.py` has the figures, and `view.py` and `table.py` show them.
"""

from nexus_redis.demo.measure import Result, RunFigures
from nexus_redis.demo.options import DemoFailed, Options

__all__ = ["DemoFailed", "Options", "Result", "RunFigures", "run"]


def run(options: Options) -> Result:
    """Play both runs, print what the options ask for, and return the figures; `Result.exit_code` is the verdict.

    Raises `ValueError` for input that cannot be used, and `DemoFailed` if a process of the demo fails.
    """
    from nexus_redis.demo.play import play  # imported here, because every child process imports this package, too

    return play(options)
