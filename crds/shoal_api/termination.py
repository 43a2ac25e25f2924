"""The last words of a replica, written to its termination message: one sentence, and whether trying again can help."""

from dataclasses import dataclass

PERMANENT_MARK = "[permanent] "

EXIT_DRAINED = 0
EXIT_FAULT = 1
EXIT_PERMANENT = 78
"""EX_CONFIG of sysexits.h: starting again with the same configuration cannot help."""

LIMIT_BYTES = 4096
"""What Kubernetes keeps of a termination message."""


@dataclass(frozen=True, slots=True)
class LastWords:
    """Why a replica gave up: which argument, file, memory or device, and what to do."""

    sentence: str
    permanent: bool

    def to_text(self) -> str:
        """At most LIMIT_BYTES of UTF-8, the mark first so that no cut can lose it."""
        text = (PERMANENT_MARK if self.permanent else "") + " ".join(self.sentence.split())
        return text.encode()[:LIMIT_BYTES].decode(errors="ignore")


def read(text: str) -> LastWords | None:
    """The last words in a termination message; None where there are none."""
    text = text.strip()
    if not text:
        return None
    return LastWords(text.removeprefix(PERMANENT_MARK), text.startswith(PERMANENT_MARK))
