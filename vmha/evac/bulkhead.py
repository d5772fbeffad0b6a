"""The bulkhead lives on the shared floor, `vmha.bulkhead`; this is its name in this room."""

from vmha.bulkhead import Bulkhead, CallLost, CallNotMade

__all__ = ["Bulkhead", "CallLost", "CallNotMade"]
