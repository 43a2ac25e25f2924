"""The data plane: gateway, replica program, and a simulator that stands in for the engine."""
