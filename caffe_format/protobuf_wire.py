"""Protobuf's wire format, walked without building messages.

Parsing makes an object of every field, so that two bytes of a crafted file can take a hundred of
memory. The walk counts first; it also tells files of other kinds by their first fields.
"""

from typing import NamedTuple

import numpy as np

MOST_FIELDS = 200_000  # a SqueezeNet has about a thousand
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}


class Damaged(Exception):
    """The bytes are no protobuf message of the kind that Caffe writes."""


class TooMany(Exception):
    """The message has more fields than any SqueezeNet."""


class Field(NamedTuple):
    """A field: its number, wire type, and where its content lies; `value` of a varint."""

    number: int
    wire: int
    start: int
    end: int
    value: int = 0


def fields(content, start, end):
    """Yields the Fields of the message content[start:end]. Raises Damaged.

    Neighbouring numbers of a fixed size and one tag (floats that were not packed) are one Field.
    """
    while start < end:
        tag_at = start
        tag, start = _varint(content, start, end)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, after = _varint(content, start, end)
            yield Field(number, wire, start, after, value)
        elif wire in FIXED_SIZES:
            after = _end_of_run(content, tag_at, start, end, FIXED_SIZES[wire])
            yield Field(number, wire, start, after)
        elif wire == BYTES:
            length, start = _varint(content, start, end)
            after = start + length
            if after > end:
                raise Damaged
            yield Field(number, wire, start, after)
        else:  # groups, which Caffe never wrote
            raise Damaged
        start = after


def _varint(content, at, end):
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise Damaged
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Damaged


def _end_of_run(content, tag_at, start, end, size):
    """Where the last of the neighbouring fields ends that repeat the tag at `tag_at`."""
    if start + size > end:
        raise Damaged
    if start != tag_at + 1:
        return start + size
    step = size + 1
    tags = np.frombuffer(content, np.uint8, end - tag_at, tag_at)[::step]
    others = np.flatnonzero(tags != content[tag_at])
    count = others[0] if len(others) else (end - tag_at) // step
    return tag_at + int(count) * step


def check_size(content, descriptor):
    """Raises TooMany where a message of `descriptor` has too many fields; Damaged."""
    left = MOST_FIELDS
    waiting = [(descriptor, 0, len(content))]
    while waiting:
        message, start, end = waiting.pop()
        for field in fields(content, start, end):
            left -= 1
            known = message.fields_by_number.get(field.number)
            if known is not None and field.wire == BYTES:
                if known.message_type is not None:
                    waiting.append((known.message_type, field.start, field.end))
                elif known.cpp_type in (known.CPPTYPE_INT64, known.CPPTYPE_INT32):
                    left -= field.end - field.start  # packed: a byte can be a number
            if left < 0:
                raise TooMany
