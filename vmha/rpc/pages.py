"""Pages of list RPCs (AIP-158): sizes are clamped, tokens are opaque, an empty token is the only end."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final, TypeVar

from vmha.errors import FieldViolation, InvalidField

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 500
_MAX_OFFSET: Final = 100_000_000

T = TypeVar("T")


def parse(page_size: int, page_token: str) -> tuple[int, int]:
    """(offset, limit) of a list request.

    Raises:
        InvalidField: The size is negative, or the token is none that `next_token` made.
    """
    wrong = []
    offset = _offset(page_token)
    if page_size < 0:
        wrong.append(FieldViolation("page_size", "must not be negative"))
    if offset is None:
        wrong.append(FieldViolation("page_token", "is not a token of this list"))
    if wrong or offset is None:
        raise InvalidField(wrong)
    return offset, min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def next_token(offset: int, returned: int, *, more: bool) -> str:
    """The token of the page after one that started at `offset` and held `returned` items; empty when that was the last."""
    return base64.urlsafe_b64encode(f"o:{offset + returned}".encode()).decode() if more else ""


def cut(items: Sequence[T], page_size: int, page_token: str) -> tuple[Sequence[T], str]:
    """One page of a list that is all there, and the token of the next.

    Raises:
        InvalidField: As `parse`.
    """
    offset, limit = parse(page_size, page_token)
    page = items[offset : offset + limit]
    return page, next_token(offset, len(page), more=offset + limit < len(items))


def _offset(token: str) -> int | None:
    if not token:
        return 0
    try:
        kind, _, number = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode().partition(":")
        offset = int(number)
    except (binascii.Error, ValueError):
        return None
    return offset if kind == "o" and 0 <= offset <= _MAX_OFFSET else None
