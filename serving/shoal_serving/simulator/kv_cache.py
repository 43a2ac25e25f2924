"""The simulated KV cache: a number of blocks, shared by prompts that begin alike, the longest unused evicted first."""

from collections import OrderedDict
from dataclasses import dataclass, field

from shoal_serving.simulator.planning import Plan


@dataclass(frozen=True, slots=True)
class Hold:
    """The blocks of one running request."""

    shared: tuple[int, ...]
    own: int
    hit_tokens: int


@dataclass(slots=True)
class KvCache:
    """Blocks are known by the hash of all text up to their end, so an equal hash means an equal prefix."""

    size: int
    block_tokens: int
    _users: dict[int, int] = field(default_factory=dict)
    _idle: "OrderedDict[int, None]" = field(default_factory=OrderedDict)
    _own: int = 0

    @property
    def usage(self) -> float:
        """The share of the blocks that running requests hold."""
        return (len(self._users) + self._own) / self.size if self.size else 0.0

    def take(self, plan: Plan) -> Hold | None:
        """Room for the prompt and the answer; None where there is none now."""
        if not self.size:
            return Hold((), 0, 0)
        if plan.blocks is None:
            plan.blocks = _hashes(plan.prompt, self.block_tokens)
        hits = 0
        while hits < len(plan.blocks) and (plan.blocks[hits] in self._users or plan.blocks[hits] in self._idle):
            hits += 1
        total = -(-(len(plan.prompt) + plan.tokens) // self.block_tokens)
        own = max(0, total - len(plan.blocks))
        fresh = sum(1 for block in plan.blocks if block not in self._users)
        if self._own + len(self._users) + fresh + own > self.size:
            return None
        for block in plan.blocks:
            self._idle.pop(block, None)
            self._users[block] = self._users.get(block, 0) + 1
        self._own += own
        while len(self._users) + len(self._idle) + self._own > self.size:
            self._idle.popitem(last=False)
        # As in vLLM the last token is always computed, so that there is something to write from.
        return Hold(plan.blocks, own, min(hits * self.block_tokens, max(0, len(plan.prompt) - 1)))

    def never_fits(self, plan: Plan) -> bool:
        return bool(self.size) and -(-(len(plan.prompt) + plan.tokens) // self.block_tokens) > self.size

    def give_back(self, hold: Hold) -> None:
        self._own -= hold.own
        for block in hold.shared:
            left = self._users[block] - 1
            if left:
                self._users[block] = left
            else:
                del self._users[block]
                self._idle[block] = None


def _hashes(tokens: str, block_tokens: int) -> tuple[int, ...]:
    hashes, before = [], 0
    for at in range(block_tokens, len(tokens) + 1, block_tokens):
        before = hash((before, tokens[at - block_tokens : at]))
        hashes.append(before)
    return tuple(hashes)
