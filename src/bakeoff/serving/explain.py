"""Explain: what a trained network answered, where it looked, and which training pictures it takes for most alike.

The gallery is of validation pictures, by the logits that the run stored of them. The test split is not among them: its
pixels have one reader, which only counts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.data import decode, listing, own
from bakeoff.data.batches import plain
from bakeoff.data.images import ImageSet
from bakeoff.errors import DataError, RecipeError, nearest
from bakeoff.results import metrics, predictions
from bakeoff.results.explanation import Alike, Explained, Explanation, Guess, Heat, Kind, Section
from bakeoff.results.predictions import Predictions
from bakeoff.serving import gradcam, neighbours
from bakeoff.training import assembly
from bakeoff.training.assembly import Share
from bakeoff.training.trained import Trained

Index = NDArray[np.int64]

TOP = 5  # guesses of a picture
NUM_PAIRS = 6  # of classes, those that are mistaken for each other most often
BATCH = 32  # pictures of which gradients are kept
TRAIN_BATCH = 500  # pictures of which only features are


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prepared:
    """What is computed once for all the pictures that a network will be shown, one by one.

    Args:
        model: what is asked.
        layer: whose maps are shown; None where the network has none.
        place: where its features are; None where no neighbours are wanted, or can be found.
        share: the run's training pictures, where neighbours are.
        known: their features, in batches float32 [b d].
        near: training pictures beside each.
    """

    model: Trained
    layer: gradcam.Layer | None
    place: neighbours.Place | None
    share: Share | None
    known: tuple[neighbours.Features, ...]
    near: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What the network cannot show."""
        return _notes(self.model, self.layer)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chosen:
    """The rows of the validation pictures that a section shows, and of how many they were chosen."""

    kind: Kind
    num: int
    rows: Index
    pair: tuple[int, int] | None = None


def gallery(model: Trained, *, num: int, near: int, only: str | None = None) -> Explanation:
    """Explain the most confident mistakes on validation, the least certain answers, and the pairs of classes.

    Args:
        model: whose they are.
        num: pictures a section, at most.
        near: training pictures beside each.
        only: show only pictures of this class, or taken for it.

    Raises:
        RecipeError: no such class, or no validation pictures.
        DataError: the data, or the stored predictions, are not those of the run any more.
    """
    of = _class(model, only)
    if not model.run.predictions("val").exists():
        raise RecipeError(
            str(model.run.folder),
            found="a run without validation pictures",
            expected="one of protocol dev, which holds some out",
            hint="Name pictures to explain: bakeoff explain RUN PATH...",
        )
    said = predictions.read(model.run.predictions("val"))
    share = assembly.load(model.recipe)
    val = _same(model, share, said)
    chosen = choose(said, num=num, only=of)
    rows = np.unique(np.concatenate([part.rows for part in chosen])) if chosen else np.arange(0)
    layer = gradcam.find(model.network, model.image_shape, device=model.device.kind)
    paths = () if model.recipe.data.is_published else own.paths(**model.recipe.data.source)
    shown = _explain(
        model,
        val.take(rows),
        said.logits[rows],
        names=[_name(paths, share.val_index[row]) for row in rows],
        also=val.labels[rows],
        labelled=True,
        layer=layer,
        near=_near(model, val.take(rows), share, near),
    )
    by_row = dict(zip(rows.tolist(), shown, strict=True))
    return Explanation(
        num_images=len(said),
        num_mistakes=int((said.logits.argmax(1) != said.label).sum()),
        only=only,
        layer=None if layer is None else layer.name,
        sections=tuple(
            Section(
                kind=part.kind,
                num=part.num,
                pictures=tuple(by_row[row] for row in part.rows.tolist()),
                pair=part.pair and (model.classes[part.pair[0]], model.classes[part.pair[1]]),
            )
            for part in chosen
        ),
        notes=_notes(model, layer),
    )


