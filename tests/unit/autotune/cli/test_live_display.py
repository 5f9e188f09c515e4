"""What the terminal and the log show of a sweep, and the short forms they are made of."""

from __future__ import annotations

import io
import math
import threading
from typing import Any

import pytest
from rich.console import Console

from autotune.cli.live_display import LiveProgress, PlainProgress, watch
from autotune.engine.events import Listener, Progress, SilentListener
from autotune.formatting.compact import clock, points, short_config, sparkline
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.parameters.types import Configuration
from trials.records import TrialResult, TrialStatus

SWEEP = parse_sweep(
    {
        "name": "reviews",
        "model": "org/model",
        "task": {"dataset": "d", "text": "a", "label": "b"},
        "objectives": ["accuracy", "trainable_params", "train_flops"],
        "budget": {"trials": 20},
    }
)
CONFIG: Configuration = {
    "family": "lora",
    "lora.rank": 8,
    "lora.learning_rate": 3e-4,
    "batch_size": 32,
    "epochs": 3,
}


def complete(**values: float) -> tuple[TrialResult, dict[str, float]]:
    return TrialResult(TrialStatus.COMPLETE, seconds=12.3), {"train_flops": 3.4e12, **values}


def play(watcher: Listener) -> None:
    """Two trials that end well, one that fails, one that runs."""
    watcher.progress(Progress("loading"))
    watcher.sweep_started(SWEEP, ["ia3 was left out: [no] targets"])
    watcher.progress(Progress("search", 0, 20))
    ends: list[tuple[TrialResult, dict[str, float], bool]] = [
        (*complete(accuracy=0.8, trainable_params=1.2e6), True),
        (*complete(accuracy=0.9, trainable_params=1.2e6), True),
        (TrialResult(TrialStatus.FAILED, seconds=2, error="the loss is not finite [step 31]"), {}, False),
    ]
    for number, (result, values, on_front) in enumerate(ends):
        watcher.trial_started(number, CONFIG, seed=number)
        watcher.trial_finished(number, result, values, on_front)
        best = {"accuracy": 0.9, "trainable_params": 1.2e6, "train_flops": math.nan}
        failed = int(number == 2)
        watcher.progress(Progress("search", number + 1, 20, failed, 1, 0.1 * number, best, 60, 600))
    watcher.trial_started(3, {**CONFIG, "family": "ia3"}, seed=3)
    watcher.progress(Progress("search", 3, 20, 1, 1, 0.2, best, 61, 600))


def screen(watcher: LiveProgress, width: int = 110) -> list[str]:
    """The lines that the terminal would show."""
    console = Console(width=width, height=30, file=io.StringIO())
    watcher.console = console
    console.print(watcher.render())
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_panel_shows_the_state_of_the_sweep() -> None:
    log = io.StringIO()
    watcher = LiveProgress(Console(width=110, file=log))
    assert screen(watcher)[0].startswith("Loading model and data")
    watcher.console = Console(width=110, file=log)
    play(watcher)
    lines = screen(watcher)
    text = "\n".join(lines)
    assert "reviews · org/model" in lines[0]
    assert "Searching" in lines[1]
    assert "3/20  1 failed  1:01, 10:00 left" in lines[1]
    for part in ("front 1 point ", "hypervolume 0.200 ▁▅█", "best accuracy 90.0\u00a0%, params 1.2\u00a0M"):
        assert part in lines[2]
    assert "train FLOPs" not in lines[2]  # nothing is known of it yet
    rows = {line.split()[1 + ("★" in line)]: line for line in lines[4:-1]}
    assert rows.keys() == {"0", "1", "2", "3"}
    assert "★" not in rows["0"]  # trial 1 is as small and better
    assert "★" in rows["1"]
    assert "lora r8 · lr 3e-4 · batch 32 · 3 ep" in rows["1"]
    assert "3.4\u00a0TFLOPs" in rows["1"]
    assert "failed: the loss is not finite" in rows["2"]
    assert "running" in rows["3"]
    assert "nan" not in text.lower()
    assert log.getvalue().splitlines() == [
        "· ia3 was left out: [no] targets",
        "trial 2 failed: the loss is not finite [step 31]",
    ]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_panel_is_narrower_than_the_terminal(width: int) -> None:
    watcher = LiveProgress(Console(width=width, file=io.StringIO()))
    play(watcher)
    assert max(map(len, screen(watcher, width))) == width - 3


