"""Which encodings bytes may be text of, and what they would read."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

_SINGLE_BYTE: Final = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874",
    "koi8-r", "cp866", "cp850", "mac-roman",
)  # fmt: skip
_DOUBLE_BYTE: Final = {
    "gb18030": (0xB0, 0xD7), "cp932": (0x82, 0x97), "cp949": (0xB0, 0xC8), "big5": (0xA4, 0xC6)
}  # fmt: skip
"""Encodings of Chinese, Japanese and Korean, and the first bytes of their frequent characters."""

_FREQUENT: Final = {
    "GREEK": "αάοόιίεέτσςνηήυρπκμλω",
    "CYRILLIC": "оеаинтсрвлкмдпуяыі",
    "HEBREW": "יוהלאמרשתנבם",
    "ARABIC": "اليمنورتبةعدسكه",
    "THAI": "านรอกเงยมลวดทสต",
}
"""The most frequent letters of scripts, which cover four of five letters of a text."""

_RARE: Final = 0.1
"""The score of a word of letters that are not frequent."""

_N_SHOWN: Final = 4
_N_COMPARED: Final = 6
_N_TEXTS: Final = 100
_N_CHARACTERS: Final = 20
_WINDOW: Final = 1 << 14
"""How many bytes are compared, which takes some milliseconds."""

_TEXT: Final = re.compile(rb"""[^\s,;:|"]{0,40}[\x80-\xff][^,;:|"\t\r\n]*""")
"""A word that is not ASCII, and what follows it in its column."""


def suggest_encodings(data: bytes) -> str:
    """What a text of some bytes that is not ASCII would be in the most plausible encodings.

    It is the first one, or a later one that tells more of these encodings apart.

    Example:
        >>> suggest_encodings("ISBN;Κωδικός".encode("cp1253"))
        "cp1253 'Κωδικός', cp1251 'Кщдйкьт', cp1252 'Êùäéêüò', cp1250 'Ęůäéęüň'"
    """
    scores: dict[str, float] = {}
    for encoding in (*_SINGLE_BYTE, *_DOUBLE_BYTE):
        with suppress(UnicodeDecodeError):
            decoder = codecs.getincrementaldecoder(encoding)()
            text = decoder.decode(data[:_WINDOW], final=len(data) <= _WINDOW)
            scores[encoding] = _plausibility(text, encoding)
    best = sorted(filter(scores.get, scores), key=scores.__getitem__, reverse=True)[:_N_COMPARED]
    texts = [*dict.fromkeys(_TEXT.findall(data, 0, _WINDOW))][:_N_TEXTS]
    readings = [[_shorten(text.decode(name, "ignore")) for name in best] for text in texts]
    shown = max(readings, key=_n_distinct, default=[])
    names: dict[str, str] = {}
    for name, text in zip(best, shown, strict=False):
        names.setdefault(text, name)
    return ", ".join(f"{name} {text!r}" for text, name in [*names.items()][:_N_SHOWN])


def _n_distinct(texts: Sequence[str]) -> list[int]:
    """How many of the first two, three, ... texts differ."""
    return [len({*texts[:n]}) for n in range(2, len(texts) + 1)]


def _shorten(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _N_CHARACTERS else f"{text[:_N_CHARACTERS]}…"


def _plausibility(text: str, encoding: str) -> float:
    """How much the words of a text that are not ASCII look like words, from 0 to 1."""
    kinds = {char: unicodedata.category(char) for char in {*text}}
    if {"Cc", "Cn", "Co"} & {kinds[char] for char in kinds.keys() - {*"\t\r\n\f"}}:
        return 0.0  # control characters, or none at all
    between = {char for char in kinds if not char.isalpha() and char.isascii()}
    between |= {char for char, kind in kinds.items() if kind[0] in "PZ"}
    words = text.translate({ord(char): " " for char in between}).split()
    scores = [_score(word, encoding) for word in dict.fromkeys(words) if not word.isascii()]
    return round(sum(scores) / max(len(scores), 1), 2)


def _score(word: str, encoding: str) -> float:
    """How much a word looks like one: letters of one script, most of them frequent."""
    is_usual_case = word in (word.lower(), word.upper(), word.capitalize())
    if not is_usual_case or any(unicodedata.category(char)[0] not in "LM" for char in word):
        return 0.0
    scripts = {_script(char) for char in word} - {"COMBINING"}
    if len(scripts) > 1:
        return 0.0
    script = scripts.pop() if scripts else ""
    if script == "LATIN":
        n_usual = sum(char.isascii() for char in word)  # most letters are, in any language
    elif encoding in _DOUBLE_BYTE:
        low, high = _DOUBLE_BYTE[encoding]
        n_usual = sum(low <= char.encode(encoding)[0] <= high for char in word)
    else:
        n_usual = sum(char in _FREQUENT.get(script, "") for char in word.lower())
    return max(n_usual / len(word), _RARE)


def _script(char: str) -> str:
    """The first word of the name of a letter; one for what Japanese mixes."""
    script = unicodedata.name(char, "").split(" ")[0].split("-")[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA") else script
