"""Find words that make a sentence hard to read, in code, tests, documents and messages.

`make lint` runs it. Texts are plain technical English; the words below are signs of a sentence
to rewrite: say who does what, in the present tense. Names are searched too, an underscore being a
space. A true use, such as a method's name, belongs into `TRUE_USES`.
"""

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Folders and files of which findings are counted only. Remove what is clean; it ends empty.
NOT_YET_CLEAN: tuple[str, ...] = ()

# A pattern's spaces match line ends and underscores too.
WORDS = {
    r"tell|tells|telling|told": "say, report, store, show, return, call",
    r"amid|amidst": "during, within, while",
    r"befall|befalls|befallen|befell": "happen to, affect",
    r"whoever|whomever|whosoever": "a caller, a user, a process that",
    r"beside": "next to, in addition to, and",
    r"of ours": "name it: of the recording, of aqltelemetry",
    r"of one's own|of ones own": "own, user-defined",
    r"what (became|becomes|has become) of": "the state of, the result of",
    r"(come|comes|came|coming) to be": "is created, becomes, starts",
    r"what is (not )?(usual|begun|asked|done with)": "name it",
    r"lets? in": "accept, admit",
    r"at hand": "available",
    r"(is|are|was|were|be|been) begun": "started",
    r"for want of": "because there is no, without",
    r"in the place of": "instead of",
    r"be the first to|is not to be had|can be had|be had": "be available, be obtained",
    r"lest|whence|whither|whereupon|wherein|whereby|thereof|therein|therefrom|thereby|hereby|ere|"
    r"nought|naught|anew|amongst|whilst|upon": "a plain word",
    r"may hear of|hears of|heard of": "receive, be notified of",
    r"(have|has|had|having) (it|them|its|the \w+|an? \w+|each|all|others?) (be )?"
    r"(closed|counted|done|ended|handed on|made|published|put|read|removed|sealed|"
    r"sent|shown|started|stopped|taken|written)": "do it, or say who does it",
    r"Of (what|all|each|those|that which)": "start with the subject",
}

# Uses that are no riddle: they are blanked out before the search.
TRUE_USES = (
    r"\.tell\(",  # a file's position
    r"def tell\(",  # a fake of a file
)

_SUFFIXES = (".py", ".pyi", ".pyx", ".pxd", ".md", ".toml", ".cfg", ".yml", ".yaml", ".ipynb")
_NAMES = ("Makefile",)
_ITSELF = (".ci/words.py", "tests/test_words.py")


class Finding(NamedTuple):
    """A word in a text."""

    line: int
    found: str
    instead: str


def _pattern(words: str) -> re.Pattern[str]:
    gap = r"(?:\\s+(?:#:?\\s+)?)"
    start = "" if words.startswith("Of ") else "(?i)"
    return re.compile(rf"{start}(?<![A-Za-z])(?:{re.sub(' ', gap, words)})(?![A-Za-z])")


_PATTERNS = [(_pattern(words), instead) for words, instead in WORDS.items()]
_TRUE = re.compile("|".join(TRUE_USES))


def findings(text: str) -> list[Finding]:
    """Return what a text should say otherwise, in the order of its lines."""
    text = _TRUE.sub(lambda use: " " * len(use[0]), text).replace("_", " ")
    found = [
        Finding(text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), instead)
        for pattern, instead in _PATTERNS
        for match in pattern.finditer(text)
    ]
    return sorted(found)


def _files() -> Iterator[str]:
    """Yield the paths of all texts of the project, relative to its root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for path in listed.stdout.splitlines():
        named = path.endswith(_SUFFIXES) or os.path.basename(path) in _NAMES
        if named and path not in _ITSELF and os.path.exists(os.path.join(ROOT, path)):
            yield path


def _not_yet(path: str) -> str | None:
    """Return the entry of `NOT_YET_CLEAN` that a file belongs to."""
    return next((e for e in NOT_YET_CLEAN if path == e or path.startswith(f"{e}/")), None)


def main() -> int:
    """Print findings; return 1 if there are any where the texts are clean."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", nargs="*", help="show all findings below these folders and files")
    chosen = tuple(os.path.normpath(each) for each in parser.parse_args().path)
    waiting: Counter[str] = Counter(dict.fromkeys(NOT_YET_CLEAN, 0))
    failed = False
    for path in _files():
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            found = findings(file.read())
        is_chosen = any(path == each or path.startswith(f"{each}/") for each in chosen)
        entry = _not_yet(path)
        if entry is not None:
            waiting[entry] += len(found)
        if (chosen and not is_chosen) or (entry is not None and not is_chosen):
            continue
        for line, word, instead in found:
            failed = True
            print(f"{path}:{line}: {word!r}: {instead}")
    if not chosen and waiting:
        clean = [entry for entry, count in waiting.items() if not count]
        print(f"not yet clean: {waiting.total()} findings in {len(waiting)} folders and files")
        print("".join(f"clean, to be removed from the list: {entry}\n" for entry in clean), end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
