"""Apache Kafka in KRaft mode on loopback: one node or several, with processes that can be killed.

    with Cluster() as cluster:
        confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap})
        cluster.nodes[0].kill()      # as kill -9
        cluster.nodes[0].start()     # on the same port, with what it had written

`pom.xml` pins the version; Maven resolves the jars once, into build/kafka. Each node has an open listener and
one for users with passwords that obeys access control lists (`Node.sasl_port`, `USERS`).
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JARS = ROOT / "build" / "kafka"

# "admin" may do everything, "stranger" what access control lists let it.
USERS = {"admin": "admin-secret", "stranger": "stranger-secret"}

# A quick start counts for tests; for benchmarks take the JVM's usual compiler and collector.
QUICK_JVM = ("-Xms96m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
FAST_JVM = ("-Xms512m", "-Xmx512m", "-XX:+UseG1GC")

# Below those that Linux gives to outgoing connections, so that a node finds its port free when it comes back.
PORTS = range(20_000, 32_000)
START_SECONDS = 90


def missing() -> str | None:
    """Return what a broker lacks here, or None."""
    if shutil.which("java") is None:
        return "a Kafka broker needs java (17 or later) on the PATH"
    if not jars_folder().exists() and shutil.which("mvn") is None:
        return "a Kafka broker needs mvn (Maven) on the PATH, to resolve tests/kafka/pom.xml"
    return None


def jars_folder() -> Path:
    return JARS / hashlib.sha256((HERE / "pom.xml").read_bytes()).hexdigest()[:12]


def jars() -> Path:
    """Return the folder with Kafka's jars; the first time Maven fills it."""
    folder = jars_folder()
    if not folder.exists():
        JARS.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=JARS))
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={aside}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(aside)
            raise RuntimeError(f"Maven could not resolve {HERE / 'pom.xml'}:\n{done.stdout}{done.stderr}")
        if not folder.exists():  # another run may have been faster
            aside.rename(folder)
    return folder


def java(*arguments: str, jvm: Sequence[str] = QUICK_JVM) -> list[str]:
    return ["java", *jvm, "-cp", f"{jars()}/*", *arguments]


def free_ports(count: int) -> list[int]:
    ports: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError(f"fewer than {count} free ports from {PORTS.start} to {PORTS.stop}")


def die_with_parent() -> None:
    """Ask Linux for SIGKILL when the process that started this one ends, however it ends."""
    set_parent_death_signal = 1
    LIBC.prctl(set_parent_death_signal, signal.SIGKILL)


LIBC = ctypes.CDLL(None)


@dataclass
class Node:
    """One broker, which is a controller, too."""

    number: int
    folder: Path
    port: int
    sasl_port: int
    controller_port: int
    jvm: Sequence[str]
    process: subprocess.Popen[bytes] | None = None

    def write_settings(self, nodes: Sequence[Node], extra: Mapping[str, object]) -> None:
        copies = min(len(nodes), 3)
        listeners = {"OPEN": self.port, "USERS": self.sasl_port, "CONTROLLER": self.controller_port}
        users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        settings: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": self.number,
            "controller.quorum.voters": ",".join(
                f"{node.number}@127.0.0.1:{node.controller_port}" for node in nodes
            ),
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
            "advertised.listeners": f"OPEN://127.0.0.1:{self.port},USERS://127.0.0.1:{self.sasl_port}",
            "listener.security.protocol.map": "OPEN:PLAINTEXT,USERS:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "OPEN",
            "listener.name.users.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.users.plain.sasl.jaas.config": f"{login} {users};",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:admin",  # ANONYMOUS: whoever comes by the open listener
            "log.dirs": self.folder / "log",
            "auto.create.topics.enable": "false",
            "delete.topic.enable": "true",
            # Exactly-once on as many nodes as there are.
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": min(copies, 2),
            "min.insync.replicas": min(copies, 2),
            # Quick to start, and to notice who is gone.
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1_000,
            "group.consumer.min.session.timeout.ms": 1_000,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
            "broker.session.timeout.ms": 5_000,
            "broker.heartbeat.interval.ms": 500,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 16 << 20,  # the default takes a third of a small heap
            **extra,
        }
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.folder / "server.properties").write_text(text)

    def start(self) -> None:
        """Start the process; `Cluster.wait` says when it serves."""
        assert self.process is None
        log = "-Dorg.slf4j.simpleLogger.showDateTime=true"
        with (self.folder / "console.log").open("ab") as console:
            self.process = subprocess.Popen(
                java(log, "kafka.Kafka", str(self.folder / "server.properties"), jvm=self.jvm),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                preexec_fn=die_with_parent,
            )

    def kill(self) -> None:
        """End it as ``kill -9`` does: nothing is said to clients, nothing is flushed by the broker."""
        self.end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator does."""
        self.end(signal.SIGTERM)

    def end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def log_tail(self) -> str:
        return "\n".join((self.folder / "console.log").read_text(errors="replace").splitlines()[-30:])


@dataclass
class Cluster:
    """Nodes that know each other. Use as a context manager: it ends with no process and no file left."""

    size: int = 1
    jvm: Sequence[str] = QUICK_JVM
    settings: Mapping[str, object] = field(default_factory=dict)
    folder: Path = field(init=False)
    nodes: list[Node] = field(init=False, default_factory=list)

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def sasl_bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{node.sasl_port}" for node in self.nodes)

    def __enter__(self) -> Cluster:
        self.folder = Path(tempfile.mkdtemp(prefix="omnistream-kafka-"))
        try:
            self.format()
            for node in self.nodes:
                node.start()
            self.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def format(self) -> None:
        ports = iter(free_ports(3 * self.size))
        for number in range(1, self.size + 1):
            folder = self.folder / f"node-{number}"
            folder.mkdir()
            self.nodes.append(Node(number, folder, next(ports), next(ports), next(ports), self.jvm))
        # Begins with a letter: behind a dash, the tool would take it for an option.
        cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        for node in self.nodes:
            node.write_settings(self.nodes, self.settings)
            tool = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster]
            command = java(*tool, "--config", str(node.folder / "server.properties"))
            subprocess.run(command, capture_output=True, check=True)

    def wait(self) -> None:
        """Return when every node whose process runs takes part in the cluster and serves."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + START_SECONDS
        running = [node for node in self.nodes if node.process is not None]
        for node in running:
            assert node.process is not None
            admin = AdminClient(
                {
                    "bootstrap.servers": f"127.0.0.1:{node.port}",
                    "reconnect.backoff.ms": 50,
                    "reconnect.backoff.max.ms": 200,
                    "log_level": 0,
                }
            )
            while True:
                try:
                    if len(admin.list_topics(timeout=2).brokers) >= len(running):
                        break
                except KafkaException:
                    pass
                if node.process.poll() is not None:
                    raise RuntimeError(f"node {node.number} ended at its start:\n{node.log_tail()}")
                if time.monotonic() > deadline:
                    raise RuntimeError(f"node {node.number} does not serve:\n{node.log_tail()}")
                time.sleep(0.05)


def main() -> None:
    """Serve until Ctrl-C, for tries by hand: ``python tests/kafka/broker.py``."""
    with Cluster(size=int(os.environ.get("NODES", "1"))) as cluster:
        print(f"bootstrap.servers={cluster.bootstrap}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
