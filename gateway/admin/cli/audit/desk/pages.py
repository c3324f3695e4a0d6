# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages: sessions, one session, the tree of agents, a tree as one timeline, the verdict."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import islice
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from gateway.admin.cli._reading import Recorded, timeline
from gateway.admin.cli.audit.desk.showing import environment
from gateway.admin.cli.audit.replay import of_tree
from gateway.admin.cli.output import Failed

SESSIONS_A_PAGE = 100
OPERATIONS_A_PAGE = 50
ROWS_SHOWN = 50
_ROWS_READ = 1000
Document = dict[str, Any]
Verdict = Callable[[], Document | None]
"""The verifier's document, or None while it is at work."""


class Desk:
    """One record that is open. Endpoints run in threads: one reads at a time."""

    def __init__(self, recorded: Recorded, place: str, verdict: Verdict) -> None:
        self._recorded = recorded
        self._place = place
        self._verdict = verdict
        self._templates = environment()
        self._lock = threading.Lock()
        self._style = (files(__package__) / "desk.css").read_text("utf-8")

    def application(self) -> Starlette:
        """ASGI."""
        return Starlette(
            routes=[
                Route("/", self._page(self.sessions)),
                Route("/session/{id}", self._page(self.session)),
                Route("/agents", self._page(self.agents)),
                Route("/timeline/{id}", self._page(self.timeline)),
                Route("/verification", self._page(self.verification)),
                Route("/desk.css", self.style),
            ]
        )

    def _page(self, render: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def page(request: Request) -> Response:
            try:
                with self._lock:
                    return render(request)
            except Failed as error:
                told = {"message": str(error), "cure": error.cure}
                return self._shown("failed", request, status=404, **told)

        return page

    def _shown(self, name: str, request: Request, status: int = 200, **known: Any) -> Response:
        text = self._templates.get_template(f"{name}.html.j2").render(
            place=self._place,
            verdict=self._verdict(),
            notes=self._recorded.notes,
            path=request.url.path,
            **known,
        )
        return HTMLResponse(text, status)

    def style(self, request: Request) -> Response:
        return Response(self._style, media_type="text/css")

    # --- the pages --------------------------------------------------------------------------------

    def sessions(self, request: Request) -> Response:
        """Newest first, narrowed by what the form says."""
        query = request.query_params
        found = self._recorded.sessions()
        chosen = [one for one in reversed(found) if _fits(one, query)]
        start = _start(query, len(chosen))
        return self._shown(
            "sessions",
            request,
            sessions=chosen[start : start + SESSIONS_A_PAGE],
            count=len(chosen),
            total=len(found),
            targets=sorted({one["target"] for one in found if one["target"]}),
            query={name: query.get(name, "") for name in _FILTERS},
            pager=_pager(query, start, SESSIONS_A_PAGE, len(chosen)),
        )

    def session(self, request: Request) -> Response:
        """What was asked, decided and answered, a page of operations at a time."""
        session = self._recorded.session(request.path_params["id"])
        start = _start(request.query_params)
        told = (((), one) for one in self._recorded.operations(session, _ROWS_READ))
        operations, more = _operations(told, start)
        return self._shown(
            "session",
            request,
            session=session,
            operations=operations,
            opens=self._recorded.opens(session["id"]),
            pager=_pager(request.query_params, start, OPERATIONS_A_PAGE, more=more),
        )

    def agents(self, request: Request) -> Response:
        """Who started whom, and the sessions of each."""
        return self._shown("agents", request, tree=self._recorded.tree())

    def timeline(self, request: Request) -> Response:
        """A tree of agents in one order of time."""
        chosen = of_tree(self._recorded, request.path_params["id"])
        start = _start(request.query_params)
        operations, more = _operations(timeline(self._recorded, chosen, _ROWS_READ), start)
        return self._shown(
            "timeline",
            request,
            sessions=chosen,
            operations=operations,
            pager=_pager(request.query_params, start, OPERATIONS_A_PAGE, more=more),
        )

    def verification(self, request: Request) -> Response:
        """The verdict in full."""
        return self._shown("verification", request)


_FILTERS = ("who", "target", "state", "since", "until", "denied")


def _fits(one: Mapping[str, Any], query: QueryParams) -> bool:
    who, target, state = (query.get(name, "") for name in ("who", "target", "state"))
    opened = str(one["opened"] or "")
    until = query.get("until", "")
    return (
        (not who or any(who.lower() in name.lower() for name in (*one["chain"], one["id"])))
        and target in ("", one["target"])
        and state in ("", one["state"])
        and opened[:10] >= query.get("since", "")[:10]
        and (not until or opened[:10] <= until[:10])
        and (not query.get("denied") or bool(one["denied"] or one["held"]))
    )


def _start(query: QueryParams, most: int = 1 << 31) -> int:
    text = query.get("from", "0")
    return min(int(text), most) if text.isdecimal() and len(text) < 10 else 0


def _pager(
    query: QueryParams, start: int, size: int, count: int | None = None, *, more: bool = False
) -> Mapping[str, str | None]:
    """Links to the page before and the one behind, with the same filters."""
    rest = {name: value for name, value in query.items() if name in _FILTERS and value}
    more = more if count is None else start + size < count

    def link(at: int) -> str:
        return "?" + str(QueryParams({**rest, "from": str(at)}))

    return {
        "before": link(max(0, start - size)) if start else None,
        "behind": link(start + size) if more else None,
    }


def _operations(
    told: Iterable[tuple[Any, Mapping[str, Any]]], start: int
) -> tuple[list[Document], bool]:
    """A page of whole operations, put together from their pieces; whether there are more."""
    whole = list(islice(_whole(told), start, start + OPERATIONS_A_PAGE + 1))
    return whole[:OPERATIONS_A_PAGE], len(whole) > OPERATIONS_A_PAGE


def _whole(told: Iterable[tuple[Any, Mapping[str, Any]]]) -> Iterator[Document]:
    now: Document | None = None
    for session, piece in told:
        if now is not None and (now["session"], now["seq"]) == (session, piece["seq"]):
            _add(now, piece)
            continue
        if now is not None:
            yield now
        now = {**piece, "session": session, "results": [], "more_rows": 0}
        _add(now, piece)
    if now is not None:
        yield now


def _add(now: Document, piece: Mapping[str, Any]) -> None:
    """A piece's results; rows beyond ROWS_SHOWN are counted."""
    now.update(ended=piece["ended"], outcome=piece["outcome"])
    goes_on = piece.get("part", 1) > 1
    for result in piece["results"]:
        rows: Sequence[Any] = result.get("rows") or ()
        if goes_on and now["results"] and "rows" in result:
            now["results"][-1]["more"] += len(rows)
        else:
            kept = {**result, "rows": rows[:ROWS_SHOWN], "more": max(0, len(rows) - ROWS_SHOWN)}
            now["results"].append(kept)
        goes_on = False
