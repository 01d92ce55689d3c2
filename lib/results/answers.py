"""The open questions of the post, each answered in a sentence that its verdict chooses."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .. import experiments, library, scales
from ..records import NotRecordedError
from ..scales import Chosen
from . import claims, phrases, question_numbers, rule, verdicts
from .numbers import NONE, Numbers
from .rule import Verdict

GOOD, BAD = (rule.HOLDS, rule.INSIDE), (rule.FAILS, rule.OUTSIDE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What is said of a question.

    ``yes`` has a sentence for each set of claims that affirm it together, the first of which counts; ``no`` is said if
    of each set one fails, else ``open``. In braces stand names of the chapter's claims, with ``_`` for what is no letter,
    for what was found of them.
    """

    yes: Mapping[tuple[str, ...], str]
    no: str
    open: str


_STEP = (
    "the step is {plateau} of what theory says without momentum, {plateau_with_heavy_ball} with heavy-ball and "
    "{plateau_with_Nesterov} with Nesterov"
)
_MOVED = (
    "of the gap in training accuracy clipping moves {it_is_clipping} and annealing {it_is_annealing}, where more than 0.7 "
    "is asked"
)
_AHEAD = "from 16 times the initial norms LARS is ahead by {LARS_wins} percentage points in training"
_TURNS = (
    "with AdamW one layer turns {apart} times as far as another, at {rotation_of_AdamW} of the formula for equilibrium "
    "and {by_equation} of what norms still on their way to it say; with decay in the gradient {apart_with_decay} times"
)
_OCTAVES = (
    "by parabolas the best λ of a layer lies {tops} octaves from the common one, while a factor of eight changes training "
    "accuracy by {moved} percentage points"
)
_SHARED = (
    "with ten times the decay two networks differ by {optimum_with_decay} octaves in their best λ, where one was allowed, "
    "and without decay accuracy varies by {no_optimum_without} percentage points from 0.4 up, where one was allowed"
)
#: By chapter.
ANSWERS = {
    "plateau": Answer(
        yes={
            ("plateau", "plateau with heavy-ball", "plateau with Nesterov"): f"Yes: while λ stays, {_STEP}."
        },
        no=f"Not within 3 % in every layer: while λ stays, {_STEP}.",
        open=f"It cannot be told to 3 %: while λ stays, {_STEP}.",
    ),
    "lars-parts": Answer(
        yes={
            ("it is annealing",): f"It is annealing that it lacks: {_MOVED}.",
            ("it is clipping",): f"It is clipping: {_MOVED}.",
        },
        no=f"Neither is 0.7 of it: {_MOVED}.",
        open=f"It is not resolved: {_MOVED}.",
    ),
    "start": Answer(
        yes={("LARS wins",): f"Yes: {_AHEAD}, and by {{LARS_wins_in_the_test}} in the test. {{full_size}}"},
        no=f"Not here: {_AHEAD}.",
        open=f"It is not resolved: {_AHEAD}.",
    ),
    "adam": Answer(
        yes={("alike with AdamW", "rotation of AdamW"): f"Yes: {_TURNS}."},
        no=f"Not within 10 %: {_TURNS}.",
        open=f"It is not resolved: {_TURNS}.",
    ),
    "layers": Answer(
        yes={("optima of layers",): f"No: {_OCTAVES}."},
        no=f"By the rule some do: {_OCTAVES}.",
        open=f"It is not resolved: {_OCTAVES}.",
    ),
    "decay": Answer(
        yes={("optimum with decay", "no optimum without"): f"Yes: {_SHARED}."},
        no=f"Not as the post has it: {_SHARED}.",
        open=f"It is not resolved: {_SHARED}.",
    ),
}


def slug(name: str) -> str:
    """A claim's name as that of a number: ``it_is_clipping``."""
    return re.sub(r"\W+", "_", name)


def numbers(chapter: str, scale: str | Chosen) -> Numbers:
    """The ``answer`` of a chapter's question, the ``state`` of its records, and each claim's verdict by its `slug`.

    Raises ValueError when the chapter answers no question.
    """
    if chapter not in ANSWERS:
        raise ValueError(f"chapter={chapter!r} is not known; it must be one of {', '.join(ANSWERS)}")
    judged = _judged(chapter, scale)
    decides = scales.chosen(scale).scale != "demo"
    found = {slug(name): verdicts.brief(verdict) for name, verdict in judged.items()}
    beside = question_numbers.beside(chapter, scale)
    answer = chosen(ANSWERS[chapter], judged, decides, beside)
    return found | beside | {"answer": answer, "state": state(chapter, scale)}


def _judged(chapter: str, scale: str | Chosen) -> dict[str, Verdict | None]:
    some = claims.of_chapter(chapter)
    return {claim.name: found for claim, found in verdicts.judged(some, verdicts.recorded(scale, some))}


def chosen(
    answer: Answer, judged: Mapping[str, Verdict | None], decides: bool = True, beside: Numbers | None = None
) -> str:
    """The sentence that the verdicts choose; that nothing is recorded, where nothing is that decides.

    It holds what was found of claims, and numbers ``beside`` them. Where runs do not ``decide``, as one of digits does not, it stays open.
    """
    if any(judged[name] is None for names in answer.yes for name in names):
        return "The runs that decide it are not recorded yet."
    kinds = {names: {found.verdict for name in names if (found := judged[name])} for names in answer.yes}
    said = next((answer.yes[names] for names, found in kinds.items() if found <= {*GOOD}), None)
    if not decides:
        said = answer.open
    elif said is None:
        said = answer.no if all(found & {*BAD} for found in kinds.values()) else answer.open
    spans = {slug(name): found.with_interval if found else NONE for name, found in judged.items()}
    return said.format_map(spans | (beside or {}))


def state(chapter: str, scale: str | Chosen) -> str:
    """With what runs a question is answered, and that these do not decide where they do not."""
    at = scales.chosen(scale)
    runs = library.runs(at, experiments.CHAPTERS[chapter][0])
    seeds = phrases.seeds_each(runs)
    if at.scale == "demo":
        return (
            f"What decides, the runs at scale small, is not recorded yet. Below is {at}: handwritten digits, {seeds}, "
            "and so no interval and no verdict but inside or outside."
        )
    return f"Scale {at}, {seeds}."


def of_all() -> dict[str, tuple[str, str]]:
    """Each question's answer, by its chapter, at the largest scale that has all its runs; and with what runs."""
    return {chapter: _told(chapter) for chapter in ANSWERS}


def _told(chapter: str) -> tuple[str, str]:
    try:
        scale = library.largest(experiments.CHAPTERS[chapter])
    except NotRecordedError:
        return "It is not known yet.", "Not recorded yet."
    found = numbers(chapter, scale)
    state = found["state"] if scale != "demo" else "On digits only, with one seed; small is not recorded yet."
    return str(found["answer"]), str(state)
