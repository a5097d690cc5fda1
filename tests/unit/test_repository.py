"""The rules of the tree: sizes, import direction, light configuration, packaging, nothing unfinished.

Every check is a function of a folder, so that each is shown to fail on a bad sample before it is trusted.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ray._private.thirdparty.pathspec.pathspec import PathSpec

REPOSITORY = Path(__file__).parents[2]
LAYERS = ("verifier", "envs", "rollout", "learner", "cluster", "study")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
HEAVY = ("torch", "ray", "vllm", "transformers", "deepspeed")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME)\b")


def files(root: Path, *suffixes: str) -> Iterator[Path]:
    """The project's own files: nothing hidden, nothing built, nothing that a run left behind."""
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.name.startswith((".", "__")) and path.name not in ("build", "runs", "outputs"):
            yield from files(path, *suffixes)
        elif path.is_file() and path.name.endswith(suffixes):
            yield path


def product_files(root: Path) -> Iterator[Path]:
    return (path for path in files(root, ".py") if path.relative_to(root).parts[0] != "tests")


def imported_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def too_large(root: Path) -> list[str]:
    found = []
    for path in product_files(root):
        source = path.read_text(encoding="utf-8")
        if (num_lines := len(source.splitlines())) > MAX_FILE_LINES:
            found.append(f"{path.relative_to(root)} has {num_lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                num_lines = node.end_lineno - node.lineno + 1
                if num_lines > MAX_FUNCTION_LINES:
                    found.append(f"{path.relative_to(root)}: {node.name} has {num_lines} lines")
    return found


def wrong_imports(root: Path) -> list[str]:
    found = []
    for position, package in enumerate(LAYERS):
        forbidden = (*LAYERS[position + 1 :], "tests")
        for path in files(root / package, ".py"):
            names = imported_names(path.read_text(encoding="utf-8"))
            found += [f"{path.relative_to(root)} imports {name}" for name in names if name.split(".")[0] in forbidden]
    return found


def unfinished(root: Path) -> list[str]:
    found = []
    for path in files(root, ".py", ".yaml", ".toml", ".sh", ".md", "Makefile"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if UNFINISHED.search(line):
                found.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
    return found


def packages_on_disk(root: Path) -> set[str]:
    folders = {path.parent.relative_to(root) for package in LAYERS for path in files(root / package, ".py")}
    return {".".join(folder.parts) for folder in folders}


def found_outside(root: Path, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if not ((spec := find_spec(name)) and Path(spec.origin or "/").is_relative_to(root))]


def heavy_imports_of(modules: list[str], folder: Path) -> list[str]:
    """Which heavy modules are loaded after importing these in a fresh interpreter started in the folder."""
    program = f"import sys, {', '.join(modules)}; print(*[name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    return ran.stdout.split()


def test_files_and_functions_fit_on_their_screens() -> None:
    assert too_large(REPOSITORY) == []


def test_imports_go_from_the_verifier_to_the_study_and_never_back() -> None:
    assert wrong_imports(REPOSITORY) == []


def test_nothing_is_left_unfinished() -> None:
    assert unfinished(REPOSITORY) == []


def test_pyproject_lists_every_package_and_no_other() -> None:
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]
    assert sorted(listed) == sorted(packages_on_disk(REPOSITORY))


def test_the_six_packages_are_the_ones_in_this_repository() -> None:
    """Their names are common words: another distribution could bring a package of the same name."""
    assert found_outside(REPOSITORY, LAYERS) == []
    providers = metadata.packages_distributions()
    assert [name for name in LAYERS if set(providers.get(name, ())) - {"ruleshift"}] == []


def test_judging_asking_and_configuring_load_no_heavy_library() -> None:
    """`ruleshift plan` answers in well under a second, and an environment can be tried on any laptop."""
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for package in ("verifier", "envs")
        for path in files(REPOSITORY / package, ".py")
        if path.name != "__init__.py"
    ]
    assert heavy_imports_of([*modules, "cluster.config", "cluster.versions", "study.cli"], REPOSITORY) == []


def test_a_submitted_job_takes_the_project_along_and_nothing_private_or_large() -> None:
    """Ray leaves out of a job's folder what `.rayignore` names, in git's way of writing."""
    ignored = PathSpec.from_lines("gitwildmatch", (REPOSITORY / ".rayignore").read_text().splitlines())
    left = (".git/config", ".venv/bin/python", "runs/x/metrics.jsonl", "tests/unit/test_repository.py", "a.pem", ".env")
    assert [path for path in left if not ignored.match_file(path)] == []
    taken = ("study/cli.py", "configs/smoke.yaml", "models/nano_add_up/model.safetensors", "pyproject.toml")
    assert [path for path in taken if ignored.match_file(path)] == []


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def tree_of_packages(root: Path) -> Path:
    for package in LAYERS:
        write(root / package / "__init__.py", "")
    return root


def test_the_size_check_sees_a_long_file_and_a_long_method_but_not_in_tests(tmp_path: Path) -> None:
    long_function = "    def long(self):\n" + "        pass\n" * MAX_FUNCTION_LINES
    write(tmp_path / "learner" / "ppo.py", "class Learner:\n" + long_function)
    write(tmp_path / "tests" / "test_ppo.py", "pass\n" * (MAX_FILE_LINES + 1))
    assert too_large(tmp_path) == ["learner/ppo.py: long has 61 lines"]
    write(tmp_path / "learner" / "ppo.py", "pass\n" * (MAX_FILE_LINES + 1))
    assert too_large(tmp_path) == ["learner/ppo.py has 301 lines"]


def test_the_import_check_sees_every_way_to_import_backwards(tmp_path: Path) -> None:
    root = tree_of_packages(tmp_path)
    write(root / "envs" / "cards.py", "import verifier.config\nfrom envs import catalog\n")
    assert wrong_imports(root) == []
    write(
        root / "envs" / "cards.py",
        "def f():\n    import numpy, cluster.config as c\n    from learner import ppo\n",
    )
    write(root / "cluster" / "record" / "plots.py", "from tests.support import oracle\n")
    assert wrong_imports(root) == [
        "envs/cards.py imports cluster.config",
        "envs/cards.py imports learner",
        "cluster/record/plots.py imports tests.support",
    ]


def test_the_unfinished_check_sees_a_mark_in_any_kind_of_file(tmp_path: Path) -> None:
    write(tmp_path / "configs" / "run.yaml", "steps: 5  # " + "TO" + "DO: more\n")
    assert unfinished(tmp_path) == ["configs/run.yaml:1: steps: 5  # " + "TO" + "DO: more"]


def test_the_package_check_sees_a_new_folder(tmp_path: Path) -> None:
    root = tree_of_packages(tmp_path)
    write(root / "cluster" / "record" / "plots.py", "")
    assert packages_on_disk(root) == {*LAYERS, "cluster.record"}


def test_the_origin_check_sees_a_package_from_elsewhere() -> None:
    assert found_outside(REPOSITORY, ("json", "envs", "no_such_package")) == ["json", "no_such_package"]


def test_the_heavy_import_check_sees_an_import_two_modules_away(tmp_path: Path) -> None:
    write(tmp_path / "torch.py", "")
    write(tmp_path / "inner.py", "import torch\n")
    write(tmp_path / "outer.py", "import inner\n")
    assert heavy_imports_of(["outer"], tmp_path) == ["torch"]
