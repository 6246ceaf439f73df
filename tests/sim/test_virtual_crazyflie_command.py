"""``deq-mpc virtual-crazyflie`` as a process."""

import signal
import socket
import subprocess
import sys

import pytest

from deq_mpc_core.cli import main

MAIN = "from deq_mpc_core.cli import main; main()"


def command(*arguments):
    return [sys.executable, "-c", MAIN, "virtual-crazyflie", *arguments]


@pytest.fixture
def process():
    started = subprocess.Popen(command("--port", "0", "--seed", "3"), stdout=subprocess.PIPE, text=True)
    yield started
    started.kill()
    started.communicate()


def test_it_says_where_it_listens_answers_and_ends_on_interrupt(process):
    line = process.stdout.readline()
    port = int(line.split("udp://127.0.0.1:")[1].split(";")[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(20.0)
        probe.sendto(b"\xff", ("127.0.0.1", port))
        assert probe.recvfrom(64)[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(20.0) == 0


@pytest.mark.parametrize("arguments", [("--x", "nan"), ("--yaw", "inf")])
def test_a_place_that_is_none_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["virtual-crazyflie", "--port", "0", *arguments])
    assert ended.value.code == 2
    assert "give a finite number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--fault", "rain@3"), "'rain@3' is no fault"),
        (("--toc", "huge"), "choose small or full"),
        (("--count", "9", "--port", "65530"), "choose a lower one"),
    ],
)
def test_what_cannot_be_is_refused(arguments, reason, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["virtual-crazyflie", *arguments])
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_several_live_side_by_side_each_with_its_own_faults():
    arguments = ("--port", "0", "--count", "2", "--toc", "small", "--delay", "0.01", "--fault", "mute@2000")
    several = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True)
    try:
        ports = [int(several.stdout.readline().split("udp://127.0.0.1:")[1].split(";")[0]) for _ in range(2)]
        assert len(set(ports)) == 2
        for port in ports:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.settimeout(20.0)
                probe.sendto(b"\xff", ("127.0.0.1", port))
                assert probe.recvfrom(64)[0] == b"\xff"
    finally:
        several.kill()
        several.communicate()


def test_a_port_in_use_ends_it_with_one_line():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        done = subprocess.run(command("--port", port), capture_output=True, text=True, timeout=60.0, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: UDP port {port} is in use; stop what uses it or choose another port\n"
    assert done.stdout == ""
