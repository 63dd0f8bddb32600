"""Apache Kafka's own tools: found, or fetched by Maven from the list in `jars.txt`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kcluster.bench.connection import Connection
from kcluster.client.connect import parse_bootstrap
from kcluster.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

LIST = Path(__file__).with_name("jars.txt")

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>kcluster</groupId><artifactId>test-java</artifactId><version>1</version>
<packaging>pom</packaging><dependencies>{}</dependencies></project>"""

DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)

LOG4J = """<Configuration><Appenders><Console name="c" target="SYSTEM_ERR"/></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="c"/></Root></Loggers></Configuration>"""

KEYS = {
    "OffsetCommit": 8,
    "OffsetFetch": 9,
    "JoinGroup": 11,
    "DescribeGroups": 15,
    "ListGroups": 16,
    "DeleteRecords": 21,
    "DescribeLogDirs": 35,
    "DeleteGroups": 42,
    "ElectLeaders": 43,
    "AlterPartitionReassignments": 45,
    "OffsetDelete": 47,
    "DescribeClientQuotas": 48,
    "AlterClientQuotas": 49,
    "ListConfigResources": 74,
}


def coordinates() -> list[list[str]]:
    """[group, artifact, version] of each."""
    lines = (line.strip() for line in LIST.read_text().splitlines())
    return [line.split(":") for line in lines if line and not line.startswith("#")]


def jars() -> Path:
    """The folder that has them all. Skips, aloud, where there is no Java, or neither jars nor
    Maven."""
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    given = os.environ.get("KCLUSTER_KAFKA_JARS")
    folder = Path(given) if given else Path.home() / ".cache" / "kafka-peer" / "libs"
    wanted = [folder / f"{artifact}-{version}.jar" for _, artifact, version in coordinates()]
    if all(jar.exists() for jar in wanted):
        return folder
    if shutil.which("mvn") is None:
        pytest.skip(f"{folder} lacks jars of {LIST.name}, and mvn is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    pom = folder / "pom.xml"
    pom.write_text(POM.format("".join(DEPENDENCY.format(*each) for each in coordinates())))
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    subprocess.run(["mvn", "-q", "-B", "-f", str(pom), *copy], check=True, timeout=900)
    return folder


def java(main: str, *arguments: str, heap: str = "256M", classes: Path | None = None) -> list[str]:
    """The command that runs a class of the jars, or of `classes`. A tool is named as in
    `org.apache.kafka.tools`, any other class in full."""
    folder = jars()
    log4j = folder / "kcluster-log4j2.xml"
    if not log4j.exists():
        log4j.write_text(LOG4J)
    if not main.startswith(("org.", "kafka.")) and classes is None:
        main = f"org.apache.kafka.tools.{main}"
    path = f"{classes}:{folder}/*" if classes else f"{folder}/*"
    # Tools live for a second or two: the first compiler and the plain collector start sooner.
    options = [f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    log = f"-Dlog4j2.configurationFile={log4j}"
    return ["java", *options, log, "-cp", path, main, *arguments]


def properties(line: str) -> Path:
    """A file with this line, for tools that take a setting in no other way; always the same one
    for the same line."""
    path = jars() / f"kcluster-{line}.properties"
    if not path.exists():
        path.write_text(line)
    return path


def run(tool: str, *arguments: str, timeout_s: float = 120, heap: str = "256M") -> str:
    """Standard output of a tool, which must end with 0."""
    done = subprocess.run(
        java(tool, *arguments, heap=heap),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{tool}: {done.stdout}\n{done.stderr}"
    return done.stdout


def refusal(tool: str, *arguments: str, timeout_s: float = 120) -> str:
    """All that a tool says, which need not end with 0: many tools report a refusal and end
    well."""
    done = subprocess.run(
        java(tool, *arguments), capture_output=True, text=True, timeout=timeout_s, check=False
    )
    return done.stdout + done.stderr


def compiled(source: Path, into: Path) -> Path:
    """The folder of its classes. Skips, aloud, where there is only a Java runtime."""
    if shutil.which("javac") is None:
        pytest.skip("javac is not installed")
    subprocess.run(["javac", "-cp", f"{jars()}/*", "-d", into, source], check=True, timeout=120)
    return into


def requires(bootstrap: str, *names: str) -> None:
    """Skips, aloud, where the broker does not advertise all of these APIs."""
    with Connection(parse_bootstrap(bootstrap)[0]) as connection:
        answer = connection.ask(ApiVersionsRequest("kcluster", "1"), ApiVersionsResponse)
    served = {api.api_key for api in answer.api_keys}
    wanted = {name: KEYS[name] for name in names}
    if missing := [name for name, key in wanted.items() if key not in served]:
        pytest.skip(f"not served: {', '.join(missing)}")
