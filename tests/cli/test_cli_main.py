"""The command line itself: global flags, usage errors, exit codes, start-up, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from reconciler import __version__, errors
from reconciler.cli import failure
from reconciler.cli.exit_codes import ExitCode, code_for, code_of
from reconciler.cli.main import LISTING, cli, run
from reconciler.cli.options import Given, invocation
from reconciler.model.outcome import StepResult, StepStatus

ROOT = Path(__file__).parents[2]


def process(*args: str, **more) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("environ", {})}
    return subprocess.run(
        [sys.executable, *more.pop("python", ()), "-m", "reconciler", *args],
        capture_output=True,
        text=True,
        timeout=60,
        env=environ,
        **more,
    )


# --- start-up --------------------------------------------------------------------------------------------------


def imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nsys.stderr.write(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return set(done.stderr.split())


def test_the_version_is_answered_before_click_or_yaml_is_imported():
    loaded = imported(
        "sys.argv = ['reconciler', '--version']\nfrom reconciler.__main__ import main\nassert main() == 0"
    )
    assert not loaded & {"click", "yaml", "rich", "httpx", "json", "reconciler.cli"}


def test_loading_the_command_line_imports_no_command_and_nothing_heavy():
    loaded = imported("import reconciler.cli.main")
    assert not loaded & {
        "rich",
        "yaml",
        "httpx",
        "jsonschema_rs",
        "reconciler.engine.workflow",
    }
    assert not {name for name in loaded if name.startswith("reconciler.cli.commands.")}


def test_help_imports_no_command():
    loaded = imported("from reconciler.cli.main import run\nassert run(['--help']) == 0")
    assert not {name for name in loaded if name.startswith("reconciler.cli.commands.")}


# --- the end ---------------------------------------------------------------------------------------------------


def ending(code: str, **more) -> subprocess.CompletedProcess[str]:
    """A command that says its version, and does `code` before."""
    script = f"import sys\nsys.argv = ['reconciler', '--version']\n{code}\nimport reconciler.__main__ as m\nm.command()"
    return subprocess.run(
        [sys.executable, "-c", script],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        **{"stdout": subprocess.PIPE, **more},
    )


def test_a_command_that_ends_at_once_has_said_all_and_done_what_was_to_be_done_at_the_end():
    done = ending("import atexit\natexit.register(print, 'bye')")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("reconciler ")
    assert done.stdout.endswith("\nbye\n")


def test_a_command_that_ends_waits_for_a_thread_that_works():
    work = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.3), print('done'))).start()"
    assert ending(work).stdout.endswith("\ndone\n")


def test_a_command_that_ends_does_not_wait_for_a_daemon():
    work = "import threading, time\nthreading.Thread(target=time.sleep, args=(50,), daemon=True).start()"
    assert ending(work).returncode == 0


def test_a_command_that_cannot_say_the_last_of_it_fails():
    with open("/dev/full", "w") as full:
        done = ending("", stdout=full)
    assert done.returncode != 0
    assert "No space left" in done.stderr


# --- usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["paln"], "Did you mean `plan`"),
        (["frobnicate"], "There is no command `frobnicate`"),
        (["plan", "--detailed-exitcodes"], "--detailed-exitcode"),
        (["apply", "--parallelism", "0"], "parallelism"),
        (["apply", "--lock-timeout", "soon"], "30s, 5m or 1h30m"),
        (["plan", "--format", "xml"], "markdown"),
        (["plan", "extra"], "extra"),
        (["why"], "ADDRESS"),
        (["state"], "Missing command"),
        (["state", "lst"], "Did you mean `list`"),
        (["completion", "tcsh"], "fish"),
        (["completion"], "Missing argument 'SHELL'. Choose from: bash, zsh, fish"),
        (["-C", "", "plan"], "'-C' / '--chdir': it is empty"),
        (["plan", "-f", ""], "'-f' / '--file': it is empty"),
        (["plan", "--var-file", ""], "it is empty"),
        (["plan", "--var", "x"], "it is not NAME=VALUE"),
        (["plan", "--var", "=x"], "it is not NAME=VALUE"),
        (["schema", "confg"], "there is no schema 'confg' (did you mean config?)"),
        (["init", "--backend", "dokcer"], "did you mean docker?"),
        (["init", ""], "it is empty"),
        (["--no-such"], "--no-such"),
        ([], "Usage: reconciler"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_a_usage_error_is_64_and_says_what_is_meant(args, message, capsys):
    assert run(args) == 64
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_usage_error_is_a_diagnostic_with_json(capsys):
    assert run(["plan", "--no-such", "--json"]) == 64
    captured = capsys.readouterr()
    kinds = [json.loads(line) for line in captured.out.splitlines()]
    assert [data["type"] for data in kinds] == ["version", "diagnostic"]
    assert kinds[1]["code"] == "usage"
    assert captured.err == ""


@pytest.mark.parametrize("name", [name for commands in LISTING.values() for name in commands])
def test_every_listed_command_has_help_and_the_global_options(name, capsys):
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--chdir" in shown
    assert "--json" in shown


def test_the_help_reads_as_the_golden_file(golden, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert run(["--help"]) == 0
    golden("help.txt", capsys.readouterr().out)


# --- global flags ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [["--json", "version"], ["version", "--json"]],
    ids=["before the command", "after the command"],
)
def test_global_flags_work_before_and_after_the_command(args, capsys):
    assert run(args) == 0
    assert json.loads(capsys.readouterr().out)["reconciler"] == __version__


@pytest.mark.parametrize(
    "args", [["plan", "--version"], ["--no-color", "--version"], ["state", "list", "--version"]]
)
def test_the_version_is_told_anywhere(args, capsys):
    assert run(args) == 0
    assert capsys.readouterr().out == f"reconciler {__version__}\n"


def settings_of(args: list[str], monkeypatch):
    """What a command would be called with."""
    given = Given()
    made = cli.get_command(click.Context(cli), "plan")
    monkeypatch.setattr(made, "callback", lambda **_: 0)
    cli.main(args=args, prog_name="reconciler", standalone_mode=False, obj=given)
    return given.settings()


def test_lists_given_before_and_after_the_command_add_up(monkeypatch):
    args = ["-f", "a.yaml", "--var", "x=1", "plan", "-f", "b.yaml", "--var", "y=2", "--var-file", "v.yaml"]
    settings = settings_of(args, monkeypatch)
    assert settings.files == ("a.yaml", "b.yaml")
    assert settings.var == ("x=1", "y=2")
    assert settings.var_files == ("v.yaml",)


def test_the_last_directory_counts_and_is_absolute(monkeypatch, tmp_path):
    settings = settings_of(["-C", "/nowhere", "plan", "-C", str(tmp_path)], monkeypatch)
    assert settings.directory == str(tmp_path)


def test_a_flag_given_before_is_not_undone_by_its_absence_after(monkeypatch):
    settings = settings_of(["-q", "--no-color", "plan"], monkeypatch)
    assert (settings.quiet, settings.no_color, settings.json) == (True, True, False)


# --- exit codes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 3),
        (errors.StoreError("x"), 1),
        (errors.StateTooNew("x"), 1),
        (errors.LockHeld("x"), 4),
        (errors.LeaseLost("x"), 1),
        (errors.ObservationIncomplete("x"), 1),
        (errors.PlanStale("x"), 6),
        (errors.Refused("x"), 7),
        (errors.Unavailable("x"), 1),
        (errors.NotFound("x"), 1),
        (KeyboardInterrupt(), 130),
        (ValueError("a bug"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_each_error_has_its_exit_code(error, code):
    assert code_for(error) == code


@pytest.mark.parametrize(
    ("statuses", "interrupted", "code"),
    [
        ([], False, 0),
        ([StepStatus.DONE], False, 0),
        ([StepStatus.DONE, StepStatus.FAILED], False, 5),
        ([StepStatus.SKIPPED], False, 5),
        ([StepStatus.STALE, StepStatus.DONE], False, 6),
        ([StepStatus.STALE], False, 6),
        ([StepStatus.STALE, StepStatus.SKIPPED, StepStatus.DONE], False, 6),
        ([StepStatus.STALE, StepStatus.FAILED], False, 5),
        ([StepStatus.STALE, StepStatus.SKIPPED, StepStatus.FAILED], False, 5),
        ([StepStatus.STALE, StepStatus.NOT_STARTED], False, 5),
        ([StepStatus.NOT_STARTED], True, 130),
    ],
)
def test_an_apply_ends_in_the_code_of_its_results(statuses, interrupted, code):
    outcomes = [StepResult(address="a", action="create", status=status) for status in statuses]
    assert code_of(outcomes, interrupted=interrupted) == code


def test_the_codes_are_those_of_the_documentation():
    assert sorted(map(int, ExitCode)) == [0, 1, 2, 3, 4, 5, 6, 7, 64, 130]


# --- failures --------------------------------------------------------------------------------------------------


def told(capsys, error: BaseException, *flags: str) -> tuple[str, str]:
    given = Given(dict.fromkeys(flags, True))
    show = failure.known if isinstance(error, errors.ReconcilerError) else failure.unknown
    show(error, invocation(given, "run"))
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_a_known_error_says_what_and_what_next(capsys):
    _, err = told(capsys, errors.StoreError("state/x.json cannot be read: denied", hint="check its owner"))
    assert err == "error: state/x.json cannot be read: denied\n  check its owner\n"


def test_a_held_lock_says_how_to_wait(capsys):
    _, err = told(capsys, errors.LockHeld("the lock is held by ann@host"))
    assert "--lock-timeout" in err


def test_a_bug_is_one_line_without_a_traceback(capsys):
    _, err = told(capsys, ZeroDivisionError("division by zero"))
    assert err.startswith("error: internal error: ZeroDivisionError: division by zero\n")
    assert "please report it" in err
    assert "Traceback" not in err


def test_a_bug_has_its_traceback_when_asked_for(capsys):
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError as error:
        _, err = told(capsys, error, "verbose")
    assert "Traceback" in err
    assert "test_cli_main.py" in err


def test_an_error_is_a_diagnostic_with_json_and_stderr_stays_empty(capsys):
    out, err = told(capsys, errors.LockHeld("held", hint="wait"), "json")
    data = json.loads(out.splitlines()[1])
    assert (data["type"], data["code"], data["fix"]) == ("diagnostic", "lock-held", "wait")
    assert err == ""


def test_escapes_in_an_error_are_written_out(capsys):
    _, err = told(capsys, errors.Unavailable("engine said \x1b[2Jboo", hint="\x1b]0;x\x07"))
    assert "\x1b" not in err


# --- completion and broken pipes -------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_calls_back(shell, capsys):
    assert run(["completion", shell]) == 0
    assert "_RECONCILER_COMPLETE" in capsys.readouterr().out


def test_bash_takes_the_completion_script():
    script = process("completion", "bash").stdout
    done = subprocess.run(
        ["bash", "-c", f"{script}\ncomplete -p reconciler"], capture_output=True, text=True, timeout=30
    )
    assert "_reconciler_completion" in done.stdout


def test_commands_and_options_are_completed():
    names = process(
        environ={"_RECONCILER_COMPLETE": "bash_complete", "COMP_WORDS": "reconciler st", "COMP_CWORD": "1"}
    )
    assert names.stdout.split() == ["plain,status", "plain,state"]
    flags = process(
        environ={
            "_RECONCILER_COMPLETE": "bash_complete",
            "COMP_WORDS": "reconciler plan --de",
            "COMP_CWORD": "2",
        }
    )
    assert flags.stdout.split() == ["plain,--detailed-exitcode", "plain,--destroy"]


def test_a_reader_that_leaves_early_is_no_reason_to_complain():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "completion", "bash"],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.stderr == ""
    assert done.returncode == 1
