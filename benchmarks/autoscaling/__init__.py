"""A simulator of time for autoscaling policies: no sleeping, the real decision, the real waiting room."""
