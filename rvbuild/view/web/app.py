"""The web application: what each address answers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from rvbuild.errors import RvbuildError, UsageError
from rvbuild.view import results
from rvbuild.view.building.builds import Build
from rvbuild.view.building.following import Follower
from rvbuild.view.building.watching import Watcher
from rvbuild.view.looking import Looking
from rvbuild.view.places import places
from rvbuild.view.points import point_json
from rvbuild.view.readers import AT_ONCE, Memo, Readers
from rvbuild.view.reviewing.deciding import Verdicts
from rvbuild.view.reviewing.suggestions import suggestions_json
from rvbuild.view.reviewing.suspects import review_folder, suspects_json
from rvbuild.view.scenes import ViewedScene
from rvbuild.view.shapes import shapes
from rvbuild.view.tiles import Look, Tile, draw
from rvbuild.view.web.access import Access
from rvbuild.view.web.events import Events

STATIC = Path(__file__).parents[1] / "static"

TILE_BYTES = 64 << 20
"""Of drawn tiles in memory."""

MOST_RESULTS = 32
"""Scenes whose matched boxes, cells or places are kept in memory."""

FOR_GOOD = {"Cache-Control": "private, max-age=604800, immutable"}
"""The address of a tile holds the version of its files."""

GONE = 499
"""The status of an answer that nobody waits for, as other servers log it."""

NOT_KEPT = {"Cache-Control": "no-store"}


class View:
    """The parts of the application, and its addresses."""

    def __init__(self, looking: Looking, trust: bool = False) -> None:
        self.looking, self.events, self.readers = looking, Events(), Readers()
        self.tiles, self.memo = Memo(TILE_BYTES), Memo(MOST_RESULTS)
        self.build = Build(looking.path, looking.overrides, trust, looking.environment, self._tell)
        self.follower = Follower(self.build)
        self.watcher = Watcher(
            looking,
            self._changed,
            lambda: self.events.tell("training", {}),
            lambda: self.events.tell("hosts", results.hosts_json(self.looking.seen)),
        )
        self._drawing = asyncio.Semaphore(AT_ONCE)
        self.verdicts = Verdicts(lambda: review_folder(looking.seen), lambda: self.events.tell("suspects", {}))

    def application(self, token: str, port: int, once: str = "") -> Starlette:
        """Return the application, which looks for changes while it runs; `token` and `once` are of `Access`."""
        routes = [
            Route("/", _page),
            Route("/api/project", _answering(self._project)),
            Route("/api/scene", _answering(self._scene)),
            Route("/api/shapes/{layer}", _answering(self._shapes)),
            Route("/api/at", _answering(self._at)),
            Route("/api/evaluation", _answering(self._evaluation)),
            Route("/api/training", _answering(lambda _: results.training_json(self.looking.seen))),
            Route("/api/places", _answering(self._places)),
            Route("/api/suspects", _answering(lambda _: suspects_json(self.looking.seen, self.verdicts, self.memo))),
            Route("/api/suggestions", _answering(lambda _: suggestions_json(self.looking.seen))),
            Route("/api/verdict", _answering(self._verdict), methods=["POST"]),
            Route("/api/build", _answering(lambda _: self._build_state())),
            Route("/api/build", _answering(self._start), methods=["POST"]),
            Route("/api/follow", _answering(self._follow), methods=["POST"]),
            Route("/api/stop", _answering(self._stop), methods=["POST"]),
            Route("/api/events", self._events),
            Route("/tile/{layer}/{step:int}/{row:int}/{col:int}", self._tile_if_wanted),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(Access, token=token, port=port, once=once)],
            lifespan=self._lifespan,
        )

    def close(self) -> None:
        """Close files, and end the build that was started here."""
        self.build.close()
        self.readers.close()
        self.looking.close()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self.watcher.start()
        self.verdicts.start()
        try:
            yield
        finally:
            self.watcher.stop()
            self.verdicts.stop()

    def _tell(self, kind: str, content: Any) -> None:
        self.events.tell(kind, content)
        if kind == "build" and not content["running"]:
            self.follower.look(self.looking.seen)  # something may have been saved while it ran

    def _changed(self) -> None:
        self.follower.look(self.looking.seen)
        self.events.tell("project", results.project_json(self.looking.seen))

    def _viewed(self, request: Request) -> ViewedScene:
        seen = self.looking.seen
        return ViewedScene(seen, seen.scene(request.query_params.get("scene", "")), self.readers)

    def _project(self, _request: Request) -> dict[str, Any]:
        return results.project_json(self.looking.seen)

    def _scene(self, request: Request) -> dict[str, Any]:
        return self._viewed(request).describe()

    def _shapes(self, request: Request) -> dict[str, Any]:
        return shapes(self._viewed(request), request.path_params["layer"], self.memo)

    def _at(self, request: Request) -> dict[str, Any]:
        row, col = _number(request, "row"), _number(request, "col")
        if row is None or col is None:
            raise UsageError("expected row and col")
        return point_json(self._viewed(request), row, col)

    def _places(self, request: Request) -> dict[str, Any]:
        seen, of, only = (
            self.looking.seen,
            request.query_params.get("of", "prediction"),
            request.query_params.get("scene"),
        )
        chosen = seen.loaded().scenes if only is None else (seen.scene(only),)
        viewed = [ViewedScene(seen, scene, self.readers) for scene in chosen]
        scenes = [scene for scene in viewed if scene.mapped(of) is not None and scene.labels_version is not None]
        worst = places(scenes, self.memo, _number(request, "truth"), _number(request, "predicted"), of)
        return {"places": [place.as_json() for place in worst]}

    async def _tile_if_wanted(self, request: Request) -> Response:
        """Draw a tile when it is its turn, unless the page has moved on meanwhile: coarse tiles may take a second."""
        async with self._drawing:
            if await request.is_disconnected():
                return Response(status_code=GONE)
            return await run_in_threadpool(_answering(self._tile), request)

    def _tile(self, request: Request) -> Response:
        place = request.path_params
        tile, layer, params = Tile(place["step"], place["row"], place["col"]), place["layer"], request.query_params
        scene = self._viewed(request)
        look = _look(request)
        key = (layer, scene.scene.id, tile, look, params.get("v"))
        if params.get("v"):
            drawn = self.tiles.get(
                key, lambda: draw(scene, layer, tile, look, self.memo), lambda png: len(png or b"") + 64
            )
        else:
            drawn = draw(scene, layer, tile, look, self.memo)
        if drawn is None:
            return Response(status_code=204)
        return Response(drawn, media_type="image/png", headers=FOR_GOOD if params.get("v") else NOT_KEPT)

    def _start(self, request: Request) -> dict[str, Any]:
        self.build.start(request.query_params.get("stage", "build"))
        return self._build_state()

    def _evaluation(self, request: Request) -> dict[str, Any]:
        return results.evaluation_json(self.looking.seen, request.query_params.get("of", "prediction"))

    def _verdict(self, request: Request) -> dict[str, Any]:
        params = request.query_params
        suspect_id, verdict = params.get("id", ""), params.get("verdict", "")
        answer = self.verdicts.set(suspect_id, verdict, params.get("note"))
        told = {"id": suspect_id, "verdict": verdict, "note": answer["note"], "unsaved": bool(answer["unsaved"])}
        self.events.tell("verdict", told)  # to all pages that are open
        return answer

    def _follow(self, request: Request) -> dict[str, Any]:
        self.follower.on = request.query_params.get("on") == "1"
        self.follower.look(self.looking.seen)
        return self._build_state()

    def _build_state(self) -> dict[str, Any]:
        return {**self.build.state(), "follows": self.follower.on}

    def _stop(self, _request: Request) -> dict[str, Any]:
        self.build.stop()
        return self._build_state()

    async def _events(self, _request: Request) -> StreamingResponse:
        headers = {**NOT_KEPT, "X-Accel-Buffering": "no"}
        return StreamingResponse(self.events.listen(), media_type="text/event-stream", headers=headers)


def _page(_request: Request) -> FileResponse:
    return FileResponse(STATIC / "index.html", headers=NOT_KEPT)


def _answering(function: Callable[[Request], Any]) -> Callable[[Request], Response]:
    """Return an endpoint that answers with JSON; what is wrong is told as `{"error": message}`."""

    @functools.wraps(function)
    def answer(request: Request) -> Response:
        try:
            answer_of = function(request)
        except UsageError as error:
            return JSONResponse({"error": str(error)}, status_code=400, headers=NOT_KEPT)
        except RvbuildError as error:
            return JSONResponse({"error": str(error)}, status_code=422, headers=NOT_KEPT)
        return answer_of if isinstance(answer_of, Response) else JSONResponse(answer_of, headers=NOT_KEPT)

    return answer


def _look(request: Request) -> Look:
    params = request.query_params
    classes = params.get("classes")
    return Look(
        bands=tuple(_numbers(params.get("bands", ""), "bands")),
        stretch=params.get("stretch") == "1",
        classes=None if classes is None else frozenset(_numbers(classes, "classes")),
        truth=_number(request, "truth"),
        predicted=_number(request, "predicted"),
        score=params.get("score", "margin"),
        of=params.get("of", "prediction"),
    )


def _numbers(text: str, what: str) -> list[int]:
    parts = [part for part in text.split(",") if part]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise UsageError(f"{what}: expected whole numbers, found {text!r}")
    return [int(part) for part in parts]


def _number(request: Request, name: str) -> int | None:
    """Return a whole number of the address, None if it is not there."""
    numbers = _numbers(request.query_params.get(name, ""), name)
    return numbers[0] if numbers else None
