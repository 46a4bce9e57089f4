"""What a checkpoint holds: which program wrote it, and which of its dictionaries are the weights of a generator."""

from collections.abc import Mapping
from typing import Any

from progan_service.sources.pickles.restricted import Plain, RefusedPickleError, is_plain, shown, without_array
from progan_service.sources.pytorch.tensors import Config, Tensor

GENFORCE = "genforce"
GAN_ZOO = "pytorch_GAN_zoo"
BRIDGE = "other weights come in as a .safetensors, see docs/generators.md"

_MAX_NAMED = 5


def described(content: Any) -> dict[str, Any]:
    """Return the fields for StoredGenerator, with Tensors as variables. Raises RefusedPickleError for other content."""
    if not isinstance(content, dict):
        raise RefusedPickleError(f"holds no dictionary of weights; {BRIDGE}")
    if isinstance(content.get("config"), Config) and "netG" in content:
        return _of_gan_zoo(content)
    networks = content["models"] if isinstance(content.get("models"), dict) else content
    for name in ("generator_smooth", "generator"):
        if isinstance(networks.get(name), dict):
            return _of_genforce(name, networks[name], networks.get("discriminator"))
    if isinstance(content.get("layer0.weight"), Tensor):
        return _of_genforce("state_dict", content, None)
    keys = ", ".join(shown(repr(key)) for key in list(content)[:_MAX_NAMED])
    raise RefusedPickleError(f"holds {keys or 'nothing'}: no checkpoint of {GENFORCE} or {GAN_ZOO}; {BRIDGE}")


def _of_genforce(name: str, state: Any, discriminator: Any) -> dict[str, Any]:
    """Training writes 'module.' before the names of networks on several GPUs."""
    scores = _tensors(discriminator, "module.") if isinstance(discriminator, dict) else {}
    biases = [tensor for key, tensor in scores.items() if key.endswith(".bias")]
    return {
        "name": name,
        "builder": GENFORCE,
        # Its last layer has a score, and one logit a label.
        "arguments": {"label_size": biases[-1].shape[0] - 1} if biases and biases[-1].shape else {},
        "variables": _tensors(state, "module."),
        "discriminator": tuple(scores),
    }


def _of_gan_zoo(content: Mapping[str, Any]) -> dict[str, Any]:
    """Older releases wrote no '.module' into the names of layers."""
    name, config = "avgG" if "avgG" in content else "netG", content["config"]
    arguments: dict[str, Plain] = {
        key: value for key, found in config.items() if is_plain(value := without_array(found)) and isinstance(key, str)
    }
    return {
        "name": name,
        "builder": GAN_ZOO,
        "arguments": arguments,
        "variables": {key.replace(".module.", "."): tensor for key, tensor in _tensors(content[name]).items()},
        "discriminator": (),
        "label_names": _label_names(config.get("attribKeysOrder")),
    }


def _label_names(attributes: Any) -> tuple[str, ...]:
    """Return the values of the only attribute, in the order of the one-hot vectors; none without attributes."""
    if not attributes:
        return ()
    if not isinstance(attributes, dict) or not all(isinstance(about, dict) for about in attributes.values()):
        raise RefusedPickleError("attribKeysOrder is no dictionary of attributes")
    if len(attributes) > 1:
        names = ", ".join(shown(str(name)) for name in list(attributes)[:_MAX_NAMED])
        raise RefusedPickleError(f"has {len(attributes)} attributes of several values each ({names}): must have one")
    values = next(iter(attributes.values())).get("values")
    if not isinstance(values, list | tuple):
        raise RefusedPickleError("attribKeysOrder names no values")
    return tuple(values)


def _tensors(state: Any, prefix: str = "") -> dict[str, Tensor]:
    if not isinstance(state, dict):
        raise RefusedPickleError(f"holds a network that is no dictionary of tensors; {BRIDGE}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise RefusedPickleError(f"{shown(str(name))} is no tensor")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
