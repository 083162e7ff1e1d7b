#!/usr/bin/env bash
# Makes the peers' Python environment: bench/peers/setup.sh [--venv FOLDER] [--with-candle]
#
# The folder is target/peers/venv by default and may exist: then only what is missing is installed. About 7 GB, most of
# it CUDA libraries without which torch's wheel does not import even where there is no GPU.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/peers/venv
candle=no
while [ $# -gt 0 ]; do
    case $1 in
        --venv)
            venv=${2:?"--venv takes a folder"}
            shift
            ;;
        --with-candle) candle=yes ;;
        *)
            echo "setup.sh: unknown argument $1; known: --venv FOLDER, --with-candle" >&2
            exit 2
            ;;
    esac
    shift
done

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup.sh: $python is $("$python" --version 2>&1), 3.11 or later is needed; PYTHON=... chooses another" >&2
    exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
# Its dependencies belong to training; the package itself is only read for CLIP's vocabulary.
"$venv/bin/pip" install --quiet --no-deps open_clip_torch==3.3.0

if [ $candle = yes ]; then
    # Beside the project's own target folder: RUSTFLAGS would otherwise rebuild the project too.
    RUSTFLAGS="-C target-cpu=native" cargo build --release --locked \
        --manifest-path "$root/bench/candle-stock/Cargo.toml" --target-dir "$root/target/peers/candle"
fi

"$venv/bin/python" - <<'PYTHON'
import importlib.metadata as metadata

for package in ("torch", "diffusers", "transformers", "openvino", "nncf"):
    print(f"{package} {metadata.version(package)}")
PYTHON
