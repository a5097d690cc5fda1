#!/usr/bin/env bash
# Makes the exact pins requirements/{cpu,gpu,dev}.txt from the lists in pyproject.toml; needs `uv`.
# A pin stays as it is while it still fits; delete its line, or the file, to take what is newest.
# Where PyTorch's CPU index cannot be reached: TORCH_WHEELS=FOLDER, one that holds the CPU build of torch.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() { # compile FILE UV_ARGUMENTS...
    local file=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@" --output-file "$file"
    # What only Windows or a browser needs is never installed here.
    sed -i -E "/sys_platform == '(win32|emscripten)'\$/d" "$file"
    sed -i -e '1i # The exact version of everything, for Linux and Python 3.11 to 3.13.' \
        -e '1i # Made by requirements/compile.sh; requirements/install.sh installs it with --no-deps.' "$file"
}

cpu_torch=(--torch-backend cpu)
if [ -n "${TORCH_WHEELS:-}" ]; then cpu_torch=(--find-links "$TORCH_WHEELS"); fi

# The CPU build goes without torchvision, torchaudio and torchcodec: a plain index has only their CUDA builds,
# which fail at import beside a CPU torch and take most of transformers and vLLM with them.
echo "torch==2.13.0+cpu" |
    compile requirements/cpu.txt pyproject.toml - --extra cpu "${cpu_torch[@]}" \
        --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec

# Both builds share every version they can: uv prefers what stands in the file that it is to write.
[ -s requirements/gpu.txt ] || grep -v '^torch==' requirements/cpu.txt >requirements/gpu.txt
# cuda-python names the cuda-bindings it fits only from version 12.9 on; without this an ancient one is taken.
echo "cuda-python>=13" |
    compile requirements/gpu.txt pyproject.toml --extra gpu --constraint -

python3 -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['dev'], sep='\n')" |
    compile requirements/dev.txt - --constraint requirements/cpu.txt
