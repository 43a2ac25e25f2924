"""The control plane: observes, decides with pure functions, carries out, reports. Never on the request path."""
