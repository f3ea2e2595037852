"""What TensorBoard reads in the event file of the fixture. tensorboard 2.21.0, Python 3.11.

FIRE_WRITE_EVENTS=1 npx vitest run test/train/tensorboard.test.ts    writes the event file
python test/train/generate_tensorboard.py                            writes read.json
"""
import json
import pathlib
import tempfile

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.compat.proto import event_pb2
from tensorboard.util import tensor_util

folder = pathlib.Path(__file__).parent / "tensorboard"
path = folder / "events.out.tfevents.fixture"

events = [event_pb2.Event.FromString(raw) for raw in RawEventFileLoader(str(path)).Load()]

with tempfile.TemporaryDirectory() as logs:
    run = pathlib.Path(logs) / "run"
    run.mkdir()
    (run / path.name).write_bytes(path.read_bytes())
    multiplexer = EventMultiplexer().AddRunsFromDirectory(logs).Reload()
    scalars = {
        tag: [
            [event.wall_time, event.step, tensor_util.make_ndarray(event.tensor_proto).item()]
            for event in multiplexer.Tensors("run", tag)
        ]
        for tag in multiplexer.Runs()["run"]["tensors"]
    }

read = {"events": [{"wallTime": e.wall_time, "step": e.step} for e in events], "scalars": scalars}
(folder / "read.json").write_text(json.dumps(read, indent=2) + "\n")
