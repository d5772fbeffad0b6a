"""Rules switched off, one at a time, to see that chaos or the model notices. For tests of the tests: nothing else uses this.

A mutant is a context in which a class of the product lacks a rule; the product's own code has no such switch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from vmha.errors import FieldViolation, InvalidField


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A rule that can be switched off.

    Attributes:
        without: What is left out, for people.
        composition: The context in which it is off.
    """

    rule: str
    without: str
    composition: Callable[[], AbstractContextManager[None]]


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


MUTANTS: Final[Mapping[str, Mutant]] = {}
"""By name, as `--mutant` takes it."""


def composition(name: str) -> Callable[[], AbstractContextManager[None]]:
    """The context of a mutant; of none for the empty name.

    Raises:
        InvalidField: There is no such mutant.
    """
    if not name:
        return nullcontext
    if name not in MUTANTS:
        raise InvalidField([FieldViolation("--mutant", f'unknown rule "{name}"; there are {", ".join(MUTANTS)}')])
    return MUTANTS[name].composition
