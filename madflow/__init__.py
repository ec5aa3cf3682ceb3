"""madflow: multi-agent debate that may be trusted with consequences."""

__version__ = "0.1.0"
