#!/bin/sh
# Fine-tune the shared base for every style, one after another: about 75 s each on one core.
set -eu
python=${PYTHON:-python}
folder=${DATA:-$HOME/.cache/segue/train}
for style in narrator-brisk narrator aria bert cleo; do
    "$python" -W ignore training/train.py --data "$folder" --start "$folder/base.pt" --style "$style" \
        --steps 130 --rate 4e-4 --out "$folder/$style.pt"
done
