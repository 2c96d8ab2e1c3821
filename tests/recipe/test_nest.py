"""What people write into layers: short and dotted keys in any order; and YAML that is not meant to be read."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakeoff.errors import RecipeError
from bakeoff.recipe import Recipe, nest, overlay, read_yaml, resolve, settled

# Nesting


@pytest.mark.parametrize(
    ("layer", "nested"),
    [
        ({}, {}),
        ({"lr": 0.1}, {"optimizer": {"lr": 0.1}}),
        ({"optimizer.lr": 0.1}, {"optimizer": {"lr": 0.1}}),
        ({"optimizer": {"name": "sgd", "lr": 0.1}}, {"optimizer": {"name": "sgd", "lr": 0.1}}),
        ({"data": {"limit": 5}, "batch": 8}, {"data": {"limit": 5}, "batch_size": 8}),
        ({"optimizer": "adam", "lr": 0.1}, {"optimizer": {"name": "adam", "lr": 0.1}}),
        ({"dataset": "digits", "limit": 9}, {"data": {"name": "digits", "limit": 9}}),
        ({"model": {"momentum": 0.1, "batch": 3}}, {"model": {"momentum": 0.1, "batch": 3}}),  # a builder's own options
        ({"model.attention.name": "eca"}, {"model": {"attention": {"name": "eca"}}}),
        (
            {"model": {"name": "x", "attention": {"k": 3}}, "model.attention.name": "eca"},
            {"model": {"name": "x", "attention": {"k": 3, "name": "eca"}}},
        ),
        ({"model": {"attention.k": 3}}, {"model": {"attention": {"k": 3}}}),
        ({"optimizer": {"lr": 0.1}, "optimizer.lr": 0.2}, {"optimizer": {"lr": 0.2}}),
        ({3: 4, "optimizer": {5: 6}}, {"3": 4, "optimizer": {"5": 6}}),
        ({"optimizer": None, "lr": 1}, {"optimizer": {"name": None, "lr": 1}}),
    ],
)
def test_nested_by_example_in_any_order(layer: dict[str, Any], nested: dict[str, Any]) -> None:
    for order in itertools.permutations(layer.items()):
        assert nest(dict(order)) == nested


def test_of_two_spellings_the_later_wins() -> None:
    assert nest({"lr": 0.1, "optimizer.lr": 0.2}) == {"optimizer": {"lr": 0.2}}
    assert nest({"optimizer.lr": 0.2, "lr": 0.1}) == {"optimizer": {"lr": 0.1}}


trees = st.recursive(
    st.integers(0, 9),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


def dotted(tree: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= dotted(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat


@given(trees, st.randoms())
def test_what_was_taken_apart_is_put_together(tree: dict[str, Any], random: Any) -> None:
    flat = list(dotted(tree).items())
    random.shuffle(flat)
    assert nest(dict(flat)) == tree
    assert nest(tree) == tree
    assert nest(nest(dict(flat))) == tree


@given(trees)
def test_a_layer_is_left_as_it_was(tree: dict[str, Any]) -> None:
    before = repr(tree)
    nest({**tree, "a.b": 1, "a.c.d": 2})
    assert repr(tree) == before


def test_a_nested_layer_is_what_the_same_words_are_when_typed() -> None:
    typed = resolve("resnet_20", overrides=["optimizer=adam", "lr=0.5", "data.limit=100", "mixup=0.1"])
    layer = {"mixup": 0.1, "data": {"limit": 100}, "lr": 0.5, "optimizer": "adam"}
    assert overlay(resolve("resnet_20"), nest(layer), where="here") == typed


# New runs


def test_a_settled_recipe_has_the_catalogues_spelling_and_extends_nothing() -> None:
    recipe = overlay(Recipe(), {"model": {"name": "resnet20", "width": 8}, "extended_from": [3]}, where="here")
    done = settled(recipe)
    assert (done.model.name, done.model.options, done.extended_from) == ("resnet_20", {"width": 8}, [])
    assert settled(done) == done
    with pytest.raises(RecipeError, match="resnet_20"):
        settled(overlay(recipe, {"model": "resnet_21"}, where="here"))


def test_a_plug_in_settles_on_the_command_line_only() -> None:
    recipe = overlay(Recipe(), {"model": "package.module:function"}, where="here")
    assert settled(recipe, plugins=True).model.name == "package.module:function"
    with pytest.raises(RecipeError, match="command line only"):
        settled(recipe)


# YAML


def read(tmp_path: Path, text: str) -> dict[str, Any]:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


def test_numbers_are_numbers_and_aliases_are_written_out(tmp_path: Path) -> None:
    text = "a: 1e-3\nb: &b {lr: 1.0e-4, on: 字}\nc: [*b, *b]\nd: {<<: *b, lr: 2}\ne: &e 1E5\nf: *e\n"
    b = {"lr": 1e-4, True: "字"}
    assert read(tmp_path, text) == {"a": 1e-3, "b": b, "c": [b, b], "d": {**b, "lr": 2}, "e": 1e5, "f": 1e5}


def laughs(levels: int, times: int) -> str:
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * times)}]" for i in range(1, levels)]
    return "\n".join(lines)


BOMBS = {
    "a billion laughs": laughs(10, 10),
    "many lines of two": laughs(200, 2),
    "merged a billion times": "a0: &a0 {x: 1}\n"
    + "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 10)),
    "an alias inside itself": "a: &a [1, *a]",
    "an alias inside itself, further down": "a: &a {b: {c: [*a]}}",
    "aliases in a chain": laughs(3_000, 1),
    "a deep list": "a: " + "[" * 100_000,
    "a deep mapping": "a: " + "{a: " * 30_000,
    "a long list": "a: [" + "1," * 400_000 + "1]",
    "a name of many": "a: &a [" + "1," * 5_000 + "1]\nb: [*a, *a]",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_explodes_is_refused_before_it_does(bomb: str, tmp_path: Path) -> None:
    assert len(BOMBS[bomb]) < 1_000_000
    began = time.process_time()
    with pytest.raises(RecipeError, match=r"file.yaml: found more than 10,000 values or 50 levels"):
        read(tmp_path, BOMBS[bomb])
    assert time.process_time() - began < 2


def test_as_much_as_people_write_is_read(tmp_path: Path) -> None:
    arms = "\n".join(f"  arm {i}: {{lr: 0.{i + 1}, model: {{name: x, depth: {i}}}}}" for i in range(200))
    assert len(read(tmp_path, f"arms:\n{arms}\n")["arms"]) == 200
    deep = "[" * 40 + "]" * 40
    assert str(read(tmp_path, f"a: {deep}")["a"]) == deep


@pytest.mark.parametrize(
    "text", ["a: *b", "a: 1\n---\nb: 2", "a: [1", "a: {b: 1, b: 2}", "a: !!python/object:os.system x", "- 1", "\x00"]
)
def test_other_nonsense_is_refused_as_before(text: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"file.yaml"):
        read(tmp_path, text)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a: \x80", "a: 1".encode("utf-16")])
def test_bytes_that_are_no_text_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError, match="unreadable YAML"):
        read_yaml(path)
    with pytest.raises(RecipeError, match="unreadable YAML"):
        read_yaml(tmp_path)


@given(st.text(max_size=60))
def test_any_text_is_a_mapping_or_a_message(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert all(isinstance(key, str) for key in read_yaml(path))
    except RecipeError as error:
        assert error.where == str(path)
