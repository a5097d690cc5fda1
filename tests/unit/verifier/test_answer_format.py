"""Fields are read out of whatever a model may write, at their place, in bounded time."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from verifier.answer_format import WINDOW, read_fields, read_integers, read_items

NAMES = ("cards", "number", "formula")

# Each holds the same three fields.
SPELLINGS = {
    "strict JSON": '{"cards": ["A", "3", "K", "10"], "number": [1, 3, 10, 10], "formula": "1+3"}',
    "a code fence": '```json\n{"cards": ["A", "3", "K", "10"], "number": [1, 3, 10, 10], "formula": "1+3"}\n```',
    "amid prose": 'So {"cards": ["A", "3", "K", "10"], "number": [1, 3, 10, 10], "formula": "1+3"}, isn\'t it?',
    "Python's quotes": "{'cards': ['A', '3', 'K', '10'], 'number': [1, 3, 10, 10], 'formula': '1+3'}",
    "trailing commas": '{"cards": ["A", "3", "K", "10",], "number": [1, 3, 10, 10,], "formula": "1+3",}',
    "no quotes": "{cards: [A, 3, K, 10], number: [1, 3, 10, 10], formula: 1+3}",
    "no spaces": '{"cards":["A","3","K","10"],"number":[1,3,10,10],"formula":"1+3"}',
    "tuples": "{'cards': ('A', '3', 'K', '10'), 'number': (1, 3, 10, 10), 'formula': '1+3'}",
    "lists as strings": '{"cards": "A, 3, K, 10", "number": "1 3 10 10", "formula": "1+3"}',
    "semicolons": '{"cards": [A; 3; K; 10], "number": [1; 3; 10; 10], "formula": "1+3"}',
    "nested lists": '{"cards": [["A"], ["3"], ["K"], ["10"]], "number": [[1], [3], [10], [10]], "formula": "1+3"}',
    "several lines": '{\n "cards": [\n"A",\n"3",\n"K",\n"10"\n],\n "number": [1,\n3, 10, 10], "formula": "1+3"\n}',
    "loose lines": "cards: A, 3, K, 10\nnumber: 1, 3, 10, 10\nformula: 1+3\n",
    "one loose line": "cards: [A, 3, K, 10], number: [1, 3, 10, 10], formula: 1+3",
    "markdown": "**Cards**: A, 3, K, 10\n**Number**: 1, 3, 10, 10\n**Formula**: `1+3`",
    "curly quotes": "{“cards”: [“A”, “3”, “K”, “10”], “number”: [1, 3, 10, 10], “formula”: “1+3”}",
    "a nested object": '{"answer": {"cards": ["A", "3", "K", "10"], "number": [1, 3, 10, 10], "formula": "1+3"}}',
    "two depths": '{"cards": ["A", "3", "K", "10"], "solution": {"number": [1, 3, 10, 10], "formula": "1+3"}}',
    "capitals": '{"CARDS": ["A", "3", "K", "10"], "Number": [1, 3, 10, 10], "Formula": "1+3"}',
    "no closing brace": '{"cards": ["A", "3", "K", "10"], "number": [1, 3, 10, 10], "formula": "1+3"',
    "a full-width colon": "cards： A, 3, K, 10\nnumber： 1, 3, 10, 10\nformula： 1+3",
    "a thought before": '{"thinking": "formula: 9*9 {", "cards": ["A", "3", "K", "10"], "number": [1, 3, 10, 10], '
    '"formula": "1+3"}',
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_every_spelling_reads_alike(text: str) -> None:
    fields = read_fields(text, NAMES)
    assert read_items(fields["cards"].text) == ("A", "3", "K", "10")
    assert read_integers(fields["number"].text) == (1, 3, 10, 10)
    assert fields["formula"].text == "1+3"


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_span_covers_the_value_and_nothing_else(text: str) -> None:
    field = read_fields(text, NAMES)["formula"]
    assert text[field.start : field.end] == "1+3"


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ('{"formula": "1"} then {"formula": "2"}', "2"),
        ('{"formula": "1", "formula": "2"}', "2"),
        ('{"formula": "1"} then {"formula": "2', "1"),
        ('{"cards": [], "number": [], "formula": "1"} then {"formula": "2"}', "1"),
        ('{"formula": "1"} so formula: 2', "1"),
        ('{"tries": [{"formula": "1"}, {"formula": "2"}]}', "2"),
        ('{"formula": "1", "note": {"formula": "2"}}', "1"),
        ("formula: 1\nformula: 2", "2"),
        ("so my formula: 7", "7"),
    ],
)
def test_the_last_complete_object_wins(text: str, formula: str) -> None:
    assert read_fields(text, NAMES)["formula"].text == formula


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'{"formula": "a\"b"}', 'a"b'),
        (r'{"formula": "1\u00d73"}', "1×3"),
        (r'{"formula": "8\/2"}', "8/2"),
        (r"{'formula': 'it\'s'}", "it's"),
        ("{'formula': 'don't'}", "don't"),
        ('{"formula": 24}', "24"),
        ('{"formula": null}', "null"),
        ('{"formula": ""}', ""),
        ("formula: (7-5)*10 + 4 = 24", "(7-5)*10 + 4 = 24"),
        ("{formula: (1+2)*(3+4), cards: []}", "(1+2)*(3+4)"),
    ],
)
def test_values_are_read_without_their_wrapping(text: str, expected: str) -> None:
    assert read_fields(text, NAMES)["formula"].text == expected


def test_an_answer_cut_short_keeps_what_was_complete_and_marks_what_was_not() -> None:
    fields = read_fields('{"cards": ["A", "3"], "formula": "1+', NAMES)
    assert fields["cards"].closed
    assert not fields["formula"].closed
    assert fields["formula"].text == "1+"


def test_names_match_whatever_their_case_and_joints() -> None:
    assert read_fields('{"Current_Observation": "x"}', ("current observation",))["current observation"].text == "x"


def test_digits_of_any_script_are_digits() -> None:
    assert read_integers("[１, ٣, १०]") == (1, 3, 10)
    assert read_integers("[1, x]") is None


@given(st.dictionaries(st.sampled_from(NAMES), st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]))))
def test_strict_json_reads_as_json(document: dict[str, str]) -> None:
    fields = read_fields(json.dumps(document), NAMES)
    assert {name: field.text for name, field in fields.items()} == document


@given(st.text())
@example('{"formula": "\\')
@example("formula:")
def test_no_text_raises_and_every_span_lies_inside(text: str) -> None:
    for field in read_fields(text, NAMES).values():
        assert 0 <= field.start <= field.end <= len(text)


@given(st.lists(st.sampled_from(["{", "}", '"', "'", "formula", ":", ",", "[", "]", "1", " ", "\\", "\n", "(", ")"])))
def test_no_heap_of_punctuation_raises(pieces: list[str]) -> None:
    text = "".join(pieces)
    for field in read_fields(text, NAMES).values():
        assert 0 <= field.start <= field.end <= len(text)


HOSTILE = [
    "{",
    '"',
    "formula:",
    'formula: "',
    "formula: [",
    "formula:'",
    " ",
    "a ",
    '{"a":',
    '"a" ',
    "\\",
    "“",
    "formula:1,",
    "formula: (\"'",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_megabyte_of_hostile_text_costs_no_more_than_its_window(piece: str) -> None:
    """The fastest of three, so that a busy machine fails nobody: about 25 ms at worst on a slow core."""
    text = "x" + piece * (10**6 // len(piece))
    assert min(_seconds(text) for _ in range(3)) < 0.05


def test_time_does_not_grow_beyond_the_window() -> None:
    """Twenty times the text, and far less than twenty times the time."""
    short, long = "a:1,{" * (WINDOW // 5), "a:1,{" * (WINDOW * 20 // 5)
    assert min(_seconds(long) for _ in range(3)) < 5 * min(_seconds(short) for _ in range(3))


def test_an_answer_at_the_end_of_long_thought_is_read() -> None:
    assert read_fields("thought " * 10**5 + '{"formula": "1+3"}' + " " * 10**5, NAMES)["formula"].text == "1+3"


def _seconds(text: str) -> float:
    start = time.process_time()
    read_fields(text, NAMES)
    return time.process_time() - start
