"""The HTTP server inside a sandbox of the process backend: the AIO subset that agents use.

Runs under `python -I -S`, also where nothing else of this project is visible: imports the standard library and its
own files only. Start-up time is its main figure (every sandbox pays it), which is why `wire` speaks HTTP itself and
why nothing here imports `typing` or `dataclasses` or, before it is needed, `json` or `subprocess`: together with the
standard library's HTTP server they would more than double it.
"""
