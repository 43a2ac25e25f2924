"""The door to other programs: run one and take its output, or say in one sentence why that did not work."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class Refused(Exception):
    """What cannot be done here, as one sentence that says what to do about it."""


def run(
    argv: Sequence[str | Path],
    *,
    doing: str,
    stdin: str | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 120,
) -> str:
    """Standard output of a program that must succeed; `doing` is what we were about, for the error."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin or "",  # never the terminal's
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError as missing:
        raise Refused(f"{doing}: the command {words[0]!r} is missing; install it and try again") from missing
    except subprocess.TimeoutExpired as expired:
        raise Refused(f"{doing}: {words[0]} did not end within {timeout_seconds:g} s") from expired
    if done.returncode != 0:
        raise Refused(f"{doing}: {words[0]} ended with {done.returncode}: {last_lines(done.stderr or done.stdout)}")
    return done.stdout


def last_lines(text: str, count: int = 4) -> str:
    """The end of what a program said, on one line."""
    return " / ".join(line.strip() for line in text.strip().splitlines()[-count:]) or "it said nothing"
