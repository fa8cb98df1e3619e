"""`python -m bench.residency`: with choices of one's own (`--voices`, `--room`, `--folder`, …)."""

from __future__ import annotations

import sys

from bench.residency.run import main

sys.exit(main())
