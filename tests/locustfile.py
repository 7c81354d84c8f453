"""The concurrency ramp from many machines: the script's ramp, its tasks sent by Locust's users.

    locust -f tests/locustfile.py --headless --processes 2 --host http://asr:8000          one machine, two processes
    locust -f tests/locustfile.py --headless --master --expect-workers 8 --host http://asr:8000
    locust -f tests/locustfile.py --worker --processes -1 --master-host MASTER             on each load machine

The machine without --worker records: the same JSONL, judged by the same reader. Levels, confirmation and stop reasons
are those of memory_leak_stress_test.py; load_machines.py holds what several machines add to it. Exit status as there.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import signal
import threading
from collections.abc import Mapping
from typing import Any

import gevent
from locust import LoadTestShape, User, argument_parser, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import STATE_MISSING, LocalRunner, MasterRunner, WorkerRunner
from locust.user.task import LOCUST_STATE_STOPPING

from load_machines import Fleet, FleetTest, LoadMachine, Message, shown
from memory_leak_stress_test import (
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Outcome,
    Settings,
    command_line,
    exit_status,
    parse_command_line,
    run_test,
    say,
    usable_streams,
)

# Locust makes these anew for every option of every message that says how many users there shall be: a third of a second
# in which a load machine does nothing else, and on a busy one seconds, after which it counts as lost.
argument_parser.default_args_dict = functools.cache(argument_parser.default_args_dict)

TO_MACHINE, TO_MASTER = "asr_to_machine", "asr_to_master"  # messages of Locust's
# The script's options that have a meaning here; --url is Locust's --host.
OPTIONS = ("--api", "--field", "--ca-bundle", "--short-audio", "--vary-length", "--start", "--step",
           "--max-concurrency", "--rtf-limit", "--task-timeout", "--stall-timeout", "--memory-reserve",
           "--settle-timeout", "--results-dir", "--lang", "--no-report", "--quiet")
FLAGS = ("--no-report", "--quiet")


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Options as the script has them, but texts: Locust sends them to its workers, and its web page changes them."""
    for action in command_line()._actions:
        if action.option_strings and action.option_strings[0] in OPTIONS:
            name = action.option_strings[0]
            kind = {"action": "store_true"} if name in FLAGS else {"action": "append", "metavar": action.metavar} if (
                name == "--field") else {"metavar": action.metavar or name[2:].upper()}
            said = (action.help or "").replace("%(default)s", str(getattr(Settings(), action.dest)))
            parser.add_argument(name, help=said, include_in_web_ui=False, **kind)


def settings_of(environment: Environment) -> Settings:
    """The settings of the ramp; a wrong option ends the program as it does the script."""
    options, words = vars(environment.parsed_options or argparse.Namespace()), []
    for name in OPTIONS:
        value = options.get(name[2:].replace("-", "_"))
        if name in FLAGS:
            words += [name] if value else []
        else:
            words += [word for one in (value if isinstance(value, list) else [value]) if one for word in (name, one)]
    host = ["--url", environment.host] if environment.host else []
    settings = parse_command_line([*host, *words, "--phase", "concurrency", "--no-watch"], command_line("locust"))
    return dataclasses.replace(settings, long_audio=settings.short_audio)


class Run:
    """One test: the script's own, in a thread of the process that records, and how it ended."""

    def __init__(self, environment: Environment, fleet: Fleet) -> None:
        self.environment, self.fleet = environment, fleet
        self.aborted: threading.Event | None = None  # of the test, as soon as there is one
        self.ended = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            status = exit_status(settings_of(self.environment), functools.partial(run_test, test_of=self._make))
        except SystemExit:  # a wrong option, typed into the web page
            status = EXIT_USAGE
        self.environment.process_exit_code = status
        self.ended = True

    def _make(self, *args: Any, **more: Any) -> FleetTest:
        screen, self.aborted = args[6:8]
        screen.__exit__()
        screen.live = None  # Locust's table and lines go to the same terminal
        return FleetTest(*args, **more, fleet=self.fleet)

    def stop(self) -> None:
        """End the test before its end; what was recorded is kept and judged."""
        if self.ended:
            return
        lost = not self.fleet.present()  # Locust ends a test that has nobody left to send it
        if lost:
            say("WARNING the test ends early: the last load process was lost. What was recorded is kept")
        if self.aborted:
            self.aborted.set()
            self.thread.join()
            if lost and self.environment.process_exit_code == EXIT_INTERRUPTED:
                self.environment.process_exit_code = EXIT_INCONCLUSIVE
        else:
            self.environment.process_exit_code = EXIT_INTERRUPTED


