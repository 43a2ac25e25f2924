"""The treaty: what operator, gateway and replica agree on. Imports nothing but pydantic."""
