"""The command: ``omnistream run job.toml`` and its siblings.

Errors are one line each on standard error. The exit code is 2 for a mistake in the command or the job, 1 for
what breaks while it runs, 130 and 143 after SIGINT and SIGTERM. Packages load where they are used, so that
``--help`` is instant.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from omnistream.errors import JobError, OmnistreamError

log = logging.getLogger(__name__)

EXIT_RUN, EXIT_JOB = 1, 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every error here."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_JOB, f"{self.prog}: {message}; see {self.prog} --help\n")


_LESS_MEMORY = (
    "set [state] memory_limit to what the state may take, so that the job ends in good order before this; "
    "the last checkpoint is whole"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    action: Callable[[argparse.Namespace], int] = options.action
    try:
        code = action(options)
        sys.stdout.flush()
        return code
    except JobError as error:
        if options.debug:
            raise
        print("\n".join(error.problems), file=sys.stderr)
        return EXIT_JOB
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        if isinstance(error, BrokenPipeError) or isinstance(error.__cause__, BrokenPipeError):
            # Whoever read our output has gone (`| head`). The interpreter flushes once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_RUN
        if options.debug:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, OmnistreamError | OSError | MemoryError):
            text = f"internal error: {type(error).__name__}: {text}; --debug shows where"
        if isinstance(error, MemoryError):
            text = f"the system gives no more memory ({text}): {_LESS_MEMORY}"
        if getattr(options, "log_format", "text") == "json":
            log.error(text)
        else:
            print(f"omnistream: {text}", file=sys.stderr)
        return EXIT_RUN


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="omnistream", description="Order events in; exact windows, demand and safety stock out."
    )
    commands = _Commands(parser)
    _add_job_commands(commands)
    _add_dlq(commands)
    _add_generate(commands)
    _add_state(commands)
    _add_schema(commands)
    _add_demo(commands)
    _add_machine_commands(commands)
    commands.add("version", _version, "Print the version.")
    return parser


class _Commands:
    """The commands of a parser, and the options that several of them share."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.shared = _Parser(add_help=False)
        self.shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.overridden = _Parser(add_help=False)
        self.overridden.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            dest="overrides",
            help="set a key of the job, such as window.0.size=1h (tables of a list count from 0)",
        )
        self._commands = parser.add_subparsers(
            title="commands", required=True, metavar="COMMAND", parser_class=_Parser
        )

    def add(
        self, name: str, action: Callable[[argparse.Namespace], int], help_: str, *parents: _Parser
    ) -> argparse.ArgumentParser:
        added = self._commands.add_parser(
            name, help=help_, description=help_, parents=[self.shared, *parents]
        )
        added.set_defaults(action=action)
        return added

    def actions(self, command: argparse.ArgumentParser, dest: str) -> Any:
        return command.add_subparsers(title="actions", required=True, metavar="ACTION", dest=dest)


def _add_job_commands(commands: _Commands) -> None:
    run = commands.add("run", _run, "Run a job to the end of its input.", commands.overridden)
    run.add_argument("job", help="the job's TOML file")
    run.add_argument(
        "--json", action="store_true", help="print one JSON object of metrics at the end, nothing else"
    )
    run.add_argument("--overwrite", action="store_true", help="replace what earlier runs have written")
    run.add_argument("--quiet", action="store_true", help="show no progress on a terminal, either")
    run.add_argument(
        "--metrics-port", type=_port, metavar="PORT", help="serve figures to Prometheus at this port"
    )
    run.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="json: a line per event on stderr"
    )

    check = commands.add(
        "check", _check, "Check jobs and read no data: prints every mistake.", commands.overridden
    )
    check.add_argument("jobs", nargs="+", metavar="job", help="TOML files")

    explain = commands.add(
        "explain", _explain, "Print the stages of a job and the device of each.", commands.overridden
    )
    explain.add_argument("job", help="the job's TOML file")

    lag = commands.add("lag", _lag, "Show how far a Kafka job is in each partition.", commands.overridden)
    lag.add_argument("job", help="the job's TOML file")
    lag.add_argument("--json", action="store_true", help="print one JSON object")


