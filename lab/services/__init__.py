"""Real servers inside worlds, each with a scratch folder that goes with it."""

from lab.services.service import Service, serve

__all__ = ["Service", "serve"]