def pictures(model: Trained, paths: Sequence[Path], *, near: int, only: str | None = None) -> Explanation:
    """Explain pictures from files; those that cannot be read are left out, and named in the notes.

    Args:
        model: what is asked.
        paths: of pictures.
        near: training pictures beside each.
        only: also show where the network looked for this class.

    Raises:
        RecipeError: no such class.
        DataError: none of them can be read, or the training pictures are not there.
    """
    of, (_, size, _) = _class(model, only), model.image_shape
    names, pixels, notes = [], [], []
    for path in paths:
        try:
            content = listing.read_file(path)
            pixels.append(decode.picture(content, size=size, fit=model.fit, where=str(path)).pixels)
            names.append(str(path))
        except DataError as error:
            notes.append(f"left out: {error}")
    if not pixels:
        found = f"{len(notes)} files, of which none can be read ({notes[0]})" if notes else "no picture"
        raise DataError("command line", found=found, expected="pictures")
    shown = model.pictures(np.stack(pixels))
    logits = model.evaluate(shown).logits
    layer = gradcam.find(model.network, model.image_shape, device=model.device.kind)
    share = assembly.load(model.recipe) if near else None
    explained = _explain(
        model,
        shown,
        logits,
        names=names,
        also=logits.argmax(1) if of is None else np.full(len(names), of),
        labelled=False,
        layer=layer,
        near=_near(model, shown, share, near),
    )
    section = Section(kind="pictures", num=len(explained), pictures=tuple(explained))
    return Explanation(
        num_images=len(explained),
        num_mistakes=None,
        only=only,
        layer=None if layer is None else layer.name,
        sections=(section,),
        notes=(*notes, *_notes(model, layer)),
    )


def prepare(model: Trained, *, near: int) -> Prepared:
    """Look at the training pictures once, so that the nearest to any picture are found without them.

    Args:
        model: what will be asked.
        near: training pictures beside each; 0 reads no training data.

    Raises:
        DataError: the training pictures are not there.
    """
    place = neighbours.find(model.network, model.image_shape, device=model.device.kind) if near else None
    share = assembly.load(model.recipe) if place is not None else None
    return Prepared(
        model=model,
        layer=gradcam.find(model.network, model.image_shape, device=model.device.kind),
        place=place,
        share=share,
        known=() if place is None or share is None else tuple(_features(model, share.train, place)),
        near=near,
    )


def picture(prepared: Prepared, content: bytes, *, name: str) -> Explained:
    """Explain one picture.

    Args:
        prepared: for it.
        content: of its file.
        name: of it.

    Raises:
        DataError: it cannot be read.
    """
    model = prepared.model
    opened = decode.picture(content, size=model.image_shape[1], fit=model.fit, where=name)
    shown = model.pictures(opened.pixels[np.newaxis])
    logits = model.evaluate(shown).logits
    share, place = prepared.share, prepared.place
    near: list[tuple[Alike, ...]] = [()]
    if share is not None and place is not None:
        near = _alike(model, shown, share, place, prepared.known, near=prepared.near)
    facts = (name, f"{opened.width:,} x {opened.height:,} pixels", *opened.notes)
    (explained,) = _explain(
        model, shown, logits, names=[", ".join(facts)], also=logits.argmax(1), labelled=False, layer=prepared.layer,
        near=near,
    )  # fmt: skip
    return explained


