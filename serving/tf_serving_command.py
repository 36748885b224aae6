"""How `tensorflow_model_server` is started: its flags and its config file."""

from collections.abc import Mapping
from pathlib import Path

TF_SERVING_BINARY = "tensorflow_model_server"


def tf_serving_config(models: Mapping[str, Path]) -> str:
    """Returns a model config file that keeps two versions of each model.

    Requests that pinned the older one must still be answered after a swap.
    """
    entries = "".join(
        "  config {\n"
        f'    name: "{name}"\n'
        f'    base_path: "{Path(path).resolve()}"\n'
        '    model_platform: "tensorflow"\n'
        "    model_version_policy { latest { num_versions: 2 } }\n"
        "  }\n"
        for name, path in models.items()
    )
    return f"model_config_list {{\n{entries}}}\n"


def tf_serving_command(
    binary: str, port: int, config: Path, poll_seconds: float
) -> list[str]:
    """Returns the command line of `tensorflow_model_server`.

    No REST (it has had vulnerabilities, and nobody needs it here), no
    profiler, health service on, threads of their own for loading so that a
    new version does not hold up requests, and short waits between retries.
    """
    return [
        binary,
        f"--port={port}",
        "--rest_api_port=0",
        f"--model_config_file={config}",
        f"--file_system_poll_wait_seconds={max(1, round(poll_seconds))}",
        "--enable_profiler=false",
        "--enable_grpc_healthcheck_service=true",
        "--num_load_threads=2",
        "--num_unload_threads=2",
        "--load_retry_interval_micros=2000000",
        "--tensorflow_intra_op_parallelism=1",
        "--tensorflow_inter_op_parallelism=1",
    ]
