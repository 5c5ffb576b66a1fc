"""Applications of many frameworks that answer the same requests, as texts of programs.

Each serves, for any `{id}`:

- `/users/{id}` and, below a prefix or mount, `/api/users/{id}`: `user {id}`
- `/stream`: three chunks
- `/fail`: an exception that nobody handles
"""

from __future__ import annotations

_STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

async def user(request):
    return PlainTextResponse(f"user {request.path_params['id']}")

async def stream(request):
    async def chunks():
        for n in range(3):
            yield f"chunk {n}"
    return StreamingResponse(chunks(), media_type="text/plain")

async def fail(request):
    raise ValueError("as planned")

app = Starlette(routes=[
    Route("/users/{id}", user),
    Route("/stream", stream),
    Route("/fail", fail),
    Mount("/api", routes=[Route("/users/{id}", user)]),
])
"""
_FASTAPI = """
from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse

app = FastAPI()
router = APIRouter(prefix="/api")

@app.get("/users/{id}")
@router.get("/users/{id}")
async def user(id: str):
    return PlainTextResponse(f"user {id}")

@app.get("/stream")
def stream():
    return StreamingResponse((f"chunk {n}" for n in range(3)), media_type="text/plain")

@app.get("/fail")
def fail():
    raise ValueError("as planned")

app.include_router(router)
"""
_LITESTAR = """
from litestar import Litestar, MediaType, Router, get
from litestar.response import Stream

@get("/users/{id:str}", media_type=MediaType.TEXT)
async def user(id: str) -> str:
    return f"user {id}"

@get("/stream", media_type=MediaType.TEXT)
async def stream() -> Stream:
    return Stream(iter([f"chunk {n}" for n in range(3)]))

@get("/fail")
async def fail() -> None:
    raise ValueError("as planned")

app = Litestar([user, stream, fail, Router("/api", route_handlers=[user])])
"""
_QUART = """
from quart import Blueprint, Quart

app = Quart(__name__)
api = Blueprint("api", __name__, url_prefix="/api")

@app.get("/users/<id>")
@api.get("/users/<id>")
async def user(id):
    return f"user {id}", {"Content-Type": "text/plain"}

@app.get("/stream")
async def stream():
    async def chunks():
        for n in range(3):
            yield f"chunk {n}".encode()
    return chunks(), {"Content-Type": "text/plain"}

@app.get("/fail")
async def fail():
    raise ValueError("as planned")

app.register_blueprint(api)
"""
_FALCON = """
{import_}

class User:
    {maybe_async}def on_get(self, req, resp, id):
        resp.text = f"user {{id}}"
        resp.content_type = "text/plain"

class Stream:
    {maybe_async}def on_get(self, req, resp):
        resp.content_type = "text/plain"
        resp.stream = chunks()

class Fail:
    {maybe_async}def on_get(self, req, resp):
        raise ValueError("as planned")

{maybe_async}def chunks():
    for n in range(3):
        yield f"chunk {{n}}".encode()

app = App()
app.add_route("/users/{{id}}", User())
app.add_route("/api/users/{{id}}", User())
app.add_route("/stream", Stream())
app.add_route("/fail", Fail())
"""
_SANIC = """
from sanic import Blueprint, Sanic
from sanic.response import text

app = Sanic("app")
api = Blueprint("api", url_prefix="/api")

@app.get("/users/<id>")
@api.get("/users/<id>")
async def user(request, id):
    return text(f"user {id}")

@app.get("/stream")
async def stream(request):
    response = await request.respond(content_type="text/plain")
    for n in range(3):
        await response.send(f"chunk {n}")
    await response.eof()

@app.get("/fail")
async def fail(request):
    raise ValueError("as planned")

app.blueprint(api)
"""
_DJANGO = """
import sys
import django
from django.conf import settings
from django.core.{kind} import get_{kind}_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import include, path, re_path

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="none", USE_TZ=True, LOGGING_CONFIG=None
)

def user(request, id):
    return HttpResponse(f"user {{id}}", content_type="text/plain")

def stream(request):
    return StreamingHttpResponse(chunks(), content_type="text/plain")

{maybe_async}def chunks():
    for n in range(3):
        yield f"chunk {{n}}"

