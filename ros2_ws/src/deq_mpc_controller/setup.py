"""Build of deq_mpc_controller: colcon and pip both read it; the requirements are pinned in requirements/."""

from setuptools import find_packages, setup

NAME = "deq_mpc_controller"
LAUNCH_FILES = ["launch/fly.launch.py", "launch/fly.launch.yaml"]

setup(
    name=NAME,
    version="0.1.0",
    description="Flight side of DEQ-MPC: state estimate, safety, state machine, Crazyflie link, controller node",
    license="MIT",
    maintainer="DEQ-MPC maintainers",
    maintainer_email="deq-mpc@example.org",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["config/*.yaml", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", LAUNCH_FILES),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": ["controller_node = deq_mpc_controller.controller_node:main"],
        "deq_mpc.commands": [
            "call = deq_mpc_controller.commands.call:register",
            "launch = deq_mpc_controller.commands.launch:register",
        ],
        "deq_mpc.node_parameters": ["controller_node = deq_mpc_controller.node_parameters:CONTROLLER_NODE"],
        "deq_mpc.thrust_maps": ["crazyflie = deq_mpc_controller.recorded_thrust:thrust_map"],
    },
)