class Master:
    """The process that records, between Locust and the test."""

    def __init__(self, environment: Environment, runner: MasterRunner | LocalRunner) -> None:
        self.environment, self.runner = environment, runner
        self.fleet = Fleet(self.send, self.present)
        self.run: Run | None = None
        self.ticks = 0
        runner.register_message(TO_MASTER, lambda environment, msg, **_: self.fleet.receive(msg.node_id, msg.data))
        environment.events.test_start.add_listener(self.begin)
        environment.events.test_stopping.add_listener(self.stop)
        environment.events.test_stop.add_listener(self.forget)

    def send(self, machine: str, message: Message) -> None:
        self.runner.send_message(TO_MACHINE, message, machine)

    def present(self) -> Mapping[str, int]:
        """The load processes that are there, and how many users each has said it has."""
        if isinstance(self.runner, LocalRunner):
            return {"local": self.runner.user_count}
        return {node.id: node.user_count for node in self.runner.clients.all if node.state != STATE_MISSING}

    def begin(self, environment: Environment, **_: Any) -> None:
        self.fleet.wanted = 1
        self.run = Run(environment, self.fleet)

    def stop(self, **_: Any) -> None:
        if self.run:
            self.run.stop()

    def forget(self, **_: Any) -> None:
        self.run = None

    def tick(self) -> tuple[int, float] | None:
        """How many users Locust shall have: as many as the level has tasks; None when the test has ended.

        Locust looks at what is new: to be asked again for as many, it is given another rate.
        """
        self.ticks += self.run is None  # no load machine was there yet
        if self.run and self.run.ended:
            return None
        rate = max(self.fleet.wanted, sum(self.present().values()))
        return self.fleet.wanted, rate + (self.fleet.asked + self.ticks) % 1000 / 1000


class AsrRamp(LoadTestShape):
    """Users as the script's ramp asks for them."""

    master: Master | None = None

    def tick(self) -> tuple[int, float] | None:
        return self.master.tick() if self.master else None


class AsrUser(User):
    """Sends one task of each level."""

    wait_time = constant(0)
    machine: LoadMachine
    busy = False

    @task
    def one_task(self) -> None:
        share, number = self.machine.waiting.get()
        self.busy = True
        try:
            outcome = share.run(number)
        finally:
            self.busy = False
        self.show(outcome, share.clips[number])

    def show(self, outcome: Outcome, clip: str) -> None:
        """One line of Locust's page for each clip, and each clip and kind of failure."""
        name, failure = shown(outcome, clip)
        self.environment.events.request.fire(
            request_type="ASR", name=name, response_length=0, context={},
            response_time=1000 * (outcome.processing_time or 0.0),
            exception=RuntimeError(failure) if failure else None)

    def stop(self, force: bool = False) -> bool:
        """Locust moves users between machines whenever one comes or goes; one with a task ends after it."""
        if self.busy:
            self._state = LOCUST_STATE_STOPPING
            return False
        return bool(super().stop(force=True))


def interrupt(*_: object) -> None:
    """Ctrl-C for the greenlet that waits for it.

    Python raises it in whichever runs at the moment: in a task's it would end that task, and the test would go on.
    """
    hub = gevent.get_hub()
    hub.loop.run_callback_threadsafe(hub.parent.throw, KeyboardInterrupt)


@events.init.add_listener
def on_init(environment: Environment, runner: MasterRunner | LocalRunner | WorkerRunner, **_: Any) -> None:
    """Set up this process: it records, or sends tasks, or both."""
    if not isinstance(runner, WorkerRunner):
        usable_streams()
        settings_of(environment)
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which Locust passes on while a test runs
            if signal.getsignal(sign) is not signal.SIG_IGN:
                signal.signal(sign, interrupt)
        AsrRamp.master = Master(environment, runner)
    if not isinstance(runner, MasterRunner):
        machine = AsrUser.machine = LoadMachine(
            functools.partial(runner.send_message, TO_MASTER), lambda: runner.user_count)
        runner.register_message(TO_MACHINE, lambda environment, msg, **_: machine.receive(msg.data))
        environment.events.test_stopping.add_listener(lambda **_: machine.abort())
