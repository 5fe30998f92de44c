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
        ("AUTHORIZE", "os.system", "authorize is a function"),  # no text makes a function
        ("SECRRET", "x", "did you mean GREENROOM_SECRET?"),
        ("MAX_SESSION_PER_PEER", "5", "did you mean GREENROOM_MAX_SESSIONS_PER_PEER?"),
        ("TRUSTED_PROXY", "::1", "did you mean GREENROOM_TRUSTED_PROXIES?"),
        ("secret", "x", "did you mean GREENROOM_SECRET?"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Settings.from_env({f"GREENROOM_{name}": value})


def test_a_variable_that_is_no_setting_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    others = {
        "GREENROOM_TRACE": "1",  # of the build
        "GREENROOM_SEED": "1",  # of the tests
        # what Kubernetes tells about a service called greenroom
        "GREENROOM_SERVICE_HOST": "10.0.0.1",
        "GREENROOM_SERVICE_PORT_WEB": "80",
        "GREENROOM_PORT": "tcp://10.0.0.1:80",
        "GREENROOM_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert Settings.from_env(others) == Settings()
    assert not caplog.records
    assert Settings.from_env({"GREENROOM_COLOUR_SCHEME": "green"}) == Settings()
    assert [r.getMessage() for r in caplog.records] == [
        "GREENROOM_COLOUR_SCHEME is no setting of Greenroom, and is not looked at"
    ]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("script https://cdn.example", "should be a directive"),
        ("script-src", "should be a directive"),
        ("", "should be a directive"),
        ("base-uri 'self'", "should be a directive"),
        ("img-src https://a.example; script-src *", "may not stand there"),
        ("img-src https://a.example\r\nset-cookie: a=b", "may not stand there"),
        ("img-src https://\u00e4.example", "may not stand there"),
    ],
)
def test_a_source_for_the_policy_is_looked_at(entry: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Settings(csp=(entry,))


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("origins", "a.example"),
        ("origins", "null"),
        ("origins", "https://*.example"),
        ("origins", "https://a.example/page"),
        ("hosts", "https://a.example"),
        ("hosts", "*.example"),
        ("hosts", "a.example/x"),
        ("trusted_proxies", "nginx"),
        ("trusted_proxies", "10.0.0.0/33"),
        ("trusted_proxies", ""),
    ],
)
def test_an_entry_that_would_match_nothing_is_an_error(name: str, entry: str) -> None:
    with pytest.raises(ValueError, match=f"Settings.{name}: .* matches nothing, write"):
        Settings(**{name: (entry,)})  # type: ignore[arg-type]


def test_entries_that_match_something_are_taken() -> None:
    Settings(
        origins=("*", "https://a.example", "http://a.example:81/", "http://[::1]:80"),
        hosts=("*", "a.example", "a.example:81", "[::1]", "localhost:8000", "10.0.0.1"),
        trusted_proxies=("*", "10.0.0.1", "10.0.0.0/8", "10.0.0.1/8", "::1", "fd00::/8"),
    )


def test_sources_for_the_policy_come_from_the_environment_too() -> None:
    settings = Settings.from_env(
        {"GREENROOM_CSP": "script-src https://cdn.example, img-src https:"}
    )
    assert settings.csp == ("script-src https://cdn.example", "img-src https:")


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
        default = getattr(Settings(), spec.name)
        if type(default) in (int, float) and spec.name not in ("workers", "workers_max"):
            Settings().but(**{spec.name: 0})
    with pytest.raises(TypeError, match="unexpected keyword"):
        Settings(windows=5)  # type: ignore[call-arg]
