"""The Markdown of this repository as plain data: pages, links, headings, code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# How a watch is run, not what it looks after: tests/ci/ tries these.
DEPLOYMENTS = {"container", "cron", "kubernetes", "systemd"}
EXAMPLES = sorted(
    path.name
    for path in (ROOT / "examples").iterdir()
    if path.is_dir() and path.name[0] != "_" and path.name not in DEPLOYMENTS
)
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
        *ROOT.glob("state/*.md"),
    ]
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


def prose(text: str) -> str:
    """Without fenced code."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    return _LINK.findall(prose(text))


def anchors(text: str) -> set[str]:
    """What `#…` may point to: each heading, as GitHub makes it."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def code_lines(text: str) -> list[str]:
    """Every line of fenced shell code and every inline code, prompts left out."""
    fenced = [line for kind, body in _FENCE.findall(text) if kind != "yaml" for line in body.splitlines()]
    return [line.strip().removeprefix("$ ") for line in [*fenced, *_CODE.findall(prose(text))]]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))
