"""`python -m tools.images.sbom`: the last step of an image's build writes down what is in it."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.images.sbom.document import Subject, describe
from tools.images.sbom.python_packages import wheel_digests


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(prog="python -m tools.images.sbom", description=__doc__)
    parser.add_argument("--name", required=True, help="of the image")
    parser.add_argument("--version", required=True, help="of the image")
    parser.add_argument("--environment", type=Path, required=True, metavar="FOLDER", help="the virtual environment")
    parser.add_argument("--installed", type=Path, required=True, metavar="FILE", help="what pip install --report wrote")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the document goes")
    arguments = parser.parse_args()
    subject = Subject(name=arguments.name, version=arguments.version, environment=arguments.environment)
    document = describe(subject, digests=wheel_digests(arguments.installed))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    main()
