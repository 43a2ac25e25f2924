"""The replica program: one Ray cluster, one Ray Serve app, vLLM in it, HTTP on one fixed port."""
