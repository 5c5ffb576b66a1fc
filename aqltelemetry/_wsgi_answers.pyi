from aqltelemetry.wsgi_answers import Answer as Answer
