"""`python -m tools.chart` writes the files of the chart that follow from others; `--check` only compares."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.chart.crd import render_template
from tools.chart.schema import render_schema
from tools.chart.values import with_table
from tools.dashboards.render import render_dashboards

CHART = Path("charts/segue")


def made() -> dict[Path, str]:
    """Each file and what is to be in it."""
    page, values = ((CHART / name).read_text(encoding="utf-8") for name in ("README.md", "values.yaml"))
    return {
        CHART / "templates" / "crds.yaml": render_template(),
        CHART / "values.schema.json": render_schema(),
        CHART / "README.md": with_table(page, values),
        **{CHART / "dashboards" / name: text for name, text in render_dashboards().items()},
    }


def main() -> None:
    """Write, or say what is not up to date."""
    parser = argparse.ArgumentParser(prog="python -m tools.chart", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a file is not up to date"
    )
    check = parser.parse_args().check
    stale = [path for path, text in made().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check and stale:
        sys.exit(f"not up to date: {', '.join(map(str, stale))}; run: make generate")
    for path in stale:
        path.write_text(made()[path], encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
