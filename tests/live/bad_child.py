"""Children that misbehave as a supervisor must survive: `python -m tests.live.bad_child BEHAVIOUR FILE`.

FILE counts the incarnations, so that a child can behave badly first and well later.
"""

import json
import sys
import time
from pathlib import Path

BEHAVIOUR, COUNTER = sys.argv[1], Path(sys.argv[2])


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


incarnation = int(COUNTER.read_text() or 0) + 1 if COUNTER.exists() else 1
COUNTER.write_text(str(incarnation))

if BEHAVIOUR == "error":
    say("error", reason="no such model")
    sys.exit(2)
if BEHAVIOUR == "crash_when_ready" or (BEHAVIOUR == "crash_once" and incarnation == 1):
    say("ready")
    time.sleep(0.2)
    raise RuntimeError("the first one breaks")
if BEHAVIOUR == "never_ready":
    time.sleep(60)
say("ready")
if BEHAVIOUR == "stubborn":
    time.sleep(60)
sys.stdin.read()
