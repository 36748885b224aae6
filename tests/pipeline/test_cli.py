"""The command line: what it prints, how it ends, what it costs to start."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.errors import InputDataError
from pipeline import cli
from pipeline.commands import doctor, evaluate, run
from pipeline.errors import ConfigError
from pipeline.run_config import RunConfig, open_run


def failing_command(error: BaseException) -> SimpleNamespace:
    def fail(args: object) -> int:
        raise error

    return SimpleNamespace(run=fail)


def make_main_raise(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(evaluate, "run", failing_command(error).run)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_every_command_teaches_by_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert f"  adaptower {command}" in out.split("examples:")[1]
    assert max(map(len, out.splitlines())) <= 80


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from pipeline import cli\n"
        "cli.make_parser()\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'numpy', 'rich', 'yaml'}"
        " & {name.split('.')[0] for name in sys.modules}\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_our_error_is_one_paragraph_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_main_raise(monkeypatch, ConfigError("The run is gone. Make one."))
    assert cli.main(["evaluate"]) == 1
    assert capsys.readouterr().err == "error: The run is gone. Make one.\n"


def test_our_error_inside_a_wrapper_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapper = RuntimeError("stage 7 failed [while running 'ReadFromCsv']")
    wrapper.__cause__ = InputDataError("u.data: no column 'user'")
    make_main_raise(monkeypatch, wrapper)
    assert cli.main(["evaluate"]) == 1
    assert "u.data: no column 'user'" in capsys.readouterr().err


def test_verbose_keeps_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    make_main_raise(monkeypatch, ConfigError("gone"))
    with pytest.raises(ConfigError):
        cli.main(["evaluate", "--verbose"])


def test_foreign_error_is_a_defect_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_main_raise(monkeypatch, KeyError("auc"))
    with pytest.raises(KeyError):
        cli.main(["evaluate"])


def test_ctrl_c_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_main_raise(monkeypatch, KeyboardInterrupt())
    assert cli.main(["evaluate"]) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_command_whose_reader_went_away_does_not_end_with_0() -> None:
    script = (
        "import sys\n"
        "from pipeline import cli\n"
        "from pipeline.commands import evaluate\n"
        "def run(args):\n"
        "    while True:\n"
        "        print('a stage', flush=True)\n"
        "evaluate.run = run\n"
        "sys.exit(cli.main(['evaluate']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 141


@pytest.mark.parametrize("command", ["run", "rebase"])
@pytest.mark.parametrize("days", ["0", "-1", "nan", "inf", "soon"])
def test_time_after_which_nobody_would_be_left_is_refused(
    command: str, days: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.make_parser().parse_args([command, f"--store-ttl-days={days}"])
    assert stop.value.code == 2
    assert "--store-ttl-days" in capsys.readouterr().err


def test_days_are_handed_on_as_seconds() -> None:
    args = cli.make_parser().parse_args(["run", "--store-ttl-days=2"])
    assert args.store_ttl_seconds == 2 * 24 * 3600


def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "--replay-users", "0"])
    assert stop.value.code == 2
    assert "expected 1 or more, got 0" in capsys.readouterr().err


def test_run_hands_every_argument_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[RunConfig] = []
    monkeypatch.setitem(
        sys.modules,
        "pipeline.main_job",
        SimpleNamespace(run_main_job=lambda config: given.append(config) or 0),
    )
    words = (
        f"run movielens-1m --data-path {tmp_path} --runs {tmp_path} --tune "
        "--train-steps 7 --replay-users 3 --no-cache --seed 5 "
        "--beam-arg=--direct_num_workers=2"
    )
    assert cli.main(words.split()) == 0
    assert given == [
        RunConfig(
            dataset="movielens-1m",
            data_path=tmp_path,
            runs=tmp_path,
            train_steps=7,
            replay_users=3,
            tune=True,
            use_cache=False,
            beam_args=("--direct_num_workers=2",),
            seed=5,
        )
    ]


def test_run_without_arguments_takes_the_defaults_of_the_config() -> None:
    args = cli.make_parser().parse_args(["run"])
    config = RunConfig(dataset="movielens-100k")
    assert args.dataset == config.dataset
    assert args.runs == config.runs
    assert args.seed == config.seed
    assert not args.tune
    assert not args.no_cache
    assert run.positive("3") == 3


def test_unknown_run_names_the_ones_there_are(tmp_path: Path) -> None:
    (tmp_path / "movielens-1m").mkdir()
    (tmp_path / "latest").symlink_to("movielens-1m")
    with pytest.raises(ConfigError, match=r"There are: movielens-1m\."):
        open_run(tmp_path / "movielens-2m")
    assert open_run(tmp_path / "latest").root == tmp_path / "movielens-1m"


def test_newest_artifact_is_the_highest_execution(tmp_path: Path) -> None:
    model = tmp_path / "pipeline_root" / "Trainer" / "model"
    for name in ("9", "10", ".partial", ".temp"):
        (model / name).mkdir(parents=True)
    assert open_run(tmp_path).artifact("Trainer", "model") == model / "10"
    with pytest.raises(ConfigError, match="no output 'model' of Tuner"):
        open_run(tmp_path).artifact("Tuner", "model")


def test_models_of_a_run_are_those_with_a_version(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has pushed no model"):
        open_run(tmp_path).models()
    (tmp_path / "serving" / "adaptower" / "1700000000").mkdir(parents=True)
    (tmp_path / "serving" / "joint" / ".partial-1").mkdir(parents=True)
    base = tmp_path / "serving" / "adaptower"
    assert open_run(tmp_path).models() == {"adaptower": base}


def test_run_that_pushed_the_baseline_alone_is_not_served(
    tmp_path: Path,
) -> None:
    (tmp_path / "serving" / "joint" / "1700000000").mkdir(parents=True)
    (tmp_path / "serving" / "adaptower").mkdir()
    with pytest.raises(ConfigError, match="did not bless 'adaptower'"):
        open_run(tmp_path).models()


SUMMARY = {
    "dataset": "shop",
    "revision": "abc",
    "created": "2026-01-02T03:04:05+00:00",
    "auc": {"joint": 0.7012, "offline": 0.7345, "online": None},
    "wgauc": {"joint": 0.61, "offline": 0.62, "online": 0.63},
    "lift": {
        "offline": {"value": 3.33, "low": 2.1, "high": 4.5},
        "online": {"value": None, "low": None, "high": None},
    },
    "paper_lift": {"offline": 2.48, "online": 2.46},
    "skew": {"joint": 0.00001},
    "rank_ms": {"p50": 1.2, "p99": 3.4},
    "feedback_ms": {"p50": 5.6, "p99": 7.8},
}


def test_evaluate_prints_the_figures_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / ("long" * 25)
    folder = "pipeline_root/ColdStartEvaluator/evaluation/4"
    (run / folder).mkdir(parents=True)
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    assert cli.main(["evaluate", "--run", str(run)]) == 0
    out = capsys.readouterr().out
    for figure in ("0.7345", "+3.33", "+2.10 to +4.50", "+2.48", "7.8"):
        assert figure in out
    # Not wrapped, however long it is.
    assert f"evaluation  {run / folder}\n" in out


def test_evaluate_as_json_is_the_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    assert cli.main(["evaluate", "--json", "--run", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == SUMMARY


def test_evaluate_before_a_replay_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", "--run", str(tmp_path)]) == 1
    assert "adaptower replay" in capsys.readouterr().err


def test_doctor_as_json_lists_checks_and_exits_1_on_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.doctor.check import error, ok

    checks = [ok("python", "3.10"), error("disk", "full", "Free some.")]
    monkeypatch.setattr(doctor, "_examine", lambda runs: checks)
    assert cli.main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[1] == {
        "name": "disk",
        "status": "error",
        "found": "full",
        "mend": "Free some.",
    }
    monkeypatch.setattr(doctor, "_examine", lambda runs: checks[:1])
    assert cli.main(["doctor"]) == 0


SHOP = """
name: shop
interactions:
  files: orders.csv
  user: who
  item: what
  timestamp: {column: time, format: iso8601}
  label: {implicit: {}}
