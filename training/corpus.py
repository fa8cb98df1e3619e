"""Sentences to train on: written for this project, put together from templates, word lists and the lexicon.

Half of them are grammatical (templates), for the rhythm of English; half are rare words in a row, for the sounds and
neighbourhoods that common words lack. All draws come from one seed, so the corpus is the same wherever it is made.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from segue_engines.demo.text.lexicon import _block

_WORDS = {
    "person": "teacher doctor neighbour captain farmer painter sister brother mother father driver baker singer judge "
    "stranger lawyer student pilot nurse child woman man boy girl queen king engineer author uncle aunt cousin friend "
    "visitor merchant soldier poet waiter gardener shepherd musician lady gentleman clerk manager guide player",
    "name": "Anna Robert Julia George Charlotte Thomas Maria Edward Sarah Victor Ruth Hugo Emily Walter Joyce Arthur "
    "Nadia Oliver Heather Philip Susan Jack Zoe Martin Beth Roger Yvonne Charles Lucy Henry",
    "place": "village harbour station library kitchen garden market bridge forest valley museum theatre office island "
    "castle hospital church school beach river mountain street airport cottage factory tower yard house meadow square",
    "thing": "letter window basket blanket candle hammer mirror ladder bottle picture carpet wagon engine violin "
    "umbrella necklace newspaper telephone bucket machine treasure jewel kettle pillow pencil cushion feather ribbon "
    "shoe cloth box key book clock chair table rope watch ring glove knife spoon plate cup boat bell drum wheel axe",
    "mass": "water bread cheese butter sugar coffee paper silver music weather sunshine thunder smoke wood sand gold "
    "knowledge courage happiness silence furniture leather wool milk oil soup rice honey tea earth glass snow rain",
    "animal": "dog cat horse sheep fox rabbit pigeon eagle tiger donkey goose mouse squirrel whale shark beetle "
    "butterfly turtle monkey camel zebra lion bear wolf hedgehog kitten chicken pony swan bee owl frog",
    "adj": "quiet gentle yellow purple enormous tiny ancient narrow curious cheerful heavy golden smooth bitter "
    "strange lovely rough empty hollow bright young old thick thin warm cold loud soft careful honest clever broken "
    "frozen wooden foolish precious familiar ordinary unusual marvellous vague huge pure rare square blue green red "
    "white black round sharp sweet rich poor kind wise brave calm pale dull proud shy",
    "verbed": "carried noticed painted measured followed remembered borrowed watched finished repaired admired "
    "described forgot found lifted opened polished protected pushed remained questioned rescued shook sold stole "
    "touched threw visited washed wanted bought brought caught chose drew enjoyed imagined judged kept loved moved "
    "needed ordered prepared reached searched taught used valued warned",
    "verb": "carry notice paint measure follow remember borrow watch finish repair admire describe forget find lift "
    "open polish protect push question rescue shake sell steal touch throw visit wash want buy bring catch choose draw "
    "enjoy imagine judge keep love move need order prepare reach search teach use value warn",
    "adv": "slowly quickly quietly carefully gladly suddenly happily usually finally nearly certainly patiently "
    "rather gently hardly loudly often always never perhaps together again yesterday tomorrow tonight early outside",
    "prep": "behind under above beside near inside across beyond against toward without through along around over "
    "between before after beneath from into onto at by for with",
    "time": "morning evening afternoon winter summer autumn spring Monday Tuesday Wednesday Thursday Friday Saturday "
    "Sunday January February March April June July August September October November December midnight noon",
    "number": "one two three four five six seven eight nine ten eleven twelve thirteen fifteen twenty thirty forty "
    "fifty sixty seventy eighty ninety hundred thousand million",
}
_SLOTS = {kind: words.split() for kind, words in _WORDS.items()}

_TEMPLATES = """
The {adj} {person} {verbed} the {thing} {prep} the {place}.
{name} {verbed} a {adj} {thing}, and the {animal} {verbed} it {adv}.
Did the {person} {verb} the {adj} {thing} in the {place}?
Where did you {verb} that {thing}, {name}?
Please {verb} the {thing} {adv}, or the {animal} will {verb} it.
In {time}, the {place} is full of {adj} {animal}s and {mass}.
What a {adj} {thing} you {verbed}!
I have never {verbed} such a {adj} {animal} {prep} the {place}.
There are {number} {adj} {thing}s {prep} the {place}, but only {number} of them are {adj}.
When the {person} came back, {name} had already {verbed} the {mass}.
She said that the {animal} would {verb} the {thing} before {time}.
Why should we {verb} the {adj} {place} if nobody {verbed} it?
They {verbed} some {mass} and {mass}, {adv} and without a word.
{name} and {name} will {verb} their {adj} {thing} on {time}.
If you {verb} the {thing}, I will {verb} the {mass} for you.
My {person} is {adj}, his {person} is {adj}, and our {person} is even more {adj}.
The train leaves at {number} {number}, and the ship at {number} {number}.
Could you {verb} me the {thing}, please?
Is this {thing} yours, or does it belong to the {adj} {person}?
The price is {number} dollars and {number} cents, which is {adv} {adj}.
He {verbed} {adv} {prep} the {place}, looking for his {animal}.
We were {adj}, they were {adj}; nobody {verbed} anything.
Thank you, {name}, for the {adj} {thing} that you {verbed} last {time}.
You can {verb} a {thing}, you can {verb} a {animal}, but can you {verb} the {mass}?
It was a {adj} {time} when the {person} first {verbed} the {place}.
Every {time}, {number} {person}s {verb} {mass} {prep} the {place}.
{name}, who {verbed} the {adj} {thing}, was {adv} {adj}.
Hello, this is {name}.
Good {time}, how are you?
Yes, the {animal} is {adj}.
No, I did not {verb} it!
The {mass} {prep} the {place} was as {adj} as {mass}.
Nothing was left of the {adj} {place} but a {thing} and some {mass}.
Only {number} per cent of the {person}s could {verb} the {thing}.
Her voice was {adj}, {adj} and {adj}.
The next version of this voice will {verb} {adv}.
Once upon a time, a {adj} {animal} and a {adj} {person} {verbed} a {thing}.
"""

_OPENINGS = ("the", "a", "some", "this", "every", "her", "my", "no", "that", "an")
_LINKS = ("and", "of", "or", "in", "with", "for", "to", "on", "is", "was", "from", "by", "at", "but", "as")

PARAGRAPHS = """
A voice should change the way a day does, so slowly that nobody can say when it was morning and when it was noon.
The server keeps speaking while the new weights arrive, and one small pointer decides which of them is heard next.
Please hold the line, your call is important to us.
Turn left at the next corner, then continue for two hundred meters.
Rain is expected in the north, with strong winds along the coast and a high of fifteen degrees.
Your order has been shipped and should arrive before Thursday.
She poured the tea, closed the book, and listened to the clock in the hall.
Chapter three: the house at the end of the road.
We measured everything twice, because we had been wrong once.
How much wood would a good worker move, if the weather were warm?
The battery is nearly empty, please connect the charger.
There is always a way back!
Each of these switches took less than five milliseconds.
Nobody noticed that the reader had changed in the middle of the sentence.
Both halves of the model have to come from the same version, or the words will sound wrong.
He asked whether the machine could hear itself, and whether it liked what it heard.
"""


def sentences(count: int, *, seed: int) -> Iterator[str]:
    """Yield `count` sentences; the same for the same seed."""
    draw = random.Random(seed)
    rare = _rare_words()
    templates = [line for line in _TEMPLATES.strip().splitlines() if line]
    paragraphs = PARAGRAPHS.strip().splitlines()
    for index in range(count):
        if index < len(paragraphs):
            yield paragraphs[index]
        elif draw.random() < 0.5:
            yield _filled(draw.choice(templates), draw)
        else:
            yield _rare(rare, draw)


def _filled(template: str, draw: random.Random) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: draw.choice(_SLOTS[match[1]]), template)


def _rare(words: list[str], draw: random.Random) -> str:
    said: list[str] = []
    for _ in range(draw.randint(2, 9)):
        if draw.random() < 0.4:
            said.append(draw.choice(_OPENINGS if draw.random() < 0.5 else _LINKS))
        said.append(draw.choice(words))
        if draw.random() < 0.12:
            said[-1] += ","
    return " ".join(said).rstrip(",") + draw.choice(("." * 6) + "??!")


def _rare_words() -> list[str]:
    entries = [line.split(b" ", 1)[0].decode() for line in _block().splitlines()]
    return [word for word in entries if 3 <= len(word) <= 12 and "'" not in word]
