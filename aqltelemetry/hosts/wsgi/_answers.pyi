from aqltelemetry.hosts.wsgi.answers import Answer as Answer
from aqltelemetry.hosts.wsgi.answers import Requests as Requests
