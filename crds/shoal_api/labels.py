"""Labels and annotations that Shoal puts on what it makes; selectors and mirrors rely on them."""

PREFIX = "shoal.dev/"

MODEL = PREFIX + "model"
"""Object name of the ModelDeployment (hashed where it does not fit into a label)."""
REVISION = PREFIX + "revision"
"""Revision that a replica was made from."""
RANK = PREFIX + "rank"
"""Rank of a pod within its gang; the Service selects rank 0."""
