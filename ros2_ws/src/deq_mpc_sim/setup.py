"""Build of deq_mpc_sim: colcon and pip both read it; the requirements are pinned in requirements/."""

from setuptools import find_packages, setup

NAME = "deq_mpc_sim"

setup(
    name=NAME,
    version="0.1.0",
    description="World side of DEQ-MPC: plant, virtual Crazyflie, mocap, obstacles, scenes, campaigns, recorder",
    license="MIT",
    maintainer="DEQ-MPC maintainers",
    maintainer_email="deq-mpc@example.org",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["config/*.yaml", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "obstacle_node = deq_mpc_sim.obstacle_node:main",
            "observed_controller_node = deq_mpc_sim.observed_controller_node:main",
            "observed_world_node = deq_mpc_sim.observed_world_node:main",
            "recorder_node = deq_mpc_sim.recorder_node:main",
            "tour_node = deq_mpc_sim.tour_node:main",
            "world_node = deq_mpc_sim.world_node:main",
        ],
        "deq_mpc.benches": [
            "estimate = deq_mpc_sim.bench_estimate:suite",
            "filter = deq_mpc_sim.bench_filter:suite",
            "flight = deq_mpc_sim.bench_flight:suite",
        ],
        "deq_mpc.commands": [
            "evaluate = deq_mpc_sim.commands.evaluate:register",
            "expert = deq_mpc_sim.commands.expert:register",
            "faults = deq_mpc_sim.commands.faults:register",
            "fly = deq_mpc_sim.commands.fly:register",
            "virtual-crazyflie = deq_mpc_sim.commands.virtual_crazyflie:register",
        ],
        "deq_mpc.node_parameters": [
            "obstacle_node = deq_mpc_sim.node_parameters:OBSTACLE_NODE",
            "recorder_node = deq_mpc_sim.node_parameters:RECORDER_NODE",
            "tour_node = deq_mpc_sim.node_parameters:TOUR_NODE",
            "world_node = deq_mpc_sim.node_parameters:WORLD_NODE",
        ],
    },
)
