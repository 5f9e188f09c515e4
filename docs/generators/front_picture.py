"""Write the picture of a front that the README shows, from a finished sweep and the project's own figure.

    python -m docs.generators.front_picture sweeps/quickstart

It needs the extra `docs` (kaleido) and a Chrome or Chromium browser, whose path BROWSER_PATH may give.
"""

from __future__ import annotations

import sys
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "images" / "front.svg"
_WIDTH, _HEIGHT = 900, 460


def write_picture(sweep: Path, picture: Path = PICTURE) -> None:
    """Draw the front of a finished sweep as SVG."""
    from autotune.figures import plot_front
    from autotune.results.sweep_tables import read_tables

    figure = plot_front(read_tables(sweep))
    figure.update_layout(
        width=_WIDTH,
        height=_HEIGHT,
        margin={"l": 70, "r": 20, "t": 88, "b": 56},
        title={"y": 0.96, "yanchor": "top"},
        legend={"y": 1.02, "yanchor": "bottom"},
    )
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.write_image(picture)


if __name__ == "__main__":
    write_picture(Path(sys.argv[1]))
    print(PICTURE)
