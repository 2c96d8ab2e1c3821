"""What a study says, in a sentence or two, the interval first. It claims no more than the statistics carry.

An arm "beats" the control only if their paired difference survives Holm's correction with three seeds or more, and the
two are not one network. Everything weaker is said to be within noise, with the seeds that would settle it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from bakeoff.reports import formats
from bakeoff.results.comparison import FEWEST_FOR_A_RANK, ArmScore, Comparison

MOST_NAMES = 4  # in a list of arms

SENTENCES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "space": " ",
        "between": "; ",
        "and_more": "; and {n} more",
        "on_test": "on test",
        "on_val": "on validation",
        "with_interval": "{points} points {split} (95 % interval {low} to {high}, n = {n})",
        "without_interval": "{points} points {split} (the same in all {n} seeds, so without an interval)",
        "level": "{mean} % {split} (95 % interval {low} to {high}, n = {n})",
        "level_without": "{mean} % {split} (n = {n}, without an interval)",
        "no_runs": "No answer yet: none of the {n} runs has finished.",
        "all_diverged": "No answer: no run finished, and {n} diverged.",
        "no_control": "No answer yet: the control, {control}, has no finished run. {arm} stands at {level}.",
        "one_arm": "{level}: {arm}. There is no other arm to compare it with.",
        "only_control": "No answer yet: {control} stands at {level}, and no other arm has a finished run.",
        "no_pairs": "No answer: no arm has a seed in common with {control}, so no difference can be paired.",
        "one_seed": "No answer: one seed shows nothing. {arm} is {points} points {split} from {control}, "
        "without an interval.",
        "beats": "{interval}: {arm} beats {control}.",
        "worse": "{interval}: {arm} is worse than {control}, and no arm is better beyond noise.",
        "none": "{interval}: no arm differs from {control} beyond noise; the largest difference is {arm}'s.",
        "none_of_two": "{interval}: {arm} does not differ from {control} beyond noise.",
        "also_better": "Also better than {control}: {arms}.",
        "also_worse": "Also worse than {control}: {arms}.",
        "are_worse": "Worse than {control}: {arms}.",
        "not_best": "Which of them is best is within noise.",
        "corrected": "The interval is of this difference alone; corrected for {n} comparisons it is within noise.",
        "few_seeds": "With {n} seeds nothing is claimed.",
        "same_network": "They are one and the same network, so the difference is noise whatever its interval.",
        "would_settle": "{n} seeds an arm would settle a difference of this size.",
        "provisional": "Provisional: {n} of {all} runs are not finished.",
    },
    "zh": {
        "space": "",
        "between": "；",
        "and_more": "；另外 {n} 个",
        "on_test": "测试集上",
        "on_val": "验证集上",
        "with_interval": "{split} {points} 个百分点（95 % 置信区间 {low} 至 {high}，n = {n}）",
        "without_interval": "{split} {points} 个百分点（{n} 个随机种子结果相同，没有置信区间）",
        "level": "{split} {mean} %（95 % 置信区间 {low} 至 {high}，n = {n}）",
        "level_without": "{split} {mean} %（n = {n}，没有置信区间）",
        "no_runs": "尚无结论：{n} 次训练均未完成。",
        "all_diverged": "没有结论：没有任何训练完成，其中 {n} 次发散。",
        "no_control": "尚无结论：对照组 {control} 没有已完成的训练。{arm} 目前在{level}。",
        "one_arm": "{level}：{arm}。没有其他实验组可供比较。",
        "only_control": "尚无结论：{control} 目前在{level}，其他实验组均没有已完成的训练。",
        "no_pairs": "没有结论：没有任何实验组与 {control} 有相同的随机种子，无法计算配对差异。",
        "one_seed": "没有结论：单个随机种子说明不了问题。"
        "{split} {arm} 与 {control} 相差 {points} 个百分点，没有置信区间。",
        "beats": "{interval}：{arm} 优于 {control}。",
        "worse": "{interval}：{arm} 不如 {control}，且没有任何实验组的优势超出噪声。",
        "none": "{interval}：没有任何实验组与 {control} 的差异超出噪声；差异最大的是 {arm}。",
        "none_of_two": "{interval}：{arm} 与 {control} 的差异未超出噪声。",
        "also_better": "优于 {control} 的还有 {arms}。",
        "also_worse": "不如 {control} 的还有 {arms}。",
        "are_worse": "不如 {control} 的有 {arms}。",
        "not_best": "其中谁最好，仍在噪声之内。",
        "corrected": "该区间只针对这一个差异；按 {n} 次比较校正后，差异仍在噪声之内。",
        "few_seeds": "只有 {n} 个随机种子，不下结论。",
        "same_network": "两者是同一个网络，因此无论区间如何，差异都是噪声。",
        "would_settle": "要确认这样大小的差异，每组需要 {n} 个随机种子。",
        "provisional": "暂时结果：{all} 次训练中有 {n} 次尚未完成。",
    },
}


class Language(Protocol):
    """What a sentence has to know of the report's words."""

    @property
    def language(self) -> str:
        """Return "en" or "zh"."""


