"""Answers that call a tool: which one, and the written text as its arguments."""

from dataclasses import replace
from json import dumps
from zlib import crc32

from shoal_serving.simulator.checking import Body
from shoal_serving.simulator.model import quote
from shoal_serving.simulator.writing import Sequence

ARGUMENT = "text"
"""What is written becomes the value of this argument, whatever the tool's own schema says."""


def called(body: Body, calls_by_itself: bool) -> str | None:
    """The name of the function that the answer calls; None where it calls none."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not isinstance(tools, list) or not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        return str(choice.get("function", {}).get("name"))
    if choice == "required" or calls_by_itself:
        return str(tools[0].get("function", {}).get("name"))
    return None


def as_arguments(sequence: Sequence) -> Sequence:
    """The same tokens; what they complete is the arguments' JSON, piece by piece."""
    pieces = [dumps(piece)[1:-1] for piece in sequence.pieces]
    pieces[0] = f'{{"{ARGUMENT}": "' + pieces[0]
    pieces[-1] += '"}'
    return replace(sequence, pieces=tuple(pieces), finish_reason="tool_calls")


def message(name: str, sequence: Sequence) -> str:
    """The member of a whole answer's message."""
    call = f'{{"id":{quote(_id(sequence))},"type":"function","function":{_function(name, sequence.text)}}}'
    return f'"tool_calls":[{call}],'


def delta(name: str, sequence: Sequence, at: int) -> str:
    """The member of a chunk's delta: the first one brings id and name."""
    piece = sequence.pieces[at]
    if at:
        return f'"tool_calls":[{{"index":0,"function":{{"arguments":{quote(piece)}}}}}]'
    call = f'"id":{quote(_id(sequence))},"type":"function","index":0,"function":{_function(name, piece)}'
    return f'"tool_calls":[{{{call}}}]'


def _function(name: str, arguments: str) -> str:
    return f'{{"name":{quote(name)},"arguments":{quote(arguments)}}}'


def _id(sequence: Sequence) -> str:
    return f"chatcmpl-tool-{crc32(sequence.tokens.encode('utf-8', 'surrogatepass')):016x}"
