"""`gh api` against the forge of the tests: the options that the examples use, jq's filter run by the real jq.

An option that it does not know is an error, as it is for gh.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen


def main() -> None:
    parser = argparse.ArgumentParser(prog="gh", allow_abbrev=False)
    parser.add_argument("command", choices=["api"])
    parser.add_argument("path")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--paginate", action="store_true")
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--jq")
    parser.add_argument("--field", action="append", default=[])
    given = parser.parse_args()
    fields = dict(each.split("=", 1) for each in given.field)
    body = {k: Path(v[1:]).read_text() if v.startswith("@") else v for k, v in fields.items()}
    page = 1
    while True:
        path = f"{given.path}{'&' if '?' in given.path else '?'}page={page}" if given.paginate else given.path
        answer = _ask(given.method, path, body)
        if given.jq is not None:
            subprocess.run(["jq", "-r", given.jq], input=json.dumps(answer), text=True, check=True)
        elif not given.silent:
            print(json.dumps(answer))
        if not given.paginate or not answer:
            break
        page += 1


def _ask(method: str, path: str, body: dict[str, str]) -> object:
    request = Request(
        f"{os.environ['FORGE']}/{path}",
        method=method,
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": os.environ["GH_TOKEN"], "Content-Type": "application/json"},
    )
    with urlopen(request, timeout=20) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
