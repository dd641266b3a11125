"""Programs that see rare things: what preloaded.c makes of calls, where the environment asks for it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def run(program, directory):
    """What a program has printed, which has set a variable of preloaded.c's at times."""
    library, path = directory / "preloaded.so", directory / "program.py"
    source = Path(__file__).with_name("preloaded.c")
    subprocess.run(
        [os.environ.get("CC", "cc"), "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"], check=True
    )
    path.write_text(textwrap.dedent(program))
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run([sys.executable, str(path)], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
