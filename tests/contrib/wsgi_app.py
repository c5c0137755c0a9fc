"""The applications that the tests serve with gunicorn: the same pages in Flask and in Django."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import django
import django.conf
import django.http
import django.urls
import flask
import redis
from django.core.wsgi import get_wsgi_application

from nexus_redis import Nexus
from nexus_redis.contrib.wsgi import Limit, ReportLoad
from tests.harness.support import now

URL = os.environ["NEXUS_REDIS_URL"]
RATE = 5

nexus = Nexus.from_url(URL)  # before gunicorn forks
consumer = nexus.budget("web").consumer(interval=0.05)
visitors = nexus.budget("visitors", rate=RATE)


def chunks() -> Iterator[bytes]:
    """Yield a body that ends when the test says so."""
    yield b"first"
    with redis.Redis.from_url(URL) as client:
        while not client.blpop(["go"], 0.05):
            yield b"more"
    yield b"last"


# --- Flask

pages = flask.Flask(__name__)


@pages.get("/")
def _hello() -> str:
    return f"{now()} {os.getpid()}"  # the time of the one clock that all processes of a host share


@pages.get("/health")
def _health() -> str:
    return "well"


@pages.get("/busy")
def _busy() -> tuple[str, int]:
    return "busy", 503


@pages.get("/boom")
def _boom() -> str:
    raise LookupError("as asked")


@pages.get("/stream")
def _stream() -> flask.Response:
    return flask.Response(chunks())


# --- Django

urlpatterns = [
    django.urls.path("", lambda _: django.http.HttpResponse(_hello())),
    django.urls.path("health", lambda _: django.http.HttpResponse(_health())),
    django.urls.path("busy", lambda _: django.http.HttpResponse("busy", status=503)),
    django.urls.path("boom", lambda _: django.http.HttpResponse(_boom())),
    django.urls.path("stream", lambda _: django.http.StreamingHttpResponse(chunks())),
]
django.conf.settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="made up", LOGGING_CONFIG=None, MIDDLEWARE=[]
)


def _is_counted(environ: dict[str, Any]) -> bool:
    return bool(environ["PATH_INFO"] != "/health")


flask_reports = ReportLoad(pages.wsgi_app, consumer, cost=_is_counted)
flask_limits = Limit(pages.wsgi_app, visitors, cost=_is_counted)
django_reports = ReportLoad(get_wsgi_application(), consumer, cost=_is_counted)
