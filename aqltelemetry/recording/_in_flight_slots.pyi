from aqltelemetry.recording.in_flight_slots import NO_HANDLE as NO_HANDLE
from aqltelemetry.recording.in_flight_slots import claim as claim
from aqltelemetry.recording.in_flight_slots import count as count
from aqltelemetry.recording.in_flight_slots import install as install
from aqltelemetry.recording.in_flight_slots import installed as installed
from aqltelemetry.recording.in_flight_slots import release as release
from aqltelemetry.recording.in_flight_slots import used as used