def test_old_rows_are_dropped() -> None:
    watcher = LiveProgress(Console(width=110, file=io.StringIO()))
    play(watcher)
    for number in range(4, 30):
        watcher.trial_started(number, CONFIG, seed=number)
        watcher.trial_finished(number, *complete(accuracy=0.5, trainable_params=2e6), False)
    lines = screen(watcher)
    assert len(lines) <= 15
    assert " 29 " in lines[-2]


def test_confirmations_are_marked_and_get_no_star() -> None:
    watcher = LiveProgress(Console(width=110, file=io.StringIO()))
    play(watcher)
    watcher.progress(Progress("confirm", 0, 6, 1, 1, 0.2, {}, 0, None))
    watcher.trial_started(1, CONFIG, seed=99)
    watcher.trial_finished(1, *complete(accuracy=0.95, trainable_params=1.2e6), True)
    lines = screen(watcher)
    assert "Confirming the front on new seeds" in lines[1]
    assert "0/6" in lines[1]
    assert "? left" in lines[1]
    (again,) = [line for line in lines if "1↻" in line]
    assert "95.0\u00a0%" in again
    assert "★" not in again
    assert sum("★" in line for line in lines) == 1
    assert watcher.hypervolumes == [0.0, 0.1, 0.2]  # the confirmation adds nothing to the course


def test_a_paused_trial_shows_its_share_of_training() -> None:
    watcher = LiveProgress(Console(width=110, file=io.StringIO()))
    play(watcher)
    watcher.trial_finished(
        3, TrialResult(TrialStatus.PAUSED, {"eval_loss": 0.6}, flops_share=1 / 3), {}, False
    )
    watcher.progress(Progress("search", 4, 20, 1, 1, 0.2, {}, 62, 600, rungs=(4, 2, 1)))
    lines = screen(watcher)
    (paused,) = [line for line in lines if "ia3" in line]
    assert "at 33.3 %" in paused
    assert "running" not in paused
    assert any("rungs 4 › 2 › 1" in line for line in lines)


def test_a_trial_that_started_before_the_display() -> None:
    watcher = LiveProgress(Console(width=110, file=io.StringIO()))
    watcher.sweep_started(SWEEP, [])
    watcher.trial_finished(7, *complete(accuracy=0.8, trainable_params=1.0), True)
    assert any(" 7 " in line and "★" in line for line in screen(watcher))


def test_a_budget_without_trials_has_no_total() -> None:
    watcher = LiveProgress(Console(width=110, file=io.StringIO()))
    watcher.sweep_started(SWEEP, [])
    watcher.progress(Progress("search", 5, None, 0, 2, 0.3, {}, 10, 50))
    assert " 5  0:10, 0:50 left" in screen(watcher)[1]


def test_drawing_while_trials_end() -> None:
    watcher = LiveProgress(Console(width=110, file=io.StringIO()))
    watcher.sweep_started(SWEEP, [])
    errors: list[Exception] = []

    def draw() -> None:
        try:
            for _ in range(60):
                watcher.render()
        except RuntimeError as error:  # a list or mapping that changed while it was read
            errors.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    for number in range(300):
        watcher.trial_started(number, CONFIG, seed=number)
        watcher.trial_finished(number, *complete(accuracy=number / 300, trainable_params=1e6), True)
    thread.join()
    assert errors == []
    assert [row.number for row in watcher.rows if row.on_front] == [299]


def test_the_live_display_is_removed_at_the_end() -> None:
    file = io.StringIO()
    console = Console(width=110, height=30, file=file, force_terminal=True)
    with watch(console) as watcher:
        assert isinstance(watcher, LiveProgress)
        play(watcher)
    assert "reviews" in file.getvalue()
    assert file.getvalue().rstrip().endswith("\x1b[2K")  # the last thing written erases the panel


