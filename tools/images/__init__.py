"""Container images of Segue's three processes, from whatever engine a machine has, and what is inside them.

`build` makes them as OCI archives, each with its SBOM beside it; `python -m tools.images` is the same for a person. One
image is a recipe (`recipes.py`), a base (`bases.py`, `debian.py`), an engine that runs the recipe (`engines.py`), and
a place in the cache that follows from all of its inputs (`store.py`).
"""

from tools.images.building import build
from tools.images.errors import ImageError
from tools.images.recipes import IMAGES
from tools.images.reports import BuiltImage

__all__ = ["IMAGES", "BuiltImage", "ImageError", "build"]
