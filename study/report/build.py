"""Everything that a report is, in the folder of the study or run, or in one for several studies together."""

import os
from collections.abc import Sequence
from pathlib import Path

from cluster.errors import RunError
from cluster.record.files import replace
from study.report.choosing import told, write_selection
from study.report.dose import Doses, headline, sentences
from study.report.dose_figures import draw_doses
from study.report.drawing import save
from study.report.figures import draw_all
from study.report.findings import Findings
from study.report.numbers import write_numbers
from study.report.page import make_page
from study.report.records import STUDY_FILE, read_study
from study.report.task_figures import draw_tasks
from study.report.tasks import Tasks
from study.report.tasks_page import make_tasks_page


def build_report(folder: Path) -> tuple[Path, list[str]]:
    """Write `report.html`, `figures/`, `numbers.csv` and what was chosen; where the page is, and what matters most."""
    doses = Doses(Findings(read_study(folder)))
    page = _build_one(doses)
    chosen = told(doses.selection) if doses.selection else []
    said = [*filter(None, [headline(doses)]), *sentences(doses), *doses.findings.three_numbers()]
    return page, [*said, *chosen]


def build_tasks_report(folders: Sequence[Path], out: Path) -> tuple[Path, list[str]]:
    """The same for each study, and one report of all of them in `out`."""
    studies = [read_study(folder) for folder in folders]
    names = [study.name for study in studies]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RunError(
            f"{out}: two of the studies are called {min(twice)}; name each once, or give one another cluster.name"
        )
    tasks = Tasks.of([Findings(study) for study in studies])
    doses = [Doses(one) for one in tasks.findings]
    links = {one.study.name: Path(os.path.relpath(_build_one(one), out)).as_posix() for one in doses}
    figures = draw_tasks(tasks)
    for name, (figure, _) in figures.items():
        save(figure, out / "figures" / name)
    write_numbers(tasks.studies, out / "numbers.csv")
    page = out / "report.html"
    replace(page, make_tasks_page(tasks, doses, figures, out.resolve().name, links).encode(errors="replace"))
    return page, [f"{one.study.name}: {line}" for one in tasks.findings for line in one.three_numbers()]


def studies_in(folder: Path) -> list[Path]:
    """The studies that lie in a folder which is none itself, in the order of their names."""
    if (folder / STUDY_FILE).is_file() or not folder.is_dir():
        return []
    return sorted(inner for inner in folder.iterdir() if (inner / STUDY_FILE).is_file())


def _build_one(doses: Doses) -> Path:
    findings, folder = doses.findings, doses.findings.study.folder
    figures = {**draw_doses(doses), **draw_all(findings)}
    for name, (figure, _) in figures.items():
        save(figure, folder / "figures" / name)
    write_numbers([findings.study], folder / "numbers.csv")
    page = folder / "report.html"
    # A model may write what UTF-8 has no bytes for; JSON has escaped it, elsewhere it is a question mark.
    replace(page, make_page(findings, doses, figures).encode(errors="replace"))
    if doses.selection is not None:
        write_selection(doses.selection, folder)
    return page
