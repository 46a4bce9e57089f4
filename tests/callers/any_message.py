"""Messages with any fields of any values that the wire can carry, for random tests."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor, message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

Field = descriptor.FieldDescriptor
Special = Mapping[str, st.SearchStrategy[Any]]  # by the full name of a field or a message

_WHOLE = {
    Field.TYPE_INT32: (-(2**31), 2**31 - 1),
    Field.TYPE_INT64: (-(2**63), 2**63 - 1),
    Field.TYPE_UINT32: (0, 2**32 - 1),
    Field.TYPE_UINT64: (0, 2**64 - 1),
    Field.TYPE_ENUM: (-(2**31), 2**31 - 1),
}
_OTHERS = {
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_FLOAT: st.floats(width=32),
    Field.TYPE_DOUBLE: st.floats(),
    Field.TYPE_STRING: st.text(max_size=20) | st.just("x" * 100_000),
    Field.TYPE_BYTES: st.binary(max_size=64),
}


@st.composite
def any_message(draw: st.DrawFn, kind: descriptor.Descriptor, special: Special) -> Any:
    """Any fields with any values."""
    made = GetMessageClass(kind)()
    for field in kind.fields:
        if draw(st.booleans()):
            put(made, field, draw(values_of(field, special)))
    return made


def put(made: message.Message, field: descriptor.FieldDescriptor, value: Any) -> None:
    """Set a field to a value of `values_of`."""
    made.ClearField(field.name)
    match value:
        case dict():
            for key, entry in value.items():
                getattr(made, field.name)[key].CopyFrom(entry)
        case list():
            getattr(made, field.name).extend(value)
        case message.Message():
            getattr(made, field.name).CopyFrom(value)
        case _:
            setattr(made, field.name, value)


def values_of(field: descriptor.FieldDescriptor, special: Special) -> st.SearchStrategy[Any]:
    for name in (field.full_name, field.message_type.full_name if field.message_type else ""):
        if name in special:
            return special[name]
    if field.message_type and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return st.dictionaries(values_of(key, special), values_of(value, special), max_size=3)
    one = _value_of(field, special)
    return st.lists(one, max_size=20 if field.type in _WHOLE else 4) if field.is_repeated else one


def _value_of(field: descriptor.FieldDescriptor, special: Special) -> st.SearchStrategy[Any]:
    if field.message_type:
        return any_message(field.message_type, special)
    if field.type in _WHOLE:
        return st.integers(0, 5) | st.integers(*_WHOLE[field.type])
    return _OTHERS[field.type]


@st.composite
def torn(draw: st.DrawFn, data: bytes) -> bytes:
    """Any bytes, or those of a message of which some are others, missing or twice."""
    data = data[:2_000]
    cut, again = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
    changed = data[:cut] + draw(st.binary(max_size=8)) + data[again:]
    return draw(st.sampled_from([changed, data[:again] + data[cut:], draw(st.binary(max_size=200))]))
