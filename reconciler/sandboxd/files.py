"""What the file routes do to the file system. Paths are absolute, or relative to the home directory.

Raises `Refusal` with the status that says what was wrong: 404 for what is not there, 403 for what may not be done.
"""

from __future__ import annotations

import os
import stat

from reconciler.sandboxd.wire import Answer, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Body = dict[str, Any]
    Entries = list[Body]

MAX_TEXT = 32 * 1024 * 1024
MAX_ENTRIES = 10_000


class Files:
    def __init__(self, home: str) -> None:
        self._home = home

    def path(self, text: object) -> str:
        if not isinstance(text, str) or not text or "\0" in text:
            raise Refusal(400, "the path must be a non-empty string")
        try:
            os.fsencode(text)
        except UnicodeEncodeError as error:
            raise Refusal(400, "the path holds a character that no file's name can") from error
        if text == "~" or text.startswith("~/"):
            text = self._home + text[1:]
        return os.path.join(self._home, text)

    def read(self, body: Body) -> Body:
        """Lines `start_line` (from 0) up to, not including, `end_line`; all of them without."""
        path = self.path(body.get("file"))
        text = self._text(path)
        start, end = number(body, "start_line"), number(body, "end_line")
        if start is not None or end is not None:
            text = "".join(text.splitlines(keepends=True)[start or 0 : end])
        return {"content": text, "file": path}

    def write(self, body: Body) -> Body:
        """Creates missing directories. `bytes_written` counts bytes, not characters."""
        path = self.path(body.get("file"))
        data = _content(body)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "ab" if body.get("append") else "wb") as file:
                file.write(data)
        except OSError as error:
            raise refusal(error, path) from error
        return {"file": path, "bytes_written": len(data)}

    def replace(self, body: Body) -> Body:
        path, old, new = self.path(body.get("file")), body.get("old_str"), body.get("new_str")
        if not isinstance(old, str) or not old or not isinstance(new, str):
            raise Refusal(400, "old_str must be a non-empty string and new_str a string")
        text = self._text(path, errors="strict")
        count = text.count(old)
        if count:
            try:
                with open(path, "w", encoding="utf-8", newline="") as file:
                    file.write(text.replace(old, new))
            except OSError as error:
                raise refusal(error, path) from error
        return {"file": path, "replaced_count": count}

    def search(self, body: Body) -> Body:
        import re

        path = self.path(body.get("file"))
        try:
            pattern = re.compile(str(body.get("regex", "")))
        except re.error as error:
            raise Refusal(400, f"regex: {error}") from error
        hits = [(i, line) for i, line in enumerate(self._text(path).splitlines()) if pattern.search(line)]
        return {"file": path, "matches": [line for _, line in hits], "line_numbers": [i for i, _ in hits]}

    def find(self, body: Body) -> Body:
        import fnmatch

        path, glob = self.path(body.get("path")), str(body.get("glob") or "*")
        found: list[str] = []
        for directory, folders, names in os.walk(self._directory(path)):
            folders.sort()
            found += [os.path.join(directory, n) for n in sorted(names) if fnmatch.fnmatch(n, glob)]
            if len(found) >= MAX_ENTRIES:
                break
        return {"path": path, "files": found[:MAX_ENTRIES]}

    def list(self, body: Body) -> Body:
        path = self._directory(self.path(body.get("path")))
        depth = (number(body, "max_depth") or 64) if body.get("recursive") else 1
        entries = sorted(
            self._entries(path, depth, bool(body.get("show_hidden"))), key=lambda e: str(e["path"])
        )
        kinds = body.get("file_types")
        if kinds:
            entries = [entry for entry in entries if entry["is_directory"] or entry["extension"] in kinds]
        directories = sum(bool(entry["is_directory"]) for entry in entries)
        return {
            "path": path,
            "files": entries,
            "total_count": len(entries),
            "directory_count": directories,
            "file_count": len(entries) - directories,
        }

    def _entries(self, path: str, depth: int, hidden: bool) -> Entries:
        entries: Entries = []
        waiting = [(path, 1)]
        while waiting and len(entries) < MAX_ENTRIES:
            directory, level = waiting.pop()
            try:
                with os.scandir(directory) as found:
                    for entry in found:
                        if hidden or not entry.name.startswith("."):
                            entries.append(_describe(entry))
                            if level < depth and entry.is_dir(follow_symlinks=False):
                                waiting.append((entry.path, level + 1))
            except OSError as error:
                if directory == path:
                    raise refusal(error, path) from error
        return entries

    def download(self, path_text: str) -> Answer:
        """Streams: the file is never held in memory."""
        from urllib.parse import quote

        path = self.path(path_text)
        try:
            file = open(path, "rb")  # noqa: SIM115 - the connection closes it when it is sent
        except OSError as error:
            raise refusal(error, path) from error
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise Refusal(400, f"{path} is not a regular file")
        name = quote(os.path.basename(path), errors="surrogateescape")
        return Answer(
            content_type="application/octet-stream",
            headers={"Content-Disposition": f"attachment; filename*=utf-8''{name}"},
            file=file,
            length=status.st_size,
        )

    def _directory(self, path: str) -> str:
        if not os.path.isdir(path):
            raise Refusal(404, f"{path} is not a directory")
        return path

    def _text(self, path: str, errors: str = "replace") -> str:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise Refusal(400, f"{path} is not a regular file")
            with open(path, "rb") as file:
                data = file.read(MAX_TEXT + 1)
        except OSError as error:
            raise refusal(error, path) from error
        if len(data) > MAX_TEXT:
            raise Refusal(413, f"{path} is over {MAX_TEXT // 1024 // 1024} MiB: use /v1/file/download")
        try:
            return data.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise Refusal(400, f"{path} is not UTF-8 text") from error


def number(body: Body, name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Refusal(400, f"{name} must be a number, 0 or more")
    return value


def refusal(error: OSError, path: str) -> Refusal:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return Refusal(404, f"{path} is not there")
    if isinstance(error, IsADirectoryError):
        return Refusal(400, f"{path} is a directory")
    if isinstance(error, PermissionError) or error.errno == 30:  # EROFS
        return Refusal(403, f"{path}: {error.strerror}")
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return Refusal(507, f"{path}: {error.strerror}")
    return Refusal(400, f"{path}: {error.strerror or error}")


def _content(body: Body) -> bytes:
    content, encoding = body.get("content"), body.get("encoding") or "utf-8"
    if not isinstance(content, str):
        raise Refusal(400, "content must be a string")
    if encoding == "base64":
        import binascii

        try:
            return binascii.a2b_base64(content, strict_mode=True)
        except binascii.Error as error:
            raise Refusal(400, f"content is not base64: {error}") from error
    if encoding not in ("utf-8", "raw"):
        raise Refusal(400, f"encoding {encoding!r} is not known: utf-8, base64 or raw")
    text = ("\n" if body.get("leading_newline") else "") + content
    return (text + ("\n" if body.get("trailing_newline") else "")).encode("utf-8", "surrogatepass")


def _describe(entry: os.DirEntry[str]) -> Body:
    from datetime import UTC, datetime

    directory = entry.is_dir(follow_symlinks=False)
    described: Body = {
        "name": entry.name,
        "path": entry.path,
        "is_directory": directory,
        "extension": os.path.splitext(entry.name)[1],
    }
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:  # gone between the listing and the look
        return described
    described["size"] = None if directory else status.st_size
    described["modified_time"] = datetime.fromtimestamp(status.st_mtime, UTC).isoformat()
    described["permissions"] = oct(stat.S_IMODE(status.st_mode))[2:]
    return described