def test_a_log_has_one_line_per_trial() -> None:
    file = io.StringIO()
    with watch(Console(width=40, file=file)) as watcher:
        assert isinstance(watcher, PlainProgress)
        play(watcher)
    lines = file.getvalue().splitlines()
    assert lines[:4] == [
        "Loading model and data",
        "· ia3 was left out: [no] targets",
        "reviews: org/model; accuracy (maximize), adapter parameters (minimize), training FLOPs (minimize)",
        "Searching",
    ]
    assert len(lines) == 7
    assert lines[4].replace("\u00a0", " ") == (
        "[1/20] trial 0: lora r8 · lr 3e-4 · batch 32 · 3 ep → training FLOPs 3.4 TFLOPs, accuracy 80.0 %, "
        "adapter parameters 1.2 M ★ (12.3 s; front 1, hypervolume 0.000, 10:00 left)"
    )
    assert "→ failed: the loss is not finite [step 31] (2.0 s" in lines[6]


def test_the_first_trial_is_announced_where_its_time_is_predicted() -> None:
    file = io.StringIO()
    with watch(Console(file=file, width=200)) as watcher:
        watcher.sweep_started(SWEEP, [])
        watcher.progress(Progress(phase="search", total=20, remaining=2600.0, trial_seconds=130.0))
        watcher.trial_started(0, CONFIG, seed=1)
        watcher.progress(Progress(phase="search", finished=1, total=20))
        watcher.trial_started(1, CONFIG, seed=2)
    started = [line.replace("\u00a0", " ") for line in file.getvalue().splitlines() if "started" in line]
    assert started == ["trial 0 started; a trial takes about 2 min 10 s: lora r8 · lr 3e-4 · batch 32 · 3 ep"]


def test_the_live_table_shows_the_predicted_time_of_a_first_trial() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160, height=40)
    display = LiveProgress(console)
    display.sweep_started(SWEEP, [])
    display.progress(Progress(phase="search", total=20, remaining=2600.0, trial_seconds=130.0))
    display.trial_started(0, CONFIG, seed=1)
    with console.capture() as captured:
        console.print(display.render())
    assert "0:00 of about 2:10" in captured.get()
    assert "43:20 left" in captured.get()


def test_quiet_is_silent() -> None:
    file = io.StringIO()
    with watch(Console(file=file), quiet=True) as watcher:
        assert isinstance(watcher, SilentListener)
        play(watcher)
    assert file.getvalue() == ""


# --- short forms


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"family": "head", "head.learning_rate": 1e-3, "weight_decay": 0.1, "warmup": 0.06}, "head lr 1e-3"),
        (
            {
                "family": "lora",
                "lora.targets": "q+v",
                "lora.layers": 4,
                "lora.rank": 8,
                "lora.scale": 2.0,
                "lora.rslora": False,
                "lora.dora": True,
                "lora.dropout": 0.0,
                "lora.learning_rate": 0.00025,
                "schedule": "cosine",
            },
            "lora q+v · top 4 · r8 · ×2 · dora · lr 2.5e-4",
        ),
        (
            {"family": "lora", "lora.dropout": 0.15, "batch_size": 8, "epochs": 1},
            "lora drop 0.15 · batch 8 · 1 ep",
        ),
        (
            {"family": "lora", **{f"lora.layers.{i}": i in (0, 3, 4, 5) for i in range(6)}, "lora.rank": 2},
            "lora layers 0, 3–5 · r2",
        ),
        (
            {"family": "lora", "lora.layers.encoder": 0, "lora.layers.decoder": 3, "lora.rank.decoder": 8},
            "lora encoder top 0 · decoder top 3 · decoder r8",
        ),
        ({"x": 12.5, "y": "a"}, "x 12 · a"),
        ({}, ""),
    ],
)
def test_a_configuration_on_one_line(config: dict[str, Any], text: str) -> None:
    assert short_config(config) == text


def test_sparkline() -> None:
    assert sparkline([]) == ""
    assert sparkline([0.5]) == "▁"
    assert sparkline([0, 1, 0.5]) == "▁█▅" or sparkline([0, 1, 0.5]) == "▁█▄"
    assert sparkline(range(100), width=8) == "▁▂▃▄▅▆▇█"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (-3, "0:00"), (0.4, "0:00"), (59.6, "1:00"), (725, "12:05"), (7800, "2:10:00")],
)
def test_clock(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


def test_points() -> None:
    assert (points(0), points(1), points(2)) == ("0 points", "1 point", "2 points")
