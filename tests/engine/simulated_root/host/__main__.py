"""A simulated `host`, for clouds without machines: reads the document, and answers as the real one would."""

import json
import sys

document = json.load(sys.stdin)
answers = {
    "first-contact": {"host_key": document["host_key"]},
    "converge": {"operations": 0, "changed": 0},
    "ops": {"operations": 0, "changed": 0},
    "grants": {"databases": document.get("database", {}).get("databases", [])},
}
print(json.dumps(answers[sys.argv[1]]))
