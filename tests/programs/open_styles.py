"""Open styles by names; prints as JSON the exit statuses of their errors, and the files that were opened meanwhile.

Argument: the names as JSON.
"""

import json
import sys

from fastnst.engine import open_engine
from fastnst.errors import FastnstError

opened, statuses = [], []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
for name in json.loads(sys.argv[1]):
    try:
        open_engine(name)
    except FastnstError as error:
        statuses.append(error.exit_status)
print(json.dumps([statuses, opened]))
