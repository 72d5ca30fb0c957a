#!/bin/sh
# Install m2m from this folder, without network and without compiler.
# Usage: install.sh [FOLDER]      FOLDER (default: ~/m2m) gets the environment, the model and the examples.
#        PYTHON=/path/to/python3.11 chooses the interpreter.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
to=${1:-$HOME/m2m}
wanted=$(sed -n 's/.*"python": "\(.*\)".*/\1/p' "$here/bundle.json")

fail() {
    printf 'install: %s\n\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

python=
for each in "${PYTHON:-}" "python$wanted" python3; do
    [ -n "$each" ] || continue
    if [ "$("$each" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$wanted" ]; then
        python=$each
        break
    fi
done
[ -n "$python" ] || fail "this bundle needs Python $wanted" \
    "install Python $wanted, or make the bundle anew with the Python that is here"

echo "install: checking the files" >&2
"$python" - "$here" <<'CHECK' || fail "files are missing or damaged" "copy the bundle again"
import hashlib, sys
from pathlib import Path
folder, bad = Path(sys.argv[1]), []
for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
    wanted, name = line.split("  ", 1)
    path = folder / name
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
        bad.append(name)
for name in bad:
    print(f"install: damaged: {name}", file=sys.stderr)
sys.exit(bool(bad))
CHECK

echo "install: into $to" >&2
mkdir -p "$to"
# Without pip, because many systems ship venv without it; the bundle has its own.
[ -x "$to/.venv/bin/python" ] || "$python" -m venv --without-pip "$to/.venv" ||
    fail "cannot make a virtual environment" "the system's package is often called python3-venv"
set -- "$here"/wheels/pip-*.whl
PYTHONPATH=$1 "$to/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-index --find-links "$here/wheels" --no-cache-dir --only-binary :all: pip 'm2m[files]'
if ! "$to/.venv/bin/python" -c "import llama_cpp" 2>/dev/null && [ -d "$here/lib" ]; then
    # A system without compiler may lack the compiler's libraries too; llama.cpp looks beside itself.
    for each in "$to"/.venv/lib/python*/site-packages/llama_cpp/lib; do
        cp "$here"/lib/* "$each/"
    done
fi
for each in models examples docs README.md LICENSE; do
    [ ! -e "$here/$each" ] || cp -R "$here/$each" "$to/"
done
cd "$to"
if [ -f models/starter.toml ]; then
    .venv/bin/m2m models add starter --quiet --if-missing
    .venv/bin/m2m doctor >&2
fi
printf '%s\n' "install: done. Now:" "    cd $to && . .venv/bin/activate" \
    "    m2m plan examples/swahili/demo.toml" "    m2m run examples/swahili/demo.toml" >&2
