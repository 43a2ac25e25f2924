"""Every feature that tests/mutations/run.py takes out, and tests/test_mutations.py finds in the code."""

from cluster_features import CLUSTER_FEATURES
from features import FEATURES
from load_features import LOAD_FEATURES
from rollout_features import ROLLOUT_FEATURES

ALL = FEATURES + LOAD_FEATURES + ROLLOUT_FEATURES + CLUSTER_FEATURES
