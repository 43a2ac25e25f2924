"""A real Kubernetes on this very machine, for the stories under e2e/; nothing of it is in the product."""
