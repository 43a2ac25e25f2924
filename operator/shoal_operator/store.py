"""What the watches have told: the models as they are, and the objects that were made for each of them."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from shoal_api import labels, modeldeployment
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.rules import BadManifest, Fault
from shoal_api.status import Status, understood
from shoal_operator import kinds
from shoal_operator.kinds import MODEL, Kind, Manifest

_REMEMBERED_DELETIONS = 10_000
_NEVER_LOOKED_AT = ("managedFields",)


@dataclass(frozen=True, slots=True)
class Wish:
    """One ModelDeployment as the API server keeps it."""

    manifest: Manifest
    md: ModelDeployment | None
    """None where it cannot be read; then `faults` tells why."""
    faults: tuple[Fault, ...] = ()

    @property
    def id(self) -> str:
        return f"{kinds.namespace(self.manifest)}/{kinds.name(self.manifest)}"

    @property
    def uid(self) -> str:
        return kinds.uid(self.manifest)

    @property
    def status(self) -> Status:
        """What it was told before; nothing where that cannot be read."""
        if self.md is not None:
            return self.md.status
        try:
            return Status.model_validate(understood(self.manifest.get("status") or {}))
        except ValidationError:
            return Status()


class Store:
    """Newer readings replace older ones, whichever way they come; `on_change` is told the model's UID."""

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._wishes: dict[str, Wish] = {}
        self._uid_of: dict[str, str] = {}
        self._made: dict[Kind, dict[str, dict[str, Manifest]]] = {kind: defaultdict(dict) for kind in kinds.MADE}
        self._uids: dict[str, set[str]] = defaultdict(set)
        """UIDs by namespace/name: a model made anew under its old name is another one."""
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self.names_version = 0
        """Another number whenever the names that models claim may be others."""

    def wishes(self) -> Iterable[Wish]:
        return self._wishes.values()

    def wish(self, uid: str) -> Wish | None:
        """The model with this UID, if it is still there."""
        return self._wishes.get(uid)

    def uid_of(self, model_id: str) -> str | None:
        """The UID of the model with this namespace/name."""
        return self._uid_of.get(model_id)

    def made(self, kind: Kind, uid: str) -> list[Manifest]:
        """The objects of a kind that were made for the model with this UID."""
        return list(self._made[kind].get(uid, {}).values())

    def names_taken(self, kind: Kind, md: ModelDeployment) -> frozenset[str]:
        """Names that objects of an earlier model with this one's name still have."""
        earlier = self._uids.get(md.id, set()) - {md.metadata.uid}
        return frozenset(kinds.name(manifest) for uid in earlier for manifest in self.made(kind, uid))

    def saw(self, kind: Kind, manifest: Manifest) -> None:
        """Take a reading of an object that is there."""
        if kinds.uid(manifest) in self._deleted:
            return
        for field in _NEVER_LOOKED_AT:
            manifest["metadata"].pop(field, None)
        if kind == MODEL:
            self._saw_model(manifest)
            return
        uid = kinds.label(manifest, labels.MODEL_UID)
        self._uids[f"{kinds.namespace(manifest)}/{_model_name(manifest)}"].add(uid)
        known = self._made[kind][uid].get(kinds.uid(manifest))
        if known is None or kinds.version(known) < kinds.version(manifest):
            self._made[kind][uid][kinds.uid(manifest)] = manifest
            self._on_change(uid)

    def lost(self, kind: Kind, manifest: Manifest) -> None:
        """An object is gone."""
        self._deleted[kinds.uid(manifest)] = None
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)
        if kind == MODEL:
            wish = self._wishes.pop(kinds.uid(manifest), None)
            if wish is not None:
                self.names_version += 1
                if self._uid_of.get(wish.id) == wish.uid:
                    del self._uid_of[wish.id]
            self._on_change(kinds.uid(manifest))
            return
        uid = kinds.label(manifest, labels.MODEL_UID)
        of_model = self._made[kind].get(uid, {})
        if of_model.pop(kinds.uid(manifest), None) is not None:
            self._on_change(uid)
        if not of_model:
            self._made[kind].pop(uid, None)
        if not any(uid in made for made in self._made.values()):
            self._uids[f"{kinds.namespace(manifest)}/{_model_name(manifest)}"].discard(uid)

    def replace(self, kind: Kind, present: Sequence[Manifest], version: int, uid: str | None = None) -> None:
        """Take a whole list: of one model's objects, or of all. What is older than the list and not in it is gone."""
        names = {kinds.uid(manifest) for manifest in present}
        if kind == MODEL:
            known = [wish.manifest for wish in self._wishes.values()]
        elif uid is None:
            known = [manifest for of_model in self._made[kind].values() for manifest in of_model.values()]
        else:
            known = self.made(kind, uid)
        for manifest in known:
            if kinds.uid(manifest) not in names and kinds.version(manifest) <= version:
                self.lost(kind, manifest)
        for manifest in present:
            self.saw(kind, manifest)

    def _saw_model(self, manifest: Manifest) -> None:
        uid = kinds.uid(manifest)
        known = self._wishes.get(uid)
        if known is not None and kinds.version(known.manifest) >= kinds.version(manifest):
            return
        wish = _read(manifest)
        self._wishes[uid] = wish
        self._uid_of[wish.id] = uid
        if known is None or _claims(known) != _claims(wish):
            self.names_version += 1
        self._on_change(uid)


def _model_name(manifest: Manifest) -> str:
    """The name of the model that an object was made for, whatever its label had to cut."""
    owners = manifest["metadata"].get("ownerReferences", [])
    return next((str(owner["name"]) for owner in owners if owner.get("controller")), "")


def _claims(wish: Wish) -> tuple[str, ...]:
    return wish.md.claimed_names if wish.md else ()


def _read(manifest: Manifest) -> Wish:
    try:
        return Wish(manifest, modeldeployment.read(manifest))
    except BadManifest as bad:
        return Wish(manifest, None, tuple(bad.faults))
