"""The measured promises. `python -m bench [NAME…] [--short] [--out DIR]` prints tables and writes DIR/NAME.json."""
