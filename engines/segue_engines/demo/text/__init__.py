"""English text to phones, in pure Python.

Separate from the model because training and run time must share it exactly: a voice only speaks as well as the phones
it hears at run time match the ones that it was trained on.
"""

from segue_engines.demo.text.frontend import Sentence, read_text, text_to_phones
from segue_engines.demo.text.inventory import PAUSES, PHONES, VOWELS

__all__ = ["PAUSES", "PHONES", "VOWELS", "Sentence", "read_text", "text_to_phones"]
