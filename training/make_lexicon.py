"""Trim the CMU Pronouncing Dictionary to the lexicon of the demo voices.

    curl -sSO https://registry.npmjs.org/cmu-pronouncing-dictionary/-/cmu-pronouncing-dictionary-3.0.0.tgz
    tar xzf cmu-pronouncing-dictionary-3.0.0.tgz
    python training/make_lexicon.py package/index.js

Keeps plain words with their first pronunciation. Possessives are made at run time from the word they belong to.
"""

from __future__ import annotations

import argparse
import gzip
import re
from pathlib import Path

OUTPUT = Path(__file__).parent.parent / "engines" / "segue_engines" / "demo" / "text" / "lexicon.txt.gz"
MISREAD = frozenset({"aaa"})
"""Entries that say what an abbreviation is called ("triple A") and not how the word sounds."""


def entries(source: str) -> dict[str, str]:
    """Words and phones of the package's JavaScript module."""
    found: dict[str, str] = {}
    for match in re.finditer(r'^  "?((?:[^"\\]|\\.)*?)"?: "([^"]*)"', source, re.MULTILINE):
        word, phones = match[1].replace("\\'", "'"), match[2].split(" #")[0].strip()
        if re.fullmatch(r"[a-z][a-z']*", word) and not word.endswith("'s") and word not in MISREAD:
            found[word] = phones
    return found


def main() -> None:
    """Write the lexicon, sorted as the run-time search expects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="index.js of the npm package")
    words = entries(parser.parse_args().source.read_text(encoding="utf-8"))
    lines = "".join(f"{line}\n" for line in sorted(f"{word} {phones}" for word, phones in words.items()))
    OUTPUT.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    print(f"{len(words)} words, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
