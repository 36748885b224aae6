from benchmarks.quality import plots

AUC = {"auc": {"value": 0.75, "low": 0.74, "high": 0.76}}
PRESET = {"bytes_per_user": 68, "regimes": {"offline": AUC, "online": AUC}}


def test_presets_of_the_same_bytes_are_all_in_the_plot(tmp_path):
    names = ["interaction_head", "user_offset"]
    document = {
        "stream": {"windows": []},
        "few_shot": {"by_k": {}},
        "presets": {f"preset-{name}": PRESET for name in names},
    }
    plots.write(tmp_path, document)
    drawn = (tmp_path / "auc_by_bytes.svg").read_text("utf-8")
    for name in names:
        assert name in drawn