def _add_dlq(commands: _Commands) -> None:
    dlq = commands.add("dlq", _dlq, "Send rejected messages back.")
    replays = commands.actions(dlq, "dlq_action")
    replay = replays.add_parser(
        "replay",
        help="Read dead letters, mend them and send them to their topics; counts only, without --send.",
        parents=[commands.shared, commands.overridden],
    )
    replay.add_argument("job", help="the job's TOML file")
    replay.add_argument("--from", dest="origin", default="", metavar="FILE", help="default: [dead_letter]")
    replay.add_argument("--to", default="", metavar="TOPIC", help="default: where each message came from")
    replay.add_argument(
        "--reason", action="append", default=[], help="which ones (default: all that decode refused)"
    )
    replay.add_argument(
        "--mend", action="append", default=[], metavar="PATH=JSON", help="set a value of each JSON message"
    )
    replay.add_argument(
        "--command",
        default="",
        metavar="COMMAND",
        help="a shell command that mends a message, stdin to stdout",
    )
    replay.add_argument("--again", action="store_true", help="also what was sent before")
    replay.add_argument("--send", action="store_true", help="send, and remember what was sent")
    replay.add_argument("--json", action="store_true", help="print one JSON object")


def _add_generate(commands: _Commands) -> None:
    generate = commands.add("generate", _generate, "Write seeded, realistic apparel orders as NDJSON.")
    generate.add_argument("--events", type=_count, default=100_000, help="how many (default: %(default)s)")
    generate.add_argument(
        "--seed", type=int, default=20261111, help="same seed, same bytes (default: %(default)s)"
    )
    generate.add_argument(
        "--nested", action="store_true", help="orders with lines[], else one line per event"
    )
    generate.add_argument("--start", type=_moment, metavar="TIME", help="ISO time of the first event")
    generate.add_argument("--span", type=_duration, metavar="DURATION", help="event time covered, such as 1d")
    generate.add_argument(
        "--disorder", type=_duration, metavar="DURATION", help="bound on disorder, such as 30s"
    )
    generate.add_argument("--styles", type=_count, help="how many styles, each in colours and sizes")
    generate.add_argument("--stores", type=_count, help="how many stores")
    generate.add_argument("--customers", type=_count, help="how many customers")
    generate.add_argument("--dirt", type=_share, help="share of broken messages, 0 to 1")
    generate.add_argument("--duplicates", type=_share, help="share of events sent twice, 0 to 1")
    generate.add_argument("--below-cost", type=_share, help="share of lines priced below their cost, 0 to 1")
    generate.add_argument("--returns", type=_share, help="share of orders returned days later, 0 to 1")
    generate.add_argument("--cancels", type=_share, help="share of orders cancelled later, 0 to 1")
    generate.add_argument(
        "--out", metavar="FILE", help="a file, written whole or not at all (default: stdout)"
    )


def _add_state(commands: _Commands) -> None:
    state = commands.add("state", _state, "Look into checkpoints.")
    looks = commands.actions(state, "state_action")
    where = "the folder of a checkpoint, or of several: then the newest"
    look = looks.add_parser("inspect", help="Print what a checkpoint holds.", parents=[commands.shared])
    look.add_argument("checkpoint", help=where)
    look.add_argument("--json", action="store_true", help="print one JSON object")
    export = looks.add_parser("export", help="Write each part to a file.", parents=[commands.shared])
    export.add_argument("checkpoint", help=where)
    export.add_argument("out", help="a folder that is missing or empty")
    export.add_argument(
        "--format", choices=("parquet", "arrow", "ndjson"), default="parquet", help="default: %(default)s"
    )
    apart = looks.add_parser("diff", help="Print what sets two checkpoints apart.", parents=[commands.shared])
    apart.add_argument("first", help=where)
    apart.add_argument("second", help="likewise; exit code 1 if anything differs")


