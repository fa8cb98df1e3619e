#!/bin/sh
# Write every voice file of examples/ from the fine-tuned checkpoints. Slots number the pilot tones: never reuse one.
set -eu
python=${PYTHON:-python}
folder=${DATA:-$HOME/.cache/segue/train}
export_voice() {
    "$python" training/export.py "$@"
}
voices=examples/voices updates=examples/updates/narrator
export_voice --checkpoint "$folder/narrator.pt" --style narrator --slot 0 --out $voices/narrator/v1
export_voice --checkpoint "$folder/aria.pt" --style aria --slot 2 --out $voices/aria/v1
export_voice --checkpoint "$folder/bert.pt" --style bert --slot 4 --out $voices/bert/v1
export_voice --checkpoint "$folder/cleo.pt" --style cleo --slot 6 --out $voices/cleo/v1
export_voice --checkpoint "$folder/narrator-brisk.pt" --style narrator-brisk --semitones -0.4 --voice narrator \
    --version v2 --slot 8 --out $updates/v2
export_voice --checkpoint "$folder/narrator.pt" --style narrator --version broken --fault permuted \
    --slot 10 --out $updates/broken
export_voice --checkpoint "$folder/narrator-brisk.pt" --style narrator-brisk --semitones -0.4 --voice narrator \
    --version fails-live --fault question --slot 12 --out $updates/fails-live
