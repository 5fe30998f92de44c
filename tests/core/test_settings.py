"""Settings: where they come from, and that a bad one is found at once and by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from greenroom import Settings


def test_defaults_are_the_documented_ones_and_cannot_be_changed() -> None:
    settings = Settings()
    assert (settings.window, settings.log_bytes, settings.mailbox_messages) == (120, 2**20, 1000)
    assert (settings.expose, settings.on_error, settings.debug) == ("public", "rollback", False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.window = 1  # type: ignore[misc]
    assert settings.but(window=1.0).window == 1
    assert settings.window == 120
    assert "s3cret" not in repr(Settings(secret="s3cret"))


def test_the_environment_is_read_by_name_and_type() -> None:
    environ = {
        "GREENROOM_SECRET": "s3cret",
        "GREENROOM_DEBUG": "yes",
        "GREENROOM_LOG_TO_CLIENT": "off",
        "GREENROOM_WINDOW": "1.5",
        "GREENROOM_WORKERS": "3",
        "GREENROOM_ORIGINS": "https://a.example, https://b.example,",
        "GREENROOM_HOSTS": "",
        "GREENROOM_TURN_TIMEOUT": "none",
        "GREENROOM_AUTHORIZE": "os.system",  # no text makes a function
        "GREENROOM_TRACE": "1",  # a switch of the build, none of ours
        "WINDOW": "7",
    }
    settings = Settings.from_env(environ)
    assert settings == Settings(
        secret="s3cret",
        debug=True,
        window=1.5,
        workers=3,
        origins=("https://a.example", "https://b.example"),
    )
    assert Settings.from_env(environ, window=9, workers=4).window == 9
    assert Settings.from_env({"GREENROOM_TURN_TIMEOUT": "2"}).turn_timeout == 2
    assert Settings.from_env({"GREENROOM_SECRET": ""}).secret is None


def test_the_environment_of_the_process_is_the_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenroom import App

    monkeypatch.setenv("GREENROOM_MAX_LINKS", "3")
    assert App().settings.max_links == 3
    assert App(settings=Settings()).settings.max_links == 16


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("WINDOW", "soon", "GREENROOM_WINDOW must be a number"),
        ("WORKERS", "1.5", "GREENROOM_WORKERS must be a number"),
        ("DEBUG", "maybe", "GREENROOM_DEBUG must be true or false"),
        ("EXPOSE", "all", "expose must be one of public, decorated"),
        ("WINDOW", "-1", "window must not be negative"),
        ("WINDOW", "nan", "window must not be negative"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Settings.from_env({f"GREENROOM_{name}": value})


def test_a_file_may_hold_a_table_or_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "greenroom.toml"
    path.write_text('[greenroom]\nwindow = 5\norigins = ["https://a.example"]\n[other]\nx = 1\n')
    settings = Settings.from_toml(path, debug=True)
    assert settings == Settings(window=5.0, origins=("https://a.example",), debug=True)
    path.write_text("window = 6.5\n")
    assert Settings.from_toml(str(path)).window == 6.5
    for text in ("windows = 5\n", '[greenroom]\nauthorize = "x"\n'):
        path.write_text(text)
        with pytest.raises(ValueError, match="unknown setting"):
            Settings.from_toml(path)
    path.write_text('ping = "fast"\n')
    with pytest.raises(TypeError, match="ping must be a number, got 'fast'"):
        Settings.from_toml(path)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ping", "20", "a number"),
        ("ping", True, "a number"),
        ("workers", 1.5, "a whole number"),
        ("debug", 1, "true or false"),
        ("secret", 5, "a string"),
        ("origins", "https://a.example", "a list of strings"),  # each letter would be one
        ("hosts", [1], "a list of strings"),
        ("authorize", "everybody", "a function"),
        ("window", None, "a number"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(name: str, value: Any, says: str) -> None:
    with pytest.raises(TypeError, match=f"Settings.{name} must be {says}"):
        Settings(**{name: value})


def test_values_that_fit_are_taken() -> None:
    settings = Settings(ping=20, origins=["https://a.example"], turn_timeout=3)  # type: ignore[arg-type]
    assert settings.origins == ("https://a.example",)
    assert hash(settings) == hash(Settings(ping=20, origins=("https://a.example",), turn_timeout=3))


@pytest.mark.parametrize("workers", [(0, 64), (65, 64)])
def test_the_pool_has_a_size(workers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="workers"):
        Settings(workers=workers[0], workers_max=workers[1])


def test_limits_may_be_switched_off() -> None:
    for spec in dataclasses.fields(Settings):
        if isinstance(getattr(Settings(), spec.name), (int, float)) and spec.name not in (
            "debug", "uploads", "log_to_client", "workers", "workers_max",
        ):  # fmt: skip
            Settings().but(**{spec.name: 0})
    with pytest.raises(TypeError, match="unexpected keyword"):
        Settings(windows=5)  # type: ignore[call-arg]