"""


def test_data_looks_at_every_file_and_names_the_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP.replace("orders.csv", "o-*.csv"))
    for number, time in enumerate(["2024-01-02", "soon"]):
        (tmp_path / f"o-{number}.csv").write_text(
            f"who,what,time\nann,tea,{time}\n"
        )
    assert cli.main(["data", str(tmp_path / "shop.yaml")]) == 1
    out = capsys.readouterr().out
    assert "first 2 rows of 2 files: unusable: 1 unparsable_timestamp" in out
    assert f"most of them in {tmp_path / 'o-1.csv'}\n" in out


def test_data_finds_fault_with_a_log_of_no_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "orders.csv").write_text("who,what,time\n")
    assert cli.main(["data", str(tmp_path / "shop.yaml")]) == 1
    assert "interactions   no rows" in capsys.readouterr().out


@pytest.mark.parametrize(("time", "status"), [("2024-01-02", 0), ("soon", 1)])
def test_data_says_whether_a_run_would_take_the_rows(
    time: str,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "orders.csv").write_text(f"who,what,time\nann,tea,{time}\n")
    assert cli.main(["data", str(tmp_path / "shop.yaml")]) == status
    out = capsys.readouterr().out
    assert "first 1 rows" in out
    assert ("a run stops" in out) == bool(status)
