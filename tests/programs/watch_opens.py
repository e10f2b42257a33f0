"""Run the command line; prints as JSON its status, the files that were opened, and whether onnxruntime was imported."""

import json
import sys

opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)

from fastnst.cli import main  # noqa: E402 (its imports are watched, too)

status = main(sys.argv[1:])
print(json.dumps([status, opened, "onnxruntime" in sys.modules]))
