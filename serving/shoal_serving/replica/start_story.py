"""Tell what a start was made of, in one line."""

from collections.abc import Sequence

from shoal_api.replica_config import Report, Stage

_TOOK = {
    Stage.RAY: "Ray and Serve",
    Stage.IMPORTS: "imports",
    Stage.ENGINE: "weights and engine",
    Stage.SELF_TEST: "self-test",
}


def told(reports: Sequence[Report], ready_at: float) -> str:
    """Of the last start among the reports: seconds in all and of each stage."""
    began = max((index for index, report in enumerate(reports) if report.stage is Stage.RAY), default=None)
    if began is None:
        return ""
    start = reports[began:]
    ends = [*(report.at for report in start[1:]), ready_at]
    parts = [
        f"{_TOOK[report.stage]} {end - report.at:.1f} s"
        for report, end in zip(start, ends, strict=True)
        if report.stage in _TOOK
    ]
    return f"ready after {ready_at - start[0].at:.1f} s: {', '.join(parts)}"
