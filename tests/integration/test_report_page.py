"""The report's page in a real browser: it loads alone, its filters show what the records say, it fits a phone."""

import math
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from cluster.record.episode_log import EpisodeRecord
from cluster.record.files import read_rows
from study.report.build import build_report, build_tasks_report
from study.report.rates import measures_of
from tests.support.browser import Tab, browsing, find_browser
from tests.support.four_tasks import make_task
from tests.support.report_page import HOSTILE, PICTURES, MadeReport, ReportPage, hand, make_report
from tests.support.study import NUM_TASKS, SUITES, make_run

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

DESKTOP, PHONE = (1280, 800), (390, 844)
LEVELS = {"sure": -0.1, "likely": -1.0, "unlikely": -3.0, "rare": -math.inf}
OUTCOMES: dict[str, Callable[[EpisodeRecord], bool]] = {
    "all": lambda episode: True,
    "solved": lambda episode: episode.end == "solved",
    "unsolved": lambda episode: episode.end != "solved",
    "old": lambda episode: any(
        turn.checks.get("right_under_training_rule") and not turn.correct for turn in episode.turns
    ),
    "misread": lambda episode: not all(turn.checks["numbers_read"] for turn in episode.turns),
    "later": lambda episode: episode.end == "solved" and len(episode.turns) > 1,
}
NUMBERS = [
    {"arm": "sft"},
    {"suite": "rule_shift"},
    {"measure": "mean_reward"},
    {"temperature": "0"},
    {"arm": "rl", "suite": "in_distribution", "measure": "num_clusters", "temperature": "1"},
    {"arm": "init", "temperature": "0"},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeReport:
    return make_report(tmp_path_factory.mktemp("studies") / "little")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tab]:
    """One for all tests here; only CI must have it."""
    program = find_browser()
    if program is None:
        why = "there is no Chromium: `apt-get install chromium`, or name the program in the variable CHROMIUM"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    async with browsing(program, tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Tab, made: MadeReport) -> AsyncIterator[ReportPage]:
    """Freshly opened; whatever a test does there, it must neither complain nor ask for anything but itself."""
    await browser.resize(*DESKTOP)
    await browser.show_as()
    await browser.open(made.page)
    yield ReportPage(browser)
    assert browser.messages == []
    assert [address for address in browser.requests if not address.startswith("data:")] == [made.page.as_uri()]


def passing(episodes: Mapping[str, EpisodeRecord], outcome: str) -> set[str]:
    return {name for name, episode in episodes.items() if OUTCOMES[outcome](episode)}


