from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SLOW_MODULE = """
import os, time
os.write(int(os.environ["BEGUN"]), b".")
time.sleep(0.2)
is_complete = True
"""
_PROGRAM = """
import os, sys, threading
read_fd, write_fd = os.pipe()
os.environ["BEGUN"] = str(write_fd)
sys.path.insert(0, sys.argv[1])
from aqltelemetry.system.forks import forks_wait

def load():
    with forks_wait():
        import slow_module

def fork():
    pid = os.fork()
    if not pid:
        # A child may fork too.
        if not os.fork():
            os._exit(0)
        complete = os.waitstatus_to_exitcode(os.wait()[1]) == 0
        import slow_module
        os._exit(0 if complete and slow_module.is_complete else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

thread = threading.Thread(target=load)
thread.start()
os.read(read_fd, 1)
results = [fork(), fork()]
thread.join()
print(results)
"""


def test_a_module_that_a_thread_imports_is_complete_in_each_forked_child(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text(_SLOW_MODULE)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0, 0]\n", "")


def test_a_fork_does_not_wait_forever_for_an_import_that_hangs(tmp_path: Path) -> None:
    program = """
import os, threading
from aqltelemetry.system import forks
forks._MAX_WAIT_S = 0.01
begun = threading.Event()

def hang():
    with forks.forks_wait():
        begun.set()
        threading.Event().wait()

threading.Thread(target=hang, daemon=True).start()
begun.wait()
if not os.fork():
    with forks.forks_wait():  # not locked in the child
        os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
