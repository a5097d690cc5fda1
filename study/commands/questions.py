"""List the questions that studies of configs/questions/ ask, with what was found; ask one; or write their page.

ruleshift questions                              what there is to ask, and the answers so far
ruleshift questions attempts                     ask it: make the study and its report in runs/questions/attempts
ruleshift questions my.yaml compare.seeds=[0]    one of your own: a YAML with compare.question
ruleshift questions --collect runs/questions     docs/questions.md and its tables, from the studies made there
"""

import argparse
import sys
from pathlib import Path

from cluster.errors import RunError
from cluster.question_options import QuestionConfig
from study.cells import Study
from study.commands.compare import made
from study.questions.catalog import ROOT, file_of, load, names

OUT = Path("runs") / "questions"
KEPT = ROOT / "docs" / "questions"
PAGE = ROOT / "docs" / "questions.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="NAME [KEY=VALUE …]", help="what to ask, and what to change")
    parser.add_argument("--out", type=Path, metavar="STUDY", help=f"the study's folder (default {OUT}/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="check every cell, say what each takes, start nothing")
    parser.add_argument(
        "--collect",
        nargs="?",
        const=OUT,
        type=Path,
        metavar="FOLDER",
        help=f"keep the tables of the studies in it, and write docs/questions.md (default {OUT})",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.collect is not None:
        return _collect(arguments.collect)
    if not arguments.overrides:
        print(listing())
        return 0
    said, *overrides = arguments.overrides
    config, question = load(said, overrides)
    folder = arguments.out or OUT / file_of(said).stem
    if made(Study.of(config, folder), is_dry=arguments.dry_run):
        print("\n".join(_answered(folder, said, question)))
    return 0


def listing() -> str:
    """Every question with its answer, or how to ask it."""
    from study.questions.page import Answer

    lines = []
    for name in names():
        _, question = load(name)
        answer = Answer.of(name, KEPT)
        lines.append(f"{name}  {question.asks}")
        if answer is None:
            lines.append(f"    not run yet: ruleshift questions {name}")
        else:
            found = answer.found[0] if answer.found else "see docs/questions.md"
            lines.append(f"    {found} {answer.made['minutes']:.0f} minutes of a core.")
    return "\n".join(lines)


def _answered(folder: Path, said: str, question: QuestionConfig) -> list[str]:
    """The study's report, and what it answers; of a shortened study, the tables lie beside it all the same."""
    from study.questions.page import Answer, keep
    from study.report.build import build_report
    from study.report.records import read_study

    page, _ = build_report(folder)
    kept = folder / "answer"
    keep(read_study(folder), file_of(said).stem, question, kept)
    answer = Answer.of(said, kept)
    assert answer is not None  # it has just been kept
    return [str(page), *answer.found]


def _collect(folder: Path) -> int:
    from study.questions.page import keep, write_page
    from study.report.records import STUDY_FILE, read_study

    studies = sorted(file.parent for file in folder.glob(f"*/{STUDY_FILE}"))
    asked = [study for study in studies if study.name in names()]
    if not asked and not any(KEPT.glob("*.csv")):
        raise RunError(f"{folder}: holds no study of a question; make one, as ruleshift questions {names()[0]}")
    for study in asked:
        try:
            keep(read_study(study), study.name, load(study.name)[1], KEPT)
        except RunError as error:
            print(f"left out: {error}", file=sys.stderr)
    missing = write_page(KEPT, PAGE)
    print(PAGE)
    if missing:
        print(f"not run yet: {', '.join(missing)}")
    return 0
