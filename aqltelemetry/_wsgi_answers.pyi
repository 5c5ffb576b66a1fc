from aqltelemetry.wsgi_answers import Answer as Answer
from aqltelemetry.wsgi_answers import Requests as Requests