async def test_a_page_that_complains_or_asks_for_something_is_noticed(browser: Tab, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.warn('odd', 1); fetch('x.json'); throw new Error('lost')</script><img src=y.png>")
    await browser.open(bad)
    assert [address.rpartition("/")[2] for address in browser.requests[:2]] == ["bad.html", "y.png"]
    assert "warning: odd 1" in browser.messages
    assert any(message.startswith("Error: lost") for message in browser.messages)
    assert any("ERR_FILE_NOT_FOUND" in message for message in browser.messages)


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
async def test_the_page_does_not_scroll_sideways(page: ReportPage, size: tuple[int, int]) -> None:
    await page.tab.resize(*size, phone=size == PHONE)
    await page.tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    await page.choose("number-filters", {"measure": ""})
    await page.choose("episode-filters", {"outcome": "unsolved"})
    assert await page.tab.evaluate("document.documentElement.scrollWidth") == size[0]


@pytest.mark.parametrize("choices", NUMBERS)
async def test_filters_of_numbers_show_the_rows_of_the_records(
    page: ReportPage, made: MadeReport, choices: dict[str, str]
) -> None:
    await page.choose("number-filters", choices)
    wanted = {"measure": "success", **choices}
    expected = {}
    for cell in made.folder.glob("cells/*"):
        arm, seed = cell.name.split("_seed")
        for row in read_rows(cell / "evaluations.jsonl"):
            for measure in measures_of(row):
                told = {"arm": arm, "suite": row["suite"], "measure": measure, "temperature": f"{row['temperature']:g}"}
                if wanted.items() <= told.items():
                    ends = [row.get(f"{measure}{ending}", math.nan) for ending in ("", "_low", "_high", "_n")]
                    expected[*told.values(), seed, str(row["iteration"])] = ends
    rows = await page.rows()
    shown = {}
    for arm, seed, suite, temperature, iteration, _, measure, *ends in rows:
        shown[arm, suite, measure, temperature, seed, iteration] = [float(text or "nan") for text in ends]
    assert shown.keys() == expected.keys() and len(rows) == len(expected)
    assert all(shown[key] == pytest.approx(expected[key], rel=1e-3, nan_ok=True) for key in expected)
    assert await page.words("number-count") == f"{len(expected)} rows"


async def test_more_numbers_than_are_shown_are_said_to_be_in_the_file(page: ReportPage, made: MadeReport) -> None:
    await page.choose("number-filters", {"measure": ""})
    everything = len((made.folder / "numbers.csv").read_text().splitlines()) - 1
    assert len(await page.rows()) == 400
    assert await page.words("number-count") == f"400 of {everything} rows; all are in numbers.csv."


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize(("suite", "left", "seed"), [("rule_shift", "init", 0), ("in_distribution", "rl", 1)])
async def test_filters_of_episodes_show_those_that_pass_and_no_others(
    page: ReportPage, made: MadeReport, suite: str, left: str, seed: int, outcome: str
) -> None:
    choices = {"suite": suite, "seed": str(seed), "left": left, "right": "sft", "outcome": outcome}
    both = [made.final[suite, arm, seed] for arm in (left, "sft")]
    on_the_left, on_the_right = (passing(episodes, outcome) for episodes in both)
    expected = {"left": on_the_left, "right": on_the_right, "either": on_the_left | on_the_right}
    for whose, tasks in expected.items():
        await page.choose("episode-filters", {**choices, "outcome of": whose})
        seen = [shown for shown in await page.walk() if shown["task"]]
        assert {shown["task"] for shown in seen} == tasks and len(seen) == len(tasks)
        for shown in seen:
            for side, arm, episodes in zip(shown["sides"], (left, "sft"), both, strict=True):
                record = episodes[shown["task"]]
                assert (side["arm"], side["end"]) == (arm, record.end.replace("_", " "))
                assert side["answers"] == [turn.answer for turn in record.turns]


async def test_the_outcomes_are_told_apart_by_the_study(made: MadeReport) -> None:
    found = [passing(made.final["rule_shift", "init", 0], outcome) for outcome in OUTCOMES]
    assert all(found) and len(set(map(frozenset, found))) == len(OUTCOMES)


async def test_both_sides_show_the_same_hand(page: ReportPage) -> None:
    await page.choose("episode-filters", {"left": "sft", "right": "rl"})
    seen = await page.walk()
    assert len(seen) == NUM_TASKS
    for shown in seen:
        task = int(shown["task"].split()[-1])
        left, right = shown["sides"]
        assert (left["arm"], right["arm"]) == ("sft", "rl")
        assert {*left["questions"], *right["questions"]} == {f"The hand is {hand(task)}. Make 24."}
        assert len({*left["pictures"], *right["pictures"]}) == (1 if task % 8 < len(PICTURES) else 0)
    await page.choose("episode-filters", {"right": ""})
    assert [side["arm"] for side in (await page.shown())["sides"]] == ["sft"]


async def test_pictures_are_drawn(page: ReportPage) -> None:
    for size in PICTURES.values():
        drawn = "(async (one) => { await one.decode(); return [one.naturalWidth, one.naturalHeight]; })"
        assert await page.tab.evaluate(f"{drawn}(document.querySelector('#sides img'))") == list(size)
        await page.turn("next")


async def test_pages_are_turned_on_and_back(page: ReportPage) -> None:
    first = await page.shown()
    assert first["count"] == f"1 of {NUM_TASKS}" and await page.ends() == (True, False)
    await page.turn("next")
    second = await page.shown()
    assert second["count"] == f"2 of {NUM_TASKS}" and second["task"] != first["task"]
    assert await page.ends() == (False, False)
    await page.turn("previous")
    assert await page.shown() == first
    last = (await page.walk())[-1]
    assert last["count"] == f"{NUM_TASKS} of {NUM_TASKS}" and await page.ends() == (False, True)
    await page.choose("episode-filters", {"suite": "in_distribution"})
    assert (await page.shown())["count"] == f"1 of {NUM_TASKS}"


async def test_a_typed_seed_or_hand_leaves_the_tasks_that_have_it(page: ReportPage, made: MadeReport) -> None:
    everything = list(made.final["rule_shift", "rl", 0])
    assert await page.ask_for_hand("TRAIN 17") == ["general_points train 17"]
    assert await page.ask_for_hand("train 3") == [name for name in everything if "train 3" in name]
    assert await page.ask_for_hand(f" {hand(29).lower()} ") == ["general_points train 29"]
    solved = passing(made.final["rule_shift", "rl", 0], "solved")
    with_queen = {name for name in everything if "Q" in hand(int(name.split()[-1]))}
    await page.choose("episode-filters", {"left": "rl", "outcome": "solved"})
    assert set(await page.ask_for_hand("q")) == solved & with_queen != solved


async def test_a_text_that_no_task_has_leaves_none_and_enter_leaves_the_page_open(page: ReportPage) -> None:
    assert await page.ask_for_hand(".*") == [""]
    none = {"count": "none of the embedded tasks", "task": "", "sides": []}
    assert await page.shown() == none and await page.ends() == (True, True)
    await page.tab.evaluate("document.getElementById('episode-filters').requestSubmit()")
    assert await page.shown() == none


async def test_hostile_text_stays_text(page: ReportPage) -> None:
    for suite in SUITES:
        await page.choose("episode-filters", {"suite": suite, "outcome": "unsolved", "outcome of": "either"})
        assert any(HOSTILE in side["answers"] for shown in await page.walk() for side in shown["sides"])
    assert await page.tab.evaluate("document.title") == "little"
    assert await page.tab.evaluate("[...document.images].every((picture) => picture.src.startsWith('data:'))")
    assert await page.tab.evaluate("[document.scripts.length, document.querySelectorAll('#bold').length]") == [3, 0]


async def test_a_run_whose_episodes_were_not_kept_says_so(browser: Tab, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for file in run.glob("episodes/*.jsonl"):
        file.unlink()
    await browser.open(build_report(run)[0])
    page = ReportPage(browser)
    assert await page.words("sides") == "No episodes were kept." and await page.ends() == (True, True)
    assert browser.messages == [] and len(await page.rows()) == 3


async def test_tokens_have_the_colours_of_the_legend(page: ReportPage, made: MadeReport) -> None:
    legend = await page.legend()
    assert len({legend[level]["back"] for level in LEVELS}) == len(LEVELS)
    await page.choose("episode-filters", {"left": "sft"})
    seen = set()
    for _ in range(3):
        record = made.final["rule_shift", "sft", 0][(await page.shown())["task"]]
        for turn, tokens in zip(record.turns, await page.tokens(), strict=True):
            assert [text for text, *_ in tokens] == list(turn.tokens)
            for value, (_, level, told, back) in zip(turn.logprobs, tokens, strict=True):
                found = next((name for name, least in LEVELS.items() if value is not None and value > least), "unknown")
                assert (level, back) == (found, legend[found]["back"])
                assert told == ("not recorded" if value is None else f"log-probability {value:g}")
                seen.add(level)
        await page.turn("next")
    assert seen == {*LEVELS, "unknown"}


@pytest.mark.parametrize("media", ["screen", "print"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_legend_is_right_and_can_be_read(page: ReportPage, media: str, scheme: str) -> None:
    await page.tab.show_as(media=media, scheme=scheme)
    legend = await page.legend()
    assert [told["words"].strip() for told in legend.values()] == [
        *("sure over −0.1 (90 %)", "likely over −1 (37 %)", "unlikely over −3 (5 %)", "rare up to −3 (5 %)"),
        "not recorded",
    ]
    assert all(told["shown"] and told["adjust"] == "exact" for told in legend.values())
    assert len({legend[level]["line"] for level in ("likely", "unlikely", "rare")}) == 3
    paper = await page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    for told in legend.values():
        assert contrast(told["ink"], paper if told["back"] == "rgba(0, 0, 0, 0)" else told["back"]) >= 4.5


def contrast(first: str, second: str) -> float:
    """Of two opaque colours, as WCAG counts it."""
    darker, lighter = sorted(map(luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)
    assert parts, colour
    shares = [int(part) / 255 for part in parts.groups()]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.timeout(300)
async def test_the_page_of_several_tasks_loads_alone_and_fits_a_phone(browser: Tab, tmp_path: Path) -> None:
    folders = [make_task(tmp_path / task, task, seeds=(10,), num_tasks=8) for task in ("gp_l", "gp_vl")]
    page, _ = build_tasks_report(folders, tmp_path)
    await browser.show_as()
    await browser.resize(*PHONE, phone=True)
    await browser.open(page)
    await browser.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert await browser.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    assert await browser.evaluate("document.querySelectorAll('figure svg').length") == 5
    assert browser.messages == [] and browser.requests == [page.as_uri()]
