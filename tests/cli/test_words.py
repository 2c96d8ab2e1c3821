import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakeoff.cli import words
from bakeoff.errors import RecipeError


@pytest.mark.parametrize(
    ("given_words", "names", "settings"),
    [
        (["resnet_20", "epochs=15"], ["resnet_20"], ["epochs=15"]),
        (["--epochs", "15", "resnet_20"], ["resnet_20"], ["epochs=15"]),
        (["--batch-size=8", "m"], ["m"], ["batch_size=8"]),
        (["m", "--optimizer.nesterov", "--lr", "0.1"], ["m"], ["optimizer.nesterov=true", "lr=0.1"]),
        (["logs/m/lr=1"], ["logs/m/lr=1"], []),
        (["package.module:function"], ["package.module:function"], []),
        (["m", "data.name=a=b"], ["m"], ["data.name=a=b"]),
    ],
)
def test_names_and_settings_are_parted(given_words: list[str], names: list[str], settings: list[str]) -> None:
    assert words.split(given_words) == (names, settings)


@given(st.lists(st.text(max_size=8)))
def test_no_word_is_lost(given_words: list[str]) -> None:
    names, settings = words.split(given_words)
    assert len(names) + len(settings) <= len(given_words)
    assert all("=" in text for text in settings)


def test_one_name_is_wanted() -> None:
    assert words.one(["a"], "run", "example") == "a"
    for names in ([], ["a", "b"]):
        with pytest.raises(RecipeError, match="one run"):
            words.one(names, "run", "example")
