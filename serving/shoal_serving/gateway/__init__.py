"""The gateway: the OpenAI-compatible ingress."""
