"""Train, export and serve Progressive GANs."""

from importlib import metadata

__version__ = metadata.version("progan-service")