def fail(request):
    raise ValueError("as planned")

urlpatterns = [
    path("users/<str:id>", user),
    path("stream", stream),
    path("fail", fail),
    path("api/", include([re_path(r"^users/(?P<id>[^/]+)$", user)])),
]
app = get_{kind}_application()
"""
_FLASK = """
from flask import Blueprint, Flask

app = Flask(__name__)
api = Blueprint("api", __name__, url_prefix="/api")

@app.get("/users/<id>")
@api.get("/users/<id>")
def user(id):
    return f"user {id}", {"Content-Type": "text/plain"}

@app.get("/stream")
def stream():
    return (f"chunk {n}" for n in range(3)), {"Content-Type": "text/plain"}

@app.get("/fail")
def fail():
    raise ValueError("as planned")

app.register_blueprint(api)
"""
_DISPATCHER = """
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

def make(name):
    app = Flask(name)

    @app.get("/users/<id>")
    def user(id):
        return f"user {id}", {"Content-Type": "text/plain"}

    return app

front, api = make("front"), make("api")

@front.get("/stream")
def stream():
    return (f"chunk {n}" for n in range(3)), {"Content-Type": "text/plain"}

@front.get("/fail")
def fail():
    raise ValueError("as planned")

app = DispatcherMiddleware(front, {"/api": api})
"""
_BOTTLE = """
from bottle import Bottle, response

app = Bottle()

@app.get("/users/<id>")
@app.get("/api/users/<id>")
def user(id):
    response.content_type = "text/plain"
    return f"user {id}"

@app.get("/stream")
def stream():
    response.content_type = "text/plain"
    return (f"chunk {n}" for n in range(3))

@app.get("/fail")
def fail():
    raise ValueError("as planned")

@app.error(500)
def failed(error):
    return "failed"
"""
_PYRAMID = """
from pyramid.config import Configurator
from pyramid.response import Response

def user(request):
    return Response(f"user {request.matchdict['id']}", content_type="text/plain")

def stream(request):
    return Response(app_iter=(b"chunk %d" % n for n in range(3)), content_type="text/plain")

def fail(request):
    raise ValueError("as planned")

def api(config):
    config.add_route("api user", "/users/{id}")
    config.add_view(user, route_name="api user")

with Configurator() as config:
    config.add_route("user", "/users/{id}")
    config.add_view(user, route_name="user")
    config.add_route("stream", "/stream")
    config.add_view(stream, route_name="stream")
    config.add_route("fail", "/fail")
    config.add_view(fail, route_name="fail")
    config.include(api, route_prefix="/api")
    app = config.make_wsgi_app()
"""
_AIOHTTP = """
from aiohttp import web

async def user(request):
    return web.Response(text=f"user {request.match_info['id']}")

async def stream(request):
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    for n in range(3):
        await response.write(b"chunk %d" % n)
    return response

async def fail(request):
    raise ValueError("as planned")

def make():
    app = web.Application()
    app.router.add_get("/users/{id}", user)
    return app

app = make()
app.router.add_get("/stream", stream)
app.router.add_get("/fail", fail)
app.add_subapp("/api/", make())
"""

ASGI = {
    "Starlette": _STARLETTE,
    "FastAPI": _FASTAPI,
    "Litestar": _LITESTAR,
    "Quart": _QUART,
    "Falcon (ASGI)": _FALCON.format(import_="from falcon.asgi import App", maybe_async="async "),
    "Sanic": _SANIC,
    "Django (ASGI)": _DJANGO.format(kind="asgi", maybe_async="async "),
}
"""Texts of ASGI programs whose application is `app`, by framework."""
WSGI = {
    "Flask": _FLASK,
    "Flask, dispatched": _DISPATCHER,
    "Django": _DJANGO.format(kind="wsgi", maybe_async=""),
    "Bottle": _BOTTLE,
    "Pyramid": _PYRAMID,
    "Falcon": _FALCON.format(import_="from falcon import App", maybe_async=""),
}
"""Texts of WSGI programs whose application is `app`, by framework."""
AIOHTTP = {"aiohttp": _AIOHTTP}
"""Texts of aiohttp programs whose application is `app`."""
