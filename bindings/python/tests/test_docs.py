"""The programs in docs/python.md, which are its ```python blocks. A first line "# prints: ..." says what one prints."""

import os
import re
import subprocess
import sys

import pytest

PAGE = os.path.join(os.path.dirname(__file__), "..", "..", "..", "docs", "python.md")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs():
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    for match in BLOCK.finditer(page):
        yield pytest.param(match.group(1), id=f"line-{page[: match.start()].count(chr(10)) + 1}")


@pytest.mark.parametrize("program", list(programs()))
def test_program(program, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    wanted = re.match(r"# prints: (.*)\n", program)
    if wanted:
        assert done.stdout == wanted.group(1) + "\n"
