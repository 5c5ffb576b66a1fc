from __future__ import annotations

import json
import subprocess
import sys

_DJANGO = """
import json, sys
from django import urls
from aqltelemetry.hosts.asgi.routes import AsgiRoutes
from aqltelemetry.hosts.routes import django_template
unused = django_template("/users/7")
from django.conf import settings
view = lambda request, **parts: None
years = [
    urls.re_path(r"^(?P<year>[0-9]{4})/$", view),
    urls.re_path(r"^(?P<year>(19|20)\\d\\d)/(?:page-(?P<page>\\d+)/)?all\\.html$", view),
    urls.re_path(r"^(\\w+)/(?:a|b)/(\\d(x|y))\\Z", view),
]
urlpatterns = [
    urls.path("", view),
    urls.path("gr\u00f6\u00dfe/<int:user>", view),
    urls.path("api/<slug:version>/", urls.include([urls.path("items/<int:item>/", view)])),
    urls.re_path(r"^archive/", urls.include(years)),
    urls.path("mixed/<str:name>/", urls.include(years)),
    urls.re_path(r"^any/.*$", view),
    urls.re_path(r"^file[0-9]+\\-\\d{2}/?$", view),
    urls.re_path(r"^names/(?P<name>[)(]+)/$", view),
]
settings.configure(ROOT_URLCONF=__name__)
found = {"unused": unused}
for path in json.load(sys.stdin):
    found[path] = [
        django_template(path),
        AsgiRoutes().template({"path": "/root" + path, "root_path": "/root"}),
    ]
json.dump(found, sys.stdout)
"""
_DJANGO_TEMPLATES = {
    "/": "/",
    "": "/",
    "/gr\u00f6\u00dfe/7": "/gr\u00f6\u00dfe/{user}",
    "/api/v2/items/7/": "/api/{version}/items/{item}/",
    "/archive/1999/": "/archive/{year}/",
    "/archive/1999/all.html": "/archive/{year}/all.html",
    "/archive/1999/page-7/all.html": "/archive/{year}/all.html",
    "/archive/x/a/7x": "/archive/{var}//{var}",
    "/mixed/me/1999/": "/mixed/{name}/{year}/",
    "/any/thing/at/all": "/any/*",
    "/file12-34": "/file*-*/",
    "/names/()/": "/names/{name}/",
    "/none": None,
}


def test_djangos_route_is_resolved_from_the_path() -> None:
    """In its own process, since Django is configured once in a process."""
    command = [sys.executable, "-W", "error", "-c", _DJANGO]
    given = json.dumps([*_DJANGO_TEMPLATES])
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, input=given
    )
    found = json.loads(done.stdout)
    assert found.pop("unused") is None
    assert found == {path: [template] * 2 for path, template in _DJANGO_TEMPLATES.items()}
