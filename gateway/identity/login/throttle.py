# SPDX-License-Identifier: GPL-3.0-or-later
"""How often somebody may try: a bucket per network address, in bounded memory."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

ADDRESSES = 10_000


class Throttle:
    """Lets `burst` through at once and `per_minute` after that, for each address."""

    def __init__(
        self,
        per_minute: float,
        burst: float,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = per_minute / 60
        self._burst = burst
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, who: str) -> bool:
        """True, and one is taken; False when there is none left."""
        left, now = self._left_of(who), self._now()
        allowed = left >= 1
        self._left.pop(who, None)
        self._left[who] = (left - 1 if allowed else left, now)
        while len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return allowed

    def has(self, who: str) -> bool:
        """True if one is left; none is taken."""
        return self._left_of(who) >= 1

    def give_back(self, who: str) -> None:
        """What was taken was not needed."""
        if who in self._left:
            left, at = self._left[who]
            self._left[who] = (min(self._burst, left + 1), at)

    def _left_of(self, who: str) -> float:
        now = self._now()
        left, at = self._left.get(who, (self._burst, now))
        return min(self._burst, left + (now - at) * self._rate)


class LoginLimits:
    """How often logins begin, and how often codes may be typed wrongly. One set a gateway."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self.begin = Throttle(per_minute=60, burst=60, now=now)
        self.wrong_codes = Throttle(per_minute=5, burst=10, now=now)
        """Of one network address."""
        self.all_wrong_codes = Throttle(per_minute=60, burst=120, now=now)
        self.redeem = Throttle(per_minute=600, burst=600, now=now)
        self.returning = Throttle(per_minute=300, burst=300, now=now)

    def code_was_right(self, who: str) -> None:
        """Or was not looked at."""
        self.wrong_codes.give_back(who)
        self.all_wrong_codes.give_back("")


def network_of(address: str) -> str:
    """Who shares an allowance: an IPv4 address, or an IPv6 /64, which is one household."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
