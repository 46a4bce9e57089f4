"""Train, export and serve Progressive GANs."""


def __getattr__(name: str) -> str:
    """Return `__version__` when it is asked for: reading it takes longer than all else that the command needs first."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import metadata

    return metadata.version("progan-service")
