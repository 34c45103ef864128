"""The process of a command: signals anywhere, closed streams, Python without docstrings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toyvit.cli import COMMANDS, single_runs
from toyvit.errors import BadInput, Diverged, Stopped

ROOT = Path(__file__).parents[2]
# Sends itself a signal when a module is imported, and hides from it what is raised where it must.
INTERRUPTED = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {signum:d})
sys.meta_path.insert(0, Finder())
from toyvit.__main__ import main
sys.exit(main())
"""
# Whoever started the tests may ignore it, as a shell does for what runs in the background.
LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
STUBBORN = """
import time
from toyvit.runs.signals import CLOCK, handle_signals
handle_signals()
CLOCK.advice = "; more"
words = ["ready"]
while True:
    try:
        for word in words:
            print(word, flush=True)
        time.sleep(60)
    except BaseException:
        pass
"""


def start(code: str, *words: str, **options: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    words = (sys.executable, "-c", LISTEN + code, *words)
    return subprocess.Popen(words, env=environ, **(pipes | options))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["toyvit.cli.main", "toyvit.cli.parser", "toyvit.runs.folder"])
def test_a_signal_during_imports_is_one_line(module, signum):
    process = start(
        INTERRUPTED.format(module=module, signum=signum), "ls", str(ROOT / "tests/kept")
    )
    out, error = process.communicate(timeout=60)
    assert (out, error) == ("", f"toyvit: stopped by {signum.name}\n")
    assert process.returncode == 128 + signum


# Forks before anything of the lab is imported, and sends each child a signal at another of the
# lines that the lab runs: of the command's own module, its signals, and the reader of its words.
AT_EVERY_LINE = """
import json, os, signal, sys
sys.argv = ["toyvit", *{words!r}]
files = ("/toyvit/__main__.py", "/toyvit/runs/signals.py", "/toyvit/cli/main.py")

def start(at, signum):
    count = 0
    def trace(frame, event, arg):
        nonlocal count
        if not frame.f_code.co_filename.endswith(files):
            return None
        count += event == "line"
        if count == at:
            sys.settrace(None)
            count += 1
            os.kill(os.getpid(), signum)
        return trace
    sys.settrace(trace)
    from toyvit.__main__ import main
    sys.exit(main())

def run(at, signum):
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(into, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        start(at, signum)
    os.close(into)
    with os.fdopen(out) as stream:
        text = stream.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text

for signum, places in {places!r}.items():
    for at in places:
        code, text = run(at, signum)
        print(json.dumps([at, signum, code, text]))
        if not code:  # it has fewer lines
            break
"""
FIRST = 6  # of the lines: within the `try`; before it is Python's own start, and its traceback
LINES = 250  # more than there are
SLOWLY = pytest.param(["ls", ".", "--format", "csv"], marks=pytest.mark.slow)


@pytest.mark.parametrize("words", [["--version"], SLOWLY], ids=" ".join)
def test_a_signal_at_any_line_of_the_command_is_one_line_or_none(words, tmp_path):
    """From its first import to its last line."""
    places = {2: range(FIRST, LINES, 6), 15: range(FIRST, LINES, 24)}
    program = AT_EVERY_LINE.format(words=words, places=places)
    out, error = start(program, cwd=tmp_path).communicate(timeout=120)
    assert not error
    outcomes = [json.loads(line) for line in out.splitlines()]
    assert len(outcomes) > 30 and [code for *_, code, _ in outcomes].count(0) == 2
    assert [outcome for outcome in outcomes if not is_one_line(*outcome[1:])] == []


# What Python raises where nobody can catch it, it prints and drops.
DROPPED = """
import os, signal, time
from toyvit.runs.signals import handle_signals
handle_signals()
class Left:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
Left()
print("goes on")
"""


def test_a_signal_in_what_cannot_raise_is_not_lost():
    process = start(DROPPED)
    assert process.communicate(timeout=60) == ("", "toyvit: stopped by SIGINT\n")
    assert process.returncode == 130


def is_one_line(signum: int, code: int, text: str) -> bool:
    """Whether a process ended as the signal asks for, or was done before that came."""
    if code in (0, -signal.SIGTERM):  # that of the system: nothing of ours was there yet
        return text == ""
    line = f"toyvit: stopped by {signal.Signals(signum).name}"
    return code == 128 + signum and text.startswith(line) and text.count("\n") == 1


def test_a_process_that_does_not_listen_ends_in_two_seconds():
    process = start(STUBBORN)
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and 1 < time.monotonic() - begin < 5
    assert error == "toyvit: stopped by SIGINT; more\n"


@pytest.mark.parametrize(
    ("problem", "waits"),
    [
        (None, True),
        (Diverged("the loss is nan"), True),
        (Stopped(2, Path("run"), 3), False),
        (BadInput("no"), False),
        (KeyboardInterrupt(), False),
        (OSError(28, "full"), False),
    ],
    ids=str,
)
def test_the_follower_is_waited_for_where_it_has_an_end_to_draw(monkeypatch, problem, waits):
    """It takes half a minute on a machine with other work: a signal does not wait for that."""
    slow = [sys.executable, "-c", "import sys, time; sys.stdin.read(); time.sleep(0.5)"]
    begin = subprocess.Popen
    started = []

    def start_slow(words, **options):
        started.append(begin(slow, **options))
        return started[-1]

    monkeypatch.setattr(single_runs.subprocess, "Popen", start_slow)
    try:
        with single_runs.start_follower([Path("run")]):
            if problem:
                raise problem
    except (Exception, KeyboardInterrupt):
        assert problem
    assert started[0].returncode == (0 if waits else -signal.SIGKILL)


def run_shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(ROOT), "T": f"{sys.executable} -m toyvit"}
    words = ["bash", "-c", line]
    return subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True, check=False)


SHELL = {
    "$T ls nowhere 2>&-": (2, ""),
    "$T ls . >&-": (0, "no run in ."),
    "$T ls nowhere <&- >&- 2>&-": (2, ""),
    "$T data >/dev/full": (2, "toyvit: the output: No space left on device; "),
    "$T --help >/dev/full": (2, "toyvit: the output: No space left on device; "),
    "$T data | true; exit ${PIPESTATUS[0]}": (1, ""),
    "PYTHONIOENCODING=ascii $T ls $'\\xff'": (2, "toyvit: \\udcff is not a folder"),
}


@pytest.mark.parametrize("line", SHELL)
def test_streams_that_are_closed_full_or_gone(tmp_path, line):
    code, says = SHELL[line]
    done = run_shell(line, tmp_path)
    assert done.returncode == code, done
    assert done.stderr.startswith(says) and done.stderr.count("\n") == bool(says)


WITHOUT_DOCSTRINGS = f"""
from toyvit.cli.main import main
assert not main.__doc__
for name in {list(COMMANDS)!r}:
    try:
        main([name, "--help"])
    except SystemExit as end:
        assert not end.code
assert main(["data"]) == 0 and main(["ls", "nowhere"]) == 2
"""


def test_help_and_refusals_work_without_docstrings_and_assertions(tmp_path):
    words = [sys.executable, "-OO", "-c", "\n".join(_call_checks(WITHOUT_DOCSTRINGS))]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: toyvit") == len(COMMANDS)
    assert done.stderr == "toyvit: nowhere is not a folder\n"


def _call_checks(program: str) -> list[str]:
    """The program with its assertions as calls: -OO leaves assertions out."""
    lines = ["def check(is_so):", "    if not is_so: raise SystemExit(9)"]
    for line in program.splitlines():
        before, word, rest = line.partition("assert ")
        lines.append(f"{before}check({rest})" if word else line)
    return lines
