"""Korean: written text to jamo as they are spoken.

`normalise` writes out what is not hangul, `respelled` holds words that rules do not reach, `sounds` applies the rules
of standard pronunciation, `reading` takes the syllables apart.
"""
