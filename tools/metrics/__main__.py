"""`python -m tools.metrics` writes docs/metrics.md; `--check` only compares."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.metrics.page import render_page

PAGE = Path("docs/metrics.md")


def main() -> None:
    """Write it, or say that it is not up to date."""
    parser = argparse.ArgumentParser(prog="python -m tools.metrics", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where it is not up to date")
    check = parser.parse_args().check
    text = render_page()
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return
    if check:
        sys.exit(f"not up to date: {PAGE}; run: make generate")
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
