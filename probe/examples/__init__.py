"""Examples that run as they are: ``python -m probe.examples.<name>``."""
