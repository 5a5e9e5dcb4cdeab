"""The commands on a running bank, over real HTTP; what a person reads when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from serve.cli import app, main
from serve.doctor import Finding
from tests.serve.bank import TinyBank, eventually

KEY = "the-admin-key"


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyBank]:
    """A bank that runs for all tests of this file; each uses names of its own."""
    bank = TinyBank(tmp_path_factory.mktemp("bank"), overrides={"server__admin_key": KEY})
    with bank.ticking():
        yield bank
    bank.registry.close()


@pytest.fixture(scope="module")
def url(bank: TinyBank) -> Iterator[str]:
    with bank.over_http() as url:
        yield url


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("MERGEPROBE_URL", url)
    monkeypatch.setenv("MERGEPROBE_ADMIN_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "200")


def run(*args: str) -> str:
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    return result.output


def run_json(*args: str) -> Any:
    return json.loads(run(*args, "--json"))


def error_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Run the command as a shell does; return its one line on standard error."""
    monkeypatch.setattr("sys.argv", ["mergeprobe", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert caught.value.code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


def register(bank: TinyBank, name: str, *options: str) -> Any:
    return run_json("register", name, str(bank.source(name)), *options)


# A life of an adapter


def test_an_adapter_is_registered_shown_listed_and_removed(bank: TinyBank) -> None:
    [adapter] = register(bank, "life", "--domain", "math", "--wait")
    assert (adapter["name"], adapter["state"], adapter["domain"]) == ("life", "serving", "math")
    shown = run_json("show", "life")
    assert shown["revision"] == adapter["revision"]
    assert "life" in [one["name"] for one in run_json("list")]
    assert run("remove", "life") == "life is removed\n"
    assert "life" not in [one["name"] for one in run_json("list")]


def test_tables_show_what_json_shows(bank: TinyBank) -> None:
    [adapter] = register(bank, "table", "--wait")
    listed = run("list")
    for text in ("table", "serving", "separate", adapter["module"], adapter["revision"][:12]):
        assert text in listed
    assert adapter["source"] in run("show", "table").replace("\n", "")
    assert run_json("plan", "--apply")["state"] == "applied"
    plans = run("plans")
    for plan in run_json("plans"):
        assert plan["id"] in plans


def test_every_option_reaches_the_bank(bank: TinyBank) -> None:
    folder = bank.source("options")
    rows = str(folder / "evaluation.jsonl")
    options = ("--protected", "--domain", "code", "--evaluation", rows, "--expected-revision", "")
    [adapter] = run_json("register", "options", str(folder), *options)
    assert (adapter["protected"], adapter["domain"], adapter["state"]) == (True, "code", "pending")
    assert bank.registry.adapter("options").evaluation is not None


def test_a_plan_without_apply_is_only_proposed(bank: TinyBank) -> None:
    register(bank, "proposal", "--wait")
    epoch = bank.registry.epoch()
    made = run_json("plan")
    assert made["state"] == "proposed"
    assert "proposal" in [decision["adapter"] for decision in made["decisions"]]
    assert bank.registry.epoch() == epoch
    assert "proposed" in run("plan")


def test_plans_are_limited(bank: TinyBank) -> None:
    made = [run_json("plan")["id"] for _ in range(3)]
    assert [plan["id"] for plan in run_json("plans", "--limit", "2")] == [made[2], made[1]]


def test_a_protected_adapter_is_removed_by_force_only(
    bank: TinyBank, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(bank, "guarded", "--protected", "--wait")
    assert "is protected" in error_of(monkeypatch, capsys, "remove", "guarded")
    assert run("remove", "guarded", "--force", "--no-wait") == "guarded is leaving\n"
    eventually(lambda: "guarded" not in [adapter.name for adapter in bank.registry.adapters()])


# Errors are one line


def test_an_unknown_adapter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No adapter is named 'ghost'" in error_of(monkeypatch, capsys, "show", "ghost")


def test_a_refused_source(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "leads out of the folders" in error_of(monkeypatch, capsys, "register", "a", "/etc")


def test_a_wrong_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not open the admin plane" in error_of(monkeypatch, capsys, "list", "--admin-key", "wrong")


def test_no_bank_at_the_url(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told = error_of(monkeypatch, capsys, "list", "--url", "http://127.0.0.1:9")
    assert "no bank answers at http://127.0.0.1:9" in told
    assert "mergeprobe serve" in told


@pytest.mark.parametrize("wrong", ["localhost:8000", "nonsense", "http://127.0.0.1:port"])
def test_a_url_that_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    assert wrong in error_of(monkeypatch, capsys, "list", "--url", wrong)


def test_something_else_than_a_bank_at_the_url(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert "answered 404" in error_of(monkeypatch, capsys, "list", "--url", f"{url}/elsewhere")


def test_a_tick_that_fails(bank: TinyBank, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(plan: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(bank.bank.clockwork, "_tick", fail)
    assert "failed: planted" in error_of(monkeypatch, capsys, "plan", "--apply")


# Commands that need no bank


def findings(*each: Finding) -> Any:
    return lambda config: list(each)


def test_doctor_ends_with_0_only_if_all_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("serve.doctor.examine", findings(Finding("python", True, "3.11.2", "use 3.11")))
    good = CliRunner().invoke(app, ["doctor", "--state", str(tmp_path)])
    assert good.exit_code == 0
    assert "use 3.11" not in good.output, "what is well needs no mending"
    monkeypatch.setattr("serve.doctor.examine", findings(Finding("port", False, "taken", "take another")))
    bad = CliRunner().invoke(app, ["doctor", "--state", str(tmp_path)])
    assert bad.exit_code == 1
    assert "take another" in bad.output
    as_json = CliRunner().invoke(app, ["doctor", "--json"])
    assert json.loads(as_json.output) == [{"subject": "port", "ok": False, "seen": "taken", "mend": "take another"}]


def test_doctor_tells_a_bad_configuration_in_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bank.yaml").write_text("server: {prot: 1}")
    result = CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / "bank.yaml")])
    assert result.exit_code == 1
    assert "server.prot" in str(result.exception)


def test_presets_are_listed_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    assert "demo" in run("bank", "build", "--preset", "list", "--out", str(tmp_path)).split()
    result = CliRunner().invoke(app, ["bank", "build", "--preset", "nonsense", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


# Help


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = list(commands(typer.main.get_command(app)))


def test_the_commands_are_those_of_the_design() -> None:
    wanted = {"serve", "doctor", "register", "list", "show", "remove", "plan", "plans", "bank build"}
    wanted |= {"approve", "reject", "rollback"}
    assert {" ".join(path) for path in COMMANDS} >= wanted


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_an_example_of_it(path: tuple[str, ...]) -> None:
    told = click.unstyle(run(*path, "--help"))
    assert f"Example: mergeprobe {' '.join(path)}" in told


def test_without_a_command_the_help_is_shown() -> None:
    result = CliRunner().invoke(app, [])
    assert all(path[0] in result.output for path in COMMANDS)
