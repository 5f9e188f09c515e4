"""The sweep file: what loads, what is refused and how, and that it comes back as it was written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from autotune.sweep.comparison import search_differences
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import as_mapping, builtin_names, dump_sweep, load_sweep, parse_sweep
from search_spaces.errors import InvalidInputError
from search_spaces.language.yaml_io import dump_yaml, load_yaml
from trials.records import Fidelity

MINIMAL = {
    "name": "reviews",
    "model": "roberta-base",
    "task": {"dataset": "glue", "dataset_config": "sst2", "text": "sentence", "label": "label"},
    "budget": {"trials": 10},
}


def sweep(**changes: Any) -> Sweep:
    return parse_sweep({**MINIMAL, **changes})


def problems(changes: dict[str, Any], *, drop: tuple[str, ...] = ()) -> dict[str, str]:
    """What is wrong and how to mend it, by path; every problem has a fix."""
    data = {key: value for key, value in {**MINIMAL, **changes}.items() if key not in drop}
    with pytest.raises(InvalidInputError) as error:
        parse_sweep(data)
    assert all(p.fix for p in error.value.problems), error.value.problems
    return {p.where: f"{p.what} | {p.fix}" for p in error.value.problems}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a model, data and a sweep file that names them by relative paths."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for split in ("train", "validation"):
        (tmp_path / f"{split}.tsv").write_text("sentence\tlabel\nfine\t1\n")
    (tmp_path / "my reviews.yaml").write_text(
        "model: model\n"
        "task: {train: train.tsv, validation: ./validation.tsv, text: sentence, label: label}\n"
        "budget: {minutes: 90}\n"
    )
    return tmp_path


# --- defaults and short forms


def test_three_keys_are_enough() -> None:
    loaded = sweep()
    assert [(o.name, o.direction, o.scale) for o in loaded.objectives] == [
        ("accuracy", "maximize", "linear"),
        ("trainable_params", "minimize", "log"),
    ]
    assert loaded.space["families"] == ["lora", "head"]
    assert loaded.fidelity == Fidelity()
    assert (loaded.sampler.name, loaded.seed, loaded.executor.name, loaded.executor.workers) == (
        "pareto",
        0,
        "local",
        1,
    )
    assert (loaded.confirm.seeds, loaded.confirm.points) == (3, 8)
    assert loaded.model.name == "roberta-base"
    assert loaded.task.text == ("sentence",)


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ({"type": "regression", "text": "a", "label": "y"}, "pearson"),
        ({"type": "causal-lm", "text": "a"}, "eval_loss"),
        ({"text": "a", "label": "y", "metric": "matthews"}, "matthews"),
        ({"text": "a", "label": "y", "metric": "eval_loss"}, "eval_loss"),
    ],
)
def test_the_first_objective_is_the_tasks_metric(task: dict[str, Any], metric: str) -> None:
    assert sweep(task={"dataset": "d", **task}).objectives[0].name == metric


def test_short_forms() -> None:
    loaded = sweep(executor={"name": "processes"}, budget={"minutes": 90, "flops": 1e15}, space="lora-plain")
    assert loaded.executor.workers == 2
    assert (loaded.budget.hours, loaded.budget.seconds, loaded.budget.flops) == (1.5, 5400, 1e15)
    assert loaded.space["families"] == ["lora"]
    assert sweep(executor="ray").executor.workers is None  # the cluster decides when the sweep is run
    assert sweep(executor="packed").executor.workers is None  # the device has its say when the sweep is run
    assert sweep(executor={"name": "packed", "processes": 16}).executor.processes == 16
    assert sweep(space={"families": ["ia3"]}).space["parameters"]["ia3.layers"] == {"mask": False}


def test_limits_in_percent() -> None:
    objectives = [
        {"name": "accuracy", "min": "80 %"},
        {"name": "trainable_params", "max": "0.5%"},
        "train_flops",
    ]
    loaded = sweep(objectives=objectives).objectives
    assert loaded[0].min == 0.8
    assert loaded[1].max == "0.5%"
    assert loaded[2].direction == "minimize"


def test_python_builds_the_same_sweep() -> None:
    loaded = sweep()
    assert Sweep(**MINIMAL) == loaded  # type: ignore[arg-type]
    built = Sweep(
        name="reviews",
        model=loaded.model,
        task=loaded.task,
        objectives=loaded.objectives,
        budget=loaded.budget,
    )
    assert built == loaded
    with pytest.raises(ValidationError):
        loaded.seed = 3


# --- every problem at once


def test_every_problem_is_reported_at_once() -> None:
    found = problems(
        {
            "modle": "x",
            "task": {"type": "sequence-clasification", "train": "no.tsv", "lable": "y", "max_length": 1.5},
            "space": {"families": ["lor"]},
            "objectives": ["acuracy", {"name": "accuracy", "min": 90, "mx": 3, "scale": "lg"}],
            "budget": {"trials": 0, "hour": 1},
            "fidelity": {"train_sample": 3, "evaluations": 0},
            "sampler": "tp",
            "executor": {"workers": 2},
            "seed": -1,
            "confirm": {"points": True},
        },
        drop=("model",),
    )
    assert found.keys() == {
        "model", "modle", "task.type", "task.train", "task.lable", "task.max_length", "space.families[0]",
        "objectives[0]", "objectives[1].min", "objectives[1].mx", "objectives[1].scale", "budget.trials",
        "budget.hour", "fidelity.train_sample", "fidelity.evaluations", "sampler.name", "executor.workers", "seed",
        "confirm.points",
    }  # fmt: skip
    for path, word in {
        "modle": "model", "task.type": "sequence-classification", "task.lable": "label", "sampler.name": "tpe",
        "space.families[0]": "lora", "objectives[0]": "accuracy", "objectives[1].mx": "max",
        "objectives[1].scale": "log", "budget.hour": "hours", "fidelity.train_sample": "train_samples",
    }.items():  # fmt: skip
        assert f"Did you mean {word!r}?" in found[path]
    assert found["seed"] == "-1 is out of range | It must be at least 0."
    assert found["objectives[1].min"] == "90 is above 1, the best possible accuracy | Write 0.9 or 90%."


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"model": {"nam": "x"}}, "model.name", "missing"),
        ({"model": 3}, "model", "3 is not a mapping"),
        ({"task": [1]}, "task", "[1] is not a mapping"),
        ({"budget": {}}, "budget", "sets no limit"),
        ({"budget": 30}, "budget", "30 is not a mapping"),
        ({"budget": {"trials": 2.5}}, "budget.trials", "2.5 is not a whole number"),
        ({"budget": {"trials": "x"}}, "budget.trials", "'x' is not a whole number"),
        ({"budget": {"hours": -1}}, "budget.hours", "must be above 0"),
        ({"budget": {"minutes": "x"}}, "budget.minutes", "'x' is not a number above 0"),
        ({"budget": {"minutes": 1, "hours": 1}}, "budget.minutes", "hours is given as well"),
        ({"executor": "rya"}, "executor", "Did you mean 'ray'?"),
        (
            {"executor": {"name": "processes", "address": "x"}},
            "executor.address",
            "executor processes takes no address",
        ),
        ({"executor": {"name": "ray", "processes": 2}}, "executor.processes", "takes no processes"),
        ({"executor": {"threads": 0}}, "executor.threads", "It must be at least 1"),
        (
            {"executor": {"name": "packed", "chunk_tokens": 63}},
            "executor.chunk_tokens",
            "It must be at least 64",
        ),
        ({"executor": {"name": "packed", "workers": 2, "processes": 3}}, "executor.processes", "2 trials"),
        (
            {"executor": "packed", "objectives": ["accuracy", "peak_memory"]},
            "objectives[1]",
            "'peak_memory' cannot be measured per trial with packed execution",
        ),
        ({"fidelity": 3}, "fidelity", "3 is not a mapping"),
        ({"fidelity": {"train_samples": "all"}}, "fidelity.train_samples", "'all' is not a whole number"),
        ({"fidelity": {"patience": 0}}, "fidelity.patience", "0 is out of range"),
        ({"fidelity": {"score": "mean"}}, "fidelity.score", "'mean' is not an evaluation"),
        (
            {"fidelity": {"patience": 3}, "ladder": True},
            "fidelity.patience",
            "cannot be combined with a ladder",
        ),
        (
            {"fidelity": {"score": "best"}, "ladder": True},
            "fidelity.score",
            "cannot be combined with a ladder",
        ),
        ({"name": "a/b"}, "name", "is not a valid name of a folder"),
        ({"name": ".."}, "name", "is not a valid name of a folder"),
        ({"name": 3}, "name", "3 is not a text"),
        ({"space": "lorra"}, "space", "Did you mean 'lora'?"),
        ({"space": 3}, "space", "3 is not a search space"),
        (
            {"space": {"families": ["lora"], "parameters": {"lora.rank": "x"}}},
            "space.parameters.lora.rank",
            "'x'",
        ),
        ({"objectives": "accuracy"}, "objectives", "'accuracy' is not a list"),
        ({"objectives": []}, "objectives", "a sweep cannot have 0 of them | Name one to four"),
        ({"objectives": ["trainable_params"]}, "objectives", "trainable_params is a cost, and a sweep needs"),
        ({"objectives": ["accuracy", "accuracy"]}, "objectives[1]", "appears twice"),
        (
            {"objectives": ["accuracy", "pearson"]},
            "objectives[1]",
            "'pearson' is not a metric of sequence-class",
        ),
        (
            {"objectives": ["trainable_params", "train_flops"]},
            "objectives",
            "are costs, and a sweep needs a score",
        ),
        ({"objectives": ["accuracy", {"max": 3}]}, "objectives[1].name", "missing"),
        ({"objectives": ["accuracy", 3]}, "objectives[1]", "3 is not a mapping"),
        ({"model": ""}, "model", "is empty | Write at least 1."),
        (
            {"model": {"name": "x", "trust_remote_code": "maybe"}},
            "model.trust_remote_code",
            "'maybe' is not true or",
        ),
        ({"task": {**MINIMAL["task"], "max_length": 1}}, "task.max_length", "1 is out of range"),  # type: ignore[dict-item]
        ({"task": {**MINIMAL["task"], "carve": 0.7}}, "task.carve", "must be below 0.5"),  # type: ignore[dict-item]
        ({"task": {"train": 3, "text": "a", "label": "b"}}, "task.train", "3 is not a text"),
        ({"task": {"text": "a", "label": "b"}}, "task.train", "missing"),
    ],
)
def test_problems_name_the_path_and_the_fix(changes: dict[str, Any], where: str, message: str) -> None:
    assert message in problems(changes)[where]


@pytest.mark.parametrize(
    ("limits", "where", "message"),
    [
        ({"name": "accuracy", "min": 1.5}, ".min", "1.5 is above 1, the best possible accuracy"),
        (
            {"name": "accuracy", "min": "abc"},
            ".min",
            "'abc' is not a number | Write a number or a percentage",
        ),
        ({"name": "accuracy", "min": 0.9, "max": 0.8}, ".min", "0.9 is above max, 0.8"),
        (
            {"name": "accuracy", "direction": "minimize"},
            ".direction",
            "'minimize' is the wrong direction for accuracy",
        ),
        ({"name": "accuracy", "reference": 0.9, "ideal": 0.5}, ".reference", "not worse than the ideal"),
        (
            {"name": "train_flops", "max": "1%"},
            ".max",
            "'1%' is a percentage, which train_flops does not accept",
        ),
        ({"name": "train_flops", "max": -1}, ".max", "-1 is below 0, the best possible train_flops"),
        ({"name": "train_flops", "floor": 0}, ".floor", "0 is not above 0"),
        ({"name": "train_flops", "max": [1]}, ".max", "[1] is not a number or a text"),
        ({"name": "train_flops", "reference": 1, "ideal": 2}, ".reference", "not worse than the ideal"),
        ({"name": "stored_bytes", "max": "1GB"}, ".max", "'1GB' is not a number | Write a number."),
    ],
)
def test_impossible_objectives(limits: dict[str, Any], where: str, message: str) -> None:
    assert message in problems({"objectives": ["eval_loss", limits]})[f"objectives[1]{where}"]


def test_possible_objectives_pass() -> None:
    objectives = [
        {"name": "accuracy", "reference": 0.5, "ideal": 1.0, "min": 0.6, "max": 0.99},
        {"name": "trainable_params", "max": 1000, "reference": 5000, "ideal": 0, "floor": 10},
        {"name": "eval_loss", "max": 2.0, "direction": "minimize"},
        {"name": "peak_memory", "scale": "linear"},
    ]
    assert [o.scale for o in sweep(objectives=objectives).objectives] == ["linear", "log", "linear", "linear"]


# --- files


def test_paths_are_relative_to_the_file(files: Path) -> None:
    loaded = load_sweep(files / "my reviews.yaml")
    assert loaded.name == "my-reviews"
    assert loaded.model.name == str(files / "model")
    assert loaded.task.train == str(files / "train.tsv")
    assert loaded.task.validation == str(files / "validation.tsv")
    assert loaded.task.test is None


def test_lists_of_files_and_folders(files: Path) -> None:
    (files / "held out").mkdir()
    for name in ("part[2].TSV", "~draft.tsv"):
        (files / name).write_text("sentence\tlabel\nfine\t1\n")
    task = {"train": ["~draft.tsv", "part[2].TSV"], "validation": ["validation.tsv"], "test": "held out"}
    path = files / "many.yaml"
    path.write_text(
        dump_yaml({"model": "model", "task": {**task, "text": "a", "label": "b"}, "budget": {"trials": 3}})
    )
    loaded = load_sweep(path).task
    assert loaded.train == (str(files / "~draft.tsv"), str(files / "part[2].TSV"))
    assert (loaded.validation, loaded.test) == (str(files / "validation.tsv"), str(files / "held out"))
    again = sweep(task=loaded.model_dump(mode="json"))
    assert again.task == loaded
    for given, where, message in (
        (["train.tsv", "none.tsv"], "task.train[1]", "there is no file"),
        (["held out"], "task.train[0]", "is a folder"),
        ([], "task.train", ""),
    ):
        path.write_text(
            dump_yaml(
                {
                    "model": "model",
                    "task": {"train": given, "text": "a", "label": "b"},
                    "budget": {"trials": 3},
                }
            )
        )
        with pytest.raises(InvalidInputError) as error:
            load_sweep(path)
        assert message in {p.where: str(p) for p in error.value.problems}[where]


def test_model_ids_are_unchanged() -> None:
    loaded = sweep(model="org/model", task={**MINIMAL["task"], "dataset": "org/data"})  # type: ignore[dict-item]
    assert (loaded.model.name, loaded.task.dataset) == ("org/model", "org/data")


def test_missing_files_are_reported_on_load(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files.parent)
    (files / "empty").mkdir()
    (files / "data.xlsx").write_text("")
    path = files / "bad.yaml"
    task = {"train": "nothing.tsv", "validation": "data.xlsx", "test": f"{files.name}/train.tsv", "text": "a"}
    path.write_text(dump_yaml({"model": "empty", "task": {**task, "label": "b"}, "budget": {"trials": 3}}))
    with pytest.raises(InvalidInputError) as error:
        load_sweep(path)
    found = {p.where: str(p) for p in error.value.problems}
    assert "has no config.json" in found["model"]
    assert f"there is no file '{files / 'nothing.tsv'}'" in found["task.train"]
    assert "'data.xlsx' is a workbook" in found["task.validation"]
    # the path would be right from where the command runs, so the message says where paths begin
    assert "relative to the folder of the sweep file. Did you mean" in found["task.test"]
    for model in ("./nothing", "/no/such/folder", "a/b/c"):
        assert "there is no folder" in problems({"model": model})["model"]
    assert "is a file" in problems({"model": str(files / "train.tsv")})["model"]
    assert "there is no " in problems({"task": {**MINIMAL["task"], "dataset": "./x"}})["task.dataset"]  # type: ignore[dict-item]


def test_a_space_in_a_file_of_its_own(files: Path) -> None:
    (files / "space.yaml").write_text("families: [ia3]\n")
    (files / "my reviews.yaml").open("a").write("space: space.yaml\n")
    loaded = load_sweep(files / "my reviews.yaml")
    assert loaded.space["families"] == ["ia3"]
    (files / "space.yaml").write_text("families: [ia33]\n")
    with pytest.raises(
        InvalidInputError, match=re.escape(f"{files / 'space.yaml'}: families[0]: unknown family")
    ):
        load_sweep(files / "my reviews.yaml")


def test_sources_that_are_not_sweeps(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'quickstart'"):
        load_sweep("quikstart")
    with pytest.raises(InvalidInputError, match="autotune resume"):
        load_sweep(tmp_path)
    (tmp_path / "x.yaml").write_text("- 1\n")
    with pytest.raises(InvalidInputError, match="is not a mapping"):
        load_sweep(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("model: [a\n")
    with pytest.raises(InvalidInputError, match="not valid YAML"):
        load_sweep(tmp_path / "x.yaml")


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_sweeps_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    loaded = load_sweep(name)
    assert loaded.name == name
    dump_sweep(loaded, tmp_path / "sweep.yaml")
    assert load_sweep(tmp_path / "sweep.yaml") == loaded


def test_quickstart_matches_its_description() -> None:
    loaded = load_sweep("quickstart")
    assert loaded.budget.trials is not None
    assert loaded.budget.trials >= 24
    assert (loaded.model.name, loaded.task.dataset) == ("builtin:pocket", "builtin:docstrings")


def test_the_example_loads_once_its_paths_are_filled_in(files: Path) -> None:
    example = Path(__file__).parents[4] / "examples" / "sst2_minilm.yaml"
    with pytest.raises(InvalidInputError) as error:
        load_sweep(example)
    assert {p.where for p in error.value.problems} == {"model", "task.train", "task.validation", "task.test"}
    text = example.read_text().replace("path/to/minilm", "model").replace("path/to/sst2/", "")
    text = text.replace("test.tsv", "validation.tsv")
    (files / "example.yaml").write_text(text)
    loaded = load_sweep(files / "example.yaml")
    assert (loaded.name, loaded.budget.trials) == ("sst2-minilm", 30)


# --- writing and comparing


def test_the_resolved_file_has_every_default(tmp_path: Path, files: Path) -> None:
    loaded = load_sweep(files / "my reviews.yaml")
    dump_sweep(loaded, tmp_path / "sweep.yaml", header="as it runs")
    text = (tmp_path / "sweep.yaml").read_text()
    assert text.startswith("# as it runs\n")
    for line in (
        "sampler: {name: pareto, strategy: pareto, surrogate: auto}",
        "seed: 0",
        "confirm:\n  seeds: 3\n  points: 8\n  data: search\n  stop: search\n  evaluations: 10\n  patience: 3\n",
    ):
        assert line in text
    assert "lora.rank: {low: 1, high: 64, log: true, default: 8}" in text
    assert load_sweep(tmp_path / "sweep.yaml") == loaded
    assert load_yaml(tmp_path / "sweep.yaml") == as_mapping(loaded)


def test_a_resolved_sweep_survives_a_round_trip(tmp_path: Path) -> None:
    loaded = sweep()
    filled = [
        o.model_copy(update={"reference": 0.25, "ideal": 1e-9 + i, "floor": 3.0})
        for i, o in enumerate(loaded.objectives)
    ]
    filled[0] = filled[0].model_copy(update={"ideal": 1.0})
    filled[1] = filled[1].model_copy(update={"reference": 1e6, "max": 113000.5})
    loaded = loaded.model_copy(update={"objectives": tuple(filled)})
    dump_sweep(loaded, tmp_path / "sweep.yaml")
    assert load_sweep(tmp_path / "sweep.yaml") == loaded


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({}, []),
        ({"budget": {"hours": 3}, "confirm": {"seeds": 0}, "executor": "processes"}, []),
        ({"seed": 1, "sampler": "tpe"}, ["sampler", "seed"]),
        ({"name": "other"}, ["name"]),
        ({"model": "bert-base-uncased"}, ["model.name"]),
        ({"fidelity": {"train_samples": 100}}, []),  # the other side leaves it open
        (
            {"space": {"include": "lora", "parameters": {"lora.rank": {"high": 8}}}},
            ["space.parameters.lora.rank.high"],
        ),
        ({"objectives": ["accuracy", "trainable_params", "train_flops"]}, ["objectives"]),
        ({"objectives": [{"name": "accuracy", "min": 0.5}, "trainable_params"]}, ["objectives[0].min"]),
        ({"objectives": [{"name": "accuracy", "reference": 0.5}, "trainable_params"]}, []),
        ({"task": {**MINIMAL["task"], "positive": "fraud"}}, []),  # the other side leaves it open
    ],
)
def test_which_sweeps_can_be_resumed_as_each_other(changes: dict[str, Any], paths: list[str]) -> None:
    assert search_differences(sweep(), sweep(**changes)) == paths
    assert search_differences(sweep(**changes), sweep()) == paths


def test_different_positive_classes_differ() -> None:
    first, second = (sweep(task={**MINIMAL["task"], "positive": name}) for name in ("fraud", "legit"))
    assert search_differences(first, second) == ["task.positive"]


@pytest.mark.parametrize("name", ["fraud", "1", 1, 1.5, True])
def test_a_positive_class_keeps_its_type_in_a_file(name: object, tmp_path: Path) -> None:
    dump_sweep(sweep(task={**MINIMAL["task"], "positive": name}), tmp_path / "sweep.yaml")
    read = load_sweep(tmp_path / "sweep.yaml", check_files=False).task.positive
    assert (read, type(read)) == (name, type(name))


def test_the_label_is_no_text_column() -> None:
    found = problems({"task": {**MINIMAL["task"], "text": ["sentence", "label"]}})
    assert "the model reads what it predicts" in found["task.label"]


def test_an_open_fidelity_matches_any_and_a_given_one_only_its_equal() -> None:
    few, more = sweep(fidelity={"train_samples": 100}), sweep(fidelity={"train_samples": 200})
    assert search_differences(few, more) == ["fidelity.train_samples"]
    assert search_differences(few, sweep(fidelity="all")) == ["fidelity.train_samples"]
    assert search_differences(few, sweep(fidelity={"train_samples": 100})) == []


def test_a_fidelity_is_open_until_it_is_given(tmp_path: Path) -> None:
    loaded = sweep()
    assert loaded.is_fidelity_open
    dump_sweep(loaded, tmp_path / "open.yaml")
    assert load_sweep(tmp_path / "open.yaml").is_fidelity_open
    chosen = loaded.model_copy(update={"fidelity": Fidelity()})
    dump_sweep(chosen, tmp_path / "chosen.yaml")
    assert not load_sweep(tmp_path / "chosen.yaml").is_fidelity_open
    for given in ("all", {"evaluations": 2}, {}):
        assert not sweep(fidelity=given).is_fidelity_open
    assert sweep(fidelity="all").fidelity == Fidelity()


def test_a_fidelity_that_is_no_mapping_is_refused() -> None:
    assert "'everything' is not a fidelity" in str(problems({"fidelity": "everything"}))


def test_a_percentage_matches_the_resulting_number() -> None:
    def limited(limit: float | str) -> Sweep:
        return sweep(objectives=["accuracy", {"name": "trainable_params", "max": limit}])

    assert search_differences(limited("1%"), limited(1130)) == []
    assert search_differences(limited("1%"), limited("2%")) == ["objectives[1].max"]
    assert search_differences(limited(1), limited(2)) == ["objectives[1].max"]


def test_a_derived_bound_is_not_given() -> None:
    loaded = sweep()
    resolved = loaded.model_copy(
        update={
            "objectives": tuple(
                o.model_copy(update={"reference": 0.25, "ideal": 0.0, "derived": ("reference", "ideal")})
                for o in loaded.objectives
            )
        }
    )
    assert [o.as_given() for o in resolved.objectives] == list(loaded.objectives)
    assert search_differences(loaded, resolved) == []


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[4] / "examples").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_examples_are_sweep_files(path: Path) -> None:
    assert load_sweep(path, check_files=False).name
