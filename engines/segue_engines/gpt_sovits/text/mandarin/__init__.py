"""Mandarin: written text to initials and finals with tones.

`normalise` writes out what is not hanzi, `words` cuts and `polyphones` tells readings, `sandhi` says how tones change
in company, `syllables` turns pinyin into phones, `reading` does it all.
"""