def sentence(comparison: Comparison, *, words: Language) -> str:
    """Return the answer of a study as plain text, in the language of `words`; names are as the study has them."""
    speaker = _Speaker(comparison, SENTENCES[words.language])
    finished = [score for score in comparison.arms if score.mean is not None]
    parts = [speaker.say("no_runs", n=comparison.num_runs)]
    if finished:
        parts = list(speaker.answer(finished))
    elif comparison.diverged:
        parts = [speaker.say("all_diverged", n=len(comparison.diverged))]
    if finished and comparison.unfinished:
        parts.append(speaker.say("provisional", n=comparison.unfinished, all=comparison.num_runs))
    return speaker.texts["space"].join(parts)


class _Speaker:
    """Fills the templates of one language with the numbers of one comparison."""

    def __init__(self, comparison: Comparison, texts: Mapping[str, str]) -> None:
        self.comparison, self.texts = comparison, texts

    def say(self, key: str, **fields: object) -> str:
        split = self.texts["on_test" if self.comparison.split == "test" else "on_val"]
        return self.texts[key].format(**{"control": self.comparison.control.name, "split": split, **fields})

    def answer(self, finished: Sequence[ArmScore]) -> list[str]:
        """Return the sentences for arms of which at least one has a score."""
        control = self.comparison.control
        others = [score for score in finished if score is not control]
        top = max(finished, key=_mean)
        if control.mean is None:
            return [self.say("no_control", arm=top.name, level=self._level(top))]
        if not others:
            key = "one_arm" if len(self.comparison.arms) == 1 else "only_control"
            return [self.say(key, arm=top.name, level=self._level(top))]
        paired = [score for score in others if score.to_control is not None]
        if not paired:
            return [self.say("no_pairs")]
        tested = [score for score in paired if _n(score) > 1]
        if not tested:
            largest = max(paired, key=lambda score: abs(_points(score)))
            return [self.say("one_seed", arm=largest.name, points=formats.points(_points(largest)))]
        return self._claims(tested) or self._noise(tested)

    def _claims(self, tested: Sequence[ArmScore]) -> list[str]:
        """Return what is beyond noise, if anything is."""
        sure = sorted((score for score in tested if score.separable), key=_points, reverse=True)
        better, worse = [s for s in sure if _points(s) > 0], [s for s in sure if _points(s) < 0]
        if not better:
            if not worse:
                return []
            *rest, worst = worse
            found = [self.say("worse", arm=worst.name, interval=self._interval(worst))]
            return [*found, *([self.say("also_worse", arms=self._names(rest))] if rest else [])]
        first, *rest = better
        found = [self.say("beats", arm=first.name, interval=self._interval(first))]
        if rest:
            found.append(self.say("also_better", arms=self._names(rest)))
        if any(score.rank == first.rank for score in rest):
            found.append(self.say("not_best"))
        return [*found, *([self.say("are_worse", arms=self._names(worse))] if worse else [])]

    def _noise(self, tested: Sequence[ArmScore]) -> list[str]:
        """Say that nothing is beyond noise, and why the largest difference is not."""
        largest = max(tested, key=lambda score: abs(_points(score)))
        between, two = largest.to_control, len(self.comparison.arms) == 2
        assert between is not None
        key = "none_of_two" if two else "none"
        found = [self.say(key, arm=largest.name, interval=self._interval(largest))]
        if largest.repeats_control:
            return [*found, self.say("same_network")]
        if between.n < FEWEST_FOR_A_RANK:
            found.append(self.say("few_seeds", n=between.n))
        elif between.low is not None and between.high is not None and between.low * between.high > 0:
            found.append(self.say("corrected", n=len(tested)))
        if largest.seeds_needed is not None and largest.seeds_needed > between.n:
            found.append(self.say("would_settle", n=largest.seeds_needed))
        return found

    def _interval(self, score: ArmScore) -> str:
        between = score.to_control
        assert between is not None
        low, high = formats.points(between.low), formats.points(between.high)
        key = "without_interval" if between.low is None else "with_interval"
        return self.say(key, points=formats.points(between.estimate), low=low, high=high, n=between.n)

    def _level(self, score: ArmScore) -> str:
        mean = score.mean
        assert mean is not None
        low, high = formats.percent(mean.low), formats.percent(mean.high)
        key = "level_without" if mean.low is None else "level"
        return self.say(key, mean=formats.percent(mean.estimate), low=low, high=high, n=mean.n)

    def _names(self, scores: Sequence[ArmScore]) -> str:
        listed = self.texts["between"].join(score.name for score in scores[:MOST_NAMES])
        left = len(scores) - MOST_NAMES
        return listed + (self.texts["and_more"].format(n=left) if left > 0 else "")


def _mean(score: ArmScore) -> float:
    return score.mean.estimate if score.mean else 0.0


def _points(score: ArmScore) -> float:
    return score.to_control.estimate if score.to_control else 0.0


def _n(score: ArmScore) -> int:
    return score.to_control.n if score.to_control else 0
