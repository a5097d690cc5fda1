"""A report whose episodes differ in all that its page can filter by, and what a browser shows of it.

made = make_report(folder)          made.page, made.final["rule_shift", "sft", 0]["general_points train 7"]
page = ReportPage(tab)              await page.choose("episode-filters", {"outcome": "solved"}); await page.walk()
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cluster.record.episode_log import EpisodeRecord, read_episodes
from cluster.record.files import append_rows, read_rows, replace
from study.report.build import build_report
from tests.support.browser import Tab
from tests.support.study import EVALUATIONS, make_study

HOSTILE = '</script><img src=x onerror="document.title=1"><b id="bold">' + "9" * 400
"""An answer that would break a careless page, and is too long for any line."""
PICTURES = {"ace": (60, 40), "king": (50, 70)}
_CARDS = ("A", *map(str, range(2, 11)), "J", "Q", "K")
_LOGPROBS = ((-0.05, -2.5, -0.02), (-0.5, -4.0, -0.02), (None, -0.1, -0.02))

_READ = """(() => {
  const words = (box, what) => [...box.querySelectorAll(what)].map((found) => found.textContent);
  return {
    count: document.getElementById("episode-count").textContent,
    task: document.getElementById("episode-task").textContent,
    sides: [...document.querySelectorAll("#sides .side")].map((side) => ({
      arm: words(side, "h4")[0], end: words(side, ".verdict .right, .verdict .wrong")[0],
      questions: words(side, "details pre"), answers: words(side, ".answer"),
      pictures: [...side.querySelectorAll("img")].map((picture) => picture.src),
    })),
  };
})()"""
_WALK = f"""(() => {{
  const next = document.getElementById("next");
  for (const seen = []; seen.length < 1000; next.click()) {{
    seen.push({_READ});
    if (next.disabled) return seen;
  }}
  throw new Error("the pages have no end");
}})()"""
_ROWS = """[...document.querySelectorAll("#number-rows tr")].map((row) =>
  [...row.cells].map((cell) => cell.textContent))"""
_LEGEND = """Object.fromEntries([...document.querySelectorAll("#legend .token")].map((token) => {
  const style = getComputedStyle(token);
  return [token.classList[1], {
    words: token.parentElement.textContent, back: style.backgroundColor, ink: style.color,
    line: style.textDecorationStyle, shown: token.getClientRects().length > 0, adjust: style.printColorAdjust,
  }];
}))"""
_TOKENS = """[...document.querySelectorAll("#sides .side:first-child .answer")].map((answer) =>
  [...answer.querySelectorAll(".token")].map((token) =>
    [token.textContent, token.classList[1], token.title, getComputedStyle(token).backgroundColor]))"""


@dataclass(frozen=True)
class MadeReport:
    """A report, and the records that it tells of."""

    folder: Path
    final: Mapping[tuple[str, str, int], Mapping[str, EpisodeRecord]]
    """Suite, arm and seed → what was played at the end, by the name of its task."""

    @property
    def page(self) -> Path:
        """Where the page is."""
        return self.folder / "report.html"


def hand(task: int) -> str:
    """Four cards, the same for no two tasks."""
    return ", ".join(_CARDS[place % 13] for place in (task, 3 * task, 5 * task, task // 13))


def make_report(folder: Path) -> MadeReport:
    """The report of a study of hostile answers, one of whose runs was measured greedily too."""
    make_study(folder, answer=HOSTILE)
    final: dict[tuple[str, str, int], dict[str, EpisodeRecord]] = {}
    for cell in sorted(folder.glob("cells/*")):
        (cell / "images").mkdir()
        for name, size in PICTURES.items():
            Image.new("RGB", size, (200, 30, 30)).save(cell / "images" / f"{name}.png")
        for file in (cell / "episodes").glob("*.jsonl"):
            replace(file, b"".join(json.dumps(_varied(row)).encode() + b"\n" for row in read_rows(file)))
            records = read_episodes(file)
            arm, seed = cell.name.split("_seed")
            if records[0].iteration in (0, EVALUATIONS[-1]):
                by_task = {f"{record.env} {record.split} {record.seed}": record for record in records}
                final[records[0].suite, arm, int(seed)] = by_task
    evaluations = folder / "cells" / "rl_seed0" / "evaluations.jsonl"
    append_rows(evaluations, [{**row, "temperature": 0.0} for row in read_rows(evaluations)])
    build_report(folder)
    return MadeReport(folder, final)


def _varied(record: dict[str, Any]) -> dict[str, Any]:
    """Each task has a hand of its own, some a picture, some no ends of tokens; unsolved ones differ in their checks."""
    task = record["seed"]
    for turn in record["turns"]:
        turn["question_text"] = f"The hand is {hand(task)}. Make 24."
        turn["feedback"] += "" if turn["correct"] else f" You said: {HOSTILE}"
        turn["logprobs"] = _LOGPROBS[task % len(_LOGPROBS)]
        turn["token_ends"] = [] if task % 8 == 5 else turn["token_ends"]
        turn["images"] = list(PICTURES)[task % 8 : task % 8 + 1]
        if task % 4 == 1 and "right_under_training_rule" in turn["checks"]:
            turn["checks"]["right_under_training_rule"] = False
        if task % 4 == 2:
            turn["checks"]["numbers_read"] = True
    return record


class ReportPage:
    """The page that is open in a tab, as its reader uses it."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab

    async def choose(self, form: str, choices: Mapping[str, str]) -> None:
        """Set choices of a form; one that is not offered is an error."""
        for name, value in choices.items():
            await self.tab.evaluate(f"""(() => {{
              const box = document.querySelector('#{form} [name="{name}"]');
              box.value = "{value}";
              if (box.value !== "{value}") throw new Error("{name} cannot be {value}");
              box.dispatchEvent(new Event("change"));
            }})()""")

    async def ask_for_hand(self, text: str) -> list[str]:
        """Type a text into the box `hand`; which tasks are left."""
        box = "document.querySelector('#episode-filters [name=hand]')"
        await self.tab.evaluate(f"{box}.focus(), {box}.select()")
        await self.tab.type_text(text)
        return [seen["task"] for seen in await self.walk()]

    async def turn(self, button: str) -> None:
        """To the `next` task or the `previous` one."""
        await self.tab.evaluate(f"document.getElementById('{button}').click()")

    async def ends(self) -> tuple[bool, bool]:
        """Whether there is nothing before this task, and nothing after it."""
        before, after = await self.tab.evaluate("[previous.disabled, next.disabled]")
        return before, after

    async def shown(self) -> dict[str, Any]:
        """The task that is shown and what is said of it on either side."""
        return await self.tab.evaluate(_READ)

    async def walk(self) -> list[dict[str, Any]]:
        """The same for this task and all after it, the last of which is then shown."""
        return await self.tab.evaluate(_WALK)

    async def rows(self) -> list[list[str]]:
        """The cells of the table of numbers."""
        return await self.tab.evaluate(_ROWS)

    async def words(self, place: str) -> str:
        """The text of the element of that id."""
        return await self.tab.evaluate(f"document.getElementById('{place}').textContent")

    async def legend(self) -> dict[str, dict[str, Any]]:
        """Each level of a token, what is said of it and how it looks."""
        return await self.tab.evaluate(_LEGEND)

    async def tokens(self) -> list[list[tuple[str, str, str, str]]]:
        """For each answer on the left, its tokens: text, level, what hovering tells, background."""
        return await self.tab.evaluate(_TOKENS)
