"""A Django service, in one file, that is recorded."""

import time

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from aqltelemetry import time_block
from aqltelemetry.wsgi import TelemetryMiddleware

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of an example")


def user(request: HttpRequest, user: str) -> JsonResponse:
    """Answer after a while, which is timed by itself."""
    with time_block("db query"):
        time.sleep(0.002)
    return JsonResponse({"user": user})


urlpatterns = [path("users/<str:user>", user)]
app = TelemetryMiddleware(get_wsgi_application(), "_monitoring")
