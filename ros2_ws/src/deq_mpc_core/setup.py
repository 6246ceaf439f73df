"""Build of deq_mpc_core: colcon and pip both read it; the requirements are pinned in requirements/."""

from setuptools import find_packages, setup

NAME = "deq_mpc_core"

setup(
    name=NAME,
    version="0.1.0",
    description="DEQ-MPC: models, solver, networks, policy, learning and the root of the deq-mpc command",
    license="MIT",
    maintainer="DEQ-MPC maintainers",
    maintainer_email="deq-mpc@example.org",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["config/*.yaml", "checkpoints/*.safetensors", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": ["deq-mpc = deq_mpc_core.cli:main"],
        "deq_mpc.benches": [
            "kernels = deq_mpc_core.bench.kernels:suite",
            "policy = deq_mpc_core.bench.policy:suite",
            "solver = deq_mpc_core.bench.solver:suite",
            "train = deq_mpc_core.bench.train:suite",
        ],
        "deq_mpc.commands": [
            "bench = deq_mpc_core.bench.command:register",
            "export = deq_mpc_core.policy.command:register",
            "train = deq_mpc_core.learning.command:register",
        ],
    },
)
