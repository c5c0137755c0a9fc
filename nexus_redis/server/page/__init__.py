"""The page at `/`: plain HTML, CSS and JavaScript modules, which a server sends as they are.

`index.html` is the page, and everything else is below `static/`. There is no build step, and nothing is loaded from
elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
INDEX: Final = FOLDER / "index.html"
STATIC: Final = FOLDER / "static"
