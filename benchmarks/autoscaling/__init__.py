"""A simulator of time for autoscaling policies: no sleeping, no network, the real decision and the real waiting room."""
