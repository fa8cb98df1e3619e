"""`make images`: container images of the operator, the sidecar and the server, as OCI archives."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.images import recipes
from tools.images.bases import AUTO
from tools.images.building import OUTPUT, Torch, build
from tools.images.engines import ENGINES
from tools.images.errors import ImageError
from tools.images.reports import as_table

EXAMPLES = """\
  make images                                        all three, on python:3.12-slim, or on Debian by debootstrap
  make images ARGS="server --base registry.example.com/debian-python:12"
  make images ARGS="--engines gpt-sovits"            sidecar and server that speak GPT-SoVITS voices; some gigabytes
  make images ARGS="--refresh"                       with the base of today
  ctr -n k8s.io images import build/images/server.tar        into containerd
  docker load -i build/images/server.tar                     into docker

What was built once is kept in $SEGUE_CACHE (else ~/.cache/segue) and used again until something that it is made of
changes. docs/images.md says more.
"""


def main() -> int:
    """Parse and build; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.images",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(recipes.IMAGES)}; all unless given")
    parser.add_argument("--base", default=AUTO, help="an image to build upon, or debootstrap: one that is made here")
    parser.add_argument("--engine", default="auto", choices=("auto", *ENGINES), help="default: the first that works")
    parser.add_argument("--tag", help="default: Segue's version, which is the chart's appVersion")
    parser.add_argument("--source", default="", metavar="URL", help="of the sources, for a label")
    parser.add_argument(
        "--engines", default="", choices=[*recipes.ENGINES], help="sidecar and server with this engine's libraries"
    )
    parser.add_argument(
        "--torch", default="", metavar="LINE", help="another torch: 'torch==2.8.0+cpu --hash=sha256:...'"
    )
    parser.add_argument("--torch-index", default="", metavar="URL", help="of the index that has it")
    parser.add_argument("--refresh", action="store_true", help="get the base anew")
    parser.add_argument("--out", type=Path, default=OUTPUT, metavar="FOLDER", help=f"default: {OUTPUT}")
    arguments = parser.parse_args()
    try:
        built = build(
            arguments.images,
            engines=arguments.engines,
            torch=Torch(line=arguments.torch, index=arguments.torch_index),
            output=arguments.out,
            base=arguments.base,
            tag=arguments.tag,
            engine=arguments.engine,
            source=arguments.source,
            refresh=arguments.refresh,
            say=lambda line: print(line, flush=True),
        )
    except ImageError as error:
        print(f"No images: {error}", file=sys.stderr)
        return 1
    print(f"\n{as_table(built.values())}\n\nin {arguments.out}: NAME.tar, NAME.cdx.json (SBOM), report.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
