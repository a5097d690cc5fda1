"""Route navigation as it is played: in all its modes, with right answers, mistakes and broken pictures."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from random import Random
from shutil import copytree
from typing import Any

import pytest
from pydantic import ValidationError

from envs._city.cache import CityConfig, cache_folder, city_folder
from envs._routes.faults import RouteDataError
from envs._routes.street_views import cut_view, load_panorama
from envs.protocol import SPLITS, OpenEpisode, Question
from envs.route_navigation import Config, Environment
from verifier.config import Preset, VerifierConfig
from verifier.protocol import Verdict

REPOSITORY = Path(__file__).parents[3]
CITY: dict[str, Any] = {"style": "garden", "num_routes": 12, "num_turns": (1, 3)}
SMALL_CITY: dict[str, Any] = {"style": "garden", "num_routes": 2, "num_turns": (1, 2), "panorama_width": 128}

Turns = list[tuple[Question, str, Verdict]]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RULESHIFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _environment(verifier: Preset = "corrected", **options: Any) -> Environment:
    pictures = options.get("modality") == "pictures"
    defaults: dict[str, Any] = {"name": "route_navigation", "splits": "none", "route_order": "sequential"}
    if "dataset" not in options:
        defaults["city"] = SMALL_CITY if pictures else CITY
    if pictures:
        defaults["image_size"] = 64
    return Environment(Config(**{**defaults, **options}), VerifierConfig(preset=verifier))


def _expert(question: Question, _: OpenEpisode) -> str:
    return question.expert_answer


def _play(
    environment: Environment, seed: int, answer: Callable[[Question, OpenEpisode], str] = _expert
) -> tuple[bool, Turns]:
    episode = environment.open(seed, "train")
    question: Question | None = episode.first_question()
    turns: Turns = []
    while question is not None:
        text = answer(question, episode)
        verdict = environment.verifier.judge(text, question.reference)
        turns.append((question, text, verdict))
        question = episode.next_question(text, verdict)
    return episode.solved, turns


def _mistaken(_: Question, episode: OpenEpisode) -> str:
    return episode.mistake(Random(1))


MODES = [
    *(
        {"modality": modality, "actions": actions, "preset": preset, "teacher_forced": forced}
        for modality, actions, preset, forced in product(
            ("text", "pictures"), ("absolute", "relative"), ("corrected", "paper"), (False, True)
        )
    ),
    {"modality": "pictures", "asks": "recognition"},
    {"modality": "pictures", "asks": "recognition", "teacher_forced": True, "thinking": True},
    {"thinking": True, "wording": "diverse"},
    {"actions": "relative", "training_actions": "absolute", "drop_probability": 0.0},
    {"straight_line_length": 1, "drop_probability": 1.0},
]


@pytest.mark.parametrize("options", MODES, ids=lambda options: " ".join(map(str, options.values())))
def test_the_expert_solves_every_route_in_every_mode(options: dict[str, Any]) -> None:
    environment = _environment(options.get("preset", "corrected"), **options)
    for seed in range(len(environment.routes["train"])):
        solved, turns = _play(environment, seed)
        assert solved
        assert all(verdict.correct and all(_asked(verdict)) for _, _, verdict in turns)
        assert [question.step for question, _, _ in turns] == list(range(1, len(turns) + 1))


def _asked(verdict: Verdict) -> list[bool]:
    """All side facts that a right answer makes true."""
    return [value for name, value in verdict.checks.items() if name != "right_under_training_rule"]


@pytest.mark.parametrize(
    "options",
    [options for options in MODES if not options.get("teacher_forced")],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_a_mistake_is_wrong_and_never_advances(options: dict[str, Any]) -> None:
    environment = _environment(options.get("preset", "corrected"), max_attempts=3, **options)
    solved, turns = _play(environment, 0, _mistaken)
    assert not solved
    assert not any(verdict.correct for _, _, verdict in turns)
    assert {question.step for question, _, _ in turns} == {1}
    num_unscored = 1 if options.get("preset") == "paper" else 0
    assert [question.attempt for question, _, _ in turns] == list(range(1, 4 + num_unscored))
    assert [question.reference.scored for question, _, _ in turns] == [True] * 3 + [False] * num_unscored
    for (question, _, _), (_, _, verdict) in zip(turns[1:], turns, strict=False):
        assert verdict.feedback in question.text
        assert question.images == ()
        assert not question.starts_new_context


def test_even_a_right_answer_is_punished_when_it_is_the_unscored_one() -> None:
    environment = _environment("paper", preset="paper")
    solved, turns = _play(
        environment,
        0,
        lambda question, episode: question.expert_answer if question.attempt == 3 else _mistaken(question, episode),
    )
    assert not solved
    assert turns[-1][2].outcome == "attempts_exceeded"


def test_a_right_second_attempt_advances_and_starts_a_new_dialogue() -> None:
    environment = _environment()
    solved, turns = _play(
        environment,
        1,
        lambda question, episode: question.expert_answer if question.attempt == 2 else _mistaken(question, episode),
    )
    assert solved
    for question, _, _ in turns:
        assert question.starts_new_context == (question.attempt == 1 and question.step > 1)


def test_the_record_holds_what_was_carried_out_and_no_failed_try() -> None:
    environment = _environment()
    _, turns = _play(
        environment,
        2,
        lambda question, episode: question.expert_answer if question.attempt == 2 else _mistaken(question, episode),
    )
    asked = [question for question, _, _ in turns if question.attempt == 1]
    actions = [f"A_{question.step}: {question.reference.action}" for question in asked]
    assert [line for line in asked[-1].text.splitlines() if line.startswith("A_")] == actions[:-1]
    assert "O_1: No landmark nearby" in asked[-1].text


@pytest.mark.parametrize("wrong_step", [1, 3, None])
def test_teacher_forcing_asks_about_every_place_once(wrong_step: int | None) -> None:
    environment = _environment(teacher_forced=True, preset="paper")
    num_places = len(_play(environment, 0)[1])
    solved, turns = _play(
        environment,
        0,
        lambda question, episode: (
            _mistaken(question, episode) if question.step == wrong_step else question.expert_answer
        ),
    )
    assert solved == (wrong_step is None)
    assert [question.step for question, _, _ in turns] == list(range(1, num_places + 1))
    assert {question.attempt for question, _, _ in turns} == {1}


def test_mistakes_are_of_many_kinds_and_none_is_right() -> None:
    environment = _environment(actions="relative", training_actions="absolute")
    generator = Random(0)
    outcomes, actions, right_in_training = set(), set(), set()

    def answer(question: Question, episode: OpenEpisode) -> str:
        for _ in range(30):
            text = episode.mistake(generator)
            verdict = environment.verifier.judge(text, question.reference)
            assert not verdict.correct
            outcomes.add(verdict.outcome)
            actions.add(json.loads(text)["action"])
            right_in_training.add(verdict.checks.get("right_under_training_rule"))
        return question.expert_answer

    for seed in range(4):
        _play(environment, seed, answer)
    assert outcomes == {"wrong_action", "wrong_recognition"}
    assert {"forward()", "stop()", "turn_direction(left)"} <= actions
    assert True in right_in_training


@pytest.mark.parametrize(
    "options",
    [{}, {"thinking": True}, {"asks": "recognition", "modality": "pictures"}, {"wording": "diverse"}],
    ids=str,
)
def test_the_form_of_the_answer_is_shown_as_valid_json(options: dict[str, Any]) -> None:
    for seed in range(8):
        question = _environment(**options).open(seed, "train").first_question()
        form = json.loads(question.text[question.text.rindex("\n{") :])
        assert list(form) == list(json.loads(question.expert_answer))


def test_both_vocabularies_stand_in_the_route_and_one_among_the_actions() -> None:
    absolute, relative = (
        _environment(actions=actions).open(0, "train").first_question() for actions in ("absolute", "relative")
    )
    route = [text[text.index("Route:") : text.index("So far")] for text in (absolute.text, relative.text)]
    assert route[0] == route[1]
    assert absolute.reference.action.removeprefix("turn_direction(").removesuffix(")") in route[0]
    assert relative.reference.action.removeprefix("turn_direction(").removesuffix(")") in route[0]
    assert "one of north, northeast, east, southeast, south, southwest, west, northwest" in absolute.text
    assert "one of left, right, slightly left, slightly right" in relative.text


def test_the_paper_preset_keeps_the_unwrapped_turn_words() -> None:
    def words(preset: str) -> list[str]:
        environment = _environment(actions="relative", preset=preset, city={**CITY, "num_routes": 60})
        return [environment.open(seed, "train").first_question().reference.action for seed in range(200)]

    corrected, paper = words("corrected"), words("paper")
    assert any(first != second for first, second in zip(corrected, paper, strict=True) if "slightly" in first)


@pytest.mark.parametrize("preset", ["corrected", "paper"])
def test_a_picture_replaces_the_words_for_the_present_place(preset: str) -> None:
    _, turns = _play(_environment(modality="pictures", preset=preset), 0)
    for question, _, _ in turns:
        now = question.text[question.text.index("So far") : question.text.index("Answer with")].strip().splitlines()[-1]
        tells = question.reference.intersection and preset == "paper"
        assert now == f"O_{question.step}: what the picture shows" + ("; this is an intersection" if tells else "")
        assert [image.size for image in question.images] == [(64, 64)]
    assert any(question.reference.intersection for question, _, _ in turns)


def test_the_first_view_looks_where_the_traveller_goes() -> None:
    environment = _environment(modality="pictures", drop_probability=0.0, image_size=129)
    _, turns = _play(environment, 0)
    route = environment.routes["train"][0]
    place, segment = route.segments[0].between[0], route.segments[0]
    folder = city_folder(CityConfig(**SMALL_CITY), pictures=True) / "street_views"
    rotation = json.loads((folder / f"{place.panorama}.metadata.json").read_text())["rotation"]
    view = cut_view(
        load_panorama(folder.resolve() / f"{place.panorama}.jpg"), heading=segment.heading, rotation=rotation, size=64
    )
    assert turns[1][0].images[0].crop((0, 0, 64, 64)).tobytes() == view.tobytes()


def test_recognition_asks_for_nothing_else_and_tells_nothing() -> None:
    _, turns = _play(_environment(modality="pictures", asks="recognition"), 0)
    for question, text, _ in turns:
        assert list(json.loads(text)) == ["current observation"]
        assert "O_1" not in question.text
        assert "forward()" not in question.text


def test_the_wording_changes_no_task() -> None:
    fixed, diverse = _environment(), _environment(wording="diverse")
    texts = set()
    for seed in range(24):
        plain, varied = fixed.open(seed, "train").first_question(), diverse.open(seed, "train").first_question()
        assert plain.reference.action == varied.reference.action
        texts.add(varied.text.splitlines()[0])
    assert len(texts) >= 4
    assert len({fixed.open(seed, "train").first_question().text.splitlines()[0] for seed in range(24)}) == 1


def test_exact_splits_share_no_route_and_leave_none_out() -> None:
    environment = _environment(splits="exact")
    routes = [{route.identity for route in environment.routes[split]} for split in SPLITS]
    assert sum(map(len, routes)) == len(set.union(*routes)) == 12
    everything = _environment()
    assert all(len(everything.routes[split]) == 12 for split in SPLITS)


def test_a_split_without_routes_says_what_to_change() -> None:
    environment = _environment(splits="exact", test_fraction=0.0)
    with pytest.raises(ValueError, match=r"none of the 12 routes in .* is in the test split; .*env\.test_fraction"):
        environment.open(0, "test")


def test_seeds_count_through_the_routes_in_order_when_asked_to() -> None:
    environment = _environment()
    destinations = [route.segments[-1].landmark for route in environment.routes["test"]]
    for seed in range(15):
        text = environment.open(seed, "test").first_question().text
        destination = destinations[seed % 12]
        assert destination is not None
        assert f"the destination {destination.name} is" in text
    shuffled = _environment(route_order="random")
    assert len({shuffled.open(seed, "test").first_question().text for seed in range(12)}) > 4


def _digest_script() -> str:
    return (
        "from tests.unit.envs.test_route_navigation import _environment, _play\n"
        "import hashlib\n"
        "content = hashlib.sha256()\n"
        "for options in ({}, {'modality': 'pictures', 'wording': 'diverse', 'actions': 'relative'}):\n"
        "    for seed in range(2):\n"
        "        for question, answer, _ in _play(_environment(**options, route_order='random'), seed)[1]:\n"
        "            content.update(repr((question.text, question.reference, answer)).encode())\n"
        "            content.update(b''.join(image.tobytes() for image in question.images))\n"
        "print(content.hexdigest())\n"
    )


def _start(script: str, cache: Path, hash_seed: int) -> subprocess.Popen[str]:
    variables = {**os.environ, "RULESHIFT_CACHE": str(cache), "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, env=variables, stdout=subprocess.PIPE, text=True
    )


def test_processes_that_build_the_same_city_at_once_ask_the_same_questions(tmp_path: Path) -> None:
    runs = [_start(_digest_script(), tmp_path, hash_seed) for hash_seed in (1, 2)]
    digests = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert digests[0] == digests[1] != ""
    assert len([entry for entry in tmp_path.iterdir() if entry.is_dir()]) == 2


def test_a_city_is_built_once_and_another_for_other_options() -> None:
    folder = city_folder(CityConfig(**CITY), pictures=False)
    written = (folder / "route_infos.json").stat().st_mtime_ns
    assert city_folder(CityConfig(**CITY), pictures=False) == folder
    assert (folder / "route_infos.json").stat().st_mtime_ns == written
    assert city_folder(CityConfig(**CITY, panorama_width=64, look="oldtown"), pictures=False) == folder
    assert city_folder(CityConfig(**CITY, seed=1), pictures=False) != folder


def test_the_cache_follows_the_usual_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RULESHIFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ruleshift"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "ruleshift"


def test_a_folder_of_routes_can_be_used_instead_of_a_city() -> None:
    folder = city_folder(CityConfig(**CITY), pictures=False)
    given, built = _environment(dataset=folder), _environment()
    assert given.open(3, "train").first_question() == built.open(3, "train").first_question()


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = copytree(city_folder(CityConfig(**SMALL_CITY), pictures=True), tmp_path / "city")
    environment = _environment(modality="pictures", dataset=folder)
    panorama = environment.routes["train"][0].start.panorama
    (folder / "street_views" / f"{panorama}.jpg").write_bytes(b"not a picture")
    with pytest.raises(RouteDataError, match=rf"{panorama}\.jpg: cannot be read as a picture .*; "):
        list(environment.open(0, "train").first_question().images)


def _city_with_an_odd_route(folder: Path, number: int) -> Path:
    copytree(city_folder(CityConfig(**CITY), pictures=False), folder)
    routes, counter = json.loads((folder / "route_infos.json").read_text())
    routes[number]["milestone_info"] = "odd"
    (folder / "route_infos.json").write_text(json.dumps([routes, counter]))
    return folder


def _starts(environment: Environment, seeds: range) -> list[str]:
    return [environment.open(seed, "train").first_question().text for seed in seeds]


def test_a_route_that_is_left_out_changes_no_split_and_no_seed_of_the_others(tmp_path: Path) -> None:
    folder = city_folder(CityConfig(**CITY), pictures=False)
    options: dict[str, Any] = {"splits": "exact", "route_order": "random"}
    whole = _environment(dataset=folder, **options)
    odd = _environment(dataset=_city_with_an_odd_route(tmp_path / "city", 3), **options)
    (left_out,) = odd.left_out
    assert left_out.number == 3
    for split in SPLITS:
        assert odd.routes[split] == tuple(r for r in whole.routes[split] if r.identity != left_out.identity)
    pairs = list(zip(_starts(whole, range(60)), _starts(odd, range(60)), strict=True))
    destination = left_out.title.split(" → ")[1]
    assert all(before == after for before, after in pairs if destination not in before)
    assert not any(destination in after for _, after in pairs)
    num_routes = len(whole.routes["train"])
    assert sum(before != after for before, after in pairs) < 4 * 60 / num_routes


def test_strict_data_refuses_a_set_with_one_odd_route(tmp_path: Path) -> None:
    folder = _city_with_an_odd_route(tmp_path / "city", 3)
    with pytest.raises(RouteDataError, match=r"1 of 12 routes cannot be played; .*\n.*route 3, milestone_info"):
        _environment(dataset=folder, strict_data=True)


def test_an_empty_split_counts_the_routes_that_are_left_out(tmp_path: Path) -> None:
    folder = _city_with_an_odd_route(tmp_path / "city", 3)
    environment = _environment(dataset=folder, splits="exact", test_fraction=0.0)
    with pytest.raises(ValueError, match=r"none of the 11 routes in .* \(1 more cannot be played\) is in"):
        environment.open(0, "test")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dataset": "x", "city": {"seed": 1}}, "both given"),
        ({"asks": "recognition"}, "needs modality=pictures"),
        ({"city": {"style": "manhatten"}}, "did you mean 'manhattan'"),
        ({"city": {"num_turns": [3, 2]}}, "fewest and the most"),
        ({"city": {"style": "emblem", "look": "dusk"}}, "look='dusk' is the look of no style"),
        ({"city": {"look": "emblem"}}, "those of style='manhattan' say none"),
        ({"city": {"pairs": "seen"}}, "the signs of style='manhattan' have none"),
        ({"city": {"panorama_width": 101}}, "multiple of 2"),
        ({"test_fraction": 0.6, "validation_fraction": 0.4}, "leave something to train on"),
        ({"max_attempts": 0}, "greater than or equal to 1"),
        ({"drop_probability": 1.1}, "less than or equal to 1"),
        ({"action": "relative"}, "Extra inputs"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Config(name="route_navigation", **options)


def test_a_config_that_was_saved_with_all_its_values_can_be_read_again() -> None:
    config = Config(name="route_navigation", dataset=Path("routes"), actions="relative")
    assert Config(**config.model_dump(mode="json")) == config