def _add_schema(commands: _Commands) -> None:
    schema = commands.add("schema", _schema, "Infer, show and compare schemas.")
    actions = commands.actions(schema, "schema_action")
    infer = actions.add_parser(
        "infer", help="Propose a schema for a sample of NDJSON, as TOML.", parents=[commands.shared]
    )
    infer.add_argument("sample", help="an NDJSON file")
    show = actions.add_parser("show", help="Print a schema as TOML.", parents=[commands.shared])
    show.add_argument("schema", help="the name of a built-in schema, or a TOML file")
    diff = actions.add_parser(
        "diff",
        help="Print what a schema does not read of a sample, and what the sample lacks.",
        parents=[commands.shared],
    )
    diff.add_argument("schema", help="the name of a built-in schema, or a TOML file")
    diff.add_argument("sample", help="an NDJSON file; exit code 1 if anything differs")


def _add_demo(commands: _Commands) -> None:
    demo = commands.add("demo", _demo, "Run a job, print what a planner would look at and write a report.")
    demo.add_argument("job", nargs="?", help="a job's TOML file (default: two months of generated orders)")
    demo.add_argument("--out", default="out/demo", help="a folder for the report (default: %(default)s)")


def _add_machine_commands(commands: _Commands) -> None:
    doctor = commands.add(
        "doctor", _doctor, "Print what this machine has for the GPU and Kafka, and what is missing."
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.add_argument(
        "--require", choices=("cuda",), help="exit with 1 when it cannot be used; without, the exit code is 0"
    )

    warmup = commands.add("warmup", _warmup, "Compile the GPU's kernels ahead, so that no job waits for it.")
    warmup.add_argument(
        "--arch",
        nargs="+",
        metavar="ARCH",
        help="such as sm_90; needs no GPU (default: the architectures of the GPUs of this machine)",
    )
    warmup.add_argument("--json", action="store_true", help="print one JSON object")


def _run(options: argparse.Namespace) -> int:
    from omnistream.job import load_job

    job = load_job(options.job, options.overrides, needs_source=True)
    if options.json and any(sink.type == "stdout" for sink in job.sinks):
        raise JobError(
            [f"{job.file}: sink: standard output is taken by --json; write to a file, or drop --json"]
        )

    from dataclasses import replace

    from omnistream.logs import log_json
    from omnistream.progress import Display
    from omnistream.run import Stop, run_job
    from omnistream.spec import MetricsSpec

    if options.overwrite:
        job = job.overwriting()
    if options.metrics_port is not None:
        job = replace(job, metrics=replace(job.metrics or MetricsSpec(), port=options.metrics_port))
    as_json = options.log_format == "json"
    if as_json:
        log_json(job.name)
        log.info("job started", extra={"fields": {"source": job.source.type if job.source else ""}})
    with Stop() as stop, Display(job.name, quiet=options.quiet or as_json) as display:
        result = run_job(job, on_progress=display.update if display.active else None, stop=stop)
    if as_json:
        log.info("job ended", extra={"fields": result.to_dict()})
    else:
        display.finish(result)
    if options.json:
        print(json.dumps(result.to_dict()))
    return 128 + stop.signal if stop.signal else 0


def _check(options: argparse.Namespace) -> int:
    from omnistream.job import load_job

    problems: list[str] = []
    for file in options.jobs:
        try:
            job = load_job(file, options.overrides, needs_source=True)
        except JobError as error:
            problems += error.problems
        else:
            counts = {"window": len(job.windows), "derive": len(job.derives), "sink": len(job.sinks)}
            parts = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
            print(f"{file}: ok: {', '.join(parts)}")
    if problems:
        sys.stdout.flush()
        raise JobError(problems)
    return 0


def _explain(options: argparse.Namespace) -> int:
    from omnistream.job import load_job
    from omnistream.pipeline import Pipeline

    print(Pipeline(load_job(options.job, options.overrides)).explain())
    return 0


def _lag(options: argparse.Namespace) -> int:
    from omnistream.job import load_job
    from omnistream.lag import describe, lag_of

    lags = lag_of(load_job(options.job, options.overrides, needs_source=True))
    total = sum(each.lag for each in lags)
    document = {"lag": total, "partitions": [each.to_dict() for each in lags]}
    print(json.dumps(document) if options.json else describe(lags))
    return 0


def _dlq(options: argparse.Namespace) -> int:
    from omnistream import dead_letters
    from omnistream.job import load_job

    job = load_job(options.job, options.overrides)
    corrections = [dead_letters.setting(each) for each in options.mend]
    if options.command:
        corrections.append(dead_letters.command(options.command))
    done = dead_letters.replay(
        job,
        options.origin,
        reasons=options.reason,
        corrections=corrections,
        to=options.to,
        again=options.again,
        send=options.send,
    )
    print(json.dumps(done.to_dict()) if options.json else dead_letters.describe(done, options.send))
    return 0


def _generate(options: argparse.Namespace) -> int:
    from omnistream.generate import generate

    given = {
        "events": options.events,
        "seed": options.seed,
        "nested": options.nested,
        "start_ms": options.start,
        "span_ms": options.span,
        "max_disorder_ms": options.disorder,
        "styles": options.styles,
        "stores": options.stores,
        "customers": options.customers,
        "dirt": options.dirt,
        "duplicates": options.duplicates,
        "below_cost": options.below_cost,
        "return_rate": options.returns,
        "cancel_rate": options.cancels,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    generate(options.out or sys.stdout.buffer, **chosen)
    return 0


def _state(options: argparse.Namespace) -> int:
    from omnistream import state

    if options.state_action == "inspect":
        found = state.inspect(options.checkpoint)
        print(json.dumps(found) if options.json else state.describe(found))
        return 0
    if options.state_action == "export":
        for file in state.export(options.checkpoint, options.out, options.format):
            print(file)
        return 0
    difference = state.diff(options.first, options.second)
    print("\n".join(difference) or "no difference")
    return EXIT_RUN if difference else 0


def _schema(options: argparse.Namespace) -> int:
    from omnistream.infer import diff_schema, infer, to_toml

    if options.schema_action == "infer":
        print(to_toml(infer(options.sample)), end="")
        return 0
    schema = _named_schema(options.schema)
    if options.schema_action == "show":
        print(to_toml(schema), end="")
        return 0
    difference = diff_schema(schema, options.sample)
    print(difference or "no difference")
    return EXIT_RUN if difference else 0


def _named_schema(name: str) -> Any:
    from omnistream.errors import SchemaError
    from omnistream.schema import BUILTIN, Schema

    if name in BUILTIN:
        return BUILTIN[name]
    if not Path(name).is_file():
        known = ", ".join(BUILTIN)
        raise JobError([f"{name}: is neither a file nor a built-in schema; write a path or one of {known}"])
    try:
        return Schema.from_toml(name)
    except SchemaError as error:
        raise JobError(str(error).splitlines()) from error


def _demo(options: argparse.Namespace) -> int:
    from omnistream.demo import run_demo

    run_demo(options.out, options.job)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from omnistream.doctor import describe, examine

    findings = examine()
    print(json.dumps(findings) if options.json else describe(findings))
    return EXIT_RUN if options.require == "cuda" and not findings["cuda_usable"] else 0


def _warmup(options: argparse.Namespace) -> int:
    from omnistream.doctor import warm_up

    kept = warm_up(options.arch)
    for each in kept:
        if not options.json:
            print(f"{each['stage']:<8} {each['arch']:<7} {each['size_bytes']:>8} bytes  {each['path']}")
    if options.json:
        print(json.dumps({"kernels": kept}))
    return 0


def _version(options: argparse.Namespace) -> int:
    try:
        print(f"omnistream {version('omnistream')}")
    except PackageNotFoundError:
        print("omnistream (not installed)")
    return 0


def _count(text: str) -> int:
    count = int(text.replace("_", ""))
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return count


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port, 1 to 65535")
    return port


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


def _duration(text: str) -> int:
    from omnistream.mistakes import duration_ms

    length = duration_ms(text)
    if length is None:
        raise argparse.ArgumentTypeError(f"{text} is no duration such as 30s, 5m, 1h or 1d")
    return length


def _moment(text: str) -> int:
    from omnistream.mistakes import moment_ms

    moment = moment_ms(text)
    if moment is None:
        raise argparse.ArgumentTypeError(f"{text} is no time such as 2026-11-11T00:00:00Z")
    return moment
