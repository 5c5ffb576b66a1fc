"""A Flask service that is recorded."""

import time

from flask import Flask

from aqltelemetry import time_block
from aqltelemetry.wsgi import TelemetryMiddleware

app = Flask(__name__)
app.wsgi_app = TelemetryMiddleware(app.wsgi_app, "_monitoring")


@app.get("/users/<user>")
def get_user(user: str) -> dict[str, str]:
    """Answer after a while, which is timed by itself."""
    with time_block("db query"):
        time.sleep(0.002)
    return {"user": user}
