"""Everything that a report is, in the folder of the study or run."""

from pathlib import Path

from cluster.record.files import replace
from study.report.drawing import save
from study.report.figures import draw_all
from study.report.findings import Findings
from study.report.numbers import write_numbers
from study.report.page import make_page
from study.report.records import read_study


def build_report(folder: Path) -> tuple[Path, list[str]]:
    """Write `report.html`, `figures/` and `numbers.csv`; where the page is, and the three numbers that matter."""
    study = read_study(folder)
    findings = Findings(study)
    figures = draw_all(findings)
    for name, (figure, _) in figures.items():
        save(figure, folder / "figures" / name)
    write_numbers(study, folder / "numbers.csv")
    page = folder / "report.html"
    # A model may write what UTF-8 has no bytes for; JSON has escaped it, elsewhere it is a question mark.
    replace(page, make_page(findings, figures).encode(errors="replace"))
    return page, findings.three_numbers()
