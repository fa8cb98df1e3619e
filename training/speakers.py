"""The speakers of the demo: which espeak voice each is taught by."""

from __future__ import annotations

from typing import Final

from espeak import Speaker

STYLES: Final = {
    "narrator": Speaker(voice="en-us+m3", rate_wpm=176, pitch=46, pitch_range=50, resample=0.87),
    "aria": Speaker(voice="en-us+f3", rate_wpm=158, pitch=70, pitch_range=50, resample=1.15),
    "cleo": Speaker(voice="en-us+steph", rate_wpm=165, pitch=60, pitch_range=50),
    "bert": Speaker(voice="en-us+edward", rate_wpm=168, pitch=40, pitch_range=50),
    "narrator-brisk": Speaker(voice="en-us+m3", rate_wpm=188, pitch=49, pitch_range=66, resample=0.87),
}
"""Style to its teacher. `narrator-brisk` is the narrator at another rate and pitch range: what version 2 is made of."""

PITCH_HZ: Final = {
    "narrator": (60.0, 220.0),
    "narrator-brisk": (60.0, 240.0),
    "aria": (110.0, 480.0),
    "cleo": (80.0, 420.0),
    "bert": (60.0, 320.0),
}
"""Where the pitch tracker looks, lowest and highest."""
