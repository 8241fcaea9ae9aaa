"""Makes features of the test vectors and compares.

    python ops/interchange/vectors.py tests/fixtures/feature_vectors.json
"""

import json
import sys
from pathlib import Path

from features import ColumnError, Features, canonical, joint_key, slot_key


def key(text: str) -> int:
    return int(text, 16)


def main(vectors: dict) -> None:
    for said in vectors["slot_keys"]:
        assert slot_key(said["table"], said["value"]) == key(said["key"]), said
    for said in vectors["joint_keys"]:
        assert joint_key(said["name"], [key(part) for part in said["keys"]]) == key(said["key"]), said
    for said in vectors["texts"]:
        assert canonical(said["value"]) == said["text"], said
    for value in vectors["refused"]:
        try:
            raise AssertionError(f"{value!r} is taken for {canonical(value)!r}")
        except ColumnError:
            pass
    features = Features(vectors["schema"])
    for said in vectors["examples"]:
        found = features.of(said["time_ms"], said["columns"])
        assert found.ids == [[key(text) for text in slot] for slot in said["slots"]], (said, found)
        assert found.click_rates == [key(text) for text in said["click_rates"]], (said, found)
        assert all(abs(a - b) <= 1e-6 * max(1, abs(b)) for a, b in zip(found.numbers, said["numbers"], strict=True)), (said, found)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
