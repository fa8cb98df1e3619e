"""The measured promises. `python -m bench [NAME…] [--short] [--out DIR]` prints tables and writes DIR/NAME.json."""

import os

# One thread, as a worker of the server has: a bench that speaks by itself must not compare two threads with one.
# Read by numpy's BLAS when it is first imported, hence here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
