#!/usr/bin/env bash
# Puts the project and the exact versions of all it needs into .venv: what `make install` runs.
#
#   BUILD=cpu|gpu    which build of torch and vLLM; without it: the one .venv has, else what the machine can run
#   PYTHON=python3   the interpreter .venv is made with: 3.11, 3.12 or 3.13
#
# .venv/.installed is written last and holds a digest of what the install was made from. So a second run ends at
# once, a changed pin is installed, and a run that was cut short is never taken for a finished one.
set -euo pipefail
cd "$(dirname "$0")/.."

pytorch_cpu_index=https://download.pytorch.org/whl/cpu
venv=.venv
python=$venv/bin/python

say() { echo "install: $*"; }
fail() {
    echo "install: $*" >&2
    exit 1
}

# Nothing but what the files pin. Modules are compiled when first imported: most of them never are.
pip_install() {
    "$python" -m pip install -qq --disable-pip-version-check --root-user-action ignore --no-compile --no-deps "$@"
}

check_python() { # sets python_version, from the interpreter that .venv has or will be made with
    local interpreter=${PYTHON:-python3}
    [ -n "${PYTHON:-}" ] || [ ! -x $python ] || interpreter=$python
    python_version=$("$interpreter" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null) ||
        fail "$interpreter does not run; name a Python 3.11, 3.12 or 3.13, such as: make install PYTHON=python3.12"
    [[ $python_version =~ ^3\.1[123]$ ]] ||
        fail "$interpreter is Python $python_version, but 3.11, 3.12 or 3.13 is needed: make install PYTHON=python3.12"
}

choose_build() {
    if [ -n "${BUILD:-}" ]; then
        build=$BUILD reason="as asked"
    elif [ -f $venv/.origin ]; then
        read -r build _ <$venv/.origin
        reason="as before; BUILD=cpu or BUILD=gpu changes it"
    elif [ -e /dev/nvidia0 ] || nvidia-smi --list-gpus >/dev/null 2>&1; then
        build=gpu reason="this machine has an NVIDIA GPU"
    else
        build=cpu reason="this machine has no NVIDIA GPU"
    fi
    [[ $build = cpu || $build = gpu ]] || fail "BUILD=$build is neither cpu nor gpu"
}

digest() {
    { echo "$origin" && cat pyproject.toml requirements/{"$build",dev}.txt requirements/install.sh; } | sha256sum | cut -d' ' -f1
}

make_venv() {
    if [ -f $venv/.unfinished ]; then
        say "the last install did not finish: starting over"
        rm -rf $venv
    elif [ -f $venv/.origin ] && [ "$(<$venv/.origin)" != "$origin" ]; then
        say "$venv is for $(<$venv/.origin): making another"
        rm -rf $venv
    fi
    if [ ! -x $python ]; then
        rm -rf $venv
        mkdir $venv
        touch $venv/.unfinished
        "${PYTHON:-python3}" -m venv $venv || fail "could not make $venv (Debian and Ubuntu: apt install python3-venv)"
    fi
    touch $venv/.unfinished
    rm -f $venv/.installed
    echo "$origin" >$venv/.origin
}

install_cpu_torch() {
    local pin log=$venv/torch.log
    pin=$(grep '^torch==' requirements/cpu.txt)
    say "$pin"
    pip_install "$pin" 2>$log && return
    say "$pin is not on the configured indexes: asking $pytorch_cpu_index"
    pip_install --extra-index-url $pytorch_cpu_index "$pin" && return
    echo "On the configured indexes:" | cat - $log >&2
    fail "found $pin neither on the configured indexes nor on $pytorch_cpu_index"
}

# A torchvision made for another torch takes most of transformers and vLLM down with it; without one both run.
drop_broken_extras() {
    local name
    for name in torchvision torchaudio torchcodec; do
        "$python" -m pip show -qq $name 2>/dev/null || continue
        "$python" -c "import $name" >/dev/null 2>&1 && continue
        say "removing $name, which does not import here and which nothing needs"
        "$python" -m pip uninstall -qq --yes --root-user-action ignore $name
    done
}

# Once, on all cores, and even where Python is told to write no bytecode: every actor and engine imports all of it again.
compile_bytecode() { # some packages hold templates that are no Python, so its exit status says nothing
    env -u PYTHONDONTWRITEBYTECODE "$python" -m compileall -qq -j 0 $venv/lib >/dev/null 2>&1 || true
}

versions_are_right() { "$python" -c 'import cluster.versions, sys; sys.exit("\n".join(cluster.versions.check_versions()) or None)'; }

check_imports() {
    local log=$venv/imports.log
    versions_are_right || fail "the install is broken, see above"
    say "checking that everything imports"
    if ! "$python" -P - $build >$log 2>&1 <<'PYTHON'; then
import importlib
import sys

for name in (
    "torch transformers ray deepspeed vllm pydantic omegaconf PIL safetensors numpy matplotlib rich peft "
    "verifier envs rollout learner cluster study"
).split():
    importlib.import_module(name)
if sys.argv[1] == "gpu" and sys.modules["torch"].version.cuda is None:
    sys.exit("torch is its CPU build: an index or a folder that pip is configured with puts that first")
PYTHON
        cat $log >&2
        fail "the install is broken, see above"
    fi
}

main() {
    # Two makes in one checkout take turns.
    if command -v flock >/dev/null; then exec 9<requirements/install.sh && flock 9; fi
    choose_build
    check_python
    origin="$build in $PWD with Python $python_version" # what no `pip install` can change in an environment once made
    if [ "$(cat $venv/.installed 2>/dev/null)" = "$(digest)" ] && versions_are_right; then
        touch $venv/.installed
        say "nothing to do, $venv has it all ($build build)"
        return
    fi
    say "the $build build into $venv ($reason)"
    make_venv
    [ $build = gpu ] || install_cpu_torch
    say "$(grep -c == requirements/$build.txt) packages from requirements/$build.txt, then the development tools; this takes minutes"
    pip_install -r requirements/$build.txt -r requirements/dev.txt
    pip_install --no-build-isolation --editable .
    drop_broken_extras
    compile_bytecode
    check_imports
    command -v g++ >/dev/null || say "note: DeepSpeed needs g++ the first time it runs, and there is none (apt install g++)"
    rm $venv/.unfinished
    digest >$venv/.installed
    say "done"
}

main
