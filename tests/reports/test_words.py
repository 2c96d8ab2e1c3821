"""Both languages say everything, with the same fields, and nothing that is never asked for."""

import re
import string
from pathlib import Path
from typing import get_args

import pytest

from bakeoff import reports
from bakeoff.errors import RecipeError
from bakeoff.record import Status
from bakeoff.reports.words import LANGUAGES, TEXTS, in_language

ROOM = Path(reports.__file__).parent
SOURCES = [path for path in ROOM.rglob("*") if path.suffix in (".py", ".html") and not path.stem.startswith("words")]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", TEXTS)
def test_both_languages_say_the_same(key: str) -> None:
    english, chinese = TEXTS[key]
    assert english.strip() == english
    assert chinese.strip() == chinese
    assert english
    assert chinese
    assert fields(english) == fields(chinese)


def test_every_key_is_used_and_every_used_key_is_there() -> None:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    named = set(re.findall(r"""["'](\w+)["']""", texts)) | set(get_args(Status))
    assert not TEXTS.keys() - named
    assert not set(re.findall(r"""\bwords\(\s*["'](\w+)["']""", texts)) - TEXTS.keys()


def test_no_key_is_written_twice() -> None:
    files = [path.read_text(encoding="utf-8") for path in ROOM.glob("words*.py")]
    keys = [key for text in files for key in re.findall(r'^    "(\w+)": \(', text, flags=re.MULTILINE)]
    assert len(keys) == len(set(keys)) == len(TEXTS)


def test_chinese_is_chinese_where_english_is_a_sentence() -> None:
    for english, chinese in TEXTS.values():
        if len(english.split()) > 3:
            assert re.search(r"[\u4e00-\u9fff]", chinese), english


def test_a_value_is_never_read_as_a_template() -> None:
    assert in_language("en")("also", names="{study} %s {0}") == "also: {study} %s {0}"


def test_words_know_their_language() -> None:
    assert [in_language(language).language for language in LANGUAGES] == ["en", "zh"]
    assert in_language("en")("leaderboard") != in_language("zh")("leaderboard")


def test_other_languages_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"'fr'.*en, zh"):
        in_language("fr")