def choose(said: Predictions, *, num: int, only: int | None = None) -> list[Chosen]:
    """Choose what to show of one split; a section without pictures is left out.

    Args:
        said: of the split.
        num: pictures a section, at most; a pair shows a third of them.
        only: the index of a class that all must have as their label or be taken for.
    """
    guess = said.logits.argmax(1)
    sure = metrics.probabilities(said.logits).max(1)
    asked = np.ones(len(said), dtype=bool) if only is None else (said.label == only) | (guess == only)
    wrong = np.flatnonzero(asked & (guess != said.label))
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    unsure = np.flatnonzero(asked)
    unsure = unsure[np.argsort(sure[unsure], kind="stable")]
    both = np.sort(np.stack([said.label[wrong], guess[wrong]], 1), 1)
    counts = Counter(map(tuple, both.tolist()))
    sections = [
        Chosen(kind="mistakes", num=len(wrong), rows=wrong[:num]),
        Chosen(kind="unsure", num=len(unsure), rows=unsure[:num]),
    ]
    for pair, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NUM_PAIRS]:
        if count > 1:  # one mistake is no habit
            rows = wrong[(both == pair).all(1)][: max(2, num // 3)]
            sections.append(Chosen(kind="pair", num=count, rows=rows, pair=(pair[0], pair[1])))
    return [section for section in sections if len(section.rows)]


def _explain(
    model: Trained,
    images: ImageSet,
    logits: NDArray[np.float32],
    *,
    names: Sequence[str],
    also: Index,
    labelled: bool,
    layer: gradcam.Layer | None,
    near: Sequence[tuple[Alike, ...]],
) -> list[Explained]:
    """Put together what there is to say of each picture; `also` is its label, or the class that was asked for."""
    shares, pixels = metrics.probabilities(logits), images.pixels(np.arange(len(images)))
    best = np.argsort(-shares, axis=1, kind="stable")[:, :TOP]
    heats = _heats(model, images, np.stack([best[:, 0], also], 1), layer) if layer else [()] * len(images)

    def guess(row: int, of: int) -> Guess:
        return Guess(name=model.classes[of], probability=float(shares[row, of]))

    return [
        Explained(
            name=names[row],
            pixels=pixels[row],
            label=guess(row, also[row]) if labelled else None,
            guesses=tuple(guess(row, of) for of in best[row]),
            heats=heats[row],
            nearest=near[row],
        )
        for row in range(len(images))
    ]


def _heats(model: Trained, images: ImageSet, of: Index, layer: gradcam.Layer) -> list[tuple[Heat, ...]]:
    """Return a heat map for each class in `of` [n 2], once where the two are one."""
    found: list[tuple[Heat, ...]] = []
    for x, index in plain(_normalised(model, images), batch_size=BATCH, device=model.device.kind):
        classes = torch.from_numpy(of)[index]
        maps = gradcam.maps(model.network, x, classes.to(x.device), layer=layer).cpu().numpy()
        for row, (first, second) in enumerate(classes.tolist()):
            kept = range(1 if first == second else 2)
            found.append(tuple(Heat(of=model.classes[(first, second)[k]], values=maps[row, k]) for k in kept))
    return found


def _near(model: Trained, images: ImageSet, share: Share | None, near: int) -> list[tuple[Alike, ...]]:
    """Return the training pictures that are nearest to each picture; none where none are wanted, or can be found."""
    place = neighbours.find(model.network, model.image_shape, device=model.device.kind) if near and share else None
    if place is None or share is None or not len(images):
        return [()] * len(images)

    return _alike(model, images, share, place, _features(model, share.train, place), near=near)


def _features(model: Trained, images: ImageSet, place: neighbours.Place) -> Iterator[neighbours.Features]:
    """Yield the features of pictures, a batch at a time."""
    batches = plain(_normalised(model, images), batch_size=TRAIN_BATCH, device=model.device.kind)
    return neighbours.features(model.network, (x for x, _ in batches), place=place)


def _alike(
    model: Trained,
    images: ImageSet,
    share: Share,
    place: neighbours.Place,
    known: Iterable[neighbours.Features],
    *,
    near: int,
) -> list[tuple[Alike, ...]]:
    """Return the training pictures that are nearest to each picture; `known` are the features of all of them."""
    queries = np.concatenate(list(_features(model, images, place)))
    found = neighbours.nearest(queries, known, k=near)
    alike = []
    for rows, similar in zip(found.index, found.similarity, strict=True):
        pixels = share.train.pixels(rows)
        alike.append(
            tuple(
                Alike(
                    index=int(share.train_index[row]),
                    label=model.classes[share.train.labels[row]],
                    similarity=float(similar[k]),
                    pixels=pixels[k],
                )
                for k, row in enumerate(rows)
            )
        )
    return alike


def _same(model: Trained, share: Share, said: Predictions) -> ImageSet:
    """Return the validation pictures, if they are those that the run was measured on.

    Raises:
        DataError: they are not.
    """
    same_data = model.run.read_json(model.run.split_path) == share.split
    if share.val is None or not same_data or not np.array_equal(share.val.labels, said.label):
        raise DataError(
            str(model.run.split_path),
            found="another split, or other data",
            expected="the pictures that the run was measured on",
            hint="The data set has changed since. Name pictures to explain: bakeoff explain RUN PATH...",
        )
    return share.val


def _name(paths: Sequence[Path], row: int) -> str:
    """Return what a picture of the train part is called: its file, where there are files."""
    return str(paths[row]) if paths else f"picture {row}"


def _class(model: Trained, name: str | None) -> int | None:
    """Return the index of a class by its name.

    Raises:
        RecipeError: there is none of that name.
    """
    if name is None:
        return None
    if name not in model.classes:
        expected = f"one of the run's {len(model.classes)} classes"
        raise RecipeError("--class", found=f"'{name}'", expected=expected, hint=nearest(name, model.classes))
    return model.classes.index(name)


def _normalised(model: Trained, images: ImageSet) -> ImageSet:
    """Return pictures with the normalisation that the network was trained with."""
    return replace(images, mean=model.mean, std=model.std)


def _notes(model: Trained, layer: gradcam.Layer | None) -> tuple[str, ...]:
    """Say what the network cannot show."""
    return () if layer else (f"{model.recipe.model.name} has no map of places: nothing says where it looked.",)
