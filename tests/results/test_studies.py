"""Where studies live: what was asked is kept whole, and found by its own name only."""

import json
from pathlib import Path

import pytest

from bakeoff import library, study
from bakeoff.errors import RecipeError
from bakeoff.results import gather, studies
from bakeoff.study import expand
from tests import made


def test_a_kept_study_is_the_same_study(tmp_path: Path) -> None:
    for asked in (made.study(), made.study(typed=["epochs=2", "seeds=1"]), study.load("optimizers-tuned")):
        studies.keep(asked, root=tmp_path)
        assert studies.restore(studies.folder(asked, root=tmp_path)) == asked


def test_a_card_that_changes_later_changes_no_kept_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs are those of the recipes as they were: an upgrade must not make them missing."""
    card = tmp_path / "card.yaml"
    card.write_text("lr: 0.05\n".replace("lr", "optimizer: {name: sgd, lr").replace("\n", "}\n"), encoding="utf-8")
    asked = made.study(base={"model": "resnet_20", "recipe": str(card)}, arms={"eca": {"model": "eca_resnet_20"}})
    studies.keep(asked, root=tmp_path)
    card.unlink()
    monkeypatch.setattr(library, "recipe_cards", dict)
    assert studies.find("made", root=tmp_path) == asked
    assert asked.control.trials[0].recipe.optimizer.lr == 0.05


def test_runs_that_were_gathered_are_kept_like_any_study(tmp_path: Path) -> None:
    records = list(made.runs(made.study(seeds=2), tmp_path, classes=5, images=20).values())
    gathered, _ = gather.gather(records)
    studies.keep(gathered, root=tmp_path)
    assert studies.find("runs", root=tmp_path) == gathered


def test_a_name_is_not_the_beginning_of_another(tmp_path: Path) -> None:
    studies.keep(study.load("optimizers-tuned"), root=tmp_path)
    assert studies.find("optimizers", root=tmp_path) is None
    scaled = study.load("optimizers", typed=["epochs=2"])
    studies.keep(scaled, root=tmp_path)
    assert studies.find("optimizers", root=tmp_path) == scaled
    assert studies.find(scaled.folder_name, root=tmp_path) == scaled
    studies.keep(study.load("optimizers", typed=["epochs=3"]), root=tmp_path)
    with pytest.raises(RecipeError, match="different settings"):
        studies.find("optimizers", root=tmp_path)
    assert studies.find("x" * 300, root=tmp_path) is None  # longer than a file's name can be


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "made"}', '{"name": 1, "arms": 2}'])
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    asked = made.study()
    studies.keep(asked, root=tmp_path)
    path = studies.folder(asked, root=tmp_path) / studies.FILE
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"study\.json"):
        studies.restore(path.parent)


def test_a_file_of_another_version_is_named() -> None:
    content = json.loads(json.dumps(made.study().to_json()))
    content["arms"][0]["trials"][0]["recipe"]["optimizer"]["old"] = 1
    with pytest.raises(RecipeError, match=r"study\.json"):
        expand.restore(content, where="study.json")


def test_what_was_typed_is_told_of_every_arm() -> None:
    asked = study.load("architectures", typed=["lr=0.2"])
    assert asked.scaled["optimizer.lr"] != (0.2, 0.2)
    assert not asked.is_smaller
    assert study.load("eca-kernel", typed=["seeds=[7,8,9,10,11]"]).scaled == {
        "seeds": ([0, 1, 2, 3, 4], [7, 8, 9, 10, 11])
    }
    for smaller in ("epochs=8", "data.limit=100", "seeds=2"):
        assert study.load("eca-kernel", typed=[smaller]).is_smaller
    assert not study.load("eca-kernel", typed=["epochs=400"]).is_smaller
