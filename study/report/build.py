"""Everything that a report is, in the folder of the study or run."""

from pathlib import Path

from cluster.record.files import replace
from study.report.choosing import told, write_selection
from study.report.dose import Doses, headline, sentences
from study.report.dose_figures import draw_doses
from study.report.drawing import save
from study.report.figures import draw_all
from study.report.findings import Findings
from study.report.numbers import write_numbers
from study.report.page import make_page
from study.report.records import read_study


def build_report(folder: Path) -> tuple[Path, list[str]]:
    """Write `report.html`, `figures/`, `numbers.csv` and what was chosen; where the page is, and what matters most."""
    study = read_study(folder)
    findings = Findings(study)
    doses = Doses(findings)
    figures = {**draw_doses(doses), **draw_all(findings)}
    for name, (figure, _) in figures.items():
        save(figure, folder / "figures" / name)
    write_numbers(study, folder / "numbers.csv")
    page = folder / "report.html"
    # A model may write what UTF-8 has no bytes for; JSON has escaped it, elsewhere it is a question mark.
    replace(page, make_page(findings, doses, figures).encode(errors="replace"))
    chosen: list[str] = []
    if doses.selection is not None:
        write_selection(doses.selection, folder)
        chosen = told(doses.selection)
    return page, [*filter(None, [headline(doses)]), *sentences(doses), *findings.three_numbers(), *chosen]
