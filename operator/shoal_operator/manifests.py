"""Read ModelDeployments from YAML files, and notice when the files change."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from shoal_api import modeldeployment
from shoal_api.modeldeployment import KIND, ModelDeployment
from shoal_api.rules import BadManifest
from shoal_operator import one_machine


class Refused(ValueError):
    """Files that cannot be carried out; one sentence per fault."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What changes when a file is edited."""

    modified: int
    size: int
    inode: int


def read(files: tuple[Path, ...]) -> list[ModelDeployment]:
    """Every ModelDeployment in the files. Raises Refused with everything that is wrong."""
    found: dict[str, Path] = {}
    models: list[ModelDeployment] = []
    sentences: list[str] = []
    for file in files:
        try:
            in_file = _read_file(file)
        except Refused as refused:
            sentences += refused.sentences
            continue
        for md in in_file:
            if md.id in found:
                sentences.append(f"{file}: {md.id} is defined in {found[md.id]} already: rename one")
            found[md.id] = file
            models.append(md)
    if sentences:
        raise Refused(sentences)
    return models


def _read_file(file: Path) -> list[ModelDeployment]:
    try:
        documents = list(yaml.safe_load_all(file.read_text()))
    except OSError as error:
        raise Refused([f"{file} cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise Refused([f"{file} is not UTF-8 text"]) from error
    except yaml.YAMLError as error:
        raise Refused([f"{file} is not YAML: {_yaml_fault(error)}"]) from error
    except RecursionError as error:
        raise Refused([f"{file} is not YAML: it is nested too deeply"]) from error
    except (ValueError, AttributeError) as error:  # of the reader, about a day or a number that does not exist
        raise Refused([f"{file} holds a value that cannot be read ({error}): put it in quotes"]) from error
    models: list[ModelDeployment] = []
    sentences: list[str] = []
    for number, document in enumerate(documents, start=1):
        where = f"{file}: " if len(documents) == 1 else f"{file}, document {number}: "
        if document is None:
            continue
        kind = document.get("kind") if isinstance(document, dict) else None
        if kind is not None and kind != KIND:
            sentences.append(f"{where}this is a {kind}; only {modeldeployment.API_VERSION} {KIND} is served here")
            continue
        try:
            md = modeldeployment.read(document)
        except BadManifest as bad:
            sentences += [f"{where}{fault}" for fault in bad.faults]
            continue
        sentences += [f"{where}{fault}" for fault in one_machine.refusals(md)]
        models.append(md)
    if not models and not sentences:
        sentences.append(f"{file} holds no {KIND}")
    if sentences:
        raise Refused(sentences)
    return models


def _yaml_fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


class Watch:
    """Tells once when the files have changed and lie still again: a half-written file is nobody's wish."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files = files
        self._known = self._last = self._stamps()

    def has_changed(self) -> bool:
        """Whether they differ from what was last told, and are as they were at the look before."""
        now = self._stamps()
        still, self._last = now == self._last, now
        if not still or now == self._known:
            return False
        self._known = now
        return True

    def _stamps(self) -> tuple[_Stamp | None, ...]:
        return tuple(_stamp(file) for file in self._files)


def _stamp(file: Path) -> _Stamp | None:
    try:
        facts = file.stat()
    except OSError:
        return None
    return _Stamp(facts.st_mtime_ns, facts.st_size, facts.st_ino)
