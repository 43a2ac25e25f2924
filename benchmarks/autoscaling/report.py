"""Write the page: what every policy costs where it makes nobody wait longer than Shoal does."""

from statistics import median

from autoscaling.curves import Figures
from autoscaling.sweeping import FORESIGHT, HELD_OUT_SEEDS, TUNING_SEEDS, Figure, cheapest, unbeaten

PEERS = ("HPA", "KEDA", "Knative", "Ray Serve", "KubeAI")
_SAME_SECONDS = 0.5
"""So near, two waits are the same: a quantile of three runs is not known better."""

_TUNED, _HELD_OUT = (", ".join(map(str, seeds)) for seeds in (TUNING_SEEDS, HELD_OUT_SEEDS))
_HEAD = f"""<!-- Written by `python benchmarks/autoscale.py --write-docs`. Do not edit. -->

# Autoscaling, compared

What policies cost and how long requests wait, over simulated time:
`uv run --no-sync python benchmarks/autoscale.py --write-docs`. Nothing here was measured on GPUs. The model of the
engine, the traces, each peer's rule with its source, and what the simulation leaves out stand in
[benchmarks/autoscaling](../../benchmarks/autoscaling/README.md); what the numbers of a manifest mean, in
[the how-to](../how-to/autoscaling.md).

Every policy was swept over its settings (seeds: {_TUNED}). What no other setting of the same policy beat there was
judged on others, which nobody had seen (seeds: {_HELD_OUT}). All figures are those of the held-out seeds: replica time
(also of replicas that start or drain) as the mean over the seeds, waits of all requests together, losses and turns
(down after up) as sums.

![Replica time against the 99th percentile of the wait](autoscaling.svg)

## At the same wait

Two settings are compared where the p99 wait of the one is no longer than that of the other, within {_SAME_SECONDS:g} s.
What counts is then replica time, in per cent: positive where Shoal takes less. First for each of Shoal's settings the
cheapest of all the others that waits no longer; then the other way round, for each setting of the others (of those
that no other setting of any peer beats) the cheapest of Shoal's that waits no longer. The last column: how much less
than the best of the others a policy takes that knows every arrival beforehand (*foresight*, the dashed line), at the
same wait: not much more than that is to be had by following the load.
"""


def page(figures: Figures) -> str:
    lines = [_HEAD, *_in_short(figures), "", *_elsewhere(figures), ""]
    for name, judged in figures.items():
        lines += [f"### {name}\n", *_same_wait(judged.swept), ""]
        lines += ["As it comes, every target 8:\n", *_plain(judged.plain), ""]
    return "\n".join(lines)


_COLUMNS = (
    "Shoal's settings beside the best of the others",
    "the others' settings beside the best of Shoal",
    "foresight beside the best of the others",
)


def _in_short(figures: Figures) -> list[str]:
    """For each trace what is saved, in both directions, and what could be."""
    lines = [f"| trace | {' | '.join(_COLUMNS)} |", "|---|---|---|---|"]
    for name, judged in figures.items():
        bound = [share for _, _, share in savings([*judged.swept, *judged.bound], FORESIGHT)]
        cells = [_span(forward(judged.swept)), _span(backward(judged.swept)), _span(bound)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _elsewhere(figures: Figures) -> list[str]:
    """The same settings on machines for which nobody chose them."""
    lines = ["The same settings on other machines, for which nothing was chosen:\n"]
    lines += [f"| trace, machine | {' | '.join(_COLUMNS[:2])} |", "|---|---|---|"]
    for name, judged in figures.items():
        for machine, swept in judged.elsewhere.items():
            lines.append(f"| {name}, {machine} | {_span(forward(swept))} | {_span(backward(swept))} |")
    return lines


def _span(shares: list[float | None]) -> str:
    """From the least to the most, with the middle; None: the other side has nothing that waits so little."""
    known = sorted(share for share in shares if share is not None)
    alone = len(shares) - len(known)
    told = f"{known[0]:+.0%} to {known[-1]:+.0%}, median {median(known):+.0%}" if known else "nothing to compare"
    return f"{told}; {alone} of {len(shares)} unmatched" if alone else told


def forward(swept: list[Figure]) -> list[float | None]:
    """For each of Shoal's unbeaten settings, the share saved beside the cheapest peer that waits no longer."""
    return [share for _, _, share in savings(swept)]


def backward(swept: list[Figure]) -> list[float | None]:
    """For each unbeaten setting of the peers, the share that the cheapest of Shoal's saves that waits no longer."""
    found: list[float | None] = []
    for peer in unbeaten(f for f in swept if f.setting.policy in PEERS):
        fit = cheapest(swept, "Shoal", peer.p99 + _SAME_SECONDS)
        found.append(1 - fit.replica_seconds / peer.replica_seconds if fit else None)
    return found


def savings(swept: list[Figure], policy: str = "Shoal") -> list[tuple[Figure, Figure | None, float | None]]:
    """Each of the policy's unbeaten settings beside the cheapest peer that waits no longer, and the share it saves."""
    found: list[tuple[Figure, Figure | None, float | None]] = []
    for own in unbeaten(f for f in swept if f.setting.policy == policy):
        fits = [cheapest(swept, peer, own.p99 + _SAME_SECONDS) for peer in PEERS]
        best = min((f for f in fits if f), key=lambda f: f.replica_seconds, default=None)
        found.append((own, best, 1 - own.replica_seconds / best.replica_seconds if best else None))
    return found


def _same_wait(swept: list[Figure]) -> list[str]:
    peers = [peer for peer in PEERS if any(f.setting.policy == peer for f in swept)]
    head = ["| Shoal | p50 · p99 wait, s | replica-hours |", *(f" {peer} |" for peer in peers), " less than the best |"]
    lines = ["".join(head), "|" + "---|" * (4 + len(peers))]
    for own, best, share in savings(swept):
        cells = [str(own.setting), f"{own.p50:.1f} · {own.p99:.1f}", f"{own.replica_seconds / 3600:.2f}"]
        for peer in peers:
            fit = cheapest(swept, peer, own.p99 + _SAME_SECONDS)
            cells.append(f"{fit.replica_seconds / 3600:.2f}" if fit else "–")
        cells.append(f"{share:+.0%} ({best.setting.policy}: {best.setting})" if best and share is not None else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _plain(plain: list[Figure]) -> list[str]:
    lines = ["| policy | replica-hours | p50 wait, s | p99 wait, s | lost | turns |", "|---|---|---|---|---|---|"]
    for f in plain:
        hours = f"{f.replica_seconds / 3600:.2f}"
        lines.append(f"| {f.setting.policy} | {hours} | {f.p50:.1f} | {f.p99:.1f} | {f.lost} | {f.turns} |")
    return lines
