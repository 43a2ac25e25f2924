"""Write the page: what every policy costs where it makes nobody wait longer than Shoal does."""

from autoscaling.curves import Figures
from autoscaling.sweeping import HELD_OUT_SEEDS, TUNING_SEEDS, Figure, cheapest

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

For each setting of Shoal that was judged: the cheapest setting of each peer whose p99 wait is no longer (within
{_SAME_SECONDS:g} s). The percentage is how much less replica time Shoal takes than the best of them; negative: it takes
more. A dash: the peer has no setting that waits so little.
"""


def page(figures: Figures) -> str:
    lines = [_HEAD, *_in_short(figures), ""]
    for name, (swept, plain) in figures.items():
        lines += [f"### {name}\n", *_same_wait(swept), ""]
        lines += ["As it comes, every target 8:\n", *_plain(plain), ""]
    return "\n".join(lines)


def _in_short(figures: Figures) -> list[str]:
    """For each trace the least and the most that any setting saves."""
    lines = ["| trace | Shoal beside the best of the others |", "|---|---|"]
    for name, (swept, _) in figures.items():
        shares = [share for _, _, share in savings(swept) if share is not None]
        unmatched = sum(best is None for _, best, _ in savings(swept))
        told = f"from {min(shares):+.0%} to {max(shares):+.0%}" if shares else "nothing to compare"
        lines.append(f"| {name} | {told}{f', {unmatched} that nobody else reaches' if unmatched else ''} |")
    return lines


def savings(swept: list[Figure]) -> list[tuple[Figure, Figure | None, float | None]]:
    """Each of Shoal's settings beside the cheapest peer that waits no longer, and the share it saves."""
    found: list[tuple[Figure, Figure | None, float | None]] = []
    for own in sorted((f for f in swept if f.setting.policy == "Shoal"), key=lambda f: f.replica_seconds):
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
